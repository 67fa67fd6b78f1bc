"""Pictures of a Dataset: `aggregates` reduces it to bounded numbers, `draw` makes SVG of these."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fedprep.dataset import Dataset
from fedprep.report.pictures import (
    categories,
    classes,
    components,
    drift,
    norms,
    popularity,
    ratings,
    sizes,
    times,
)
from fedprep.report.pictures.canvas import drawing, svg
from fedprep.report.pictures.picture import Drawn, NothingToDraw, Picture
from fedprep.report.pictures.view import View

__all__ = ["PICTURES", "Aggregates", "Kind", "Picture", "aggregates", "draw"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kind:
    """A kind of picture: `measure` reduces a Dataset to a few numbers, `draw` draws these.

    What `measure` returns is bounded, however large the Dataset is; it raises `NothingToDraw`.
    """

    title: str
    measure: Callable[[View], Any]
    draw: Callable[[Any], Drawn]
    wide: bool = field(default=False, kw_only=True)


PICTURES: dict[str, Kind] = {
    "ratings": Kind("Ratings", ratings.measure, ratings.draw),
    "rows_per_client": Kind("Rows per client", sizes.measure, sizes.draw),
    "classes_per_client": Kind("Classes at each client", classes.measure, classes.draw, wide=True),
    "drift_per_client": Kind("Drift of clients", drift.measure, drift.draw, wide=True),
    "client_categories": Kind(
        "Clients and categories", categories.measure, categories.draw, wide=True
    ),
    "rows_over_time": Kind("Rows over time", times.measure, times.draw, wide=True),
    "popularity": Kind("Popularity of items", popularity.measure, popularity.draw, wide=True),
    "norms": Kind("Norms of embeddings", norms.measure, norms.draw, wide=True),
    "components": Kind(
        "Embeddings in two dimensions", components.measure, components.draw, wide=True
    ),
}
"""The pictures of a report, in their order."""


@dataclass(frozen=True, kw_only=True)
class Aggregates:
    """What the pictures of one Dataset show: the numbers of each, or the reason why it has none."""

    parts: Mapping[str, Any]
    reasons: Mapping[str, str]


def aggregates(dataset: Dataset) -> Aggregates:
    """Returns bounded numbers for each picture, whatever the size of the Dataset.

    Tables are streamed, embeddings read a row group at a time. A picture whose data are not there, or so
    broken that they cannot be read, has a reason in its place: the page of a broken Dataset is needed most.
    """
    view = View(dataset)
    parts: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for name, kind in PICTURES.items():
        try:
            parts[name] = kind.measure(view)
        except NothingToDraw as reason:
            reasons[name] = str(reason)
        except Exception as error:
            reasons[name] = _broken(name, error)
    return Aggregates(parts=parts, reasons=reasons)


def draw(found: Aggregates) -> dict[str, Picture]:
    """Returns the pictures in the order of the report, the same bytes for the same numbers."""
    pictures = {}
    with drawing():
        for name, kind in PICTURES.items():
            if name in found.parts:
                pictures[name] = _picture(name, kind, found.parts[name])
            elif name in found.reasons:
                pictures[name] = Picture(name=name, title=kind.title, reason=found.reasons[name])
    return pictures


def _picture(name: str, kind: Kind, part: Any) -> Picture:
    try:
        drawn = kind.draw(part)
        image = svg(drawn.figure)
    except Exception as error:
        return Picture(name=name, title=kind.title, reason=_broken(name, error))
    return Picture(
        name=name, title=kind.title, wide=kind.wide, image=image, alt=drawn.alt,
        measured=drawn.measured, look_for=drawn.look_for,
    )  # fmt: skip


def _broken(name: str, error: Exception) -> str:
    """Returns the reason that a reader sees; the log has the rest."""
    log.warning("the picture %s is left out", name, exc_info=error)
    first = str(error).partition("\n")[0]
    return f"the data cannot be drawn: {type(error).__name__}: {first}"
