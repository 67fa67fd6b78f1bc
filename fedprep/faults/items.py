"""Faults in the tables of items and users."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from fedprep.errors import DatasetError
from fedprep.faults.copy import Copy, Planted
from fedprep.schema import ITEM_ID, USER_ID

__all__ = ["FAULTS"]

MARKUP = '<span class="a-size-medium a-color-secondary">'


def repeated_item_ids(copy: Copy) -> Planted:
    """Three items have the id of the item before them."""
    also = ("items_exist", "embeddings_match_items", "features_come_from_train")
    before = {ITEM_ID: pl.col(ITEM_ID) - 1}
    return _changed(copy, "ids_are_dense_and_unique", before, beyond=0, unit="rows", also=also)


def null_texts(copy: Copy) -> Planted:
    """Three items that had a text have none; their embeddings stay."""
    there = pl.col("text").is_not_null()
    also = ("missing_modalities_are_null",)
    return _changed(copy, "texts_are_present", {"text": None}, among=there, also=also)


def markup_in_texts(copy: Copy) -> Planted:
    """Three texts are raw HTML."""
    html = pl.format(MARKUP + "{}</span>", "text")
    return _changed(
        copy, "texts_are_not_markup", {"text": html}, among=pl.col("text").is_not_null()
    )


def leaking_features(copy: Copy) -> Planted:
    """The behaviour of three users is not what train gives."""
    also = ("scale_matches_manifest",)
    return _behaviour(copy, lambda features: features + np.float32(1.0), also=also)


def nan_features(copy: Copy) -> Planted:
    """The behaviour of three users starts with NaN."""

    def spoilt(features: Any) -> Any:
        features[:, 0] = np.nan
        return features

    return _behaviour(copy, spoilt, also=("numbers_are_finite", "scale_matches_manifest"))


def _changed(
    copy: Copy,
    check: str,
    values: dict[str, Any],
    *,
    among: pl.Expr | None = None,
    beyond: int = -1,
    unit: str = "items",
    also: tuple[str, ...] = (),
) -> Planted:
    """Gives three items other values; `beyond`: only items of a larger id, no two of them in a row."""
    items = copy.read("items.parquet")
    usable = items.filter((pl.col(ITEM_ID) > beyond) & (True if among is None else among))[ITEM_ID]
    if beyond >= 0:
        usable = usable.filter(usable % 2 == 1)
    chosen = copy.some(usable)
    picked = items[ITEM_ID].is_in(chosen.tolist())
    new = {
        name: pl.when(picked).then(value).otherwise(name).cast(items.schema[name])
        for name, value in values.items()
    }
    copy.write("items.parquet", items.with_columns(**new))
    first = tuple(chosen.tolist())
    return Planted(check=check, unit=unit, count=len(chosen), first=first, also=also)


def _behaviour(copy: Copy, change: Callable[[Any], Any], *, also: tuple[str, ...] = ()) -> Planted:
    users = copy.read("users.parquet")
    if "behavior" not in users.columns:
        raise DatasetError("the Dataset has no behaviour features: embed.behavior.dim is 0")
    features = users["behavior"].to_numpy().copy()  # (n_users, dim)
    chosen = copy.some(users[USER_ID])
    features[chosen] = change(features[chosen])
    new = pl.Series("behavior", features, dtype=users.schema["behavior"])
    copy.write("users.parquet", users.with_columns(new))
    first = tuple(chosen.tolist())
    check = "features_come_from_train"
    return Planted(check=check, unit="users", count=len(chosen), first=first, also=also)


FAULTS: dict[str, Callable[[Copy], Planted]] = {
    function.__name__: function
    for function in (
        repeated_item_ids,
        null_texts,
        markup_in_texts,
        leaking_features,
        nan_features,
    )
}
