"""What became of planted faults, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from fedprep.show.layout import table_of

__all__ = ["show_faults"]


def show_faults(lines: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Returns the table of `gate.find_faults`: what was planted, and what its check counts."""
    sheet = table_of("fault", "check that looks for it", ">planted", ">counted", "of", "status", "")
    for line in lines:
        planted = line["planted"]
        verdict = (
            "not planted: " + line["reason"]
            if planted is None
            else ("" if line["found"] else "NOT FOUND")
        )
        sheet.add_row(
            line["fault"],
            line["check"],
            "–" if planted is None else f"{planted:,}",
            f"{line['counted']:,}",
            line["unit"],
            line["status"],
            verdict,
        )
    planted_lines = [line for line in lines if line["planted"] is not None]
    found = sum(line["found"] for line in planted_lines)
    return Group(
        sheet,
        Text(f"{found} of {len(planted_lines)} planted faults found, with their exact counts"),
    )
