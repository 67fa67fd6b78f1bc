"""Filters that look at one row at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from fedprep.errors import RecipeError
from fedprep.recipe import Clean, date_of, seconds_of
from fedprep.schema import ITEM_ID, RATING, TIMESTAMP

__all__ = ["Rule", "range_of", "refuse_contradictions", "rules"]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Rows stay where `keep` is true; it is never null."""

    name: str
    keep: pl.Expr
    why: str  # a row goes
    key: str  # of the recipe, or the column
    hint: str  # where no row stays
    column: str = ""  # whose range then helps


def rules(options: Clean, has_metadata: npt.NDArray[np.bool_] | None) -> list[Rule]:
    """Returns the filters that the options ask for, in order.

    Raises:
        RecipeError: a bad date.
    """
    chosen = [_rating_is_there(implicit=options.label == "implicit"), _timestamp_is_there()]
    if options.min_rating is not None or options.max_rating is not None:
        chosen.append(_rating_in_range(options.min_rating, options.max_rating))
    if options.from_date or options.to_date:
        chosen.append(_date_in_range(options.from_date, options.to_date))
    if options.metadata == "drop":
        assert has_metadata is not None, "metadata = 'drop' needs to know which items have some"
        chosen.append(_item_has_metadata(has_metadata))
    return chosen


def _rating_is_there(*, implicit: bool) -> Rule:
    if implicit:
        return Rule(
            name="broken ratings",
            keep=pl.col(RATING).is_finite().fill_null(True),
            why="the rating is NaN or infinite",
            key=RATING,
            hint="leave the rating empty where there is none",
        )
    return Rule(
        name="missing or broken ratings",
        keep=pl.col(RATING).is_finite().fill_null(False),
        why="the rating is missing, NaN or infinite",
        key=RATING,
        hint='data without ratings needs clean.label = "implicit"',
    )


def _timestamp_is_there() -> Rule:
    missing = pl.col(TIMESTAMP).is_null()
    return Rule(
        name="missing timestamps",
        keep=~missing | missing.all(),
        why="the row has no timestamp, others have one",
        key=TIMESTAMP,
        hint="",  # where no row has one, all stay
    )


def _rating_in_range(low: float | None, high: float | None) -> Rule:
    # float32 against float32: the 3.3 on disk is less than the 3.3 of the recipe.
    inside = pl.lit(True)
    if low is not None:
        inside &= pl.col(RATING) >= pl.lit(low, pl.Float32)
    if high is not None:
        inside &= pl.col(RATING) <= pl.lit(high, pl.Float32)
    span = " to ".join("…" if end is None else f"{end:g}" for end in (low, high))
    return Rule(
        name="rating range",
        keep=inside.fill_null(False),
        why=f"the rating is not within {span}",
        key="clean.min_rating, clean.max_rating",
        hint="set the range; both ends are included",
        column=RATING,
    )


def _date_in_range(first: str, end: str) -> Rule:
    inside = pl.lit(True)
    if first:
        inside &= pl.col(TIMESTAMP) >= seconds_of(first, key="clean.from_date")
    if end:
        inside &= pl.col(TIMESTAMP) < seconds_of(end, key="clean.to_date")
    return Rule(
        name="date range",
        keep=inside.fill_null(False),
        why=f"the time is not within {first or '…'} to {end or '…'} (excluded), UTC",
        key="clean.from_date, clean.to_date",
        hint="set the dates; to_date is excluded",
        column=TIMESTAMP,
    )


def _item_has_metadata(has_metadata: npt.NDArray[np.bool_]) -> Rule:
    return Rule(
        name="items without metadata",
        keep=pl.lit(pl.Series(has_metadata)).gather(pl.col(ITEM_ID)),
        why="the source has no metadata of the item",
        key="clean.metadata",
        hint='set clean.metadata = "keep", or bring a table of items (source.items)',
    )


def range_of(rows: pl.DataFrame, column: str) -> str:
    """Returns in words from where to where the ratings or timestamps go."""
    values = rows[column].drop_nulls().to_numpy()
    if not values.size:
        return f"a {column}, and no row has one"
    low, high = values.min(), values.max()
    if column == TIMESTAMP:
        return f"a range that meets the rows' times, {date_of(int(low))} to {date_of(int(high))}"
    return f"a range that meets the rows' ratings, {low:g} to {high:g}"


def refuse_contradictions(options: Clean) -> None:
    """Raises RecipeError where a range can hold nothing, whatever the data."""
    low, high = options.min_rating, options.max_rating
    for key, value in (("min_rating", low), ("max_rating", high), ("threshold", options.threshold)):
        if value is not None and math.isnan(value):
            raise RecipeError(f"clean.{key} is NaN", expected="a number")
    if low is not None and high is not None and low > high:
        raise RecipeError(f"clean.min_rating = {low:g} is above clean.max_rating = {high:g}")
    first, end = options.from_date, options.to_date
    if not first or not end:
        return
    if seconds_of(first, key="clean.from_date") >= seconds_of(end, key="clean.to_date"):
        raise RecipeError(
            f"clean.from_date = {first} is not before clean.to_date = {end}",
            expected="from_date is included, to_date is not",
        )
