"""Records out of a block of delimited text: exact line numbers, bad lines named, nothing guessed.

Arrow's CSV parser does the work. Around it stands what it leaves open: how many lines a record took,
whether a quote was ever closed, and what becomes of the lines that a stray quote has swallowed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv

__all__ = ["LONGEST_RECORD", "Layout", "Records", "parse_records"]

LONGEST_RECORD = 1 << 20
"""A quoted field that is still open after so many bytes is a stray quote, not a long text."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a record looks: `n_fields` fields between separators of one byte; `wanted` (0-based) are read."""

    n_fields: int
    wanted: tuple[int, ...]
    separator: str
    quotes: bool


@dataclass(frozen=True, kw_only=True)
class Records:
    """What a block holds.

    frame: the wanted fields as String columns called `"0"`, `"1"` … by field; null where empty.
    lines: uint32 (n_rows,), the line that each record starts on, ascending.
    bad: uint32, the lines that are no record of this layout, ascending.
    rest: the start of a record that goes on behind the block.
    """

    frame: pl.DataFrame
    lines: npt.NDArray[np.uint32]
    bad: npt.NDArray[np.uint32]
    rest: bytes = b""


def parse_records(block: bytes, first_line: int, layout: Layout, *, last: bool = True) -> Records:
    """Returns the records of a block of whole lines. Blank lines are passed over.

    A quote opens a field only as its first character, and `""` inside stands for `"`; such a field may
    hold separators and line ends. A line with another number of fields is bad. Where a quote swallows
    lines up to something that is no record, the line it stands on is bad and the others are read each
    by itself.

    Args:
        block: UTF-8, every line ended by LF, the last one too.
        first_line: number of the block's first line.
        layout: number of fields, separator, whether quotes mean anything.
        last: nothing follows; else a record that the block leaves open comes back as `rest`.
    """
    scan = _scan(block, layout, layout.wanted)
    one_each = scan.n_records == block.count(b"\n")
    if scan.closed and one_each and b"\n\n" not in block and not block.startswith(b"\n"):
        lines = np.arange(first_line, first_line + scan.n_records, dtype=np.uint32)
        return Records(frame=scan.frame, lines=lines[scan.accepted], bad=lines[~scan.accepted])
    return _parse_with_care(block, first_line, layout, last=last)


@dataclass(frozen=True, kw_only=True)
class _Scan:
    frame: pl.DataFrame  # the records with the right number of fields
    accepted: npt.NDArray[np.bool_]  # (n_records,): which ones these are
    rejected_breaks: npt.NDArray[np.int64]  # line ends inside each of the others
    closed: bool  # no quote is open at the end

    @property
    def n_records(self) -> int:
        return len(self.accepted)


def _scan(block: bytes, layout: Layout, wanted: tuple[int, ...]) -> _Scan:
    """Returns what Arrow makes of a block: a blank line is a record of nulls."""
    rejected: list[tuple[int, int]] = []

    def reject(row: pa_csv.InvalidRow) -> str:
        rejected.append((row.number - 1, row.text.count("\n")))
        return "skip"

    # A record of empty fields put behind the block comes out as such only if no quote is open there.
    sentinel = layout.separator.encode() * (layout.n_fields - 1) + b"\n"
    names = [str(number) for number in range(layout.n_fields)]
    table = pa_csv.read_csv(
        pa.BufferReader(block + sentinel),
        pa_csv.ReadOptions(
            column_names=names, use_threads=False, block_size=len(block) + len(sentinel) + 1
        ),
        pa_csv.ParseOptions(
            delimiter=layout.separator,
            quote_char='"' if layout.quotes else False,
            newlines_in_values=layout.quotes,
            ignore_empty_lines=False,
            invalid_row_handler=reject,
        ),
        pa_csv.ConvertOptions(
            include_columns=[names[number] for number in wanted],
            column_types=dict.fromkeys(names, pa.string()),
            strings_can_be_null=True,
            null_values=[""],
            check_utf8=False,
        ),
    )
    numbers = np.array([number for number, _ in rejected], dtype=np.int64)
    accepted = np.ones(table.num_rows + len(rejected), dtype=bool)
    accepted[numbers] = False
    closed = bool(accepted[-1]) and not any(column[-1].is_valid for column in table.columns)
    return _Scan(
        frame=pl.DataFrame(pl.from_arrow(table.slice(0, table.num_rows - closed))),
        accepted=accepted[: len(accepted) - closed],
        rejected_breaks=np.array([breaks for _, breaks in rejected], dtype=np.int64),
        closed=closed,
    )


def _parse_with_care(block: bytes, first_line: int, layout: Layout, *, last: bool) -> Records:
    """`parse_records` for a block in which records and lines are not one to one."""
    scan = _scan(block, layout, tuple(range(layout.n_fields)))
    ends = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n")) + 1
    line_at = np.concatenate([[0], ends])  # (n_lines + 1,) where each line starts in the block
    breaks = np.zeros(scan.n_records, dtype=np.int64)
    breaks[scan.accepted] = _line_ends_inside(scan.frame)
    breaks[~scan.accepted] = scan.rejected_breaks
    line = np.concatenate(
        [[0], np.cumsum(breaks + 1)]
    )  # (n_records + 1,) first line of each record
    if not scan.closed:
        line[-1] = len(ends)  # Arrow counted the sentinel as text of the open record
        breaks[-1] = line[-1] - line[-2] - 1
    texts = _texts(block, line_at[line])

    blank = (texts == "\n").to_numpy()
    whole = np.ones(scan.n_records, dtype=bool)  # its quotes are where a record may have them
    long = np.flatnonzero(breaks > 0)
    whole[long] = _is_well_formed(texts.gather(long), layout).to_numpy()
    rest = b""
    if not scan.closed:
        whole[-1] = False
        if not last and len(block) - line_at[line[-2]] <= LONGEST_RECORD:
            rest = block[line_at[line[-2]] :]
            blank[-1] = True  # not ours to judge yet
    good = scan.accepted & whole & ~blank
    swallowing = ~whole & ~blank

    frame = scan.frame.filter(pl.Series(good[scan.accepted]))
    bad = line[:-1][~good & ~blank]
    swallowed = np.zeros(len(ends) + 1, dtype=np.int64)
    np.add.at(swallowed, line[:-1][swallowing] + 1, 1)
    np.add.at(swallowed, line[1:][swallowing], -1)
    alone = np.flatnonzero(np.cumsum(swallowed[:-1]))
    extra, extra_lines, extra_bad = _each_by_itself(_texts(block, line_at).gather(alone), layout)

    lines = np.concatenate([line[:-1][good], alone[extra_lines]])
    order = np.argsort(lines)
    names = [str(number) for number in layout.wanted]
    return Records(
        frame=pl.concat([frame, extra]).select(names)[order],
        lines=(lines[order] + first_line).astype(np.uint32),
        bad=(np.sort(np.concatenate([bad, alone[extra_bad]])) + first_line).astype(np.uint32),
        rest=rest,
    )


def _line_ends_inside(frame: pl.DataFrame) -> npt.NDArray[np.int64]:
    """Returns how many line ends the fields of each row hold: int64 (n_rows,)."""
    counts = pl.all().str.count_matches("\n", literal=True).fill_null(0).cast(pl.Int64)
    return frame.select(pl.sum_horizontal(counts)).to_series().to_numpy()


def _texts(block: bytes, offsets: npt.NDArray[np.int64]) -> pl.Series:
    """Returns the stretches of a block between offsets, as strings: `offsets` is (n + 1,)."""
    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets)), pa.py_buffer(block)]
    return pl.Series(pa.LargeStringArray.from_buffers(len(offsets) - 1, buffers[1], buffers[2]))


def _is_well_formed(
    texts: pl.Series, layout: Layout, *, plain: str = '[^"{0}\n][^{0}\n]*'
) -> pl.Series:
    """Returns whether quotes in each record open and close whole fields, or stand inside plain ones.

    Args:
        texts: records with their line ends.
        layout: of them.
        plain: the pattern of a plain field that is not empty; `{0}` is the separator.
    """
    separator = rf"\x{ord(layout.separator):02x}"
    one = rf'(?:"(?:[^"]|"")*"|{plain.format(separator)}|)'
    return texts.str.contains(rf"\A{one}(?:{separator}{one})*\n\z")


def _each_by_itself(
    texts: pl.Series, layout: Layout
) -> tuple[pl.DataFrame, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Returns the fields of lines that are records, which lines these are, and which are bad.

    What a stray quote has swallowed may be the inside of a long text: a quote in a plain field is a sign.
    """
    blank = texts == "\n"
    one_line = _is_well_formed(texts, layout, plain='[^"{0}\n]+') & ~blank
    block = texts.filter(one_line).str.join("").item().encode()
    scan = _scan(block, layout, tuple(range(layout.n_fields)))
    positions = one_line.arg_true().to_numpy()
    bad = np.concatenate([positions[~scan.accepted], (~one_line & ~blank).arg_true().to_numpy()])
    return scan.frame, positions[scan.accepted], bad
