"""The picture of components: item embeddings in their two main dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fedprep.report.pictures.canvas import BLUE, MARKERS, PALETTE, WIDE, short
from fedprep.report.pictures.picture import Drawn, NothingToDraw
from fedprep.schema import ITEM_ID

if TYPE_CHECKING:
    from fedprep.report.pictures.view import View

__all__ = ["Components", "draw", "measure"]

Numbers = npt.NDArray[np.float64]

NAMED = 6


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """A sample of one modality in its two main components: points (n, 2), colour (n,): number of the
    category, or `len(categories)` for any other. explained: share of the variance of each component."""

    modality: str
    points: npt.NDArray[np.float32]
    colour: npt.NDArray[np.int64]
    explained: Numbers
    n_usable: int


@dataclass(frozen=True, kw_only=True)
class Components:
    categories: tuple[str, ...]
    clouds: tuple[Cloud, ...]


def measure(view: View) -> Components:
    """Returns a sample of the items' embeddings in two dimensions, with the category of each."""
    try:
        names = view.categories.names[:NAMED]
    except NothingToDraw:
        names = ()
    clouds = []
    for modality in view.dataset.modalities[::-1]:
        vectors = view.vectors(modality)
        if len(vectors.sample) >= 3:
            points, explained = _two_components(vectors.sample)
            colour = _category_of(view, vectors.ids, names)
            clouds.append(
                Cloud(
                    modality=modality, points=points, colour=colour, explained=explained,
                    n_usable=len(vectors.norms),
                )
            )  # fmt: skip
    if not clouds:
        raise NothingToDraw("fewer than three items have an embedding")
    return Components(categories=names, clouds=tuple(clouds))


def _two_components(
    sample: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float32], Numbers]:
    """Returns the first two principal components (n, 2) and their shares of the variance, by SVD.

    The sign of a component is free: the largest loading is made positive.
    """
    centred = sample - sample.mean(axis=0)
    left, sizes, right = np.linalg.svd(centred, full_matrices=False)
    sign = np.sign(right[np.arange(2), np.abs(right[:2]).argmax(axis=1)])
    total = float((sizes.astype(np.float64) ** 2).sum())
    explained = sizes[:2].astype(np.float64) ** 2 / total if total else np.zeros(2)
    return (left[:, :2] * sizes[:2] * sign).astype(np.float32), explained


def _category_of(
    view: View, ids: npt.NDArray[np.int64], names: tuple[str, ...]
) -> npt.NDArray[np.int64]:
    """Returns the number of each item's commonest category among `names`, `len(names)` if it has none."""
    colour = np.full(len(ids), len(names))
    if not names:
        return colour
    rank = pl.col("category").replace_strict(list(names), list(range(len(names))), default=None)
    first = (
        view.mentions.filter(pl.col(ITEM_ID).is_in(ids.tolist()))
        .select(ITEM_ID, rank=rank.cast(pl.Int64))
        .drop_nulls()
        .group_by(ITEM_ID)
        .agg(pl.col("rank").min())
        .collect(engine="streaming")
    )
    places = np.searchsorted(ids, first[ITEM_ID].to_numpy())
    colour[places] = first["rank"].to_numpy()
    return colour


def draw(part: Components) -> Drawn:
    """Draws a cloud for each modality; colour and shape tell the category."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDE[0], 4.4), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(part.clouds)))
    n_named = len(part.categories)
    for axes, cloud in zip(panels, part.clouds, strict=True):
        for number in (n_named, *range(n_named)):
            chosen = cloud.points[cloud.colour == number]
            style = (
                {"color": PALETTE[number], "marker": MARKERS[number]}
                if number < n_named
                else {"color": BLUE if not n_named else "#b9bec4", "marker": "o"}
            )
            axes.scatter(*chosen.T, s=13, linewidths=0, alpha=0.75, rasterized=True, **style)
        axes.set_title(f"{cloud.modality}: {len(cloud.points):,} of {cloud.n_usable:,} items")
        axes.set_xlabel(f"component 1 ({100 * cloud.explained[0]:.2g} % of the variance)")
        axes.set_ylabel(f"component 2 ({100 * cloud.explained[1]:.2g} %)")
        axes.set_aspect("equal", "datalim")
    if n_named:
        _legend(figure, part.categories)
    spans = "; ".join(
        f"{cloud.modality}: {len(cloud.points):,} of {cloud.n_usable:,} items, two components hold "
        f"{100 * cloud.explained.sum():.2g} % of the variance"
        for cloud in part.clouds
    )
    return Drawn(
        figure=figure,
        alt=f"Scatter of item embeddings in two principal components. {spans}.",
        measured=spans,
        look_for="Items of one category should lie together: then the embedding knows something that the "
        "ids do not. One blob without order, a line, or a few far-off points ask for a look at the texts or "
        "pictures. An item is coloured by the commonest of its categories"
        + ("." if n_named else "; here none tells items apart."),
    )


def _legend(figure: Any, categories: tuple[str, ...]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], ls="", color=PALETTE[i], marker=MARKERS[i], ms=6, label=short(name))
        for i, name in enumerate(categories)
    ]
    handles.append(Line2D([], [], ls="", color="#b9bec4", marker="o", ms=6, label="any other"))
    figure.legend(handles=handles, loc="outside right upper", title="commonest category")
