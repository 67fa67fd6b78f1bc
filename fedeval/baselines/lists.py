"""From a baseline's scores to its lists: what all baselines are asked, and how they answer."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.candidates import Candidates
from fedeval.interactions import Interactions
from fedeval.ranking import ScoreBlock, ranked

__all__ = ["Asked", "exact_scores", "lists_by"]


class Asked(TypedDict, total=False):
    """What every baseline may be asked, by keyword.

    k: the length of the lists (100).
    users: int (n,): who gets a list; absent: every user.
    seen: rows whose items are left out; absent: train. At test time, `joined(train, valid)`.
    items: bool (n_items,): the items that may be recommended; absent: those with a row in train.
    candidates: rank these alone; `users`, `seen` and `items` then say nothing.
    """

    k: int
    users: npt.ArrayLike | None
    seen: Interactions | None
    items: npt.NDArray[np.bool_] | None
    candidates: Candidates | None


def lists_by(
    scores: ScoreBlock, train: Interactions, asked: Asked, *, personal: bool = True
) -> pl.DataFrame:
    """Returns the lists by these scores: user_id i32, item_id i32, rank i32, score f32.

    A user without a row in train has nothing to go by: `personal` scores give way to popularity there.
    """
    if personal:
        scores = _with_popularity(scores, train)
    users, seen, items = asked.get("users"), asked.get("seen"), asked.get("items")
    return ranked(
        scores,
        np.arange(train.n_users) if users is None else users,
        train.n_items,
        k=asked.get("k", 100),
        seen=train if seen is None else seen,
        items=train.item_counts > 0 if items is None else items,
        candidates=asked.get("candidates"),
    )


def exact_scores(values: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Returns float32 scores in the order of integers: the integers, or their ranks where too large."""
    if values.max(initial=0) < 2**24:
        return values.astype(np.float32)
    return np.unique(values, return_inverse=True)[1].reshape(values.shape).astype(np.float32)


def _with_popularity(scores: ScoreBlock, train: Interactions) -> ScoreBlock:
    popular = exact_scores(train.item_counts)

    def filled(users: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        values = scores(users)
        values[train.user_counts[users] == 0] = popular
        return values

    return filled
