"""The data card of a Dataset: README.md for people and catalogues, croissant.json for programs.

Both are made from the manifest alone and hold no row of the data. Hand-written prose is merged into the
README under the datasheet's headings, and kept when the card is made again.
"""

from __future__ import annotations

import json
from pathlib import Path

from fedprep.card.croissant import croissant
from fedprep.card.prose import kept_prose, read_prose
from fedprep.card.readme import PAGE, Card, readme
from fedprep.card.rebuild import rebuild_command
from fedprep.dataset import Dataset
from fedprep.errors import DatasetError
from fedprep.files import sha256_of, whole_file
from fedprep.manifest import MANIFEST
from fedprep.recipe import parse_recipe

__all__ = ["CROISSANT", "README", "write_card"]

README = "README.md"
CROISSANT = "croissant.json"
TOLD = ("id", "name", "created", "recipe", "source", "facts", "classes", "split", "steps", "encoders",
        "partition", "tables", "versions")  # fmt: skip


def write_card(
    dataset: Dataset, folder: Path, *, prose: Path | None = None, licence_text: str = ""
) -> tuple[Path, Path]:
    """Returns the paths of `README.md` and `croissant.json`, written into a folder.

    Args:
        dataset: what the card tells of.
        folder: the Dataset's own, or another; it is made where it is not there.
        prose: Markdown with sections under the card's headings. A section that it has takes the place of
            the one in the README that is there; the README's other sections stay.
        licence_text: the owner's words on the use of the raw data (`Terms.licence_text` of the source).

    Raises:
        DatasetError: the manifest lacks what a card tells.
        RecipeError: the prose cannot be read, or has a section that a card does not have.
        OutputError: the folder holds a README that is no card, or cannot be written to.
    """
    manifest = dataset.manifest
    if missing := [key for key in TOLD if key not in manifest]:
        raise DatasetError(
            f"the manifest lacks {', '.join(missing)}",
            where=str(dataset.path / MANIFEST),
            hint="`fedprep validate` says what else is wrong",
        )
    parse_recipe(manifest["recipe"], where=str(dataset.path / MANIFEST))
    command, recipe = rebuild_command(manifest)
    words = {**kept_prose(folder / README), **(read_prose(prose) if prose else {})}
    card = Card(
        manifest=manifest,
        licence_text=licence_text,
        command=command,
        recipe=recipe,
        prose=words,
        beside_data=folder.resolve() == dataset.path.resolve(),
        has_page=(folder / PAGE).is_file(),
    )
    own = dataset.path / MANIFEST
    described = croissant(
        manifest,
        manifest_sha256=sha256_of(own),
        manifest_bytes=own.stat().st_size,
        licence_text=licence_text,
    )
    texts = {
        README: readme(card),
        CROISSANT: json.dumps(described, indent=2, ensure_ascii=False) + "\n",
    }
    for name, text in texts.items():
        with whole_file(folder / name) as path:
            path.write_text(text, encoding="utf-8")
    return folder / README, folder / CROISSANT
