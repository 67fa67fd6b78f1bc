"""The picture of accuracy against coverage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedeval.report.pictures.canvas import GREY, NARROW, Drawn, NothingToDraw, looks_of
from fedeval.report.wording import metric_of, value

__all__ = ["draw"]


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
    axes.set_ylim(bottom=0)
    axes.margins(y=0.1)
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
    """Writes each name beside its point, moved up or down until no name covers another."""
    low, high = axes.get_ylim()
    step = 0.062 * (high - low)
    taken: list[tuple[float, float]] = []
    for name, (share, found) in sorted(points.items(), key=lambda p: -p[1][1]["value"]):
        y = found["value"]
        while any(abs(y - other) < step and abs(share - x) < 0.36 for x, other in taken):
            y -= step
        taken.append((share, y))
        right = share > 0.6
        moved = y != found["value"]
        axes.annotate(
            looks[name].label, (share, found["value"]), xytext=(share - 0.03 if right else share + 0.03, y),
            ha="right" if right else "left", va="center", fontsize=8.5, color=looks[name].colour,
            arrowprops={"arrowstyle": "-", "color": GREY, "lw": 0.5} if moved else None,
        )  # fmt: skip
