"""What several checks need to know of all rows, counted in one pass over the blocks."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

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
    splits: `split`, `n_rows`, and with timestamps `time_first`, `time_last`.
    labels: `label`, `n_rows`.

    A table is sorted by its key and leaves out rows whose key is null; it has no column where the rows have
    none. Without `split` all rows count as train. Columns of label counts are 0 where a client has none.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.is_whole = False
        self.failure = ""
        self._tables = {key: Growing(key) for key in (CLIENT_ID, USER_ID, ITEM_ID, SPLIT, LABEL)}
        self._n_blocks = 0

    def add(self, block: Block) -> None:
        """Counts a block in."""
        frame = block.frame
        if block.first is not None:
            frame = frame.with_row_index("row", offset=block.first)
        there = frame.columns
        number = pl.lit(self._n_blocks, pl.Int32)
        pairs = _pairs(frame)
        places = [pl.col("row_first").min(), pl.col("row_last").max()]
        labels = [name for name in pairs.columns if name.startswith("label_")]
        parts = {
            USER_ID: pairs.lazy().group_by(USER_ID).agg(
                pl.col("n_rows", "n_train").sum(),
                *_range(CLIENT_ID, "client_low", "client_high", there),
            ).with_columns(block_low=number, block_high=number),
            ITEM_ID: frame.lazy().group_by(ITEM_ID).agg(
                pl.len().alias("n_rows"), _in_split("train", there)
            ),
        }  # fmt: skip
        if CLIENT_ID in there:
            parts[CLIENT_ID] = pairs.lazy().group_by(CLIENT_ID).agg(
                pl.col("n_rows", *COUNTS, *labels).sum(),
                pl.len().alias("n_users"),
                *(places if "row" in there else []),
            ).with_columns(block_low=number, block_high=number)  # fmt: skip
        if SPLIT in there:
            times = _range(TIMESTAMP, "time_first", "time_last", there)
            parts[SPLIT] = frame.lazy().group_by(SPLIT).agg(pl.len().alias("n_rows"), *times)
        if LABEL in there:
            parts[LABEL] = frame.lazy().group_by(LABEL).agg(pl.len().alias("n_rows"))
        for key, part in zip(parts, pl.collect_all(list(parts.values())), strict=True):
            self._tables[key].add(part)
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
    def splits(self) -> pl.DataFrame:
        return self._folded(SPLIT)

    @functools.cached_property
    def labels(self) -> pl.DataFrame:
        return self._folded(LABEL)

    def crossing(self, key: str) -> tuple[pl.Series, int]:
        """Returns the users (or clients) whose rows lie in several blocks, and how many rows they have."""
        table = self.users if key == USER_ID else self.clients
        several = table.filter(pl.col("block_low") != pl.col("block_high"))
        return several[key], int(several["n_rows"].sum())


def _pairs(frame: pl.DataFrame) -> pl.DataFrame:
    """Returns counts for each pair of client and user; of users alone where there are no clients."""
    there = frame.columns
    labels = frame[LABEL].unique().drop_nulls().sort().to_list() if LABEL in there else []
    keys = [key for key in (CLIENT_ID, USER_ID) if key in there]
    pairs = frame.lazy().group_by(keys).agg(
        pl.len().alias("n_rows"),
        *(_in_split(name, there) for name in SPLITS),
        *((pl.col(LABEL) == k).sum().alias(f"label_{k}") for k in labels[:MAX_LABELS]),
        *_range("row", "row_first", "row_last", there),
    )  # fmt: skip
    return pairs.collect()


def _users_of(rows: pl.LazyFrame, clients: pl.Series) -> pl.DataFrame:
    """Returns `n_users` of some clients: those that lie in several blocks, in which users were counted
    block by block."""
    pairs = rows.filter(pl.col(CLIENT_ID).is_in(clients.implode())).select(CLIENT_ID, USER_ID)
    counts = pairs.unique().group_by(CLIENT_ID).agg(pl.len().alias("n_users"))
    return counts.collect(engine="streaming")


def _in_split(name: str, there: list[str]) -> pl.Expr:
    everything = pl.len() if name == "train" else pl.lit(0, pl.UInt32)
    return ((pl.col(SPLIT) == name).sum() if SPLIT in there else everything).alias(f"n_{name}")


def _range(column: str, low: str, high: str, there: list[str]) -> list[pl.Expr]:
    if column not in there:
        return []
    return [pl.col(column).min().alias(low), pl.col(column).max().alias(high)]
