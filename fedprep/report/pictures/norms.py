"""The picture of norms: how long the vectors of each modality are, before and after normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fedprep.report.pictures.canvas import BLUE, INK, ORANGE, WIDE, log_ticks, short
from fedprep.report.pictures.picture import Drawn, NothingToDraw
from fedprep.report.pictures.vectors import Vectors

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fedprep.report.pictures.view import View

__all__ = ["Norms", "draw", "measure"]

Numbers = npt.NDArray[np.float64]

NORM_BINS = 90


@dataclass(frozen=True, kw_only=True)
class ModalityNorms:
    """Norms of one modality. before: (min, median, max) as the manifest has them, NaN where it has none;
    before_rms: the root mean square norm, NaN likewise. counts: after, between the edges of all."""

    name: str
    method: str
    before: Numbers
    before_rms: float
    counts: npt.NDArray[np.int64]
    after: Numbers
    rms: float
    note: str


@dataclass(frozen=True, kw_only=True)
class Norms:
    """All modalities on one scale of norms."""

    edges: Numbers
    modalities: tuple[ModalityNorms, ...]


def measure(view: View) -> Norms:
    """Returns the norms of each modality that has vectors."""
    found = {name: view.vectors(name) for name in view.modalities}
    found = {name: vectors for name, vectors in found.items() if len(vectors.norms)}
    if not found:
        raise NothingToDraw("there are no embeddings")
    encoders = view.manifest.get("encoders") or {}
    before = {name: _before(encoders.get(name) or {}) for name in found}
    marks = [v.norms for v in found.values()] + [np.append(*pair) for pair in before.values()]
    every = np.concatenate(marks)
    every = every[np.isfinite(every) & (every > 0)]
    edges = np.geomspace(every.min() / 1.4, every.max() * 1.4, NORM_BINS + 1)
    return Norms(
        edges=edges,
        modalities=tuple(
            ModalityNorms(
                name=name,
                method=str((encoders.get(name) or {}).get("normalise", "")),
                before=before[name][0],
                before_rms=before[name][1],
                counts=np.histogram(vectors.norms, edges)[0].astype(np.int64),
                after=np.percentile(vectors.norms, [0, 50, 100]),
                rms=vectors.rms,
                note=_note(vectors),
            )
            for name, vectors in found.items()
        ),
    )


def _before(encoder: Mapping[str, Any]) -> tuple[Numbers, float]:
    """Returns (min, median, max) of the norms before normalisation, and their root mean square.

    Behaviour has mean and deviation of each dimension instead, from which the latter follows.
    """
    statistics = (encoder.get("statistics") or {}).get("before") or {}
    span = [statistics.get(f"norm_{key}", np.nan) for key in ("min", "median", "max")]
    if encoder.get("mean") and encoder.get("deviation"):
        squares = np.square(encoder["mean"]) + np.square(encoder["deviation"])
        return np.array(span, dtype=float), float(np.sqrt(squares.sum()))
    return np.array(span, dtype=float), float("nan")


def _note(vectors: Vectors) -> str:
    parts = (
        (vectors.n_missing, "missing"),
        (vectors.n_unusable, "with NaN or infinity"),
        (vectors.n_zero, "all zeros"),
    )
    notes = [f"{count:,} {what}" for count, what in parts if count]
    if vectors.n_read < vectors.n_rows:
        notes.append(f"{vectors.n_read:,} of {vectors.n_rows:,} read")
    return ", ".join(notes)


def draw(part: Norms) -> Drawn:
    """Draws each modality's norms after normalisation as a heap, those before as a bar below it."""
    from matplotlib.figure import Figure

    n = len(part.modalities)
    figure = Figure(figsize=(WIDE[0], 1.2 + 0.75 * n), layout="constrained")
    axes = figure.subplots()
    for place, one in enumerate(reversed(part.modalities)):
        heap = 0.6 * one.counts / max(int(one.counts.max()), 1)
        axes.stairs(place + heap, part.edges, baseline=place, fill=True, color=BLUE)
        _draw_before(axes, place - 0.14, one)
        axes.text(
            1.005, place + 0.1, f"rms of a value after: {one.rms:.3g}", fontsize=8.5,
            transform=axes.get_yaxis_transform(), va="center",
        )  # fmt: skip
    log_ticks(axes, "x", part.edges[0], part.edges[-1])
    axes.set_ylim(-0.4, n - 0.2)
    axes.set_yticks(np.arange(n), [_heading(one) for one in reversed(part.modalities)])
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("Euclidean norm of a vector (log)")
    figure.legend(handles=_norm_legend(), loc="outside upper center", ncols=4)
    values = [one.rms for one in part.modalities]
    ratio = f"; largest over smallest {max(values) / min(values):.3g}" if len(values) > 1 else ""
    sizes = " · ".join(f"{one.name} {one.rms:.3g}" for one in part.modalities)
    notes = "".join(f"; {one.name}: {one.note}" for one in part.modalities if one.note)
    return Drawn(
        figure=figure,
        alt=f"Norms of {', '.join(one.name for one in part.modalities)} before and after normalisation.",
        measured=f"root mean square of a value after normalisation: {sizes}{ratio}{notes}",
        look_for="Modalities that are concatenated should have values of a like size: if one heap lies far "
        "to the right of the others, it drowns them and can blow up gradients. The manifest keeps only the "
        "range of the norms before.",
    )


def _heading(one: ModalityNorms) -> str:
    return f"{short(one.name, 16)}\n{short(one.method, 16)}" if one.method else short(one.name, 16)


MEDIAN: dict[str, Any] = {"marker": "|", "ls": "", "color": INK, "ms": 11, "mew": 1.6}
RANGE: dict[str, Any] = {"color": ORANGE, "lw": 6, "solid_capstyle": "butt"}
RMS: dict[str, Any] = {"marker": "D", "ls": "", "color": ORANGE, "ms": 6, "mec": INK, "mew": 0.6}


def _draw_before(axes: Axes, height: float, one: ModalityNorms) -> None:
    low, median, high = one.before
    if np.isfinite(one.before).all() and low > 0:
        axes.plot([low / 1.01, high * 1.01], [height, height], **RANGE)
        axes.plot([median], [height], **MEDIAN)
    if np.isfinite(one.before_rms) and one.before_rms > 0:
        axes.plot([one.before_rms], [height], **RMS)


def _norm_legend() -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    return [
        Patch(color=BLUE, label="after: histogram"),
        Line2D([], [], **RANGE, label="before: smallest to largest"),
        Line2D([], [], **MEDIAN, label="before: median"),
        Line2D([], [], **RMS, label="before: root mean square"),
    ]
