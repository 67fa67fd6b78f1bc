"""What can be written as `embed.text.encoder` and `embed.image.encoder`, one line each."""

from __future__ import annotations

__all__ = ["ENCODERS"]

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
