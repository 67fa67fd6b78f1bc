"""The synthetic source: raw files made up, then read by the reader of their family."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fedprep import recipe
from fedprep.schema import Progress, RawFile, RawTables
from fedprep.sources.amazon import AMAZON
from fedprep.sources.kind import SourceKind, Terms
from fedprep.sources.movielens import MOVIELENS
from fedprep.sources.synthetic import DEFAULTS, write_raw
from fedprep.sources.synthetic.faults import chosen_faults
from fedprep.sources.synthetic.laws import law_of
from fedprep.sources.yelp import YELP

__all__ = ["FAMILIES", "SYNTHETIC"]

FAMILIES = {"movielens": MOVIELENS, "amazon": AMAZON, "yelp": YELP}
"""Whose raw files can be made up."""


def files(options: recipe.Source) -> tuple[RawFile, ...]:
    """Returns nothing to fetch.

    Raises:
        RecipeError: no such edition or fault.
    """
    family, edition = _family(options)
    law_of(family, edition)
    chosen_faults(options.synthetic.faults, family, edition)
    return ()


def read(
    paths: Mapping[str, Path], options: recipe.Source, work: Path, progress: Progress
) -> RawTables:
    """Returns the tables of made-up raw files.

    Args:
        paths: of raw files that `write_raw` has written; empty: they are written into `work`, seed 0.

    Raises:
        RecipeError: no such edition or fault, or a size that cannot be.
        SourceError: a planted fault that the family's reader refuses.
    """
    family, edition = _family(options)
    category = options.category or DEFAULTS[family][1]
    paths = paths or write_raw(
        work / "synthetic",
        family=family,
        edition=edition,
        category=category,
        size=options.synthetic,
        seed=0,
        progress=progress,
    )
    # Bad lines that were asked for stop nothing.
    share = 1.0 if options.synthetic.faults else options.max_bad_share
    chosen = {"name": family, "edition": edition, "category": category, "markup": options.markup}
    official = recipe.Source(**chosen, max_bad_share=share, items=options.items)  # type: ignore[arg-type]
    return FAMILIES[family].read(paths, official, work, progress)


def terms(options: recipe.Source) -> Terms:
    """Returns that anyone may do anything with it."""
    return Terms(
        licence="CC0-1.0",
        licence_text="Made up by fedprep: no person, product, film or place in it is real.",
        citation="",
        homepage="",
        redistribution=True,
    )


def expected(options: recipe.Source) -> dict[str, int]:
    """Returns the counts that were asked for; nothing where faults change them."""
    size = options.synthetic
    if size.faults:
        return {}
    return {"interactions": size.n_interactions, "users": size.n_users, "items": size.n_items}


def _family(options: recipe.Source) -> tuple[str, str]:
    family = options.synthetic.family
    return family, options.edition or DEFAULTS[family][0]


SYNTHETIC = SourceKind(
    summary="made-up raw files of movielens, amazon or yelp, with planted truth and faults",
    files=files,
    read=read,
    terms=terms,
    expected=expected,
)
