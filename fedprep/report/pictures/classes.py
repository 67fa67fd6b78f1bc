"""The picture of classes: how unequally the labels are shared out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fedprep.report.pictures.canvas import (
    WIDE,
    name_clients,
    ordered_colours,
    percent,
    plain_numbers,
)
from fedprep.report.pictures.picture import Drawn, NothingToDraw

if TYPE_CHECKING:
    from fedprep.report.pictures.view import View

__all__ = ["Classes", "draw", "measure"]

Numbers = npt.NDArray[np.float64]

COLUMNS = 200
MOST_CLASSES = 10


@dataclass(frozen=True, kw_only=True)
class Classes:
    """Shares of the classes, clients sorted by their mean class.

    names: of the classes (n_classes,), neighbours taken together beyond `MOST_CLASSES`. shares:
    (n_columns, n_classes), a client each or the mean of `per_column` neighbours. clients: their names, of
    few. whole: the shares of all rows.
    """

    names: tuple[str, ...]
    shares: Numbers
    clients: tuple[str, ...]
    per_column: float
    whole: Numbers
    n_clients: int
    n_one_class: int


def measure(view: View) -> Classes:
    """Returns how the classes are shared out at each client, in at most `COLUMNS` columns."""
    counts = np.asarray(view.index["label_counts"].to_numpy(), dtype=np.float64)
    there = np.flatnonzero(counts.sum(axis=1) > 0)
    counts = counts[there]
    if not len(counts):
        raise NothingToDraw("no client has a labelled row")
    if counts.shape[1] == 1:
        raise NothingToDraw("there is one class alone: every row is a positive one")
    n_one_class = int((np.count_nonzero(counts, axis=1) == 1).sum())
    names, counts = _few_classes(_class_names(view.manifest, counts.shape[1]), counts)
    shares = counts / counts.sum(axis=1, keepdims=True)
    mean = (shares @ np.arange(len(names))).round(9)
    order = np.argsort(
        mean, kind="stable"
    )  # equal ones stay mixed, so that a column shows their mean
    starts = np.unique(np.linspace(0, len(order), COLUMNS + 1).astype(int)[:-1])
    sizes = np.diff(starts, append=len(order))
    columns = np.add.reduceat(shares[order], starts, axis=0) / sizes[:, None]
    return Classes(
        names=names,
        shares=columns,
        clients=view.client_names(there[order]),
        per_column=len(order) / len(starts),
        whole=counts.sum(axis=0) / counts.sum(),
        n_clients=len(counts),
        n_one_class=n_one_class,
    )


def _class_names(manifest: dict[str, Any], n_classes: int) -> tuple[str, ...]:
    clean = (manifest.get("recipe") or {}).get("clean") or {}
    values = manifest.get("classes") or []
    if clean.get("label") == "binary" and n_classes == 2:
        edge = f"{clean['threshold']:g}"
        return (f"0 (rating below {edge})", f"1 (rating {edge} and above)")
    if clean.get("label") == "classes" and len(values) == n_classes:
        return tuple(f"{label} (rating {value:g})" for label, value in enumerate(values))
    return tuple(str(label) for label in range(n_classes))


def _few_classes(names: tuple[str, ...], counts: Numbers) -> tuple[tuple[str, ...], Numbers]:
    if len(names) <= MOST_CLASSES:
        return names, counts
    starts = np.unique(np.linspace(0, len(names), MOST_CLASSES + 1).astype(int)[:-1])
    lasts = np.append(starts[1:], len(names)) - 1
    joined = tuple(
        names[a] if a == b else f"{a} to {b}" for a, b in zip(starts, lasts, strict=True)
    )
    return joined, np.add.reduceat(counts, starts, axis=1)


def draw(part: Classes) -> Drawn:
    """Draws each client's classes as a stacked column, and those of all rows beside it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=WIDE, layout="constrained")
    axes, whole = figure.subplots(1, 2, width_ratios=(24, 1), sharey=True)
    edges = np.linspace(0, part.n_clients, len(part.shares) + 1)
    low, below = np.zeros(len(part.shares)), 0.0
    for name, share, total, colour in zip(
        part.names, part.shares.T, part.whole, ordered_colours(len(part.names)), strict=True
    ):
        axes.stairs(
            100 * (low + share), edges, baseline=100 * low, fill=True, color=colour, label=name
        )
        whole.bar(0, 100 * total, bottom=100 * below, color=colour, width=1)
        low, below = low + share, below + total
    axes.set_xlim(0, part.n_clients)
    axes.set_ylim(0, 100)
    axes.set_ylabel("% of the client's rows")
    each = (
        f"; a column is the mean of about {part.per_column:,.0f}" if part.per_column >= 1.5 else ""
    )
    axes.set_xlabel(f"clients, sorted by their mean class{each}")
    plain_numbers(axes.xaxis)
    name_clients(axes, np.arange(part.n_clients) + 0.5, part.clients)
    if part.clients:
        axes.vlines(edges[1:-1], 0, 100, color="white", lw=0.8)
    whole.set_xticks([0], ["all rows"])
    for panel in (axes, whole):
        panel.grid(visible=False)
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles[::-1], names[::-1], loc="outside right upper", title="class")
    shares = " · ".join(
        f"{name}: {100 * share:.3g} %" for name, share in zip(part.names, part.whole, strict=True)
    )
    return Drawn(
        figure=figure,
        alt=f"Shares of the classes at {part.n_clients:,} clients, sorted. All rows: {shares}.",
        measured=f"classes of all rows: {shares}; {part.n_one_class:,} of {part.n_clients:,} clients "
        f"({percent(part.n_one_class / part.n_clients)}) hold one class alone",
        look_for="Equal clients give level bands; the steeper the bands, the more unlike the clients' "
        "labels. A client of one class alone pulls a shared model towards that class.",
    )
