"""The picture of popularity: how many rows the commonest items have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fedprep.report.pictures.canvas import BLUE, VERMILLION, WIDE, log_ticks, percent
from fedprep.report.pictures.picture import Drawn, NothingToDraw

if TYPE_CHECKING:
    from fedprep.report.pictures.view import View

__all__ = ["Popularity", "draw", "measure"]

Counts = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]

RANKS = 160
HEADS = (0.01, 0.1, 0.5)


@dataclass(frozen=True, kw_only=True)
class Popularity:
    """rows[i] is what the item at rank[i] (from 1, the commonest first) has, share[i] the part of all rows
    that it and those before it have; head: that of the first 1 %, 10 % and 50 % of the items."""

    n_items: int
    rank: Counts
    rows: Counts
    share: Numbers
    head: Numbers
    median: float
    n_unseen: int
    n_once: int


def measure(view: View) -> Popularity:
    """Returns the rows of items by rank, at ranks spaced evenly on a log scale."""
    rows = np.sort(view.item_rows)[::-1]
    if not rows.any():
        raise NothingToDraw("no row is of a known item")
    n_items = len(rows)
    n_seen = int(np.count_nonzero(rows))
    rank = np.unique(np.geomspace(1, n_seen, min(RANKS, n_seen)).round().astype(np.int64))
    first = np.maximum(np.round(np.array(HEADS) * n_items).astype(np.int64), 1)
    share = np.cumsum(rows) / rows.sum()
    return Popularity(
        n_items=n_items, rank=rank, rows=rows[rank - 1], share=share[rank - 1], head=share[first - 1],
        median=float(np.median(rows)), n_unseen=n_items - n_seen, n_once=int((rows == 1).sum()),
    )  # fmt: skip


def draw(part: Popularity) -> Drawn:
    """Draws rows of an item over its rank, and the share of all rows that the first items have."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=WIDE, layout="constrained")
    left, right = figure.subplots(1, 2)
    marker = {"marker": "o", "ms": 4} if len(part.rank) < 30 else {}
    left.plot(part.rank, part.rows, color=BLUE, lw=2, **marker)
    log_ticks(left, "y", 0.8, part.rows.max() * 1.8)
    right.plot(part.rank, 100 * part.share, color=BLUE, lw=2, **marker)
    for share, head in zip(HEADS, part.head, strict=True):
        place = max(round(share * part.n_items), 1)
        right.plot([place], [100 * head], "o", color=VERMILLION, ms=6, zorder=3)
    table = [
        f"first {100 * share:g} % of the items: {percent(head)} of the rows"
        for share, head in zip(HEADS, part.head, strict=True)
    ]
    right.text(0.03, 0.97, "\n".join(table), transform=right.transAxes, va="top", fontsize=8.5)
    right.set_ylim(0, 108)
    left.set_ylabel("rows of the item (log)")
    right.set_ylabel("% of all rows, with the items so far")
    for axes in (left, right):
        log_ticks(axes, "x", 0.9, part.n_items * 1.15)
        axes.set_xlabel("rank of the item, the commonest first (log)")
    heads = ", ".join(
        f"{100 * share:g} % of the items have {percent(head)} of the rows"
        for share, head in zip(HEADS, part.head, strict=True)
    )
    rare = f"; {part.n_once:,} items have a single row" if part.n_once else ""
    rare += f"; {part.n_unseen:,} items have none" if part.n_unseen else ""
    return Drawn(
        figure=figure,
        alt=f"Rows of items by rank. The first {heads}.",
        measured=f"{part.n_items:,} items, median {part.median:,.0f} rows; the first {heads}{rare}",
        look_for="A steep head means that recommending the popular scores well: compare any model with "
        "that baseline. A long flat tail at one row cannot be learnt from ids alone.",
    )
