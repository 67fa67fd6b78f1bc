"""Tables of any origin under our column names, read whole or block by block.

A file is never loaded whole for its size's sake: what reads it asks for blocks (`Table.blocks`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from fedeval.opening import RANK, RELEVANCE, SCORE, Role, opened, role_name
from fedprep.errors import EvaluationError, nearest
from fedprep.schema import ITEM_ID, LABEL, RATING, TIMESTAMP, USER_ID

__all__ = [
    "RANK",
    "RELEVANCE",
    "SCORE",
    "Role",
    "Table",
    "names_there",
    "read_table",
    "with_ids_like",
]

BLOCK = 1 << 18
"""Rows in a block: what they touch stays in the processor's cache."""

NEEDED: dict[str, tuple[str, ...]] = {
    "recommendations": (USER_ID, ITEM_ID),
    "truth": (USER_ID, ITEM_ID),
    "train": (USER_ID, ITEM_ID),
    "items": (ITEM_ID,),
}
OPTIONAL: dict[str, tuple[str, ...]] = {
    "recommendations": (RANK, SCORE),
    "truth": (RELEVANCE, RATING, LABEL),
    "train": (TIMESTAMP,),
    "items": ("categories", "embedding"),
}
IDS = (USER_ID, ITEM_ID)

INTEGER = r"^(0|-?[1-9]\d{0,18})$"


@dataclass(frozen=True, eq=False)
class Table:
    """Rows under our names, in memory or not yet read.

    rows: `user_id` and `item_id` Int32, Int64 or String; the rest numbers.
    role: what the table is, for errors. where: its file, or "". text: its ids were written as text.
    trec: it is a run of TREC, whose ranks are not believed.
    """

    rows: pl.DataFrame | pl.LazyFrame
    schema: Mapping[str, pl.DataType]
    role: str
    where: str = ""
    text: bool = False
    trec: bool = False

    def __contains__(self, column: str) -> bool:
        return column in self.schema

    def of(self, rows: pl.DataFrame | pl.LazyFrame) -> Table:
        """Returns the same table of other rows."""
        return replace(self, rows=rows, schema=rows.collect_schema())

    def blocks(
        self, columns: tuple[str, ...], bounds: tuple[Any, Any] = (None, None)
    ) -> Iterator[pl.DataFrame]:
        """Yields the rows in blocks, in their order.

        Args:
            columns: wanted.
            bounds: of the users wanted: from the first, to before the second; None: no bound.
        """
        rows = self.rows.select(columns)
        low, high = bounds
        if low is not None:
            rows = rows.filter(pl.col(USER_ID) >= low)
        if high is not None:
            rows = rows.filter(pl.col(USER_ID) < high)
        if isinstance(rows, pl.DataFrame):
            yield from rows.iter_slices(BLOCK)
        else:
            yield from rows.collect_batches(chunk_size=BLOCK)

    def whole(self, *columns: str) -> pl.DataFrame:
        """Returns columns in memory; none named: all."""
        rows = self.rows.select(columns) if columns else self.rows
        return rows.lazy().collect(engine="streaming") if isinstance(rows, pl.LazyFrame) else rows

    def distinct(self, column: str) -> pl.Series:
        """Returns the distinct values of a column, in any order."""
        return self.rows.lazy().select(pl.col(column).unique()).collect(engine="streaming")[column]

    def range(self, column: str) -> tuple[Any, Any]:
        """Returns least and largest value of a column; None where there is none."""
        ends = self.rows.lazy().select(
            pl.col(column).min().alias("low"), pl.col(column).max().alias("high")
        )
        return ends.collect(engine="streaming").row(0)


def read_table(source: Any, role: Role, columns: Mapping[str, str] | None = None) -> Table:
    """Returns a table under our column names.

    Args:
        source: a path (Parquet, CSV, TSV, Arrow, TREC, a Run's folder, or a folder of Parquet files of
            one table), a frame or lazy frame of polars, a frame of pandas, a table of Arrow, or a mapping
            of columns.
        role: what it is.
        columns: our name to the table's own, where they differ: `{"user_id": "uid"}`.

    Raises:
        EvaluationError: no such file, a column is missing or of a wrong type, or there is no row.
    """
    if isinstance(source, Table):
        return source
    where = str(source) if isinstance(source, str | Path) else ""
    try:
        rows, trec = opened(source, role)
        schema = rows.collect_schema()
        rows = rows.select(_chosen(schema, role, columns or {}, where))
        if not rows.lazy().head(1).collect().height:
            raise EvaluationError(f"the {role_name(role)} has no row", where=where)
        rows = _typed(rows, role, where)
        text = bool(where) and all(dtype == pl.String for dtype in schema.values())
        if text:
            rows = _with_integers(rows)
        return Table(rows, rows.collect_schema(), role, where, text, trec)
    except (pl.exceptions.PolarsError, OSError) as error:
        what = str(error).partition("\n")[0]  # what follows are arguments of polars
        raise EvaluationError(
            f"the {role_name(role)} cannot be read: {what}", where=where
        ) from None


def names_there(
    source: Any, role: Role, columns: Mapping[str, str]
) -> tuple[dict[str, str], set[str]]:
    """Returns those of `columns` to read this source by, and which of their names it has.

    A table that lacks a name and has ours in its place is read by ours.

    Raises:
        EvaluationError: there is no such file, or no table in it.
    """
    try:
        schema = opened(source, role)[0].collect_schema()
    except (pl.exceptions.PolarsError, OSError):
        return dict(columns), set(columns.values())  # whoever reads it says what is wrong
    kept = {ours: c for ours, c in columns.items() if c in schema or ours not in schema}
    return kept, {c for c in columns.values() if c in schema}


def with_ids_like(table: Table, other: Table) -> Table:
    """Returns a table whose ids are of the kind, integers or text, of another's.

    Integers that a file of text held become text again. Otherwise kinds are never mixed.

    Raises:
        EvaluationError: one has text and the other integers.
    """
    changes = []
    for name in IDS:
        if name not in table or name not in other:
            continue
        ours, theirs = table.schema[name] == pl.String, other.schema[name] == pl.String
        if ours == theirs or (ours and other.text):
            continue
        if ours or not table.text:
            raise EvaluationError(
                f"'{name}' is {table.schema[name]} in the {role_name(table.role)} and"
                f" {other.schema[name]} in the {role_name(other.role)}",
                where=table.where,
                expected="the same ids in both",
                hint=f"cast one of them, as in pl.col('{name}').cast(pl.String)",
            )
        changes.append(pl.col(name).cast(pl.String))
    if not changes:
        return table
    return table.of(table.rows.with_columns(changes))


# --- names and types -----------------------------------------------------------------------------------


def _chosen(
    schema: Mapping[str, pl.DataType], role: Role, columns: Mapping[str, str], where: str
) -> list[pl.Expr]:
    known = NEEDED[role] + OPTIONAL[role]
    for ours in columns:
        if ours not in known:
            raise EvaluationError(
                f"the {role_name(role)} has no use for a column '{ours}'", hint=nearest(ours, known)
            )
    for ours in NEEDED[role] + tuple(columns):
        theirs = columns.get(ours, ours)
        if theirs not in schema:
            raise EvaluationError(
                f"the {role_name(role)} has no column '{theirs}'",
                where=where,
                expected=" · ".join(NEEDED[role]),
                hint=f"{_stopped(nearest(theirs, schema))} Name it: columns={{'{ours}': …}} in Python, "
                f"--{ours.removesuffix('_id')} on the command line",
            )
    if role == "recommendations" and not any(columns.get(c, c) in schema for c in (RANK, SCORE)):
        raise EvaluationError(
            "the recommendations have neither a rank nor a score",
            where=where,
            hint=nearest(RANK, schema),
        )
    there = [c for c in known if columns.get(c, c) in schema]
    return [pl.col(columns.get(c, c)).alias(c) for c in there]


def _stopped(text: str) -> str:
    return text if text.endswith(("?", "…")) else f"{text}."


def _typed(
    rows: pl.DataFrame | pl.LazyFrame, role: Role, where: str
) -> pl.DataFrame | pl.LazyFrame:
    """What cannot be read as its type becomes null, which whoever reads the column refuses."""
    changes = []
    for name, dtype in rows.collect_schema().items():
        if name in IDS:
            changes.append(_id_column(name, dtype, role, where))
        elif name in (RANK, TIMESTAMP, SCORE, RELEVANCE, RATING, LABEL):
            number = dtype.is_numeric() or dtype in (pl.Boolean, pl.String)
            _refuse_unless(number, name, dtype, role, where)
            changes.append(_number(name, dtype))
        elif not (dtype == pl.Null or _is_list(name, dtype)):
            raise EvaluationError(
                f"'{name}' of the {role_name(role)} is {dtype}",
                where=where,
                expected="a list of "
                + ("numbers" if name == "embedding" else "text")
                + " for each item",
                hint=f"pl.col('{name}').str.split('|') makes lists of text" * (dtype == pl.String),
            )
    return rows.with_columns(changes)


def _is_list(name: str, dtype: pl.DataType) -> bool:
    if not isinstance(dtype, pl.List | pl.Array):
        return False
    return name != "embedding" or pl.Series(dtype=dtype.inner).dtype.is_numeric()


def _with_integers(rows: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame | pl.LazyFrame:
    """Ids of a file of text that are all written as integers are integers."""
    ids = [name for name in IDS if name in rows.collect_schema()]
    fits = pl.col(ids).cast(pl.Int64, strict=False).is_not_null() | pl.col(ids).is_null()
    written = (
        pl.col(ids).str.contains(INTEGER) & fits
    ).all()  # a missing one is refused where it is read
    whole = rows.lazy().select(written).collect(engine="streaming").row(0)
    integers = [name for name, yes in zip(ids, whole, strict=True) if yes]
    return rows.with_columns(pl.col(name).cast(pl.Int64) for name in integers)


def _number(name: str, dtype: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if dtype == pl.String:
        column = column.str.strip_chars().cast(pl.Float64, strict=False)
    if name in (RANK, TIMESTAMP):
        if dtype.is_integer():
            return column
        column = column.cast(pl.Float64)
        return pl.when(column == column.floor()).then(column).cast(pl.Int64, strict=False)
    return column if dtype in (pl.Float32, pl.Float64) else column.cast(pl.Float64)


def _id_column(name: str, dtype: pl.DataType, role: Role, where: str) -> pl.Expr:
    if dtype in (pl.Int32, pl.Int64, pl.String):
        return pl.col(name)
    if dtype.is_integer():
        small = dtype in (pl.Int8, pl.Int16, pl.UInt8, pl.UInt16)
        return pl.col(name).cast(pl.Int32 if small else pl.Int64, strict=False)
    _refuse_unless(dtype in (pl.Categorical, pl.Enum), name, dtype, role, where)
    return pl.col(name).cast(pl.String)


def _refuse_unless(good: bool, name: str, dtype: pl.DataType, role: Role, where: str) -> None:
    if not good:
        expected = "integers or text" if name in IDS else "numbers"
        raise EvaluationError(
            f"'{name}' of the {role_name(role)} is {dtype}", where=where, expected=expected
        )
