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

    What `measure` returns is bounded, however large the Dataset is; it raises `NothingToDraw`. `checks` are
    those that judge the same: a picture has no verdict of its own.
    """

    title: str
    measure: Callable[[View], Any]
    draw: Callable[[Any], Drawn]
    checks: tuple[str, ...]
    wide: bool = field(default=False, kw_only=True)


PICTURES: dict[str, Kind] = {
    "ratings": Kind(
        "Ratings", ratings.measure, ratings.draw, ("ratings_are_in_range", "ratings_are_finite")
    ),
    "rows_per_client": Kind(
        "Rows per client", sizes.measure, sizes.draw, ("clients_have_enough_rows", "sizes_are_bounded")
    ),
    "classes_per_client": Kind(
        "Classes at each client", classes.measure, classes.draw,
        ("classes_are_balanced", "classes_are_balanced_per_client"), wide=True,
    ),
    "drift_per_client": Kind(
        "Drift of clients", drift.measure, drift.draw,
        ("label_drift_is_bounded", "item_drift_is_bounded"), wide=True,
    ),
    "client_categories": Kind(
        "Clients and categories", categories.measure, categories.draw, ("item_drift_is_bounded",), wide=True
    ),
    "rows_over_time": Kind(
        "Rows over time", times.measure, times.draw,
        ("timestamps_are_plausible", "train_precedes_test", "train_precedes_test_globally"), wide=True,
    ),
    "popularity": Kind(
        "Popularity of items", popularity.measure, popularity.draw,
        ("sparsity_is_workable", "test_items_are_known"), wide=True,
    ),
    "norms": Kind(
        "Norms of embeddings", norms.measure, norms.draw,
        ("embeddings_have_norm", "modalities_share_a_scale", "scale_matches_manifest"), wide=True,
    ),
    "components": Kind(
        "Embeddings in two dimensions", components.measure, components.draw,
        ("embeddings_are_distinct", "dimensions_are_alive", "near_duplicates"), wide=True,
    ),
}  # fmt: skip
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
        measured=drawn.measured, look_for=drawn.look_for, checks=kind.checks,
    )  # fmt: skip


def _broken(name: str, error: Exception) -> str:
    """Returns the reason that a reader sees; the log has the rest."""
    log.warning("the picture %s is left out", name, exc_info=error)
    first = str(error).partition("\n")[0]
    return f"the data cannot be drawn: {type(error).__name__}: {first}"
