"""What was learned from train alone: users' behaviour, and the standardisation of embeddings, done again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import polars as pl

from fedprep.behavior import behavior_features
from fedprep.checks.check import Check, NotAsked
from fedprep.checks.limits import Limits
from fedprep.checks.modalities import MODALITY, method_of
from fedprep.checks.rows import Rows
from fedprep.checks.tables import Tables
from fedprep.checks.vectors import Floats, parts_of
from fedprep.recipe import EmbedBehavior
from fedprep.schema import ITEM_ID, LABEL, RATING, SOURCE_ID, SPLIT, TIMESTAMP, USER_ID

__all__ = ["CHECKS"]

ROW = (USER_ID, ITEM_ID, RATING, LABEL, TIMESTAMP, SPLIT)


def features_come_from_train(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Users whose behaviour is not what their train rows give, computed again by `fedprep.behavior`.

    The component that differs most is shown, of the users who differ most; NaN and null differ without bound.
    Rows of users or items that there are not, or without a label, cannot be computed with and are left out.
    """
    assert tables.users is not None and tables.items is not None
    users = tables.users.select(USER_ID, "behavior").collect()
    if not users[USER_ID].equals(pl.int_range(users.height, dtype=pl.Int32, eager=True)):
        raise NotAsked("the ids of users do not number the rows: nobody's features can be told")
    items = tables.items.select(ITEM_ID, SOURCE_ID, "categories").drop_nulls(ITEM_ID).collect()
    options = _options(tables, users["behavior"].dtype)
    expected, facts = behavior_features(
        _usable_rows(tables, users.height, items), items, users.height, options
    )
    found = users["behavior"].to_numpy()  # (n_users, dim), NaN where null
    error = np.nan_to_num(np.abs(found - expected), nan=np.inf)
    place = error.argmax(axis=1)
    largest = error[np.arange(len(error)), place]
    rows = np.flatnonzero(largest > limits.max_feature_error)
    rows = rows[np.argsort(-largest[rows], kind="stable")]
    place = place[rows]
    names = [*facts["names"], *[""] * (options.dim - len(facts["names"]))]
    return pl.LazyFrame(
        {
            USER_ID: pl.Series(rows, dtype=pl.Int32),
            "feature": pl.Series(names, dtype=pl.String).gather(place),
            "found": found[rows, place],
            "from_train": expected[rows, place],
        }
    )


def _options(tables: Tables, dtype: Any) -> EmbedBehavior:
    recipe: Any = (tables.manifest or {}).get("recipe", {})
    table = recipe.get("embed", {}).get("behavior")
    if table is None:
        raise NotAsked("the manifest does not say how behaviour was computed")
    options = msgspec.convert(table, EmbedBehavior)
    return msgspec.structs.replace(options, dim=int(dtype.shape[0]))


@dataclass(frozen=True)
class UsableRows:
    """The rows that can be computed with, block by block and as often as they are asked for."""

    rows: Rows
    usable: pl.Expr

    def __iter__(self) -> Iterator[pl.DataFrame]:
        return (block.frame.filter(self.usable) for block in self.rows.blocks(ROW))


def _usable_rows(tables: Tables, n_users: int, items: pl.DataFrame) -> UsableRows:
    last = items[ITEM_ID].max()
    known = pl.col(USER_ID).is_between(0, n_users - 1) & pl.col(ITEM_ID).is_between(0, last)
    return UsableRows(tables.rows, known & pl.col(LABEL).is_not_null())


def standardisation_comes_from_train(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Dimensions that do not have mean 0, and under `standardize` deviation 1, over the items in train.

    Asked of modalities that were standardised or whitened; vectors that are not finite are left out, and a
    dimension that is 0 throughout has not varied.
    """
    modalities = [
        (modality, method)
        for modality in sorted(tables.embeddings)
        if (method := method_of(tables, modality)) in ("standardize", "whiten")
    ]
    if not modalities:
        raise NotAsked("no modality is standardised or whitened")
    found = []
    for modality, method in modalities:
        mean, deviation = _moments(tables, modality)
        wrong = ~(np.abs(mean) <= limits.max_feature_error)
        if method == "standardize":
            varies = tables.vectors(modality).alive
            wrong |= varies & ~(np.abs(deviation - 1.0) <= limits.max_feature_error)
        dimension = np.flatnonzero(wrong)
        table = pl.DataFrame(
            {"dimension": dimension, "mean": mean[dimension], "deviation": deviation[dimension]}
        )
        found.append(table.select(pl.lit(modality).alias(MODALITY), pl.all()))
    return pl.concat(found).lazy()


def _moments(tables: Tables, modality: str) -> tuple[Floats, Floats]:
    """Returns mean and deviation of each dimension over the items that train has: float64 (dim,)."""
    vectors = tables.vectors(modality)
    in_train = tables.totals.items.filter(pl.col("n_train") > 0)[ITEM_ID]
    used = vectors.finite & vectors.ids.is_in(in_train.implode()).fill_null(False).to_numpy()
    total, squares = np.zeros(vectors.dim), np.zeros(vectors.dim)
    for part in parts_of(tables.embeddings[modality], ITEM_ID, "embedding"):
        rows = np.flatnonzero(part.present) + part.first
        values = part.values[used[rows]].astype(np.float64)
        total += values.sum(axis=0)
        squares += np.einsum("ij,ij->j", values, values)
    n = max(int(used.sum()), 1)
    mean = total / n
    return mean, np.sqrt(np.maximum(squares / n - mean**2, 0.0))


CHECKS = (
    Check(
        name="features_come_from_train",
        group="splits",
        unit="users",
        of="table of users",
        function=features_come_from_train,
        needs=(
            "manifest",
            "users.behavior",
            "items.categories",
            "items.source_id",
            *(f"interactions.{column}" for column in ROW),
        ),
        limits=("max_feature_error",),
        means="Users' behaviour is not what their train rows give: held-out rows may have leaked into it.",
        todo="Build again; features are to be computed after the split, from train alone.",
    ),
    Check(
        name="standardisation_comes_from_train",
        group="splits",
        unit="dimensions",
        of="dimensions",
        function=standardisation_comes_from_train,
        needs=("manifest", "embeddings", "interactions"),
        limits=("max_feature_error",),
        means="Embeddings were not standardised over the items in train: held-out items have had a say.",
        todo="Build again; means and deviations are to be taken from items that train has.",
    ),
)
