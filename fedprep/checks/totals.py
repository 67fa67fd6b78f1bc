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
        `row_first`, `row_last` (numbers among the rows of all files; null without files).
    users: `user_id`, `n_rows`, `n_train`, `client_low`, `client_high`, `block_low`, `block_high`.
    items: `item_id`, `n_rows`, `n_train`.
    splits: `split`, `n_rows`, `time_first`, `time_last`; where there is a split.
    A table is sorted by its key and leaves out rows whose key is null; without a `client_id` column there
    are no clients, and without `split` all rows are counted as train.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.is_whole = False
        self.failure = ""
        self._clients = Growing(CLIENT_ID)
        self._users = Growing(USER_ID)
        self._items = Growing(ITEM_ID)
        self._splits = Growing(SPLIT)
        self._n_blocks = 0

    def add(self, block: Block) -> None:
        """Counts a block in."""
        frame, there = block.frame, set(block.frame.columns)
        if block.first is not None:
            frame = frame.with_row_index("row", offset=block.first)
        in_split = {
            f"n_{name}": (pl.col(SPLIT) == name).sum()
            if SPLIT in there
            else (pl.len() if name == "train" else pl.lit(0, pl.UInt32))
            for name in SPLITS
        }
        rows = frame.lazy()
        number = pl.lit(self._n_blocks, pl.Int32)
        if CLIENT_ID in there:
            labels = frame[LABEL].unique().drop_nulls().to_list() if LABEL in there else []
            place = [pl.col("row").min().alias("row_first"), pl.col("row").max().alias("row_last")]
            clients = rows.group_by(CLIENT_ID).agg(
                pl.len().alias("n_rows"),
                *(count.alias(name) for name, count in in_split.items()),
                pl.col(USER_ID).n_unique().alias("n_users"),
                *((pl.col(LABEL) == k).sum().alias(f"label_{k}") for k in labels[:MAX_LABELS]),
                *(place if block.first is not None else []),
            )
            self._clients.add(clients.collect())
            at = [
                pl.col(CLIENT_ID).min().alias("client_low"),
                pl.col(CLIENT_ID).max().alias("client_high"),
            ]
        else:
            at = []
        users = rows.group_by(USER_ID).agg(
            pl.len().alias("n_rows"), in_split["n_train"].alias("n_train"), *at
        ).with_columns(block_low=number, block_high=number)  # fmt: skip
        items = rows.group_by(ITEM_ID).agg(
            pl.len().alias("n_rows"), in_split["n_train"].alias("n_train")
        )
        self._users.add(users.collect())
        self._items.add(items.collect())
        if SPLIT in there:
            times = (
                [
                    pl.col(TIMESTAMP).min().alias("time_first"),
                    pl.col(TIMESTAMP).max().alias("time_last"),
                ]
                if TIMESTAMP in there
                else []
            )
            splits = rows.group_by(SPLIT).agg(pl.len().alias("n_rows"), *times)
            self._splits.add(splits.collect())
        self._n_blocks += 1

    def _complete(self) -> None:
        if self.failure:
            raise DatasetError(self.failure)
        if not self.is_whole:
            for block in self.rows.blocks():
                self.add(block)
            self.is_whole = True

    @functools.cached_property
    def clients(self) -> pl.DataFrame:
        self._complete()
        return self._clients.folded().fill_null(0)

    @functools.cached_property
    def users(self) -> pl.DataFrame:
        self._complete()
        return self._users.folded()

    @functools.cached_property
    def items(self) -> pl.DataFrame:
        self._complete()
        return self._items.folded()

    @functools.cached_property
    def splits(self) -> pl.DataFrame:
        self._complete()
        return self._splits.folded()

    @property
    def labels(self) -> dict[int, int]:
        """Rows of each label."""
        names = [name for name in self.clients.columns if name.startswith("label_")]
        return {int(name[6:]): int(self.clients[name].sum()) for name in sorted(names)}

    @property
    def crossing(self) -> tuple[pl.Series, int]:
        """The users whose rows lie in several blocks, and how many rows they have."""
        users = self.users.filter(pl.col("block_low") != pl.col("block_high"))
        return users[USER_ID], int(users["n_rows"].sum())
