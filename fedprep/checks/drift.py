"""How far the rows of each client are from those of all clients."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from fedprep.checks.rows import Rows
from fedprep.checks.totals import Totals
from fedprep.schema import CLIENT_ID, ITEM_ID

__all__ = ["category_drift", "divergence", "gini"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CELLS = 4_000_000
"""Pairs of client and category that are counted at a time."""


def divergence(counts: Ints, whole: Ints) -> Floats:
    """Returns the Jensen–Shannon divergence of each row of counts from the whole: float64 (n,), 0 to 1.

    In bits; NaN for a row of zeros. A class that a row lacks adds half of its share of the whole, so that
    logarithms are taken of the cells above zero only.

    Args:
        counts: int64 (n, n_classes).
        whole: int64 (n_classes,), above 0 wherever a row is.

    Reference: Lin, "Divergence measures based on the Shannon entropy", IEEE Trans. Inf. Theory, 1991.
    """
    totals = counts.sum(axis=1)
    row, klass = np.nonzero(counts)
    own = counts[row, klass] / totals[row]
    other = (whole / max(int(whole.sum()), 1))[klass]
    middle = (own + other) / 2
    terms = own * np.log2(own / middle) + other * np.log2(other / middle) - other
    sums = np.bincount(row, weights=terms, minlength=len(counts))
    return np.where(totals > 0, np.clip((1 + sums) / 2, 0.0, 1.0), np.nan)


def gini(sizes: Ints) -> float:
    """Returns the Gini coefficient of sizes: 0 where all are equal, towards 1 where one has everything."""
    ordered = np.sort(sizes)
    n, total = len(ordered), int(ordered.sum())
    share = np.cumsum(ordered) / max(total, 1)
    return float((n + 1 - 2 * share.sum()) / n) if total else 0.0


def category_drift(rows: Rows, totals: Totals, items: pl.LazyFrame) -> pl.DataFrame:
    """Returns `client_id` and `drift`: the divergence of the categories of its rows' items from those of
    all rows; null for a client none of whose items has one. A row counts for each category of its item.
    """
    categories = _categories(items)
    whole = categories.totals(totals.items)
    crossing, n_crossing = totals.crossing(CLIENT_ID)
    parts = [
        _drift(block.frame.select(CLIENT_ID, ITEM_ID), categories, whole)
        for block in rows.of_whole(CLIENT_ID, crossing, n_crossing)
    ]
    return pl.concat(parts).sort(CLIENT_ID)


@dataclass(frozen=True)
class Categories:
    """Categories of items: those of `item_id` are `codes[first:first + many]`, each once."""

    items: pl.DataFrame  # item_id, first, many
    codes: Ints
    n: int

    def cells(self, rows: pl.DataFrame) -> Ints:
        """Returns owner × n + category for each category of each row's item.

        Args:
            rows: `item_id`, `owner` (whole numbers from 0).
        """
        named = rows.join(self.items, on=ITEM_ID, how="inner")
        owner = np.repeat(named["owner"].to_numpy() * self.n, named["many"].to_numpy())
        return owner + self.codes[_ranges(named)]

    def totals(self, items: pl.DataFrame) -> Ints:
        """Returns how many rows are of each category: int64 (n,).

        Args:
            items: `item_id`, `n_rows`.
        """
        named = items.join(self.items, on=ITEM_ID, how="inner")
        rows = np.repeat(named["n_rows"].to_numpy(), named["many"].to_numpy())
        counts = np.bincount(self.codes[_ranges(named)], weights=rows, minlength=self.n)
        return counts.astype(np.int64)


def _ranges(named: pl.DataFrame) -> Ints:
    """Returns `first`, `first + 1` … for each row, `many` numbers of it."""
    first, many = named["first"].to_numpy(), named["many"].to_numpy()
    begins = np.cumsum(many) - many
    return np.repeat(first - begins, many) + np.arange(int(many.sum()))


def _categories(items: pl.LazyFrame) -> Categories:
    pairs = (
        items.select(ITEM_ID, name=pl.col("categories"))
        .explode("name")
        .drop_nulls()
        .unique()
        .sort(ITEM_ID, "name")
        .collect(engine="streaming")
    )
    names = pairs["name"].unique().sort()
    table = pairs.with_row_index("place").group_by(ITEM_ID, maintain_order=True).agg(
        pl.col("place").first().cast(pl.Int64).alias("first"),
        pl.len().cast(pl.Int64).alias("many"),
    )  # fmt: skip
    codes = pairs["name"].cast(pl.Enum(names)).to_physical().to_numpy().astype(np.int64)
    return Categories(table, codes, len(names))


def _drift(rows: pl.DataFrame, categories: Categories, whole: Ints) -> pl.DataFrame:
    """Returns the drift of the clients of a block, which holds all of their rows."""
    rows = rows.filter(pl.col(CLIENT_ID).is_not_null())
    if not rows[CLIENT_ID].is_sorted():
        rows = rows.sort(CLIENT_ID)
    owner = rows[CLIENT_ID].rle_id().cast(pl.Int64).alias("owner")
    rows = rows.with_columns(owner)
    clients = rows[CLIENT_ID].unique(maintain_order=True)
    at_once = max(1, CELLS // max(categories.n, 1))
    bounds = [*range(0, len(clients), at_once), len(clients)]
    begins = owner.search_sorted(pl.Series(bounds), side="left").to_list()
    drifts = []
    for k, (begin, end) in enumerate(itertools.pairwise(begins)):
        part = rows.slice(begin, end - begin).with_columns(pl.col("owner") - bounds[k])
        n_owners = bounds[k + 1] - bounds[k]
        counts = np.bincount(categories.cells(part), minlength=n_owners * categories.n)
        drifts.append(divergence(counts.reshape(n_owners, categories.n), whole))
    drift = pl.Series("drift", np.concatenate(drifts) if drifts else [], dtype=pl.Float64)
    return pl.DataFrame([clients, drift.fill_nan(None)])
