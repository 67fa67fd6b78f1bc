"""Lists of items, a line a user: the adjacency lists of LightGCN, SASRec and CiteULike, staged to rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from fedprep.errors import RecipeError, SourceError
from fedprep.frames import scan_parquet
from fedprep.schema import Lines, Progress, Step, silent
from fedprep.sources.blocks import blocks_of_lines, parquet_writer

__all__ = ["stage_sequences"]

LINE = "line"
POSITION = "position"
FIRST_SECOND = 946_684_800
"""2000-01-01 UTC: the made-up time of the first item of a line; each that follows is a second later."""


def stage_sequences(
    path: Path,
    columns: Mapping[str, str | int],
    out: Path,
    *,
    name: str,
    separator: str,
    progress: Progress = silent,
) -> tuple[pl.LazyFrame, Step]:
    """Returns a row for each item of each line, and what was dropped on the way.

    The frame has `line` (UInt32, from 1), then the columns in the order of `columns`: String, `timestamp`
    Int64. Blank lines are passed over; a line that has no item gives no row.

    Args:
        path: text, plain or gzip.
        columns: `user` is the 0-based number of the field that has the user, or "line": then the n-th line
            is user n, from 0. `item` is the number of the first field that has an item; all behind it have
            one too. `timestamp`, where there is any, is "position": an item's place in its line, in seconds
            from `FIRST_SECOND`.
        out: a folder to stage in. name: what the rows are, for messages.
        separator: between the fields; several in a row count as one.
        progress: told the bytes read.

    Raises:
        RecipeError: other columns than these. SourceError: no item in any line, or no such file.
        OutputError: `out` cannot be written.
    """
    _check(columns, name)
    kinds = {o: pl.Int64() if o == "timestamp" else pl.String() for o in columns}
    empty = pl.DataFrame(schema={"line": pl.UInt32(), **kinds})
    lines = Lines()
    n_rows = 0
    with (
        parquet_writer(out / "rows.parquet", empty.to_arrow().schema) as writer,
        blocks_of_lines(
            path, name=name, expected="lists of items, a line a user", progress=progress
        ) as blocks,
    ):
        for block, first_line in blocks:
            rows, counts = _rows(block, first_line, columns, separator)
            lines += counts
            n_rows += rows.height
            writer.write_table(rows.to_arrow().cast(writer.schema))
        if n_rows == 0:
            raise SourceError(
                f"{name}: no line has an item",
                where=str(path),
                expected=f"user, item, item … between '{separator}'",
                hint="is the separator right?",
            )
    why = "one for each item of a line"
    return scan_parquet(out / "rows.parquet"), Step(
        stage="read", name=f"rows of {name}", rows_in=n_rows, rows_out=n_rows, why=why, lines=lines
    )


def _rows(
    block: bytes, first_line: int, columns: Mapping[str, str | int], separator: str
) -> tuple[pl.DataFrame, Lines]:
    text = pl.Series("text", [block.decode(errors="replace").removesuffix("\n")])
    lists = text.str.split("\n").explode().to_frame().with_row_index("line", first_line)
    parts = pl.col("text").str.strip_chars("\r").str.split(separator)
    lists = lists.select(
        pl.col("line").cast(pl.UInt32),
        parts=parts.list.eval(pl.element().filter(pl.element() != "")),
    )
    full = lists.filter(pl.col("parts").list.len() > 0)
    first = int(columns["item"])
    user = columns["user"]
    users = (pl.col("line") - 1).cast(pl.String) if user == LINE else pl.col("parts").list.get(user)
    items = full.select("line", user=users, item=pl.col("parts").list.slice(first)).filter(
        pl.col("item").list.len() > 0
    )
    items = items.with_columns(timestamp=pl.int_ranges(pl.col("item").list.len(), dtype=pl.Int64))
    rows = items.explode("item", "timestamp").with_columns(pl.col("timestamp") + FIRST_SECOND)
    rows = rows.select("line", *columns)
    return rows, Lines(rows=full.height, blank=lists.height - full.height)


def _check(columns: Mapping[str, str | int], name: str) -> None:
    user, item = columns.get("user"), columns.get("item")
    right = isinstance(item, int) and (user == LINE or (isinstance(user, int) and 0 <= user < item))
    if not right or columns.get("timestamp", POSITION) != POSITION or "rating" in columns:
        raise RecipeError(
            f"{name}: lists of items have no such columns: {dict(columns)}",
            where="source.columns",
            expected='user = 0 (its field) or "line", item = 1 (the first of them), '
            'and timestamp = "position" where the items are in the order of time',
        )
