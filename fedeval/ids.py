"""Ids as small integers: users as the rows of arrays, items as int32.

Integers that are small stay what they are. Text, and integers too far apart, are replaced by their place
among all ids of the tables at hand, sorted (`Names`), by one join; from there on every id is an integer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.tables import Table
from fedprep.errors import EvaluationError
from fedprep.schema import ITEM_ID, USER_ID

__all__ = ["EMPTY", "Codes", "Ints", "Names", "codes_of", "small_ids"]

Ints = npt.NDArray[np.int32]

EMPTY = int(np.iinfo(np.int32).min)
"""Where a list has ended; no item has this id."""

MOST = 1 << 28
"""Integers among which ids are counted: 5 bytes each."""

SPAN = 1 << 25
"""Users whose ids lie within so many integers are found in a table of 4 bytes each."""


@dataclass(frozen=True, eq=False)
class Names:
    """What the integers of a column stand for: `ids[i]` is the id of i; None: they are the ids."""

    ids: pl.Series | None = None

    def of(
        self, numbers: npt.NDArray[np.integer], dtype: pl.DataType | type[pl.DataType]
    ) -> pl.Series:
        """Returns the ids of integers, in the column's own type."""
        if self.ids is None:
            return pl.Series(numbers).cast(dtype)
        return self.ids.gather(pl.Series(numbers)).cast(dtype)

    def text(self, numbers: npt.NDArray[np.integer]) -> pl.Series:
        """Returns the ids of integers, as text."""
        return self.of(numbers, pl.Int64 if self.ids is None else self.ids.dtype).cast(pl.String)


@dataclass(frozen=True, eq=False)
class Codes:
    """Users as rows of arrays: user `ids[i]` has row i.

    ids: int64 (n_users,), ascending.
    """

    ids: npt.NDArray[np.int64]
    _table: Ints  # the row of the id `_low + i`, or -1
    _low: int

    def __len__(self) -> int:
        return len(self.ids)

    def find(self, column: pl.Series) -> Ints:
        """Returns int32 (n,): the row of each id, -1 for one that has none."""
        values = column.to_numpy()
        if not EMPTY < self._low < -EMPTY:
            values = values.astype(np.int64)
        low, high = self._low, self._low + len(self._table) - 1
        if values.size and (values.min() < low or values.max() > high):
            inside = (values >= low) & (values <= high)
            at = np.where(inside, values.astype(np.int64), low) - low
            return np.where(inside, self._table[at], np.int32(-1))
        return np.take(self._table, values - low if low else values)

    def part(self, start: int, end: int) -> Codes:
        """Returns rows from 0 for the users of row `start` to before `end`."""
        ids = self.ids[start:end]
        low = int(ids[0])
        table = self._table[low - self._low : int(ids[-1]) - self._low + 1] - np.int32(start)
        return Codes(ids, np.maximum(table, -1), low)


def codes_of(*columns: pl.Series) -> Codes:
    """Returns the rows of all users in columns of small integers, in ascending order of id.

    Raises:
        EvaluationError: least and largest id are `MOST` apart or more.
    """
    columns = tuple(column for column in columns if len(column))  # one that is all null has none
    ends = [(int(c.min()), int(c.max())) for c in columns]  # type: ignore[arg-type]
    low, high = min(e[0] for e in ends), max(e[1] for e in ends)
    if high - low >= MOST:
        raise EvaluationError(
            f"ids from {low:,} to {high:,} lie too far apart to be counted",
            expected=f"whole numbers within {MOST:,}, or text",
            hint="an id that is out of all range may be damage; else number them from 0",
        )
    low = 0 if 0 < low <= high // 2 else low  # ids that start near 0 are their own index
    there = np.zeros(high - low + 1, bool)
    for column in columns:
        there[column.to_numpy() - low if low else column.to_numpy()] = True
    table = np.cumsum(there, dtype=np.int32) - np.int32(1)
    table[~there] = -1
    return Codes(np.flatnonzero(there) + low, table, low)


def small_ids(tables: Sequence[Table], *, every_user: bool) -> tuple[list[Table], dict[str, Names]]:
    """Returns the tables with small integers for ids, and what these stand for, by column.

    Args:
        tables: the truth first.
        every_user: users of all tables shall have a row, not those of the truth alone.
    """
    names = {}
    tables = list(tables)
    for column in (USER_ID, ITEM_ID):
        holders = [table for table in tables if column in table]
        if column == USER_ID and not every_user:
            small = _small(holders[:1], column)
        else:
            small = _small(holders, column)
        if small:
            names[column] = Names()
            continue
        text = holders[0].schema[column] == pl.String
        ids = [table.distinct(column).cast(pl.String if text else pl.Int64) for table in holders]
        names[column] = Names(pl.concat(ids).unique().drop_nulls().sort())
        tables = [_coded(t, column, names[column]) if column in t else t for t in tables]
    return tables, names


def _small(tables: Sequence[Table], column: str) -> bool:
    if tables[0].schema[column] == pl.String:
        return False
    # A file is not read to learn that int32 items are int32.
    ranges = [
        table.range(column)
        for table in tables
        if column == USER_ID
        or isinstance(table.rows, pl.DataFrame)
        or table.schema[column] != pl.Int32
    ]
    known = [(low, high) for low, high in ranges if low is not None]
    low, high = min((k[0] for k in known), default=0), max((k[1] for k in known), default=0)
    if column == USER_ID:
        return bool(high - low < SPAN)
    return bool(low > EMPTY and high <= np.iinfo(np.int32).max)


def _coded(table: Table, column: str, names: Names) -> Table:
    ids = names.ids
    assert ids is not None
    lookup = pl.DataFrame({column: ids}).with_row_index("code").lazy()
    rows = (
        table.rows.lazy()
        .with_columns(pl.col(column).cast(ids.dtype))
        .join(lookup, on=column, how="left", maintain_order="left")
        .with_columns(pl.col("code").cast(pl.Int32).alias(column))
        .drop("code")
    )
    if isinstance(table.rows, pl.DataFrame):
        return table.of(rows.collect())
    return table.of(rows)
