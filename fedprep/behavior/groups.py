"""The groups of items that users may like more than others do: large categories, then frequent items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fedprep.behavior.rows import Block, Outline
from fedprep.schema import ITEM_ID, SOURCE_ID

__all__ = ["Groups", "groups_of"]


@dataclass(frozen=True, kw_only=True)
class Groups:
    """Which items are in which groups.

    names: of the groups. n_rows: float64 (n_groups,), train rows of each.
    sizes: int64 (n_items,), groups of each item; their numbers, item after item, are `group_of`.
    """

    names: list[str]
    n_rows: NDArray[np.float64]
    sizes: NDArray[np.int64]
    group_of: NDArray[np.int64]

    def pairs(self, block: Block) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Returns the user and the group of each row and group of its item."""
        start = np.cumsum(self.sizes) - self.sizes
        size = self.sizes[block.item]
        # Row r repeats once for each group of its item; `within` counts 0, 1, … inside a row.
        within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
        return (
            np.repeat(block.user, size),
            self.group_of[np.repeat(start[block.item], size) + within],
        )


def groups_of(outline: Outline, items: pl.DataFrame, places: int) -> Groups:
    """Returns at most so many groups: the categories with the most train rows, then the items.

    Categories or items that hold all rows, or none, say nothing of a user and are left out.
    """
    item_rows = pl.Series("n_rows", outline.item_rows.astype(np.int64))
    rows_of = item_rows.gather(items[ITEM_ID])
    by_category = (
        items.select(ITEM_ID, rows_of, name="categories")
        .explode("name", empty_as_null=True)
        .drop_nulls("name")
        .unique()
    )
    largest = by_category.group_by("name").agg(pl.col("n_rows").sum())
    categories = _largest(largest, outline.n_rows, places)
    by_item = items.select(ITEM_ID, rows_of, name=pl.col(SOURCE_ID))
    favourites = _largest(by_item, outline.n_rows, places - categories.height)
    membership = pl.concat(
        [
            by_category.join(categories.select("name", "group"), on="name").select(
                ITEM_ID, "group"
            ),
            favourites.select(ITEM_ID, pl.col("group") + categories.height),
        ]
    ).sort(ITEM_ID, "group")
    names = [f"category:{name}" for name in categories["name"]]
    names += [f"item:{name}" for name in favourites["name"]]
    n_rows = pl.concat([categories["n_rows"], favourites["n_rows"]])
    return Groups(
        names=names,
        n_rows=n_rows.cast(pl.Float64).to_numpy(),
        sizes=np.bincount(membership[ITEM_ID].to_numpy(), minlength=len(outline.item_rows)),
        group_of=membership["group"].to_numpy(),
    )


def _largest(candidates: pl.DataFrame, n_rows: int, places: int) -> pl.DataFrame:
    """Returns the candidates with the most rows, by name where equal, numbered in `group`."""
    return (
        candidates.filter(pl.col("n_rows").is_between(0, n_rows, closed="none"))
        .sort("n_rows", "name", descending=[True, False])
        .head(max(places, 0))
        .with_row_index("group")
        .with_columns(pl.col("group").cast(pl.Int64))
    )
