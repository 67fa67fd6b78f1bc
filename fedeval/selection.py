"""The k best of each row of a matrix of scores, equal scores by column: an exact partial sort, fast.

A floor under a row's k-th best score is guessed from a part of its scores, one comparison finds the few
hundred that reach it, and only those are sorted, as int64 keys of score and column. Where the guess fails
(fewer than k reach it, or too many) an exact partition takes its place: the result is always exact.
"""

from __future__ import annotations

import os
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedprep.errors import EvaluationError

__all__ = [
    "Selected",
    "best_keys",
    "exact_keys",
    "keys_of",
    "most_kept",
    "places",
    "refuse_nan",
    "sample_rank",
    "select",
    "select_in",
    "selected",
    "sorted_keys",
    "threads",
]

SLICE_SCORES = 1 << 21
"""Scores that one thread selects from at a time: 8 MiB, so that they stay in the cache."""

SHORT = 16_384
"""Rows of fewer scores are partitioned whole."""

SAMPLED = 16
"""The k-th best score of longer rows is guessed from one score in so many."""

PIECES = 16
"""The sample is so many stretches of columns, as neighbours in id are often alike."""

Floats = npt.NDArray[np.float32]
Keys = npt.NDArray[np.int64]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Selected:
    """The best items of a block of users: item_id int32 (b, k) and score float32 (b, k), best first."""

    item_id: npt.NDArray[np.int32]
    score: Floats


def select(scores: Floats, k: int) -> Selected:
    """Returns the k best columns of each row of float32 (b, n), and their scores, best first.

    Equal scores stand in ascending order of column; -0.0 and 0.0 are equal. A row has n columns where
    that is fewer than k.

    Raises:
        EvaluationError: a score is NaN.
    """
    refuse_nan(scores, np.arange(len(scores)))
    with ThreadPoolExecutor(threads()) as pool:
        return select_in(pool, scores, k)


def select_in(pool: Executor, scores: Floats, k: int) -> Selected:
    """Returns what `select` does; `scores` holds no NaN."""
    n_rows, n = scores.shape
    k = min(k, n)
    step = max(1, SLICE_SCORES // max(n, 1))
    slices = [scores[begin : begin + step] for begin in range(0, n_rows, step)]
    keys = pool.map(lambda part: best_keys(part, k), slices)
    return selected(np.concatenate([np.empty((0, k), np.int64), *keys]))


def best_keys(scores: Floats, k: int) -> Keys:
    """Returns int64 (b, k), ascending: the keys of the k best scores of each row, 0 < k <= n."""
    n_rows, n = scores.shape
    place = places(scores >= _floors(scores, k))
    count = np.diff(np.searchsorted(place, np.arange(n_rows + 1) * n))
    odd = (count < k) | (count > most_kept(k))
    row, column = np.divmod(place, n)
    if odd.any():
        kept = ~odd[row]
        place, row, column = place[kept], row[kept], column[kept]
    keys = sorted_keys(row, keys_of(scores.reshape(-1)[place], column), n_rows, k)
    if odd.any():
        keys[odd] = exact_keys(scores[odd], k)
    return keys


def _floors(scores: Floats, k: int) -> Floats:
    """Returns float32 (b, 1): a guess from below at each row's k-th best score; exact for short rows."""
    n_rows, n = scores.shape
    size = n // SAMPLED // PIECES
    rank = sample_rank(k, size * PIECES, n)
    if n < SHORT or 4 * rank > size * PIECES:
        return np.partition(scores, n - k, axis=1)[:, n - k, None]
    whole = scores[:, : n // PIECES * PIECES].reshape(n_rows, PIECES, n // PIECES)
    sample = whole[:, :, :size].reshape(n_rows, PIECES * size)
    return np.partition(sample, sample.shape[1] - rank, axis=1)[:, -rank, None]


def sample_rank(k: int, size: int, n: int) -> int:
    """Returns which score of a random sample of `size` lies below the k-th of all n, almost surely.

    Of the k best, k · size / n are expected in the sample; the rank is three deviations more.
    """
    expected = k * size / n
    return int(expected + 3 * expected**0.5 + 2)


def most_kept(k: int) -> int:
    """Returns how many scores of a row may reach its floor before it is partitioned instead."""
    return 16 * k + 1024


def places(mask: npt.NDArray[np.bool_]) -> Places:
    """Returns the flat places of the true values, as `np.flatnonzero` does, faster where they are few."""
    packed = np.packbits(mask.reshape(-1), bitorder="little")
    byte = np.flatnonzero(packed != 0)
    bit = np.flatnonzero(np.unpackbits(packed[byte], bitorder="little").view(np.bool_))
    place: Places = byte[bit >> 3] * 8 + (bit & 7)
    return place


def exact_keys(scores: Floats, k: int) -> Keys:
    """Returns what `best_keys` does, however many scores are equal: the first columns of them."""
    n = scores.shape[1]
    floor = np.partition(scores, n - k, axis=1)[:, n - k, None]
    above, level = scores > floor, scores == floor
    wanted = k - above.sum(axis=1, keepdims=True)
    taken = above | (level & (np.cumsum(level, axis=1, dtype=np.int32) <= wanted))
    row, column = np.nonzero(taken)
    return np.sort(keys_of(scores[row, column], column).reshape(len(scores), k), axis=1)


# --- keys ----------------------------------------------------------------------------------------------


def keys_of(score: Floats, column: npt.NDArray[np.integer]) -> Keys:
    """Returns int64 keys that ascend as scores descend and, where they are equal, as columns ascend.

    The bits of a float32, its lower 31 turned over where it is negative, are in the order of its value.
    """
    bits = (score + np.float32(0)).view(np.int32)  # + 0 turns -0.0 into 0.0
    ascending = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    return (~ascending).astype(np.int64) << 32 | column


def sorted_keys(row: Places, keys: Keys, n_rows: int, k: int) -> Keys:
    """Returns int64 (n_rows, k): the k lowest keys of each row, ascending; `row` ascends.

    Rows that have fewer are filled up with the largest integer.
    """
    count = np.bincount(row, minlength=n_rows)
    table = np.full((n_rows, max(k, int(count.max(initial=0)))), np.iinfo(np.int64).max)
    table[row, np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)] = keys
    if table.shape[1] > k:
        table.partition(k - 1, axis=1)
    return np.sort(table[:, :k], axis=1)


def selected(keys: Keys) -> Selected:
    """Returns the columns and scores that keys stand for."""
    ascending = ~(keys >> 32).astype(np.int32)
    score = (ascending ^ ((ascending >> 31) & np.int32(0x7FFFFFFF))).view(np.float32)
    return Selected((keys & 0xFFFFFFFF).astype(np.int32), score)


# --- checks --------------------------------------------------------------------------------------------


def refuse_nan(scores: Floats, users: npt.NDArray[np.integer]) -> None:
    """Raises an `EvaluationError` if a score is NaN; row i belongs to `users[i]`."""
    if np.isnan(scores).any():
        bad = np.isnan(scores)
        first = int(np.flatnonzero(bad.any(axis=1))[0])
        raise EvaluationError(
            f"{int(bad.sum())} scores are NaN", where=f"first for user {int(users[first])}"
        )


def threads() -> int:
    """Returns how many threads select at once: one a processor that we may use, 8 at most."""
    if hasattr(os, "sched_getaffinity"):
        return min(8, len(os.sched_getaffinity(0)))
    return min(8, os.cpu_count() or 1)
