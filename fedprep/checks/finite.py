"""Numbers of items and users are numbers. Ratings and embeddings have checks of their own."""

from __future__ import annotations

import polars as pl

from fedprep.checks.check import Check, NotAsked
from fedprep.checks.limits import Limits
from fedprep.checks.tables import Tables
from fedprep.schema import ITEM_ID, USER_ID

__all__ = ["CHECKS"]

KEYS = {"items": ITEM_ID, "users": USER_ID}


def numbers_are_finite(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Rows of items and users with NaN or an infinite value in a column or an array; null is neither."""
    found = []
    for table, key in KEYS.items():
        frame: pl.LazyFrame | None = getattr(tables, table)
        if frame is None or tables.lacks(f"{table}.{key}"):
            continue
        wrong = {
            column: ~finite
            for column, dtype in tables.columns(table).items()
            if (finite := _is_finite(column, dtype)) is not None
        }
        if wrong:
            names = [pl.when(is_wrong).then(pl.lit(name)) for name, is_wrong in wrong.items()]
            rows = frame.filter(pl.any_horizontal(wrong.values()))
            found.append(
                rows.select(
                    pl.lit(table).alias("table"),
                    pl.col(key).cast(pl.String).alias("id"),
                    pl.concat_str(names, separator=", ", ignore_nulls=True).alias("columns"),
                )
            )
    if not found:
        raise NotAsked("items and users have no column of fractional numbers")
    return pl.concat(found)


def _is_finite(column: str, dtype: pl.DataType) -> pl.Expr | None:
    """Returns whether all values of a row's cell are finite, None for a column without fractions."""
    if dtype.is_float():
        return pl.col(column).is_finite()
    if isinstance(dtype, pl.Array | pl.List) and isinstance(dtype.inner, pl.Float32 | pl.Float64):
        # A sum in 64 bits is finite where all terms of 32 bits are.
        wide = pl.col(column).cast(pl.List(pl.Float64))
        return wide.list.sum().is_finite()
    return None


CHECKS = (
    Check(
        name="numbers_are_finite",
        group="items",
        unit="rows",
        of="items and users",
        function=numbers_are_finite,
        means="Items or users have numbers that are NaN or infinite: a model that reads them learns NaN.",
        todo="Find out which step made them; a number that is not known is null.",
    ),
)
