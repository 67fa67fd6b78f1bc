"""Dense codes for users and items, whatever their ids are: small integers, wide ones, or text."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["EMPTY", "Codes", "codes_of", "fits", "missing_at"]

EMPTY = np.iinfo(np.int32).min
"""Where a list has ended; no item has this code."""

SPAN = 1 << 25
"""Ids that lie within so many integers are found in a table (4 bytes each), others by search."""

Ints = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Codes:
    """The ids that have a code: the code of `ids[i]` is i. Find codes with `codes.find(series)`."""

    ids: pl.Series  # sorted, distinct
    _table: Ints | None = field(default=None, repr=False)  # code of the id `_low + i`, or -1
    _low: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def find(self, column: pl.Series) -> Ints:
        """Returns int32 (n,): the code of each id, -1 for one that has none."""
        if self.ids.dtype == pl.String:
            coded = column.cast(pl.Enum(self.ids), strict=False).to_physical().cast(pl.Int32)
            return coded.fill_null(-1).to_numpy()
        values = column.to_numpy()
        if self._table is not None:
            return self._look_up(values)
        known = self.ids.to_numpy()
        at = np.minimum(np.searchsorted(known, values), len(known) - 1)
        return np.where(known[at] == values, at, -1).astype(np.int32)

    def _look_up(self, values: npt.NDArray[np.integer]) -> Ints:
        assert self._table is not None
        low, high = self._low, self._low + len(self._table) - 1
        if values.size and (values.min() < low or values.max() > high):
            inside = (values >= low) & (values <= high)
            found = self._table[np.where(inside, values, low) - low]
            found[~inside] = -1
            return found
        return self._table[values - low if low else values]


def codes_of(*columns: pl.Series) -> Codes:
    """Returns codes for the distinct ids of columns of one kind, in ascending order."""
    dtype = columns[0].dtype
    if dtype == pl.String:
        return Codes(pl.concat([c.unique() for c in columns]).unique().sort())
    bounds = [(int(c.min()), int(c.max())) for c in columns if len(c)]  # type: ignore[arg-type]
    low, high = min(b[0] for b in bounds), max(b[1] for b in bounds)
    if high - low >= SPAN:
        return Codes(pl.concat([c.unique().cast(pl.Int64) for c in columns]).unique().sort())
    there = np.zeros(high - low + 1, bool)
    for column in columns:
        there[column.to_numpy() - low] = True
    table = np.cumsum(there, dtype=np.int32)
    table -= 1
    table[~there] = -1
    # A table that starts a little above 0 starts at 0, so that ids are their own index.
    if 0 < low <= high // 2:
        table = np.concatenate([np.full(low, -1, np.int32), table])
        ids = np.flatnonzero(there) + low
        return Codes(pl.Series(ids).cast(dtype), table, 0)
    return Codes(pl.Series(np.flatnonzero(there) + low).cast(dtype), table, low)


def fits(column: pl.Series) -> bool:
    """Whether a column of ids is integers that are int32 and not `EMPTY`."""
    if not column.dtype.is_integer() or not len(column):
        return column.dtype.is_integer()
    low, high = int(column.min()), int(column.max())  # type: ignore[arg-type]
    return low > EMPTY and high <= np.iinfo(np.int32).max


def missing_at(column: pl.Series) -> int:
    """Returns the number of the first null row."""
    return int(column.is_null().arg_true()[0])
