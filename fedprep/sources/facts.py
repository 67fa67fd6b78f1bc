"""What `facts.toml` knows of the raw data, read when it is first asked for."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fedprep.errors import RecipeError, nearest
from fedprep.sources.kind import Terms

__all__ = ["chosen", "facts", "terms_of"]


@cache
def facts(source: str) -> Mapping[str, Any]:
    """Returns the table of a source: `"movielens"`, `"amazon"`, `"yelp"`."""
    text = Path(__file__).with_name("facts.toml").read_text(encoding="utf-8")
    table: Mapping[str, Any] = tomllib.loads(text)[source]
    return table


def terms_of(table: Mapping[str, Any]) -> Terms:
    """Returns the terms that a table of `facts.toml` states."""
    return Terms(
        licence=table["licence"],
        licence_text=table["licence_text"],
        citation=table["citation"],
        homepage=table["homepage"],
        redistribution=table["redistribution"],
    )


def chosen(key: str, value: str, known: Iterable[str]) -> str:
    """Returns `value` where it is one of the known ones.

    Raises:
        RecipeError: it is not; the nearest known one is named, or all of them where it is empty.
    """
    options = list(known)
    if value in options:
        return value
    if not value:
        raise RecipeError(
            f"the recipe names no {key}", where=f"source.{key}", expected=" | ".join(options)
        )
    raise RecipeError(
        f"no {key} is called '{value}'", where=f"source.{key}", hint=nearest(value, options)
    )
