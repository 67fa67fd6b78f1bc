"""Columns and types of every table, from the footers of its files alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import polars as pl

from fedprep.checks.check import Check, NotAsked
from fedprep.checks.limits import Limits
from fedprep.checks.tables import Tables
from fedprep.decoding import read_footer
from fedprep.schema import (
    CLIENT_ID,
    INDEX,
    ITEM_ID,
    ITEMS,
    LABEL,
    RATING,
    SHARD,
    SPLIT,
    SPLITS,
    TIMESTAMP,
    USER_ID,
    USERS,
    embedding_schema,
)

__all__ = ["CHECKS", "broken"]

Schema = Mapping[str, pl.DataType]
Fits = Callable[[pl.DataType], bool]
Column = tuple[str, Fits, bool]

OFFENDERS = {name: pl.String() for name in ("table", "file", "column", "found", "expected")}


def schema_matches(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Columns that are missing or of another type, file by file; and files without a row."""
    return pl.LazyFrame(list(_mismatches(tables)), schema=OFFENDERS, orient="row")


def files_are_known(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Parquet files that are none of the tables known here: nothing in them is looked at."""
    if tables.manifest is not None:
        raise NotAsked("the files of a Dataset are those of its manifest")
    rows = [(path.name, ", ".join(read_footer(path).columns)) for path in tables.unknown]
    return pl.LazyFrame(rows, schema={"file": pl.String, "columns": pl.String}, orient="row")


def broken(tables: Tables) -> dict[str, str]:
    """Returns the tables whose schema does not match, and why their checks are skipped."""
    names = {table.partition("/")[0] for table, *_ in _mismatches(tables)}
    return {name: f"the schema of {name} does not match" for name in sorted(names)}


def _mismatches(tables: Tables) -> Iterator[tuple[str, str, str, str, str]]:
    for table, file, schema, n_rows in _footers(tables):
        columns = _of_foreign(table) if tables.manifest is None else _of_dataset(table)
        for column, (expected, fits, required) in columns.items():
            found = schema.get(column)
            if found is None and required:
                yield table, file, column, "no such column", expected
            elif found is not None and not fits(found):
                yield table, file, column, str(found), expected
        if n_rows == 0:
            yield table, file, "", "no row", "at least one row"


def _footers(tables: Tables) -> Iterator[tuple[str, str, Schema, int]]:
    """Yields (table, file, columns, rows) of every file; of a frame without a file, whose rows are
    counted only where they are interactions."""
    frames = {
        "interactions": tables.interactions,
        "items": tables.items,
        "users": tables.users,
        "index": tables.index,
        **{f"embeddings/{name}": frame for name, frame in tables.embeddings.items()},
    }
    for table, frame in frames.items():
        if frame is None:
            continue
        for path in tables.files.get(table, ()):
            footer = tables.footers[path]
            yield table, path.name, footer.columns, footer.n_rows
        if table not in tables.files:
            n_rows = tables.rows.n_rows if table == "interactions" else -1
            yield table, "", dict(frame.collect_schema()), n_rows


def _of_dataset(table: str) -> dict[str, Column]:
    """Returns what format 1 asks of a table: column → (type in words, test of a type, required)."""
    if table.startswith("embeddings/"):
        exact = {ITEM_ID: embedding_schema(1)[ITEM_ID]}
        return {**_exactly(exact), "embedding": _array_of(pl.Float32(), required=True)}
    schemas: dict[str, Mapping[str, pl.DataType | None]] = {
        "interactions": SHARD,
        "items": ITEMS,
        "users": USERS,
        "index": INDEX,
    }
    known = {name: dtype for name, dtype in schemas[table].items() if dtype is not None}
    arrays: dict[str, dict[str, Column]] = {
        "users": {"behavior": _array_of(pl.Float32(), required=False)},
        "index": {"label_counts": _array_of(pl.Int32(), required=True)},
    }
    return {**_exactly(known), **arrays.get(table, {})}


def _exactly(schema: Schema) -> dict[str, Column]:
    return {
        name: (str(dtype), lambda found, dtype=dtype: bool(found == dtype), True)  # type: ignore[misc]
        for name, dtype in schema.items()
    }


def _array_of(inner: pl.DataType, *, required: bool) -> Column:
    def fits(found: pl.DataType) -> bool:
        return isinstance(found, pl.Array) and found.inner == inner

    return f"Array({inner}, dimensions)", fits, required


def _of_foreign(table: str) -> dict[str, Column]:
    """Returns what the checks need of a table that others wrote: any width of a number will do."""
    an_id: Column = ("a whole number or String", _is_id, True)
    number: Column = ("a number", lambda found: found.is_numeric(), False)
    whole: Column = ("a whole number", _is_whole, False)
    client: Column = (an_id[0], _is_id, False)
    if table.startswith("embeddings/"):
        return {ITEM_ID: an_id, "embedding": ("Array or List of floats", _is_vector, True)}
    tables: dict[str, dict[str, Column]] = {
        "interactions": {
            USER_ID: an_id,
            ITEM_ID: an_id,
            CLIENT_ID: client,
            RATING: number,
            LABEL: ("a whole number or Boolean", _is_label, False),
            TIMESTAMP: ("whole seconds, Datetime or Date", _is_time, False),
            SPLIT: (f"String or Enum of {', '.join(SPLITS)}", _is_text, False),
        },
        "items": {ITEM_ID: an_id, "text": ("String", _is_text, False)},
        "users": {USER_ID: an_id, CLIENT_ID: client},
        "index": {CLIENT_ID: an_id, "n_rows": whole},
    }
    return tables[table]


def _is_id(found: pl.DataType) -> bool:
    return found.is_integer() or found == pl.String


def _is_whole(found: pl.DataType) -> bool:
    return found.is_integer()


def _is_label(found: pl.DataType) -> bool:
    return found.is_integer() or found == pl.Boolean


def _is_time(found: pl.DataType) -> bool:
    return found.is_integer() or isinstance(found, pl.Datetime | pl.Date)


def _is_text(found: pl.DataType) -> bool:
    return isinstance(found, pl.String | pl.Enum | pl.Categorical)


def _is_vector(found: pl.DataType) -> bool:
    return isinstance(found, pl.Array | pl.List) and found.inner in (pl.Float32, pl.Float64)


CHECKS = (
    Check(
        name="schema_matches",
        group="schema",
        unit="columns",
        of="columns",
        function=schema_matches,
        means="A file lacks a column, has one of another type, or has no row.",
        todo="Write that file again with the columns and types of docs/dataset.md.",
    ),
    Check(
        name="files_are_known",
        group="schema",
        unit="files",
        of="files",
        function=files_are_known,
        needs=("folder",),
        severity="warn",
        means="Files hold no table that is known here, by their columns: nothing in them was looked at.",
        todo="Rename their columns as docs/checks.md has them, or leave these files out.",
    ),
)
