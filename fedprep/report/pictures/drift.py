"""The picture of drift: how far labels and categories of clients lie from those of all rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from fedprep.report.pictures.canvas import (
    BLUE,
    VERMILLION,
    WIDE,
    amounts,
    log_ticks,
    outlined,
    percent,
    plain_numbers,
)
from fedprep.report.pictures.picture import Drawn, NothingToDraw

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fedprep.report.pictures.view import View

__all__ = ["Drift", "draw", "measure"]

Counts = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]

POINTS = 400
"""Up to so many clients are drawn as points, beyond that as a map of how many lie where."""

GRID = 40
DRAWS = 400
MOST_DRAWN = 100_000
"""Rows of a client beyond which chance is as good as none."""


@dataclass(frozen=True, kw_only=True)
class Divergences:
    """Divergence of clients over their rows: points (n, 2) of few, else a grid of counts with edges."""

    points: Numbers
    counts: Counts  # (n_divergence_bins, n_size_bins)
    size_edges: Numbers
    edges: Numbers
    median: float
    p99: float
    largest: float
    n_known: int


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Divergence of labels and of categories; `chance` (n, 2): rows, and the label divergence that 95 % of
    clients of so many rows drawn from all rows stay below; n_above: clients beyond it."""

    labels: Divergences | None
    categories: Divergences | None
    chance: Numbers
    n_above: int


def measure(view: View) -> Drift:
    """Returns label and category divergence per client, and what chance alone would give."""
    index = view.index
    if index.height < 2:
        raise NothingToDraw("there is one client alone: nothing can drift from it")
    labels = _known(index, "divergence")
    categories = _known(index, "category_divergence")
    if not labels[1].any() and not categories[1].any():
        raise NothingToDraw("no client differs from all rows in its labels or categories")
    chance, n_above = np.empty((0, 2)), 0
    if labels[1].any():
        counts = np.asarray(index["label_counts"].to_numpy(), dtype=np.float64).sum(axis=0)
        chance = _chance(labels[0], counts / counts.sum())
        limit = np.interp(np.log(labels[0]), np.log(chance[:, 0]), chance[:, 1])
        n_above = int((labels[1] > limit + 1e-6).sum())
    return Drift(
        labels=_divergences(*labels) if labels[1].any() else None,
        categories=_divergences(*categories) if categories[1].any() else None,
        chance=chance,
        n_above=n_above,
    )


def _known(index: pl.DataFrame, column: str) -> tuple[Numbers, Numbers]:
    """Returns rows and divergence of the clients that have both: float64 (n,) each."""
    rows = index["n_rows"].to_numpy().astype(np.float64)
    values = index[column].cast(pl.Float64).to_numpy()
    known = np.isfinite(values) & (rows > 0)
    return rows[known], values[known]


def _divergences(rows: Numbers, values: Numbers) -> Divergences:
    few = len(rows) <= POINTS
    high = max(float(values.max()), 0.01)
    size_edges = np.unique(np.geomspace(rows.min(), rows.max() + 1, GRID + 1).round())
    edges = np.linspace(0, np.sqrt(high * 1.0001), GRID + 1) ** 2
    counts = np.histogram2d(values, rows, (edges, size_edges))[0]
    median, p99, largest = np.percentile(values, [50, 99, 100])
    return Divergences(
        points=np.column_stack([rows, values]) if few else np.empty((0, 2)),
        counts=counts.astype(np.int64), size_edges=size_edges, edges=edges, median=float(median),
        p99=float(p99), largest=float(largest), n_known=len(rows),
    )  # fmt: skip


def _chance(rows: Numbers, shares: Numbers) -> Numbers:
    """Returns rows, and the label divergence that at least 95 % of clients of so many rows, drawn at random
    from all rows, stay below.

    Few rows allow few values, so that the quantile jumps: its envelope from above is taken.
    """
    sizes = np.unique(np.geomspace(rows.min(), rows.max(), 28).round().astype(np.int64))
    rng = np.random.default_rng(0)
    drawn = np.minimum(sizes, MOST_DRAWN)
    counts = np.stack([rng.multinomial(n, shares, size=DRAWS) for n in drawn])  # (n, DRAWS, k)
    q = counts / drawn[:, None, None]
    m = (q + shares) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        kl_q = np.where(q > 0, q * np.log2(q / m), 0).sum(axis=-1)
        kl_p = np.where(shares > 0, shares * np.log2(shares / m), 0).sum(axis=-1)
    quantile = np.percentile((kl_q + kl_p) / 2, 95, axis=1)
    return np.column_stack([sizes, np.maximum.accumulate(quantile[::-1])[::-1]])


def draw(part: Drift) -> Drawn:
    """Draws divergence over rows of the client: labels, with what chance gives, and categories."""
    from matplotlib.figure import Figure

    panels = {
        name: one for name, one in (("labels", part.labels), ("categories", part.categories)) if one
    }
    figure = Figure(figsize=WIDE, layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(panels)))
    for panel, (name, one) in zip(axes, panels.items(), strict=True):
        _panel(panel, one)
        panel.set_title(f"{name} of a client against those of all rows")
        panel.set_xlabel("rows of the client (log)")
    axes[0].set_ylabel("Jensen–Shannon divergence\n(bits, square-root scale)")
    if part.labels and len(part.chance):
        axes[0].set_ylim(0, max(part.labels.edges[-1] * 1.1, part.chance[:, 1].max() * 1.1))
        (line,) = axes[0].plot(*part.chance.T, color=VERMILLION, lw=1.8, label="95 % by chance")
        if not len(part.labels.points):
            outlined(line)
        axes[0].legend(loc="upper right")
    spans = "; ".join(
        f"{name}: median {one.median:.2g}, 99 % below {one.p99:.2g}, largest {one.largest:.2g}"
        + (_above(part, one) if name == "labels" else "")
        for name, one in panels.items()
    )
    return Drawn(
        figure=figure,
        alt=f"Divergence of clients over their rows. {spans}.",
        measured=spans,
        look_for="0: a client like all; 1: nothing in common. Small clients diverge by chance alone: below "
        "the line lie 95 % of clients drawn at random from all rows. What lies well above it drifts in "
        "earnest, and personal or clustered models may gain there.",
    )


def _above(part: Drift, one: Divergences) -> str:
    share = percent(part.n_above / one.n_known)
    return f", {part.n_above:,} of {one.n_known:,} clients ({share}) above the chance line"


def _panel(axes: Axes, one: Divergences) -> None:
    from matplotlib.colors import LogNorm

    if len(one.points):
        axes.scatter(
            one.points[:, 0],
            one.points[:, 1],
            s=24,
            color=BLUE,
            alpha=0.8,
            linewidths=0,
            zorder=3,
            clip_on=False,
        )
    else:
        seen = np.ma.masked_equal(one.counts, 0)
        mesh = axes.pcolormesh(
            one.size_edges, one.edges, seen, norm=LogNorm(1, max(int(one.counts.max()), 2)),
            cmap=amounts(faint=False), rasterized=True,
        )  # fmt: skip
        figure = axes.get_figure()
        assert figure is not None
        bar = figure.colorbar(mesh, ax=axes, label="clients (log)", pad=0.01)
        bar.ax.minorticks_off()
        plain_numbers(bar.ax.yaxis)
    log_ticks(axes, "x", one.size_edges[0] / 1.08, one.size_edges[-1] * 1.08)
    axes.set_yscale("function", functions=(lambda y: np.sqrt(np.maximum(y, 0)), np.square))
    axes.set_ylim(0, one.edges[-1] * 1.1)
