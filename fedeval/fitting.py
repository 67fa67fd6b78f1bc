"""Tables for a terminal: where it is too narrow, columns stand below one another, and no number is cut."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

__all__ = ["FittingTable"]

BETWEEN = 3
"""Blanks between two columns; there is one more at each side of the table."""


class FittingTable:
    """A table that a narrow terminal gets in parts: the first column again, and as many others as fit.

    Where it is too wide, the first column folds if its words are long; cells of the others never do, only
    their heads.

    Args:
        columns: the heads, plain text; one that is written ">x" is flush right.
    """

    def __init__(self, *columns: str) -> None:
        self.columns = columns
        self._rows: list[list[Text]] = []
        self._ends: set[int] = set()

    def add_row(self, *cells: str | Text) -> None:
        """Adds a row, one cell a column; what is given as `str` is plain text."""
        self._rows.append([cell if isinstance(cell, Text) else Text(cell) for cell in cells])

    def add_section(self) -> None:
        """Draws a blank line below the last row."""
        self._ends.add(len(self._rows) - 1)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = [self._width(place, folded=False) for place in range(len(self.columns))]
        if 2 + sum(widths) + BETWEEN * (len(widths) - 1) > options.max_width:
            widths = [self._width(place, folded=True) for place in range(len(self.columns))]
            widths[0] = min(widths[0], options.max_width // 3)
        for places in _parts(widths, options.max_width):
            yield self._table(places, widths)

    def _width(self, place: int, *, folded: bool) -> int:
        """Returns the width of the widest cell, or of the head: of its longest word where it is folded."""
        head = self.columns[place].removeprefix(">")
        words = head.split() if folded else [head]
        cells = (row[place].plain for row in self._rows)
        return max((cell_len(text) for text in (*words, *cells)), default=0)

    def _table(self, places: Sequence[int], widths: Sequence[int]) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
        for place in places:
            head = self.columns[place]
            table.add_column(
                "\n".join(textwrap.wrap(head.removeprefix(">"), max(widths[place], 1))),
                justify="right" if head.startswith(">") else "left",
                no_wrap=place > 0,
            )
        for number, row in enumerate(self._rows):
            table.add_row(*(row[place] for place in places), end_section=number in self._ends)
        return table


def _parts(widths: Sequence[int], room: int) -> Iterator[list[int]]:
    """Yields the columns of each part: the first one, and others that fit beside it, one at least."""
    part, used = [0], 2 + widths[0]
    for place, width in enumerate(widths[1:], 1):
        if used + BETWEEN + width > room and len(part) > 1:
            yield part
            part, used = [0], 2 + widths[0]
        part.append(place)
        used += BETWEEN + width
    yield part
