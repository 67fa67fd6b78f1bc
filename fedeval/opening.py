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
from fedprep.schema import ITEM_ID, USER_ID

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

FORMATS = (
    "Parquet, CSV (.csv, .tsv), Arrow, or lines of TREC: 'user Q0 item rank score tag' in a run,"
    " 'user 0 item relevance' in qrels"
)

TREC = r"^\s*(\S+)\s+\S+\s+(\S+)\s+(\S+)(?:\s+(\S+)\s+\S+)?\s*$"
"""A line of a run: user, Q0, item, rank, score, tag; or of qrels: user, 0, item, relevance."""


def opened(source: Any, role: Role) -> pl.DataFrame | pl.LazyFrame:
    """Returns a source's rows under its own column names.

    Raises:
        EvaluationError: it is nothing that holds a table, or its format is not known.
    """
    if isinstance(source, str | Path):
        return _file(Path(source), role)
    try:
        return as_frame(source)
    except TypeError as error:  # no table, or a column of numbers and texts
        raise EvaluationError(
            f"the {role_name(role)} cannot be read: {error}", expected=f"a path, {TAKEN}"
        ) from None


def _file(path: Path, role: Role) -> pl.LazyFrame | pl.DataFrame:
    if path.is_dir():
        return _folder(path, role)
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
        return scan_parquet(path)
    if head == b"ARROW1":
        return scan_ipc(path)
    if head[:4] == STREAM:
        return read_ipc_stream(path)
    try:
        return _delimited(path) if name.endswith((".csv", ".tsv")) else _trec(path, role)
    except pl.exceptions.ComputeError as error:
        if "utf-8" not in str(error):
            raise
        raise EvaluationError(
            f"the {role_name(role)} is in no format that is known: it is no text in UTF-8",
            where=str(path),
            expected=FORMATS,
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


def _trec(path: Path, role: Role) -> pl.LazyFrame:
    parts = pl.col("line").str.extract_groups(TREC).struct
    fields = {"1": USER_ID, "2": ITEM_ID, "3": "third", "4": SCORE}
    named = _lines(path).select(parts.field(field).alias(name) for field, name in fields.items())
    head = named.head(1).collect()
    known = head.height > 0 and head["third"].cast(pl.Float64, strict=False)[0] is not None
    if not known or (head[SCORE][0] is not None) != (role == "recommendations"):
        raise EvaluationError(
            f"the {role_name(role)} is in no format that is known",
            where=str(path),
            expected=FORMATS,
        )
    if role == "recommendations":
        return named.rename({"third": RANK})
    return named.drop(SCORE).rename({"third": RELEVANCE})


def role_name(role: str) -> str:
    """Returns what a table of this role is called in an error."""
    names = {"recommendations": "table of recommendations", "train": "table of training rows"}
    return names.get(role, f"table of {role}")
