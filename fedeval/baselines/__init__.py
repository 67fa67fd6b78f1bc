"""Baselines, cheap and strong, on one footing: without them no number says how good a system is.

Each is a function `(train, *, seed=0, k=100, users=None, seen=None, items=None, candidates=None, …)` that
returns lists as a frame of user_id i32, item_id i32, rank i32, score f32: seen items left out, equal
scores in order of item id, the same for the same seed. `baseline(name, train, …)` finds one by its name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.baselines.content import content_knn, embeddings_of
from fedeval.baselines.factors import ials
from fedeval.baselines.linear import ease
from fedeval.baselines.lists import Asked
from fedeval.baselines.neighbours import itemknn
from fedeval.baselines.popular import client_popularity, popularity, random, recent_popularity
from fedeval.interactions import Interactions
from fedprep.errors import EvaluationError, nearest

__all__ = [
    "BASELINES",
    "Asked",
    "baseline",
    "client_popularity",
    "content_knn",
    "ease",
    "embeddings_of",
    "ials",
    "itemknn",
    "popularity",
    "random",
    "recent_popularity",
]

BASELINES: dict[str, Callable[..., pl.DataFrame]] = {
    "random": random,
    "popularity": popularity,
    "client_popularity": client_popularity,
    "recent_popularity": recent_popularity,
    "itemknn": itemknn,
    "ease": ease,
    "ials": ials,
    "content_knn": content_knn,
}


def baseline(
    name: str,
    train: Interactions,
    *,
    embeddings: Mapping[str, npt.NDArray[np.float32]] | None = None,
    **options: Any,
) -> pl.DataFrame:
    """Returns the lists of the baseline of that name.

    Args:
        name: a key of `BASELINES`.
        train: the rows to learn from.
        embeddings: for `content_knn`; the others do without.
        options: what the baseline takes: `k`, `seed`, `users`, `seen`, `items`, `candidates`, and its
            own hyperparameters.

    Raises:
        EvaluationError: no such baseline or option, or train has no row.
    """
    if name not in BASELINES:
        raise EvaluationError(f"no baseline is called '{name}'", hint=nearest(name, BASELINES))
    if not len(train):
        raise EvaluationError("train has no row: a baseline has nothing to learn from")
    own = set(inspect.signature(BASELINES[name]).parameters) - {"train", "asked"}
    known = (own | set(Asked.__annotations__)) - {"embeddings"}
    for option in options:
        if option not in known:
            raise EvaluationError(f"{name} has no option '{option}'", hint=nearest(option, known))
    if "embeddings" in own:
        options["embeddings"] = embeddings or {}
    return BASELINES[name](train, **options)
