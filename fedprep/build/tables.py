"""From source ids to dense ids: the codes that stages work on, and the tables of items and users.

Codes are positions in the sorted distinct source ids, so they do not depend on the order of the rows.
What a source says of items and users is read for those that are left at the end, and for no others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fedprep.errors import EmptyDataError, SourceError
from fedprep.schema import (
    CLIENT_ID,
    INTERACTIONS,
    ITEM_ID,
    ITEMS,
    RATING,
    SOURCE_ID,
    SPLIT,
    SPLITS,
    TIMESTAMP,
    USER_ID,
    RawTables,
)

__all__ = [
    "Coded",
    "dense_ids",
    "encode",
    "facts_of",
    "filled_with_zeros",
    "items_table",
    "user_clients",
    "user_profiles",
    "users_table",
]

LOOKUP_LIMIT = 50_000_000
"""Integer source ids below this are looked up in an array, others joined."""


@dataclass(frozen=True, kw_only=True)
class Coded:
    """Interactions with codes for ids (`schema.INTERACTIONS`), and the source ids behind the codes."""

    interactions: pl.DataFrame
    users: pl.Series
    items: pl.Series
    has_metadata: npt.NDArray[np.bool_]  # (n_items,): the source has a row for the item


def encode(raw: RawTables) -> Coded:
    """Returns the interactions of a source with int32 codes in place of its ids.

    Text ids are coded by a streaming join, so that the raw table never lies in memory as a whole.

    Raises:
        EmptyDataError: the source gave no row.
        SourceError: more users or items than int32 can number.
    """
    rows = raw.interactions
    if rows.collect_schema()["user"].is_integer():
        rows = rows.collect().lazy()  # small already: reading the file twice would cost more
    keys = {name: rows.select(pl.col(name).unique()).collect(engine="streaming")[name].sort()
            for name in ("user", "item")}  # fmt: skip
    for name, series in keys.items():
        if series.is_empty():
            raise EmptyDataError(
                "the raw files hold no usable interaction", hint="see the steps above"
            )
        if len(series) > np.iinfo(np.int32).max:
            raise SourceError(f"{len(series):,} {name}s: more than int32 can number")
    for name, series in keys.items():
        rows = _with_codes(rows, name, series)
    coded = rows.rename({"user": USER_ID, "item": ITEM_ID}).select(
        pl.col(name).cast(dtype) for name, dtype in INTERACTIONS.items()
    )
    known = raw.items.select("item").collect(engine="streaming")["item"]
    return Coded(
        interactions=coded.collect(engine="streaming"),
        users=keys["user"],
        items=keys["item"],
        has_metadata=keys["item"].is_in(known.implode()).to_numpy(),
    )


def _with_codes(rows: pl.LazyFrame, name: str, keys: pl.Series) -> pl.LazyFrame:
    if keys.dtype.is_integer() and keys[0] >= 0 and keys[-1] < LOOKUP_LIMIT:
        lookup = np.zeros(keys[-1] + 1, dtype=np.int32)
        lookup[keys.to_numpy()] = np.arange(len(keys), dtype=np.int32)
        column = rows.select(name).collect()[name]
        codes = pl.Series(name, lookup[column.to_numpy()])
        return rows.collect().with_columns(codes).lazy()
    code = pl.int_range(len(keys), dtype=pl.Int32, eager=True).alias("code")
    table = pl.DataFrame([keys, code]).lazy()
    return rows.join(table, on=name, how="left", maintain_order="left").with_columns(
        pl.col("code").alias(name)
    ).drop("code")  # fmt: skip


def dense_ids(rows: pl.DataFrame, column: str, keys: pl.Series) -> tuple[pl.DataFrame, pl.Series]:
    """Returns the rows with ids renumbered 0, 1, 2 … without gaps, and the source ids in that order."""
    codes = rows[column].to_numpy()
    used = np.zeros(len(keys), dtype=bool)
    used[codes] = True
    if used.all():
        return rows, keys
    renumbered = (np.cumsum(used, dtype=np.int32) - 1).astype(np.int32)[codes]
    return rows.with_columns(pl.Series(column, renumbered)), keys.filter(pl.Series(used))


def items_table(raw: RawTables, keys: pl.Series) -> pl.DataFrame:
    """Returns the items of a Dataset without `text`, in order of `item_id`; null where unknown."""
    table = _about(raw.items, "item", keys, ITEM_ID)
    fixed = [name for name in ITEMS if name != "text"]
    absent = {name: pl.lit(None, dtype=ITEMS[name]) for name in fixed if name not in table.columns}
    table = table.with_columns(**absent)
    return table.select(*fixed, pl.exclude(*fixed))


def users_table(raw: RawTables, keys: pl.Series) -> pl.DataFrame:
    """Returns the users of a Dataset without client and behaviour, in order of `user_id`."""
    return _about(raw.users, "user", keys, USER_ID)


def _about(table: pl.LazyFrame, key: str, keys: pl.Series, id_column: str) -> pl.DataFrame:
    """Returns the source's rows on `keys`, in their order, under their dense ids and `source_id`."""
    wanted = pl.DataFrame({key: keys}).lazy().with_row_index(id_column)
    frame = wanted.join(table, on=key, how="left").sort(id_column).collect(engine="streaming")
    if frame.height != len(keys):
        raise SourceError(f"{frame.height - len(keys)} {key}s are described twice by the source")
    return frame.select(
        pl.col(id_column).cast(pl.Int32),
        pl.col(key).cast(pl.String).alias(SOURCE_ID),
        pl.exclude(id_column, key),
    )


def user_clients(rows: pl.DataFrame) -> pl.Series:
    """Returns the client of each user in order of `user_id`: int32, null for a user at several clients."""
    low_high = rows.group_by(USER_ID).agg(
        pl.col(CLIENT_ID).min().alias("low"), pl.col(CLIENT_ID).max().alias("high")
    )
    one = pl.when(pl.col("low") == pl.col("high")).then("low").alias(CLIENT_ID)
    return low_high.sort(USER_ID).select(one)[CLIENT_ID]


def user_profiles(
    rows: pl.DataFrame, embeddings: npt.NDArray[np.float32], n_users: int, *, block: int = 200_000
) -> npt.NDArray[np.float32]:
    """Returns the mean embedding of each user's train items: float32 (n_users, dim).

    Args:
        rows: `user_id`, `item_id` of train rows.
        embeddings: float32 (n_items, dim), zero where an item has none.
        block: rows gathered at a time, which bounds the memory.
    """
    rows = rows.sort(USER_ID, ITEM_ID)
    users, items = rows[USER_ID].to_numpy(), rows[ITEM_ID].to_numpy()
    sums = np.zeros((n_users, embeddings.shape[1]))
    for start in range(0, len(users), block):
        part = slice(start, start + block)
        first = np.flatnonzero(np.diff(users[part], prepend=-1))
        owners = users[part][first]
        sums[owners] += np.add.reduceat(embeddings[items[part]].astype(np.float64), first, axis=0)
    counts = np.bincount(users, minlength=n_users)
    return (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)


def filled_with_zeros(embeddings: pl.Series) -> npt.NDArray[np.float32]:
    """Returns embeddings as float32 (n_items, dim), zero where they are null."""
    present = embeddings.is_not_null().to_numpy()
    there = embeddings.drop_nulls().to_numpy()
    values = np.zeros((len(embeddings), there.shape[1]), np.float32)
    values[present] = there
    return values


def facts_of(rows: pl.DataFrame) -> dict[str, Any]:
    """Returns the facts of a Dataset's rows for its manifest: sizes, density, times, histograms."""
    n_users, n_items = rows[USER_ID].n_unique(), rows[ITEM_ID].n_unique()
    ratings = rows[RATING].drop_nulls().value_counts().sort(RATING)
    return {
        "n_users": n_users,
        "n_items": n_items,
        "n_interactions": rows.height,
        "n_clients": rows[CLIENT_ID].n_unique(),
        "density": rows.height / (n_users * n_items),
        "time_range": [rows[TIMESTAMP].min(), rows[TIMESTAMP].max()],
        "ratings": [[value, count] for value, count in ratings.iter_rows()],
        "labels": [list(pair) for pair in rows["label"].value_counts().sort("label").iter_rows()],
        "splits": {split: int((rows[SPLIT] == split).sum()) for split in SPLITS},
    }
