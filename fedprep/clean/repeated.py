"""One row for each (user, item)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from fedprep.schema import ITEM_ID, RATING, TIMESTAMP, USER_ID

__all__ = ["one_row_a_pair"]

Positions = npt.NDArray[np.intp]


def one_row_a_pair(
    rows: pl.DataFrame, which: Literal["last", "first", "mean", "max", "min", "sum", "count"]
) -> tuple[pl.DataFrame, pl.Series, int]:
    """Returns the rows, which of them to keep so that no (user, item) occurs twice, and ties.

    Ties: of how many pairs the row that stays has the timestamp of another, and lies by its line alone.

    Rows of a pair are ordered by (timestamp, line, rating), null before all else. `mean`, `max`, `min` and
    `sum` keep the last row and write that of the ratings that are not null into it. `count` writes the number
    of rows, 1 into a row that is alone: plays, purchases, visits.
    """
    pairs = rows[USER_ID].to_numpy().astype(np.int64) << 32 | rows[ITEM_ID].to_numpy()
    keep = np.ones(rows.height, dtype=np.bool_)
    ordered = np.sort(pairs)  # several times as fast as their argsort, and mostly enough
    same = ordered[1:] == ordered[:-1]
    del ordered
    n_tied = 0
    if which == "count":
        rows = rows.with_columns(pl.lit(1.0, pl.Float32).alias(RATING))
    if same.any():
        repeated, starts = _repeated(rows, pairs, same)
        ends = np.append(starts[1:], repeated.size)
        chosen = repeated[starts if which == "first" else ends - 1]
        if rows[TIMESTAMP].null_count() < rows.height:
            times = rows[TIMESTAMP].fill_null(np.iinfo(np.int64).min).to_numpy()
            one, other = (starts, starts + 1) if which == "first" else (ends - 1, ends - 2)
            n_tied = int((times[repeated[one]] == times[repeated[other]]).sum())
        keep[repeated] = False
        keep[chosen] = True
        if which not in ("last", "first"):
            rows = rows.with_columns(_together(rows[RATING], which, repeated, starts, chosen))
    return rows, pl.Series(keep), n_tied


def _repeated(
    rows: pl.DataFrame, pairs: npt.NDArray[np.int64], same: npt.NDArray[np.bool_]
) -> tuple[Positions, Positions]:
    """Returns the positions of rows whose pair is not alone, pair by pair, and where each pair starts.

    Args:
        same: (n_rows - 1,), of the sorted pairs: it is that of the next.
    """
    in_order = np.argsort(pairs)
    repeated = in_order[np.append(same, False) | np.insert(same, 0, False)]
    keys = [USER_ID, ITEM_ID, TIMESTAMP, "line", RATING]
    repeated = repeated[rows[repeated].select(pl.arg_sort_by(keys)).to_series().to_numpy()]
    return repeated, np.flatnonzero(np.diff(pairs[repeated], prepend=-1))


def _together(
    ratings: pl.Series, which: str, repeated: Positions, starts: Positions, chosen: Positions
) -> pl.Series:
    """Returns the ratings, those of the chosen rows replaced by what is made of all their pair's."""
    given = ratings[repeated]
    known = given.is_not_null().to_numpy()
    counts = np.add.reduceat(known.astype(np.float64), starts)
    if which in ("max", "min"):
        reduce, empty = (np.maximum, -np.inf) if which == "max" else (np.minimum, np.inf)
        made = reduce.reduceat(given.fill_null(empty).to_numpy().astype(np.float64), starts)
    else:
        made = np.add.reduceat(given.fill_null(0.0).to_numpy().astype(np.float64), starts)
    if which == "mean":
        made = np.divide(made, counts, out=np.full_like(made, np.nan), where=counts > 0)
    values = ratings.to_numpy().copy()  # null becomes NaN, of which there is no other left
    values[chosen] = np.where(counts > 0, made, np.nan)
    return pl.Series(ratings.name, values, nan_to_null=True)
