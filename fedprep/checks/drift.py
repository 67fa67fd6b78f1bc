"""How far the rows of each client are from those of all clients."""

from __future__ import annotations

from collections.abc import Iterator
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
Ints32 = npt.NDArray[np.int32]

CELLS = 1_000_000
"""Pairs of client and category that are counted at a time."""

PORTION = 200_000
"""Rows that are looked up at a time."""

LOOKUP = 1_000_000
"""Item ids up to here are looked up in an array however few they are."""


def divergence(counts: Ints, whole: Ints) -> Floats:
    """Returns the Jensen–Shannon divergence of each row of counts from the whole: float64 (n,), 0 to 1.

    In bits; NaN for a row of zeros. A class that a row lacks adds half of its share of the whole, so that
    logarithms are taken of the cells above zero only.

    Args:
        counts: int64 (n, n_classes).
        whole: int64 (n_classes,), above 0 wherever a row is.

    Reference: Lin, "Divergence measures based on the Shannon entropy", IEEE Trans. Inf. Theory, 1991.
    """
    parts = np.array_split(counts, -(-counts.size // CELLS) or 1)
    return np.concatenate([_divergence(part, whole) for part in parts])


def _divergence(counts: Ints, whole: Ints) -> Floats:
    totals = counts.sum(axis=1)
    row, klass = np.nonzero(counts)
    own = counts[row, klass] / totals[row]
    other = (whole / max(int(whole.sum()), 1))[klass]
    middle = (own + other) / 2
    terms = own * np.log2(own / middle) + other * np.log2(other / middle) - other
    sums = np.bincount(row, weights=terms, minlength=len(counts))
    known = totals > 0
    return np.where(known, np.clip((1 + sums) / 2, 0.0, 1.0), np.nan)


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
    if not categories.n:
        return totals.clients.select(CLIENT_ID, drift=pl.lit(None, pl.Float64))
    whole = categories.totals(totals.items)
    crossing, n_crossing = totals.crossing(CLIENT_ID)
    parts = [
        _drift(block.frame, categories, whole)
        for block in rows.of_whole(CLIENT_ID, crossing, n_crossing, columns=(CLIENT_ID, ITEM_ID))
    ]
    return pl.concat(parts).sort(CLIENT_ID)


@dataclass(frozen=True)
class Categories:
    """Categories of items: those of the item with id `ids[i]` are `codes[first[i]:first[i] + many[i]]`.

    ids: distinct, sorted · codes: int32 (n_mentions,), below `n`, each once for an item · first, many: int32.
    """

    ids: pl.Series
    first: Ints32
    many: Ints32
    codes: Ints32
    n: int

    def places(self, items: pl.Series) -> Ints32:
        """Returns the place in `ids` of each item: int32 (n_rows,), -1 where it has no category."""
        n = len(self.ids)
        low, high = self.ids.min(), self.ids.max()
        if isinstance(low, int) and isinstance(high, int) and low >= 0 and high <= 4 * n + LOOKUP:
            table = np.full(
                high + 2, -1, dtype=np.int32
            )  # the last place is for all that are beyond
            table[self.ids.to_numpy()] = np.arange(n, dtype=np.int32)
            known = items.is_between(0, high).fill_null(False)
            if not known.all():
                items = items.set(~known, high + 1)
            looked_up: Ints32 = table[items.to_numpy()]
            return looked_up
        places = pl.DataFrame([self.ids]).with_row_index("place")
        found = pl.DataFrame([items]).join(places, on=ITEM_ID, how="left", maintain_order="left")
        return found["place"].cast(pl.Int32).fill_null(-1).to_numpy().astype(np.int32)

    def mentions(self, places: Ints32) -> tuple[Ints32, Ints32]:
        """Returns how many categories each row has, and all of them, row by row.

        Args:
            places: as `places` returns them.
        """
        many = np.where(places < 0, 0, self.many[places])
        begins = np.cumsum(many, dtype=np.int32) - many
        into = np.repeat(self.first[places] - begins, many) + np.arange(
            int(many.sum()), dtype=np.int32
        )
        return many, self.codes[into]

    def totals(self, items: pl.DataFrame) -> Ints:
        """Returns how many rows are of each category: int64 (n,).

        Args:
            items: `item_id`, `n_rows`.
        """
        many, codes = self.mentions(self.places(items[ITEM_ID]))
        rows = np.repeat(items["n_rows"].to_numpy(), many)
        return np.bincount(codes, weights=rows, minlength=self.n).astype(np.int64)


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
    codes = pairs["name"].cast(pl.Enum(names)).to_physical().cast(pl.Int32).to_numpy()
    lengths = pairs[ITEM_ID].rle().struct
    many = lengths.field("len").cast(pl.Int32).to_numpy()
    first = np.cumsum(many, dtype=np.int32) - many
    return Categories(lengths.field("value").alias(ITEM_ID), first, many, codes, len(names))


def _drift(rows: pl.DataFrame, categories: Categories, whole: Ints) -> pl.DataFrame:
    """Returns the drift of the clients of a block, which holds all of their rows."""
    rows = rows.filter(pl.col(CLIENT_ID).is_not_null())
    if not rows[CLIENT_ID].is_sorted():
        rows = rows.sort(CLIENT_ID)
    places = categories.places(rows[ITEM_ID])
    clients = rows[CLIENT_ID].rle().struct
    n_rows = clients.field("len").to_numpy().astype(np.int64)
    drifts = [
        _divergences(places[begin:end], n_rows[first:last], categories, whole)
        for first, last, begin, end in _portions(n_rows, max(1, CELLS // max(categories.n, 1)))
    ]
    drift = pl.Series("drift", np.concatenate(drifts) if drifts else [], dtype=pl.Float64)
    return pl.DataFrame([clients.field("value").alias(CLIENT_ID), drift.fill_nan(None)])


def _portions(n_rows: Ints, most: int) -> Iterator[tuple[int, int, int, int]]:
    """Yields (first client, after the last, first row, after the last): at most `most` clients each, of
    about `PORTION` rows, which stay in the processor's cache."""
    ends = np.cumsum(n_rows)
    first, begin = 0, 0
    while first < len(ends):
        last = int(np.searchsorted(ends, begin + PORTION, side="right"))
        last = min(max(last, first + 1), first + most)
        end = int(ends[last - 1])
        yield first, last, begin, end
        first, begin = last, end


def _divergences(places: Ints32, n_rows: Ints, categories: Categories, whole: Ints) -> Floats:
    """Returns the divergence of consecutive clients of `n_rows` rows each."""
    many, codes = categories.mentions(places)
    owner = np.repeat(np.arange(len(n_rows), dtype=np.int32) * categories.n, n_rows)
    cells = np.repeat(owner, many) + codes
    counts = np.bincount(cells, minlength=len(n_rows) * categories.n)
    return divergence(counts.reshape(len(n_rows), categories.n), whole)
