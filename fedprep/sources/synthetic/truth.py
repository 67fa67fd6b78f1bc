"""Planted truth: who likes what, and when — the numbers behind the raw files.

An item has a topic, a popularity (rank^-power) and latent factors near its topic's; a user has a
favourite topic and factors on the first day and others on the last. A rating is the product of the
factors of that day plus biases plus noise; see `rows`.

Only elementwise float arithmetic is used (no BLAS, no exp, no ziggurat), and popularity is rounded to
integers, so that equal seeds give equal truth on every machine.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedprep import recipe
from fedprep.errors import RecipeError
from fedprep.sources.synthetic.laws import Law

__all__ = ["Truth", "generator", "near_normal", "plant_truth"]

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

TOPIC_PART = 0.8  # of an item's factors, and of a user's: the rest is their own


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The planted numbers; users and items are counted from 0.

    topic: int64 (n_items,). popularity: int64 (n_items,), proportional to rank^-power, 0 for one-hit
    items. item_factors: (n_items, k). favourite: int64 (n_users, 2), topics on the first and the last
    day. user_factors: (n_users, 2, k), likewise. activity: int64 (n_users,), rows of each user.
    one_hit: the items that get exactly one row each; pictured: bool (n_items,).
    """

    law: Law
    size: recipe.Synthetic
    seed: int
    topic: Ints
    popularity: Ints
    item_factors: Floats
    item_bias: Floats
    favourite: Ints
    user_factors: Floats
    user_bias: Floats
    activity: Ints
    one_hit: Ints
    pictured: npt.NDArray[np.bool_]


def generator(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """Returns the generator of one purpose (and block …), independent of all others."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *numbers])


def near_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Returns float32 of mean 0 and variance 1: four uniforms added, which is equal on every machine."""
    total = rng.random(shape, dtype=np.float32)
    for _ in range(3):
        total += rng.random(shape, dtype=np.float32)
    return (total - np.float32(2.0)) * np.float32(1.7320508)


def plant_truth(size: recipe.Synthetic, law: Law, *, seed: int) -> Truth:
    """Returns the truth from which every raw file of this size and seed is written.

    Raises:
        RecipeError: the interactions do not fit the users and items.
    """
    n_users, n_items = size.n_users, size.n_items
    _refuse_impossible(size)
    items, users = generator(seed, "items"), generator(seed, "users")
    order = items.permutation(n_items)
    popularity = np.empty(n_items, dtype=np.int64)
    # 2^30 for the first rank: a sum over a million items stays exact in float64.
    ranks = np.arange(1, n_items + 1, dtype=np.float64)
    popularity[order] = 1 + np.floor(2.0**30 * ranks**-size.power).astype(np.int64)
    topic = np.empty(n_items, dtype=np.int64)
    topic[order] = _round_robin(items, n_items, size.n_topics)
    one_hit = _one_hit(items, order, law, size)
    popularity[one_hit] = 0
    centre = near_normal(items, (size.n_topics, size.n_factors))
    favourite = _favourites(users, _sums(popularity, topic, size.n_topics), n_users)
    own = np.float32(np.sqrt(1.0 - TOPIC_PART**2))
    pictured = np.zeros(n_items, dtype=np.bool_)
    pictured[items.permutation(n_items)[: round(size.images * n_items)]] = True
    return Truth(
        law=law,
        size=size,
        seed=seed,
        topic=topic,
        popularity=popularity,
        item_factors=np.float32(TOPIC_PART) * centre[topic]
        + own * near_normal(items, (n_items, size.n_factors)),
        item_bias=np.float32(0.25) * near_normal(items, (n_items,)),
        favourite=favourite,
        user_factors=np.float32(TOPIC_PART) * centre[favourite]
        + own * near_normal(users, (n_users, 2, size.n_factors)),
        user_bias=np.float32(0.25) * near_normal(users, (n_users,)),
        activity=_activity(users, size, law, n_items - len(one_hit)),
        one_hit=one_hit,
        pictured=pictured,
    )


def _refuse_impossible(size: recipe.Synthetic) -> None:
    most = size.n_users * size.n_items
    if not size.n_users <= size.n_interactions <= most:
        raise RecipeError(
            f"{size.n_interactions:,} interactions do not fit {size.n_users:,} users "
            f"and {size.n_items:,} items",
            where="source.synthetic.n_interactions",
            expected=f"{size.n_users:,} (one a user) to {most:,} (every pair once)",
        )


def _round_robin(rng: np.random.Generator, n: int, k: int) -> Ints:
    """Returns the topic of each popularity rank: each topic once, in a new order, every k ranks."""
    rounds = -(-n // k)
    return rng.permuted(np.tile(np.arange(k), (rounds, 1)), axis=1).ravel()[:n]


def _one_hit(rng: np.random.Generator, order: Ints, law: Law, size: recipe.Synthetic) -> Ints:
    """Returns the items that get one row each, from the unpopular half; none without the fault."""
    n = min(round(law.one_hit_items * size.n_items), size.n_items // 2, size.n_interactions // 4)
    return np.sort(rng.permutation(order[size.n_items // 2 :])[:n])


def _sums(values: Ints, group: Ints, n_groups: int) -> npt.NDArray[np.float64]:
    return np.bincount(group, values, n_groups).astype(np.float64)


def _favourites(rng: np.random.Generator, share: npt.NDArray[np.float64], n_users: int) -> Ints:
    """Returns (n_users, 2): a topic for the first day and one for the last.

    The early topics of the list go out of fashion and the late ones come in, so drift shows in the
    whole data as well as in each user; the mean of both days follows the topics' popularity.
    """
    slope = np.linspace(-0.5, 0.5, len(share))
    picks = [
        np.searchsorted(cumulative, rng.random(n_users) * cumulative[-1], side="right")
        for cumulative in (np.cumsum(share * (1 - slope)), np.cumsum(share * (1 + slope)))
    ]
    return np.stack(picks, axis=1)


def _activity(rng: np.random.Generator, size: recipe.Synthetic, law: Law, n_items: int) -> Ints:
    """Returns rows per user: a Pareto law of index 2 above the edition's least, summing exactly."""
    n, total = size.n_users, size.n_interactions
    mean = total / n
    cap = min(n_items, max(n_items // 2, int(1.5 * mean) + 1)) if not law.lonely_users else n_items
    weight = np.sqrt(n / np.arange(1, n + 1, dtype=np.float64))[rng.permutation(n)]
    least = np.full(n, max(1, min(law.least, int(mean / 2))), dtype=np.int64)
    most = np.full(n, cap, dtype=np.int64)
    lonely = rng.permutation(n)[: min(round(law.lonely_users * n), _most_lonely(n, total, cap))]
    least[lonely] = most[lonely] = 1
    low, high = 0.0, float(total)
    for _ in range(100):  # the scale at which the capped law sums to the total
        scale = (low + high) / 2
        if int(_scaled(weight, scale, least, most).sum()) <= total:
            low = scale
        else:
            high = scale
    counts = _scaled(weight, low, least, most)
    while (missing := total - int(counts.sum())) > 0:
        room = np.flatnonzero(counts < most)
        if not len(room):
            raise RecipeError(
                f"{total:,} interactions do not fit {n:,} users with the faults asked for",
                where="source.synthetic",
                hint="ask for fewer interactions, or for more items",
            )
        counts[room[:missing]] += 1
    return counts


def _most_lonely(n: int, total: int, cap: int) -> int:
    """Returns how many of n users may have a single row so that the others can hold the rest."""
    return max(0, (n * cap - total) // max(1, cap - 1))


def _scaled(weight: npt.NDArray[np.float64], scale: float, least: Ints, most: Ints) -> Ints:
    return np.clip(np.floor(scale * weight), least, most).astype(np.int64)
