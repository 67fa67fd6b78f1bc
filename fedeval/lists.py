"""The first `depth` items of every user's list as one array, whatever order the table came in.

A rank is a place: an item of rank r stands in row r - 1 of `Lists.items`, so a table in any order is
filled in by one pass, without sorting; scores are made ranks first. What this cannot settle (an item
twice, a rank or score twice, a rank left out) is settled by sorting the rows of those users alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.ids import EMPTY, Codes, Ints
from fedeval.ordering import (
    counts_beside,
    place_rows,
    places_by_score,
    refuse_late_start,
    sorted_rows,
)
from fedeval.sources import Source, Strangers, items_of
from fedeval.tables import RANK, SCORE
from fedprep.errors import EvaluationError
from fedprep.schema import USER_ID

__all__ = ["Lists", "top_lists"]

PAIRWISE = 16
"""Lists up to this long are searched for repeats by comparing all pairs of places, longer ones by sorting."""

Mask = npt.NDArray[np.bool_]
Longs = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Lists:
    """items: int32 (depth, n_users), `EMPTY` behind a list's end · length: int32 (n_users,), at most depth.

    present: bool (n_users,): the user has a row in the table, at whatever rank.
    strangers: users of the table that have no row here · n_rows: rows of the table.
    counts: what was passed over or settled: `duplicates`, `tied_ranks`, `rank_gaps`, `tied_scores`,
    `contradictions`, `equal_scores`.
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
    if source.policy.duplicates == "last":
        return _by_sorting(source, users, depth, bounds)
    if source.key == SCORE:
        return _by_score(source, users, depth, bounds)
    return _by_rank(source, users, depth, bounds)


def _by_rank(source: Source, users: Codes, depth: int, bounds: tuple[Any, Any]) -> Lists:
    n = len(users)
    items = np.full((depth, n), EMPTY, np.int32)
    places = items.ravel()
    scores = np.full((depth, n) if source.other else (1, 1), np.nan, np.float32)
    strangers = Strangers()
    written = 0
    for block in source.blocks(bounds):
        if (block[RANK] < 1).any():
            _refuse_rank(block, source)
        near = block.filter(pl.col(RANK) <= depth)
        row = users.find(near[USER_ID])
        listed = items_of(near)
        place = near[RANK].to_numpy().astype(np.int64)
        score = near[SCORE].to_numpy() if source.other else None
        if strangers.add(near, row, n_rows=block.height):
            wanted = row >= 0
            row, listed, place = row[wanted], listed[wanted], place[wanted]
            score = None if score is None else score[wanted]
        place -= 1
        place *= n
        place += row
        places[place] = listed
        if score is not None:
            scores.ravel()[place] = score
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
    sure = ~bad
    counts |= counts_beside(
        int(((scores[1:] > scores[:-1]) & sure).sum()) if source.other else 0,
        int(((scores[1:] == scores[:-1]) & sure).sum()) if source.other else 0,
        source,
    )
    if bad.any():
        rows = sorted_rows(source, users, bounds, only=bad)
        refuse_late_start(rows, users, source)
        counts = _added(counts, place_rows(items, length, np.flatnonzero(bad), rows, source))
    return Lists(items, length, length > 0, strangers.count(), strangers.n_rows, counts)


def _by_score(source: Source, users: Codes, depth: int, bounds: tuple[Any, Any]) -> Lists:
    n = len(users)
    strangers = Strangers()
    items = np.full((depth, n), EMPTY, np.int32)
    rows, listed, scores = [np.empty(0, np.int32)], [np.empty(0, np.int32)], []
    ranks = [np.empty(0)]
    for block in source.blocks(bounds):
        row = users.find(block[USER_ID])
        here, score = items_of(block), block[SCORE].to_numpy()
        rank = block[RANK].cast(pl.Float64).to_numpy() if source.other else np.empty(0)
        if strangers.add(block, row, n_rows=block.height):
            wanted = row >= 0
            row, here, score = row[wanted], here[wanted], score[wanted]
            rank = rank[wanted] if source.other else rank
        ranks.append(rank)
        rows.append(row)
        listed.append(here)
        scores.append(score)
    row, item = np.concatenate(rows), np.concatenate(listed)
    bad = np.zeros(n, bool)
    placed = np.full((depth, n) if source.other else (1, 1), np.nan)
    if len(row):
        at, place, doubt = places_by_score(row, np.concatenate(scores), n, depth + 1)
        bad[row[at[doubt]]] = True
        near = place <= depth
        items[place[near] - 1, row[at[near]]] = item[at[near]]
        if source.other:
            placed[place[near] - 1, row[at[near]]] = np.concatenate(ranks)[at[near]]
    length = (items != EMPTY).sum(axis=0, dtype=np.int32)
    if source.policy.duplicates == "first":
        bad |= _repeats(items)
    counts = {"duplicates": 0, "tied_scores": 0}
    counts |= counts_beside(
        int(((placed[1:] <= placed[:-1]) & ~bad).sum()) if source.other else 0, 0, source
    )
    if bad.any():
        settled = sorted_rows(source, users, bounds, only=bad)
        counts = _added(counts, place_rows(items, length, np.flatnonzero(bad), settled, source))
    return Lists(items, length, length > 0, strangers.count(), strangers.n_rows, counts)


def _by_sorting(source: Source, users: Codes, depth: int, bounds: tuple[Any, Any]) -> Lists:
    n = len(users)
    strangers = Strangers()
    rows = sorted_rows(source, users, bounds, strangers=strangers)
    items = np.full((depth, n), EMPTY, np.int32)
    length = np.zeros(n, np.int32)
    present = np.zeros(n, bool)
    present[rows["row"].to_numpy()] = True
    if source.key == RANK:
        refuse_late_start(rows, users, source)
    counts = place_rows(items, length, np.arange(n), rows, source)
    return Lists(items, length, present, strangers.count(), strangers.n_rows, counts)


def _added(counts: dict[str, int], more: dict[str, int]) -> dict[str, int]:
    return {name: counts.get(name, 0) + more.get(name, 0) for name in counts | more}


# --- what one pass cannot settle ------------------------------------------------------------------------


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


def _refuse_rank(block: pl.DataFrame, source: Source) -> None:
    bad = block.filter(pl.col(RANK) < 1)
    user = source.names[USER_ID].of(bad[USER_ID].to_numpy()[:1], pl.String)[0]
    raise EvaluationError(
        f"ranks must start at 1: there are ranks of {bad[RANK].min()!s}",
        where=f"user {user}",
        hint="add 1 to ranks that count from 0, or order by score (--order score)",
    )
