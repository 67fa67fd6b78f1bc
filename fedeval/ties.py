"""Items of equal score stand in every order at once: metrics as expected values over all orders.

A group of m tied items, h of them relevant, takes the places s+1 … s+m of a list. At its i-th place (from
0) stands a relevant item with chance h/m; none has stood there before with chance Π_{j<i} (m−h−j)/(m−j);
and before a relevant item there stand i (h−1)/(m−1) others of the group in expectation.

Reference: McSherry & Najork, "Computing information retrieval performance measures efficiently in the
presence of tied scores", ECIR 2008.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.hits import GAINS, Truth, gained
from fedeval.ids import EMPTY, Ints
from fedeval.policy import Policy
from fedprep.errors import EvaluationError

__all__ = ["Groups", "Ties", "auc_of", "groups_of", "ties_of"]

Floats = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Groups:
    """Runs of tied items, list by list, in order.

    row, start, size, hits: int64 (n_groups,): the user, the places before it, its items, the relevant
    ones · gain: float64 (n_groups,) by kind, summed over it · length, found: int64 (n_users,): items
    and relevant items of each list.
    """

    row: Longs
    start: Longs
    size: Longs
    hits: Longs
    gain: dict[str, Floats]
    length: Longs
    found: Longs


def groups_of(rows: pl.DataFrame, truth: Truth, *, n_candidates: int | None = None) -> Groups:
    """Returns the tied groups of sorted lists.

    Args:
        rows: `row`, `item`, `key` of all users, sorted by row and key.
        truth: the relevant items.
        n_candidates: items that there are; those a list leaves out are tied behind it. None: they
            are missing.
    """
    n = len(truth.n_relevant)
    row, item, key = (rows[name].to_numpy() for name in ("row", "item", "key"))
    pairs = _pairs(row, item)
    ordered = np.sort(pairs)
    if (ordered[1:] == ordered[:-1]).any():
        first = pl.Series(pairs).is_first_distinct().to_numpy()
        row, item, key, pairs = row[first], item[first], key[first], pairs[first]
    relevance = np.ones(len(truth.row)) if truth.gain is None else truth.gain
    known = _pairs(truth.row, truth.item)
    at = np.minimum(np.searchsorted(known, pairs), max(len(known) - 1, 0))
    hit = known[at] == pairs if len(known) else np.zeros(len(pairs), bool)
    begin = np.append(True, (row[1:] != row[:-1]) | (key[1:] != key[:-1]))[: len(row)]
    first = np.flatnonzero(begin)
    group = np.cumsum(begin) - 1
    length = np.bincount(row, minlength=n)
    found = np.bincount(row[hit], minlength=n)
    of_group, n_groups = row[first].astype(np.int64), len(first)
    start = first - (np.cumsum(length) - length)[of_group]
    gain = {
        kind: np.bincount(
            group[hit], weights=gained(relevance[at[hit]], kind), minlength=n_groups
        ).astype(np.float64)
        for kind in GAINS[1:]
    }
    groups = Groups(
        of_group, start, np.diff(np.append(first, len(row))),
        np.bincount(group[hit], minlength=n_groups), gain, length, found,
    )  # fmt: skip
    return groups if n_candidates is None else _with_unlisted(groups, truth, n_candidates)


def _with_unlisted(groups: Groups, truth: Truth, n_candidates: int) -> Groups:
    left = n_candidates - groups.length
    if (truth.n_relevant - groups.found > left).any():
        raise EvaluationError(
            f"there are only {n_candidates:,} items, too few for a list and what it leaves out",
            hint="pass all items that could have been recommended",
        )
    relevance = np.ones(len(truth.row)) if truth.gain is None else truth.gain
    n, users = len(left), np.flatnonzero(left > 0)
    missed = {}
    for kind, found in groups.gain.items():
        all_of_it = np.bincount(truth.row, weights=gained(relevance, kind), minlength=n)
        missed[kind] = (all_of_it - np.bincount(groups.row, weights=found, minlength=n))[users]
    row = np.append(groups.row, users)
    order = np.argsort(row, kind="stable")  # a user's last group is the one of the unlisted
    return Groups(
        row[order],
        np.append(groups.start, groups.length[users])[order],
        np.append(groups.size, left[users])[order],
        np.append(groups.hits, (truth.n_relevant - groups.found)[users])[order],
        {kind: np.append(groups.gain[kind], missed[kind])[order] for kind in missed},
        groups.length + np.maximum(left, 0),
        truth.n_relevant.astype(np.int64),
    )


def _pairs(row: Ints, item: Ints) -> Longs:
    return (row.astype(np.int64) << 32) + (item.astype(np.int64) - EMPTY)


@dataclass(frozen=True, eq=False)
class Ties:
    """Expected values at each place of each list: float64 (depth, n_users).

    share: of a relevant item · gains: of the relevance, by kind · none: that no earlier place has a
    relevant item · precision: of a relevant item there, times the precision up to it.
    """

    truth: Truth
    policy: Policy
    n_relevant: Ints
    length: Ints
    share: Floats
    gains: dict[str, Floats]
    none: Floats
    precision: Floats

    @property
    def depth(self) -> int:
        return len(self.share)

    def total(self, k: int | None, weights: Floats | None = None, gain: str = "binary") -> Floats:
        values = self.share if gain == "binary" else self.gains[gain]
        used = np.ones(self.depth) if weights is None else weights[: self.depth]
        summed: Floats = used[:k] @ values[:k]
        return summed

    def any(self, k: int | None) -> Floats:
        last: Floats = self.none[self.depth if k is None else min(k, self.depth)]
        return 1 - last

    def reciprocal(self, k: int | None) -> Floats:
        first = self.none[:-1] - self.none[1:]
        summed: Floats = (1 / np.arange(1, self.depth + 1))[:k] @ first[:k]
        return summed

    def precisions(self, k: int | None) -> Floats:
        summed: Floats = self.precision[:k].sum(axis=0)
        return summed

    def until(self, ranks: Ints) -> Floats:
        inside = np.arange(1, self.depth + 1)[:, None] <= ranks
        summed: Floats = (self.share * inside).sum(axis=0)
        return summed


def ties_of(groups: Groups, truth: Truth, policy: Policy, depth: int) -> Ties:
    """Returns the expected values at the first `depth` places of each list."""
    n = len(truth.n_relevant)
    row, start, size, hits = groups.row, groups.start, groups.size, groups.hits
    before = np.cumsum(hits) - hits
    before -= (np.cumsum(groups.found) - groups.found)[row]
    # Every place of every group that is above `depth`: `at` is its group, `i` its number inside.
    reach = np.clip(depth - start, 0, size)
    at = np.repeat(np.arange(len(row)), reach)
    i = np.arange(len(at)) - np.repeat(np.cumsum(reach) - reach, reach)
    m, h = size[at], hits[at]
    where = (start[at] + i, row[at])
    share = np.zeros((depth, n))
    share[where] = h / m
    gains = {}
    for kind, gain in groups.gain.items():
        gains[kind] = np.zeros((depth, n))
        gains[kind][where] = gain[at] / m
    missed = np.ones((depth, n))
    missed[where] = np.maximum(m - h - i, 0) / (m - i)
    none = np.ones((depth + 1, n))
    np.cumprod(missed, axis=0, out=none[1:])
    precision = np.zeros((depth, n))
    others = before[at] + i * (h - 1) / np.maximum(m - 1, 1)
    precision[where] = h / m * (others + 1) / (start[at] + i + 1)
    length = np.minimum(groups.length, depth).astype(np.int32)
    return Ties(truth, policy, truth.n_relevant, length, share, gains, none, precision)


def auc_of(groups: Groups) -> Floats:
    """Area under the ROC curve of each list: a relevant item scores higher than another, ties half.

    (Σ over relevant items of the others behind them + half of those tied) / (relevant · others).
    NaN where the list has no relevant item, or no other. Items that the list leaves out do not count.
    Reference: Hanley & McNeil, "The meaning and use of the area under a ROC curve", Radiology 1982.
    """
    n = len(groups.length)
    others = groups.size - groups.hits
    total = groups.length - groups.found
    seen = np.cumsum(others)  # of all lists so far
    behind = (np.cumsum(total))[groups.row] - seen
    better = np.bincount(groups.row, weights=groups.hits * (behind + others / 2), minlength=n)
    pairs = (groups.found * total).astype(np.float64)
    with np.errstate(invalid="ignore"):
        return np.where(pairs > 0, better / pairs, np.nan)
