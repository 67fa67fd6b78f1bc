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

Every sum over rows is a sum of whole numbers, exact in any order: the result depends neither on the
order of the rows nor on threads, nor on how shards cut them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fedprep.schema import ITEM_ID, LABEL, RATING, SOURCE_ID, SPLIT, TIMESTAMP, USER_ID

__all__ = ["PRIOR_ROWS", "QUANTUM", "Component", "TrainRows", "affinities", "habits"]

PRIOR_ROWS = 4.0
"""Rows that speak for everybody's habits before a user's own are heard."""

QUANTUM = 2.0**-20
"""Components are rounded to whole multiples of this, far below what they mean."""

RATING_BINS = 5
RATING_STEPS = 2.0**16  # of the 0..1 scale; squares sum exactly over two million rows of one user
DAY = 86_400
RECENT = 30 * DAY
BLOCK_ROWS = 1 << 21

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Component(NamedTuple):
    """One number a user: float64 (n_users,), and where it is known: bool (n_users,)."""

    name: str
    values: Floats
    known: Bools


@dataclass(frozen=True, kw_only=True)
class TrainRows:
    """The train rows as arrays (n_rows,); rating NaN and timestamp -1 with `dated` False where unknown."""

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    rating: Floats
    label: NDArray[np.int8]
    timestamp: Ints
    dated: Bools
    n_users: int
    n_items: int

    @classmethod
    def of(cls, interactions: pl.DataFrame, items: pl.DataFrame, n_users: int) -> TrainRows:
        """Returns the train rows of a table of interactions."""
        train = interactions.filter(pl.col(SPLIT) == "train")
        item = train[ITEM_ID].to_numpy()
        rating = train[RATING].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        return cls(
            user=train[USER_ID].to_numpy(),
            item=item,
            rating=np.where(np.isfinite(rating), rating, np.nan),
            label=train[LABEL].to_numpy(),
            timestamp=train[TIMESTAMP].fill_null(-1).to_numpy(),
            dated=train[TIMESTAMP].is_not_null().to_numpy(),
            n_users=n_users,
            n_items=1
            + max(-1, *(int(a.max()) for a in (item, items[ITEM_ID].to_numpy()) if len(a))),
        )

    def blocks(self) -> Iterator[slice]:
        """Yields slices that cover the rows: what is made of a block never outgrows the users."""
        step = max(BLOCK_ROWS, self.n_users)
        yield from (slice(low, low + step) for low in range(0, len(self.user), step))

    def total(self, weigh: Callable[[slice], NDArray[Any]] | None = None) -> Floats:
        """Returns each user's sum of whole-numbered weights (None: the number of rows): (n_users,)."""
        sums = np.zeros(self.n_users)
        for rows in self.blocks():
            weights = None if weigh is None else weigh(rows)
            sums += np.bincount(self.user[rows], weights=weights, minlength=self.n_users)
        return sums


def habits(train: TrainRows) -> list[Component]:
    """Returns the components that need no metadata, of what the data can tell."""
    rows = train.total()
    item_rows = np.bincount(train.item, minlength=train.n_items)
    popularity = np.rint(np.log2(np.maximum(item_rows, 1)) / QUANTUM)  # (n_items,)
    parts = [Component("log_rows", np.log2(1 + rows), rows > 0)]
    parts += _ratings(train)
    if len(train.label) and train.label.min() != train.label.max():
        parts.append(_mean("label_mean", train.total(lambda r: train.label[r]), rows))
    in_quanta = _mean("log_popularity", train.total(lambda r: popularity[train.item[r]]), rows)
    parts.append(in_quanta._replace(values=in_quanta.values * QUANTUM))
    return parts + _times(train)


def _mean(name: str, sums: Floats, counts: Floats) -> Component:
    return Component(name, sums / np.maximum(counts, 1), counts > 0)


def _ratings(train: TrainRows) -> list[Component]:
    """Returns mean, deviation and histogram of ratings; nothing where all ratings are equal."""
    rated = ~np.isnan(train.rating)
    if not rated.any():
        return []
    low, high = float(np.nanmin(train.rating)), float(np.nanmax(train.rating))
    if low == high:
        return []
    # Whole steps 0..65,536 of the scale; an unknown rating weighs nothing.
    steps = np.rint((train.rating - low) / (high - low) * RATING_STEPS)
    distinct = np.unique(steps[rated])
    few = len(distinct) <= RATING_BINS
    edges = distinct[1:] if few else np.arange(1, RATING_BINS) * RATING_STEPS / RATING_BINS
    steps[~rated] = 0
    n = train.total(lambda r: rated[r])
    shares = _histogram(train, steps, edges, rated) / np.maximum(n, 1)
    mean = _mean("rating_mean", train.total(lambda r: steps[r]), n)
    square = _mean("rating_deviation", train.total(lambda r: steps[r] ** 2), n)
    variance = np.maximum(square.values - mean.values**2, 0)
    return [
        mean._replace(values=mean.values / RATING_STEPS),
        square._replace(values=np.sqrt(variance) / RATING_STEPS),
        *(Component(f"rating_share_{b + 1}", share, n > 0) for b, share in enumerate(shares)),
    ]


def _histogram(train: TrainRows, steps: Floats, edges: Floats, rated: Bools) -> Floats:
    """Returns how many of each user's ratings lie in each bin: (n_bins, n_users)."""
    n_bins = len(edges) + 1
    bin_of = np.searchsorted(edges, np.arange(RATING_STEPS + 1), side="right")
    counts = np.zeros(n_bins * train.n_users)
    for rows in train.blocks():
        there = rated[rows]
        place = bin_of[steps[rows][there].astype(np.int64)] * train.n_users
        counts += np.bincount(place + train.user[rows][there], minlength=len(counts))
    return counts.reshape(n_bins, train.n_users)


def _times(train: TrainRows) -> list[Component]:
    """Returns recency and activity; nothing where all times are equal."""
    times, user, dated = train.timestamp, train.user, train.dated
    if not dated.any():
        return []
    begin, end = int(times[dated].min()), int(times[dated].max())
    if begin == end:
        return []
    n = train.total(lambda r: dated[r])
    known = n > 0
    first = np.full(train.n_users, end, np.int64)
    last = np.full(train.n_users, begin, np.int64)
    for rows in train.blocks():
        there = dated[rows]
        np.minimum.at(first, user[rows][there], times[rows][there])
        np.maximum.at(last, user[rows][there], times[rows][there])
    span = np.maximum(last - first, 0)
    recent = train.total(lambda r: dated[r] & (times[r] > end - RECENT))
    return [
        Component("log_recency_days", np.log2(1 + (end - last) / DAY), known),
        Component("log_span_days", np.log2(1 + span / DAY), known),
        Component("log_gap_seconds", np.log2(1 + span / np.maximum(n - 1, 1)), n > 1),
        Component("log_active_days", np.log2(1 + _active_days(train, begin, end)), known),
        _mean("recent_share", recent, n),
    ]


def _active_days(train: TrainRows, begin: int, end: int) -> Floats:
    """Returns the number of distinct days (UTC) on which each user has a row: (n_users,)."""
    first_day = begin // DAY
    n_days = end // DAY - first_day + 1
    seen = [np.zeros(0, np.int64)]
    for rows in train.blocks():
        there = train.dated[rows]
        day = train.timestamp[rows][there] // DAY - first_day
        seen.append(np.unique(train.user[rows][there].astype(np.int64) * n_days + day))
    pairs = np.unique(np.concatenate(seen)) if len(seen) > 2 else seen[-1]
    return np.bincount(pairs // n_days, minlength=train.n_users).astype(np.float64)


def affinities(train: TrainRows, items: pl.DataFrame, places: int) -> list[Component]:
    """Returns the lifts of the largest categories, then of the most frequent items: at most `places`.

    Categories or items that hold all rows, or none, say nothing of a user and are left out.
    """
    if places <= 0 or len(train.user) == 0:
        return []
    membership, chosen = _groups(train, items, places)
    n_groups = chosen.height
    sizes = np.bincount(membership[ITEM_ID].to_numpy(), minlength=train.n_items)  # (n_items,)
    start = np.cumsum(sizes) - sizes
    group_of = membership["group"].to_numpy()
    counts = np.zeros(train.n_users * n_groups)
    for rows in train.blocks():
        item = train.item[rows]
        size = sizes[item]
        # Row r repeats once for each group of its item; `within` counts 0, 1, … inside a row.
        within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
        group = group_of[np.repeat(start[item], size) + within]
        place = np.repeat(train.user[rows].astype(np.int64) * n_groups, size) + group
        counts += np.bincount(place, minlength=len(counts))
    by_user = counts.reshape(train.n_users, n_groups)
    prior = PRIOR_ROWS * chosen["n_rows"].to_numpy() / len(train.user)  # (n_groups,)
    rows_and_prior = train.total() + PRIOR_ROWS
    known = rows_and_prior > PRIOR_ROWS
    return [
        Component(
            name,
            np.log2((by_user[:, g] + prior[g]) / (rows_and_prior * (prior[g] / PRIOR_ROWS))),
            known,
        )
        for g, name in enumerate(chosen["name"])
    ]


def _groups(
    train: TrainRows, items: pl.DataFrame, places: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Returns (item_id, group) sorted, and a row a group: name, n_rows."""
    item_rows = pl.Series("n_rows", np.bincount(train.item, minlength=train.n_items))
    rows_of = item_rows.gather(items[ITEM_ID])
    by_category = (
        items.select(ITEM_ID, rows_of, name="categories")
        .explode("name", empty_as_null=True)
        .drop_nulls("name")
        .unique()
    )
    categories = _largest(by_category.group_by("name").agg(pl.col("n_rows").sum()), train, places)
    by_item = items.select(ITEM_ID, rows_of, name=pl.col(SOURCE_ID))
    favourites = _largest(by_item, train, places - categories.height)
    membership = pl.concat(
        [
            by_category.join(categories.select("name", "group"), on="name").select(
                ITEM_ID, "group"
            ),
            favourites.select(ITEM_ID, pl.col("group") + categories.height),
        ]
    )
    chosen = pl.concat(
        [
            table.select((pl.lit(kind) + pl.col("name")).alias("name"), "n_rows")
            for kind, table in (("category:", categories), ("item:", favourites))
        ]
    )
    return membership.sort(ITEM_ID, "group"), chosen


def _largest(candidates: pl.DataFrame, train: TrainRows, places: int) -> pl.DataFrame:
    """Returns the candidates with the most rows, by name where equal, numbered in `group`."""
    return (
        candidates.filter(pl.col("n_rows").is_between(0, len(train.user), closed="none"))
        .sort("n_rows", "name", descending=[True, False])
        .head(max(places, 0))
        .with_row_index("group")
        .with_columns(pl.col("group").cast(pl.Int64))
    )
