"""Recommendations as lists are made from them: checked blocks of rows, ordered by rank or by score."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from fedeval.ids import EMPTY, Ints, Names
from fedeval.policy import Policy
from fedeval.tables import RANK, SCORE, Table
from fedprep.errors import EvaluationError
from fedprep.schema import ITEM_ID, USER_ID

__all__ = ["Source", "Strangers", "items_of", "order_of"]


def order_of(recs: Table, policy: Policy) -> str:
    """Returns the column that orders the lists of a table, `rank` or `score`, by the policy's `order`.

    Raises:
        EvaluationError: the policy names a column that is not there.
    """
    if policy.order == "auto":
        return SCORE if recs.trec or RANK not in recs else RANK
    if policy.order not in recs:
        raise EvaluationError(
            f"lists cannot be ordered by {policy.order}: the recommendations have no such column",
            where=recs.where,
            hint=f"name it: columns={{'{policy.order}': …}} in Python, --{policy.order} on the command line",
        )
    return policy.order


@dataclass(frozen=True, eq=False)
class Source:
    """A table of recommendations as lists are made from it.

    key: the column that orders a list, `rank` or `score`; the other one is compared with it ·
    names: what users and items stand for.
    """

    table: Table
    key: str
    policy: Policy
    names: dict[str, Names]

    @property
    def other(self) -> str:
        """The column that says the order once more, "" where there is none."""
        name = SCORE if self.key == RANK else RANK
        return name if name in self.table else ""

    def blocks(self, bounds: tuple[Any, Any]) -> Iterator[pl.DataFrame]:
        """Yields the rows of the users within bounds, checked.

        Raises:
            EvaluationError: an id or a key is missing, or a score is NaN. A score may be missing where ranks
                are the order.
        """
        columns: tuple[str, ...] = (USER_ID, ITEM_ID, self.key)
        if self.other:
            columns = (*columns, self.other)
        done = 0
        for block in self.table.blocks(columns, bounds):
            self._refuse_missing(block, done)
            done += block.height
            yield block

    def _refuse_missing(self, block: pl.DataFrame, done: int) -> None:
        for name in (USER_ID, ITEM_ID, self.key):
            if block[name].null_count():
                row = int(block[name].is_null().arg_max() or 0)
                raise EvaluationError(
                    f"'{name}' of the recommendations is missing, or not of its type",
                    where=", ".join(filter(None, (self.table.where, f"row {done + row + 1}"))),
                    expected="a value in every row",
                )
        if SCORE in block.columns and block[SCORE].is_nan().any():
            bad = block.filter(pl.col(SCORE).is_nan())
            raise EvaluationError(
                f"scores are NaN: {bad.height:,} of {block.height:,} rows looked at",
                where=f"user {self.names[USER_ID].of(bad[USER_ID].to_numpy(), pl.String)[0]},"
                f" item {self.names[ITEM_ID].of(bad[ITEM_ID].to_numpy(), pl.String)[0]}",
                hint="a model whose scores are NaN has diverged: its order means nothing",
            )


class Strangers:
    """The users of a table that are not wanted, and its rows, counted block by block."""

    def __init__(self) -> None:
        self.parts: list[pl.Series] = []
        self.n_rows = 0

    def add(self, block: pl.DataFrame, row: Ints, *, n_rows: int) -> bool:
        """Takes note of a block and of the rows that it is a part of; returns whether it has strangers."""
        self.n_rows += n_rows
        if not row.size or row.min() >= 0:
            return False
        self.parts.append(block[USER_ID].filter(pl.Series(row < 0)).unique())
        return True

    def count(self) -> int:
        return pl.concat(self.parts).n_unique() if self.parts else 0


def items_of(block: pl.DataFrame) -> Ints:
    """Returns int32 (n,): the items of a block.

    Raises:
        EvaluationError: an item has the id that stands for none.
    """
    items: Ints = block[ITEM_ID].to_numpy().astype(np.int32, copy=False)
    if items.size and items.min() == EMPTY:
        raise EvaluationError(f"an item cannot have the id {EMPTY}")
    return items
