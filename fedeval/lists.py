"""The first `depth` items of every user's list as one array, whatever order the table came in.

A rank is a place: an item of rank r stands in row r - 1 of `Lists.items`, so a table in any order is
filled in by one pass, without sorting. What a pass cannot settle (an item twice, a rank twice, a rank
left out) is settled by sorting the rows of those users alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.ids import EMPTY, Codes, Ints, Names
from fedeval.policy import Policy
from fedeval.tables import RANK, SCORE, Table
from fedprep.errors import EvaluationError
from fedprep.schema import ITEM_ID, USER_ID

__all__ = ["Lists", "Source", "sorted_rows", "top_lists"]

PAIRWISE = 16
"""Lists up to this long are searched for repeats by comparing all pairs of places, longer ones by sorting."""

Mask = npt.NDArray[np.bool_]
Longs = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Source:
    """A table of recommendations as lists are made from it.

    key: the column that orders a list, `rank` or `score` · names: what users and items stand for.
    """

    table: Table
    key: str
    policy: Policy
    names: dict[str, Names]

    def blocks(self, bounds: tuple[Any, Any]) -> Iterator[pl.DataFrame]:
        """Yields the rows of the users within bounds, checked.

        Raises:
            EvaluationError: an id or a key is missing, or a score is NaN.
        """
        columns: tuple[str, ...] = (USER_ID, ITEM_ID, self.key)
        if SCORE in self.table and self.key != SCORE:
            columns = (*columns, SCORE)
        done = 0
        for block in self.table.blocks(columns, bounds):
            self._refuse_missing(block, done)
            done += block.height
            yield block

    def _refuse_missing(self, block: pl.DataFrame, done: int) -> None:
        for name in (USER_ID, ITEM_ID, self.key):
            if block[name].null_count():
                row = int(block[name].is_null().arg_max() or 0)
                raise EvaluationError(
                    f"'{name}' of the recommendations is missing, or not of its type",
                    where=f"{self.table.where or 'row'} {done + row + 1}".strip(),
                    expected="a value in every row",
                )
        if SCORE in block.columns and block.height and np.isnan(np.max(block[SCORE].to_numpy())):
            bad = block.filter(pl.col(SCORE).is_nan())
            raise EvaluationError(
                f"scores are NaN: {bad.height:,} of {block.height:,} rows looked at",
                where=f"user {self.names[USER_ID].of(bad[USER_ID].to_numpy(), pl.String)[0]},"
                f" item {self.names[ITEM_ID].of(bad[ITEM_ID].to_numpy(), pl.String)[0]}",
                hint="a model whose scores are NaN has diverged: its order means nothing",
            )


@dataclass(frozen=True, eq=False)
class Lists:
    """items: int32 (depth, n_users), `EMPTY` behind a list's end · length: int32 (n_users,), at most depth.

    present: bool (n_users,): the user has a row in the table, at whatever rank.
    strangers: users of the table that have no row here · n_rows: rows of the table.
    counts: what was passed over or settled: `duplicates`, `tied_ranks`, `rank_gaps`, `tied_scores`.
    """

    items: Ints
    length: Ints
    present: Mask
    strangers: int
    n_rows: int
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        return len(self.items)


def top_lists(
    source: Source, users: Codes, depth: int, bounds: tuple[Any, Any] = (None, None)
) -> Lists:
    """Returns the first `depth` items of each user's list.

    Args:
        source: the recommendations.
        users: the users wanted; rows of others are left out.
        depth: places wanted, at least 1.
        bounds: of the ids of users: rows of others are not even read.

    Raises:
        EvaluationError: a value is missing, a score is NaN, or a list does not start at rank 1.
    """
    if source.key == SCORE or source.policy.duplicates == "last":
        return _by_sorting(source, users, depth, bounds)
    return _by_rank(source, users, depth, bounds)


def _by_rank(source: Source, users: Codes, depth: int, bounds: tuple[Any, Any]) -> Lists:
    n = len(users)
    items = np.full((depth, n), EMPTY, np.int32)
    places = items.ravel()
    strangers = _Strangers()
    written = 0
    for block in source.blocks(bounds):
        if (block[RANK].min() or 1) < 1:  # type: ignore[operator]
            _refuse_rank(block, source)
        near = block.filter(pl.col(RANK) <= depth)
        row = users.find(near[USER_ID])
        listed = _items(near)
        place = near[RANK].to_numpy().astype(np.int64)
        if strangers.add(near, row, n_rows=block.height):
            wanted = row >= 0
            row, listed, place = row[wanted], listed[wanted], place[wanted]
        place -= 1
        place *= n
        place += row
        places[place] = listed
        written += len(place)
    filled = items != EMPTY
    length = filled.sum(axis=0, dtype=np.int32)
    bad = _out_of_order(filled, length)
    if length.min() < depth:
        bad |= _goes_on(source, users, depth, length, bounds)
    if written > int(length.sum()):
        bad |= _ranks_given_twice(source, users, depth, length, bounds)
    if source.policy.duplicates == "first":
        bad |= _repeats(items)
    counts = {"duplicates": 0, "tied_ranks": 0, "rank_gaps": 0}
    if bad.any():
        rows = sorted_rows(source, users, bounds, only=bad)
        _refuse_late_start(rows, users, source)
        counts |= _place(items, length, np.flatnonzero(bad), rows, source)
    return Lists(items, length, length > 0, strangers.count(), strangers.n_rows, counts)


def _by_sorting(source: Source, users: Codes, depth: int, bounds: tuple[Any, Any]) -> Lists:
    n = len(users)
    strangers = _Strangers()
    rows = sorted_rows(source, users, bounds, strangers=strangers)
    items = np.full((depth, n), EMPTY, np.int32)
    length = np.zeros(n, np.int32)
    present = np.zeros(n, bool)
    present[rows["row"].to_numpy()] = True
    if source.key == RANK:
        _refuse_late_start(rows, users, source)
    counts = _place(items, length, np.arange(n), rows, source)
    return Lists(items, length, present, strangers.count(), strangers.n_rows, counts)


class _Strangers:
    """The users of a table that are not wanted, counted block by block."""

    def __init__(self) -> None:
        self.parts: list[pl.Series] = []
        self.n_rows = 0

    def add(self, block: pl.DataFrame, row: Ints, *, n_rows: int) -> bool:
        """Takes note of a block and of the rows that it is a part of; returns whether it has strangers."""
        self.n_rows += n_rows
        if not row.size or row.min() >= 0:
            return False
        self.parts.append(block[USER_ID].filter(pl.Series(row < 0)).unique())
        return True

    def count(self) -> int:
        return pl.concat(self.parts).n_unique() if self.parts else 0


def _items(block: pl.DataFrame) -> Ints:
    items: Ints = block[ITEM_ID].to_numpy().astype(np.int32, copy=False)
    if items.size and items.min() == EMPTY:
        raise EvaluationError(f"an item cannot have the id {EMPTY}")
    return items


# --- what one pass cannot settle -------------------------------------------------------------------------


def _out_of_order(filled: Mask, length: Ints) -> Mask:
    """Lists with a place left out before a later one."""
    bad = np.zeros(len(length), bool)
    if length.min() < len(filled):
        for place in range(1, len(filled)):
            bad |= filled[place] & ~filled[place - 1]
    return bad


def _ranks_given_twice(
    source: Source, users: Codes, depth: int, length: Ints, bounds: tuple[Any, Any]
) -> Mask:
    rows = np.zeros(len(users) + 1, np.int64)
    for block in source.blocks(bounds):
        row = users.find(block[USER_ID])[block[RANK].to_numpy() <= depth]
        rows += np.bincount(row + 1, minlength=len(rows))
    twice: Mask = rows[1:] > length
    return twice


def _goes_on(
    source: Source, users: Codes, depth: int, length: Ints, bounds: tuple[Any, Any]
) -> Mask:
    """Lists that end before `depth` and yet have a row behind it: ranks are left out in between."""
    bad = np.zeros(len(users) + 1, bool)
    short = np.append(length < depth, False)
    for block in source.blocks(bounds):
        row = users.find(block.filter(pl.col(RANK) > depth)[USER_ID])
        bad[row[short[row]]] = True
    return bad[:-1]


def _repeats(items: Ints) -> Mask:
    """Lists in which an item stands twice."""
    depth, n = items.shape
    found = np.zeros(n, bool)
    if depth <= PAIRWISE:
        for place in range(1, depth):
            for earlier in range(place):
                found |= (items[place] == items[earlier]) & (items[place] != EMPTY)
        return found
    block = max(1, (1 << 22) // depth)
    for start in range(0, n, block):
        ordered = np.sort(np.ascontiguousarray(items[:, start : start + block].T), axis=1)
        same = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != EMPTY)
        found[start : start + block] = same.any(axis=1)
    return found


def sorted_rows(
    source: Source,
    users: Codes,
    bounds: tuple[Any, Any],
    *,
    only: Mask | None = None,
    strangers: _Strangers | None = None,
) -> pl.DataFrame:
    """Returns `row`, `item`, `key` of the users wanted, sorted: each list in its order.

    Args:
        source: the recommendations.
        users: the users wanted.
        bounds: of their ids.
        only: bool (n_users,): of these users.
        strangers: counts the others.
    """
    parts = []
    policy = source.policy
    wanted = None if only is None else np.append(only, False)
    for block in source.blocks(bounds):
        row = users.find(block[USER_ID])
        if strangers is not None:
            strangers.add(block, row, n_rows=block.height)
        kept = row >= 0 if wanted is None else wanted[row]
        part = {
            "row": row[kept],
            "item": _items(block)[kept],
            "key": block[source.key].filter(pl.Series(kept)),
        }
        parts.append(pl.DataFrame(part))
    if not parts:  # no row is of the users within bounds
        key = source.table.schema[source.key]
        return pl.DataFrame(schema={"row": pl.Int32, "item": pl.Int32, "key": key})
    rows = pl.concat(parts).rechunk()
    if policy.duplicates == "last":
        rows = rows.unique(["row", "item"], keep="last", maintain_order=True)
    down = source.key == SCORE
    if policy.ties == "text_descending":
        text = source.names[ITEM_ID].text(rows["item"].to_numpy())
        rows = rows.with_columns(text.alias("text"))
        return rows.sort("row", "key", "text", descending=[False, down, True]).drop("text")
    return rows.sort("row", "key", "item", descending=[False, down, False])


def _place(
    items: Ints, length: Ints, wanted: Longs, ordered: pl.DataFrame, source: Source
) -> dict[str, int]:
    """Writes sorted lists into `items`, closed up; returns what was passed over."""
    depth = len(items)
    row, item, key = (ordered[name].to_numpy() for name in ("row", "item", "key"))
    same_list = np.append(False, row[1:] == row[:-1])
    first = np.ones(len(row), bool)
    if source.policy.duplicates == "first":
        pair = row.astype(np.int64) << 32 | item.view(np.uint32)
        first = pl.Series(pair).is_first_distinct().to_numpy()
    # The place in a list: distinct items so far, less those before the list.
    so_far = np.cumsum(first)
    place = so_far - np.maximum.accumulate(np.where(same_list, 0, so_far - first))
    inside = first & (place <= depth)
    items[:, wanted] = EMPTY
    items[place[inside] - 1, row[inside]] = item[inside]
    length[wanted] = (items[:, wanted] != EMPTY).sum(axis=0, dtype=np.int32)
    tied = same_list & np.append(False, key[1:] == key[:-1]) & (place <= depth)
    counts = {"duplicates": int(np.count_nonzero(~first & (place < depth)))}
    if source.key == SCORE:
        return counts | {"tied_scores": int(np.count_nonzero(tied))}
    gap = same_list & inside & (np.append(0, np.diff(key)) > 1)
    return counts | {
        "tied_ranks": int(np.count_nonzero(tied)),
        "rank_gaps": int(np.unique(row[gap]).size),
    }


def _refuse_rank(block: pl.DataFrame, source: Source) -> None:
    bad = block.filter(pl.col(RANK) < 1)
    user = source.names[USER_ID].of(bad[USER_ID].to_numpy()[:1], pl.String)[0]
    raise EvaluationError(
        f"ranks must start at 1: there are ranks of {bad[RANK].min()!s}",
        where=f"user {user}",
        hint="add 1 to ranks that count from 0, or order by score",
    )


def _refuse_late_start(rows: pl.DataFrame, users: Codes, source: Source) -> None:
    first = rows.group_by("row").agg(pl.col("key").min()).filter(pl.col("key") != 1).sort("row")
    if first.height:
        user = source.names[USER_ID].of(users.ids[first["row"][:1].to_numpy()], pl.String)[0]
        raise EvaluationError(
            f"ranks must start at 1: the lists of {first.height:,} users do not",
            where=f"user {user} starts at rank {first['key'][0]}",
            hint="rank the items of each user 1, 2, 3 …",
        )
