"""The pictures of a report, drawn as SVG from an assessment's dict alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from fedeval.report.pictures import coverage, curves, differences, learning, slices, spread
from fedeval.report.pictures.canvas import Drawn, NothingToDraw, Picture, drawing, svg

__all__ = ["PICTURES", "draw"]

log = logging.getLogger(__name__)

PICTURES: dict[str, tuple[Callable[[Mapping[str, Any]], Drawn], bool]] = {
    "curves": (curves.draw, False),
    "differences": (differences.draw, False),
    "coverage": (coverage.draw, False),
    "clients": (spread.draw, False),
    "slices": (slices.draw, True),
    "learning": (learning.draw, True),
}
"""The pictures in their order: what draws one, and whether it needs the whole width of a page."""


def draw(assessment: Mapping[str, Any]) -> dict[str, Picture]:
    """Returns the pictures, the same bytes for the same numbers; one that has no data has a reason."""
    pictures = {}
    with drawing():
        for name, (function, wide) in PICTURES.items():
            pictures[name] = _picture(name, function, wide, assessment)
    return pictures


def _picture(
    name: str,
    function: Callable[[Mapping[str, Any]], Drawn],
    wide: bool,
    assessment: Mapping[str, Any],
) -> Picture:
    try:
        drawn = function(assessment)
        image = svg(drawn.figure)
    except NothingToDraw as reason:
        return Picture(name=name, title=name.capitalize(), reason=str(reason), wide=wide)
    return Picture(
        name=name, title=drawn.title, image=image, alt=drawn.alt, look_for=drawn.look_for, wide=wide
    )
