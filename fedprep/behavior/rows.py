"""The train rows as arrays, block by block, and what is true of all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fedprep.schema import ITEM_ID, LABEL, RATING, SPLIT, TIMESTAMP, USER_ID

__all__ = ["Block", "Outline", "blocks", "distinct", "outline_of"]

BLOCK_ROWS = 1 << 21

RATING_BINS = 5

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
T = TypeVar("T", np.float64, np.int64)


@dataclass(frozen=True, kw_only=True)
class Block:
    """Some train rows as arrays (n_rows,); rating NaN, and timestamp -1 with `dated` False, where unknown."""

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    rating: Floats
    label: NDArray[np.int8]
    timestamp: NDArray[np.int64]
    dated: Bools


def blocks(frames: Iterable[pl.DataFrame], n_users: int) -> Iterator[Block]:
    """Yields the train rows of the frames: what is made of a block never outgrows the users."""
    step = max(BLOCK_ROWS, n_users)
    for frame in frames:
        train = frame.filter(pl.col(SPLIT) == "train")
        for part in train.iter_slices(step):
            rating = part[RATING].cast(pl.Float64).fill_null(float("nan")).to_numpy()
            yield Block(
                user=part[USER_ID].to_numpy(),
                item=part[ITEM_ID].to_numpy(),
                rating=np.where(np.isfinite(rating), rating, np.nan),
                label=part[LABEL].to_numpy(),
                timestamp=part[TIMESTAMP].fill_null(-1).to_numpy(),
                dated=part[TIMESTAMP].is_not_null().to_numpy(),
            )


@dataclass(frozen=True, kw_only=True)
class Outline:
    """What is true of all train rows.

    item_rows: float64 (n_items,), train rows of each item. ratings: the distinct ones, sorted.
    labels, times: the least and the greatest; None without any. crossing: bool (n_users,), whose rows lie in
    several blocks.
    """

    RATING_STEPS: ClassVar[float] = 2.0**16
    """Of the 0..1 scale of ratings: squares sum exactly over two million rows of one user."""

    n_rows: int
    item_rows: Floats
    ratings: Floats
    labels: tuple[int, int] | None
    times: tuple[int, int] | None
    crossing: Bools

    @property
    def tells_ratings(self) -> bool:
        return len(self.ratings) > 1

    @property
    def tells_labels(self) -> bool:
        return self.labels is not None and self.labels[0] != self.labels[1]

    @property
    def tells_times(self) -> bool:
        return self.times is not None and self.times[0] != self.times[1]

    def steps(self, ratings: Floats) -> Floats:
        """Returns ratings in whole steps from the least to the greatest."""
        low, high = self.ratings[0], self.ratings[-1]
        steps: Floats = np.rint((ratings - low) / (high - low) * self.RATING_STEPS)
        return steps

    def _edges(self) -> Floats:
        used = distinct(self.steps(self.ratings))
        if len(used) <= RATING_BINS:
            return used[1:]
        return np.arange(1, RATING_BINS) * self.RATING_STEPS / RATING_BINS

    @property
    def n_rating_bins(self) -> int:
        return len(self._edges()) + 1 if self.tells_ratings else 0

    def rating_bins(self) -> NDArray[np.int64]:
        """Returns the bin of each step: int64 (RATING_STEPS + 1,); empty where ratings tell nothing."""
        if not self.tells_ratings:
            return np.zeros(0, np.int64)
        return np.searchsorted(self._edges(), np.arange(self.RATING_STEPS + 1), side="right")


def outline_of(rows: Iterable[Block], items: pl.DataFrame, n_users: int) -> Outline:
    """Returns what is true of all rows, from one pass over them; items are counted up to the last known."""
    n_rows = 0
    item_rows = np.zeros(int(items[ITEM_ID].to_numpy().max(initial=-1)) + 1)
    ratings, labels, times = np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64)
    seen, crossing = np.zeros(n_users, np.bool_), np.zeros(n_users, np.bool_)
    for block in rows:
        if not len(block.user):
            continue
        n_rows += len(block.user)
        counts = np.bincount(block.item, minlength=len(item_rows)).astype(np.float64)
        counts[: len(item_rows)] += item_rows
        item_rows = counts
        ratings = distinct(np.append(ratings, block.rating[~np.isnan(block.rating)]))
        labels = _range(labels, block.label)
        times = _range(times, block.timestamp[block.dated])
        crossing[block.user[seen[block.user]]] = True
        seen[block.user] = True
    return Outline(
        n_rows=n_rows,
        item_rows=item_rows,
        ratings=ratings,
        labels=(int(labels[0]), int(labels[1])) if len(labels) else None,
        times=(int(times[0]), int(times[1])) if len(times) else None,
        crossing=crossing,
    )


def distinct(values: NDArray[T]) -> NDArray[T]:
    """Returns the distinct values, sorted. (`np.unique` hashes, which takes twenty times as long.)"""
    ordered = np.sort(values)
    first = np.ones(len(ordered), np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    return ordered[first]


def _range(before: NDArray[np.int64], values: NDArray[np.integer]) -> NDArray[np.int64]:
    """Returns the least and the greatest of values seen before and now; nothing where there is none."""
    if not len(values):
        return before
    seen = np.append(before, [values.min(), values.max()])
    return np.array([seen.min(), seen.max()], dtype=np.int64)
