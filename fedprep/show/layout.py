"""The few shapes that every sheet is made of, and numbers as people read them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

__all__ = ["day", "heading", "moment", "number", "pairs", "shares", "size", "table_of"]


def heading(text: str) -> Text:
    return Text(f"\n{text}", "bold")


def pairs(lines: Any) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in lines:
        grid.add_row(name, str(text))
    return grid


def table_of(*columns: str) -> Table:
    """Returns an empty table; a column named ">x" is flush right and holds numbers: it is never folded or cut
    as long as the others can be."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for column in columns:
        right = column.startswith(">")
        table.add_column(
            column.removeprefix(">"),
            justify="right" if right else "left",
            no_wrap=right,
            overflow="fold",
        )
    return table


def shares(counts: Mapping[str, int]) -> str:
    """Returns `"4 348,971 (35 %) · 5 …"`."""
    total = sum(counts.values()) or 1
    return " · ".join(f"{name} {count:,} ({count / total:.2%})" for name, count in counts.items())


def number(value: Any) -> str:
    """Returns a number in at most four digits, `–` for none."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def size(n_bytes: int) -> str:
    """Returns bytes in kB, MB or GB."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= scale:
            return f"{n_bytes / scale:.1f} {unit}"
    return f"{n_bytes} bytes"


def day(seconds: int) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d")


def moment(seconds: int | None) -> str:
    if seconds is None:
        return "–"
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
