"""Metrics beyond accuracy: what is recommended, to whom, how popular, how varied, how fitting.

Two kinds. Of each user's list: float64 (n_users,), NaN where it is undefined. Of all lists together:
one number from the exposure, int64 (n_items,), how many lists have the item among their first k.
Neither looks at the truth, but `serendipity`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fedeval.catalogue import Catalogue
from fedeval.ids import Ints

__all__ = [
    "Shelf",
    "aplt",
    "arp",
    "calibration",
    "coverage",
    "coverage_all",
    "entropy",
    "gini",
    "intra_list_categories",
    "intra_list_embeddings",
    "novelty",
    "popularity_lift",
    "serendipity_categories",
    "serendipity_embeddings",
    "user_coverage",
]

Floats = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Distance = Callable[[Ints, Ints], Floats]

CELLS = 1 << 23
"""Numbers of a block of users that are in memory at a time."""

SMOOTHING = 0.01
"""α of calibration: the share of the history's distribution that is mixed into the list's."""


@dataclass(frozen=True, eq=False)
class Shelf:
    """The lists of a block of users as a metric beyond accuracy sees them.

    items: int32 (depth, n_users), codes of the catalogue, -1 behind a list's end · begin: the row
    of the first user · hit_row, hit_rank: int, one for each hit.
    """

    items: Ints
    begin: int
    catalogue: Catalogue
    hit_row: Longs
    hit_rank: Longs

    @property
    def n_users(self) -> int:
        return int(self.items.shape[1])

    def mean(self, values: Floats, k: int | None) -> Floats:
        """Returns float64 (n_users,): the mean of a value of each item over the list's first k."""
        total, count = np.zeros(self.n_users), np.zeros(self.n_users)
        padded = np.append(values, 0.0)
        for items in self.items[:k]:
            total += padded[items]
            count += items >= 0
        return _ratio(total, count)

    def blocks(self, cells_of_user: int) -> Iterator[tuple[int, int]]:
        """Yields first and last + 1 of as many users as memory is for."""
        step = max(1, CELLS // max(cells_of_user, 1))
        for start in range(0, self.n_users, step):
            yield start, min(start + step, self.n_users)


# --- of all lists together -----------------------------------------------------------------------------


def coverage(exposure: Longs, catalogue: Catalogue) -> float:
    """Share of the training items that at least one list has among its first k.

    Equals `ItemCoverage` of RecBole where lists are full.
    Reference: Herlocker et al., "Evaluating collaborative filtering recommender systems", TOIS 2004.
    """
    return _share(exposure, catalogue.in_train)


def coverage_all(exposure: Longs, catalogue: Catalogue) -> float:
    """Share of all items, trained on or not, that at least one list has among its first k.

    Equals, under the policy of `PRESETS`: `rectools` (`coverage_normalized`).
    Reference: Herlocker et al., TOIS 2004.
    """
    assert catalogue.in_items is not None
    return _share(exposure, catalogue.in_items)


def gini(exposure: Longs, catalogue: Catalogue) -> float:
    """Gini index of the exposure of training items: Σ_i (2i − n − 1) x_i / (n Σ x), x ascending.

    0: every item is recommended as often; 1 − 1/n: one item alone. Items never recommended count.
    NaN where nothing is recommended.
    Equals `GiniIndex` of RecBole where lists are full.
    Reference: Fleder & Hosanagar, "Blockbuster culture's next rise or fall", Management Science 2009.
    """
    counts = np.sort(exposure[catalogue.in_train]).astype(np.float64)
    n, total = len(counts), counts.sum()
    place = np.arange(1, n + 1)
    return float((2 * place - n - 1) @ counts / (n * total)) if total else float("nan")


def entropy(exposure: Longs, catalogue: Catalogue) -> float:
    """Shannon entropy of the exposure, in bits: −Σ p log2 p, p an item's share of all places.

    0: one item alone; log2 n: n items equally often. NaN where nothing is recommended.
    Reference: Shani & Gunawardana, "Evaluating recommendation systems", Handbook 2011, section 8.3.2.
    """
    counts = exposure[exposure > 0].astype(np.float64)
    if not counts.size:
        return float("nan")
    p = counts / counts.sum()
    return float(-(p @ np.log2(p))) + 0.0


# --- of each list --------------------------------------------------------------------------------------


def user_coverage(shelf: Shelf, k: int | None) -> Floats:
    """1 if the user has a list, else 0: the mean is the share of users who are served.

    Equals, under the policy of `PRESETS`: `rectools` (`covered_users`).
    Reference: Shani & Gunawardana, "Evaluating recommendation systems", Recommender Systems Handbook,
    2011.
    """
    served: Floats = (shelf.items[0] >= 0).astype(np.float64)
    return served


def arp(shelf: Shelf, k: int | None) -> Floats:
    """Average recommendation popularity: the mean number of training users of the first k items.

    Reference: Yin, Cui, Li, Yao, Chen, "Challenging the long tail recommendation", VLDB 2012.
    """
    return shelf.mean(shelf.catalogue.popularity.astype(np.float64), k)


def popularity_lift(shelf: Shelf, k: int | None) -> Floats:
    """Popularity bias: mean popularity of the first k items over that of the user's training items, − 1.

    0: as popular as what the user had. NaN for a user without training rows.
    Reference: Abdollahpouri, Mansoury, Burke, Mobasher, "The connection between popularity bias,
    calibration, and fairness in recommendation", RecSys 2020.
    """
    user, item = shelf.catalogue.history_of(shelf.begin, shelf.begin + shelf.n_users)
    popularity = shelf.catalogue.popularity
    total = np.bincount(user, weights=popularity[item], minlength=shelf.n_users)
    own = _ratio(total, np.bincount(user, minlength=shelf.n_users))
    lift: Floats = arp(shelf, k) / own - 1
    return lift


def aplt(shelf: Shelf, k: int | None, head: float = 0.8) -> Floats:
    """Average percentage of long-tail items: the share of the first k items outside the short head.

    The short head: the fewest most popular items that have a share `head` of all training rows (of
    equally popular items the lower id first). `aplt` has 0.8, `aplt.5` has 0.5.
    Reference: Abdollahpouri, Burke, Mobasher, "Controlling popularity bias in learning-to-rank
    recommendation", RecSys 2017.
    """
    popularity = shelf.catalogue.popularity
    order = np.argsort(-popularity, kind="stable")
    before = np.cumsum(popularity[order]) - popularity[order]
    tail = np.ones(len(popularity))
    tail[order[before < head * popularity.sum()]] = 0
    return shelf.mean(tail, k)


def novelty(shelf: Shelf, k: int | None) -> Floats:
    """Mean inverse user frequency: the mean over the first k items of −log2(users who had it / users).

    An item without a training row counts as one that a single user had.
    Reference: Zhou et al., "Solving the apparent diversity-accuracy dilemma of recommender systems",
    PNAS 2010; Castells, Hurley, Vargas, Handbook 2015.
    """
    users = np.maximum(shelf.catalogue.popularity, 1) / max(shelf.catalogue.n_train_users, 1)
    return shelf.mean(-np.log2(users) + 0.0, k)


def intra_list_embeddings(shelf: Shelf, k: int | None) -> Floats:
    """Intra-list diversity: the mean of 1 − cos over all pairs of the first k items' embeddings.

    Items without an embedding are passed over; NaN where fewer than two are left. For unit vectors the
    sum over pairs is (|Σ e|² − m) / 2, so no pair is looked at.
    Reference: Ziegler, McNee, Konstan, Lausen, "Improving recommendation lists through topic
    diversification", WWW 2005.
    """
    embeddings, has = shelf.catalogue.embeddings, shelf.catalogue.has_embedding
    assert embeddings is not None
    assert has is not None
    value = np.empty(shelf.n_users)
    for start, end in shelf.blocks(2 * embeddings.shape[1]):
        total, count = np.zeros((end - start, embeddings.shape[1])), np.zeros(end - start)
        for items in shelf.items[:k, start:end]:
            there = (items >= 0) & has[items]
            total[there] += embeddings[items[there]]
            count += there
        pairs = count * (count - 1)
        similar = np.einsum("ij,ij->i", total, total) - count
        value[start:end] = _ratio(pairs - similar, pairs)
    return value


def intra_list_categories(shelf: Shelf, k: int | None) -> Floats:
    """Intra-list diversity: the mean of 1 − Jaccard over all pairs of the first k items' categories.

    Items without a category are passed over; NaN where fewer than two are left.
    Reference: Ziegler et al., WWW 2005.
    """
    table = _table(shelf)
    sizes = table.sum(axis=1)
    value = np.empty(shelf.n_users)
    listed = shelf.items[:k]
    depth = len(listed)
    for start, end in shelf.blocks(depth * (table.shape[1] + depth)):
        items = listed[:, start:end].T  # (users, depth)
        there = (items >= 0) & (sizes[items] > 0)
        have = np.where(
            there[:, :, None], table[items], np.float32(0)
        )  # (users, depth, categories)
        both = have @ have.transpose(0, 2, 1)
        size = have.sum(axis=2)
        either = size[:, :, None] + size[:, None, :] - both
        paired = there[:, :, None] & there[:, None, :] & ~np.eye(depth, dtype=bool)
        far = np.where(paired, 1 - both / np.maximum(either, 1), 0).sum(
            axis=(1, 2), dtype=np.float64
        )
        value[start:end] = _ratio(far, paired.sum(axis=(1, 2)))
    return value


def serendipity_embeddings(shelf: Shelf, k: int | None) -> Floats:
    """Σ_{r ≤ k} rel_r min_h (1 − cos(i_r, h)) / k over training items h: relevant, and unlike all before.

    NaN for a user without training rows with an embedding, or with a hit without one.
    Reference: Kaminskas & Bridge, "Diversity, serendipity, novelty, and coverage", TiiS 2016, 3.2.
    """
    embeddings, has = shelf.catalogue.embeddings, shelf.catalogue.has_embedding
    assert embeddings is not None
    assert has is not None

    def distance(a: Ints, b: Ints) -> Floats:
        apart: Floats = 1 - np.einsum("ij,ij->i", embeddings[a], embeddings[b], dtype=np.float64)
        return apart

    return _serendipity(shelf, k, has, distance, embeddings.shape[1])


def serendipity_categories(shelf: Shelf, k: int | None) -> Floats:
    """Σ_{r ≤ k} rel_r min_h (1 − Jaccard(i_r, h)) / k over training items h, by categories.

    NaN for a user without training rows with a category, or with a hit without one.
    Reference: Kaminskas & Bridge, TiiS 2016, section 3.2.
    """
    table = _table(shelf)
    sizes = table.sum(axis=1)

    def distance(a: Ints, b: Ints) -> Floats:
        both = (table[a] & table[b]).sum(axis=1)
        apart: Floats = 1 - both / np.maximum(sizes[a] + sizes[b] - both, 1)
        return apart

    return _serendipity(shelf, k, sizes > 0, distance, table.shape[1])


def calibration(shelf: Shelf, k: int | None) -> Floats:
    """Miscalibration of categories: Σ_c p(c) log(p(c) / q̃(c)), q̃ = 0.99 q + 0.01 p; 0 is best.

    p: the user's training items, q: the first k; an item with m categories gives each 1/m. Natural
    logarithm. NaN for a user whose training items, or whose list, have no category.
    Reference: Steck, "Calibrated recommendations", RecSys 2018, equations 2 to 5.
    """
    table = _table(shelf)
    value = np.empty(shelf.n_users)
    for start, end in shelf.blocks(4 * table.shape[1]):
        listed = shelf.items[:k, start:end]
        rank, user = np.nonzero(listed >= 0)
        q = _distribution(user, listed[rank, user], table, end - start)
        p = _distribution(
            *shelf.catalogue.history_of(shelf.begin + start, shelf.begin + end), table, end - start
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where(p > 0, p * np.log(p / ((1 - SMOOTHING) * q + SMOOTHING * p)), 0)
        undefined = ~(p.sum(axis=1) > 0) | ~(q.sum(axis=1) > 0)  # also where there is no category
        value[start:end] = np.where(undefined, np.nan, terms.sum(axis=1))
    return value


def _table(shelf: Shelf) -> Mask:
    assert shelf.catalogue.categories is not None
    return shelf.catalogue.categories


def _distribution(user: Longs, item: Ints, table: Mask, n_users: int) -> Floats:
    """Rows that sum to 1: float64 (n_users, n_categories), NaN for users without a category."""
    total = np.zeros((n_users, table.shape[1]))
    order = np.argsort(user, kind="stable")
    user, item = user[order], item[order]
    step = max(1, CELLS // max(table.shape[1], 1))
    for start in range(0, len(user), step):
        rows = user[start : start + step]
        first = np.flatnonzero(np.append(True, rows[1:] != rows[:-1]))
        parts = table[item[start : start + step]].astype(np.float64)
        parts /= np.maximum(parts.sum(axis=1, keepdims=True), 1)
        total[rows[first]] += np.add.reduceat(parts, first, axis=0)
    with np.errstate(invalid="ignore"):
        total /= total.sum(axis=1, keepdims=True)
    return total


def _serendipity(
    shelf: Shelf, k: int | None, known: npt.NDArray[np.bool_], distance: Distance, width: int
) -> Floats:
    end = len(shelf.items) if k is None else k
    inside = shelf.hit_rank <= end
    user, item = (
        shelf.hit_row[inside],
        shelf.items[shelf.hit_rank[inside] - 1, shelf.hit_row[inside]],
    )
    history_user, history = shelf.catalogue.history_of(shelf.begin, shelf.begin + shelf.n_users)
    history_user, history = history_user[known[history]], history[known[history]]
    sizes = np.bincount(history_user, minlength=shelf.n_users)
    starts = np.cumsum(sizes) - sizes
    surprise = np.full(len(user), np.inf)
    # Every hit against every training item of its user, so many pairs at a time.
    pairs = np.cumsum(sizes[user])
    step = max(1, CELLS // max(width, 1))
    begin = 0
    while begin < len(user):
        done = pairs[begin - 1] if begin else 0
        stop = max(begin + 1, int(np.searchsorted(pairs, done + step, side="right")))
        count = sizes[user[begin:stop]]
        hit = np.repeat(np.arange(begin, stop), count)
        nth = np.arange(len(hit)) - np.repeat(np.cumsum(count) - count, count)
        far = distance(item[hit], history[starts[user[hit]] + nth])
        np.minimum.at(surprise, hit, far)
        begin = stop
    unknown = np.bincount(user, weights=~known[item], minlength=shelf.n_users) > 0
    total = np.bincount(user, weights=surprise, minlength=shelf.n_users)
    length = np.minimum((shelf.items[:end] >= 0).sum(axis=0), end) if k is None else end
    value = total / np.maximum(length, 1)
    return np.where((sizes == 0) | unknown, np.nan, value)


def _ratio(value: npt.NDArray[Any], below: npt.NDArray[Any]) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below > 0, value / below, np.nan)


def _share(exposure: Longs, wanted: Mask) -> float:
    n = int(wanted.sum())
    return int(np.count_nonzero(exposure[wanted])) / n if n else float("nan")
