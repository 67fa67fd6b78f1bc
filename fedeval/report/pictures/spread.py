"""The picture of the headline metric over clients, from the worst to the best."""

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
    """Draws the quantiles of the clients' means, a line a system."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    clients = assessment["clients"]
    lines = {name: line for name, line in clients["systems"].items() if line["curve"]}
    if not lines:
        raise NothingToDraw(clients["reason"] or "no client has a value")
    figure = Figure(figsize=NARROW, layout="constrained")
    axes = figure.subplots()
    for name, look in looks_of(assessment).items():
        if name in lines:
            curve = lines[name]["curve"]
            shares = [place / (len(curve) - 1) for place in range(len(curve))]
            axes.plot(shares, curve, color=look.colour, ls=look.dashes, lw=1.6, label=look.label)
            mean = lines[name]["statistics"]["mean"]["value"]
            axes.plot(
                [1.015], [mean], look.marker, color=look.colour, ms=5, clip_on=False, zorder=5
            )
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=min(0, *(line["curve"][0] for line in lines.values())))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    higher = metric_of(assessment, assessment["headline"])["better"] == "higher"
    way = "worst to the best" if higher else "lowest to the highest"
    axes.set_xlabel(f"clients, from the {way} ({clients['n_clients']:,})")
    axes.set_ylabel(clients["title"])
    legend_above(axes)
    per_client = clients["n_users"] / max(clients["n_clients"], 1)
    told = ", ".join(
        f"{name} {value(line['statistics']['worst decile']['value'])}"
        for name, line in lines.items()
    )
    noise = (
        " Here a client holds about one user, and one user's value is mostly chance: the spread is that of "
        "users."
        if per_client < 3
        else ""
    )
    return Drawn(
        figure=figure,
        title=f"{clients['title']} over clients",
        alt=f"Quantiles of {clients['title']} over {clients['n_clients']:,} clients; worst decile: {told}.",
        look_for="Marks at the right: the mean over clients."
        + " A line that rises late serves few clients well and most of them not at all." * higher
        + noise,
    )
