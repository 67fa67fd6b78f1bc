"""Delimited text of any size, staged to Parquet block by block: CSV, TSV, `;`, `::` and their dirt.

Fields between separators of one byte may be quoted, with `""` or `\\"` for a quote inside; a stray quote
is a character. Separators of several characters (MovieLens' `::`) know no quotes: none of the formats
that use them does.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from fedprep.errors import RecipeError, SourceError, nearest
from fedprep.frames import scan_parquet
from fedprep.schema import Lines, Progress, Step, silent
from fedprep.sources.blocks import blocks_of_lines, first_bytes, parquet_writer
from fedprep.sources.first_lines import (
    fields_of,
    likeness,
    looks_like_data,
    looks_like_header,
    of_another_width,
)
from fedprep.sources.records import Layout, Records, parse_records
from fedprep.sources.tidy import BAD_SHARE, BLANKS, refuse_bad_lines

__all__ = ["Dialect", "first_rows", "stage_delimited"]

Quote = Literal["auto", "double", "none"]

STAND_IN = "\x1f"  # ASCII's unit separator, in place of a separator of several characters
HEAD = 1 << 16
LOOKED_AT = 100  # lines whose number of fields is looked at where there is no header
NO_UTF8 = "bytes that are no UTF-8"
TOLERATED = 1000  # one line in so many may have bytes that are no UTF-8


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How a delimited text file is written."""

    separator: str = ","
    header: bool = True
    encoding: str = "utf-8"  # any of Python's that has ASCII inside: latin-1, cp1252, utf-8 …
    quote: Quote = "auto"  # double: each one is meant; none: it is a character like any other

    @property
    def byte(self) -> str:
        """The one-byte separator of a block once it has been made ready."""
        return self.separator if len(self.separator.encode()) == 1 else STAND_IN

    @property
    def quoted(self) -> bool:
        """Whether a quote may open a field."""
        return self.quote != "none" and self.byte == self.separator


def stage_delimited(
    path: Path,
    fields: Mapping[str, str | int],
    out: Path,
    *,
    name: str,
    dialect: Dialect | None = None,
    dtypes: Mapping[str, pl.DataType] | None = None,
    max_bad_share: float = BAD_SHARE,
    progress: Progress = silent,
) -> tuple[pl.LazyFrame, Step]:
    """Returns the wanted columns of a delimited text file, and what was dropped on the way.

    The frame has `line` (UInt32, the 1-based line of the raw file that the record starts on), then the
    columns in the order of `fields`: String, or as `dtypes` says; null where the field is empty. Rows
    keep the file's order.

    Plain or gzip, told by content; LF, CRLF or CR ends; a byte order mark is skipped; blank lines are
    passed over. A line is bad, dropped and counted if it has another number of fields than the header
    (without one: than most of the first 100 lines), a quote that is meant and never closed, a value that
    is not of the wanted type, or bytes that are no UTF-8. Every line of the file is a row, dropped, blank,
    the header, or inside of a quoted field: the step's `lines` has the counts.

    Args:
        path: the file.
        fields: our column → the file's column name, or its 0-based number.
        out: a folder; `rows.parquet` is written below it.
        name: what the lines are (`"ratings"`): the step is called `"bad lines in ratings"`.
        dialect: separator, header, encoding, quote; None is plain CSV.
        dtypes: our column → its numeric type; String where it is not named.
        max_bad_share: the share of lines that may be bad (a single one always may).

    Raises:
        RecipeError: an encoding or a separator that cannot be one, a column that two of ours are read
            from, or a name where the file has no header.
        SourceError: no such column, too many bad lines, not one good line, a first line that is data
            where a header is declared or the other way round, a broken gzip, another format, or bytes
            that are not of the encoding (UTF-8: in more than one line of a thousand).
        OutputError: `out` cannot be written.
    """
    dialect = dialect or Dialect()
    _refuse_what_cannot_be(dialect)
    schema = {column: (dtypes or {}).get(column, pl.String()) for column in fields}
    bad = _BadLines()
    empty = pl.DataFrame(schema={"line": pl.UInt32(), **schema})
    expected = f"text with fields between '{dialect.separator}'"
    with (
        blocks_of_lines(path, name=name, expected=expected, progress=progress) as raw_blocks,
        parquet_writer(out / "rows.parquet", empty.to_arrow().schema) as writer,
    ):
        blocks = _ready_blocks(raw_blocks, path, name, dialect, bad)
        head, first_line = next(blocks, (b"", 1))
        layout, names, n_skipped = _layout(head, dialect, fields, path, name)
        data = head.split(b"\n", n_skipped)[-1] if n_skipped else head
        lines = Lines(header=bool(names), blank=n_skipped - bool(names))
        for records in _records(chain([(data, first_line + n_skipped)], blocks), layout):
            bad.add(records.bad, f"other than {layout.n_fields} fields")
            bad.add(
                records.bad_quotes, "a quote that is never closed, or swallows what is no record"
            )
            bad.n_stray += records.n_stray
            rows = _typed(records, schema, layout, bad)
            lines += Lines(rows=rows.height, blank=records.n_blank, inside=records.n_inside)
            writer.write_table(rows.to_arrow().cast(writer.schema))
        n_rows = lines.rows
        lines = replace(lines, dropped=bad.total, blank=lines.blank - bad.reasons[NO_UTF8])
        assert lines.total == bad.n_lines, f"{path}: {bad.n_lines} lines, accounted for: {lines}"
        if n_rows == 0:
            raise SourceError(
                f"{name}: none of the {bad.total:,} lines can be used: {bad.why()}"
                if bad.total
                else f"{name}: no line of data",
                where=str(path),
                expected=f"fields between '{dialect.separator}'"
                + (f", with the header {', '.join(names)}" if names else ", without a header"),
                hint=". ".join(filter(None, _likeness(head, dialect, layout))),
            )
        refuse_bad_lines(
            bad.total,
            n_rows + bad.total,
            max_bad_share,
            name=name,
            why=bad.why(),
            where=f"{path}, {_places(bad.first)}",
            like=_likeness(head, dialect, layout),
        )
    why = [bad.why()] if bad.total else []
    why += [f"{bad.n_stray:,} had stray quotes, read as characters"] if bad.n_stray else []
    return scan_parquet(out / "rows.parquet"), Step(
        stage="read",
        name=f"bad lines in {name}",
        rows_in=n_rows + bad.total,
        rows_out=n_rows,
        why="; ".join(why),
        examples=tuple(f"line {line}" for line in bad.first),
        lines=lines,
    )


def first_rows(path: Path, dialect: Dialect, *, name: str) -> list[list[str]]:
    """Returns the fields of the first lines of a file that are not blank, each line by itself.

    Raises:
        SourceError: the file cannot be read.
    """
    head = first_bytes(path, HEAD, name=name)
    lines = head.decode(dialect.encoding, errors="replace").lstrip("\ufeff").splitlines()
    whole = lines[:-1] if len(head) == HEAD else lines
    full = [line for line in whole[:LOOKED_AT] if line.strip()]
    return fields_of(full, dialect.separator, quotes=dialect.quoted)


def _likeness(head: bytes, dialect: Dialect, layout: Layout) -> tuple[str, str]:
    lines = head.decode(errors="replace").split("\n", LOOKED_AT)[:LOOKED_AT]
    like = likeness(lines, dialect.byte, layout.n_fields, quoted=dialect.quoted)
    return like if like[1] else of_another_width(lines, dialect.byte, layout.n_fields)


def _places(lines: Sequence[int]) -> str:
    return f"line{'s' * (len(lines) > 1)} {', '.join(map(str, lines))}"


@dataclass
class _BadLines:
    """Counts bad lines by reason, and keeps the numbers of the first three.

    n_stray: lines that were read with their quotes as characters. n_lines: all lines of the file so far.
    """

    total: int = 0
    n_stray: int = 0
    n_lines: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    first: list[int] = field(default_factory=list)

    def add(self, lines: npt.NDArray[np.uint32], reason: str) -> None:
        if len(lines):
            self.total += len(lines)
            self.reasons[reason] += len(lines)
            self.first = sorted([*self.first, *np.sort(lines)[:3].tolist()])[:3]

    def why(self) -> str:
        return "; ".join(f"{count:,} with {reason}" for reason, count in self.reasons.items())


def _refuse_what_cannot_be(dialect: Dialect) -> None:
    if dialect.quote == "double" and dialect.byte != dialect.separator:
        raise RecipeError(
            f"fields between '{dialect.separator}' cannot be quoted",
            expected='quote = "none" (or "auto") with a separator of more than one byte',
        )
    if not dialect.separator or set(dialect.separator) & set('"\r\n'):
        raise RecipeError(
            f"{dialect.separator!r} cannot be a separator",
            expected="one character or more, no quote and no line end",
        )
    probe = bytes(range(128)).decode()
    try:
        has_ascii = probe.encode(dialect.encoding) == probe.encode()
    except (LookupError, UnicodeEncodeError):
        raise RecipeError(
            f"no encoding is called '{dialect.encoding}'",
            expected="one of Python's text encodings, such as utf-8, latin-1, cp1252",
        ) from None
    if not has_ascii:
        raise RecipeError(
            f"files in {dialect.encoding} cannot be read",
            expected="an encoding that has ASCII inside, such as utf-8, latin-1, cp1252",
            hint="without `encoding` UTF-16 is known by its mark"
            if dialect.encoding.lower().replace("-", "").startswith("utf16")
            else f"convert the file: iconv -f {dialect.encoding} -t utf-8 FILE",
        )


def _ready_blocks(
    blocks: Iterable[tuple[bytes, int]], path: Path, name: str, dialect: Dialect, bad: _BadLines
) -> Iterator[tuple[bytes, int]]:
    """Yields blocks of whole lines in UTF-8, with LF ends, one-byte separators and `""` for `\\"`."""
    decodes = codecs.lookup(dialect.encoding).name not in ("utf-8", "utf-8-sig")
    separator = dialect.separator.encode()
    escapes = _fields_with_escapes(separator)
    for block, line in blocks:
        if decodes:
            block = _recoded(block, line, dialect.encoding, path, name)
        elif not block.isascii():
            block, broken = _without_broken_lines(block)
            bad.add(broken + np.uint32(line), NO_UTF8)
            _refuse_another_encoding(bad, line + block.count(b"\n"), path, name)
        if b"\r" in block:
            # Arrow takes a lone CR for the end of a line; it is one where there are no others.
            lone = b" " if b"\n" in block else b"\n"
            block = block.replace(b"\r\n", b"\n").replace(b"\r", lone)
        if not block.endswith(b"\n"):
            block += b"\n"
        bad.n_lines += block.count(b"\n")
        if dialect.byte != dialect.separator:
            block = block.replace(STAND_IN.encode(), b" ").replace(separator, STAND_IN.encode())
        elif dialect.quoted and b'\\"' in block:
            block = escapes.sub(lambda found: found[0].replace(b'\\"', b'""'), block)
        yield block, line


def _fields_with_escapes(separator: bytes) -> re.Pattern[bytes]:
    """Returns a pattern for quoted fields that hold `\\"` as a quote inside.

    A field that ends in a backslash is none: its quote is followed by a separator or the line's end,
    and the text up to the next one is no field. (Neither is one found that runs over the end of a block:
    its record counts as bad.)
    """
    end = b"[" + re.escape(separator) + rb"\n]"
    start = rb'"(?:(?<=\A")|(?<=' + end + rb'"))'
    before, behind = rb'(?:[^"\\]++|""|\\[^"])*+', rb'(?:[^"\\]++|""|\\.)*+'
    return re.compile(start + before + rb'\\"' + behind + rb'"(?=' + end + rb")", re.DOTALL)


def _recoded(block: bytes, first_line: int, encoding: str, path: Path, name: str) -> bytes:
    try:
        return block.decode(encoding).encode()
    except UnicodeDecodeError as error:
        line = first_line + block.count(b"\n", 0, error.start)
        raise SourceError(
            f"{name}: the file is not {encoding}: byte 0x{block[error.start]:02x} means nothing in it",
            where=f"{path}, line {line}",
            hint="set `encoding` to what the file was written in, such as utf-8 or latin-1",
        ) from None


def _without_broken_lines(block: bytes) -> tuple[bytes, npt.NDArray[np.uint32]]:
    """Returns the block with the lines that are no UTF-8 made blank, and which lines these were."""
    try:
        block.decode()
    except UnicodeDecodeError:
        text = block.decode(errors="ignore")
        before = pl.Series(block.split(b"\n"), dtype=pl.Binary)
        after = pl.Series(text.split("\n"), dtype=pl.String)
        broken = before != after.cast(pl.Binary)
        ready = after.set(broken, "").str.join("\n").item().encode()
        return ready, broken.arg_true().to_numpy().astype(np.uint32)
    return block, np.empty(0, dtype=np.uint32)


def _refuse_another_encoding(bad: _BadLines, n_lines: int, path: Path, name: str) -> None:
    count = bad.reasons[NO_UTF8]
    if count and (count * TOLERATED > n_lines or bad.first[0] == 1):  # line 1 may be the header
        raise SourceError(
            f"{name}: the file is not UTF-8: {count:,} of its first {n_lines:,} lines are not",
            where=f"{path}, line {bad.first[0]}",
            hint="set `encoding` to what it was written in; for older files that is mostly latin-1",
        )


def _layout(
    head: bytes, dialect: Dialect, fields: Mapping[str, str | int], path: Path, name: str
) -> tuple[Layout, list[str], int]:
    """Returns the layout of the records, the names in the header, and how many lines it takes."""
    lines = head.decode().split("\n", LOOKED_AT)
    first = next((n for n, line in enumerate(lines[:LOOKED_AT]) if line.strip()), None)
    if first is None:
        raise SourceError(f"{name}: the file is empty, or starts with blank lines", where=str(path))
    try:
        rows = fields_of(
            [*filter(None, lines[first:LOOKED_AT])], dialect.byte, quotes=dialect.quoted
        )
    except csv.Error as error:
        raise SourceError(
            f"{name}: the first lines cannot be read: {error}", where=str(path)
        ) from None
    names = [column.strip(BLANKS) for column in rows[0]] if dialect.header else []
    sizes = Counter(map(len, rows))
    n_fields = len(names) or sizes.most_common(1)[0][0]
    like = likeness(lines[first:LOOKED_AT], dialect.byte, len(fields), quoted=dialect.quoted)
    if dialect.header and not like[1] and looks_like_data(rows, range(n_fields)):
        like = ("the first line looks like data", "header = false, and numbers in place of names")
    wanted = _numbers(fields, names, n_fields, path, name, like)
    _refuse_wrong_header(rows, wanted, dialect, fields, f"{path}, line {first + 1}", name)
    layout = Layout(
        n_fields=n_fields,
        wanted=wanted,
        separator=dialect.byte,
        quotes=dialect.quoted,
        strict=dialect.quote == "double",
        spaced=2 * sum(any(f.startswith(" ") for f in row[1:]) for row in rows) > len(rows),
    )
    return layout, names, first + 1 if dialect.header else 0


def _refuse_wrong_header(
    rows: list[list[str]],
    wanted: Sequence[int],
    dialect: Dialect,
    fields: Mapping[str, str | int],
    where: str,
    name: str,
) -> None:
    shown = dialect.separator.join(rows[0])[:80]
    by_number = all(isinstance(theirs, int) for theirs in fields.values())
    if dialect.header and by_number and looks_like_data(rows, wanted):
        raise SourceError(
            f"{name}: the first line looks like data, and would be lost as a header: {shown}",
            where=where,
            expected="a line with the names of the columns",
            hint="header = false says that there is none",
        )
    if not dialect.header and looks_like_header(rows, wanted):
        raise SourceError(
            f"{name}: the first line looks like a header, and would be read as data: {shown}",
            where=where,
            expected=f"data, as in the lines below: {dialect.separator.join(rows[1])[:80]}",
            hint="header = true says that it names the columns",
        )


def _numbers(
    fields: Mapping[str, str | int],
    names: list[str],
    n_fields: int,
    path: Path,
    name: str,
    like: tuple[str, str],
) -> tuple[int, ...]:
    """Returns the 0-based number of the file's column behind each of ours; `like` is for messages."""
    numbers: dict[str, int] = {}
    for ours, theirs in fields.items():
        if isinstance(theirs, str):
            if not names:
                raise RecipeError(
                    f"{name}: column '{theirs}' is given by name, but the file has no header",
                    where=f"columns.{ours}",
                    expected=f"a number from 0 to {n_fields - 1}",
                )
            count = names.count(theirs)
            if count != 1:
                called = "no column is" if count == 0 else f"{count} columns are"
                raise SourceError(
                    f"{name}: {called} called '{theirs}'" + (f": {like[0]}" if like[0] else ""),
                    where=f"{path}, header",
                    expected=f"one that can be read as `{ours}`",
                    hint="use its number, counted from 0"
                    if theirs in names
                    else like[1] or nearest(theirs, names),
                )
            numbers[ours] = names.index(theirs)
        elif 0 <= theirs < n_fields:
            numbers[ours] = theirs
        else:
            raise SourceError(
                f"{name}: there is no column {theirs}: "
                + (like[0] or f"the lines have {n_fields} fields"),
                where=str(path),
                expected=f"for `{ours}` a number from 0 to {n_fields - 1}",
                hint=like[1]
                or ("is the separator right?" if n_fields == 1 else "columns are counted from 0"),
            )
    for ours, number in numbers.items():
        twice = [other for other in numbers if numbers[other] == number and other != ours]
        if twice:
            raise RecipeError(
                f"{name}: `{ours}` and `{twice[0]}` are both read from column {fields[ours]!r}",
                expected="a column of its own for each",
            )
    return tuple(numbers.values())


def _records(blocks: Iterable[tuple[bytes, int]], layout: Layout) -> Iterator[Records]:
    """Yields the records of blocks; one that a block does not end is read with the next."""
    rest, at = b"", 0
    for block, line in blocks:
        text, at = rest + block, at if rest else line
        records = parse_records(text, at, layout, last=False)
        rest = records.rest
        at += text.count(b"\n") - rest.count(b"\n")
        yield records
    if rest:
        yield parse_records(rest, at, layout)


def _typed(
    records: Records, schema: Mapping[str, pl.DataType], layout: Layout, bad: _BadLines
) -> pl.DataFrame:
    """Returns the rows of the records whose values are all of the wanted types, with their lines."""
    names = [str(number) for number in layout.wanted]
    lines = pl.Series("line", records.lines, dtype=pl.UInt32)
    rows = pl.DataFrame(
        [lines, *(records.frame[n].rename(c) for n, c in zip(names, schema, strict=True))]
    )
    for column, dtype in schema.items():
        if dtype == pl.String():
            continue
        values = rows[column].cast(dtype, strict=False)
        if values.null_count() > rows[column].null_count():
            text = rows[column].str.strip_chars().replace("", None)
            values = text.cast(dtype, strict=False)
            wrong = text.is_not_null() & values.is_null()
            bad.add(rows["line"].filter(wrong).to_numpy(), f"no number as {column}")
            rows, values = rows.filter(~wrong), values.filter(~wrong)
        rows = rows.with_columns(values)
    return rows
