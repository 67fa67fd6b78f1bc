"""The first `depth` items of every user's list as one array, whatever order the table came in.

A rank is a place: an item of rank r stands in row r - 1 of `Lists.items`, so a table in any order is
filled in by one pass, without sorting. What a pass cannot settle (an item twice, a rank twice, a rank
left out) is settled by sorting the rows of those users alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.ids import EMPTY, Codes, Ints
from fedeval.policy import Policy
from fedprep.errors import EvaluationError
from fedprep.schema import ITEM_ID, USER_ID

__all__ = ["RANK", "SCORE", "Blocks", "Find", "Lists", "top_lists"]

RANK = "rank"
SCORE = "score"

Blocks = Callable[[], Iterator[pl.DataFrame]]
"""Gives the rows of a table block by block, from the start each time it is called."""

Find = Callable[[pl.Series], Ints]
"""Gives the codes of a column of ids."""

PAIRWISE = 16
"""Lists up to this long are searched for repeats by comparing all pairs of places, longer ones by sorting."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Lists:
    """items: int32 (depth, n_users), `EMPTY` behind a list's end · length: int32 (n_users,), at most depth.

    present: bool (n_users,): the user has a row in the table, at whatever rank.
    counts: what was seen on the way: `duplicates`, `tied_ranks`, `rank_gaps`, `tied_scores`.
    """

    users: Codes
    items: Ints
    length: Ints
    present: Mask
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        return len(self.items)


def top_lists(blocks: Blocks, users: Codes, find: Find, depth: int, policy: Policy) -> Lists:
    """Returns the first `depth` items of each user's list.

    Args:
        blocks: rows of `user_id`, `item_id`, and `rank` or `score` as the policy's order asks.
        users: the users wanted; rows of others are left out.
        find: the codes of a block's items.
        depth: places wanted, at least 1.
        policy: `order`, `ties`, `duplicates`.

    Raises:
        EvaluationError: a rank is below 1, or a list does not start at rank 1.
    """
    if policy.order == "score" or policy.duplicates == "last":
        return _by_sorting(blocks, users, find, depth, policy)
    return _by_rank(blocks, users, find, depth, policy)


def _by_rank(blocks: Blocks, users: Codes, find: Find, depth: int, policy: Policy) -> Lists:
    n = len(users)
    items = np.full((depth, n), EMPTY, np.int32)
    present = np.zeros(n + 1, bool)  # the last place takes the users that are not wanted
    places = items.ravel()
    written = beyond = 0
    for block in blocks():
        rank = block[RANK].to_numpy()
        row = users.find(block[USER_ID])
        present[row] = True
        if rank.size and rank.min() < 1:
            _refuse_rank(block)
        kept = np.flatnonzero((rank <= depth) & (row >= 0))
        beyond += rank.size - kept.size
        place = rank[kept].astype(np.int64)
        place -= 1
        place *= n
        place += row[kept]
        places[place] = find(block[ITEM_ID])[kept]
        written += kept.size
    filled = items != EMPTY
    length = filled.sum(axis=0, dtype=np.int32)
    bad = _out_of_order(filled, length, present[:n])
    if written > int(length.sum()):
        bad |= _ranks_given_twice(blocks, users, depth, length)
    if beyond:
        bad |= _goes_on(blocks, users, depth, length)
    if policy.duplicates == "first":
        bad |= _repeats(items)
    counts: dict[str, int] = {"duplicates": 0, "tied_ranks": 0, "rank_gaps": 0}
    if bad.any():
        rows = np.flatnonzero(bad)
        repaired = _sorted_rows(blocks, users, find, RANK, policy, only=bad)
        _refuse_late_start(repaired, users)
        counts |= _place(items, length, rows, repaired, policy)
    return Lists(users, items, length, present[:n], counts)


def _by_sorting(blocks: Blocks, users: Codes, find: Find, depth: int, policy: Policy) -> Lists:
    n = len(users)
    key = SCORE if policy.order == "score" else RANK
    rows = _sorted_rows(blocks, users, find, key, policy)
    items = np.full((depth, n), EMPTY, np.int32)
    length = np.zeros(n, np.int32)
    present = np.zeros(n, bool)
    present[rows["row"].to_numpy()] = True
    if key == RANK:
        _refuse_late_start(rows, users)
    counts = _place(items, length, np.arange(n), rows, policy)
    return Lists(users, items, length, present, counts)


def _out_of_order(filled: Mask, length: Ints, present: Mask) -> Mask:
    """Lists with a place left out before a later one, or with nothing at rank 1 though the user is there."""
    bad = present & ~filled[0]
    for place in range(1, len(filled)):
        bad |= filled[place] & ~filled[place - 1]
    return bad


def _ranks_given_twice(blocks: Blocks, users: Codes, depth: int, length: Ints) -> Mask:
    rows = np.zeros(len(users) + 1, np.int64)
    for block in blocks():
        row = users.find(block[USER_ID])[block[RANK].to_numpy() <= depth]
        rows += np.bincount(row + 1, minlength=len(rows))
    twice: Mask = rows[1:] > length
    return twice


def _goes_on(blocks: Blocks, users: Codes, depth: int, length: Ints) -> Mask:
    """Lists that end before `depth` and yet have a row behind it: ranks are left out in between."""
    bad = np.zeros(len(users) + 1, bool)
    short = np.append(length < depth, False)
    if short.any():
        for block in blocks():
            row = users.find(block[USER_ID])[block[RANK].to_numpy() > depth]
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


def _sorted_rows(
    blocks: Blocks,
    users: Codes,
    find: Find,
    key: str,
    policy: Policy,
    only: Mask | None = None,
) -> pl.DataFrame:
    """Returns `row`, `item`, `key` of the users wanted, each list in its order."""
    parts = []
    wanted = None if only is None else np.append(only, False)
    for block in blocks():
        row = users.find(block[USER_ID])
        kept = row >= 0 if wanted is None else wanted[row]
        part = {"row": row, "item": find(block[ITEM_ID]), "key": block[key].to_numpy()}
        if policy.ties == "text_descending":
            part["text"] = block[ITEM_ID].cast(pl.String)
        parts.append(pl.DataFrame(part).filter(kept))
    rows = pl.concat(parts).rechunk()
    if policy.duplicates == "last":
        rows = rows.unique(["row", "item"], keep="last", maintain_order=True)
    tie = "text" if policy.ties == "text_descending" else "item"
    down = [False, key == SCORE, policy.ties == "text_descending"]
    return rows.sort("row", "key", tie, descending=down)


def _refuse_rank(block: pl.DataFrame) -> None:
    bad = block.filter(pl.col(RANK) < 1)
    raise EvaluationError(
        f"ranks must start at 1: {bad.height:,} rows have a rank of {bad[RANK].min()} or so",
        where=f"user {bad[USER_ID][0]}, item {bad[ITEM_ID][0]}",
        hint="add 1 to a rank that counts from 0",
    )


def _refuse_late_start(rows: pl.DataFrame, users: Codes) -> None:
    first = rows.group_by("row").agg(pl.col("key").min()).filter(pl.col("key") != 1).sort("row")
    if first.height:
        raise EvaluationError(
            f"ranks must start at 1: the lists of {first.height:,} users do not",
            where=f"user {users.ids[first['row'][0]]} starts at rank {first['key'][0]}",
            hint="rank the items of each user 1, 2, 3 …",
        )


def _place(
    items: Ints, length: Ints, rows: npt.NDArray[np.int64], ordered: pl.DataFrame, policy: Policy
) -> dict[str, int]:
    """Writes sorted lists into `items`, closed up; returns what was passed over."""
    depth = len(items)
    row, item, key = (ordered[name].to_numpy() for name in ("row", "item", "key"))
    same_list = np.append(False, row[1:] == row[:-1])
    tied = same_list & np.append(False, key[1:] == key[:-1])
    first = np.ones(len(row), bool)
    if policy.duplicates == "first":
        pair = pl.Series(row.astype(np.int64) << 32 | item.view(np.uint32))
        first = pair.is_first_distinct().to_numpy()
    # Place in the list: distinct items so far, counted from the list's start.
    so_far = np.cumsum(first)
    start = np.maximum.accumulate(np.where(same_list, 0, so_far - first))
    place = so_far - start
    items[:, rows] = EMPTY
    inside = first & (place <= depth)
    items[place[inside] - 1, row[inside]] = item[inside]
    length[rows] = (items[:, rows] != EMPTY).sum(axis=0, dtype=np.int32)
    counts = {"duplicates": int(np.count_nonzero(~first & (place < depth)))}
    if key.dtype.kind == "f":
        return counts | {"tied_scores": int(np.count_nonzero(tied & (place <= depth)))}
    gap = same_list & (np.append(0, np.diff(key)) > 1) & inside
    return counts | {
        "tied_ranks": int(np.count_nonzero(tied & (place <= depth))),
        "rank_gaps": int(np.unique(row[gap]).size),
    }
