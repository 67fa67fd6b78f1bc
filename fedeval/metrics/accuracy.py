"""Metrics of accuracy: does what the user chose stand near the top of the list?

Below, `rel_r` is 1 where the item at rank r is relevant, `g_r` its relevance, R the number of the user's
relevant items, n the length of the list, and D(r) = 1 / log2(r + 1). Without a cut-off k the whole list
counts. Each function returns float64 (n_users,): NaN for a user without a relevant item, 0 for one
with such items and no list. `found` is `Hits`, or `Ties` for expected values over ties.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from fedeval.hits import Found, Hits, gained
from fedprep.errors import EvaluationError

__all__ = [
    "average_precision",
    "expected_reciprocal_rank",
    "f1",
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


def ndcg(found: Found, k: int | None) -> Floats:
    """Normalised discounted cumulative gain, binary: Σ_{r ≤ k} rel_r D(r) / Σ_{r ≤ min(k, R)} D(r).

    1 if the first min(k, R) items are all relevant. Graded relevance is read as yes or no.
    Equals, under the policy of `PRESETS`: `recbole`; `rectools`; `rectools, divide_by_achievable`
    (`ndcg|divide_by_achievable`); `lenskit`.
    Reference: Järvelin & Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002.
    """
    depth = _ideal_depth(found, k)
    kind = found.policy.discount
    best = np.append(0, np.cumsum(_discounts(depth, kind)))
    reach = np.minimum(found.n_relevant, depth)
    if found.policy.ideal == "k":
        reach = np.full_like(reach, depth)
    return _ratio(found, found.total(k, _discounts(found.depth, kind)), best[reach])


def ndcg_graded(found: Found, k: int | None) -> Floats:
    """NDCG with linear gain: g_r for rel_r; the ideal list has the largest relevances first.

    Equals `ndcg` where every relevance is 1.
    Equals, under the policy of `PRESETS`: `ranx` (`ndcg`); `trec_eval` (`ndcg`); `lenskit`; `sklearn`
    (`ndcg_graded(dense)`); `sklearn, ignore_ties` (`ndcg_graded(dense,ignore_ties)`).
    Reference: Järvelin & Kekäläinen, TOIS 2002; the gain of trec_eval.
    """
    return _graded(found, k, "linear")


def ndcg_exp(found: Found, k: int | None) -> Floats:
    """NDCG with exponential gain: 2^g_r − 1 for rel_r; the ideal list has the largest relevances first.

    Equals `ndcg` where every relevance is 1.
    Equals, under the policy of `PRESETS`: `ranx`.
    Reference: Burges et al., "Learning to rank using gradient descent", ICML 2005.
    """
    return _graded(found, k, "exponential")


def hit_rate(found: Found, k: int | None) -> Floats:
    """1 if any of the first k items is relevant, else 0; also called success@k.

    Equals `recall` where every user has one relevant item.
    Equals, under the policy of `PRESETS`: `ranx`; `trec_eval`; `recbole`; `rectools`; `lenskit`.
    Reference: Deshpande & Karypis, "Item-based top-N recommendation algorithms", TOIS 2004.
    """
    return _ratio(found, found.any(k), 1)


def recall(found: Found, k: int | None) -> Floats:
    """Σ_{r ≤ k} rel_r / R: the share of the relevant items that the list has. Below 1 where R > k.

    Equals, under the policy of `PRESETS`: `ranx`; `trec_eval`; `recbole`; `rectools`.
    Reference: Manning, Raghavan, Schütze, Introduction to Information Retrieval, 2008, section 8.3.
    """
    return _ratio(found, found.total(k), found.n_relevant)


def recall_capped(found: Found, k: int | None) -> Floats:
    """Σ_{r ≤ k} rel_r / min(k, R): recall that a perfect list of k items brings to 1.

    Equals, under the policy of `PRESETS`: `rectools` (`precision|r_precision`); `lenskit` (`recall`).
    Reference: Liang, Krishnan, Hoffman, Jebara, "Variational autoencoders for collaborative filtering",
    WWW 2018.
    """
    reach = found.n_relevant if k is None else np.minimum(found.n_relevant, k)
    return _ratio(found, found.total(k), reach)


def precision(found: Found, k: int | None) -> Floats:
    """Σ_{r ≤ k} rel_r / k. A list shorter than k is not excused; without k, divided by its length.

    Equals, under the policy of `PRESETS`: `ranx`; `trec_eval`; `recbole`; `rectools`; `lenskit`.
    Reference: Manning, Raghavan, Schütze, Introduction to Information Retrieval, 2008, section 8.3.
    """
    long: npt.NDArray[np.integer] | int = found.length if k is None else k
    if k is not None and found.policy.precision_over == "list":
        long = np.minimum(found.length, k)
    return _ratio(found, found.total(k), np.maximum(long, 1))


def f1(found: Found, k: int | None) -> Floats:
    """2 P R / (P + R) of precision P and recall R at k, which is 2 Σ_{r ≤ k} rel_r / (k + relevant items).

    0 where no item of the list is relevant. A short list is not excused; without k, its length stands for k.
    Reference: van Rijsbergen, Information Retrieval, 1979, chapter 7.
    """
    both = precision(found, k), recall(found, k)
    with np.errstate(invalid="ignore"):
        value = 2 * both[0] * both[1] / (both[0] + both[1])
    return np.where(both[0] + both[1] == 0, 0.0, value)


def expected_reciprocal_rank(found: Found, k: int | None) -> Floats:
    """Σ_{r ≤ k} 1/r · s_r Π_{i < r} (1 − s_i), with s_r = (2^g_r − 1) / 2^g_max.

    g_max is the largest relevance of the whole truth; where every relevance is 1, s is 1/2 at a relevant
    item. At most 1, which no list reaches. Undefined over ties (`ties="average"`): refused.
    Reference: Chapelle, Metzler, Zhang, Grinspan, "Expected reciprocal rank for graded relevance", CIKM 2009.

    Raises:
        EvaluationError: the policy averages over ties.
    """
    if not isinstance(found, Hits):
        raise EvaluationError(
            "err has no value over every order of ties", hint="take another ties than 'average'"
        )
    most = 1.0 if found.truth.gain is None else float(found.truth.gain.max(initial=0))
    gain = np.ones(len(found.row)) if found.gain is None else found.gain
    stops = np.exp2(gain - most) - np.exp2(-most)
    going, value = np.ones(len(found.n_relevant)), np.zeros(len(found.n_relevant))
    for rank in range(1, (found.depth if k is None else min(k, found.depth)) + 1):
        here = slice(found.starts[rank - 1], found.starts[rank])
        row = found.row[here]
        value[row] += going[row] * stops[here] / rank
        going[row] *= 1 - stops[here]
    return _ratio(found, value, 1)


def reciprocal_rank(found: Found, k: int | None) -> Floats:
    """1 / rank of the first relevant item among the first k, 0 where there is none.

    Equals, under the policy of `PRESETS`: `ranx`; `trec_eval` (`mrr(no cut)`); `recbole`; `rectools`;
    `lenskit`.
    Reference: Voorhees, "The TREC-8 question answering track report", TREC 1999.
    """
    return _ratio(found, found.reciprocal(k), 1)


def average_precision(found: Found, k: int | None) -> Floats:
    """Σ_{r ≤ k} rel_r P(r) / min(k, R), P(r) being the precision of the first r.

    Divided by R alone, as trec_eval does, a perfect list of k items would stay below 1 where R > k.
    Equals, under the policy of `PRESETS`: `ranx`; `trec_eval`; `recbole`; `rectools`; `rectools,
    divide_by_k` (`map|divide_by_k`); `lenskit`.
    Reference: Buckley & Voorhees, "Evaluating evaluation measure stability", SIGIR 2000.
    """
    relevant, below = found.n_relevant, found.n_relevant
    way = found.policy.map_over
    if way == "k" and k is not None:
        below = np.full_like(relevant, k)
    elif way == "min(k, relevant)" and k is not None:
        below = np.minimum(relevant, k)
    elif way == "min(list, relevant)":
        below = np.minimum(relevant, found.length if k is None else np.minimum(found.length, k))
    return _ratio(found, found.precisions(k), np.maximum(below, 1))


def r_precision(found: Found, k: None = None) -> Floats:
    """Σ_{r ≤ R} rel_r / R: the precision where it equals the recall. Takes no cut-off.

    Equals, under the policy of `PRESETS`: `ranx`; `trec_eval`.
    Reference: Buckley & Voorhees, SIGIR 2000.
    """
    return _ratio(found, found.until(found.n_relevant), found.n_relevant)


def rank_biased_precision(found: Found, k: int | None, p: float = 0.8) -> Floats:
    """(1 − p) Σ_{r ≤ k} rel_r p^(r−1): what a reader finds who goes on to the next item with chance p.

    `rbp` has p = 0.8, `rbp.95` has p = 0.95. Cut at k it stays below 1 − p^k.
    Equals, under the policy of `PRESETS`: `ranx` (`rbp.80`); `lenskit` (as `rbp.85`).
    Reference: Moffat & Zobel, "Rank-biased precision for measurement of retrieval effectiveness", TOIS 2008.
    """
    weights = (1 - p) * p ** np.arange(found.depth, dtype=np.float64)
    gain = "linear" if found.policy.rbp_gain == "graded" else "binary"
    return _ratio(found, found.total(k, weights, gain), 1)


@functools.lru_cache
def _discounts(depth: int, kind: str) -> Floats:
    """The weight of each rank: float64 (depth,)."""
    rank = np.arange(1, depth + 1, dtype=np.float64)
    below: Floats = np.log2(rank + 1) if kind == "log2(r+1)" else np.maximum(np.log2(rank), 1)
    return 1 / below


def _graded(found: Found, k: int | None, kind: str) -> Floats:
    truth = found.truth
    if truth.gain is None:
        return ndcg(found, k)
    depth = _ideal_depth(found, k)
    gain = gained(truth.gain, kind)
    order = np.lexsort((-gain, truth.row))
    row = truth.row[order]
    start = np.cumsum(truth.n_relevant) - truth.n_relevant
    place = np.arange(len(row)) - start[row]
    inside = place < depth
    parts = gain[order][inside] * _discounts(depth, found.policy.discount)[place[inside]]
    best = np.bincount(row[inside], weights=parts, minlength=len(truth.n_relevant))
    weights = _discounts(found.depth, found.policy.discount)
    return _ratio(found, found.total(k, weights, kind), best)


def _ideal_depth(found: Found, k: int | None) -> int:
    """The length of the longest ideal list."""
    most = int(found.n_relevant.max(initial=0))
    if k is None:
        return most
    return k if found.policy.ideal == "k" else min(k, most)


def _ratio(found: Found, value: Floats, below: npt.NDArray[np.generic] | int) -> Floats:
    """value / below; NaN for users without a relevant item, or with none of a gain above 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.divide(value, below)
    return ratio if found.n_relevant.all() else np.where(found.n_relevant > 0, ratio, np.nan)
