"""What a source is: four functions and one line of words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fedprep import recipe
from fedprep.schema import Progress, RawFile, RawTables

__all__ = ["SourceKind", "Terms"]


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Under which terms the raw data may be used, and what to cite."""

    licence: str  # a name: "GroupLens research terms", "none stated"
    licence_text: str  # the words that matter, as their owner wrote them
    citation: str
    homepage: str
    redistribution: bool  # whether the owner allows passing it on


@dataclass(frozen=True, kw_only=True)
class SourceKind:
    """A family of raw data.

    Attributes:
        summary: one line for `fedprep list`.
        files: the raw files that a recipe's `[source]` needs. Raises RecipeError for an edition or a
            category that does not exist, with the nearest names.
        read: role → path (a file, or the folder of an unpacked archive), the recipe's `[source]`, a
            folder to stage in, progress → the tables. Raises SourceError.
        terms: licence and citation.
        expected: counts that the complete raw files have, such as `{"interactions": 1000209}`; empty
            where none is published or confirmed.
    """

    summary: str
    files: Callable[[recipe.Source], tuple[RawFile, ...]]
    read: Callable[[Mapping[str, Path], recipe.Source, Path, Progress], RawTables]
    terms: Callable[[recipe.Source], Terms]
    expected: Callable[[recipe.Source], dict[str, int]]
