"""The picture of paired differences to the reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedeval.report.pictures.canvas import (
    GREY,
    INK,
    WIDE,
    Drawn,
    NothingToDraw,
    looks_of,
    short,
)
from fedeval.report.wording import comparisons_of, difference, metric_of, p_value, shown

__all__ = ["draw"]

WIN, LOSS, TIE = "#0072B2", "#D55E00", "#e3e5e8"


def draw(assessment: Mapping[str, Any]) -> Drawn:
    """Draws the mean difference with its interval, and for how many users it is above or below 0."""
    from matplotlib.figure import Figure

    rows = comparisons_of(assessment, [assessment["headline"]])
    rows = [row for row in rows if row["difference"] is not None]
    if not rows:
        raise NothingToDraw("there is one system alone: nothing to compare it with")
    rows = sorted(rows, key=lambda row: row["difference"])
    title = metric_of(assessment, assessment["headline"])["title"]
    reference = short(assessment["against"])
    figure = Figure(figsize=(WIDE[0], 1.3 + 0.42 * len(rows)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2], sharey=True)
    looks = looks_of(assessment)
    left.axvline(0, color=INK, lw=1)
    for place, row in enumerate(rows):
        look = looks[row["a"]]
        if row["low"] is not None:
            left.plot([row["low"], row["high"]], [place, place], color=look.colour, lw=2)
        decided = row["better"] in (row["a"], row["b"])
        left.plot(
            [row["difference"]], [place], look.marker, color=look.colour, ms=7,
            mfc=look.colour if decided else "white",
        )  # fmt: skip
        total = max(row["wins"] + row["ties"] + row["losses"], 1)
        begin = 0.0
        for count, colour in ((row["losses"], LOSS), (row["ties"], TIE), (row["wins"], WIN)):
            right.barh(place, count / total, left=begin, color=colour, height=0.55)
            begin += count / total
        right.text(1.01, place, f"{row['wins']:,} : {row['losses']:,}", va="center", fontsize=8.5)
    left.set_yticks(range(len(rows)), [short(row["a"]) for row in rows])
    left.set_ylim(-0.6, len(rows) - 0.4)
    left.set_xlabel(f"{title}, difference to {reference}")
    left.grid(axis="y", visible=False)
    right.set_xlim(0, 1)
    right.set_xticks([])
    right.grid(visible=False)
    right.spines["left"].set_visible(False)
    right.spines["bottom"].set_visible(False)
    right.tick_params(left=False)
    right.set_xlabel("users: worse (orange), equal (grey), better (blue); better : worse", color=INK)
    for spine in ("left",):
        left.spines[spine].set_color(GREY)
    told = "; ".join(
        f"{row['a']} {difference(row['difference'])} (p {p_value(row['p_corrected'])})" for row in rows
    )
    return Drawn(
        figure=figure,
        title=f"Paired differences to {shown(assessment['against'])}",
        alt=f"Mean difference in {title} to {assessment['against']}, user by user: {told}.",
        look_for="Right of the line: better than the reference. Filled marks: the test decides after "
        "correction; hollow: it does not. An interval that spans 0 is no proof of equality.",
    )
