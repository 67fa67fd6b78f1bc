"""What is known of the items beyond the lists: popularity, embeddings, categories, who had what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.ids import Codes, Ints, codes_of
from fedeval.tables import Table
from fedprep.errors import EvaluationError
from fedprep.schema import ITEM_ID, USER_ID

__all__ = ["CATEGORIES", "EMBEDDING", "Catalogue", "catalogue_of"]

CATEGORIES = "categories"
EMBEDDING = "embedding"

Longs = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The items of all tables, as codes from 0.

    codes: finds an item's code · in_train, in_items: bool (n_items,): has a training row; is in the
    table of items, None without one · popularity: int64 (n_items,), users with a training row of it ·
    n_train_users: users with a training row.
    history, history_starts: int32, and int64 (n_users + 1,): training items of each user evaluated.
    embeddings: float32 (n_items, dim), unit L2, and has_embedding: bool (n_items,); None without.
    categories: bool (n_items, n_categories); None without.
    """

    codes: Codes
    in_train: Mask
    in_items: Mask | None
    popularity: Longs
    n_train_users: int
    history: Ints
    history_starts: Longs
    embeddings: npt.NDArray[np.float32] | None = None
    has_embedding: Mask | None = None
    categories: Mask | None = None

    @property
    def n_items(self) -> int:
        return len(self.codes)

    def history_of(self, start: int, end: int) -> tuple[Longs, Ints]:
        """Returns user (from 0) and item of the training rows of the users `start` to before `end`."""
        a, b = self.history_starts[start], self.history_starts[end]
        sizes = np.diff(self.history_starts[start : end + 1])
        return np.repeat(np.arange(end - start), sizes), self.history[a:b]


def catalogue_of(
    items_seen: list[pl.Series], users: Codes, train: Table | None, items: Table | None
) -> Catalogue:
    """Returns what the tables know of the items.

    Args:
        items_seen: the items of the recommendations and the truth.
        users: the users evaluated.
        train: the training rows.
        items: `item_id`, and `categories` (list of text) or `embedding` (list or array of numbers).

    Raises:
        EvaluationError: an item is in the table of items twice, or embeddings differ in length.
    """
    pairs = None if train is None else train.whole(USER_ID, ITEM_ID)
    listed = None if items is None else items.whole()
    columns = [*items_seen]
    columns += [] if pairs is None else [pairs[ITEM_ID]]
    columns += [] if listed is None else [listed[ITEM_ID]]
    codes = codes_of(*columns)
    popularity = np.zeros(len(codes), np.int64)
    history, starts, n_train_users = np.empty(0, np.int32), np.zeros(len(users) + 1, np.int64), 0
    if pairs is not None:
        pairs = pairs.unique()
        item = codes.find(pairs[ITEM_ID])
        popularity = np.bincount(item, minlength=len(codes))
        n_train_users = pairs[USER_ID].n_unique()
        row = users.find(pairs[USER_ID])
        item, row = item[row >= 0], row[row >= 0]
        order = np.lexsort((item, row))
        history = item[order]
        starts = np.append(0, np.cumsum(np.bincount(row, minlength=len(users))))
    known: Catalogue = Catalogue(
        codes, popularity > 0, None, popularity, n_train_users, history, starts
    )
    return known if listed is None else _with_items(known, listed)


def _with_items(known: Catalogue, listed: pl.DataFrame) -> Catalogue:
    if listed[ITEM_ID].n_unique() < listed.height:
        raise EvaluationError(
            f"the table of items has {listed.height - listed[ITEM_ID].n_unique():,} items twice",
            expected="a row an item",
        )
    item = known.codes.find(listed[ITEM_ID])
    in_items = np.zeros(known.n_items, bool)
    in_items[item] = True
    embeddings = has = categories = None
    if EMBEDDING in listed.columns:
        embeddings, has = _embeddings(listed[EMBEDDING], item, known.n_items)
    if CATEGORIES in listed.columns:
        categories = _categories(listed[CATEGORIES], item, known.n_items)
    return Catalogue(
        known.codes, known.in_train, in_items, known.popularity, known.n_train_users,
        known.history, known.history_starts, embeddings, has, categories,
    )  # fmt: skip


def _embeddings(
    column: pl.Series, item: Ints, n_items: int
) -> tuple[npt.NDArray[np.float32], Mask]:
    there = column.is_not_null()
    lists = column.filter(there).cast(pl.List(pl.Float32))
    lengths = lists.list.len().unique()
    if not len(lengths):
        raise EvaluationError("no item has an embedding: the column is empty")
    if len(lengths) != 1:
        raise EvaluationError(
            f"embeddings have {len(lengths)} different lengths", expected="one length"
        )
    flat = lists.explode().to_numpy().reshape(len(lists), -1)
    if not np.isfinite(flat).all():
        bad = int((~np.isfinite(flat).all(axis=1)).sum())
        raise EvaluationError(f"the embeddings of {bad:,} items are not finite")
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    table = np.zeros((n_items, flat.shape[1]), np.float32)
    has = np.zeros(n_items, bool)
    rows = item[there.to_numpy()]
    table[rows] = np.divide(flat, norm, out=np.zeros_like(flat), where=norm > 0)
    has[rows] = norm[:, 0] > 0  # a vector of zeros has no direction
    return table, has


def _categories(column: pl.Series, item: Ints, n_items: int) -> Mask:
    table = pl.DataFrame({"item": item, "category": column.cast(pl.List(pl.String))})
    rows = table.explode("category").drop_nulls()
    names = rows["category"].unique().sort()
    place = pl.DataFrame({"category": names}).with_row_index("place")
    rows = rows.join(place, on="category", how="left")
    has = np.zeros((n_items, len(names)), bool)
    has[rows["item"].to_numpy(), rows["place"].to_numpy()] = True
    return cast(Mask, has)
