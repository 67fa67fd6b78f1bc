"""The picture of accuracy against coverage."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from fedeval.report.pictures.canvas import GREY, NARROW, Drawn, NothingToDraw, looks_of
from fedeval.report.wording import metric_of, value

__all__ = ["draw"]

STEPS = (0, *(way * step for step in range(1, 15) for way in (-1, 1)))
"""How far a name is moved up (or down) from its point, in lines, the nearest first."""


def draw(assessment: Mapping[str, Any]) -> Drawn:
    """Draws a point a system: share of the items that are recommended to anyone, and the metric."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    shares = assessment["coverage"]
    metric = metric_of(assessment, assessment["headline"])
    looks = looks_of(assessment)
    points = {}
    for system in assessment["systems"]:
        found = system["values"][metric["name"]]
        share = shares["systems"].get(system["name"])
        if system["name"] in looks and share is not None and found["value"] is not None:
            points[system["name"]] = (share, found)
    if not points:
        raise NothingToDraw(shares["reason"] or "no system has a value")
    figure = Figure(figsize=NARROW, layout="constrained")
    axes = figure.subplots()
    for name, (share, found) in points.items():
        look = looks[name]
        if found["low"] is not None:
            axes.plot([share, share], [found["low"], found["high"]], color=look.colour, lw=1.4)
        axes.plot([share], [found["value"]], look.marker, color=look.colour, ms=7)
    highest = max(
        found["value"] if found["high"] is None else found["high"] for _, found in points.values()
    )
    axes.set_ylim(0, 1.1 * highest or 1)
    axes.set_xlim(-0.02, 1.02)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.set_xlabel(f"items in anyone's first {shares['k']:,} (of {shares['n_items']:,})")
    axes.set_ylabel(metric["title"])
    figure.draw_without_rendering()
    _name_points(axes, points, looks)
    told = ", ".join(
        f"{name} {share:.0%} and {value(f['value'])}" for name, (share, f) in points.items()
    )
    return Drawn(
        figure=figure,
        title=f"{metric['title']} against coverage",
        alt=f"Share of items recommended to anyone, and {metric['title']}: {told}.",
        look_for="Up is more accurate, right recommends more of the catalogue. Of two systems as accurate, "
        "the one on the right leaves fewer items unseen; random lists stand at the lower right.",
    )


def _name_points(axes: Any, points: Mapping[str, Any], looks: Mapping[str, Any]) -> None:
    """Writes each name beside its point, moved up or down until it covers no name, point or interval."""
    low, high = axes.get_ylim()
    line = 0.055 * (high - low)
    axes.autoscale(enable=False)
    taken = [box for share, found in points.values() for box in _boxes(axes, share, found)]
    for name, (share, found) in sorted(points.items(), key=lambda p: -p[1][1]["value"]):
        sides = ("right", "left") if share > 0.6 else ("left", "right")
        places = [
            (share + (0.03 if side == "left" else -0.03), found["value"] + step * line, side, step)
            for step, side in itertools.product(STEPS, sides)
        ]
        note = axes.text(0, 0, looks[name].label, va="center", fontsize=8.5)
        worth = []
        for number, (x, y, side, _) in enumerate(places):
            note.set(x=x, y=y, ha=side)
            box = note.get_window_extent()
            outside = not all(axes.bbox.contains(*corner) for corner in (box.min, box.max))
            worth.append((outside, sum(box.overlaps(other) for other in taken), number))
            if worth[-1][:2] == (False, 0):
                break
        x, y, side, step = places[min(worth)[2]]
        note.set(x=x, y=y, ha=side)
        if step:
            axes.plot([share, x], [found["value"], y], color=GREY, lw=0.5, zorder=1)
        taken.append(note.get_window_extent())


def _boxes(axes: Any, share: float, found: Mapping[str, Any]) -> list[Any]:
    """Returns where a point and its interval stand, in pixels."""
    from matplotlib.transforms import Bbox

    ends = [found[end] for end in ("low", "high") if found[end] is not None] or [found["value"]]
    marks = [(found["value"], found["value"], 5.0), (min(ends), max(ends), 1.5)]
    boxes = []
    for bottom, top, reach in marks:
        (x, y0), (_, y1) = axes.transData.transform([(share, bottom), (share, top)])
        boxes.append(Bbox([(x - reach, y0 - reach), (x + reach, y1 + reach)]))
    return boxes
