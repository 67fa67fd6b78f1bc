"""The learning curves of Runs, drawn from their files alone, while they train or after.

One Run: a colour for each measure. Several: a colour for each Run, and dashes for each measure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from fedeval.report.pictures.canvas import (
    INK,
    WIDE,
    Look,
    drawing,
    legend_above,
    looks_of,
)
from fedprep.errors import TrainingError
from fedprep.files import whole_file
from fedtrain.run import Run
from fedtrain.run.rounds import NONFINITE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["PANELS", "Panel", "curves", "draw_curves", "has_curves"]

MARKED = 30
"""Points up to which each is marked."""

ALARM = "#b00020"
Frames = Sequence[tuple[str, pl.DataFrame]]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel of the picture.

    title: its heading · measures: a regular expression for each measure, and its label; `{0}` in a label is
    the text that the expression's first group found · scale: `linear`, `log`, `share` (0 to 1, in per cent)
    or `bytes` · summed: each round's value is added to those before · from_zero: 0 is in the picture.
    """

    title: str
    measures: Mapping[str, str]
    scale: str = "linear"
    summed: bool = False
    from_zero: bool = False


PANELS = (
    Panel(title="Loss", measures={"loss/train": "train", "loss/valid": "valid"}),
    Panel(
        title="Accuracy on valid",
        measures={"accuracy/valid": "accuracy", "accuracy/majority/valid": "majority class"},
        scale="share",
    ),
    Panel(title="RMSE on valid", measures={"rmse/valid": "RMSE"}),
    Panel(
        title="Ranking on valid",
        measures={
            r"ndcg@(\d+)/valid": "NDCG@{0}",
            r"hr@(\d+)/valid": "HR@{0}",
            r"mrr@(\d+)/valid": "MRR@{0}",
        },
    ),
    Panel(
        title="Gradient norm",
        measures={"grad_norm/median": "median", "grad_norm/p99": "99th percentile"},
        scale="log",
    ),
    Panel(
        title="Clipped gradients",
        measures={"grad_norm/clipped": "share"},
        scale="share",
        from_zero=True,
    ),
    Panel(
        title="Bytes sent, all rounds so far",
        measures={"bytes/up": "up", "bytes/down": "down"},
        scale="bytes",
        summed=True,
        from_zero=True,
    ),
)
"""The panels in their order; one for which no Run has a value is left out."""


def draw_curves(runs: Sequence[str | Path], path: Path) -> None:
    """Writes the curves of Runs as a PNG, the same bytes for the same numbers.

    Raises:
        TrainingError: a folder is no Run, or none of them has measured anything that is drawn.
    """
    opened = [Run.open(run) for run in runs]
    names = [run.name for run in opened]
    frames = [
        (run.name if names.count(run.name) == 1 else str(run.path), run.rounds()) for run in opened
    ]
    with drawing(), whole_file(path) as new:
        curves(frames).savefig(new, format="png", dpi=110, metadata={"Software": None})


def has_curves(rounds: pl.DataFrame) -> bool:
    """Returns whether one Run's measures hold any that is drawn."""
    return any(_shown(panel, [("", rounds)]) for panel in PANELS)


def curves(rounds: pl.DataFrame | Frames) -> Figure:
    """Returns the figure of one Run's measures (round, metric, value), or of several by name.

    Raises:
        TrainingError: there is no measure that is drawn.
    """
    from matplotlib.figure import Figure

    frames: Frames = [("", rounds)] if isinstance(rounds, pl.DataFrame) else rounds
    chosen = [(panel, found) for panel in PANELS if (found := _shown(panel, frames))]
    if not chosen:
        raise TrainingError(
            "there is nothing to draw: no round has a loss, an accuracy, a ranking metric or bytes",
            expected="a Run with at least one round",
        )
    looks = _looks(name for name, _ in frames)
    with drawing():
        columns = min(3, len(chosen))
        n_rows = -(-len(chosen) // columns)
        figure = Figure(figsize=(WIDE[0], 2.9 * n_rows + 0.3), layout="constrained")
        grid = figure.subplots(n_rows, columns, squeeze=False).ravel()
        for axes, (panel, found) in zip(grid, chosen, strict=False):
            _draw_panel(axes, panel, found, frames, looks)
        for axes in grid[len(chosen) :]:
            axes.axis("off")
        if len(frames) > 1:
            keys = [_key(look.colour, "-", look.marker, look.label) for look in looks.values()]
            legend_above(grid[0], keys)
    return figure


def _shown(panel: Panel, frames: Frames) -> dict[str, str]:
    """Returns what `_measures` does; nothing where a panel from 0 has nothing but 0: no step was clipped."""
    found = _measures(panel, frames)
    if not panel.from_zero:
        return found
    names = [*found, *(metric + NONFINITE for metric in found)]
    values = [rounds.filter(pl.col("metric").is_in(names))["value"] for _, rounds in frames]
    return found if any((value != 0).any() for value in values) else {}


def _measures(panel: Panel, frames: Frames) -> dict[str, str]:
    """Returns the label of each metric that a panel draws; of several cut-offs 10, or else the first."""
    there = dict.fromkeys(
        name.removesuffix(NONFINITE)
        for _, rounds in frames
        for name in rounds["metric"].unique().sort()
    )
    found = {}
    for pattern, label in panel.measures.items():
        hits = {name: hit for name in there if (hit := re.fullmatch(pattern, name))}
        names = sorted(hits, key=lambda name: ("@10/" not in name, len(name), name))
        if names:
            found[names[0]] = label.format(*hits[names[0]].groups())
    return found


def _draw_panel(
    axes: Axes,
    panel: Panel,
    found: Mapping[str, str],
    frames: Frames,
    looks: Mapping[str, Look],
) -> None:
    several = len(frames) > 1
    kinds = _looks(found)
    for name, rounds in frames:
        for metric, label in found.items():
            x, y = _line(rounds, metric, panel.summed)
            colour, marker = (looks[name] if several else kinds[metric]).colour, ""
            if len(x) <= MARKED:
                marker = (looks[name] if several else kinds[metric]).marker
            axes.plot(
                x, y, lw=1.4, label=label, color=colour, ls=kinds[metric].dashes, marker=marker, ms=3.4
            )  # fmt: skip
        _mark_bad_rounds(axes, found, rounds, looks[name].colour if several else ALARM)
    _scale(axes, panel)
    axes.set_xlabel("round")
    axes.set_title(panel.title, pad=20)
    keys = [
        _key(INK if several else kinds[metric].colour, kinds[metric].dashes, "", label)
        for metric, label in found.items()
    ]
    axes.legend(
        handles=keys, loc="lower left", bbox_to_anchor=(-0.02, 0.985), ncols=len(keys),
        handlelength=2.2, columnspacing=1.2, borderaxespad=0.2,
    )  # fmt: skip


def _line(rounds: pl.DataFrame, metric: str, summed: bool) -> tuple[list[int], list[float]]:
    rows = rounds.filter(pl.col("metric") == metric).sort("round", maintain_order=True)
    value = rows["value"].cum_sum() if summed else rows["value"]
    return rows["round"].to_list(), value.to_list()


def _scale(axes: Axes, panel: Panel) -> None:
    from matplotlib.ticker import (
        EngFormatter,
        FuncFormatter,
        LogLocator,
        MaxNLocator,
        NullFormatter,
        PercentFormatter,
    )

    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    if panel.scale == "log":
        axes.set_yscale("log", nonpositive="clip")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    elif panel.scale == "share":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    elif panel.scale == "bytes":
        axes.yaxis.set_major_formatter(EngFormatter(unit="B"))
    highest = float(axes.dataLim.y1)
    if panel.from_zero and 0 < highest < math.inf:
        axes.set_ylim(0, 1.06 * highest)


def _mark_bad_rounds(
    axes: Axes, found: Mapping[str, str], rounds: pl.DataFrame, colour: str
) -> None:
    """Draws a line at each round in which a measure of the panel was NaN or infinite."""
    names = [metric + NONFINITE for metric in found]
    bad = rounds.filter(pl.col("metric").is_in(names))["round"].unique().sort().to_list()
    if bad:
        axes.vlines(bad, 0, 1, transform=axes.get_xaxis_transform(), color=colour, lw=1.0)
        axes.annotate(
            "not finite", (bad[0], 1.0), xycoords=("data", "axes fraction"), color=colour,
            xytext=(-3, -3), textcoords="offset points", ha="right", va="top", rotation=90, fontsize=8,
        )  # fmt: skip


def _looks(names: Iterable[str]) -> dict[str, Look]:
    return looks_of({"systems": [{"name": name, "kind": "system"} for name in names]})


def _key(colour: str, dashes: Any, marker: str, label: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, ls=dashes, marker=marker, ms=3.4, lw=1.4, label=label)
