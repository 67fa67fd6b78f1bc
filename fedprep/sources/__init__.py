"""Sources: official raw files in, raw tables out, with every dropped line counted and named.

A source is one module and one line in `SOURCES`.
"""

from __future__ import annotations

from fedprep.sources.amazon import AMAZON
from fedprep.sources.items import join_items
from fedprep.sources.kind import SourceKind, Terms
from fedprep.sources.movielens import MOVIELENS
from fedprep.sources.synthetic.source import SYNTHETIC
from fedprep.sources.table import TABLE
from fedprep.sources.yelp import YELP

__all__ = ["SOURCES", "SourceKind", "Terms", "join_items"]

SOURCES: dict[str, SourceKind] = {
    "movielens": MOVIELENS,
    "amazon": AMAZON,
    "yelp": YELP,
    "table": TABLE,
    "synthetic": SYNTHETIC,
}
