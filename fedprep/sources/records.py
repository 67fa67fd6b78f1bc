"""Records out of a block of delimited text: exact line numbers, bad lines named, every line accounted for.

Arrow's CSV parser does the work. Around it stands what it leaves open: how many lines a record took,
whether a quote was ever closed or meant at all, and what becomes of the lines that a stray quote has
swallowed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv

__all__ = ["LONGEST_RECORD", "Layout", "Records", "parse_records"]

LONGEST_RECORD = 1 << 20
"""A quoted field that is still open after so many bytes is a stray quote, not a long text."""

QUOTE, END = ord('"'), ord("\n")

PROSE = ",;"
"""Separators that stand in texts too, and then with a blank behind them."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a record looks: `n_fields` fields between separators of one byte; `wanted` (0-based) are read.

    quotes: whether a quote opens a field. strict: every one does; else one that is nobody's opening
    quote (`"Weird" tale`, or one that would swallow whole records) is read as a character. spaced:
    separators have blanks behind them.
    """

    n_fields: int
    wanted: tuple[int, ...]
    separator: str
    quotes: bool
    strict: bool = False
    spaced: bool = False

    @property
    def everything(self) -> tuple[int, ...]:
        """Every field."""
        return tuple(range(self.n_fields))


@dataclass(frozen=True, kw_only=True)
class Records:
    """What a block holds.

    frame: the wanted fields as String columns called `"0"`, `"1"` … by field; null where empty.
    lines: uint32 (n_rows,), the line that each record starts on, ascending.
    bad: uint32, the lines with another number of fields, ascending.
    bad_quotes: uint32, the lines that are no record because of a quote, ascending.
    n_stray: how many lines were read with their quotes as characters.
    n_blank: blank lines.
    n_inside: lines that go on with a record, behind the one that it starts on.
    rest: the start of a record that goes on behind the block.

    `n_lines` of the block, without those of `rest`, is the sum of all five.
    """

    frame: pl.DataFrame
    lines: npt.NDArray[np.uint32]
    bad: npt.NDArray[np.uint32]
    bad_quotes: npt.NDArray[np.uint32] = field(default_factory=lambda: np.empty(0, np.uint32))
    n_stray: int = 0
    n_blank: int = 0
    n_inside: int = 0
    rest: bytes = b""

    @property
    def n_lines(self) -> int:
        """How many lines of the block are accounted for."""
        n_bad = len(self.bad) + len(self.bad_quotes)
        return len(self.lines) + n_bad + self.n_blank + self.n_inside


def parse_records(block: bytes, first_line: int, layout: Layout, *, last: bool = True) -> Records:
    """Returns the records of a block of whole lines. Blank lines are passed over.

    A quote opens a field only as its first character, and `""` inside stands for `"`; such a field may
    hold separators and line ends. A line with another number of fields is bad.

    A quote is stray, and a character like any other, where the field goes on behind the closing one
    (`"Weird" tale`), or where most of the lines that the field would run over are records by
    themselves: then each of them is read by itself. (Lines of a text that is meant are not: the first
    has too few fields, and the others have no separators, or those of prose, with a blank behind.)
    Where a quote swallows lines up to something that is no record, the line it stands on is bad and
    the others are read each by itself. With `layout.strict` no quote is stray.

    Args:
        block: UTF-8, every line ended by LF, the last one too.
        first_line: number of the block's first line.
        layout: number of fields, separator, whether quotes mean anything.
        last: nothing follows; else a record that the block leaves open comes back as `rest`.
    """
    scan = _scan(block, layout, layout.wanted)
    n_lines = block.count(b"\n")
    one_each = scan.closed and scan.n_records == n_lines
    if not one_each or b"\n\n" in block or block.startswith(b"\n"):
        records = _parse_with_care(block, first_line, layout, last=last)
    else:
        lines = np.arange(first_line, first_line + scan.n_records, dtype=np.uint32)
        records = Records(frame=scan.frame, lines=lines[scan.accepted], bad=lines[~scan.accepted])
        if layout.quotes and not layout.strict and b'"' in block:
            records = _with_weird_lines(records, block, first_line, layout)
    assert records.n_lines == n_lines - records.rest.count(b"\n"), "lines are lost"
    return records


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


def _with_weird_lines(records: Records, block: bytes, first_line: int, layout: Layout) -> Records:
    """Returns the records of a block of one record a line, with `"Weird" tale` read as it is written."""
    line_at = _line_starts(block)
    middle = _quotes_in_the_middle(block, line_at, layout)
    suspects = np.unique(np.searchsorted(line_at, middle, side="right") - 1)
    if not len(suspects):
        return records
    texts = _texts(block, line_at, suspects)
    weird = ~_is_well_formed(texts, layout)
    frame, found = _as_characters(texts, weird, layout, layout.wanted)
    if not len(found):
        return records
    again = (suspects[found] + first_line).astype(np.uint32)
    kept = ~np.isin(records.lines, again)
    lines = np.concatenate([records.lines[kept], again])
    order = np.argsort(lines)
    return Records(
        frame=pl.concat([records.frame.filter(pl.Series(kept)), frame])[order],
        lines=lines[order],
        bad=records.bad[~np.isin(records.bad, again)],
        n_stray=len(again),
    )


def _quotes_in_the_middle(
    block: bytes, line_at: npt.NDArray[np.int64], layout: Layout
) -> npt.NDArray[np.int64]:
    """Returns where quotes neither begin nor end a field nor stand for one of two, in lines that have a
    quote at the beginning of a field: in others they are characters anyway.
    """
    codes = np.frombuffer(block, dtype=np.uint8)
    at = np.flatnonzero(codes == QUOTE)
    before, behind = codes[at - 1], codes[at + 1]
    opening = (before == ord(layout.separator)) | (before == END) | (at == 0)
    closing = (behind == ord(layout.separator)) | (behind == END)
    middle: npt.NDArray[np.int64] = at[~opening & ~closing & (before != QUOTE) & (behind != QUOTE)]
    if not len(middle):
        return middle
    opened = np.searchsorted(line_at, at[opening], side="right")
    lines = np.searchsorted(line_at, middle, side="right")
    found: npt.NDArray[np.int64] = middle[np.isin(lines, opened)]
    return found


def _parse_with_care(block: bytes, first_line: int, layout: Layout, *, last: bool) -> Records:
    """`parse_records` for a block in which records and lines are not one to one."""
    scan = _scan(block, layout, layout.everything)
    line_at = _line_starts(block)
    n_lines = len(line_at) - 1
    breaks = np.zeros(scan.n_records, dtype=np.int64)
    breaks[scan.accepted] = _line_ends_inside(scan.frame)
    breaks[~scan.accepted] = scan.rejected_breaks
    line = np.concatenate(
        [[0], np.cumsum(breaks + 1)]
    )  # (n_records + 1,) first line of each record
    if not scan.closed:
        line[-1] = n_lines  # Arrow counted the sentinel as text of the open record
        breaks[-1] = line[-1] - line[-2] - 1
    texts = _texts(block, line_at[line])

    blank = (texts == "\n").to_numpy()
    whole = np.ones(scan.n_records, dtype=bool)  # its quotes are where a record may have them
    doubtful = breaks > 0
    may_be_stray = layout.quotes and not layout.strict
    if may_be_stray:
        in_the_middle = _quotes_in_the_middle(block, line_at, layout)
        doubtful[np.searchsorted(line_at[line], in_the_middle, side="right") - 1] = True
    where = np.flatnonzero(doubtful)
    whole[where] = _is_well_formed(texts.gather(where), layout).to_numpy()
    rest, open_ = b"", np.zeros(scan.n_records, dtype=bool)
    if not scan.closed:
        whole[-1] = False
        if not last and len(block) - line_at[line[-2]] <= LONGEST_RECORD:
            rest = block[line_at[line[-2]] :]
            open_[-1] = True  # not ours to judge yet
    several = (breaks > 0) & ~open_
    stray = np.zeros(scan.n_records, dtype=bool)
    if may_be_stray:
        stray = several & _swallows_records(block, line_at, line, layout)
    one_line = ~whole & ~several & ~open_ & may_be_stray  # `"Weird" tale`
    swallowing = ~whole & ~open_ & ~stray & ~one_line
    again = np.flatnonzero(np.repeat(stray | swallowing | one_line, breaks + 1))
    extra = _each_by_itself(_texts(block, line_at, again), layout)
    of_record = np.repeat(np.arange(scan.n_records), breaks + 1)[again]
    is_first = again == line[:-1][of_record]
    may_have_quotes = stray[of_record] | one_line[of_record]
    read = extra.found & (~extra.as_characters | may_have_quotes)
    # The line of a quote that swallows what is no record is bad, and the others must be above doubt.
    read &= ~(is_first & swallowing[of_record])
    # Where quotes as characters make another number of fields, Arrow's reading of the line stands.
    as_arrow = one_line & scan.accepted
    as_arrow[-1:] &= scan.closed
    as_arrow[of_record[read]] = False

    good = scan.accepted & ~blank & ~open_ & (whole | as_arrow) & ~stray
    bad = ~scan.accepted & ~blank & ~open_ & ~stray & ~swallowing & ~one_line
    bad_again = ~read & ~extra.blank & ~as_arrow[of_record]
    closed = one_line.copy()  # then it is the number of fields that is wrong
    closed[-1:] &= scan.closed
    of_fields = bad_again & closed[of_record]
    bad_lines = np.sort(np.concatenate([line[:-1][bad], again[of_fields]]))
    lines = np.concatenate([line[:-1][good], again[read]])
    order = np.argsort(lines)
    names = [str(number) for number in layout.wanted]
    frame = pl.concat([scan.frame.filter(pl.Series(good[scan.accepted])), extra.rows(read)])
    return Records(
        frame=frame.select(names)[order],
        lines=(lines[order] + first_line).astype(np.uint32),
        bad=(bad_lines + first_line).astype(np.uint32),
        bad_quotes=(again[bad_again & ~of_fields] + first_line).astype(np.uint32),
        n_stray=int((read & extra.as_characters).sum()),
        n_blank=int((blank & ~open_).sum() + extra.blank.sum()),
        n_inside=int(breaks[good | bad].sum()),
        rest=rest,
    )


def _swallows_records(
    block: bytes,
    line_at: npt.NDArray[np.int64],
    line: npt.NDArray[np.int64],
    layout: Layout,
) -> npt.NDArray[np.bool_]:
    """Returns for each record of several lines whether most of these are records by themselves.

    Lines are counted by their separators: as many as a record has, and none of prose, with a blank
    behind it (unless the file is written so).
    """
    codes = np.frombuffer(block, dtype=np.uint8)
    separators = codes == ord(layout.separator)
    starts = line_at[:-1]
    like = np.add.reduceat(separators, starts, dtype=np.int64) == layout.n_fields - 1
    if layout.separator in PROSE and not layout.spaced:
        prose = separators[:-1] & (codes[1:] == ord(" "))  # the last byte is a line end
        like &= ~np.logical_or.reduceat(np.append(prose, False), starts)
    n_like = np.diff(np.concatenate([[0], np.cumsum(like)])[line])
    return 2 * n_like > np.diff(line) + 1


def _line_ends_inside(frame: pl.DataFrame) -> npt.NDArray[np.int64]:
    """Returns how many line ends the fields of each row hold: int64 (n_rows,)."""
    counts = pl.all().str.count_matches("\n", literal=True).fill_null(0).cast(pl.Int64)
    return frame.select(pl.sum_horizontal(counts)).to_series().to_numpy()


def _line_starts(block: bytes) -> npt.NDArray[np.int64]:
    """Returns where each line starts in a block, and where the last one ends: (n_lines + 1,)."""
    ends = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n")) + 1
    return np.concatenate([[0], ends])


def _texts(
    block: bytes, offsets: npt.NDArray[np.int64], chosen: npt.NDArray[np.int64] | None = None
) -> pl.Series:
    """Returns the stretches of a block between offsets, as strings: `offsets` is (n + 1,)."""
    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets)), pa.py_buffer(block)]
    texts = pa.LargeStringArray.from_buffers(len(offsets) - 1, buffers[1], buffers[2])
    return pl.Series(texts if chosen is None else texts.take(pa.array(chosen)))


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


@dataclass(frozen=True, kw_only=True)
class _Alone:
    """Lines that were read each by itself: all arrays are (n,)."""

    frame: pl.DataFrame  # the fields of those found
    position: npt.NDArray[np.int64]  # which ones these are
    found: npt.NDArray[np.bool_]
    as_characters: npt.NDArray[np.bool_]  # found, with quotes as characters
    blank: npt.NDArray[np.bool_]

    def rows(self, wanted: npt.NDArray[np.bool_]) -> pl.DataFrame:
        """Returns the fields of the wanted lines, in their order."""
        order = np.argsort(self.position)
        return self.frame[order].filter(pl.Series(wanted[self.position[order]]))


def _each_by_itself(texts: pl.Series, layout: Layout) -> _Alone:
    """Returns what lines are by themselves: records, records if quotes are characters, or neither.

    What a stray quote has swallowed may be the inside of a long text: a quote in a plain field is a sign.
    """
    blank = texts == "\n"
    one_line = _is_well_formed(texts, layout, plain='[^"{0}\n]+') & ~blank
    block = texts.filter(one_line).str.join("").item().encode()
    scan = _scan(block, layout, layout.everything)
    quoted = one_line.arg_true().to_numpy()[scan.accepted]
    frame, plain = _as_characters(texts, ~one_line & ~blank, layout, layout.everything)
    found, as_characters = np.zeros((2, len(texts)), dtype=bool)
    found[quoted] = found[plain] = as_characters[plain] = True
    return _Alone(
        frame=pl.concat([scan.frame, frame]),
        position=np.concatenate([quoted, plain]),
        found=found,
        as_characters=as_characters,
        blank=blank.to_numpy(),
    )


def _as_characters(
    texts: pl.Series, which: pl.Series, layout: Layout, wanted: tuple[int, ...]
) -> tuple[pl.DataFrame, npt.NDArray[np.int64]]:
    """Returns the fields of lines with quotes as characters, and which have the number of fields."""
    block = texts.filter(which).str.join("").item().encode()
    scan = _scan(block, replace(layout, quotes=False), wanted)
    return scan.frame, which.arg_true().to_numpy()[scan.accepted]
