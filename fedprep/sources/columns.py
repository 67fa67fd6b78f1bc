"""Columns of a user's own files in types that all files share: ids, ratings, times."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from fedprep.errors import SourceError
from fedprep.sources.tidy import BLANKS, null_if_empty

__all__ = ["WHOLE", "in_type", "integer_texts", "plain_integers", "shared_type"]

WHOLE = r"^(-?(?:0|[1-9]\d*))\.0+$"
"""A whole number as pandas writes it where a column had a gap: 7.0."""

DECIMAL_COMMA = r"^\s*([+-]?\d*),(\d+)\s*$"


def shared_type(name: str, found: Sequence[pl.DataType], files: Sequence[Path]) -> pl.DataType:
    """Returns the type in which a column of all files is handled.

    Ids are Int64 or String, a rating is Float32; a time is Int64 seconds where the files have a type for
    times, else Float64 or String.

    Args:
        name: user, item, rating or timestamp.
        found: the column's type in each file.
        files: the files, for messages.

    Raises:
        SourceError: the values of a file cannot be one of these, or not together.
    """
    kinds = {_kind(dtype): path for dtype, path in zip(found, files, strict=True)}
    if "other" in kinds or ("time" in kinds and (len(kinds) > 1 or name != "timestamp")):
        raise SourceError(
            f"`{name}` cannot be read from values of type {' and '.join(dict.fromkeys(map(str, found)))}",
            where=str(kinds.get("other", kinds.get("time"))),
            expected="numbers or text"
            + ("; or times in every file" if name == "timestamp" else ""),
        )
    if name in ("user", "item"):
        return pl.Int64() if kinds.keys() == {"integer"} else pl.String()
    if name == "rating":
        return pl.Float32()
    if "time" in kinds:
        return pl.Int64()
    return pl.String() if "text" in kinds else pl.Float64()


def in_type(name: str, found: pl.DataType, wanted: pl.DataType, decimal: str = ".") -> pl.Expr:
    """Returns a column of type `found` in the type that `shared_type` gave.

    Where that fails an id or a time is null, and a rating NaN: one that is not given is null. With
    `decimal = ","` ratings and times in text have a decimal comma.
    """
    column = pl.col(name)
    if _kind(found) == "time":
        return column.cast(pl.Datetime("us")).dt.epoch("s")
    if wanted == pl.String():
        if found.is_float():  # ids such as 12.0: integers that met a null in pandas
            whole = column.cast(pl.Int64, strict=False)
            spelled = pl.when(whole == column).then(whole.cast(pl.String))
            return pl.when(column.is_finite()).then(spelled.otherwise(column.cast(pl.String)))
        return null_if_empty(_with_point(column.cast(pl.String), name, decimal))
    if _kind(found) == "text":
        text = column.cast(pl.String).str.strip_chars(BLANKS)
        if wanted == pl.Int64():  # an id of a source whose ids are integers
            text = text.str.replace(WHOLE, "$1")
        column = null_if_empty(_with_point(text, name, decimal))
    value = column.cast(wanted, strict=False)
    if wanted != pl.Float32():
        return value
    return pl.when(column.is_not_null()).then(value.fill_null(float("nan")))


def _with_point(text: pl.Expr, name: str, decimal: str) -> pl.Expr:
    numbers = name in ("rating", "timestamp") and decimal == ","
    return text.str.replace(DECIMAL_COMMA, "$1.$2") if numbers else text


def plain_integers(rows: pl.LazyFrame, names: Sequence[str]) -> bool:
    """Returns whether every value is an integer, written without a plus, leading zeros or blanks."""
    schema = rows.collect_schema()
    text = [name for name in names if schema[name] == pl.String()]
    if not text:
        return True
    plain = pl.col(text).cast(pl.Int64, strict=False).cast(pl.String) == pl.col(text)
    return all(rows.select(plain.fill_null(False).all()).collect(engine="streaming").row(0))


def integer_texts(
    rows: pl.LazyFrame, names: Sequence[str]
) -> tuple[dict[str, int], dict[str, int]]:
    """Returns which text columns hold nothing but whole numbers, some with `.0`, and which hold more.

    Of the first, how many rows have one that ends in `.0`: there `7.0` is `7` (`007` and `7.5` are no
    whole numbers). Of the others, how many ids occur with and without it.
    """
    schema = rows.collect_schema()
    text = [name for name in names if schema[name] == pl.String()]
    if not text:
        return {}, {}
    whole = [pl.col(name).str.contains(WHOLE).sum().alias(f"{name} whole") for name in text]
    other = [
        (~pl.col(name).str.contains(r"^-?(?:0|[1-9]\d*)(?:\.0+)?$")).sum().alias(f"{name} other")
        for name in text
    ]
    counts = rows.select(*whole, *other).collect(engine="streaming").row(0, named=True)
    merged, twice = {}, {}
    for name in text:
        n_whole = counts[f"{name} whole"]
        if n_whole and not counts[f"{name} other"]:
            merged[name] = n_whole
        elif n_whole:
            ids = rows.select(pl.col(name).unique()).collect(engine="streaming")[name]
            plain = ids.filter(ids.str.contains(WHOLE)).str.replace(WHOLE, "$1").unique()
            twice[name] = int(plain.is_in(ids.implode()).sum())
    return merged, {name: count for name, count in twice.items() if count}


def _kind(dtype: pl.DataType) -> str:
    if dtype.is_integer() and dtype not in (pl.UInt64(), pl.Int128(), pl.UInt128()):
        return "integer"
    if dtype.is_numeric() or dtype == pl.Boolean():
        return "number"
    if isinstance(dtype, (pl.Date, pl.Datetime)):
        return "time"
    return "text" if isinstance(dtype, (pl.String, pl.Categorical, pl.Enum)) else "other"
