"""The k best items of each user by a model that is two matrices: product and selection in one pass.

Users × items never exist: a block of users meets one tile of items at a time (`TILE_BYTES`, small enough
for the cache), and of each tile only the scores that reach the user's floor are kept. Each thread does
blocks of its own, with one thread of BLAS (by threadpoolctl, where it is installed), so that none waits
for another. Items stand in a random order, so that the first tile is a fair sample to guess the floors
from. Where a guess fails, the user's scores are computed again and partitioned: the lists are exact always.
Scores are float32.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.candidates import Candidates
from fedeval.interactions import Interactions
from fedeval.ranking import (
    BLOCK_BYTES,
    check_sizes,
    list_frame,
    no_rows,
    rank_pairs,
    ranked_blocks,
)
from fedeval.selection import (
    exact_keys,
    keys_of,
    most_kept,
    places,
    sample_rank,
    selected,
    sorted_keys,
    threads,
)
from fedprep.errors import EvaluationError

__all__ = ["TILE_BYTES", "top_k", "top_k_blocks"]

TILE_BYTES = 8 << 20
"""Scores of one block of users and one tile of items, in bytes."""

TILE_ITEMS = 8_192

ROUND = 4
"""Blocks that each thread does before lists are handed on."""

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]


def top_k(
    user_factors: Floats,
    item_factors: Floats,
    *,
    k: int = 100,
    seen: Interactions | None = None,
    users: npt.ArrayLike | None = None,
    items: npt.NDArray[np.bool_] | None = None,
    candidates: Candidates | None = None,
) -> pl.DataFrame:
    """Returns the k items of the largest `user_factors @ item_factors.T` of each user.

    An item's bias is one more column of `item_factors`, against a column of ones.

    Args:
        user_factors: float32 (n_users, dim); row u belongs to user u.
        item_factors: float32 (n_items, dim).
        k: the length of the lists; shorter where fewer items are left.
        seen: rows whose items are left out, such as train and valid together.
        users: who gets a list, in that order; None: every user.
        items: bool (n_items,): the items that may be recommended; None: all.
        candidates: rank these alone; `seen`, `users` and `items` then say nothing.

    Returns:
        user_id i32, item_id i32, rank i32 (from 1), score f32; equal scores in order of item id.

    Raises:
        EvaluationError: shapes that do not fit, factors that are not finite or overflow float32.

    Example:
        >>> top_k(np.eye(2, dtype="f4"), np.eye(2, dtype="f4"), k=1)["item_id"].to_list()
        [0, 1]
    """
    if candidates is not None:
        _check_factors(user_factors, item_factors)
        return _rank_candidates(user_factors, item_factors, candidates, k)
    blocks = top_k_blocks(user_factors, item_factors, k=k, seen=seen, users=users, items=items)
    return pl.concat([no_rows(), *blocks])


def top_k_blocks(
    user_factors: Floats,
    item_factors: Floats,
    *,
    k: int = 100,
    seen: Interactions | None = None,
    users: npt.ArrayLike | None = None,
    items: npt.NDArray[np.bool_] | None = None,
) -> Iterator[pl.DataFrame]:
    """Yields what `top_k` returns, block by block of users: for lists that are larger than memory."""
    _check_factors(user_factors, item_factors)
    n_items = len(item_factors)
    check_sizes(k, n_items, seen, items)
    wanted = _users(users, len(user_factors))
    n_ranked = n_items if items is None else int(items.sum())
    if not len(wanted) or n_ranked < 2 * TILE_ITEMS or 32 * k > n_ranked:
        transposed = np.ascontiguousarray(item_factors.T)  # (dim, n_items)
        yield from ranked_blocks(
            lambda block: user_factors[block] @ transposed,
            wanted,
            n_items,
            k=k,
            seen=seen,
            items=items,
        )
        return
    tiles = _tiles(item_factors, items)
    step = TILE_BYTES // (4 * TILE_ITEMS)
    parts = [wanted[begin : begin + step] for begin in range(0, len(wanted), step)]
    limit, workers = _one_thread_each()
    spare: SimpleQueue[Floats] = SimpleQueue()
    for _ in range(workers):
        spare.put(np.empty((min(step, len(wanted)), TILE_ITEMS), np.float32))

    def lists(users: Places) -> pl.DataFrame:
        buffer = spare.get()
        try:
            block = _block(user_factors[users], users, seen, tiles)
            return list_frame(users, selected(_block_keys(block, tiles, k, buffer)))
        finally:
            spare.put(buffer)

    for begin in range(0, len(parts), ROUND * workers):
        # Neither is held while the caller works on what it was given, nor if it never comes back.
        with ThreadPoolExecutor(workers) as pool, limit():
            done = list(pool.map(lists, parts[begin : begin + ROUND * workers]))
        yield from done


def _one_thread_each() -> tuple[Callable[[], AbstractContextManager[object]], int]:
    """Returns a context in which the product has one thread, and how many blocks to do at once in it.

    A thread that multiplies and selects by itself waits for no other. Where the threads of BLAS
    cannot be limited, one block is done at a time, with as many threads as BLAS takes.
    """
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return nullcontext, 1
    found = ThreadpoolController().select(user_api="blas")
    if threads() == 1 or not len(found):
        return nullcontext, 1
    return functools.partial(found.limit, limits=1), threads()


@dataclass(frozen=True)
class _Tiles:
    """Item factors in a random order: item_id int64 (n,), and tiles of float32 (dim, TILE_ITEMS or fewer).

    column: int64 (n_items,): where in that order an item stands, -1 where it is not ranked.
    """

    item_id: Places
    column: Places
    factors: list[Floats]


@dataclass(frozen=True)
class _Block:
    """A block of users: their factors, and row and column of what they have seen, in order of tile.

    edges: int64 (n_tiles + 1,): where the seen columns of each tile begin.
    """

    factors: Floats
    row: Places
    column: Places
    edges: Places


def _tiles(item_factors: Floats, items: npt.NDArray[np.bool_] | None) -> _Tiles:
    n_items = len(item_factors)
    ranked = np.arange(n_items) if items is None else np.flatnonzero(items)
    order = np.random.default_rng(0).permutation(ranked)
    column = np.full(n_items, -1, np.int64)
    column[order] = np.arange(len(order))
    starts = range(0, len(order), TILE_ITEMS)
    parts = [np.ascontiguousarray(item_factors[order[a : a + TILE_ITEMS]].T) for a in starts]
    return _Tiles(order, column, parts)


def _block(factors: Floats, users: Places, seen: Interactions | None, tiles: _Tiles) -> _Block:
    numbers = np.arange(len(tiles.factors) + 1)
    if seen is None:
        nothing = np.empty(0, np.int64)
        return _Block(factors, nothing, nothing, np.zeros_like(numbers))
    row, at = seen.rows_of(users)
    column = tiles.column[seen.item_id[at]]
    row, column = row[column >= 0], column[column >= 0]
    tile = column // TILE_ITEMS
    order = _by_small(tile, len(numbers))
    return _Block(factors, row[order], column[order], np.searchsorted(tile[order], numbers))


def _block_keys(block: _Block, tiles: _Tiles, k: int, buffer: Floats) -> npt.NDArray[np.int64]:
    """Returns int64 (b, k): the keys of the k best items of each user of a block.

    buffer: float32 (b or more, TILE_ITEMS), to write scores into.
    """
    n_rows = len(block.factors)
    rank = sample_rank(k, TILE_ITEMS, len(tiles.item_id))
    floors = np.empty((n_rows, 1), np.float32)
    reach = np.empty((n_rows, TILE_ITEMS), np.bool_)
    count = np.zeros(n_rows, np.int64)
    kept = []
    for number, factors in enumerate(tiles.factors):
        scores = np.matmul(block.factors, factors, out=buffer[:n_rows, : factors.shape[1]])
        begin = number * TILE_ITEMS
        hidden = slice(block.edges[number], block.edges[number + 1])
        scores[block.row[hidden], block.column[hidden] - begin] = -np.inf
        if number == 0:
            floors = np.partition(scores, TILE_ITEMS - rank, axis=1)[:, -rank, None]
        row, column = _reaching(scores, floors, reach)
        kept.append((row, keys_of(scores[row, column], tiles.item_id[begin + column])))
        count += np.bincount(row, minlength=n_rows)
        floors[count > most_kept(k)] = np.inf  # scores too alike to be told apart: see below
    odd = (count < k) | (count > most_kept(k))
    row, keys = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    row, keys = row[~odd[row]], keys[~odd[row]]
    order = _by_small(row, n_rows)
    best = sorted_keys(row[order], keys[order], n_rows, k)
    if odd.any():
        best[odd] = _again(block, np.flatnonzero(odd), tiles, k)
    return best


def _reaching(
    scores: Floats, floors: Floats, reach: npt.NDArray[np.bool_]
) -> tuple[Places, Places]:
    """Returns row and column of the scores that reach the floor of their row.

    reach: bool, as large as a tile, to write into: new memory would cost more than the comparison.
    """
    mask = reach[:, : scores.shape[1]]
    np.greater_equal(scores, floors, out=mask)
    row, column = np.divmod(places(mask), scores.shape[1])
    return row, column


def _again(block: _Block, rows: Places, tiles: _Tiles, k: int) -> npt.NDArray[np.int64]:
    """Returns the keys of users whose floor was no good, from all their scores."""
    n_items = len(tiles.column)
    step = max(1, TILE_BYTES // (4 * n_items))
    best = np.empty((len(rows), k), np.int64)
    for begin in range(0, len(rows), step):
        some = rows[begin : begin + step]
        scores = np.full((len(some), n_items), -np.inf, np.float32)
        for number, factors in enumerate(tiles.factors):
            names = tiles.item_id[number * TILE_ITEMS :][: factors.shape[1]]
            scores[:, names] = block.factors[some] @ factors
        place = np.full(len(block.factors), -1)
        place[some] = np.arange(len(some))
        mine = place[block.row] >= 0
        scores[place[block.row[mine]], tiles.item_id[block.column[mine]]] = -np.inf
        best[begin : begin + step] = exact_keys(scores, k)
    return best


def _by_small(numbers: Places, below: int) -> Places:
    """Returns the stable order of small numbers; those of 16 bits are sorted by counting."""
    return np.argsort(numbers.astype(np.uint16) if below < 2**16 else numbers, kind="stable")


# --- candidates and checks -----------------------------------------------------------------------------


def _rank_candidates(
    user_factors: Floats, item_factors: Floats, candidates: Candidates, k: int
) -> pl.DataFrame:
    user = np.repeat(candidates.user_id, candidates.counts)
    _users(user, len(user_factors))
    _users(candidates.item_id, len(item_factors), "candidates")
    score = np.empty(len(user), np.float32)
    step = max(1, BLOCK_BYTES // (8 * user_factors.shape[1]))
    for begin in range(0, len(user), step):
        some = slice(begin, begin + step)
        left, right = user_factors[user[some]], item_factors[candidates.item_id[some]]
        score[some] = np.einsum("ij,ij->i", left, right)
    return rank_pairs(candidates, score, k)


def _users(users: npt.ArrayLike | None, n: int, what: str = "users") -> Places:
    if users is None:
        return np.arange(n)
    wanted = np.asarray(users, dtype=np.int64)
    if wanted.size and not 0 <= wanted.min() <= wanted.max() < n:
        raise EvaluationError(
            f"{what} from {wanted.min()} to {wanted.max()} are asked for", expected=f"0 to {n - 1}"
        )
    return wanted


def _check_factors(user_factors: Floats, item_factors: Floats) -> None:
    shapes = user_factors.shape, item_factors.shape
    if any(len(shape) != 2 for shape in shapes) or shapes[0][1] != shapes[1][1]:
        raise EvaluationError(
            f"factors of shapes {shapes[0]} and {shapes[1]} have no product",
            expected="(n_users, dim) and (n_items, dim)",
        )
    for name, factors in (("user_factors", user_factors), ("item_factors", item_factors)):
        if factors.dtype != np.float32:
            raise EvaluationError(f"{name} is {factors.dtype}", expected="float32")
        bad = int(np.sum(~np.isfinite(factors).all(axis=1)))
        if bad:
            raise EvaluationError(f"{bad} rows of {name} hold NaN or infinity")
    largest = [float(np.abs(factors).max(initial=0)) for factors in (user_factors, item_factors)]
    if largest[0] * largest[1] * shapes[0][1] > float(np.finfo(np.float32).max):
        raise EvaluationError("the product of the factors overflows float32", hint="scale them")
