"""The picture of the headline metric by slices: activity, popularity, and what --by names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedeval.report.pictures.canvas import (
    GREY,
    WIDE,
    Drawn,
    NothingToDraw,
    legend_above,
    looks_of,
    short,
)
from fedeval.report.wording import metric_of

__all__ = ["draw"]

FEW = 6
"""Groups of a slice that fit into half the width."""

MOST = 12
"""Groups of a slice that are drawn; the tables have all."""


def draw(assessment: Mapping[str, Any]) -> Drawn:
    """Draws a panel a slice: value and interval of each system in each group."""
    from matplotlib.figure import Figure

    parts = assessment["slices"]
    if not parts:
        raise NothingToDraw("the truth is a file: it says nothing of users and items to slice by")
    title = metric_of(assessment, assessment["headline"])["title"]
    rows = _in_rows(parts)
    figure = Figure(figsize=(WIDE[0], WIDE[1] * len(rows)), layout="constrained")
    grid = figure.add_gridspec(len(rows), 2)
    looks = looks_of(assessment)
    panels = []
    for place, row in enumerate(rows):
        for at, part in enumerate(row):
            panels.append(figure.add_subplot(grid[place, :] if len(row) == 1 else grid[place, at]))
            _panel(panels[-1], part, looks, title)
    legend_above(panels[0])
    names = "; ".join(
        f"{part['title']}: {', '.join(map(short, part['names'][:MOST]))}" for part in parts
    )
    return Drawn(
        figure=figure,
        title=f"{title} by slice",
        alt=f"{title} with intervals in groups of users and of relevant items. {names}.",
        look_for="The numbers under the groups are users. A system that is best on average and worst in a "
        "slice is a choice to make, not a winner. Values of popular items are high for every system that "
        "recommends what is popular; the tail shows what was learnt beyond that.",
    )


def _in_rows(parts: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Returns the panels of each row: two slices of few groups, or one of many."""
    rows: list[list[Mapping[str, Any]]] = []
    for part in parts:
        few = len(part["names"]) <= FEW
        if few and rows and len(rows[-1]) == 1 and len(rows[-1][0]["names"]) <= FEW:
            rows[-1].append(part)
        else:
            rows.append([part])
    return rows


def _panel(axes: Any, part: Mapping[str, Any], looks: Mapping[str, Any], title: str) -> None:
    names = part["names"][:MOST]
    systems = [name for name in looks if name in part["systems"]]
    step = 0.76 / max(len(systems), 1)
    for place, name in enumerate(systems):
        look = looks[name]
        for at, found in enumerate(part["systems"][name][:MOST]):
            if found["value"] is None:
                continue
            x = at + (place - (len(systems) - 1) / 2) * step
            label = look.label if at == 0 else None
            if found["low"] is not None:
                axes.plot([x, x], [found["low"], found["high"]], color=look.colour, lw=1.6)
            axes.plot([x], [found["value"]], look.marker, color=look.colour, ms=5, label=label)
    for edge in range(1, len(names)):
        axes.axvline(edge - 0.5, color=GREY, lw=0.5, alpha=0.5)
    counts = part["n"][:MOST]
    axes.set_xticks(
        range(len(names)),
        [f"{short(name, 13)}\n{n:,}" for name, n in zip(names, counts, strict=True)],
    )
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylim(bottom=0)
    axes.grid(axis="x", visible=False)
    axes.set_ylabel(title)
    axes.set_xlabel(part["unit"])
    heading = part["title"].removeprefix(title).strip()
    more = f" ({MOST} of {len(part['names'])} groups)" if len(part["names"]) > MOST else ""
    axes.set_title(f"{short(heading, 60)}{more}")
