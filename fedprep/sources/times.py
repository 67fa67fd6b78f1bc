"""Times as sources write them, as int64 seconds since 1970 UTC."""

from __future__ import annotations

import polars as pl

__all__ = ["likely_unit", "seconds", "seconds_of_numbers", "seconds_of_text"]

TIME_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""How many of a unit make a second."""

UNIT_BOUNDS = {"s": 1e11, "ms": 1e14, "us": 1e17, "ns": float("inf")}
"""A number below the bound, and not below the one before it, is taken for a time in that unit.

Seconds below theirs reach to the year 5138, milliseconds from there on begin in March 1973.
"""

USUAL = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d")
ISO = (
    r"^\s*(?<date>\d{4}[-/]\d{1,2}[-/]\d{1,2})"
    r"(?:[T ]\s*(?<hour>\d{1,2}):(?<minute>\d{2})(?::(?<second>\d{2})(?:[.,]\d+)?)?)?"
    r"\s*(?:Z|UTC|(?<sign>[+-])(?<hours>\d{2}):?(?<minutes>\d{2})?)?\s*$"
)


def likely_unit(rows: pl.LazyFrame, column: str) -> str:
    """Returns the unit in which most values of a column are written: s, ms, us, ns or text.

    Args:
        rows: the table.
        column: a column of numbers (Float64) or of String, numbers among them.
    """
    number = _number(rows, column)
    below = 0.0
    votes: dict[str, pl.Expr] = {}
    for unit, bound in UNIT_BOUNDS.items():
        votes[unit] = number.abs().is_between(below, bound, closed="left").sum()
        below = bound
    votes["text"] = (pl.col(column).is_not_null() & number.is_null()).sum()
    counts = rows.select(**votes).collect(engine="streaming").row(0, named=True)
    return max(counts, key=lambda unit: counts[unit])


def seconds(rows: pl.LazyFrame, column: str, unit: str) -> pl.Expr:
    """Returns the seconds of a column of numbers or of String, in one of `likely_unit`'s units."""
    if unit == "text":
        return seconds_of_text(pl.col(column).cast(pl.String))
    return seconds_of_numbers(_number(rows, column), unit)


def seconds_of_text(text: pl.Expr) -> pl.Expr:
    """Returns the seconds of ISO dates and date-times in a String column; null where one is not valid.

    `2014-02-28`, `2014/2/28`, `2014-02-28 13:05`, `2014-02-28T13:05:09.25Z`, `… 13:05:09+02:00`. Without
    an offset a time is UTC; fractions of a second are cut off.
    """
    return text.map_batches(_seconds, return_dtype=pl.Int64, is_elementwise=True)


def seconds_of_numbers(number: pl.Expr, unit: str) -> pl.Expr:
    """Returns the seconds of times in `unit`, rounded down; null where a number is not finite."""
    # A double holds a time in ns to some hundred of them: a whole second must not become the one before.
    return (number / TIME_UNITS[unit] + 1e-6).floor().cast(pl.Int64, strict=False)


def _number(rows: pl.LazyFrame, column: str) -> pl.Expr:
    value = pl.col(column)
    if rows.collect_schema()[column] == pl.String():
        return value.str.strip_chars().cast(pl.Float64, strict=False)
    return value


def _seconds(text: pl.Series) -> pl.Series:
    """The two usual forms first: matching the pattern below takes sixty times as long."""
    seconds = pl.Series(text.name, [None], dtype=pl.Int64).new_from_index(0, len(text))
    for form in (*USUAL, None):
        open_ = text.is_not_null() & seconds.is_null()
        if not open_.any():
            break
        values = text.filter(open_)
        found = _by_pattern(values) if form is None else _by_format(values, form)
        seconds = seconds.scatter(open_.arg_true(), found)
    return seconds


def _by_format(text: pl.Series, form: str) -> pl.Series:
    return text.str.to_datetime(form, strict=False, time_unit="us").dt.epoch("s")


def _by_pattern(text: pl.Series) -> pl.Series:
    parts = text.str.extract_groups(ISO).struct

    def number(name: str) -> pl.Series:
        return parts.field(name).cast(pl.Int64, strict=False).fill_null(0)

    days = parts.field("date").str.replace_all("/", "-", literal=True)
    days = days.str.to_date("%Y-%m-%d", strict=False).cast(pl.Int32).cast(pl.Int64)
    hour, minute, second = (number(name) for name in ("hour", "minute", "second"))
    offset = number("hours") * 3600 + number("minutes") * 60
    offset *= (parts.field("sign") == "-").fill_null(False).cast(pl.Int64) * -2 + 1
    seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset
    valid = (hour < 24) & (minute < 60) & (second <= 60)
    return seconds.set(~valid, None)
