"""Sources: official raw files in, raw tables out, with every dropped line counted and named.

A source is one module and one line in `SOURCES`.
"""

from __future__ import annotations

from fedprep.sources.amazon import AMAZON
from fedprep.sources.kind import SourceKind, Terms
from fedprep.sources.movielens import MOVIELENS

__all__ = ["SOURCES", "SourceKind", "Terms"]

SOURCES: dict[str, SourceKind] = {
    "movielens": MOVIELENS,
    "amazon": AMAZON,
}
