"""One file of a user's own: delimited text, JSON lines or Parquet, with a map from our columns to its."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from fedprep.errors import RecipeError, SourceError, nearest
from fedprep.frames import scan_parquet
from fedprep.schema import Progress, Step, silent
from fedprep.sources.blocks import first_bytes
from fedprep.sources.delimited import Dialect, stage_delimited
from fedprep.sources.jsonl import stage_jsonl
from fedprep.sources.tidy import null_if_empty

__all__ = ["file_format", "stage_tabular"]

HEAD = 1 << 16


def file_format(path: Path, *, name: str) -> str:
    """Returns "parquet", "jsonl" or "csv" by a file's first bytes, inflated where they are gzip.

    Raises:
        SourceError: the file cannot be read.
    """
    head = first_bytes(path, 64, name=name)
    if head.startswith(b"PAR1"):
        return "parquet"
    return "jsonl" if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{") else "csv"


def stage_tabular(
    path: Path,
    columns: Mapping[str, str | int],
    out: Path,
    *,
    name: str,
    form: str = "auto",
    dialect: Dialect | None = None,
    progress: Progress = silent,
) -> tuple[pl.LazyFrame, Step]:
    """Returns the wanted columns of a file, and what was dropped on the way.

    The frame has `line` (UInt32: the line of a text file, the row of a Parquet file, from 1), then the
    columns in the order of `columns`: String from text (null where empty or missing; a nested JSON value
    as its JSON text), the file's own types from Parquet.

    Args:
        path: the file.
        columns: our column → the file's name for it, or its 0-based number (not in JSON lines).
        out: a folder to stage in.
        name: what the rows are, for messages.
        form: csv, jsonl, parquet, or auto: by content.
        dialect: of delimited text.
        progress: told the bytes read.

    Raises:
        RecipeError, SourceError: see `stage_delimited` and `stage_jsonl`; a JSON key that no line has.
    """
    form = file_format(path, name=name) if form == "auto" else form
    if form == "csv":
        return stage_delimited(path, columns, out, name=name, dialect=dialect, progress=progress)
    if form == "jsonl":
        return _stage_json(path, columns, out, name, progress)
    return _scan_parquet(path, columns, name)


def _stage_json(
    path: Path, columns: Mapping[str, str | int], out: Path, name: str, progress: Progress
) -> tuple[pl.LazyFrame, Step]:
    keys = {ours: key for ours, key in columns.items() if isinstance(key, str)}
    for ours in columns:
        if ours not in keys:
            raise RecipeError(
                f"{name}: JSON lines have no column {columns[ours]}",
                where=f"columns.{ours}",
                expected="a key of the objects",
            )
    frame, step = stage_jsonl(path, keys, out, name=name, progress=progress)
    frame = frame.with_columns(null_if_empty(pl.col(key)) for key in keys)
    found = frame.select(pl.col(list(keys)).is_not_null().any()).collect(engine="streaming")
    for ours, key in keys.items():
        if not found[ours].item():
            raise SourceError(
                f"{name}: no object has a value under '{key}'",
                where=str(path),
                expected=f"a key that can be read as `{ours}`",
                hint=nearest(key, _first_keys(path, name)),
            )
    return frame, step


def _first_keys(path: Path, name: str) -> list[str]:
    """Returns the keys of the first object; none where it cannot be had."""
    line = first_bytes(path, HEAD, name=name).removeprefix(b"\xef\xbb\xbf").lstrip().split(b"\n")[0]
    try:
        return list(json.loads(line))
    except ValueError:
        return []


def _scan_parquet(
    path: Path, columns: Mapping[str, str | int], name: str
) -> tuple[pl.LazyFrame, Step]:
    frame = scan_parquet(path)
    try:
        names = frame.collect_schema().names()
        n_rows = frame.select(pl.len()).collect().item()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise SourceError(
            f"{name}: the Parquet file cannot be read: {error}", where=str(path)
        ) from None
    for ours, theirs in columns.items():
        if isinstance(theirs, int) and not 0 <= theirs < len(names):
            raise SourceError(
                f"{name}: there is no column {theirs}: the table has {len(names)}",
                where=str(path),
                expected=f"for `{ours}` a number from 0 to {len(names) - 1}, or a name",
            )
        if isinstance(theirs, str) and theirs not in names:
            raise SourceError(
                f"{name}: no column is called '{theirs}'",
                where=str(path),
                expected=f"one that can be read as `{ours}`",
                hint=nearest(theirs, names),
            )
    if n_rows == 0:
        raise SourceError(f"{name}: the table has no row", where=str(path))
    theirs_of = {o: names[t] if isinstance(t, int) else t for o, t in columns.items()}
    line = (pl.row_index() + 1).cast(pl.UInt32).alias("line")
    wanted = frame.select(line, *(pl.col(theirs).alias(ours) for ours, theirs in theirs_of.items()))
    return wanted, Step(stage="read", name=f"bad lines in {name}", rows_in=n_rows, rows_out=n_rows)
