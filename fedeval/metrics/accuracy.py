"""Metrics of accuracy: is what the user chose near the top of the list?

Below, `rel_r` is 1 where the item at rank r is relevant, `g_r` its relevance, R the number of the user's
relevant items, n the length of the list, and D(r) = 1 / log2(r + 1). Every function returns float64
(n_users,), NaN where a user has no relevant item.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fedeval.hits import Hits

__all__ = [
    "average_precision",
    "hit_rate",
    "ndcg",
    "ndcg_exp",
    "ndcg_graded",
    "precision",
    "r_precision",
    "rank_biased_precision",
    "recall",
    "recall_capped",
    "reciprocal_rank",
]

Floats = npt.NDArray[np.float64]
Gain = Callable[[Floats], Floats]


@functools.lru_cache
def discounts(depth: int, kind: str) -> Floats:
    """Returns float64 (depth,): the weight of each rank in a discounted gain."""
    rank = np.arange(1, depth + 1, dtype=np.float64)
    below = np.log2(rank + 1) if kind == "log2(r+1)" else np.maximum(np.log2(rank), 1)
    return 1 / below


def ndcg(hits: Hits, k: int | None) -> Floats:
    """Normalised discounted cumulative gain, binary: Σ_{r ≤ k} rel_r D(r) / Σ_{r ≤ min(k, R)} D(r).

    Reference: Järvelin & Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002.
    """
    depth = _ideal_depth(hits, k)
    best = np.append(0, np.cumsum(discounts(max(depth, 1), hits.policy.discount)))
    reach = np.minimum(hits.n_relevant, depth)
    if hits.policy.ideal == "k":
        reach = np.full_like(reach, depth)
    weights = discounts(hits.depth, hits.policy.discount)
    return _ratio(hits, hits.total(k, weights), best[reach])


def ndcg_graded(hits: Hits, k: int | None) -> Floats:
    """NDCG with linear gain: `g_r` for rel_r, and the ideal list has the largest relevances first."""
    return _graded(hits, k, lambda gain: gain)


def ndcg_exp(hits: Hits, k: int | None) -> Floats:
    """NDCG with exponential gain: 2^g_r − 1 for rel_r.

    Reference: Burges et al., "Learning to rank using gradient descent", ICML 2005.
    """
    return _graded(hits, k, lambda gain: np.exp2(gain) - 1)


def hit_rate(hits: Hits, k: int | None) -> Floats:
    """1 if a relevant item is among the first k, else 0. Called success or recall@k with one item."""
    return _ratio(hits, (hits.count(k) > 0).astype(np.float64), 1)


def recall(hits: Hits, k: int | None) -> Floats:
    """Σ_{r ≤ k} rel_r / R. Cannot reach 1 where R > k: see `recall_capped`."""
    return _ratio(hits, hits.count(k), hits.n_relevant)


def recall_capped(hits: Hits, k: int | None) -> Floats:
    """Σ_{r ≤ k} rel_r / min(k, R)."""
    reach = hits.n_relevant if k is None else np.minimum(hits.n_relevant, k)
    return _ratio(hits, hits.count(k), reach)


def precision(hits: Hits, k: int | None) -> Floats:
    """Σ_{r ≤ k} rel_r / k; a list shorter than k is not excused. Without k: over the list's length."""
    long = hits.length if k is None else np.full(hits.n_users, k)
    if k is not None and hits.policy.precision_over == "list":
        long = np.minimum(hits.length, k)
    return _ratio(hits, hits.count(k), np.maximum(long, 1))


def reciprocal_rank(hits: Hits, k: int | None) -> Floats:
    """1 / rank of the first relevant item among the first k, 0 where there is none.

    Reference: Voorhees, "The TREC-8 question answering track report", 1999.
    """
    value = np.zeros(hits.n_users)
    for rank in range(hits.depth if k is None else min(k, hits.depth), 0, -1):
        value[hits.at(rank)] = 1 / rank
    return _ratio(hits, value, 1)


def average_precision(hits: Hits, k: int | None) -> Floats:
    """Σ_{r ≤ k} rel_r P(r) / min(k, R), P(r) being the precision of the first r.

    Dividing by R alone, as trec_eval does, keeps a perfect list of k items below 1 where R > k.
    """
    total, so_far = np.zeros(hits.n_users), np.zeros(hits.n_users)
    for rank in range(1, (hits.depth if k is None else min(k, hits.depth)) + 1):
        at = hits.at(rank)
        so_far[at] += 1
        total[at] += so_far[at] / rank
    reach = hits.n_relevant if k is None else np.minimum(hits.n_relevant, k)
    if hits.policy.map_over == "relevant":
        reach = hits.n_relevant
    elif hits.policy.map_over == "k" and k is not None:
        reach = np.full(hits.n_users, k, np.int32)
    elif hits.policy.map_over == "min(list, relevant)":
        long = hits.length if k is None else np.minimum(hits.length, k)
        reach = np.minimum(long, hits.n_relevant)
    return _ratio(hits, total, np.maximum(reach, 1))


def r_precision(hits: Hits, k: None = None) -> Floats:
    """Σ_{r ≤ R} rel_r / R: precision where it equals recall. Takes no cut-off."""
    rank = np.repeat(np.arange(1, hits.depth + 1), np.diff(hits.starts))
    inside = rank <= hits.n_relevant[hits.row]
    found = np.bincount(hits.row[inside], minlength=hits.n_users).astype(np.float64)
    return _ratio(hits, found, hits.n_relevant)


def rank_biased_precision(hits: Hits, k: int | None, p: float = 0.8) -> Floats:
    """(1 − p) Σ_{r ≤ k} rel_r p^(r−1): what a reader finds who goes on to the next item with chance p.

    Reference: Moffat & Zobel, "Rank-biased precision for measurement of retrieval effectiveness", TOIS 2008.
    """
    weights = (1 - p) * p ** np.arange(hits.depth, dtype=np.float64)
    gain = hits.gain if hits.policy.rbp_gain == "graded" else None
    return _ratio(hits, hits.total(k, weights, gain), 1)


def _graded(hits: Hits, k: int | None, of: Gain) -> Floats:
    truth = hits.truth
    if truth.gain is None:
        return ndcg(hits, k)
    depth = _ideal_depth(hits, k)
    gain = of(np.maximum(truth.gain, 0))
    order = np.lexsort((-gain, truth.row))
    row = truth.row[order]
    start = np.cumsum(truth.n_relevant) - truth.n_relevant
    place = np.arange(len(row)) - start[row]
    inside = place < depth
    weights = discounts(max(depth, 1), hits.policy.discount)
    best = np.bincount(
        row[inside], weights=gain[order][inside] * weights[place[inside]], minlength=hits.n_users
    )
    assert hits.gain is not None
    found = hits.total(k, discounts(hits.depth, hits.policy.discount), of(np.maximum(hits.gain, 0)))
    return _ratio(hits, found, best)


def _ideal_depth(hits: Hits, k: int | None) -> int:
    """The longest ideal list: k, or all relevant items."""
    most = int(hits.n_relevant.max(initial=0))
    if k is None:
        return most
    return k if hits.policy.ideal == "k" else min(k, most)


def _ratio(hits: Hits, value: Floats, below: object) -> Floats:
    """value / below; NaN for users without a relevant item."""
    if hits.n_relevant.min(initial=1) > 0:
        return value / below  # type: ignore[no-any-return, operator]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(hits.n_relevant > 0, value / below, np.nan)  # type: ignore[operator]
