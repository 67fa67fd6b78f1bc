"""Lists from any function that scores a block of users: all items, or sampled candidates alone.

One block of users × items is in memory at a time (`BLOCK_BYTES`). Lists are in order of score, ties in
order of item id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.candidates import Candidates
from fedeval.interactions import Interactions
from fedeval.selection import Selected, refuse_nan, select_in, threads
from fedprep.errors import EvaluationError
from fedprep.schema import ITEM_ID, USER_ID

__all__ = [
    "BLOCK_BYTES",
    "ScoreBlock",
    "check_sizes",
    "list_frame",
    "no_rows",
    "rank_pairs",
    "ranked",
    "ranked_blocks",
]

BLOCK_BYTES = 128 << 20
"""Scores that are in memory at a time, in bytes."""

Floats = npt.NDArray[np.float32]

ScoreBlock = Callable[[npt.NDArray[np.int64]], Floats]
"""From user ids int64 (b,) to scores float32 (b, n_items). The result is written into, so it must be new,
or a buffer that the next call fills again. An item of score -inf is never recommended."""


def ranked(
    scores: ScoreBlock,
    users: npt.ArrayLike,
    n_items: int,
    *,
    k: int = 100,
    seen: Interactions | None = None,
    items: npt.NDArray[np.bool_] | None = None,
    candidates: Candidates | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> pl.DataFrame:
    """Returns the k best items of each user: user_id i32, item_id i32, rank i32 (from 1), score f32.

    Args:
        scores: the scores of a block of users.
        users: who gets a list, in that order.
        n_items: how many items there are.
        k: the length of the lists; shorter where fewer items are left.
        seen: rows whose items are left out, such as train and valid together.
        items: bool (n_items,): the items that may be recommended; None: all.
        candidates: rank these alone; `users`, `seen` and `items` then say nothing. One of score -inf
            stands last.
        block_bytes: the most that one block of scores may take.

    Raises:
        EvaluationError: a score is NaN, or sizes do not fit.
    """
    if candidates is not None:
        return _rank_candidates(scores, n_items, candidates, k, block_bytes)
    blocks = ranked_blocks(
        scores, users, n_items, k=k, seen=seen, items=items, block_bytes=block_bytes
    )
    return pl.concat([no_rows(), *blocks])


def ranked_blocks(
    scores: ScoreBlock,
    users: npt.ArrayLike,
    n_items: int,
    *,
    k: int = 100,
    seen: Interactions | None = None,
    items: npt.NDArray[np.bool_] | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[pl.DataFrame]:
    """Yields what `ranked` returns, block by block of users: for lists that are larger than memory."""
    check_sizes(k, n_items, seen, items)
    wanted = np.asarray(users, dtype=np.int64)
    step = _rows(n_items, block_bytes)
    barred = np.flatnonzero(~items) if items is not None else np.empty(0, np.int64)
    for begin in range(0, len(wanted), step):
        block = wanted[begin : begin + step]
        values = scores(block)
        refuse_nan(values, block)
        values[:, barred] = -np.inf
        if seen is not None:
            place, row = seen.rows_of(block)
            values[place, seen.item_id[row]] = -np.inf
        with ThreadPoolExecutor(threads()) as pool:  # held by no caller that may never come back
            best = select_in(pool, values, k)
        yield list_frame(block, best)


def rank_pairs(candidates: Candidates, score: Floats, k: int) -> pl.DataFrame:
    """Returns the k best candidates of each user by float32 (n_rows,) scores, one for each candidate."""
    refuse_nan(score[:, None], np.repeat(candidates.user_id, candidates.counts))
    score = np.maximum(
        score, np.finfo(np.float32).min
    )  # -inf stands last, and is a number in a file
    user = np.repeat(candidates.user_id, candidates.counts)
    order = np.lexsort((candidates.item_id, -score, user))
    rank = np.arange(len(order)) - np.repeat(candidates.offsets[:-1], candidates.counts)
    columns = {
        USER_ID: user,
        ITEM_ID: candidates.item_id[order],
        "rank": (rank + 1).astype(np.int32),
        "score": score[order],
    }
    return pl.DataFrame(columns).filter(pl.col("rank") <= k)


def list_frame(users: npt.NDArray[np.int64], best: Selected) -> pl.DataFrame:
    """Returns the lists of a block of users as a frame; an item of score -inf is left out."""
    there = best.score > -np.inf
    row, rank = np.nonzero(there)
    return pl.DataFrame(
        {
            USER_ID: users[row].astype(np.int32),
            ITEM_ID: best.item_id[there],
            "rank": (rank + 1).astype(np.int32),
            "score": best.score[there],
        }
    )


def check_sizes(
    k: int, n_items: int, seen: Interactions | None, items: npt.NDArray[np.bool_] | None
) -> None:
    """Raises an `EvaluationError` if what limits the lists does not fit the items."""
    if k < 1:
        raise EvaluationError(f"k is {k}", expected="1 or more")
    if seen is not None and seen.n_items != n_items:
        raise EvaluationError(f"scores are of {n_items} items, the seen rows of {seen.n_items}")
    if items is not None and items.shape != (n_items,):
        raise EvaluationError(f"items has shape {items.shape}", expected=f"({n_items},)")


def _rank_candidates(
    scores: ScoreBlock, n_items: int, candidates: Candidates, k: int, block_bytes: int
) -> pl.DataFrame:
    item = candidates.item_id
    strange = item[(item < 0) | (item >= n_items)]
    if len(strange):
        raise EvaluationError(f"candidate {int(strange[0])} is none of the {n_items} items")
    values = np.empty(len(candidates), np.float32)
    step = _rows(n_items, block_bytes)
    for begin in range(0, len(candidates.user_id), step):
        block = candidates.user_id[begin : begin + step].astype(np.int64)
        edges = candidates.offsets[begin : begin + len(block) + 1]
        row = np.repeat(np.arange(len(block)), np.diff(edges))
        rows = slice(edges[0], edges[-1])
        values[rows] = scores(block)[row, candidates.item_id[rows]]
    return rank_pairs(candidates, values, k)


def _rows(n_items: int, block_bytes: int) -> int:
    return max(1, block_bytes // (4 * max(n_items, 1)))


def no_rows() -> pl.DataFrame:
    """Returns the frame of no list."""
    empty = Selected(np.empty((0, 0), np.int32), np.empty((0, 0), np.float32))
    return list_frame(np.empty(0, np.int64), empty)
