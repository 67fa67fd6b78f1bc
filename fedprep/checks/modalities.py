"""Modalities: which there are, how they were normalised, and whether theirs are the items that there are."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from fedprep.checks.check import Check
from fedprep.checks.limits import Limits
from fedprep.checks.tables import Tables
from fedprep.checks.vectors import Vectors
from fedprep.schema import ITEM_ID

__all__ = ["CHECKS", "MODALITY", "each", "item_rows", "method_of"]

MODALITY = "modality"


def each(tables: Tables) -> list[tuple[str, Vectors]]:
    """Returns the modalities in order of the alphabet, with what is known of their vectors."""
    return [(modality, tables.vectors(modality)) for modality in sorted(tables.embeddings)]


def item_rows(modality: str, vectors: Vectors, rows: Any) -> pl.DataFrame:
    """Returns `modality` and `item_id` of some rows of a modality's table."""
    ids = vectors.ids.gather(rows).alias(ITEM_ID).to_frame()
    return ids.select(pl.lit(modality).alias(MODALITY), ITEM_ID)


def method_of(tables: Tables, modality: str) -> str:
    """Returns how a modality was normalised, empty where nothing says so."""
    encoders = (tables.manifest or {}).get("encoders", {})
    return str(encoders.get(modality, {}).get("normalise", ""))


def missing_modalities_are_null(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Items with zeros in place of null, with an embedding of a text that they do not have, or with a text
    and no embedding where the manifest counts fewer such items."""
    found = []
    for modality, vectors in each(tables):
        rows = np.flatnonzero(vectors.norm == 0.0)
        zeros = item_rows(modality, vectors, rows).with_columns(found=pl.lit("zeros"))
        found.append(zeros)
        if modality == "text" and tables.items is not None and "text" in tables.columns("items"):
            found.append(_without_or_with_text(tables, vectors))
    return pl.concat(found, how="vertical_relaxed").lazy()


def _without_or_with_text(tables: Tables, vectors: Vectors) -> pl.DataFrame:
    assert tables.items is not None
    has_text = (pl.col("text").str.strip_chars().str.len_bytes() > 0).fill_null(False)
    texts = tables.items.select(ITEM_ID, has_text=has_text).unique(ITEM_ID, keep="first").collect()
    rows = pl.DataFrame(
        {ITEM_ID: vectors.ids, "there": vectors.present, "zero": vectors.norm == 0.0}
    )
    there, has = pl.col("there"), pl.col("has_text")
    n_missing = (tables.manifest or {}).get("encoders", {}).get("text", {}).get("n_missing")
    too_few = n_missing is not None and int((~vectors.present).sum()) > n_missing
    says = pl.coalesce(
        pl.when(there & ~has & ~pl.col("zero")).then(pl.lit("an embedding, but no text")),
        pl.when(~there & has & too_few).then(pl.lit("a text, but no embedding")),
    )
    return (
        rows.join(texts, on=ITEM_ID, how="left", maintain_order="left")
        .select(pl.lit("text").alias(MODALITY), ITEM_ID, says.alias("found"))
        .drop_nulls("found")
    )


def embeddings_match_items(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Items that have no row, or several, in the table of a modality, and rows of items that there are not.

    Without a manifest a missing row is a missing embedding, and all right.
    """
    assert tables.items is not None
    items = tables.items.select(pl.col(ITEM_ID).drop_nulls().unique()).collect()
    found = []
    for modality, vectors in each(tables):
        rows = vectors.ids.alias(ITEM_ID).to_frame().group_by(ITEM_ID).len("rows")
        known = rows.join(items, on=ITEM_ID, how="semi")
        wrong = [rows.join(items, on=ITEM_ID, how="anti"), known.filter(pl.col("rows") > 1)]
        if tables.manifest is not None:
            absent = items.join(rows, on=ITEM_ID, how="anti")
            wrong.append(absent.with_columns(rows=pl.lit(0, pl.get_index_type())))
        table = pl.concat(wrong, how="vertical_relaxed").sort(ITEM_ID, nulls_last=True)
        found.append(table.select(pl.lit(modality).alias(MODALITY), ITEM_ID, "rows"))
    return pl.concat(found, how="vertical_relaxed").lazy()


CHECKS = (
    Check(
        name="embeddings_match_items",
        group="embeddings",
        unit="items",
        of="table of items",
        function=embeddings_match_items,
        needs=("embeddings", "items"),
        means="Embeddings and items are not the same items: vectors would be given to the wrong ones.",
        todo="Write one row of embeddings for each item, null where it has none.",
    ),
    Check(
        name="missing_modalities_are_null",
        group="embeddings",
        unit="embeddings",
        of="embeddings",
        function=missing_modalities_are_null,
        needs=("embeddings",),
        means="Items that lack a text or picture have an embedding all the same, or the other way round.",
        todo="Write null where there is nothing: a model must be able to tell it from a vector.",
    ),
)
