"""The picture of a Run's rounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedeval.metrics import METRICS
from fedeval.report.pictures.canvas import WIDE, Drawn, NothingToDraw, legend_above, looks_of, short

__all__ = ["draw"]

MOST = 6
"""Measures of the rounds that are drawn."""


FIRST = ("loss", "accuracy", "rmse", "ndcg", "hr", "mrr", "recall", "auc", "coverage")
"""Measures that a reader looks for, by the start of their names; others are of the machinery."""

SPLITS = ("train", "valid", "test")


def _titled(measure: str) -> str:
    """Returns a measure in words: `ndcg@10/valid` is "NDCG@10 on valid"."""
    name, _, split = measure.partition("/")
    if split and split not in SPLITS:
        return measure
    stem, at, k = name.partition("@")
    title = METRICS[stem].title if stem in METRICS else stem
    return f"{title}{at}{k}" + (f" on {split}" if split else "")


def _place(measure: str, headline: str) -> tuple[bool, int]:
    """Returns what measures are sorted by: the headline, what is looked for first, the rest as it comes."""
    start = measure.partition("/")[0].partition("@")[0]
    order = FIRST.index(start) if start in FIRST and measure.count("/") < 2 else len(FIRST)
    return measure.partition("/")[0] != headline, order


def _most_points(runs: Mapping[str, Any], measure: str) -> int:
    """Returns how many rounds the longest curve of a measure has."""
    return max(len([row for row in rows if row["metric"] == measure]) for rows in runs.values())


def draw(assessment: Mapping[str, Any]) -> Drawn:
    """Draws a panel a measure, a line a Run."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    runs = assessment["learning"]
    measures = list(dict.fromkeys(row["metric"] for rows in runs.values() for row in rows))
    if not measures:
        raise NothingToDraw("no system is a Run with rounds.jsonl")
    # A measure of one round, such as those at the end, is no curve, unless there is nothing else.
    curves = [name for name in measures if _most_points(runs, name) > 1]
    measures = curves or measures
    measures.sort(key=lambda name: _place(name, assessment["headline"]))
    looked_for = [
        name for name in measures if _place(name, assessment["headline"]) < (True, len(FIRST))
    ]
    shown = (looked_for or measures)[:MOST]
    columns = min(3, len(shown))
    n_rows = -(-len(shown) // columns)
    figure = Figure(figsize=(WIDE[0], 2.9 * n_rows), layout="constrained")
    grid = figure.subplots(n_rows, columns, squeeze=False).ravel()
    looks = looks_of(assessment)
    for axes, measure in zip(grid, shown, strict=False):
        for name, rows in runs.items():
            line = [(row["round"], row["value"]) for row in rows if row["metric"] == measure]
            if line:
                look = looks[name]
                few = len(line) <= 30
                axes.plot(
                    *zip(*line, strict=True), color=look.colour, ls=look.dashes, lw=1.4, label=look.label,
                    marker=look.marker if few else "", ms=3.6,
                )  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_title(short(_titled(measure), 34))
        axes.set_xlabel("round")
    for axes in grid[len(shown) :]:
        axes.axis("off")
    legend_above(grid[0])
    more = len(measures) - len(shown)
    left_out = f" {more} more {'is' if more == 1 else 'are'} in rounds.jsonl of the Run." * (
        more > 0
    )
    return Drawn(
        figure=figure,
        title="Learning curves",
        alt=f"{', '.join(map(_titled, shown))} by round of {', '.join(runs)}.",
        look_for="As the Run wrote them down, round by round, on what it measured itself: not the protocol "
        "of the table. A curve that still rises asks for more rounds; a flat one from the start for another "
        "learning rate." + left_out,
    )
