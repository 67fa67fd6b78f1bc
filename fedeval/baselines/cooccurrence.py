"""How often two items have a user in common, block by block of items, from the rows alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from fedeval.interactions import Interactions

__all__ = ["cooccurrence", "slices_of"]

BLOCK_CELLS = 1 << 23
"""Counts that are in memory at a time: 64 MiB."""

BLOCK_PAIRS = 1 << 22
"""Pairs of items of one user that are counted at a time."""


def cooccurrence(train: Interactions) -> Iterator[tuple[slice, npt.NDArray[np.int64]]]:
    """Yields (items, counts): for a stretch of items, int64 (b, n_items) users who had both items.

    Exact. It takes time in proportion to the sum over users of their rows squared, plus n_items squared
    (the cells), and memory of one block.
    """
    n_items = train.n_items
    rows = np.argsort(train.item_id, kind="stable")  # by item, then user
    edges = np.concatenate([[0], np.cumsum(train.item_counts)])
    users = train.user_id[rows].astype(np.int64)
    step = max(1, BLOCK_CELLS // max(n_items, 1))
    for begin in range(0, n_items, step):
        items = slice(begin, min(begin + step, n_items))
        inside = slice(edges[items.start], edges[items.stop])
        counts = np.zeros((items.stop - items.start, n_items), np.int64)
        mine, item = users[inside], train.item_id[rows[inside]].astype(np.int64) - begin
        for part in slices_of(train.user_counts[mine], BLOCK_PAIRS):
            _, other = train.rows_of(mine[part])
            low, high = int(item[part][0]), int(item[part][-1]) + 1  # the items ascend
            cell = np.repeat((item[part] - low) * n_items, train.user_counts[mine[part]])
            cell += train.item_id[other]
            found = np.bincount(cell, minlength=(high - low) * n_items)
            counts[low:high] += found.reshape(-1, n_items)
        yield items, counts


def slices_of(sizes: npt.NDArray[np.integer], most: int) -> list[slice]:
    """Returns stretches whose sizes add up to about `most` each: one at least, however large."""
    ends = np.cumsum(sizes)
    if not len(ends):
        return []
    number = (ends - sizes) // most
    first = np.flatnonzero(np.diff(number, prepend=-1))
    return [slice(a, b) for a, b in zip(first, [*first[1:], len(ends)], strict=True)]
