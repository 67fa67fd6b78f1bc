"""The picture of the headline metric over the cut-off, with bands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedeval.report.pictures.canvas import (
    NARROW,
    Drawn,
    NothingToDraw,
    legend_above,
    looks_of,
)
from fedeval.report.wording import metric_of, value

__all__ = ["draw"]


def draw(assessment: Mapping[str, Any]) -> Drawn:
    """Draws a line a system, its interval as a band."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

    curves = assessment["curves"]
    cuts = curves["k"]
    if len(cuts) < 2:
        raise NothingToDraw("the headline metric has fewer than two cut-offs")
    metric = metric_of(assessment, assessment["headline"])
    title = metric["title"].partition("@")[0]
    figure = Figure(figsize=NARROW, layout="constrained")
    axes = figure.subplots()
    for name, look in looks_of(assessment).items():
        line = [
            (k, p)
            for k, p in zip(cuts, curves["systems"][name], strict=True)
            if p["value"] is not None
        ]
        if not line:
            continue
        ks, points = zip(*line, strict=True)
        values = [p["value"] for p in points]
        if all(p["low"] is not None for p in points):
            axes.fill_between(
                ks, [p["low"] for p in points], [p["high"] for p in points],
                color=look.colour, alpha=0.16, lw=0,
            )  # fmt: skip
        axes.plot(
            ks, values, color=look.colour, ls=look.dashes, marker=look.marker, ms=3.6, lw=1.4,
            label=look.label,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(_ticks(cuts)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_ylim(bottom=0)
    axes.set_xlabel("k (log)")
    axes.set_ylabel(f"{title}@k")
    legend_above(axes)
    last = {name: points[-1]["value"] for name, points in curves["systems"].items()}
    told = ", ".join(f"{name} {value(number)}" for name, number in last.items())
    level = 100 * assessment["inference"]["level"]
    return Drawn(
        figure=figure,
        title=f"{title} by cut-off",
        alt=f"{title} at k from {cuts[0]} to {cuts[-1]}; at k = {cuts[-1]}: {told}.",
        look_for=f"Bands: {level:g} % intervals of each system by itself. Bands that overlap decide nothing: "
        "the paired differences do. Lines that cross say that the order of systems hangs on the cut-off.",
    )


def _ticks(cuts: list[int]) -> list[int]:
    """Returns the cut-offs that stand far enough apart to be written."""
    kept: list[int] = []
    for k in cuts:
        if not kept or k >= 1.35 * kept[-1]:
            kept.append(k)
    return kept
