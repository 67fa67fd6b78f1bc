"""JSON lines of any size, staged to Parquet block by block: a 30 GB `.jsonl.gz` needs no 30 GB.

A block is some megabytes of whole lines. DuckDB takes the wanted fields out of it (one parse a line)
while a thread inflates the next one, so memory follows the block and not the file. What a file is
called says nothing: gzip is known by its first bytes.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from fedprep.errors import OutputError, SourceError
from fedprep.files import whole_file
from fedprep.schema import Progress, Step, silent
from fedprep.sources.literals import eval_literals, json_of_literals

__all__ = ["stage_jsonl"]

BLOCK_BYTES = 16 << 20
LONGEST_LINE = (
    64 << 20
)  # a longer one is no line of this format, and reading on would fill the memory

GZIP = b"\x1f\x8b"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
OTHER_FORMATS = {
    b"PK\x03\x04": "a zip archive",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"PAR1": "a Parquet file",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}


def stage_jsonl(
    path: Path,
    fields: Mapping[str, str],
    out: Path,
    *,
    name: str,
    literal: bool = False,
    digests: Mapping[str, Sequence[str]] | None = None,
    progress: Progress = silent,
) -> tuple[pl.LazyFrame, Step]:
    """Returns the wanted fields of a JSON lines file, and what was dropped on the way.

    The frame has `line` (UInt32, 1-based line of the raw file, blank lines counted), then one String
    column a field: null where the key is missing or null, a nested value as its JSON text, a number as
    JSON writes it, an empty string as it is. Then come the digests (UInt64). Rows keep the file's order.

    Plain or gzip (several members too); LF or CRLF ends; a byte order mark is skipped; blank lines are
    ignored; bytes that are no UTF-8 become U+FFFD and are counted in the step's `why`. Lines that are
    no JSON object are dropped and counted, the first three by number.

    Args:
        path: the file.
        fields: our column → JSON key of the object. Of a repeated key the first one counts.
        out: a folder; `rows.parquet` is written below it.
        name: what the lines are (`"reviews"`): the step is called `"bad lines in reviews"`.
        literal: lines are Python dict literals with single quotes (Amazon 2014 metadata).
        digests: column → JSON keys whose values are hashed together, so that long texts need not be
            staged. Equal values give equal digests; another version of DuckDB may give others.

    Raises:
        SourceError: an empty file, a truncated or broken gzip, another format, a line of more than
            64 MB, or not one good line.
        OutputError: `out` cannot be written.
    """
    extract = _Extractor(fields, digests or {})
    n_lines = n_rows = n_recoded = 0
    examples: list[str] = []
    with _parquet_writer(out / "rows.parquet", extract.schema()) as writer:
        for block, first_line in _blocks(path, name, progress):
            lines, recoded = _lines(block, first_line)
            rows = _literal_rows(lines, extract) if literal else extract(lines)
            n_lines += lines.height
            n_rows += rows.height
            n_recoded += recoded
            if rows.height < lines.height and len(examples) < 3:
                bad = _without(lines, rows)["line"].head(3 - len(examples))
                examples += [f"line {line}" for line in bad.to_list()]
            writer.write_table(rows.to_arrow().cast(writer.schema))
        form = "Python dicts" if literal else "JSON objects"
        if n_rows == 0:
            raise SourceError(
                f"{name}: none of the {n_lines:,} lines can be read"
                if n_lines
                else f"{name}: no line",
                where=str(path),
                expected=f"{form}, one a line",
                hint="fetch the file again; a web page saved in its place is the usual cause",
            )
    why = [f"no {form}"] if n_rows < n_lines else []
    why += [f"{n_recoded:,} lines had bytes that are no UTF-8"] if n_recoded else []
    return pl.scan_parquet(out / "rows.parquet"), Step(
        stage="read",
        name=f"bad lines in {name}",
        rows_in=n_lines,
        rows_out=n_rows,
        why="; ".join(why),
        examples=tuple(examples),
    )


def _blocks(path: Path, name: str, progress: Progress) -> Iterator[tuple[bytes, int]]:
    """Yields blocks of whole lines, each with the number of its first line."""
    line = 1
    at = 0
    try:
        with path.open("rb") as raw, ThreadPoolExecutor(max_workers=1) as inflater:
            total = os.fstat(raw.fileno()).st_size
            stream = _text_of(raw, name, path)
            ahead = inflater.submit(_next_block, stream)
            while block := ahead.result():
                at = raw.tell()
                ahead = inflater.submit(_next_block, stream)
                yield block.removeprefix(BYTE_ORDER_MARK) if line == 1 else block, line
                line += block.count(b"\n")
                progress(f"reading {name}", at, total)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        trouble = "cut short" if isinstance(error, EOFError) else f"broken ({error})"
        raise SourceError(
            f"{name}: the gzip file is {trouble}: {at:,} of its {total:,} bytes could be used",
            where=f"{path}, after line {line - 1:,}",
            hint="it did not arrive whole: delete it and fetch it again",
        ) from None
    except _LineTooLong:
        raise SourceError(
            f"{name}: a line of more than {LONGEST_LINE >> 20} MB",
            where=f"{path}, after line {line - 1:,}",
            expected="JSON lines, one object a line",
        ) from None
    except OSError as error:
        raise SourceError(f"{name}: the file cannot be read: {error}", where=str(path)) from None


def _text_of(raw: BinaryIO, name: str, path: Path) -> BinaryIO:
    """Returns the stream of plain bytes, inflated where the content is gzip."""
    head = raw.read(16)
    raw.seek(0)
    for magic, form in OTHER_FORMATS.items():
        if head.startswith(magic):
            raise SourceError(
                f"{name}: this is {form}", where=str(path), expected="JSON lines, plain or gzip"
            )
    return cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if head.startswith(GZIP) else raw


class _LineTooLong(Exception):
    """A line has no end in sight."""


def _next_block(stream: BinaryIO) -> bytes:
    block = stream.read(BLOCK_BYTES)
    if block and not block.endswith(b"\n"):
        rest = stream.readline(LONGEST_LINE)
        if len(rest) == LONGEST_LINE and not rest.endswith(b"\n"):
            raise _LineTooLong
        block += rest
    return block


def _lines(block: bytes, first_line: int) -> tuple[pl.DataFrame, int]:
    """Returns `line`, `text` of the lines that are not blank, and how many had to be recoded."""
    recoded = 0
    try:
        text = block.decode()
    except UnicodeDecodeError:
        text = block.decode(errors="replace")
        before = pl.Series(block.split(b"\n"), dtype=pl.Binary)
        recoded = int((before != pl.Series(text.encode().split(b"\n"), dtype=pl.Binary)).sum())
    lines = pl.Series("text", [text]).str.split("\n").explode().str.strip_chars(" \t\r").to_frame()
    numbered = lines.with_row_index("line", first_line)
    return numbered.filter(pl.col("text") != ""), recoded


def _literal_rows(lines: pl.DataFrame, extract: _Extractor) -> pl.DataFrame:
    """Returns the rows of lines that are Python dicts: as JSON where that is safe, else evaluated."""
    rows = extract(json_of_literals(lines))
    if rows.height == lines.height:
        return rows
    rest = extract(eval_literals(_without(lines, rows)))
    return pl.concat([rows, rest]).sort("line")


def _without(lines: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    return lines.join(rows.select("line"), on="line", how="anti", maintain_order="left")


class _Extractor:
    """Takes fields out of lines; a line that is no JSON object gives no row."""

    def __init__(self, fields: Mapping[str, str], digests: Mapping[str, Sequence[str]]) -> None:
        import duckdb

        self._columns = {
            "line": pl.UInt32(),
            **dict.fromkeys(fields, pl.String()),
            **dict.fromkeys(digests, pl.UInt64()),
        }
        keys = list(
            dict.fromkeys([*fields.values(), *(k for group in digests.values() for k in group)])
        )
        at = {key: f"v[{position}]" for position, key in enumerate(keys, start=1)}
        values = [at[key] for key in fields.values()]
        values += [f"hash({', '.join(at[key] for key in group)})" for group in digests.values()]
        names = ", ".join(
            f'{value} AS "{column}"'
            for value, column in zip(values, [*self._columns][1:], strict=True)
        )
        paths = ", ".join("'$.\"" + key.replace("'", "''") + "\"'" for key in keys)
        all_values = f"json_extract_string(text, [{paths}])"
        query = f"SELECT line, {names} FROM (SELECT line, {{}} AS v FROM lines) WHERE v IS NOT NULL"
        self._all_good = query.format(all_values)
        self._some_bad = query.format(f"CASE WHEN json_valid(text) THEN {all_values} END")
        self._duckdb = duckdb.connect()
        # Its message quotes the line, which may be cut inside a character.
        self._bad_input = (duckdb.InvalidInputException, UnicodeDecodeError)

    def schema(self) -> pa.Schema:
        return pl.DataFrame(schema=self._columns).to_arrow().schema

    def __call__(self, lines: pl.DataFrame) -> pl.DataFrame:
        objects = lines.filter(pl.col("text").str.starts_with("{"))
        self._duckdb.register("lines", objects.to_arrow())
        try:
            table = self._duckdb.sql(self._all_good).to_arrow_table()
        except self._bad_input:
            # A second pass only where it is needed: to validate first costs more than half the speed.
            table = self._duckdb.sql(self._some_bad).to_arrow_table()
        rows = pl.DataFrame(pl.from_arrow(table)).cast(dict(self._columns))  # type: ignore[arg-type]
        return rows if rows["line"].is_sorted() else rows.sort("line")


@contextmanager
def _parquet_writer(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    try:
        with (
            whole_file(path) as unfinished,
            pq.ParquetWriter(unfinished, schema, compression="lz4") as writer,
        ):
            yield writer
    except OSError as error:
        raise OutputError(f"cannot write staged rows: {error}", where=str(path)) from None
