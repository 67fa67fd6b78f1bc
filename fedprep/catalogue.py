"""What there is to choose from: names with one line each, read from the visible dictionaries."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from fedprep.embed import ENCODERS
from fedprep.export import EXPORTS
from fedprep.partition import PARTITIONS
from fedprep.recipe import load_recipe, recipe_names
from fedprep.sources import SOURCES
from fedprep.sources.synthetic import FAULTS

__all__ = ["CATALOGUES", "catalogue"]


def catalogue(name: str) -> dict[str, str]:
    """Returns name and one line of each thing of a kind (a key of `CATALOGUES`)."""
    return CATALOGUES[name]()


def _recipes() -> dict[str, str]:
    return {name: load_recipe(name).description for name in recipe_names()}


def _sources() -> dict[str, str]:
    return {name: source.summary for name, source in SOURCES.items()}


def _first_lines(things: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: (inspect.getdoc(thing) or "").partition("\n")[0] for name, thing in things.items()
    }


CATALOGUES: dict[str, Callable[[], dict[str, str]]] = {
    "recipes": _recipes,
    "sources": _sources,
    "partitions": lambda: _first_lines(PARTITIONS),
    "encoders": lambda: dict(ENCODERS),
    "exports": lambda: _first_lines(EXPORTS),
    "faults": lambda: {name: fault.doc for name, fault in FAULTS.items()},
}
