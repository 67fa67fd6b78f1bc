"""Steps that readers of official formats share: rows that cannot be used, ids that come twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from fedprep.errors import SourceError
from fedprep.schema import Step

__all__ = ["null_if_empty", "repeated", "unusable", "without_duplicates"]


def null_if_empty(text: pl.Expr) -> pl.Expr:
    """Returns the text, null in place of an empty one."""
    return pl.when(text != "").then(text)


def unusable(rows: pl.LazyFrame, usable: pl.Expr, name: str, why: str) -> tuple[pl.LazyFrame, Step]:
    """Returns the rows that can be used, and a step that counts the others and names the first three.

    Args:
        rows: staged rows with `line`.
        usable: Boolean; null counts as no.
        name: what the rows are. why: what the others are.

    Raises:
        SourceError: none can be used.
    """
    usable = usable.fill_null(False)
    n_rows, lines = _counted(rows, ~usable)
    if n_rows == len(lines):
        raise SourceError(f"{name}: none of the {n_rows:,} rows can be used: {why}")
    step = Step(
        stage="read",
        name=f"unusable {name}",
        rows_in=n_rows,
        rows_out=n_rows - len(lines),
        why=why if len(lines) else "",
        examples=tuple(f"line {line}" for line in lines.head(3).to_list()),
    )
    return (rows.filter(usable) if len(lines) else rows), step


def repeated(rows: pl.LazyFrame, key: str, name: str) -> tuple[pl.LazyFrame, Step]:
    """Returns the first row of each key, in order of `line`, and a step that counts the others.

    Rows without a key are dropped with them.
    """
    keys = rows.select("line", key).collect(engine="streaming").sort("line")
    extra = keys.filter(pl.col(key).is_null() | ~pl.col(key).is_first_distinct())["line"]
    step = Step(
        stage="read",
        name=f"repeated {name}",
        rows_in=keys.height,
        rows_out=keys.height - len(extra),
        why=f"no {key}, or one that came before" if len(extra) else "",
        examples=tuple(f"line {line}" for line in extra.head(3).to_list()),
    )
    return (rows.filter(~pl.col("line").is_in(extra.implode())) if len(extra) else rows), step


def without_duplicates(
    rows: pl.LazyFrame, columns: Sequence[str], name: str
) -> tuple[pl.LazyFrame, Step]:
    """Returns the first of rows that are equal in all columns and in `digest`, and a step for the others.

    Only rows whose digest comes twice are compared: 8 bytes a row are in memory, not the rows.

    Args:
        rows: staged rows with `line` and `digest` (UInt64), which is left out of the result.
        columns: what must be equal beside the digest.
        name: what the rows are.
    """
    digests = rows.select("digest").collect(engine="streaming")["digest"].to_numpy()
    ordered = np.sort(digests)
    twice = pl.Series(np.unique(ordered[1:][ordered[1:] == ordered[:-1]]), dtype=pl.UInt64)
    extra = pl.Series([], dtype=pl.UInt32)
    if len(twice):
        suspects = rows.filter(pl.col("digest").is_in(twice.implode())).collect().sort("line")
        extra = suspects.filter(~pl.struct("digest", *columns).is_first_distinct())["line"]
    step = Step(
        stage="read",
        name=f"duplicate {name}",
        rows_in=len(digests),
        rows_out=len(digests) - len(extra),
        why="equal to a line before, text included" if len(extra) else "",
        examples=tuple(f"line {line}" for line in extra.head(3).to_list()),
    )
    rows = rows.filter(~pl.col("line").is_in(extra.implode())) if len(extra) else rows
    return rows.drop("digest"), step


def _counted(rows: pl.LazyFrame, bad: pl.Expr) -> tuple[int, pl.Series]:
    """Returns how many rows there are, and the lines of the bad ones."""
    counts = rows.select(pl.len().alias("n"), pl.col("line").filter(bad).sort().implode())
    frame = counts.collect(engine="streaming")
    return frame["n"].item(), frame["line"].explode(empty_as_null=False)
