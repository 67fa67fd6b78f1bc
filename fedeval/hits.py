"""Which relevant item stands at which rank: all that a metric of accuracy has to know.

Hits are few, so every metric is a short sum over them; the long lists are read once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.ids import EMPTY, Codes, Ints
from fedeval.lists import Lists
from fedeval.policy import Policy

__all__ = ["Hits", "Truth", "hits_of", "truth_of"]

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Truth:
    """The relevant items, sorted by (user, item), no pair twice.

    row, item: int32 (n,) · gain: float64 (n,), the relevance, or None where all are 1.
    n_relevant: int32 (n_users,). n_rows: int32 (n_users,): rows of truth, relevant or not.
    """

    users: Codes
    row: Ints
    item: Ints
    gain: Floats | None
    n_relevant: Ints
    n_rows: Ints
    duplicates: int


def truth_of(
    row: Ints, item: Ints, relevance: Floats | None, users: Codes, policy: Policy
) -> Truth:
    """Returns the relevant rows of the truth.

    Args:
        row: int32 (n,), the user's code.
        item: int32 (n,), the item's code.
        relevance: float64 (n,) or None: all 1.
    """
    key = (row.astype(np.int64) << 32) + item - np.int64(EMPTY)
    steps = np.diff(key)
    if steps.size and steps.min() <= 0:
        # Of rows that repeat a pair the largest relevance counts.
        order = np.argsort(key) if relevance is None else np.lexsort((-relevance, key))
        key = key[order]
        first = np.append(True, key[1:] != key[:-1])
        order = order[first]
        row, item = row[order], item[order]
        relevance = None if relevance is None else relevance[order]
    duplicates = len(key) - len(row)
    n_rows = np.bincount(row, minlength=len(users)).astype(np.int32)
    n_relevant = n_rows
    if relevance is not None and policy.relevant == "positive":
        kept = relevance > 0
        row, item, relevance = row[kept], item[kept], relevance[kept]
        n_relevant = np.bincount(row, minlength=len(users)).astype(np.int32)
    return Truth(users, row, item, relevance, n_relevant, n_rows, duplicates)


@dataclass(frozen=True, eq=False)
class Hits:
    """The hits of all users, ordered by rank: those at rank r are `starts[r-1]:starts[r]`.

    row: int32 (n_hits,), the user, each once a rank · gain: float64 (n_hits,) or None: all 1.
    starts: int64 (depth + 1,). length: int32 (n_users,), the list's, at most depth.
    """

    truth: Truth
    row: Ints
    gain: Floats | None
    starts: npt.NDArray[np.int64]
    n_relevant: Ints
    length: Ints
    policy: Policy
    _counts: dict[int | None, Floats] = field(default_factory=dict, repr=False)

    @property
    def depth(self) -> int:
        return len(self.starts) - 1

    @property
    def n_users(self) -> int:
        return len(self.n_relevant)

    def users_ids(self, mask: Mask) -> pl.Series:
        """Returns the ids of the users in a mask."""
        ids = self.truth.users.ids
        return ids if mask.all() else ids.filter(pl.Series(mask))

    def at(self, rank: int) -> Ints:
        """Returns the users with a hit at a rank, each once."""
        return self.row[self.starts[rank - 1] : self.starts[rank]]

    def total(
        self, k: int | None, weights: Floats | None = None, gain: Floats | None = None
    ) -> Floats:
        """Returns float64 (n_users,): the sum over hits of rank ≤ k of weight(rank) · gain.

        Args:
            k: cut-off; None for the whole list.
            weights: float64 (depth,), of each rank; None: 1.
            gain: float64 (n_hits,), of each hit; None: 1.
        """
        end = self.starts[self.depth if k is None else min(k, self.depth)]
        parts = None if gain is None else gain[:end]
        if weights is not None:
            of_rank = np.repeat(weights, np.diff(self.starts))[:end]
            parts = of_rank if parts is None else of_rank * parts
        total = np.bincount(self.row[:end], weights=parts, minlength=self.n_users)
        return cast(Floats, total.astype(np.float64))

    def count(self, k: int | None) -> Floats:
        """Returns float64 (n_users,): hits of rank ≤ k; several metrics share it."""
        if k not in self._counts:
            self._counts[k] = self.total(k)
        return self._counts[k]


def hits_of(lists: Lists, truth: Truth, policy: Policy) -> Hits:
    """Returns where the relevant items stand.

    The item at each rank is compared with each relevant item of its user: `depth · n_relevant` simple
    steps, all of them sequential in memory, which beats a join for lists of up to hundreds of items.
    """
    rows: list[Ints] = []
    at: list[npt.NDArray[np.int64]] = []
    alone = len(truth.row) == len(lists.length) and bool((truth.n_relevant == 1).all())
    for items in lists.items:
        there = items if alone else items[truth.row]
        at.append(np.flatnonzero(there == truth.item))
        rows.append(truth.row[at[-1]])
    starts = np.concatenate([[0], np.cumsum([len(r) for r in rows])])
    gain = None if truth.gain is None else truth.gain[np.concatenate(at)]
    row = np.concatenate(rows)
    n_relevant = truth.n_relevant
    if policy.duplicates == "join":
        distinct = pl.Series(np.concatenate(at)).unique().to_numpy()
        extra = np.bincount(row, minlength=len(n_relevant)) - np.bincount(
            truth.row[distinct], minlength=len(n_relevant)
        )
        n_relevant = (n_relevant + extra).astype(np.int32)
    return Hits(truth, row, gain, starts, n_relevant, lists.length, policy)
