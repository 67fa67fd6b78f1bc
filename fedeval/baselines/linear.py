"""EASE^R: a linear auto-encoder of items, in closed form."""

from __future__ import annotations

from typing import Unpack

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.baselines.cooccurrence import cooccurrence
from fedeval.baselines.lists import Asked, lists_by
from fedeval.interactions import Interactions
from fedprep.errors import EvaluationError

__all__ = ["ease"]

BYTES_A_CELL = 32
"""Peak memory for each pair of items: the matrix, its inverse and the solver's copies, in float64."""

Floats = npt.NDArray[np.float32]


def ease(
    train: Interactions,
    *,
    seed: int = 0,
    regularisation: float = 500.0,
    memory_limit: float = 16.0,
    **asked: Unpack[Asked],
) -> pl.DataFrame:
    """Returns lists by EASE^R: score(u, ·) = x(u) B, with B the ridge regression of items on each other.

    P = (XᵀX + λ I)^-1; B(i, j) = -P(i, j) / P(j, j), and 0 on the diagonal (equation 8). X is binary:
    ratings do not enter. A user without a row in train gets `popularity`. `seed` changes nothing.

    The inverse is of float64, over the items that are in train: 32 bytes for each pair of them at the
    peak (0.44 GB for 3,700 items, 12.8 GB for 20,000), in a time that grows with their third power.

    Args:
        regularisation: λ, above 0.
        memory_limit: GB (10^9 bytes) that this may take.

    Reference: Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019.

    Raises:
        EvaluationError: it would take more than `memory_limit`, or λ is not above 0.
    """
    if not regularisation > 0:
        raise EvaluationError(f"regularisation is {regularisation}", expected="above 0")
    known = np.flatnonzero(train.item_counts)  # (m,)
    needed = BYTES_A_CELL * len(known) ** 2 / 1e9
    if needed > memory_limit:
        raise EvaluationError(
            f"EASE of {len(known):,} items takes {needed:,.1f} GB",
            expected=f"{memory_limit:g} GB at the most (memory_limit): "
            f"{int((memory_limit * 1e9 / BYTES_A_CELL) ** 0.5):,} items",
            hint="raise memory_limit, or take itemknn or ials",
        )
    weights = _weights(train, known, regularisation)
    column = np.full(train.n_items, -1)
    column[known] = np.arange(len(known))

    def scores(users: npt.NDArray[np.int64]) -> Floats:
        place, row = train.rows_of(users)
        # Only the weights of items that these users had are read: few, where users have few rows.
        had, at = np.unique(column[train.item_id[row]], return_inverse=True)
        history = np.zeros((len(users), len(had)), np.float32)
        history[place, at] = 1
        values = np.zeros((len(users), train.n_items), np.float32)
        values[:, known] = history @ (weights if len(had) == len(known) else weights[had])
        return values

    return lists_by(scores, train, asked)


def _weights(train: Interactions, known: npt.NDArray[np.int64], regularisation: float) -> Floats:
    """Returns float32 (m, m): B of the items that are in train."""
    gram = np.empty((len(known), len(known)))
    for items, counts in cooccurrence(train):
        inside = slice(*np.searchsorted(known, [items.start, items.stop]))
        gram[inside] = counts[known[inside] - items.start][:, known]
    gram[np.diag_indices_from(gram)] += regularisation
    inverse = np.linalg.inv(gram)
    del gram
    inverse /= -np.diag(inverse)  # column j by its own diagonal
    np.fill_diagonal(inverse, 0)
    return inverse.astype(np.float32)
