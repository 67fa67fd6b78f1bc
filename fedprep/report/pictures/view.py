"""What several pictures look at, read from a Dataset once."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fedprep.dataset import Dataset
from fedprep.report.pictures.picture import NothingToDraw
from fedprep.report.pictures.vectors import Vectors, read_vectors
from fedprep.schema import ITEM_ID, USER_ID

__all__ = ["NAMED_CLIENTS", "Categories", "View"]

NAMED_CLIENTS = 30
MOST_CATEGORIES = 14
COMMON_TO_ALL = 0.9
"""A category that more of the items have tells none of them from another."""

RAREST = 0.005
"""A category is named from this share of the rows on."""


@dataclass(frozen=True, kw_only=True)
class Categories:
    """The categories that are named, the one with most rows first, and how many rows each has.

    n_rows: rows whose item has a category at all.
    common: those left aside because nearly every item has them. n_all: how many there are in all.
    """

    names: tuple[str, ...]
    rows: npt.NDArray[np.int64]
    n_rows: int
    common: tuple[str, ...]
    n_all: int


class View:
    """A Dataset, and what several pictures need of it."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.manifest: dict[str, Any] = dataset.manifest
        self._vectors: dict[str, Vectors] = {}

    @functools.cached_property
    def rows(self) -> pl.LazyFrame:
        return self.dataset.interactions()

    @functools.cached_property
    def index(self) -> pl.DataFrame:
        return self.dataset.index

    @functools.cached_property
    def item_rows(self) -> npt.NDArray[np.int64]:
        """int64 (n_items,): the rows of each item; rows of items that are not in the table are left out."""
        n_items = int(self.dataset.items().select(pl.len()).collect().item())
        counts = (
            self.rows.filter(pl.col(ITEM_ID).is_between(0, n_items - 1))
            .group_by(ITEM_ID)
            .len()
            .collect(engine="streaming")
        )
        totals = np.zeros(n_items, dtype=np.int64)
        totals[counts[ITEM_ID].to_numpy()] = counts["len"].to_numpy()
        return totals

    @functools.cached_property
    def n_rows(self) -> int:
        return int(self.rows.select(pl.len()).collect(engine="streaming").item())

    def client_names(self, clients: npt.NDArray[np.int64]) -> tuple[str, ...]:
        """Returns what clients are called, by their column's value or their number; of many, nothing."""
        if len(clients) > NAMED_CLIENTS:
            return ()
        names = (self.manifest.get("partition") or {}).get("names")
        if not names:
            return tuple(str(client) for client in clients.tolist())
        known = (names[client] if client < len(names) else client for client in clients.tolist())
        return tuple("(none)" if name is None else str(name) for name in known)

    @functools.cached_property
    def mentions(self) -> pl.LazyFrame:
        """`item_id`, `category`: a row for each category of each item."""
        items = self.dataset.items()
        if not isinstance(items.collect_schema().get("categories"), pl.List):
            raise NothingToDraw("the items have no categories")
        return (
            items.select(ITEM_ID, category=pl.col("categories").list.unique())
            .explode("category")
            .drop_nulls()
        )

    @functools.cached_property
    def items_with_category(self) -> npt.NDArray[np.int64]:
        """int64 (n,), the items that have at least one, in order."""
        known = self.mentions.select(pl.col(ITEM_ID).cast(pl.Int64).unique().sort())
        items: npt.NDArray[np.int64] = known.collect(engine="streaming")[ITEM_ID].to_numpy()
        return items[(items >= 0) & (items < len(self.item_rows))]

    @functools.cached_property
    def categories(self) -> Categories:
        """The categories worth naming.

        Raises:
            NothingToDraw: no item has one, or all items have the same.
        """
        rows = pl.LazyFrame({ITEM_ID: np.arange(len(self.item_rows)), "rows": self.item_rows})
        totals = (
            self.mentions.with_columns(pl.col(ITEM_ID).cast(pl.Int64))
            .join(rows, on=ITEM_ID)
            .group_by("category")
            .agg(pl.col("rows").sum(), pl.len().alias("items"))
            .sort(["rows", "category"], descending=[True, False])
            .collect(engine="streaming")
        )
        if totals.is_empty():
            raise NothingToDraw("no item has a category")
        with_one = self.items_with_category
        n_rows = int(self.item_rows[with_one].sum())
        common = totals["items"] > COMMON_TO_ALL * len(with_one)
        aside = tuple(totals.filter(common)["category"].head(3))
        named = totals.filter(~common & (pl.col("rows") >= RAREST * n_rows))
        named = named.head(MOST_CATEGORIES)
        if named.is_empty() and aside:
            raise NothingToDraw(f"nearly every item has one category, '{aside[0]}', and no other")
        if named.is_empty():
            raise NothingToDraw(
                f"none of the {totals.height:,} categories has {RAREST:.1%} of the rows"
            )
        return Categories(
            names=tuple(named["category"]),
            rows=named["rows"].to_numpy().astype(np.int64),
            n_rows=n_rows,
            common=aside,
            n_all=totals.height,
        )

    @functools.cached_property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that have vectors: of items, and `behavior` of users."""
        columns = self.dataset.users().collect_schema().names()
        return (*self.dataset.modalities[::-1], *(["behavior"] if "behavior" in columns else []))

    def vectors(self, modality: str) -> Vectors:
        """Returns norms and a sample of the vectors of a modality, read once."""
        folder = self.dataset.path
        if modality not in self._vectors:
            place = (folder / "embeddings" / f"{modality}.parquet", ITEM_ID, "embedding")
            if modality == "behavior":
                place = (folder / "users.parquet", USER_ID, "behavior")
            self._vectors[modality] = read_vectors(*place)
        return self._vectors[modality]
