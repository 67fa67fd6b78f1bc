"""Embeddings of items one by one and with each other: finite, as long as promised, not constant, different.

All but `embeddings_are_finite` leave out vectors with a NaN, an infinite value or a null inside; all but
`embeddings_have_norm` leave out zero vectors.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from fedprep.checks.check import Check, NotAsked
from fedprep.checks.limits import Limits
from fedprep.checks.modalities import MODALITY, each, item_rows, method_of
from fedprep.checks.neighbours import nearest_above
from fedprep.checks.tables import Tables

__all__ = ["CHECKS"]


def embeddings_are_finite(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Vectors with a NaN, an infinite value or a null inside; a vector that is null as a whole is none."""
    found = []
    for modality, vectors in each(tables):
        rows = vectors.bad["row"].to_numpy()
        first = vectors.bad.select("dimension", "value")
        found.append(item_rows(modality, vectors, rows).hstack(first))
    return pl.concat(found, how="vertical_relaxed").lazy()


def embeddings_have_norm(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Zero vectors, and those that are not as long as their normalisation promises.

    `l2` promises length 1. The others promise none to a single vector: it must not be `max_norm_ratio` times
    as long as the median.
    """
    found = []
    for modality, vectors in each(tables):
        norm = vectors.norm
        if method_of(tables, modality) == "l2":
            usual, off = 1.0, np.abs(norm - 1.0) > limits.max_norm_error
        else:
            usual = float(np.median(norm[norm > 0])) if (norm > 0).any() else 0.0
            off = norm > limits.max_norm_ratio * usual
        rows = np.flatnonzero((off | (norm == 0.0)) & vectors.finite)
        table = item_rows(modality, vectors, rows)
        found.append(table.with_columns(norm=pl.Series(norm[rows]), usual=pl.lit(usual)))
    return pl.concat(found, how="vertical_relaxed").lazy()


def embeddings_are_not_constant(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Vectors that have one value in all dimensions; not zero vectors, nor those of one dimension."""
    found = []
    for modality, vectors in each(tables):
        rows = np.flatnonzero(vectors.constant)
        value = pl.Series(vectors.norm[rows] / np.sqrt(vectors.dim))
        found.append(item_rows(modality, vectors, rows).with_columns(magnitude=value))
    return pl.concat(found, how="vertical_relaxed").lazy()


def embeddings_are_distinct(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Vectors with the bytes of another one of their modality. Zeros and what is not finite are left out."""
    found = []
    for modality, vectors in each(tables):
        rows = np.flatnonzero(vectors.finite & (vectors.norm > 0))
        prints = pl.DataFrame({"row": rows, "print": vectors.fingerprint[rows]})
        equal = prints.filter(pl.col("print").is_duplicated())
        if equal.height <= limits.max_duplicate_share * max(vectors.n_present, 1):
            equal = equal.clear()
        first, second = (pl.col("row").get(place).over("print") for place in (0, 1))
        other = equal.select(pl.when(first == pl.col("row")).then(second).otherwise(first))
        ids = vectors.ids.gather(other.to_series()).alias("equal_to")
        found.append(item_rows(modality, vectors, equal["row"].to_numpy()).with_columns(ids))
    return pl.concat(found, how="vertical_relaxed").lazy()


def near_duplicates(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Vectors whose cosine with another one is beyond the limit. Of vectors of equal bytes one stands for
    all: they are another check's."""
    rows_of = {}
    for modality, vectors in each(tables):
        rows = np.flatnonzero(vectors.finite & (vectors.norm > 0))
        _, once = np.unique(vectors.fingerprint[rows], return_index=True)
        rows_of[modality] = rows[np.sort(once)]
        if len(once) > limits.max_compared_items:
            raise NotAsked(
                f"{len(once):,} vectors of {modality} are more than max_compared_items = "
                f"{limits.max_compared_items:,}: they are not compared each with each"
            )
    found = []
    for modality, vectors in each(tables):
        near, other, cosine = nearest_above(
            tables.embeddings[modality], vectors, rows_of[modality], limits.max_cosine
        )
        ids = vectors.ids.gather(other).alias("near_to")
        table = item_rows(modality, vectors, near)
        found.append(table.with_columns(ids, cosine=pl.Series(cosine, dtype=pl.Float64)))
    return pl.concat(found, how="vertical_relaxed").lazy()


def dimensions_are_alive(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Dimensions that have the same value in every finite vector of their modality."""
    found = []
    for modality, vectors in each(tables):
        dead = np.flatnonzero(~vectors.alive if len(vectors.norms) > 1 else [])
        if len(dead) <= limits.max_dead_share * vectors.dim:
            dead = dead[:0]
        table = pl.DataFrame({"dimension": dead, "value": vectors.low[dead]})
        found.append(table.select(pl.lit(modality).alias(MODALITY), "dimension", "value"))
    return pl.concat(found).lazy()


CHECKS = (
    Check(
        name="embeddings_are_finite",
        group="embeddings",
        unit="embeddings",
        of="embeddings",
        function=embeddings_are_finite,
        needs=("embeddings",),
        means="Embeddings have a NaN, an infinite value or a null inside: one of them makes a loss NaN.",
        todo="Embed these items again, or give them a null embedding.",
    ),
    Check(
        name="embeddings_have_norm",
        group="embeddings",
        unit="embeddings",
        of="embeddings",
        function=embeddings_have_norm,
        needs=("embeddings",),
        limits=("max_norm_error", "max_norm_ratio"),
        means="Embeddings are zero, or not as long as their normalisation promises.",
        todo="Normalise again; an item without an embedding has a null.",
    ),
    Check(
        name="embeddings_are_not_constant",
        group="embeddings",
        unit="embeddings",
        of="embeddings",
        function=embeddings_are_not_constant,
        needs=("embeddings",),
        means="Embeddings have one value in all dimensions: they say nothing of their items.",
        todo="Look at the texts or pictures of these items, and at the encoder.",
    ),
    Check(
        name="embeddings_are_distinct",
        group="embeddings",
        unit="embeddings",
        of="embeddings",
        function=embeddings_are_distinct,
        needs=("embeddings",),
        severity="warn",
        limits=("max_duplicate_share",),
        means="Items have the very embedding of another one: by content they cannot be told apart.",
        todo="Put more into embed.text.template, or look for items that are there twice.",
    ),
    Check(
        name="near_duplicates",
        group="embeddings",
        unit="embeddings",
        of="embeddings",
        function=near_duplicates,
        needs=("embeddings",),
        severity="warn",
        limits=("max_cosine", "max_compared_items"),
        means="Items have nearly the embedding of another one: the same item may be there under two ids.",
        todo="Compare the pairs, and merge the items that are one.",
    ),
    Check(
        name="dimensions_are_alive",
        group="embeddings",
        unit="dimensions",
        of="dimensions",
        function=dimensions_are_alive,
        needs=("embeddings",),
        severity="warn",
        limits=("max_dead_share",),
        means="Dimensions have the same value for every item: they only take room.",
        todo="Choose normalise = whiten with whiten_dim, or another encoder.",
    ),
)  # fmt: skip
"""In order of running: finite, scale, references, and geometry."""
