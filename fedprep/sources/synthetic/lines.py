"""Text files of many lines: written in blocks, plain or gzip, counting lines and where faults lie."""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["Form", "LineFile", "filled", "json_text", "literal_text", "or_null"]

FIRST = 3  # how many places of each fault are kept
LETTERS = "éñèàÜçö"  # beyond ASCII, in some titles


@dataclass(frozen=True, kw_only=True)
class Form:
    """How the files of an edition are written: line ends, encoding, and whether `.gz` is gzip."""

    newline: str = "\n"
    encoding: str = "utf-8"
    compress: bool = True


@dataclass
class LineFile:
    """A file that takes blocks of lines. Use as a context manager.

    `n_lines` counts all lines, the header too; `places[bit]` counts the lines marked with that fault
    and keeps the numbers (from 1) of the first three.
    """

    path: Path
    form: Form
    n_lines: int = 0
    places: dict[int, tuple[int, list[int]]] = field(default_factory=dict)

    def __enter__(self) -> LineFile:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._raw = self.path.open("wb")
        self._file: BinaryIO = self._raw
        if self.path.suffix == ".gz" and self.form.compress:
            # Level 1: these files are made to be read once. mtime 0: equal input, equal bytes.
            packed = gzip.GzipFile(
                filename="", mode="wb", compresslevel=1, fileobj=self._raw, mtime=0
            )
            self._file = cast(BinaryIO, packed)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._raw.close()

    def header(self, line: str) -> None:
        """Writes one line by itself."""
        self.write(pl.Series([line]))

    def write(self, lines: pl.Series, marks: npt.NDArray[np.uint32] | None = None) -> None:
        """Writes lines; `marks` holds a bit for each fault planted into a line."""
        if marks is not None and marks.any():
            self._note(marks)
        self.n_lines += len(lines)
        column = pl.DataFrame([lines.alias("line")]).select(pl.col("line") + self.form.newline)
        array = column.to_series().rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
        first, last = array.offset, array.offset + len(array)
        if len(array) == 0:
            return
        ends = np.frombuffer(array.buffers()[1], dtype=np.int64)
        data = memoryview(array.buffers()[2])[int(ends[first]) : int(ends[last])]
        if self.form.encoding == "utf-8":
            self._file.write(data)
        else:
            self._file.write(bytes(data).decode("utf-8").encode(self.form.encoding, "replace"))

    def _note(self, marks: npt.NDArray[np.uint32]) -> None:
        for bit in range(32):
            at = np.flatnonzero(marks & np.uint32(1 << bit))
            if len(at):
                count, first = self.places.get(bit, (0, []))
                numbers = (at[:FIRST] + self.n_lines + 1).tolist()
                self.places[bit] = (count + len(at), (first + numbers)[:FIRST])


def filled(template: str, **columns: pl.Expr) -> pl.Expr:
    """Returns a template with each `<name>` replaced by the column of that name, or the one given."""
    parts = re.split(r"<(\w+)>", template)
    texts = [pl.lit(text) for text in parts[::2]]
    names = [columns.get(name, pl.col(name)) for name in parts[1::2]]
    between = [part for pair in zip(texts, names, strict=False) for part in pair]
    return pl.concat_str([*between, texts[-1]])


def json_text(column: str, *, ascii_only: bool = False) -> pl.Expr:
    """Returns a String column as JSON strings, and null as `null`."""
    text = pl.col(column).str.replace_all("\\", "\\\\", literal=True)
    text = text.str.replace_all('"', '\\"', literal=True).str.replace_all("\n", "\\n", literal=True)
    if ascii_only:
        letters = sorted(LETTERS)
        text = text.str.replace_many(letters, [f"\\u{ord(letter):04x}" for letter in letters])
    return or_null(pl.lit('"') + text + pl.lit('"'))


def literal_text(column: str) -> pl.Expr:
    """Returns a String column as Python string literals (as `repr` writes them), null as `None`."""
    text = pl.col(column).str.replace_all("\\", "\\\\", literal=True)
    text = text.str.replace_all("\n", "\\n", literal=True)
    single = pl.lit("'") + text.str.replace_all("'", "\\'", literal=True) + pl.lit("'")
    double = pl.lit('"') + text + pl.lit('"')
    has_single, has_double = (
        text.str.contains("'", literal=True),
        text.str.contains('"', literal=True),
    )
    return or_null(pl.when(has_single & ~has_double).then(double).otherwise(single), "None")


def or_null(text: pl.Expr, null: str = "null") -> pl.Expr:
    """Returns the text, or the word for null where there is none."""
    return pl.coalesce(text, pl.lit(null))
