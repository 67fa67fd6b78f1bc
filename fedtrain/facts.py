"""Facts of a Dataset that a plan is checked against, read without its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from fedprep.dataset import Dataset
from fedprep.schema import RATING
from fedtrain.plan import Plan

if TYPE_CHECKING:
    from fedtrain.models import Sizes

__all__ = ["Facts", "facts_of", "sizes_of"]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a plan is checked against.

    n_able: clients with train rows · n_valid: rows of valid · label: what labels are (`binary`, `classes`,
    `implicit`) · n_classes: how many there may be · n_labels, n_ratings: how many distinct ones there are ·
    modalities, behavior: their dimensions, as `Sizes` has them · most_users: at one client · n_train: train
    rows · mean: of their ratings, NaN-free; 0 without any.
    """

    n_users: int
    n_items: int
    n_clients: int
    n_able: int
    n_valid: int
    label: str
    n_classes: int
    n_labels: int
    n_ratings: int
    modalities: Mapping[str, int]
    behavior: int = 0
    most_users: int = 1
    n_train: int = 0
    mean: float = 0.0


def facts_of(dataset: Dataset) -> Facts:
    """Returns the facts of a Dataset, from its manifest and its tables' schemas."""
    facts = dataset.manifest["facts"]
    behavior = dataset.users().collect_schema().get("behavior")
    widths = {
        name: dataset.embeddings(name).collect_schema()["embedding"] for name in dataset.modalities
    }
    return Facts(
        n_users=int(facts["n_users"]),
        n_items=int(facts["n_items"]),
        n_clients=int(facts["n_clients"]),
        n_able=int((dataset.index["n_train"] > 0).sum()),
        n_valid=int(dataset.index["n_valid"].sum()),
        label=str(dataset.manifest["recipe"]["clean"]["label"]),
        n_classes=len(dataset.manifest["classes"]),
        n_labels=sum(count > 0 for _, count in facts["labels"]),
        n_ratings=sum(count > 0 for _, count in facts["ratings"]),
        modalities={name: _width(dtype) for name, dtype in widths.items()},
        behavior=_width(behavior),
        most_users=int(dataset.index["n_users"].to_numpy().max(initial=0)),
        n_train=int(dataset.index["n_train"].sum()),
        mean=_mean_rating(dataset),
    )


def _mean_rating(dataset: Dataset) -> float:
    """Returns the mean rating of the train rows to six digits; counted, so that no order of sums matters."""
    ratings = dataset.interactions("train").select(RATING).collect()[RATING]
    counts = ratings.drop_nulls().drop_nans().value_counts().sort(RATING)
    rating, n = counts[RATING].to_numpy().astype(np.float64), counts["count"].to_numpy()
    return float(f"{rating @ n / n.sum():.6g}") if n.sum() else 0.0


def _width(dtype: pl.DataType | None) -> int:
    return int(dtype.shape[0]) if isinstance(dtype, pl.Array) else 0


def sizes_of(plan: Plan, facts: Facts) -> Sizes:
    """Returns what the plan's model must know of the data and the task."""
    from fedtrain.models import Sizes

    return Sizes(
        n_users=facts.n_users,
        n_items=facts.n_items,
        modalities=facts.modalities,
        behavior=facts.behavior,
        n_outputs=facts.n_classes if plan.task == "classes" else 1,
        max_history=plan.max_history,
        mean=facts.mean if plan.task == "rating" else 0.0,
    )
