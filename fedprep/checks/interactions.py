"""Rows of interactions: finite, in range, unique, of items and users that exist."""

from __future__ import annotations

import polars as pl

from fedprep.checks.check import Check
from fedprep.checks.limits import Limits
from fedprep.checks.tables import Tables
from fedprep.schema import CLIENT_ID, ITEM_ID, RATING, USER_ID

__all__ = ["CHECKS"]


def ratings_are_finite(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Rows whose rating is NaN or infinite; a missing one is none of them."""
    return _rows(tables, pl.col(RATING).cast(pl.Float64).is_finite().not_(), RATING)


def pairs_are_unique(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Pairs of user and item that have more than one row, each once."""
    assert tables.interactions is not None
    keys = tables.interactions.filter(pl.all_horizontal(pl.col(USER_ID, ITEM_ID).is_not_null()))
    counts = keys.group_by(USER_ID, ITEM_ID).agg(pl.len().alias("rows"))
    return counts.filter(pl.col("rows") > 1).sort(USER_ID, ITEM_ID)


def _rows(tables: Tables, offends: pl.Expr, *columns: str) -> pl.LazyFrame:
    """Returns the rows where the expression is true: who, and the columns named."""
    assert tables.interactions is not None
    there = tables.columns("interactions")
    who = [name for name in (CLIENT_ID, USER_ID, ITEM_ID) if name in there]
    return tables.interactions.filter(offends).select(*who, *columns)


CHECKS = (
    Check(
        name="ratings_are_finite",
        group="interactions",
        unit="rows",
        of="interactions",
        function=ratings_are_finite,
        needs=("interactions.rating",),
        blocks="rows",
        means="Ratings are NaN or infinite: one of them makes a loss NaN.",
        todo="Look at where they come from, and drop or mend these rows.",
    ),
    Check(
        name="pairs_are_unique",
        group="interactions",
        unit="pairs",
        of="interactions",
        function=pairs_are_unique,
        needs=("interactions.user_id", "interactions.item_id"),
        blocks="users",
        means="A user has rated an item several times: the item can be in train and in test at once.",
        todo="Set clean.duplicates, or keep one row of each pair.",
    ),
)
