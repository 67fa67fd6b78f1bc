"""Raw files, terms, lists of names and the rows of a query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from fedprep.show.layout import heading, pairs, size, table_of

__all__ = ["show_files", "show_frame", "show_list", "show_terms"]


def show_files(files: Mapping[str, Any]) -> RenderableType:
    """Returns the table of fetched raw files."""
    table = table_of("role", "file", ">size", "from", "checksum", "where")
    for role, file in files.items():
        table.add_row(role, file.name, size(file.n_bytes), file.how, file.verified, str(file.path))
    return table


def show_terms(terms: Any) -> RenderableType:
    """Returns the licence and the citation of a source, as they are shown once."""
    lines = [
        ("licence", terms.licence),
        ("", terms.licence_text),
        ("cite", terms.citation),
        ("home", terms.homepage),
    ]
    return pairs((name, text) for name, text in lines if text)


def show_list(title: str, lines: Mapping[str, str]) -> RenderableType:
    """Returns names with one line each."""
    return Group(heading(title), pairs(lines.items()))


def show_frame(rows: Sequence[Sequence[Any]], columns: Sequence[str], total: int) -> RenderableType:
    """Returns the rows of a query as a table; says how many more there are."""
    table = table_of(*columns)
    for row in rows:
        table.add_row(*("–" if value is None else _cell(value) for value in row))
    more = total - len(rows)
    return (
        Group(table, Text(f"{more:,} more rows: --limit, --csv or --json shows them", "dim"))
        if more
        else table
    )


def _cell(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:59] + "…"
