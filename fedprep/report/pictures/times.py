"""The picture of time: when the rows of each split are from, and where the splits are cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fedprep.report.pictures.canvas import BLUE, INK, ORANGE, WIDE, log_ticks
from fedprep.report.pictures.picture import Drawn, NothingToDraw
from fedprep.schema import SPLIT, SPLITS, TIMESTAMP

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fedprep.report.pictures.view import View

__all__ = ["Times", "draw", "measure"]

Counts = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]

FINE, COARSE = 4_096, 64
OUTLIERS = 0.001
CALENDAR_ENDS = 250_000_000_000
"""Seconds: the year 9892, where dates end."""


@dataclass(frozen=True, kw_only=True)
class Times:
    """Rows over time. counts: (n_splits, n_bins) between edges (n_bins + 1), in seconds.

    n_outside: rows far off in time, of which the picture shows nothing. first: of each split, its first
    moment (NaN: no row). leak: share of train rows later than the first test row, if it is known.
    """

    edges: Numbers
    counts: Counts
    first: Numbers
    last: Numbers
    cuts: bool
    leak: float | None
    n_outside: int


def measure(view: View) -> Times:
    """Returns the rows of each split in bins of time, without the few that lie far off."""
    spans = (
        view.rows.group_by(SPLIT)
        .agg(low=pl.col(TIMESTAMP).min(), high=pl.col(TIMESTAMP).max())
        .collect(engine="streaming")
    )
    span = {row[0]: row[1:] for row in spans.iter_rows() if row[1] is not None}
    if not span:
        raise NothingToDraw("no row has a time")
    low, high = min(s[0] for s in span.values()), max(s[1] for s in span.values())
    if low == high:
        raise NothingToDraw(f"all rows have one time, {low:,} seconds since 1970")
    edges, counts = _zoomed(view, low, high)
    split = view.manifest.get("split") or {}
    return Times(
        edges=edges,
        counts=counts,
        first=np.array([span.get(name, (np.nan,))[0] for name in SPLITS], dtype=float),
        last=np.array([span.get(name, (0, np.nan))[1] for name in SPLITS], dtype=float),
        cuts=split.get("method") == "global_time",
        leak=(split.get("leak") or {}).get("train_rows_after_first_test_row"),
        n_outside=view.n_rows - int(counts.sum()),
    )


def _zoomed(view: View, low: int, high: int) -> tuple[Numbers, Counts]:
    """Returns `COARSE` bins over the stretch of time that holds nearly all rows.

    A few rows in the year 54000 (milliseconds taken for seconds) would else press all others into one bin.
    """
    fine = _counted(view, low, high)
    for _ in range(3):
        below = np.cumsum(fine.sum(axis=0)) / max(int(fine.sum()), 1)
        ends = np.searchsorted(below, [OUTLIERS, 1 - OUTLIERS])
        if ends[1] - ends[0] > FINE // 16:
            break
        width = (high - low) // FINE + 1
        low, high = low + int(ends[0]) * width, low + (int(ends[1]) + 1) * width
        fine = _counted(view, low, high)
    width = (high - low) // FINE + 1
    n_bins = min(COARSE, (high - low) // width + 1)
    each = -(-((high - low) // width + 1) // n_bins)
    starts = np.arange(0, (high - low) // width + 1, each)
    edges = low + width * np.append(starts, starts[-1] + each).astype(float)
    return edges, np.add.reduceat(fine, starts, axis=1)


def _counted(view: View, low: int, high: int) -> Counts:
    """Returns int64 (n_splits, FINE): the rows of each split in fine bins from `low` to `high`."""
    width = (high - low) // FINE + 1
    bins = ((pl.col(TIMESTAMP) - low) // width).cast(pl.Int32).alias("bin")
    counts = (
        view.rows.filter(pl.col(TIMESTAMP).is_between(low, high))
        .group_by(bins, pl.col(SPLIT).cast(pl.String))
        .len()
        .filter(pl.col(SPLIT).is_in(SPLITS))
        .collect(engine="streaming")
    )
    table = np.zeros((len(SPLITS), FINE), dtype=np.int64)
    split = counts[SPLIT].replace_strict(
        list(SPLITS), list(range(len(SPLITS))), return_dtype=pl.Int8
    )
    table[split.to_numpy(), counts["bin"].to_numpy()] = counts["len"].to_numpy()
    return table


LINES: dict[str, dict[str, Any]] = {
    "train": {"color": BLUE, "linestyle": "-"},
    "valid": {"color": ORANGE, "linestyle": (0, (4, 1.5))},
    "test": {"color": INK, "linestyle": (0, (1, 1.2))},
}


def draw(part: Times) -> Drawn:
    """Draws the rows of each split over time, and how much of each split lies before a moment."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=WIDE, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2), sharex=True)
    calendar = abs(part.edges).max() < CALENDAR_ENDS
    times = part.edges.astype("datetime64[s]") if calendar else part.edges
    middles = times[:-1] + (times[1:] - times[:-1]) / 2
    totals = part.counts.sum(axis=1)
    for name, counts, total in zip(SPLITS, part.counts, totals, strict=True):
        if total:
            seen = np.where(counts > 0, counts, np.nan)
            left.step(
                middles, seen, where="mid", label=f"{name} ({total:,} rows)", lw=1.8, **LINES[name]
            )
            share = np.append(0, np.cumsum(counts)) / total
            right.plot(times, 100 * share, lw=1.8, **LINES[name])
    log_ticks(left, "y", 0.8, part.counts.max() * 1.6)
    left.set_ylabel(f"rows in {_duration(part.edges[1] - part.edges[0])} (log)")
    right.set_ylabel("% of the split's rows that lie before")
    figure.legend(loc="outside upper left", ncols=3)
    _mark_cuts((left, right), part, calendar)
    if calendar:
        _dates(left)
        _dates(right)
    else:
        left.set_xlabel("seconds since 1970")
    return Drawn(figure=figure, **_words_on_time(part, calendar))


def _mark_cuts(panels: tuple[Axes, Axes], part: Times, calendar: bool) -> None:
    """Draws a line where each held-out split begins: the cut itself when rows are parted by time."""
    for name, first in zip(SPLITS[1:], part.first[1:], strict=True):
        if np.isfinite(first) and part.edges[0] <= first <= part.edges[-1]:
            where: Any = np.datetime64(int(first), "s") if calendar else first
            for axes in panels:
                axes.axvline(where, lw=1.1, **LINES[name])


def _dates(axes: Axes) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=3, maxticks=7)  # type: ignore[no-untyped-call]
    written = ConciseDateFormatter(locator, show_offset=False)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(written)


def _words_on_time(part: Times, calendar: bool) -> dict[str, str]:
    spans = "; ".join(
        f"{name} {_moment(first, calendar)} to {_moment(last, calendar)}"
        for name, first, last in zip(SPLITS, part.first, part.last, strict=True)
        if np.isfinite(first)
    )
    leak = (
        ""
        if part.leak is None
        else f"; {100 * part.leak:.3g} % of the train rows are later than the first test row"
    )
    outside = f"; {part.n_outside:,} rows without a time or far off are not shown"
    what = "the cuts" if part.cuts else "the first row of valid and of test"
    return {
        "alt": f"Rows of each split over time. {spans}.",
        "measured": spans + leak + (outside if part.n_outside else ""),
        "look_for": f"Vertical lines: {what}. Where a model is to foretell the future, the train curve on "
        "the right is at 100 % before the test curve leaves 0. Curves that climb together are a split "
        "within each user's history: a user's future is held out, the world's is not.",
    }


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3_600)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.3g} {unit}"
    return f"{seconds:,.0f} seconds"


def _moment(seconds: float, calendar: bool) -> str:
    return (
        str(np.datetime64(int(seconds), "s").astype("datetime64[D]"))
        if calendar
        else f"{seconds:,.0f}"
    )
