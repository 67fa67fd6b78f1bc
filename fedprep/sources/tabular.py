"""One file of a user's own: delimited text, JSON lines or Parquet, with a map from our columns to its."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from fedprep.errors import RecipeError, SourceError, nearest
from fedprep.frames import scan_parquet
from fedprep.schema import Progress, Step, silent
from fedprep.sources.blocks import first_bytes
from fedprep.sources.delimited import Dialect, stage_delimited
from fedprep.sources.jsonl import HINT, lines_of_array, stage_jsonl
from fedprep.sources.sequences import stage_sequences
from fedprep.sources.tidy import BAD_SHARE, null_if_empty, refuse_bad_lines

__all__ = ["file_format", "stage_tabular"]

IDS = ("user", "item")
HEAD = 1 << 16
JSON_BEGINS = re.compile(rb"\s*(\{|\[\s*[{\]])")
NESTED = r"(?s)^(?:\[(?:[\d\"\[{\]tfn-].*)?\]|\{(?:\".*)?\})$"


def file_format(path: Path, *, name: str) -> str:
    """Returns "parquet", "jsonl" or "csv" by a file's first bytes, inflated where they are gzip.

    Raises:
        SourceError: the file cannot be read.
    """
    head = first_bytes(path, 64, name=name)
    if head.startswith(b"PAR1"):
        return "parquet"
    return "jsonl" if JSON_BEGINS.match(head.removeprefix(b"\xef\xbb\xbf")) else "csv"


def stage_tabular(
    path: Path,
    columns: Mapping[str, str | int],
    out: Path,
    *,
    name: str,
    form: str = "auto",
    dialect: Dialect | None = None,
    max_bad_share: float = BAD_SHARE,
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
        form: csv, jsonl, parquet, sequences, or auto: by content. A JSON array is `jsonl` too.
        dialect: of delimited text.
        max_bad_share: the share of lines that may be bad (a single one always may).
        progress: told the bytes read.

    Raises:
        RecipeError, SourceError: see `stage_delimited` and `stage_jsonl`; a JSON key that no line has.
    """
    form = file_format(path, name=name) if form == "auto" else form
    if form == "csv":
        return stage_delimited(
            path,
            columns,
            out,
            name=name,
            dialect=dialect,
            max_bad_share=max_bad_share,
            progress=progress,
        )
    if form == "sequences":
        separator = (dialect or Dialect()).separator
        return stage_sequences(
            path, columns, out, name=name, separator=separator, progress=progress
        )
    if form == "jsonl":
        return _stage_json(path, columns, out, name, max_bad_share, progress)
    return _scan_parquet(path, columns, name)


def _stage_json(
    path: Path,
    columns: Mapping[str, str | int],
    out: Path,
    name: str,
    max_bad_share: float,
    progress: Progress,
) -> tuple[pl.LazyFrame, Step]:
    keys = {ours: key for ours, key in columns.items() if isinstance(key, str)}
    for ours in columns:
        if ours not in keys:
            raise RecipeError(
                f"{name}: JSON lines have no column {columns[ours]}",
                where=f"columns.{ours}",
                expected="a key of the objects",
            )
    given = path
    if first_bytes(path, HEAD, name=name).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        path = lines_of_array(path, out, name=name, progress=progress)
    frame, step = stage_jsonl(
        path, keys, out, name=name, max_bad_share=max_bad_share, given=given, progress=progress
    )
    frame = frame.with_columns(null_if_empty(pl.col(key)) for key in keys)
    frame, step = _without_nested_ids(frame, step, [key for key in IDS if key in keys])
    refuse_bad_lines(
        step.dropped,
        step.rows_in,
        max_bad_share,
        name=name,
        why=step.why,
        where=f"{given}, {', '.join(step.examples)}",
        like=("", "name the key that holds one text or number"),
    )
    found = frame.select(pl.col(list(keys)).is_not_null().any()).collect(engine="streaming")
    for ours, key in keys.items():
        if not found[ours].item():
            raise SourceError(
                f"{name}: no object has a value under '{key}'",
                where=str(given),
                expected=f"a key that can be read as `{ours}`",
                hint=nearest(key, near) if (near := _first_keys(path, name)) else HINT,
            )
    return frame, step


def _without_nested_ids(
    rows: pl.LazyFrame, step: Step, ids: Sequence[str]
) -> tuple[pl.LazyFrame, Step]:
    """Returns the rows without those whose id is a list or an object, which are bad lines."""
    if not ids or step.lines is None:
        return rows, step
    text = pl.col(ids)
    begins = pl.any_horizontal(text.str.starts_with("[") | text.str.starts_with("{"))
    suspects = rows.select("line", *ids).filter(begins).collect(engine="streaming")
    lines = suspects.filter(pl.any_horizontal(text.str.contains(NESTED)))["line"].sort()
    if lines.is_empty():
        return rows, step
    n_rows = step.rows_out - len(lines)
    return rows.filter(~pl.col("line").is_in(lines.implode())), replace(
        step,
        rows_out=n_rows,
        why="; ".join(
            filter(None, [step.why, f"{len(lines):,} with a list or an object as an id"])
        ),
        examples=(*step.examples, *(f"line {line}" for line in lines.head(3).to_list()))[:3],
        lines=replace(step.lines, rows=n_rows, dropped=step.lines.dropped + len(lines)),
    )


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
