"""What several checks need to know of all rows, counted in one pass over the blocks."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fedprep.checks.rows import Block, Rows
from fedprep.errors import DatasetError
from fedprep.schema import CLIENT_ID, ITEM_ID, LABEL, SPLIT, SPLITS, TIMESTAMP, USER_ID

__all__ = ["MAX_LABELS", "Totals"]

MAX_LABELS = 127
"""Distinct labels that are counted per client; a column of more is no column of labels."""

FOLD_ROWS = 3_000_000

COUNTS = tuple(f"n_{name}" for name in SPLITS)

HOW = {"low": pl.min, "high": pl.max, "first": pl.min, "last": pl.max}


@dataclass
class Growing:
    """A table of one row a key, grown block by block; columns add up, or keep their least or most."""

    key: str
    parts: list[pl.DataFrame] = field(default_factory=list)

    def add(self, part: pl.DataFrame) -> None:
        self.parts.append(part)
        if len(self.parts) > 1 and sum(p.height for p in self.parts) > FOLD_ROWS:
            self.parts = [self.folded()]

    def folded(self) -> pl.DataFrame:
        """Returns the table in order of its key; rows without one are left out."""
        if not self.parts:  # no row has a label
            return pl.DataFrame(schema={self.key: pl.Int64, "n_rows": pl.Int64})
        table = pl.concat(self.parts, how="diagonal").filter(pl.col(self.key).is_not_null())
        if not table[self.key].is_unique().all():
            values = [name for name in table.columns if name != self.key]
            table = table.group_by(self.key).agg(_merged(name) for name in values)
        return table.sort(self.key)


def _merged(name: str) -> pl.Expr:
    end = name.rpartition("_")[2]
    return HOW.get(end, pl.sum)(name)


class Totals:
    """Counts over all interactions. The first use of one makes a pass over the rows, unless `run` has.

    clients: `client_id`, `n_rows`, `n_train`, `n_valid`, `n_test`, `n_users`, `label_<k>` for each label k,
        `row_first`, `row_last` (numbers among the rows of all files; only with files), `block_low`,
        `block_high`.
    users: `user_id`, `n_rows`, `n_train`, `client_low`, `client_high`, `block_low`, `block_high`.
    items: `item_id`, `n_rows`, `n_train`.
    labels: `label`, `n_rows`.
    splits: `split`, `n_rows`, `time_first`, `time_last`: a pass of its own.

    A table is sorted by its key and leaves out rows whose key is null; it lacks what the rows lack. Without
    `split` all rows count as train.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.is_whole = False
        self.failure = ""
        self._tables = {key: Growing(key) for key in (CLIENT_ID, USER_ID, ITEM_ID, LABEL)}
        self._n_blocks = 0

    def add(self, block: Block) -> None:
        """Counts a block in."""
        there = block.frame.columns
        number = pl.lit(self._n_blocks, pl.Int32)
        stretches = _stretches(block)
        labels = [name for name in stretches.columns if name.startswith("label_")]
        places = [pl.col("row_first").min(), pl.col("row_last").max()]
        counts = pl.col("n_rows", *COUNTS, *labels).sum()
        if CLIENT_ID in there:
            pairs = stretches.group_by(CLIENT_ID, USER_ID).agg(
                counts, *(places if block.first is not None else [])
            )
            clients = pairs.group_by(CLIENT_ID).agg(
                counts,
                pl.len().alias("n_users"),
                *(places if block.first is not None else []),
            )
            self._tables[CLIENT_ID].add(clients.with_columns(block_low=number, block_high=number))
            at = [
                pl.col(CLIENT_ID).min().alias("client_low"),
                pl.col(CLIENT_ID).max().alias("client_high"),
            ]
        else:
            pairs, at = stretches, []
        users = pairs.group_by(USER_ID).agg(pl.col("n_rows", "n_train").sum(), *at)
        self._tables[USER_ID].add(users.with_columns(block_low=number, block_high=number))
        self._tables[ITEM_ID].add(_items(block.frame))
        if labels:
            of_labels = stretches.select(pl.col(labels).sum()).transpose().to_series()
            numbers = pl.Series(LABEL, [int(name.removeprefix("label_")) for name in labels])
            self._tables[LABEL].add(pl.DataFrame([numbers, of_labels.alias("n_rows")]))
        self._n_blocks += 1

    def _folded(self, key: str) -> pl.DataFrame:
        if self.failure:
            raise DatasetError(self.failure)
        if not self.is_whole:
            for block in self.rows.blocks():
                self.add(block)
            self.is_whole = True
        return self._tables[key].folded()

    @functools.cached_property
    def clients(self) -> pl.DataFrame:
        table = self._folded(CLIENT_ID).with_columns(pl.col("^label_.*$").fill_null(0))
        cut = table.filter(pl.col("block_low") != pl.col("block_high"))[CLIENT_ID]
        if self.rows.files and len(cut):
            table = table.update(_users_of(self.rows.frame, cut), on=CLIENT_ID)
        return table

    @functools.cached_property
    def users(self) -> pl.DataFrame:
        return self._folded(USER_ID)

    @functools.cached_property
    def items(self) -> pl.DataFrame:
        return self._folded(ITEM_ID)

    @functools.cached_property
    def labels(self) -> pl.DataFrame:
        return self._folded(LABEL).filter(pl.col("n_rows") > 0)

    @functools.cached_property
    def splits(self) -> pl.DataFrame:
        times = []
        if TIMESTAMP in self.rows.columns:
            time = pl.col(TIMESTAMP)
            times = [time.min().alias("time_first"), time.max().alias("time_last")]
        splits = self.rows.frame.group_by(SPLIT).agg(pl.len().alias("n_rows"), *times)
        return splits.drop_nulls(SPLIT).sort(SPLIT).collect(engine="streaming")

    def crossing(self, key: str) -> tuple[pl.Series, int]:
        """Returns the users (or clients) whose rows lie in several blocks, and how many rows they have."""
        table = self.users if key == USER_ID else self.clients
        several = table.filter(pl.col("block_low") != pl.col("block_high"))
        return several[key], int(several["n_rows"].sum())


def _stretches(block: Block) -> pl.DataFrame:
    """Returns counts of each stretch of consecutive rows of one client and user.

    In sorted rows a stretch is a pair of client and user, and counting them takes a fifth of the time of
    grouping the rows; in any other order it is right as well.
    """
    frame = block.frame
    keys = [frame[key] for key in (CLIENT_ID, USER_ID) if key in frame.columns]
    begins = np.zeros(frame.height, dtype=np.bool_)
    for key in keys:
        begins |= (key != key.shift()).fill_null(True).to_numpy()
    first = np.flatnonzero(begins)
    ends = np.append(first[1:], frame.height)
    columns: dict[str, Any] = {"n_rows": ends - first}
    if block.first is not None:
        columns |= {"row_first": block.first + first, "row_last": block.first + ends - 1}
    for name, values in _marks(frame).items():
        columns[name] = np.add.reduceat(values.view(np.int8), first, dtype=np.int32)
    return pl.DataFrame(columns).with_columns(key.gather(first) for key in keys)


def _marks(frame: pl.DataFrame) -> dict[str, npt.NDArray[np.bool_]]:
    """Returns which rows are in each split, and of each label where they are at most `MAX_LABELS`."""
    if SPLIT in frame.columns:
        split = frame[SPLIT]
        marks = {f"n_{k}": (split == k).fill_null(False).to_numpy() for k in SPLITS}
    else:
        marks = {f"n_{k}": np.full(frame.height, k == "train") for k in SPLITS}
    labels = frame[LABEL] if LABEL in frame.columns else pl.Series([])
    low, high = labels.min(), labels.max()
    if isinstance(low, int) and isinstance(high, int) and high - low <= MAX_LABELS:
        numbers = labels.to_numpy()
        marks |= {f"label_{k}": numbers == k for k in range(low, high + 1)}
    return marks


def _items(frame: pl.DataFrame) -> pl.DataFrame:
    """Returns `item_id`, `n_rows`, `n_train` of the rows of a block."""
    items = frame[ITEM_ID]
    train = frame[SPLIT] == "train" if SPLIT in frame.columns else None
    low, high = items.min(), items.max()
    if items.null_count() or not isinstance(low, int) or not isinstance(high, int):
        low, high = -1, -1
    if low >= 0 and high <= 4 * frame.height:
        n_rows = np.bincount(items.to_numpy())
        in_train = items if train is None else items.filter(train)
        n_train = np.bincount(in_train.to_numpy(), minlength=len(n_rows))
        seen = np.flatnonzero(n_rows)
        columns = {ITEM_ID: seen, "n_rows": n_rows[seen], "n_train": n_train[seen]}
        return pl.DataFrame(columns).cast({ITEM_ID: items.dtype})
    counted = pl.DataFrame([items]).with_columns(train=pl.lit(True) if train is None else train)
    return counted.group_by(ITEM_ID).agg(
        pl.len().cast(pl.Int64).alias("n_rows"),
        pl.col("train").sum().cast(pl.Int64).alias("n_train"),
    )


def _users_of(rows: pl.LazyFrame, clients: pl.Series) -> pl.DataFrame:
    """Returns `n_users` of some clients: those that lie in several blocks, in which users were counted
    block by block."""
    pairs = rows.filter(pl.col(CLIENT_ID).is_in(clients.implode())).select(CLIENT_ID, USER_ID)
    counts = pairs.unique().group_by(CLIENT_ID).agg(pl.len().alias("n_users"))
    return counts.collect(engine="streaming")
