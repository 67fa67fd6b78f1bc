"""A small Dataset for the tests of its card, and the parts of a card that follow the machine."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from fedprep.build import build_dataset
from fedprep.card import CROISSANT, README, write_card
from fedprep.dataset import Dataset
from fedprep.recipe import parse_recipe

WORDS = "The owner's | words."


def small_dataset(folder: Path, **tables: Any) -> Dataset:
    """Returns a made-up shop of 300 rows at 4 clients, built into a folder."""
    size = {"n_users": 30, "n_items": 20, "n_interactions": 300, "images": 0.0}
    source = {"name": "synthetic", "edition": "2018", "category": "Gift_Cards", "synthetic": size}
    tree: dict[str, Any] = {
        "name": "small",
        "description": "A small shop",
        "source": source,
        "embed": {"text": {"encoder": "hashing", "dim": 8}, "behavior": {"dim": 4}},
        "partition": {"method": "dirichlet", "on": "category", "n_clients": 4},
    }
    before = os.environ.get("FEDPREP_CACHE")
    os.environ["FEDPREP_CACHE"] = str(folder / "cache")
    try:
        return build_dataset(parse_recipe({**tree, **tables}), folder / "small")
    finally:
        if before is not None:
            os.environ["FEDPREP_CACHE"] = before


def card_of(dataset: Dataset, folder: Path) -> tuple[str, dict[str, Any]]:
    """Returns the texts of a card: README, Croissant tree."""
    readme, croissant = write_card(dataset, folder, licence_text=WORDS)
    assert (readme.name, croissant.name) == (README, CROISSANT)
    return readme.read_text(encoding="utf-8"), json.loads(croissant.read_text(encoding="utf-8"))


def without_measured_floats(readme: str, croissant: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Returns a card without what differs between two builds of equal Datasets.

    These are dates, versions of tools, and the bytes of embeddings, whose last digits follow the processor;
    of made-up data also the bytes of the raw files, which follow zlib and Pillow, and with them the id.
    """
    lines = [
        line for line in readme.splitlines() if not line.startswith(("Made with ", "- Norms, "))
    ]
    readme = "\n".join(line for line in lines if "embeddings/" not in line)
    tree = {k: v for k, v in croissant.items() if k not in ("dateCreated", "datePublished")}
    tree["distribution"] = [
        {k: v for k, v in file.items() if k not in ("sha256", "contentSize")}
        if file["@id"].startswith(("embeddings/", "manifest.json"))
        else file
        for file in tree["distribution"]
    ]
    if "synthetic" in readme.split("---")[1]:
        tree = {
            k: v for k, v in tree.items() if k not in ("citeAs", "identifier", "url", "version")
        }
        tree.pop("prov:wasDerivedFrom")
        readme = re.sub(r"Id `\w+`|^\| `\S+(gz|pictures)` .*", "", readme, flags=re.MULTILINE)
    return readme, tree
