"""Client folders of others: names or a column say which client and which split a file's rows are of.

Parquet, CSV and TSV, in any folders: `train/client_7.csv`, `client_7/test.parquet`, one file with a column.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePath

import polars as pl

from fedprep.errors import DatasetError, nearest
from fedprep.frames import scan_csv, scan_parquet
from fedprep.schema import CLIENT_ID, ITEM_ID, SPLIT, USER_ID

__all__ = ["FILENAME", "FOLDER", "client_rows", "data_files"]

FILENAME, FOLDER = "filename", "folder"
"""Where a client or split may be said, beside a column's name."""

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}

SEPARATORS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (".parquet", *SEPARATORS)


def data_files(folder: Path) -> list[Path]:
    """Returns the tables below a folder, in order of their names, without hidden files and folders."""
    found = (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    return sorted(
        p for p in found if not any(n.startswith(".") for n in p.relative_to(folder).parts)
    )


def client_rows(folder: Path, *, client_from: str = "", split_from: str = "") -> pl.LazyFrame:
    """Returns the interactions of all files below a folder, with `client_id` and `split` where told.

    A file without `user_id` is of one user, its client.

    Args:
        client_from: `filename` (without its ending and the word of a split), `folder` (that the file lies
            in, but for one that is named as a split), or a column; empty: nothing says it.
        split_from: `filename` or `folder`, one of whose words is train, valid or test (validation, val,
            dev …), or a column with these words; empty: nothing says it.

    Raises:
        DatasetError: no file has interactions, or one does not say what it should.
    """
    frames, unsaid = [], []
    for path in data_files(folder):
        frame = _scan(path)
        columns = _columns(frame, path)
        if ITEM_ID not in columns or not {USER_ID, CLIENT_ID, client_from} & {
            *columns,
            FILENAME,
            FOLDER,
        }:
            continue
        inside = path.relative_to(folder)
        said = []
        if client_from:
            said.append(_client(client_from, inside, columns).alias(CLIENT_ID))
        if split_from:
            split = _split(split_from, inside, columns)
            if split is None:
                unsaid.append(inside.as_posix())
                continue
            said.append(split.alias(SPLIT))
        frame = frame.with_columns(said)
        frames.append(
            frame if USER_ID in columns else frame.with_columns(pl.col(CLIENT_ID).alias(USER_ID))
        )
    if unsaid:
        raise DatasetError(
            f"{len(unsaid):,} files say no split: {', '.join(unsaid[:3])}",
            where=str(folder),
            expected=f"a {split_from} with one of the words {', '.join(SPLIT_WORDS)}",
        )
    if not frames:
        raise DatasetError(
            f"{folder} holds no interactions",
            expected=f"files ({', '.join(SUFFIXES)}) with the columns {USER_ID} and {ITEM_ID}",
        )
    return pl.concat(frames, how="diagonal_relaxed")


def _scan(path: Path) -> pl.LazyFrame:
    if path.suffix.lower() == ".parquet":
        return scan_parquet(path)
    return scan_csv(path, separator=SEPARATORS[path.suffix.lower()], infer_schema_length=None)


def _columns(frame: pl.LazyFrame, path: Path) -> list[str]:
    try:
        return frame.collect_schema().names()
    except (pl.exceptions.PolarsError, OSError) as error:
        first = str(error).strip().partition("\n")[0]
        raise DatasetError(f"{path.name} cannot be read: {first}", where=str(path)) from None


def _client(client_from: str, inside: PurePath, columns: Sequence[str]) -> pl.Expr:
    if client_from == FILENAME:
        words = [w for w in _words(inside.stem) if w.lower() not in SPLIT_WORDS]
        return pl.lit("".join(words).strip("_-. ") or inside.stem)
    if client_from == FOLDER:
        folders = [part for part in inside.parent.parts if part.lower() not in SPLIT_WORDS]
        if not folders:
            raise DatasetError(
                f"{inside.as_posix()} lies in no folder of a client", hint="--client-from filename"
            )
        return pl.lit("/".join(folders))
    return pl.col(_there(client_from, inside, columns))


def _split(split_from: str, inside: PurePath, columns: Sequence[str]) -> pl.Expr | None:
    """Returns the split of a file's rows; None where its name or folder says none."""
    if split_from in (FILENAME, FOLDER):
        parts = _words(inside.stem) if split_from == FILENAME else inside.parent.parts
        found = [SPLIT_WORDS[part.lower()] for part in parts if part.lower() in SPLIT_WORDS]
        return pl.lit(found[-1]) if found else None
    return (
        pl.col(_there(split_from, inside, columns))
        .cast(pl.String)
        .str.to_lowercase()
        .replace(SPLIT_WORDS)
    )


def _there(column: str, inside: PurePath, columns: Sequence[str]) -> str:
    if column not in columns:
        raise DatasetError(
            f"{inside.as_posix()} has no column '{column}'",
            expected=f"{FILENAME}, {FOLDER}, or a column",
            hint=nearest(column, [FILENAME, FOLDER, *columns]),
        )
    return column


def _words(stem: str) -> list[str]:
    """Returns a name's words and what stands between them, in order."""
    return re.split(r"([_\-. ]+)", stem)
