"""Interactions drawn from the planted truth, block by block of users."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import polars as pl

from fedprep.sources.synthetic.truth import Floats, Ints, Truth, generator, near_normal

__all__ = ["BLOCK_ROWS", "row_blocks"]

BLOCK_ROWS = 1 << 18
"""Rows of a block, about: a user is never cut. Memory follows it, whatever the size asked for."""

FOCUS = 0.8  # share of rows that come from the user's favourite topic, the others from all items
ROUNDS = 8  # of drawing again what a user had already, before the rest is filled in exactly
CELLS = 1 << 22  # of the (user, item) tables in which the rest is filled in

Times = npt.NDArray[np.float64]


def row_blocks(truth: Truth) -> Iterator[pl.DataFrame]:
    """Gives all rows in blocks, grouped by user, each (user, item) at most once.

    Columns: `row` i64 (number of the row), `user` and `item` i32 (counted from 0), `rating` f32,
    `timestamp` i64 (seconds; milliseconds where the law's grain is 0) and `variant` u32, noise that
    chooses words and order.
    """
    ends = np.cumsum(truth.activity)
    forced = _forced_rows(truth)
    first_user = 0
    while first_user < truth.size.n_users:
        before = int(ends[first_user - 1]) if first_user else 0
        last_user = max(
            first_user + 1, int(np.searchsorted(ends, before + BLOCK_ROWS, side="right"))
        )
        yield _block(truth, first_user, last_user, before, forced)
        first_user = last_user


def _forced_rows(truth: Truth) -> Ints:
    """Returns the rows, ascending, at which the one-hit items stand, one each in their order."""
    rng = generator(truth.seed, "one-hit")
    return np.sort(rng.permutation(truth.size.n_interactions)[: len(truth.one_hit)])


def _block(truth: Truth, first: int, last: int, before: int, forced: Ints) -> pl.DataFrame:
    rng = generator(truth.seed, "rows", first)
    activity = truth.activity[first:last]
    user = np.repeat(np.arange(first, last), activity)  # (rows,)
    when = _times(rng, truth, activity)  # (rows,) share of the whole period gone by
    late = rng.random(len(user)) < truth.size.drift * when
    topic = truth.favourite[user, late.astype(np.int64)]
    item = _distinct_items(rng, truth, user - first, topic)
    low, high = np.searchsorted(forced, (before, before + len(user)))
    item[forced[low:high] - before] = truth.one_hit[low:high]
    return pl.DataFrame(
        {
            "row": np.arange(before, before + len(user)),
            "user": user.astype(np.int32),
            "item": item.astype(np.int32),
            "rating": _ratings(rng, truth, user, item, when),
            "timestamp": _clock(rng, truth, when),
            "variant": rng.integers(0, 2**32, len(user), dtype=np.uint32),
        }
    )


def _times(rng: np.random.Generator, truth: Truth, activity: Ints) -> Times:
    """Returns when each row happened, 0 to 1 of the period: some users stay for days, some for years."""
    n, law = len(activity), truth.law
    start = rng.random(n) * 0.95
    length = (1.0 - start) * rng.random(n)
    starts = np.cumsum(activity) - activity  # (users,) first row of each
    position = np.arange(int(activity.sum())) - np.repeat(starts, activity)
    if not law.sessions:
        return np.repeat(start, activity) + np.repeat(length, activity) * rng.random(len(position))
    n_sessions = 1 + (rng.random(n) * (activity // 12)).astype(np.int64)
    offset = np.cumsum(n_sessions) - n_sessions
    which = position * np.repeat(n_sessions, activity) // np.repeat(activity, activity)
    opened = rng.random(int(n_sessions.sum()))[np.repeat(offset, activity) + which]
    # Seven ratings fall on five submitted pages, ten seconds and more apart.
    pages = (position * 5 // 7) * (10.0 / (law.last - law.first))
    when: Times = np.repeat(start, activity) + np.repeat(length, activity) * opened * 0.98
    when += np.minimum(pages, 0.01)
    return when.clip(max=1.0)


def _clock(rng: np.random.Generator, truth: Truth, when: Times) -> Ints:
    law = truth.law
    seconds = law.first + when * (law.last - law.first)
    if law.grain == 0:
        return np.floor(seconds * 1000.0).astype(np.int64)
    return np.floor(seconds / law.grain).astype(np.int64) * law.grain


def _ratings(rng: np.random.Generator, truth: Truth, user: Ints, item: Ints, when: Times) -> Floats:
    """Returns stars: the mean, biases, the product of that day's tastes and the item, and noise."""
    law, size = truth.law, truth.size
    moved = (size.drift * when).astype(np.float32)
    affinity = np.zeros(len(user), dtype=np.float32)
    for k in range(size.n_factors):  # not a matrix product: its rounding differs between machines
        then, later = truth.user_factors[user, 0, k], truth.user_factors[user, 1, k]
        affinity += (then + moved * (later - then)) * truth.item_factors[item, k]
    affinity *= np.float32(1.0 / np.sqrt(size.n_factors))
    stars: Floats = np.float32(law.mean) + np.float32(law.spread) * affinity
    stars += truth.user_bias[user] + truth.item_bias[item]
    stars += np.float32(size.noise) * near_normal(rng, (len(user),))
    stars = np.rint(stars / np.float32(law.step)) * np.float32(law.step)
    stars = stars.clip(law.lowest, 5.0).astype(np.float32)
    if law.top_share:
        stars[rng.random(len(user)) < law.top_share] = 5.0
    return stars


def _distinct_items(rng: np.random.Generator, truth: Truth, user: Ints, topic: Ints) -> Ints:
    """Returns an item for each row, by popularity inside its topic (or of all), distinct per user."""
    n_items = truth.size.n_items
    order = np.argsort(truth.topic, kind="stable")
    edges = np.concatenate([[0], np.cumsum(truth.popularity[order])])  # (n_items + 1,)
    bounds = edges[np.searchsorted(truth.topic[order], np.arange(truth.size.n_topics + 1))]
    item = np.full(len(user), -1, dtype=np.int64)
    taken = np.empty(0, dtype=np.int64)  # sorted keys of pairs so far
    waiting = np.arange(len(user))
    for turn in range(ROUNDS):
        # Who has most of the favourite topic already looks elsewhere in the last rounds.
        focus = rng.random(len(waiting)) < (FOCUS if turn < ROUNDS - 3 else 0.0)
        low = np.where(focus, bounds[topic[waiting]], 0)
        high = np.where(focus, bounds[topic[waiting] + 1], edges[-1])
        drawn = low + (rng.random(len(waiting)) * (high - low)).astype(np.int64)
        found = order[np.searchsorted(edges, drawn, side="right") - 1]
        key = user[waiting] * n_items + found
        fresh = _first_of_equals(key) & ~_contains(taken, key)
        item[waiting[fresh]] = found[fresh]
        taken = np.sort(np.concatenate([taken, key[fresh]]), kind="stable")
        waiting = waiting[~fresh]
        if not len(waiting):
            return item
    _fill_in(rng, truth, user, item, waiting)
    return item


def _first_of_equals(key: Ints) -> npt.NDArray[np.bool_]:
    order = np.argsort(key, kind="stable")
    first = np.empty(len(key), dtype=np.bool_)
    first[order] = np.concatenate([[True], key[order][1:] != key[order][:-1]])
    return first


def _contains(taken: Ints, key: Ints) -> npt.NDArray[np.bool_]:
    if not len(taken):
        return np.zeros(len(key), dtype=np.bool_)
    at = np.minimum(np.searchsorted(taken, key), len(taken) - 1)
    found: npt.NDArray[np.bool_] = taken[at] == key
    return found


def _fill_in(rng: np.random.Generator, truth: Truth, user: Ints, item: Ints, waiting: Ints) -> None:
    """Gives the waiting rows of each user items that the user has not, drawn by popularity.

    Exact sampling without replacement, over a (user, item) table of some users at a time: the items
    of the smallest (uniform / popularity) are an order drawn by weights.
    """
    n_items = truth.size.n_items
    users, row_of = np.unique(user[waiting], return_inverse=True)
    rank = np.arange(len(waiting)) - np.searchsorted(row_of, row_of)  # 0, 1, … within each user
    placed = np.flatnonzero((item >= 0) & np.isin(user, users))
    step = max(1, CELLS // n_items)
    for low in range(0, len(users), step):
        some = users[low : low + step]
        key = -np.log1p(-rng.random((len(some), n_items))) / np.maximum(truth.popularity, 1e-9)
        mine = placed[np.isin(user[placed], some)]
        key[np.searchsorted(some, user[mine]), item[mine]] = np.inf
        key[:, truth.popularity == 0] = np.inf
        best = np.argsort(key, axis=1, kind="stable")
        rows = (row_of >= low) & (row_of < low + step)
        item[waiting[rows]] = best[row_of[rows] - low, rank[rows]]
