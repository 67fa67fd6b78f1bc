"""The picture of ratings: how often each is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from fedprep.report.pictures.canvas import BLUE, NARROW, percent, plain_numbers
from fedprep.report.pictures.picture import Drawn, NothingToDraw
from fedprep.schema import RATING

if TYPE_CHECKING:
    from fedprep.report.pictures.view import View

__all__ = ["Ratings", "draw", "measure"]

Counts = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]

MOST_BARS = 24


@dataclass(frozen=True, kw_only=True)
class Ratings:
    """How often each rating is given; `names` of at most `MOST_BARS` bars, each one value or a span."""

    names: tuple[str, ...]
    counts: Counts
    exact: bool
    mean: float
    n_unusable: int  # null, NaN or infinite


def measure(view: View) -> Ratings:
    """Returns the rating histogram; ratings to three digits, so that any number of them stays bounded."""
    value = pl.col(RATING).cast(pl.Float64)
    usable = value.is_finite().fill_null(False)
    rounded = pl.when(usable).then(value.round_sig_figs(3)).alias("value")
    counts = view.rows.group_by(rounded).len().sort("value").collect(engine="streaming")
    known = counts.drop_nulls("value")
    if known.is_empty():
        raise NothingToDraw("no row has a rating")
    values, n = known["value"].to_numpy(), known["len"].to_numpy().astype(np.int64)
    mean = float((values * n).sum() / n.sum())
    names, bars = _bars(values, n)
    return Ratings(
        names=names, counts=bars, exact=len(values) <= MOST_BARS, mean=mean,
        n_unusable=int(counts["len"].sum() - n.sum()),
    )  # fmt: skip


def _bars(values: Numbers, counts: Counts) -> tuple[tuple[str, ...], Counts]:
    """Returns a bar for each value, or bars of equal span over 99 % of the rows and the ends beyond."""
    if len(values) <= MOST_BARS:
        return tuple(f"{value:g}" for value in values), counts
    below = np.cumsum(counts) / counts.sum()
    low, high = values[np.searchsorted(below, [0.005, 0.995])]
    edges = np.linspace(low, high, MOST_BARS + 1)
    place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, MOST_BARS - 1)
    names = tuple(f"{edge:.3g}" for edge in edges[:-1])
    return names, np.bincount(place, weights=counts, minlength=MOST_BARS).astype(np.int64)


def draw(part: Ratings) -> Drawn:
    """Draws a bar a rating, with its share of the rows above it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=NARROW, layout="constrained")
    axes = figure.subplots()
    shares = part.counts / part.counts.sum()
    places = np.arange(len(shares))
    axes.bar(places, part.counts, color=BLUE, width=0.78)
    every = -(-len(places) // 12)
    axes.set_xticks(places[::every], part.names[::every])
    axes.set_xlabel("rating" if part.exact else "rating, from")
    axes.set_ylabel("rows")
    axes.grid(axis="x", visible=False)
    axes.set_ylim(0, part.counts.max() * 1.12)
    plain_numbers(axes.yaxis)
    if len(shares) <= 12:
        for place, count, share in zip(places, part.counts, shares, strict=True):
            axes.text(float(place), count, percent(share), ha="center", va="bottom", fontsize=8)
    top, least = int(np.argmax(shares)), int(np.argmin(shares))
    unusable = f"; {part.n_unusable:,} rows without a finite rating" if part.n_unusable else ""
    ends = (
        f"commonest {part.names[top]} ({percent(shares[top])}), "
        f"rarest {part.names[least]} ({percent(shares[least])})"
    )
    return Drawn(
        figure=figure,
        alt=f"Histogram of {part.counts.sum():,} ratings: {ends}.",
        measured=f"{part.counts.sum():,} ratings, mean {part.mean:.3g}; {ends}{unusable}",
        look_for="Look for a rating that holds most rows, where a model learns little by always guessing "
        "it, and for one so rare that it cannot be learnt.",
    )
