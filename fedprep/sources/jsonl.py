"""JSON lines of any size, staged to Parquet block by block: a 30 GB `.jsonl.gz` needs no 30 GB.

DuckDB takes the wanted fields out of a block of lines, with one parse a line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import polars as pl

from fedprep.errors import OutputError, SourceError
from fedprep.frames import scan_parquet
from fedprep.schema import Lines, Progress, Step, silent
from fedprep.sources.blocks import blocks_of_lines, parquet_writer
from fedprep.sources.encoding import encoding_of
from fedprep.sources.first_lines import WEB_PAGE, is_web_page
from fedprep.sources.literals import eval_literals, json_of_literals
from fedprep.sources.tidy import BAD_SHARE, refuse_bad_lines

__all__ = ["lines_of_array", "stage_jsonl"]

HEAD = 1 << 16
HINT = "is it JSON, with an object a line? `jq -c . FILE` writes objects of several lines so"
LONGEST_ARRAY = 2 << 30  # bytes


def stage_jsonl(
    path: Path,
    fields: Mapping[str, str],
    out: Path,
    *,
    name: str,
    literal: bool = False,
    digests: Mapping[str, Sequence[str]] | None = None,
    transform: Callable[[pl.DataFrame], pl.DataFrame] | None = None,
    max_bad_share: float = BAD_SHARE,
    given: Path | None = None,
    progress: Progress = silent,
) -> tuple[pl.LazyFrame, Step]:
    """Returns the wanted fields of a JSON lines file, and what was dropped on the way.

    The frame has `line` (UInt32, 1-based line of the raw file, blank lines counted), then one String
    column a field: null where the key is missing or null, a nested value as its JSON text, a number as
    JSON writes it, an empty string as it is. Then come the digests (UInt64). Rows keep the file's order.

    Plain or gzip (several members too); LF or CRLF ends; a byte order mark is skipped; blank lines are
    ignored; lines with bytes that are no UTF-8 are counted in the step's `why`: such bytes are read as
    Latin-1 where most of a block is, else they become U+FFFD. A line that is no JSON object is read as
    a Python dict (`{u'user': 'u1', 'early': False}`) where it is one. Others are dropped and counted, the
    first three by number; the step's `lines` accounts for every line of the file.

    Args:
        path: the file.
        fields: our column → JSON key of the object. Of a repeated key the first one counts.
        out: a folder; `rows.parquet` is written below it.
        name: what the lines are (`"reviews"`): the step is called `"bad lines in reviews"`.
        literal: lines are mostly Python dicts (Amazon 2014 metadata): quicker where that is known.
        digests: column → JSON keys whose values are hashed together, so that long texts need not be
            staged. Equal values give equal digests; another version of DuckDB may give others.
        transform: applied to the rows of each block (and to none, for the columns) before they are
            staged: so that long texts are cleaned in memory that follows the block. It keeps all rows.
        max_bad_share: the share of lines that may be bad (a single one always may).
        given: the file that messages name, where `path` was made of it.

    Raises:
        SourceError: an empty file, a truncated or broken gzip, another format, a line of more than
            64 MB, too many bad lines, or not one good one.
        OutputError: `out` cannot be written.
    """
    form = "JSON objects or Python dicts"
    extract = _Extractor(fields, digests or {})
    shape = transform or _as_it_is
    schema = shape(pl.DataFrame(schema=extract.columns)).to_arrow().schema
    n_lines = n_rows = n_recoded = n_literal = n_physical = 0
    examples: list[str] = []
    head = b""
    expected = f"{form}, one a line"
    with (
        parquet_writer(out / "rows.parquet", schema) as writer,
        blocks_of_lines(path, name=name, expected=expected, progress=progress) as blocks,
    ):
        for block, first_line in blocks:
            head = head or block[:HEAD]
            n_physical += block.count(b"\n") + (not block.endswith(b"\n"))
            lines, recoded = _lines(block, first_line)
            literal = literal or _mostly_literal(lines)
            rows = _literal_rows(lines, extract) if literal else extract(lines)
            if rows.height < lines.height and not literal:
                found = _literal_rows(_without(lines, rows), extract)
                n_literal += found.height
                rows = pl.concat([rows, found]).sort("line")
            n_lines += lines.height
            n_rows += rows.height
            n_recoded += recoded
            if rows.height < lines.height and len(examples) < 3:
                bad = _without(lines, rows)["line"].head(3 - len(examples))
                examples += [f"line {line}" for line in bad.to_list()]
            writer.write_table(shape(rows).to_arrow().cast(schema))
        like = WEB_PAGE if is_web_page(head.decode(errors="replace")) else ("", HINT)
        if n_rows == 0:
            raise SourceError(
                f"{name}: "
                + (f"none of the {n_lines:,} lines can be read" if n_lines else "no line")
                + (f": {like[0]}" if like[0] else ""),
                where=str(path),
                expected=expected,
                hint=like[1],
            )
        refuse_bad_lines(
            n_lines - n_rows,
            n_lines,
            max_bad_share,
            name=name,
            why=f"no {form}",
            where=f"{given or path}, {', '.join(examples)}",
        )
    why = [f"no {form}"] if n_rows < n_lines else []
    why += [f"{n_literal:,} lines were Python dicts"] if n_literal else []
    why += [f"{n_recoded:,} lines had bytes that are no UTF-8"] if n_recoded else []
    return scan_parquet(out / "rows.parquet"), Step(
        stage="read",
        name=f"bad lines in {name}",
        rows_in=n_lines,
        rows_out=n_rows,
        why="; ".join(why),
        examples=tuple(examples),
        lines=Lines(rows=n_rows, dropped=n_lines - n_rows, blank=n_physical - n_lines),
    )


def _mostly_literal(lines: pl.DataFrame) -> bool:
    """Returns whether most of the first lines begin as a Python dict does, and as no JSON object can."""
    begins = lines["text"].head(100).str.contains(r"^\{\s*(?:[ub]?'|u\")").sum()
    return begins > min(50, lines.height // 2)


def lines_of_array(path: Path, out: Path, *, name: str, progress: Progress = silent) -> Path:
    """Returns a file with the objects of a JSON array, one a line; the array is held in memory.

    Raises:
        SourceError: it is no whole JSON array, or larger than 2 GB.
        OutputError: `out` cannot be written.
    """
    import duckdb

    whole = bytearray()
    with blocks_of_lines(path, name=name, expected="a JSON array", progress=progress) as blocks:
        for block, _ in blocks:
            whole += block
            if len(whole) > LONGEST_ARRAY:
                raise SourceError(
                    f"{name}: a JSON array of more than {LONGEST_ARRAY >> 30} GB",
                    where=str(path),
                    expected="an object a line",
                    hint="jq -c '.[]' FILE > FILE.jsonl writes it so",
                )
    table = pl.DataFrame({"text": [whole.decode(errors="replace")]}).to_arrow()
    connection = duckdb.connect(config={"threads": 1})
    connection.register("whole", table)
    try:
        found = connection.sql(
            "SELECT unnest(json_extract(text, '$[*]'))::VARCHAR AS text FROM whole"
        )
        lines = pl.DataFrame(pl.from_arrow(found.to_arrow_table()))["text"]
        if not lines.str.starts_with("{").any():
            raise SourceError(f"{name}: the JSON array has no object", where=str(path))
    except (duckdb.Error, UnicodeDecodeError):
        raise SourceError(
            f"{name}: the JSON array is not whole or not valid",
            where=str(path),
            expected="[{…}, {…}], or an object a line",
        ) from None
    return _written(lines, out / "objects.jsonl")


def _written(lines: pl.Series, path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes("\n".join(lines.to_list()).encode() + b"\n")
    except OSError as error:
        raise OutputError(f"cannot write staged rows: {error}", where=str(path)) from None
    return path


def _as_it_is(rows: pl.DataFrame) -> pl.DataFrame:
    return rows


def _lines(block: bytes, first_line: int) -> tuple[pl.DataFrame, int]:
    """Returns `line`, `text` of the lines that are not blank, and how many had to be recoded."""
    recoded = 0
    try:
        text = block.decode()
    except UnicodeDecodeError:
        text = block.decode(encoding_of(block), errors="replace")
        before = pl.Series(block.split(b"\n"), dtype=pl.Binary)
        recoded = int((before != pl.Series(text.encode().split(b"\n"), dtype=pl.Binary)).sum())
    lines = pl.Series("text", [text]).str.split("\n").explode().str.strip_chars(" \t\r").to_frame()
    return lines.with_row_index("line", first_line).filter(pl.col("text") != ""), recoded


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

        self.columns: dict[str, pl.DataType] = {
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
        columns = [*fields, *digests]
        named = ", ".join(
            f'{value} AS "{name}"' for value, name in zip(values, columns, strict=True)
        )
        paths = ", ".join("'$.\"" + key.replace("'", "''") + "\"'" for key in keys)
        all_values = f"json_extract_string(text, [{paths}])"
        query = f"SELECT line, {named} FROM (SELECT line, {{}} AS v FROM lines) WHERE v IS NOT NULL"
        self._all_good = query.format(all_values)
        self._some_bad = query.format(f"CASE WHEN json_valid(text) THEN {all_values} END")
        # A block is one Arrow batch, which one thread scans: more would only wait for it, spinning.
        self._duckdb = duckdb.connect(config={"threads": 1})
        # The error quotes the line, which may be cut inside a character: then it cannot be decoded.
        self._bad_line = (duckdb.InvalidInputException, UnicodeDecodeError)

    def __call__(self, lines: pl.DataFrame) -> pl.DataFrame:
        objects = lines.filter(pl.col("text").str.starts_with("{"))
        self._duckdb.register("lines", objects.to_arrow())
        try:
            table = self._duckdb.sql(self._all_good).to_arrow_table()
        except self._bad_line:
            # A second pass only where it is needed: to validate first costs more than half the speed.
            table = self._duckdb.sql(self._some_bad).to_arrow_table()
        rows = pl.DataFrame(pl.from_arrow(table)).cast(self.columns)  # type: ignore[arg-type]
        return rows if rows["line"].is_sorted() else rows.sort("line")
