"""Anything that may hold a table, opened: columns and values as they were written, nothing checked yet.

Parquet (files, or folders of them), CSV, Arrow, TREC runs and qrels, a Run's folder; frames of polars,
pandas and Arrow. A file is scanned and not loaded; an Arrow stream alone is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import polars as pl

from fedprep.errors import EvaluationError, nearest
from fedprep.frames import TAKEN, as_frame, read_ipc_stream, scan_csv, scan_ipc, scan_parquet
from fedprep.schema import ITEM_ID, RATING, USER_ID

__all__ = [
    "MANIFEST",
    "RANK",
    "RECOMMENDATIONS",
    "RELEVANCE",
    "SCORE",
    "Role",
    "opened",
    "role_name",
]

RANK = "rank"
SCORE = "score"
RELEVANCE = "relevance"

Role = Literal["recommendations", "truth", "train", "items"]

RECOMMENDATIONS = "recommendations.parquet"
MANIFEST = "manifest.json"

STREAM = b"\xff\xff\xff\xff"
"""How Arrow's stream format begins; it is read whole."""

FORMATS = {
    "recommendations": "Parquet, CSV (.csv, .tsv), Arrow, or lines of TREC: 'user Q0 item rank score tag'",
    "truth": "Parquet, CSV (.csv, .tsv), Arrow, lines of TREC's qrels: 'user 0 item relevance', or"
    " 'user item', 'user item rating', 'user item rating time'",
}
"""What a table of a role may be."""

RUN = r"^\s*(\S+)\s+\S+\s+(\S+)\s+(\S+)\s+(\S+)\s+\S+\s*$"
"""A line of a run: user, Q0, item, rank, score, tag."""

FIELDS = r"^\s*(\S+)\s+(\S+)(?:\s+(\S+))?(?:\s+(\S+))?\s*$"
"""A line of truth: two to four fields."""

ITERATION = ("0", "Q0", "q0")
"""The second field of qrels, which trec_eval passes over."""

TIME = 1e8
"""A number from here on is a time in seconds, and no relevance."""


def opened(source: Any, role: Role) -> tuple[pl.DataFrame | pl.LazyFrame, bool]:
    """Returns a source's rows under its own column names, and whether it is a run of TREC.

    Raises:
        EvaluationError: it is nothing that holds a table, or its format is not known.
    """
    if isinstance(source, str | Path):
        return _file(Path(source), role)
    try:
        return as_frame(source), False
    except TypeError as error:  # no table, or a column of numbers and texts
        raise EvaluationError(
            f"the {role_name(role)} cannot be read: {error}", expected=f"a path, {TAKEN}"
        ) from None


def _file(path: Path, role: Role) -> tuple[pl.LazyFrame | pl.DataFrame, bool]:
    if path.is_dir():
        return _folder(path, role), False
    if not path.is_file():
        raise EvaluationError(
            f"the {role_name(role)} cannot be read: no such file",
            where=str(path),
            hint=_beside(path),
        )
    name = path.name.lower().removesuffix(".gz").removesuffix(".zst")
    with path.open("rb") as file:
        head = file.read(6)
    if not head:
        raise EvaluationError(f"the {role_name(role)} is an empty file", where=str(path))
    if head[:4] == b"PAR1":
        return scan_parquet(path), False
    if head == b"ARROW1":
        return scan_ipc(path), False
    if head[:4] == STREAM:
        return read_ipc_stream(path), False
    try:
        if name.endswith((".csv", ".tsv")):
            return _delimited(path), False
        return (_run(path), True) if role == "recommendations" else (_headless(path, role), False)
    except pl.exceptions.ComputeError as error:
        if "utf-8" not in str(error):
            raise
        raise EvaluationError(
            f"the {role_name(role)} is in no format that is known: it is no text in UTF-8",
            where=str(path),
            expected=_formats(role),
        ) from None


def _folder(path: Path, role: Role) -> pl.LazyFrame:
    """A Run, or a folder of Parquet files as other programs write it, with or without `key=value` folders."""
    if (path / RECOMMENDATIONS).is_file():
        return scan_parquet(path / RECOMMENDATIONS)
    files = sorted(path.glob("*.parquet")) or sorted(path.glob("*=*/**/*.parquet"))
    if (path / MANIFEST).is_file() or not files:  # a Dataset, or a Run without recommendations
        raise EvaluationError(
            f"the {role_name(role)} cannot be read: a folder without {RECOMMENDATIONS}",
            where=str(path),
            expected="a Run, a table, or a folder of Parquet files of one table",
            hint="a Run writes it at its end" if (path / "rounds.jsonl").is_file() else "",
        )
    return scan_parquet(files, hive=True)


def _beside(path: Path) -> str:
    """Returns the nearest name in the folder, if there is one."""
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    found = nearest(path.name, [other.name for other in path.parent.iterdir()])
    return found if found.startswith("did") else ""


def _lines(path: Path) -> pl.LazyFrame:
    return scan_csv(
        path, separator="\n", quote_char=None, has_header=False, infer_schema_length=0,
        new_columns=["line"],
    )  # fmt: skip


def _delimited(path: Path) -> pl.LazyFrame:
    """Every column as text: what the first rows hold says nothing about the rest."""
    first = _lines(path).head(1).collect()
    header = str(first.item()) if first.height else ""
    separator = max(",;\t|", key=header.count)
    return scan_csv(path, separator=separator, infer_schema_length=0)


def _run(path: Path) -> pl.LazyFrame:
    parts = pl.col("line").str.extract_groups(RUN).struct
    fields = {"1": USER_ID, "2": ITEM_ID, "3": RANK, "4": SCORE}
    named = _lines(path).select(parts.field(field).alias(name) for field, name in fields.items())
    head = named.head(1).select(pl.col(RANK, SCORE).cast(pl.Float64, strict=False)).collect()
    if not head.height or None in head.row(0):
        raise _unknown(path, "recommendations")
    return named


def _headless(path: Path, role: Role) -> pl.DataFrame:
    """Lines of truth without a header, told apart by what they hold, not by their number of fields alone.

    Four fields are qrels where the second is the same in every line, as `ITERATION` has it, and the fourth
    is no time; they are user, item, rating and time where the fourth is a time and the second is not that.
    """
    parts = pl.col("line").str.extract_groups(FIELDS).struct
    named = (
        _lines(path)
        .filter(pl.col("line").str.strip_chars() != "")
        .select(parts.field(str(place)) for place in (1, 2, 3, 4))
        .collect()
    )
    missing = named.null_count().row(0)
    width = next((i for i, n in enumerate(missing) if n), 4)
    third, fourth = (named[c].cast(pl.Float64, strict=False) for c in ("3", "4"))
    if role != "truth" or width < 2 or any(0 < n < named.height for n in missing):
        raise _unknown(path, role)
    if width == 2:
        return named.select(pl.col("1").alias(USER_ID), pl.col("2").alias(ITEM_ID))
    if width == 3 and not third.null_count():
        return named.select(
            pl.col("1").alias(USER_ID), pl.col("2").alias(ITEM_ID), pl.col("3").alias(RATING)
        )
    second, timed = named["2"], bool((fourth.abs() >= TIME).all())
    if width == 4 and not timed and second.n_unique() == 1 and second[0] in ITERATION:
        if fourth.null_count():
            raise _unknown(path, role)
        return named.select(
            pl.col("1").alias(USER_ID), pl.col("3").alias(ITEM_ID), pl.col("4").alias(RELEVANCE)
        )
    if width == 4 and timed and not (fourth.null_count() or third.null_count()):
        return named.select(
            pl.col("1").alias(USER_ID), pl.col("2").alias(ITEM_ID), pl.col("3").alias(RATING)
        )
    raise _unknown(path, role)


def _unknown(path: Path, role: Role) -> EvaluationError:
    return EvaluationError(
        f"the {role_name(role)} is in no format that is known",
        where=str(path),
        expected=_formats(role),
    )


def _formats(role: Role) -> str:
    return FORMATS.get(role, "Parquet, CSV (.csv, .tsv) or Arrow")


def role_name(role: str) -> str:
    """Returns what a table of this role is called in an error."""
    names = {"recommendations": "table of recommendations", "train": "table of training rows"}
    return names.get(role, f"table of {role}")
