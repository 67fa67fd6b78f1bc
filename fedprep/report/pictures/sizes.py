"""The picture of sizes: how many rows each client has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fedprep.report.pictures.canvas import (
    BLUE,
    INK,
    NARROW,
    log_ticks,
    name_clients,
    percent,
    plain_numbers,
)
from fedprep.report.pictures.picture import Drawn, NothingToDraw

if TYPE_CHECKING:
    from fedprep.report.pictures.view import View

__all__ = ["Sizes", "draw", "measure"]

Counts = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]

FEW = 60
"""Up to so many clients are drawn one by one."""

LINEAR = 10
"""Few clients whose sizes differ by no more than this factor need no log scale."""

SIZE_BINS = 36


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Rows per client: of few clients each one's (`rows`, largest first, with their `names`), else
    clients in bins of size."""

    n_clients: int
    rows: Counts
    names: tuple[str, ...]
    edges: Numbers
    counts: Counts
    quantiles: Numbers  # smallest, 1 %, median, 99 %, largest
    top_share: float  # of the rows, with the largest 1 % of the clients
    n_top: int
    n_empty: int


def measure(view: View) -> Sizes:
    """Returns rows per client in bins spaced evenly on a log scale."""
    rows = view.index["n_rows"].to_numpy().astype(np.int64)
    order = np.argsort(-rows, kind="stable")
    rows = rows[order]
    if not len(rows) or rows[0] < 1:
        raise NothingToDraw("no client has a row")
    there = rows[rows > 0]
    edges = np.unique(np.geomspace(there[-1], there[0] + 1, SIZE_BINS + 1).round())
    few = len(rows) <= FEW
    n_top = max(1, round(len(rows) / 100))
    return Sizes(
        n_clients=len(rows),
        rows=rows if few else rows[:0],
        names=view.client_names(order),
        edges=edges,
        counts=np.histogram(there, edges)[0].astype(np.int64),
        quantiles=np.percentile(rows, [0, 1, 50, 99, 100]),
        top_share=float(there[:n_top].sum() / there.sum()),
        n_top=n_top,
        n_empty=len(rows) - len(there),
    )


def draw(part: Sizes) -> Drawn:
    """Draws clients by their rows: a bar each where they are few, else a histogram."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=NARROW, layout="constrained")
    axes = figure.subplots()
    low, _, median, high, most = part.quantiles
    if len(part.rows):
        axes.bar(np.arange(1, len(part.rows) + 1), part.rows, color=BLUE, width=0.8)
        if most > LINEAR * max(low, 1):
            log_ticks(axes, "y", 0.8, most * 1.6)
        plain_numbers(axes.yaxis)
        axes.axhline(median, color=INK, lw=1, ls="--")
        axes.set_xlabel("clients, the largest first")
        axes.set_ylabel("rows (log)" if most > LINEAR * max(low, 1) else "rows")
        name_clients(axes, np.arange(1, len(part.rows) + 1), part.names)
    else:
        axes.stairs(part.counts, part.edges, fill=True, color=BLUE)
        log_ticks(axes, "x", part.edges[0] / 1.1, part.edges[-1] * 1.1)
        axes.axvline(median, color=INK, lw=1, ls="--")
        axes.set_xlabel("rows of the client (log)")
        axes.set_ylabel("clients")
        plain_numbers(axes.yaxis)
    largest = f"the largest {part.n_top:,} hold" if part.n_top > 1 else "the largest holds"
    empty = f"; {part.n_empty:,} have none" if part.n_empty else ""
    return Drawn(
        figure=figure,
        alt=f"Rows of {part.n_clients:,} clients, from {low:,.0f} to {most:,.0f}, median {median:,.0f}.",
        measured=f"{part.n_clients:,} clients, {low:,.0f} to {most:,.0f} rows, median {median:,.0f}; "
        + ("" if len(part.rows) else f"99 % up to {high:,.0f}; ")
        + f"{largest} {percent(part.top_share)} of the rows{empty}",
        look_for="Dashed: the median. Clients with a handful of rows give noisy updates and may have none to "
        "test on; a client of many times the median outweighs the others where updates are weighted by rows.",
    )
