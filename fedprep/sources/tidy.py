"""Steps that readers of official formats share: rows that cannot be used, ids that come twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from fedprep.errors import SourceError
from fedprep.schema import Step

__all__ = [
    "BAD_SHARE",
    "BLANKS",
    "null_if_empty",
    "refuse_bad_lines",
    "repeated",
    "tidy_id",
    "tidy_ids",
    "unusable",
    "without_duplicates",
]

BAD_SHARE = 0.01
"""More of a file's lines than this must not be bad."""

BLANKS = (
    " \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008"
    "\u2009\u200a\u2028\u2029\u202f\u205f\u3000\u200b\u200c\u200d\u2060\ufeff"
)
"""White space, no-break and zero-width space, and the byte order mark: nobody sees them at an id's ends."""


def refuse_bad_lines(
    n_bad: int,
    n_lines: int,
    share: float,
    *,
    name: str,
    why: str,
    where: str,
    like: tuple[str, str] = ("", ""),
) -> None:
    """Stops where more than a share of the lines is bad; one alone never stops anything.

    Args:
        n_bad: bad lines among `n_lines` of data.
        share: `max_bad_share`.
        name: what the lines are. why: what is wrong with them. where: the file and the first of them.
        like: what the file looks like, and the key that may read it.

    Raises:
        SourceError: there are more.
    """
    if n_bad <= 1 or n_bad <= share * n_lines:
        return
    looks, key = like
    found = n_bad / n_lines
    raise SourceError(
        f"{name}: {n_bad:,} of {n_lines:,} lines ({found:.1%}) cannot be used: {why}"
        + (f". {looks[:1].upper()}{looks[1:]}" if looks else ""),
        where=where,
        expected=f"at most {share:.3g} of the lines bad (max_bad_share)",
        hint=(
            f"{key} "
            if key.endswith("?")
            else f"{key}; "
            if key
            else "is it the format that the recipe says? "
        )
        + f"max_bad_share = {min(1.0, np.ceil(found * 100) / 100):.2g} drops them",
    )


def tidy_ids(ids: pl.Series) -> pl.Series:
    """Returns ids as every table has them: without blanks at their ends, letters composed (Unicode NFC).

    Null where nothing is left. The ids of users and items pass here in every table of every source, so
    that an id is one, however it was written.
    """
    tidy = ids.str.strip_chars(BLANKS)
    if tidy.str.len_bytes().sum() != tidy.str.len_chars().sum():  # not only ASCII
        tidy = tidy.str.normalize("NFC")
    return tidy.set(tidy == "", None)


def tidy_id(column: pl.Expr) -> pl.Expr:
    """Returns `tidy_ids` of a String column."""
    return column.map_batches(tidy_ids, return_dtype=pl.String, is_elementwise=True)


def null_if_empty(text: pl.Expr) -> pl.Expr:
    """Returns the text, null in place of an empty one."""
    return pl.when(text != "").then(text)


def unusable(
    rows: pl.LazyFrame, usable: pl.Expr, name: str, why: str, max_bad_share: float = BAD_SHARE
) -> tuple[pl.LazyFrame, Step]:
    """Returns the rows that can be used, and a step that counts the others and names the first three.

    Args:
        rows: staged rows with `line`.
        usable: Boolean; null counts as no.
        name: what the rows are. why: what the others are.
        max_bad_share: the share of rows that may be unusable (a single one always may).

    Raises:
        SourceError: none can be used, or more than the share cannot.
    """
    usable = usable.fill_null(False)
    n_rows, lines = _counted(rows, ~usable)
    if n_rows == len(lines):
        raise SourceError(f"{name}: none of the {n_rows:,} rows can be used: {why}")
    where = ", ".join(f"line {line}" for line in lines.head(3).to_list())
    refuse_bad_lines(len(lines), n_rows, max_bad_share, name=name, why=why, where=where)
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
