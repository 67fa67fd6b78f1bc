"""content-kNN: items whose texts and pictures are like those of the user's items."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Unpack

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.baselines.lists import Asked, lists_by
from fedeval.interactions import Interactions
from fedprep.dataset import Dataset
from fedprep.errors import EvaluationError
from fedprep.schema import ITEM_ID

__all__ = ["content_knn", "embeddings_of"]

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]


def content_knn(
    train: Interactions,
    *,
    embeddings: Mapping[str, Floats],
    seed: int = 0,
    **asked: Unpack[Asked],
) -> pl.DataFrame:
    """Returns items like the user's: score(u, i) = v(i) · mean of v(j) over the user's items j in train.

    v(i) has the item's modalities side by side, each of norm 1, and then norm 1 itself. A modality that
    an item lacks is 0 in v(i): it says nothing, and the others say more. An item that lacks all is never
    recommended, and among candidates stands last; its number is logged. A user whose items lack all has
    scores of 0, and one without a row in train gets `popularity`. `seed` changes nothing.

    Args:
        embeddings: by modality, float32 (n_items, dim), NaN in the rows of items that lack it:
            `embeddings_of(dataset)`.

    Reference: Pazzani, Billsus, "Content-Based Recommendation Systems", The Adaptive Web, 2007 (section
    on Rocchio's mean of the liked items).

    Raises:
        EvaluationError: no embeddings, or of another number of items.
    """
    vectors = _vectors(embeddings, train.n_items)  # (n_items, dim)
    lacking = np.flatnonzero(~vectors.any(axis=1))
    if len(lacking):
        logger.warning("%d of %d items have no embedding", len(lacking), train.n_items)
    transposed = np.ascontiguousarray(vectors.T)

    def scores(users: npt.NDArray[np.int64]) -> Floats:
        values = _means(train, vectors, users) @ transposed
        values[:, lacking] = -np.inf
        return values

    return lists_by(scores, train, asked)


def embeddings_of(dataset: Dataset, modalities: Sequence[str] | None = None) -> dict[str, Floats]:
    """Returns the item embeddings of a Dataset, by modality: float32 (n_items, dim), NaN where null.

    Args:
        modalities: which; None: all that it has.

    Raises:
        DatasetError: the Dataset has no such embeddings.
    """
    found = {}
    for modality in dataset.modalities if modalities is None else modalities:
        column = dataset.embeddings(modality).sort(ITEM_ID).collect()["embedding"]
        present = column.drop_nulls().to_numpy()  # (n_present, dim)
        values = np.full((len(column), present.shape[1]), np.nan, np.float32)
        values[column.is_not_null().to_numpy()] = present
        found[modality] = values
    return found


def _vectors(embeddings: Mapping[str, Floats], n_items: int) -> Floats:
    if not embeddings:
        raise EvaluationError(
            "content_knn needs embeddings",
            hint="give embeddings=embeddings_of(dataset), of a Dataset that has some",
        )
    for modality, values in embeddings.items():
        if values.ndim != 2 or len(values) != n_items:
            raise EvaluationError(
                f"the {modality} embeddings have shape {values.shape}",
                expected=f"({n_items}, dim): one row for each item",
            )
    sides = [_unit(np.nan_to_num(embeddings[name])) for name in sorted(embeddings)]
    return _unit(np.concatenate(sides, axis=1))


def _unit(values: Floats) -> Floats:
    norm = np.linalg.norm(values, axis=1, keepdims=True)
    unit: Floats = np.divide(values, norm, out=np.zeros_like(values, np.float32), where=norm > 0)
    return unit


def _means(train: Interactions, vectors: Floats, users: npt.NDArray[np.int64]) -> Floats:
    """Returns float32 (b, dim): the mean vector of each user's items; 0 for a user without rows."""
    place, row = train.rows_of(users)
    had, at = np.unique(train.item_id[row], return_inverse=True)
    history = np.zeros((len(users), len(had)), np.float32)
    history[place, at] = 1
    counts = np.maximum(train.user_counts[users], 1).astype(np.float32)
    means: Floats = (history @ vectors[had]) / counts[:, None]
    return means
