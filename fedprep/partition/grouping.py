"""Rows grouped by whom they belong to: in order, in blocks, as distinct pairs, by the best of each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fedprep.partition.task import Floats, Ints

__all__ = ["BLOCK", "best_of", "count_pairs", "in_blocks", "in_order"]

BLOCK = 2_000_000
"""Rows, whole owners of them, that are grouped at a time: memory follows this and not the data."""


def in_order(owner: Ints) -> Ints:
    """Returns the positions in order of (owner, position): int64 (n,).

    Sorting whole numbers is several times as fast as an argsort of them.
    """
    bits = len(owner).bit_length()
    return np.sort((owner << bits) | np.arange(len(owner))) & ((1 << bits) - 1)


def in_blocks(
    owner: Ints, n_rows: Ints, block: int = BLOCK
) -> Iterator[tuple[int, int, slice | Ints]]:
    """Yields (first owner, owner after the last, their rows) in pieces of about `block` rows.

    Args:
        owner: int64 (n,), in any order; less memory and time when sorted.
        n_rows: int64 (n_owners,), rows of each.
    """
    if len(owner) <= block:
        yield 0, len(n_rows), slice(None)
        return
    order = None if (np.diff(owner) >= 0).all() else in_order(owner)
    ends = np.cumsum(n_rows)
    begins = ends - n_rows
    firsts = np.flatnonzero(np.diff(begins // block, prepend=-1)).tolist()
    for first, last in zip(firsts, [*firsts[1:], len(n_rows)], strict=True):
        part = slice(int(begins[first]), int(ends[last - 1]))
        yield first, last, part if order is None else order[part]


def count_pairs(left: Ints, right: Ints, n_right: int) -> tuple[Ints, Ints, Ints]:
    """Returns the distinct pairs in order, and how often each occurs: (left, right, count)."""
    key, count = np.unique(left * n_right + right, return_counts=True)
    return key // n_right, key % n_right, count


def best_of(owner: Ints, score: Ints | Floats) -> tuple[Ints, Ints]:
    """Returns the owners that occur, and the position of each one's largest score, the first of equals.

    Args:
        owner: int64 (n,), sorted · score: (n,).
    """
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    most = np.maximum.reduceat(score, starts) if len(starts) else score
    lengths = np.diff(np.append(starts, len(owner)))
    hits = np.flatnonzero(score == np.repeat(most, lengths))
    firsts = np.flatnonzero(np.diff(owner[hits], prepend=-1))
    return owner[starts], hits[firsts]
