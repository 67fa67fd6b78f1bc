"""The components of a user's behaviour, counted from train rows.

The components, in order; those that the data cannot tell (no ratings, no times) are left out, and the
places that remain go to the categories with the most train rows, then to the items with the most:

- `log_rows`: log2 of 1 + train rows (`clean` leaves one row a user and item: distinct items, too)
- `rating_mean`, `rating_deviation`: of ratings brought to 0..1 by train's smallest and largest
- `rating_share_1` …: share of the user's ratings in each bin: a bin for each distinct rating where
  there are at most five, else five bins of equal width
- `label_mean`: of the labels
- `log_popularity`: mean over the user's rows of log2 of the item's train rows
- `log_recency_days`: log2 of 1 + days from the user's last train row to the last of all
- `log_span_days`: log2 of 1 + days from the user's first to the user's last
- `log_gap_seconds`: log2 of 1 + mean seconds between neighbours, of users with two rows or more
- `log_active_days`: log2 of 1 + distinct days (UTC) with a row
- `recent_share`: share of the user's rows in the last 30 days of train
- `category:<name>`, `item:<source id>`: log2 lift of the user's share over everybody's, with m =
  `PRIOR_ROWS` rows of prior: log2((n_uc + m p_c) / ((n_u + m) p_c))

The rows are gone through twice, block by block: once for what is true of all of them (`Outline`), once for
each user's sums (`Sums`). Every sum over rows is a sum of whole numbers, exact in any order: the result
depends neither on the order of the rows nor on threads, nor on how blocks or shards cut them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedprep.behavior.groups import Groups
from fedprep.behavior.rows import Block, Outline, distinct

__all__ = ["PRIOR_ROWS", "QUANTUM", "Component", "Sums", "components", "n_habits"]

PRIOR_ROWS = 4.0
"""Rows that speak for everybody's habits before a user's own are heard."""

QUANTUM = 2.0**-20
"""Components are rounded to whole multiples of this, far below what they mean."""

DAY = 86_400
RECENT = 30 * DAY

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Component(NamedTuple):
    """One number a user: float64 (n_users,), and where it is known: bool (n_users,)."""

    name: str
    values: Floats
    known: Bools


class Sums:
    """Each user's sums over train rows, float64 (n_users,) each; of a kind of component that is told."""

    def __init__(self, outline: Outline, groups: Groups, n_users: int) -> None:
        self.outline, self.groups, self.n_users = outline, groups, n_users
        popularity = np.log2(np.maximum(outline.item_rows, 1)) / QUANTUM
        self._popularity = np.rint(popularity)  # (n_items,), in quanta
        self._step_bins = outline.rating_bins()
        self.rows, self.popularity = self._zeros(), self._zeros()
        self.labels = self._zeros()
        self.rated, self.steps, self.squares = self._zeros(), self._zeros(), self._zeros()
        n_bins = outline.n_rating_bins if outline.tells_ratings else 0
        self.bins = np.zeros(n_bins * n_users)
        self.dated, self.recent = self._zeros(), self._zeros()
        begin, end = outline.times or (0, 0)
        self.first = np.full(n_users, end, np.int64)
        self.last = np.full(n_users, begin, np.int64)
        self._days = self._zeros()
        self._crossing_days = [np.zeros(0, np.int64)]
        self.of_groups = np.zeros(n_users * len(groups.names))

    def _zeros(self) -> Floats:
        return np.zeros(self.n_users)

    def _total(self, user: NDArray[np.integer], weights: NDArray[Any] | None = None) -> Floats:
        return np.bincount(user, weights=weights, minlength=self.n_users).astype(np.float64)

    def add(self, block: Block) -> None:
        """Adds the rows of a block."""
        self.rows += self._total(block.user)
        self.popularity += self._total(block.user, self._popularity[block.item])
        if self.outline.tells_labels:
            self.labels += self._total(block.user, block.label)
        if self.outline.tells_ratings:
            self._add_ratings(block)
        if self.outline.tells_times:
            self._add_times(block)
        if self.groups.names:
            user, group = self.groups.pairs(block)
            place = user.astype(np.int64) * len(self.groups.names) + group
            self.of_groups += np.bincount(place, minlength=len(self.of_groups))

    def _add_ratings(self, block: Block) -> None:
        rated = ~np.isnan(block.rating)
        user, steps = block.user[rated], self.outline.steps(block.rating[rated])
        self.rated += self._total(user)
        self.steps += self._total(user, steps)
        self.squares += self._total(user, steps**2)
        place = self._step_bins[steps.astype(np.int64)] * self.n_users + user
        self.bins += np.bincount(place, minlength=len(self.bins))

    def _add_times(self, block: Block) -> None:
        assert self.outline.times is not None
        begin, end = self.outline.times
        user, times = block.user[block.dated], block.timestamp[block.dated]
        self.dated += self._total(user)
        self.recent += self._total(user, times > end - RECENT)
        np.minimum.at(self.first, user, times)
        np.maximum.at(self.last, user, times)
        # Who has rows in one block alone is counted there; of the others user and day are kept.
        days = distinct(user.astype(np.int64) * self._n_days + times // DAY - begin // DAY)
        crossing = self.outline.crossing[days // self._n_days]
        self._days += self._total(days[~crossing] // self._n_days)
        self._crossing_days.append(days[crossing])

    @property
    def _n_days(self) -> int:
        assert self.outline.times is not None
        begin, end = self.outline.times
        return end // DAY - begin // DAY + 1

    def active_days(self) -> Floats:
        """Returns the number of distinct days (UTC) on which each user has a row: (n_users,)."""
        days = distinct(np.concatenate(self._crossing_days))
        return self._days + self._total(days // self._n_days)


def n_habits(outline: Outline) -> int:
    """Returns how many components need no metadata."""
    ratings = 2 + outline.n_rating_bins if outline.tells_ratings else 0
    return 2 + ratings + outline.tells_labels + 5 * outline.tells_times


def components(sums: Sums) -> Iterator[Component]:
    """Yields the components that the data can tell, in order."""
    outline, rows = sums.outline, sums.rows
    yield Component("log_rows", np.log2(1 + rows), rows > 0)
    if outline.tells_ratings:
        yield from _ratings(sums)
    if outline.tells_labels:
        yield _mean("label_mean", sums.labels, rows)
    in_quanta = _mean("log_popularity", sums.popularity, rows)
    yield in_quanta._replace(values=in_quanta.values * QUANTUM)
    if outline.tells_times:
        yield from _times(sums)
    yield from _affinities(sums)


def _mean(name: str, sums: Floats, counts: Floats) -> Component:
    return Component(name, sums / np.maximum(counts, 1), counts > 0)


def _ratings(sums: Sums) -> Iterator[Component]:
    scale = sums.outline.RATING_STEPS
    mean = _mean("rating_mean", sums.steps, sums.rated)
    square = _mean("rating_deviation", sums.squares, sums.rated)
    variance = np.maximum(square.values - mean.values**2, 0)
    yield mean._replace(values=mean.values / scale)
    yield square._replace(values=np.sqrt(variance) / scale)
    for number, counts in enumerate(sums.bins.reshape(-1, sums.n_users), start=1):
        yield _mean(f"rating_share_{number}", counts, sums.rated)


def _times(sums: Sums) -> Iterator[Component]:
    assert sums.outline.times is not None
    _, end = sums.outline.times
    n, known = sums.dated, sums.dated > 0
    span = np.maximum(sums.last - sums.first, 0)
    yield Component("log_recency_days", np.log2(1 + (end - sums.last) / DAY), known)
    yield Component("log_span_days", np.log2(1 + span / DAY), known)
    yield Component("log_gap_seconds", np.log2(1 + span / np.maximum(n - 1, 1)), n > 1)
    yield Component("log_active_days", np.log2(1 + sums.active_days()), known)
    yield _mean("recent_share", sums.recent, n)


def _affinities(sums: Sums) -> Iterator[Component]:
    """Yields the lifts of the groups: of the largest categories, then of the most frequent items."""
    names = sums.groups.names
    by_user = sums.of_groups.reshape(sums.n_users, len(names))
    prior = PRIOR_ROWS * sums.groups.n_rows / max(sums.outline.n_rows, 1)  # (n_groups,)
    rows_and_prior = sums.rows + PRIOR_ROWS
    known = rows_and_prior > PRIOR_ROWS
    for g, name in enumerate(names):
        lift = (by_user[:, g] + prior[g]) / (rows_and_prior * (prior[g] / PRIOR_ROWS))
        yield Component(name, np.log2(lift), known)
