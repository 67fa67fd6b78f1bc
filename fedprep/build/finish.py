"""The end of a build: the Dataset is judged and described before it gets its name."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from fedprep.build.raw import terms_of_manifest
from fedprep.card import README, write_card
from fedprep.checks import CHECKS, validate
from fedprep.dataset import REPORT, Dataset
from fedprep.files import whole_file
from fedprep.integrity import digests_of
from fedprep.report import to_json
from fedprep.schema import Progress

__all__ = ["finish"]

JUST_WRITTEN = ("files_match_hashes",)
"""Checks that a build need not run: it has just computed what they compare."""


def finish(folder: Path, out: Path, *, progress: Progress) -> None:
    """Writes `report.json`, `README.md` and `croissant.json` into a Dataset that is otherwise whole.

    Args:
        folder: where it lies while it is built.
        out: where it will lie; the prose of a card that is there is kept.
    """
    dataset = Dataset.open(folder)
    wanted = [name for name in CHECKS if name not in JUST_WRITTEN]
    strict = dataset.manifest["recipe"]["validate"]["fail_on"] == "warn"
    found = validate(dataset, only=wanted, strict=strict, progress=progress)
    verdict = replace(found, files=digests_of(dataset.manifest)).to_dict()
    with whole_file(folder / REPORT) as path:
        path.write_text(to_json(verdict) + "\n", encoding="utf-8")
    if (out / README).is_file():
        shutil.copyfile(out / README, folder / README)
    write_card(dataset, folder, licence_text=terms_of_manifest(dataset.manifest))
