"""Rows in the order of their lists.

`places_by_score` finds the place of every row at the speed of a plain sort, and says whose lists it cannot
be sure of (equal scores); `sorted_rows` and `place_rows` settle any list, slowly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.ids import EMPTY, Codes, Ints
from fedeval.sources import Source, Strangers, items_of
from fedeval.tables import SCORE
from fedprep.errors import EvaluationError
from fedprep.schema import ITEM_ID, USER_ID

__all__ = ["counts_beside", "place_rows", "places_by_score", "refuse_late_start", "sorted_rows"]

BUCKET = 1 << 16
"""Rows that are sorted at a time: they stay in the processor's cache."""

Mask = npt.NDArray[np.bool_]
Longs = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]


def places_by_score(
    row: Ints, score: npt.NDArray[np.floating], n_users: int, depth: int
) -> tuple[Longs, Longs, Mask]:
    """Returns the rows at the first `depth` places of lists: which, where (from 1), and whether in doubt.

    In doubt is a row whose score, as float32, is that of the row before it in its list.

    Args:
        row: int32 (n,), the user, below n_users.
        score: float (n,), no NaN.
        depth: places wanted.

    Users are put into buckets by a radix sort of 16 bits; a bucket is sorted as 64-bit integers that hold
    user, score and place in the bucket, which is ten times as fast as to sort places by (user, score).
    """
    shift = _shift(len(row), n_users)
    bucket = row >> shift
    edges = np.append(0, np.cumsum(np.bincount(bucket)))
    order = None
    if (row[1:] < row[:-1]).any():
        order = np.argsort(bucket.astype(np.uint16), kind="stable")
    parts = []
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        here = np.arange(start, end) if order is None else order[start:end]
        at, place, doubt = _first_places(row[here], score[here], shift, depth)
        parts.append((here[at], place, doubt))
    which, places, doubts = (np.concatenate(column) for column in zip(*parts, strict=True))
    return which, places, doubts


def _first_places(
    row: Ints, score: npt.NDArray[np.floating], shift: int, depth: int
) -> tuple[Longs, Longs, Mask]:
    """The same for one bucket of users."""
    n = len(row)
    bits = max(1, int(n - 1).bit_length())
    key = (row & np.int32((1 << shift) - 1)).astype(np.uint64) << np.uint64(32)
    key |= _falling(score)
    if shift + bits <= 32:
        key <<= np.uint64(bits)
        key |= np.arange(n, dtype=np.uint64)
        key.sort()
        at = (key & np.uint64((1 << bits) - 1)).astype(np.int64)
        key >>= np.uint64(bits)
    else:  # some users have so many more rows than most that the three do not fit into 64 bits
        at = np.argsort(key, kind="stable")
        key = key[at]
    user = key >> np.uint64(32)
    begin = np.flatnonzero(np.append(True, user[1:] != user[:-1])[:n])
    length = np.diff(np.append(begin, n))
    place = np.arange(1, n + 1) - np.repeat(begin, length)
    doubt = np.append(False, key[1:] == key[:-1])[:n]
    near = place <= depth
    return at[near], place[near], doubt[near]


def _shift(n_rows: int, n_users: int) -> int:
    """How many users a bucket has, as a power of 2: 16 bits of buckets, of some tens of thousands of rows."""
    least = max(0, (n_users - 1).bit_length() - 16)
    wanted = BUCKET * n_users // max(n_rows, 1)
    return max(least, wanted.bit_length() - 1 if wanted else 0)


def _falling(score: npt.NDArray[np.floating]) -> Words:
    """Returns uint64 below 2^32 that fall as the scores, rounded to float32, rise."""
    with np.errstate(over="ignore"):
        bits = (score.astype(np.float32) + np.float32(0)).view(np.uint32)  # −0 is 0
    rising = np.where(bits >> np.uint32(31), ~bits, bits | np.uint32(1 << 31))
    return (~rising).astype(np.uint64)


def sorted_rows(
    source: Source,
    users: Codes,
    bounds: tuple[Any, Any],
    *,
    only: Mask | None = None,
    strangers: Strangers | None = None,
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
            "item": items_of(block)[kept],
            "key": block[source.key].filter(pl.Series(kept)),
        }
        if source.other:
            part["other"] = block[source.other].filter(pl.Series(kept))
        parts.append(pl.DataFrame(part))
    if not parts:  # no row is of the users within bounds
        schema = {"row": pl.Int32(), "item": pl.Int32(), "key": source.table.schema[source.key]}
        if source.other:
            schema["other"] = source.table.schema[source.other]
        return pl.DataFrame(schema=schema)
    rows = pl.concat(parts).rechunk()
    if policy.duplicates == "last":
        rows = rows.unique(["row", "item"], keep="last", maintain_order=True)
    if source.key == SCORE and rows.height:
        return _by_score(rows, len(users), source)
    return _by_all(rows, source)


def _by_all(rows: pl.DataFrame, source: Source) -> pl.DataFrame:
    """Sorted by user, key and tie: exact, and slow."""
    down, rest = source.key == SCORE, [name for name in ("other",) if name in rows.columns]
    text = source.policy.ties == "text_descending"
    if text:
        named = source.names[ITEM_ID].text(rows["item"].to_numpy())
        rows = rows.with_columns(named.alias("text"))
    by = ["row", "key", "text" if text else "item", *rest]
    ordered = rows.sort(by, descending=[False, down, text, *(False for _ in rest)])
    return ordered.drop("text") if text else ordered


def _by_score(rows: pl.DataFrame, n_users: int, source: Source) -> pl.DataFrame:
    """The same, of which only runs of equal scores are sorted by all keys."""
    at, _, doubt = places_by_score(
        rows["row"].to_numpy(), rows["key"].to_numpy(), n_users, rows.height
    )
    runs = np.flatnonzero(doubt | np.append(doubt[1:], False))
    if len(runs):
        tied = rows[at[runs]].with_columns(pl.Series("at", at[runs]))
        at[runs] = _by_all(tied, source)["at"].to_numpy()
    return rows[at]


def place_rows(
    items: Ints, length: Ints, wanted: Longs, ordered: pl.DataFrame, source: Source
) -> dict[str, int]:
    """Writes sorted lists into `items` and `length`, closed up; returns what was passed over or tied.

    Args:
        items: int32 (depth, n_users) · length: int32 (n_users,).
        wanted: the users that `ordered` is of.
        ordered: `row`, `item`, `key`, and `other` where the source has it, sorted.
        source: where they are from.
    """
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
    if source.other:
        other = ordered["other"].cast(pl.Float64).to_numpy()  # a missing one is NaN
        here, before = other[1:], other[:-1]
        same = key[1:] == key[:-1]
        if source.key == SCORE:
            against = ~same & (here <= before)
        else:
            against = np.where(same, (here < before) | (here > before), here > before)
        counts |= counts_beside(
            int(np.count_nonzero(same_list[1:] & inside[1:] & against)),
            int(np.count_nonzero(same_list[1:] & inside[1:] & (here == before))),
            source,
        )
    if source.key == SCORE:
        return counts | {"tied_scores": int(np.count_nonzero(tied))}
    gap = same_list & inside & (np.append(0, np.diff(key)) > 1)
    return counts | {
        "tied_ranks": int(np.count_nonzero(tied)),
        "rank_gaps": int(np.unique(row[gap]).size),
    }


def counts_beside(against: int, equal: int, source: Source) -> dict[str, int]:
    """Returns counts of places whose rank and score contradict the place before, and of equal scores."""
    if not source.other:
        return {}
    found = {"contradictions": int(against)}
    return found if source.key == SCORE else found | {"equal_scores": int(equal)}


def refuse_late_start(rows: pl.DataFrame, users: Codes, source: Source) -> None:
    """Raises an EvaluationError where a list does not start at rank 1."""
    first = rows.group_by("row").agg(pl.col("key").min()).filter(pl.col("key") != 1).sort("row")
    if first.height:
        user = source.names[USER_ID].of(users.ids[first["row"][:1].to_numpy()], pl.String)[0]
        raise EvaluationError(
            f"ranks must start at 1: the lists of {first.height:,} users do not",
            where=f"user {user} starts at rank {first['key'][0]}",
            hint="rank the items of each user 1, 2, 3 …",
        )
