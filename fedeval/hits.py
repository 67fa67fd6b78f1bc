"""Which relevant item stands at which rank: all that a metric of accuracy has to know.

Hits are few, so every metric is a short sum over them; the long lists are read once.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.ids import EMPTY, Ints
from fedeval.lists import Lists
from fedeval.opening import RELEVANCE
from fedeval.policy import Policy
from fedprep.errors import EvaluationError
from fedprep.schema import RATING

__all__ = ["Found", "Hits", "Truth", "hits_of", "joined_hits", "relevance_column", "truth_of"]

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

GAINS = ("binary", "linear", "exponential")

BLOCK = 1 << 15
"""Rows of truth that are compared with the lists at a time: they stay in the processor's cache."""

JOINED = 1 << 23
"""Places of lists that are joined at a time."""

LARGEST = 1000.0
"""Of a relevance whose exponential gain is asked for."""

DENSE = 24
"""With more relevant items a user, lists are matched by a join in place of comparing each with each."""


@dataclass(frozen=True, eq=False)
class Truth:
    """The relevant items, sorted by (user, item); a pair stands twice where repeats are joined alone.

    row, item: int32 (n,) · gain: float64 (n,), the relevance, at least 0, or None where all are 1.
    n_relevant, n_rows: int32 (n_users,): relevant items, and rows of truth, of each user.
    duplicates: rows that repeated a pair; the largest relevance counts.
    """

    row: Ints
    item: Ints
    gain: Floats | None
    n_relevant: Ints
    n_rows: Ints
    duplicates: int = 0

    def part(self, start: int, end: int) -> Truth:
        """Returns the truth of the users of row `start` to before `end`, as rows from 0."""
        if (start, end) == (0, len(self.n_rows)):
            return self
        a, b = np.searchsorted(self.row, [start, end])
        gain = None if self.gain is None else self.gain[a:b]
        row = self.row[a:b] - np.int32(start)
        return Truth(row, self.item[a:b], gain, self.n_relevant[start:end], self.n_rows[start:end])


def relevance_column(columns: Container[str], policy: Policy) -> str | None:
    """Returns the column that says which rows of truth are relevant; None: all are.

    Raises:
        EvaluationError: there is a `min_relevance`, and nothing to hold it against.
    """
    if RELEVANCE in columns:
        return RELEVANCE
    if policy.min_relevance is None:
        return None
    if RATING not in columns:
        raise EvaluationError(
            f"no row of truth can be told to reach {policy.min_relevance:g}: it has neither relevance nor"
            " ratings",
            hint="--relevance COLUMN names the column of relevance",
        )
    return RATING


def truth_of(
    row: Ints, item: Ints, relevance: Floats | None, n_users: int, policy: Policy
) -> Truth:
    """Returns the relevant rows of a table of truth.

    Args:
        row, item: int32 (n,) · relevance: float64 (n,), or None: all 1.
        n_users: rows are below this.
        policy: what is `relevant`.
    """
    least = policy.min_relevance
    if relevance is not None and (least or 1) <= 1 and (relevance == 1).all():
        relevance = None
    key = (row.astype(np.int64) << 32) + (item.astype(np.int64) - EMPTY)
    n = len(key)
    duplicates = 0
    if not (key[1:] > key[:-1]).all():
        row, item, relevance = _sorted(key, relevance, repeats=policy.duplicates == "join")
        pair = (row.astype(np.int64) << 32) + item
        duplicates = n - len(row) + int((pair[1:] == pair[:-1]).sum())
    n_rows = np.bincount(row, minlength=n_users).astype(np.int32)
    if relevance is None:
        return Truth(row, item, None, n_rows, n_rows, duplicates)
    n_relevant = n_rows
    kept = relevance > 0 if least is None else relevance >= least
    if (policy.relevant == "positive" or least is not None) and not kept.all():
        row, item, relevance = row[kept], item[kept], relevance[kept]
        n_relevant = np.bincount(row, minlength=n_users).astype(np.int32)
    gain = np.maximum(relevance, 0)
    return Truth(row, item, None if (gain == 1).all() else gain, n_relevant, n_rows, duplicates)


def _sorted(
    key: npt.NDArray[np.int64], relevance: Floats | None, *, repeats: bool
) -> tuple[Ints, Ints, Floats | None]:
    """Returns row, item and relevance, sorted by pair; each once, with its largest, or `repeats`."""
    if relevance is None:
        key = np.sort(key)  # several times as fast as to sort places by key
        key = key if repeats else key[np.append(True, key[1:] != key[:-1])]
    else:
        order = np.lexsort((-relevance, key))
        if not repeats:
            order = order[np.append(True, key[order][1:] != key[order][:-1])]
        key, relevance = key[order], relevance[order]
    item = (key & 0xFFFFFFFF) + EMPTY
    return (key >> 32).astype(np.int32), item.astype(np.int32), relevance


class Found(Protocol):
    """What a metric of accuracy asks of the lists. `Hits` answers it, and `Ties` by expected values."""

    @property
    def policy(self) -> Policy: ...
    @property
    def truth(self) -> Truth: ...
    @property
    def n_relevant(self) -> Ints: ...
    @property
    def length(self) -> Ints: ...
    @property
    def depth(self) -> int: ...
    def total(self, k: int | None, weights: Floats | None = None, gain: str = "binary") -> Floats:
        """Σ of weight(rank) · gain over hits of rank ≤ k."""

    def any(self, k: int | None) -> Floats:
        """1 if there is a hit of rank ≤ k."""

    def reciprocal(self, k: int | None) -> Floats:
        """1 / rank of the first hit of rank ≤ k, or 0."""

    def precisions(self, k: int | None) -> Floats:
        """Σ over hits of rank r ≤ k of the precision of the first r."""

    def until(self, ranks: Ints) -> Floats:
        """Hits of rank ≤ ranks[i], of each user i."""


@dataclass(frozen=True, eq=False)
class Hits:
    """The hits of all users, ordered by rank: those at rank r are `starts[r-1]:starts[r]`.

    row: int32 (n_hits,), the user, once a rank unless repeats are joined · gain: float64 (n_hits,), or
    None: all 1.
    starts: int64 (depth + 1,) · length: int32 (n_users,), of the list, at most depth.
    """

    truth: Truth
    policy: Policy
    row: Ints
    gain: Floats | None
    starts: npt.NDArray[np.int64]
    n_relevant: Ints
    length: Ints
    _counts: dict[int, Floats] = field(default_factory=dict, repr=False)

    @property
    def depth(self) -> int:
        return len(self.starts) - 1

    def _reach(self, k: int | None) -> int:
        return self.depth if k is None else min(k, self.depth)

    def _at(self, rank: int) -> Ints:
        return self.row[self.starts[rank - 1] : self.starts[rank]]

    def total(self, k: int | None, weights: Floats | None = None, gain: str = "binary") -> Floats:
        """Returns float64 (n_users,): Σ of weight(rank) · gain over hits of rank ≤ k.

        Args:
            k: cut-off; None: the whole list.
            weights: float64 (depth,), of each rank; None: 1.
            gain: `binary`: 1, `linear`: the relevance g, `exponential`: 2^g − 1.
        """
        reach = self._reach(k)
        graded = gain != "binary" and self.gain is not None
        if weights is None and not graded:
            if reach not in self._counts:
                self._counts[reach] = self._sum(reach, None)
            return self._counts[reach]
        end = self.starts[reach]
        parts = np.ones(end)
        if weights is not None:
            parts = np.repeat(weights[:reach], np.diff(self.starts[: reach + 1]))
        if graded:
            parts = parts * gained(cast(Floats, self.gain)[:end], gain)
        return self._sum(reach, parts)

    def _sum(self, reach: int, parts: Floats | None) -> Floats:
        rows = self.row[: self.starts[reach]]
        summed = np.bincount(rows, weights=parts, minlength=len(self.n_relevant))
        return summed.astype(np.float64, copy=False)

    def any(self, k: int | None) -> Floats:
        return (self.total(k) > 0).astype(np.float64)

    def reciprocal(self, k: int | None) -> Floats:
        value = np.zeros(len(self.n_relevant))
        for rank in range(self._reach(k), 0, -1):
            value[self._at(rank)] = 1 / rank
        return value

    def precisions(self, k: int | None) -> Floats:
        total, so_far = np.zeros(len(self.n_relevant)), np.zeros(len(self.n_relevant))
        for rank in range(1, self._reach(k) + 1):
            at = self._at(rank)
            if (
                self.policy.duplicates == "join"
            ):  # a row of truth that is repeated is a hit each time
                np.add.at(so_far, at, 1)
            else:
                so_far[at] += 1
            total[at] += so_far[at] / rank
        return total

    def until(self, ranks: Ints) -> Floats:
        rank = np.repeat(np.arange(1, self.depth + 1), np.diff(self.starts))
        inside = (rank <= ranks[self.row]).astype(np.float64)
        return self._sum(self.depth, inside)


def gained(relevance: Floats, gain: str) -> Floats:
    """Returns relevances as gains.

    Raises:
        EvaluationError: 2^g is beyond a float64.
    """
    if gain == "exponential" and relevance.max(initial=0) > LARGEST:
        raise EvaluationError(
            f"ndcg_exp has no gain 2^{relevance.max():g} − 1: it is too large a number",
            expected="relevances such as 0 to 5",
            hint="ndcg_graded takes the relevance itself",
        )
    return cast(Floats, np.exp2(relevance) - 1) if gain == "exponential" else relevance


def hits_of(lists: Lists, truth: Truth, policy: Policy) -> Hits:
    """Returns where the relevant items stand.

    The item at each rank is compared with each relevant item of its user: `depth · n_relevant` simple
    steps in the order of memory, which beats a join unless users have dozens of relevant items.
    """
    if len(truth.row) > DENSE * max(len(truth.n_rows), 1):
        at, rank = _matched_by_join(lists, truth)
    else:
        at, rank = _matched(lists, truth)
    counts = np.bincount(rank, minlength=lists.depth + 1)[1:]
    gain = None if truth.gain is None else truth.gain[at]
    n_relevant = truth.n_relevant
    if policy.duplicates == "join":
        again = np.ones(len(at), np.int64)
        again[np.unique(at, return_index=True)[1]] = 0
        extra = np.bincount(truth.row[at], weights=again, minlength=len(n_relevant))
        n_relevant = n_relevant + extra.astype(np.int32)
    starts = np.append(0, np.cumsum(counts))
    return Hits(truth, policy, truth.row[at], gain, starts, n_relevant, lists.length)


def _matched(lists: Lists, truth: Truth) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Returns the row of truth and the rank of every hit, by rank."""
    found: list[list[npt.NDArray[np.int64]]] = [[] for _ in range(lists.depth)]
    for start in range(0, len(truth.row), BLOCK):
        rows = truth.row[start : start + BLOCK].astype(np.intp)
        wanted = truth.item[start : start + BLOCK]
        for place, items in enumerate(lists.items):
            found[place].append(np.flatnonzero(items.take(rows) == wanted) + start)
    at = [np.concatenate(blocks) if blocks else np.empty(0, np.int64) for blocks in found]
    return np.concatenate(at), np.repeat(np.arange(1, lists.depth + 1), [len(a) for a in at])


def _matched_by_join(
    lists: Lists, truth: Truth
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    relevant = pl.DataFrame({"row": truth.row, "item": truth.item}).with_row_index("at")
    n, found = len(truth.n_rows), []
    step = max(1, JOINED // lists.depth)
    for start in range(0, n, step):
        items = lists.items[:, start : start + step]
        rank, row = np.nonzero(items != EMPTY)
        listed = pl.DataFrame(
            {"row": (row + start).astype(np.int32), "item": items[rank, row], "rank": rank + 1}
        )
        found.append(listed.join(relevant, on=["row", "item"], how="inner").select("at", "rank"))
    hits = pl.concat(found).sort("rank", "at")
    return hits["at"].to_numpy().astype(np.int64), hits["rank"].to_numpy()


def joined_hits(parts: Sequence[Hits], truth: Truth) -> Hits:
    """Returns the hits of all users from those of blocks of users, in order."""
    if len(parts) == 1:
        return parts[0]
    begins = np.cumsum([0] + [len(part.n_relevant) for part in parts])
    depth = max(part.depth for part in parts)
    rank = np.concatenate([np.repeat(np.arange(1, p.depth + 1), np.diff(p.starts)) for p in parts])
    row = np.concatenate([p.row + np.int32(begin) for p, begin in zip(parts, begins, strict=False)])
    order = np.argsort(rank, kind="stable")
    gain = None
    if truth.gain is not None:
        gain = np.concatenate([cast(Floats, p.gain) for p in parts])[order]
    starts = np.append(0, np.cumsum(np.bincount(rank, minlength=depth + 1)[1:]))
    return Hits(
        truth, parts[0].policy, row[order], gain, starts,
        np.concatenate([p.n_relevant for p in parts]), np.concatenate([p.length for p in parts]),
    )  # fmt: skip
