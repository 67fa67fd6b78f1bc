"""ItemKNN: items that the same users had."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Unpack

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.baselines.cooccurrence import cooccurrence, slices_of
from fedeval.baselines.lists import Asked, lists_by
from fedeval.interactions import Interactions
from fedeval.selection import select
from fedprep.errors import EvaluationError

__all__ = ["itemknn"]

BLOCK_TERMS = 1 << 22
"""Terms of the sum over a user's items and their neighbours that are added up at a time."""

Floats = npt.NDArray[np.float32]
Users = npt.NDArray[np.int64]


def itemknn(
    train: Interactions,
    *,
    seed: int = 0,
    neighbours: int = 100,
    shrinkage: float = 10.0,
    **asked: Unpack[Asked],
) -> pl.DataFrame:
    """Returns items like those that the user had: score(u, j) = sum of s(i, j) over i in I(u) ∩ N(j).

    s(i, j) = c(i, j) / (sqrt(c(i) c(j)) + shrinkage), with c the users of an item, and of both; N(j) are
    the `neighbours` items most similar to j, ties by item id. Binary: ratings do not enter. A user
    without a row in train gets `popularity`. `seed` changes nothing.

    Similarities are made for a block of items at a time, and n_items × neighbours of them kept: 24 bytes
    each (240 MB at 100,000 items). Time goes with the sum over users of their rows squared, about 5 s
    for 10^9, and with n_items squared, about 100 s for 10^10 (100,000 items).

    Args:
        neighbours: how many items each item is compared with.
        shrinkage: how far the similarity of items with few users is pulled to 0.

    Reference: Sarwar, Karypis, Konstan, Riedl, "Item-based collaborative filtering recommendation
    algorithms", WWW 2001; for top-N lists Deshpande, Karypis, "Item-based top-N recommendation
    algorithms", TOIS 2004; shrinkage as in Ferrari Dacrema et al., RecSys 2019.

    Raises:
        EvaluationError: no neighbour asked for, or a negative shrinkage.
    """
    if neighbours < 1 or not shrinkage >= 0:
        raise EvaluationError(
            f"neighbours is {neighbours} and shrinkage {shrinkage}",
            expected="neighbours of 1 or more, shrinkage of 0 or more",
        )
    near = _neighbours(train, neighbours, shrinkage)
    terms = np.diff(near.offsets)[train.item_id]
    per_user = np.diff(np.concatenate([[0], np.cumsum(terms)])[train.offsets])

    def scores(users: Users) -> Floats:
        values = np.empty((len(users), train.n_items), np.float32)
        for part in slices_of(per_user[users], BLOCK_TERMS):
            values[part] = _sums(train, near, users[part])
        return values

    return lists_by(scores, train, asked)


@dataclass(frozen=True)
class _Near:
    """For each item i the items j that have it as a neighbour: `offsets[i]:offsets[i + 1]` of the rest."""

    offsets: npt.NDArray[np.int64]
    item_id: npt.NDArray[np.int64]
    similarity: npt.NDArray[np.float64]


def _neighbours(train: Interactions, n: int, shrinkage: float) -> _Near:
    root = np.sqrt(train.item_counts)
    targets, others, weights = [], [], []
    for items, counts in cooccurrence(train):
        with np.errstate(invalid="ignore"):
            similar = (counts / (root[items, None] * root + shrinkage)).astype(np.float32)
        similar[counts == 0] = 0  # also where neither item has a user, and nothing is shrunk: 0 / 0
        here = np.arange(items.start, items.stop)
        similar[here - items.start, here] = 0
        best = select(similar, n)
        there = best.score > 0
        targets.append(here[np.nonzero(there)[0]])
        others.append(best.item_id[there].astype(np.int64))
        weights.append(best.score[there].astype(np.float64))
    target, other, weight = (np.concatenate(parts) for parts in (targets, others, weights))
    order = np.argsort(other, kind="stable")
    offsets = np.searchsorted(other[order], np.arange(train.n_items + 1))
    return _Near(offsets, target[order], weight[order])


def _sums(train: Interactions, near: _Near, users: Users) -> npt.NDArray[np.float64]:
    """Returns float64 (b, n_items): the scores of a few users."""
    place, row = train.rows_of(users)
    item = train.item_id[row]
    first = near.offsets[item]
    counts = near.offsets[item + 1] - first
    at = np.arange(counts.sum()) + np.repeat(first - np.cumsum(counts) + counts, counts)
    cell = np.repeat(place, counts) * train.n_items + near.item_id[at]
    size = len(users) * train.n_items
    sums = np.bincount(cell, weights=near.similarity[at], minlength=size).astype(np.float64)
    return sums.reshape(len(users), train.n_items)
