"""Files of ours, decoded at one door: JSON documents and the footers of Parquet files.

A file that has been on another disk is hostile until it is checked. What passes here is JSON in UTF-8 without
surprises (no key twice, no NaN, no number beyond a float, no nesting without end, no size without measure),
of the types that its reader declares; or a Parquet file whose footer can be read.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import polars as pl
import pyarrow as pa

from fedprep.errors import DatasetError, FedprepError
from fedprep.frames import parquet_columns, parquet_file, read_parquet

__all__ = [
    "DAMAGED",
    "Footer",
    "as_parquet",
    "parse_json",
    "read_footer",
    "read_json",
    "read_table",
    "typed",
]

T = TypeVar("T")

MAX_BYTES = 1 << 28
"""Bytes of a JSON document: that of a million clients with names has a tenth of it."""

MAX_DEPTH = 64
"""Lists and objects in each other. Ours have 8."""

DAMAGED = (pl.exceptions.PolarsError, pl.exceptions.PanicException, pa.ArrowException, OSError)
"""What polars and pyarrow raise at damaged files: some make polars panic, which is no `Exception`."""


def read_json(
    path: Path, what: str, error: type[FedprepError] = DatasetError, hint: str = ""
) -> dict[str, Any]:
    """Returns the JSON object in a file.

    Args:
        what: the file's name in a message, such as "the manifest".
        error: what is raised.

    Raises:
        DatasetError (`error`): it is no JSON as `parse_json` takes it, no object, or cannot be read.
    """
    try:
        n_bytes = path.stat().st_size
        if n_bytes > MAX_BYTES:
            raise ValueError(f"it has {n_bytes:,} bytes, and at most {MAX_BYTES:,} are read")
        value = parse_json(path.read_bytes())
        if not isinstance(value, dict):
            raise ValueError(f"it holds {_kind(value)} and no object")
    except (ValueError, OSError) as reason:
        raise error(f"{what} cannot be read", where=f"{path}: {reason}", hint=hint) from None
    return value


def parse_json(block: bytes | str) -> Any:
    """Returns the value of a JSON text in UTF-8.

    Raises:
        ValueError: it is none, names a key twice in one object, nests deeper than `MAX_DEPTH`, or holds NaN,
            an infinity, or half of a character.
    """
    try:
        text = block.decode("utf-8") if isinstance(block, bytes) else block
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_no_number, parse_float=_finite
        )
    except RecursionError:
        raise ValueError(f"it nests deeper than {MAX_DEPTH} levels") from None
    _refuse_depth(value)
    if "\\ud" in text or "\\uD" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("it holds half of a surrogate pair, which is no character") from None
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it names the key '{twice[:40]}' twice")
    return found


def _no_number(word: str) -> float:
    raise ValueError(f"it holds {word}, which is no JSON")


def _finite(word: str) -> float:
    value = float(word)
    if not math.isfinite(value):
        raise ValueError(f"it holds the number {word[:40]}, which is beyond a float")
    return value


def _refuse_depth(value: Any) -> None:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise ValueError(f"it nests deeper than {MAX_DEPTH} levels")


_AT = re.compile(r" - at `(key in )?\$\.?(?P<key>.*?)`$")


def typed(
    value: Any,
    kind: type[T],
    where: str,
    what: str,
    error: type[FedprepError] = DatasetError,
    hint: str = "",
) -> T:
    """Returns a decoded value as its declared type; keys that the type does not know are ignored.

    Args:
        where: the file. what: its name in a message, such as "the manifest".

    Raises:
        DatasetError (`error`): a value is of another type or out of its range; it names the key.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as reason:
        words = str(reason)
        at = _AT.search(words)
        key = at["key"] if at else ""
        words = words[: at.start()] if at else words
        raise error(
            f"{what} is damaged: {words[0].lower()}{words[1:]}",
            where=f"{where}, {key}" if key else where,
            hint=hint,
        ) from None


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


# --- Parquet -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Footer:
    """The columns of a Parquet file and the rows of each of its row groups."""

    columns: Mapping[str, pl.DataType]
    groups: tuple[int, ...]

    @property
    def n_rows(self) -> int:
        return sum(self.groups)


def read_footer(path: Path) -> Footer:
    """Returns the footer of a Parquet file, without a single row.

    Raises:
        DatasetError: it is no Parquet file, or a broken one.
    """
    with as_parquet(path):
        metadata = parquet_file(path).metadata
        columns = parquet_columns(path)
        groups = tuple(metadata.row_group(k).num_rows for k in range(metadata.num_row_groups))
    return Footer(columns, groups)


def read_table(path: Path) -> pl.DataFrame:
    """Returns a whole Parquet file.

    Raises:
        DatasetError: it is no Parquet file, or a broken one.
    """
    with as_parquet(path):
        return read_parquet(path)


@contextmanager
def as_parquet(path: Path) -> Iterator[None]:
    """What polars and pyarrow cannot decode inside is told as an error of this file.

    Raises:
        DatasetError: it is no Parquet file, or a broken one.
    """
    try:
        yield
    except DAMAGED as error:
        lines = str(error).strip().splitlines()
        raise DatasetError(
            f"{path.name} cannot be read as Parquet",
            where=f"{path}: {lines[0] if lines else type(error).__name__}",
            hint="it is cut off or damaged: copy or build it again",
        ) from None
