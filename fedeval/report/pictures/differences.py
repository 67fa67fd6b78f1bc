"""The picture of paired differences to the reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedeval.report.pictures.canvas import INK, NARROW, Drawn, NothingToDraw, looks_of, short
from fedeval.report.wording import comparisons_of, difference, metric_of, p_value, shown, verdict

__all__ = ["draw"]

SIDES = {
    "higher": "Right of the line: better",
    "lower": "Left of the line: better",
    "neither": "Right of the line: higher",
}
"""What the line parts, by which way of the metric is good."""

FEW = 4
"""Up to so many rows have the usual height."""


def draw(assessment: Mapping[str, Any]) -> Drawn:
    """Draws the mean difference with its interval, and how many users are better and worse off."""
    from matplotlib.figure import Figure

    rows = comparisons_of(assessment, [assessment["headline"]])
    rows = [row for row in rows if row["difference"] is not None]
    if not rows:
        raise NothingToDraw("there is one system alone: nothing to compare it with")
    rows = sorted(rows, key=lambda row: row["difference"])
    metric = metric_of(assessment, assessment["headline"])
    title = metric["title"]
    height = NARROW[1] + 0.3 * max(0, len(rows) - FEW)
    figure = Figure(figsize=(NARROW[0], height), layout="constrained")
    axes = figure.subplots()
    looks = looks_of(assessment)
    axes.axvline(0, color=INK, lw=1)
    for place, row in enumerate(rows):
        look = looks[row["a"]]
        if row["low"] is not None:
            axes.plot([row["low"], row["high"]], [place, place], color=look.colour, lw=2)
        decided = verdict(row) != "undecided"
        axes.plot(
            [row["difference"]], [place], look.marker, color=look.colour, ms=7,
            mfc=look.colour if decided else "white",
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [short(row["a"]) for row in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel(f"{title}, difference to {short(assessment['against'])}")
    axes.grid(axis="y", visible=False)
    axes.locator_params(axis="x", nbins=5)
    counts = axes.secondary_yaxis("right")
    counts.set_yticks(range(len(rows)), [f"{row['wins']:,} : {row['losses']:,}" for row in rows])
    counts.tick_params(length=0)
    counts.spines["right"].set_visible(False)
    words = "higher : lower" if metric["better"] == "neither" else "better : worse off"
    counts.set_ylabel(f"users {words}", fontsize=8.5)
    told = "; ".join(
        f"{row['a']} {difference(row['difference'])} (p {p_value(row['p_corrected'])})"
        for row in rows
    )
    return Drawn(
        figure=figure,
        title=f"Paired differences to {shown(assessment['against'])}",
        alt=f"Mean difference in {title} to {assessment['against']}, user by user: {told}.",
        look_for=f"{SIDES[metric['better']]} than the reference. Filled marks: the test decides after "
        "correction; hollow: it does not. An interval that spans 0 is no proof of equality.",
    )
