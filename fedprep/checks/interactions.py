"""Rows of interactions: finite, in range, unique, of items and users that exist, and enough of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from fedprep.checks.check import Check
from fedprep.checks.limits import Limits
from fedprep.checks.tables import Tables
from fedprep.errors import DatasetError
from fedprep.schema import CLIENT_ID, ITEM_ID, LABEL, RATING, TIMESTAMP, USER_ID

__all__ = ["CHECKS"]

DAY = 86_400

UNITS = {"milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}


def no_missing_values(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Rows with a null in a column that must be full. Clients are the business of another check.

    A rating may be null where labels are implicit, and a timestamp where the manifest knows of none.
    """
    manifest = tables.manifest or {}
    may_be_null = {CLIENT_ID}
    if _clean(manifest).get("label") == "implicit":
        may_be_null.add(RATING)
    if manifest.get("facts", {}).get("time_range") == [None, None]:
        may_be_null.add(TIMESTAMP)
    full = [name for name in tables.rows.columns if name not in may_be_null]
    offends = pl.any_horizontal(pl.col(full).is_null())
    names = [pl.when(pl.col(name).is_null()).then(pl.lit(name)) for name in full]
    return _rows(
        tables, offends, pl.concat_str(names, separator=", ", ignore_nulls=True).alias("missing")
    )


def ratings_are_finite(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Rows whose rating is NaN or infinite; a missing one is neither."""
    return _rows(tables, ~pl.col(RATING).is_finite(), RATING)


def ratings_are_in_range(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Rows whose rating is outside the scale; NaN and infinite ones are another check's."""
    rating, low, high = _comparable(tables, limits.min_rating, limits.max_rating)
    return _rows(tables, rating.is_finite() & ((rating < low) | (rating > high)), RATING)


def labels_match_ratings(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Rows whose label is not what `clean.label` makes of the rating.

    Rows without a label or without a finite rating are other checks'; an implicit label is 1 whatever the
    rating.
    """
    assert tables.manifest is not None
    clean = _clean(tables.manifest)
    label = pl.col(LABEL)
    if "label" not in clean or (clean["label"] == "binary" and "threshold" not in clean):
        raise DatasetError("the manifest does not say how labels are made: no recipe.clean")
    if clean["label"] == "implicit":
        return _rows(tables, label != 1, RATING, LABEL)
    if clean["label"] == "binary":
        rating, threshold = _comparable(tables, clean["threshold"])
        right = label == pl.when(rating >= threshold).then(1).otherwise(0)
    else:
        classes = tables.manifest["classes"]
        (rating,) = _comparable(tables)
        values = pl.lit(pl.Series(classes, dtype=pl.Float64).cast(pl.Float32))
        of_label = values.gather(label.clip(0, len(classes) - 1).cast(pl.UInt32))
        right = label.is_between(0, len(classes) - 1) & (rating.cast(pl.Float32) == of_label)
    return _rows(tables, rating.is_finite() & ~right, RATING, LABEL)


def timestamps_are_plausible(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Rows whose time is no second between two moments; `looks_like` says what it may be instead."""
    first, last = limits.min_timestamp, limits.max_timestamp
    assert last is not None
    time = pl.col(TIMESTAMP)
    readings = {
        "no time: 0": time == 0,
        **{
            f"{unit}, not seconds": time.is_between(first * factor, last * factor)
            for unit, factor in UNITS.items()
        },
        "seconds divided by 1000, as if they were milliseconds": time.is_between(
            first // 1000, last // 1000
        ),
        "days, not seconds": time.is_between(first // DAY, last // DAY),
        "too early": time < first,
        "in the future": time > last,
    }
    looks_like = pl.coalesce(pl.when(holds).then(pl.lit(name)) for name, holds in readings.items())
    return _rows(tables, ~time.is_between(first, last), TIMESTAMP, looks_like.alias("looks_like"))


def pairs_are_unique(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Pairs of user and item that have more than one row, each once; rows that lack either are left out."""
    assert tables.interactions is not None
    pairs = tables.interactions.select(USER_ID, ITEM_ID).drop_nulls()
    narrow = (pl.Int8, pl.Int16, pl.Int32)
    if all(tables.columns("interactions")[name] in narrow for name in (USER_ID, ITEM_ID)):
        frame = pairs.collect()
        user, item = (frame[name].to_numpy().astype(np.int64) for name in (USER_ID, ITEM_ID))
        # One sort of packed numbers takes a sixth of the time of a group by two columns.
        key = np.sort(user << 32 | (item & 0xFFFF_FFFF))
        twice = np.unique(key[1:][key[1:] == key[:-1]])
        found = {USER_ID: twice >> 32, ITEM_ID: (twice & 0xFFFF_FFFF).astype(np.int32)}
        return pl.LazyFrame(found)
    repeated = pairs.group_by(USER_ID, ITEM_ID).len().filter(pl.col("len") > 1)
    return repeated.select(USER_ID, ITEM_ID).sort(USER_ID, ITEM_ID)


def items_exist(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Rows whose item is not in the table of items; rows without an item are another check's."""
    return _rows(tables, _unknown(ITEM_ID, tables.ids("items")))


def users_exist(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Rows whose user is not in the table of users; rows without a user are another check's."""
    return _rows(tables, _unknown(USER_ID, tables.ids("users")))


def users_have_enough_history(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Users with too few rows in train, those with the fewest first. Without splits all rows count."""
    users = tables.totals.users.lazy().filter(pl.col("n_train") < limits.min_user_history)
    return users.sort("n_train", USER_ID).select(USER_ID, "n_rows", "n_train")


def sparsity_is_workable(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Those of the measures density, rows per user and rows per item that are below their limits."""
    n_rows = tables.rows.n_rows
    n_users, n_items = tables.totals.users.height, tables.totals.items.height
    measures = (
        ("density", n_rows / max(n_users * n_items, 1), limits.min_density),
        ("rows per user", n_rows / max(n_users, 1), limits.min_rows_per_user),
        ("rows per item", n_rows / max(n_items, 1), limits.min_rows_per_item),
    )
    columns = {"measure": pl.String, "value": pl.Float64, "limit": pl.Float64}
    table = pl.LazyFrame(measures, schema=columns, orient="row")
    return table.filter(pl.col("value") < pl.col("limit"))


def _rows(tables: Tables, offends: pl.Expr, *shown: str | pl.Expr) -> pl.LazyFrame:
    """Returns the rows where the expression is true: client, user, item, and what is to be shown."""
    assert tables.interactions is not None
    there = tables.columns("interactions")
    who = [name for name in (CLIENT_ID, USER_ID, ITEM_ID) if name in there]
    return tables.interactions.filter(offends).select(*who, *shown)


def _clean(manifest: Mapping[str, Any]) -> dict[str, Any]:
    clean: dict[str, Any] = manifest.get("recipe", {}).get("clean", {})
    return clean


def _comparable(tables: Tables, *numbers: float | None) -> tuple[pl.Expr, ...]:
    """Returns the rating and numbers in one type: the 3.3 on disk is below the 3.3 of a recipe."""
    dtype = tables.columns("interactions")[RATING]
    kind = dtype if dtype.is_float() else pl.Float64()
    return pl.col(RATING).cast(kind), *(pl.lit(number, kind) for number in numbers)


def _unknown(column: str, ids: pl.Series) -> pl.Expr:
    """Returns whether an id is none of `ids`, which are sorted and distinct; null where it is null."""
    n = len(ids)
    if n and ids.dtype.is_integer() and ids[0] == 0 and ids[-1] == n - 1:
        return ~pl.col(column).is_between(0, n - 1)
    return ~pl.col(column).is_in(ids.implode())


CHECKS = (
    Check(
        name="no_missing_values",
        group="interactions",
        unit="rows",
        of="interactions",
        function=no_missing_values,
        needs=("interactions",),
        blocks="rows",
        means="Rows lack a value that every row must have.",
        todo="Drop these rows or fill them in; ratings may be missing with clean.label = \"implicit\" alone.",
    ),
    Check(
        name="ratings_are_finite",
        group="interactions",
        unit="rows",
        of="interactions",
        function=ratings_are_finite,
        needs=("interactions.rating",),
        blocks="rows",
        means="Ratings are NaN or infinite: one of them makes a loss NaN.",
        todo="Find out which step made them, and drop or mend these rows.",
    ),
    Check(
        name="ratings_are_in_range",
        group="interactions",
        unit="rows",
        of="interactions",
        function=ratings_are_in_range,
        needs=("interactions.rating",),
        limits=("min_rating", "max_rating"),
        blocks="rows",
        means="Ratings lie outside their scale; NaN and infinite ones are counted by ratings_are_finite.",
        todo="Set clean.min_rating and clean.max_rating, or the limits to the true scale.",
    ),
    Check(
        name="labels_match_ratings",
        group="interactions",
        unit="rows",
        of="interactions",
        function=labels_match_ratings,
        needs=("interactions.rating", "interactions.label", "manifest"),
        blocks="rows",
        means="Labels are not what clean.label makes of the ratings: a model would learn another task.",
        todo="Build again, or make the labels anew from the ratings.",
    ),
    Check(
        name="timestamps_are_plausible",
        group="interactions",
        unit="rows",
        of="interactions",
        function=timestamps_are_plausible,
        needs=("interactions.timestamp",),
        limits=("min_timestamp", "max_timestamp"),
        blocks="rows",
        means="Times are not seconds since 1970 UTC, or lie where no data can be: no order by time holds.",
        todo="Set source.time_unit as the examples say, or drop these rows (clean.from_date, clean.to_date).",
    ),
    Check(
        name="pairs_are_unique",
        group="interactions",
        unit="pairs",
        of="interactions",
        function=pairs_are_unique,
        needs=("interactions",),
        blocks="users",
        means="A user has several rows on one item: the same pair can be in train and in test.",
        todo="Set clean.duplicates, or keep one row of each pair.",
    ),
    Check(
        name="items_exist",
        group="interactions",
        unit="rows",
        of="interactions",
        function=items_exist,
        needs=("interactions", "items"),
        blocks="rows",
        means="Rows name items that the table of items does not have: their features cannot be looked up.",
        todo="Add the items, or drop these rows.",
    ),
    Check(
        name="users_exist",
        group="interactions",
        unit="rows",
        of="interactions",
        function=users_exist,
        needs=("interactions", "users"),
        blocks="rows",
        means="Rows name users that the table of users does not have: their features cannot be looked up.",
        todo="Add the users, or drop these rows.",
    ),
    Check(
        name="users_have_enough_history",
        group="interactions",
        unit="users",
        of="users",
        function=users_have_enough_history,
        needs=("interactions",),
        severity="warn",
        limits=("min_user_history",),
        means="Users have too few rows in train to learn their taste from.",
        todo="Set clean.user_core or clean.k_core, or report such users apart.",
    ),
    Check(
        name="sparsity_is_workable",
        group="interactions",
        unit="measures",
        of="measures",
        function=sparsity_is_workable,
        needs=("interactions",),
        severity="warn",
        limits=("min_density", "min_rows_per_user", "min_rows_per_item"),
        means="There are so few rows for so many users or items that most models learn popularity alone.",
        todo="Set clean.k_core, choose a denser edition, or bring item features.",
    ),
)  # fmt: skip
"""In order of running: missing and finite, range and scale, uniqueness, references, and how many."""
