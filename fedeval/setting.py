"""What systems are measured against: the truth, and what a Dataset knows besides it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from fedeval.interactions import Interactions, interactions_of
from fedeval.tables import read_table
from fedprep.dataset import Dataset
from fedprep.errors import EvaluationError, nearest
from fedprep.schema import CLIENT_ID, ITEM_ID, LABEL, USER_ID

__all__ = ["RELEVANT", "Setting", "setting_of"]

RELEVANT = ("all", "liked")
"""Truth rows of a Dataset that are relevant: all, or those whose label is above 0."""

SEEN = {"test": ("train", "valid"), "valid": ("train",)}
"""Splits that a user has seen when the truth is test, or valid."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Setting:
    """The truth, and where it is a Dataset's, the Dataset.

    truth: user_id, item_id, and relevance where there is one · name: of the Dataset or file ·
    split: the rows that are the truth, "" for a file of truth · relevant: a name in `RELEVANT`.
    """

    truth: pl.DataFrame
    name: str
    dataset: Dataset | None = None
    split: str = ""
    relevant: str = "all"

    @functools.cached_property
    def train(self) -> Interactions:
        """The rows that systems may learn from."""
        assert self.dataset is not None
        return interactions_of(self.dataset, "train")

    @functools.cached_property
    def seen(self) -> Interactions:
        """The rows whose items are no longer recommended."""
        assert self.dataset is not None
        return interactions_of(self.dataset, *SEEN[self.split or "test"])

    @functools.cached_property
    def clients(self) -> pl.DataFrame | None:
        """`user_id`, `client_id`; None without a Dataset, or where a user's rows lie at several clients."""
        if self.dataset is None:
            return None
        clients = self.dataset.users().select(USER_ID, CLIENT_ID).collect()
        return None if clients[CLIENT_ID].null_count() else clients

    @property
    def manifest(self) -> Mapping[str, Any]:
        return {} if self.dataset is None else self.dataset.manifest


def setting_of(
    data: str | Path | Dataset | None = None,
    truth: Any = None,
    *,
    split: str = "test",
    relevant: str = "all",
    columns: Mapping[str, str] | None = None,
) -> Setting:
    """Returns what systems are measured against.

    Args:
        data: a Dataset or its folder; needed where there is no `truth`.
        truth: a table of truth (a path or a frame); None: the Dataset's `split`.
        split: `test` or `valid`.
        relevant: which rows of the split are relevant, a name in `RELEVANT`.
        columns: our name to the table of truth's own.

    Raises:
        EvaluationError: neither is given, or there is no relevant row.
        DatasetError: no Dataset is there.
    """
    dataset = Dataset.open(data) if isinstance(data, str | Path) else data
    if truth is not None:
        table = read_table(truth, "truth", columns)
        name = table.where or "truth"
        kept = [c for c in (USER_ID, ITEM_ID, "relevance") if c in table]
        rows = table.whole(*kept)
        return Setting(
            truth=rows,
            name=dataset.name if dataset else Path(name).name,
            dataset=dataset,
            split="" if dataset is None else split,
        )
    if dataset is None:
        raise EvaluationError(
            "nothing says what is relevant", hint="give a Dataset with --data, or a table with --truth"
        )
    if split not in SEEN:
        raise EvaluationError(f"no split of truth is called '{split}'", hint=nearest(split, SEEN))
    if relevant not in RELEVANT:
        raise EvaluationError(
            f"no rows of truth are called '{relevant}'", hint=nearest(relevant, RELEVANT)
        )
    wanted = dataset.interactions(split)
    if relevant == "liked":
        wanted = wanted.filter(pl.col(LABEL) > 0)
    rows = wanted.select(USER_ID, ITEM_ID).collect()
    if not rows.height:
        raise EvaluationError(
            f"the split '{split}' of {dataset.name} has no relevant row", where=str(dataset.path)
        )
    return Setting(truth=rows, name=dataset.name, dataset=dataset, split=split, relevant=relevant)
