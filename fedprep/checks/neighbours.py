"""Vectors that lie in nearly the same direction, found by blocked products of bounded size.

The vectors are sorted along their widest direction. Two unit vectors of cosine c or more are no farther apart
than r = √(2 − 2c), and along any direction too: blocks farther apart than that are never multiplied. So with
a tight limit most of the n² products are not made, and none that matters is left out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from fedprep.checks.vectors import Vectors, parts_of
from fedprep.schema import ITEM_ID

__all__ = ["nearest_above"]

BLOCK = 1_024
"""Vectors of a block: a product has 4 MB."""

SAMPLE = 4_096
"""Vectors from which the widest direction is taken."""

POWERS = 8
"""Products with the sample that turn a direction towards the widest."""

ROUNDING = 1e-6
"""Of a product of float32 unit vectors: a cosine may be that much too small or too large."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Values = npt.NDArray[np.float32]


def nearest_above(
    table: pl.LazyFrame, vectors: Vectors, rows: Ints, max_cosine: float
) -> tuple[Ints, Ints, Floats]:
    """Returns the rows that have another one beyond a cosine, the nearest of them, and that cosine.

    Memory: the chosen vectors as float32, and a few blocks.

    Args:
        table: `item_id`, `embedding`. vectors: what is known of them.
        rows: int64, ascending: those to compare; finite and not zero.

    Returns:
        Three arrays (n_found,), in ascending order of the rows.
    """
    if len(rows) < 2:
        return rows[:0], rows[:0], np.zeros(0)
    units = _units(table, vectors, rows)
    direction = _widest(units)
    along = units @ direction
    order = np.argsort(along, kind="stable")
    units, along = units[order], along[order]
    best = np.full(len(rows), -np.inf, dtype=np.float32)
    other = np.zeros(len(rows), dtype=np.int64)
    reach = np.sqrt(max(2.0 - 2.0 * (max_cosine - ROUNDING), 0.0)) + ROUNDING
    starts = range(0, len(rows), BLOCK)
    for begin in starts:
        here = slice(begin, min(begin + BLOCK, len(rows)))
        last = int(np.searchsorted(along, along[here.stop - 1] + reach, side="right"))
        for start in range(begin, last, BLOCK):
            there = slice(start, min(start + BLOCK, len(rows)))
            product = units[here] @ units[there].T  # (block, block)
            if start == begin:
                np.fill_diagonal(product, -np.inf)
            if product.max() > max_cosine:
                _keep_best(best, other, product, here, there)
                _keep_best(best, other, product.T, there, here)
    best = np.minimum(best, np.float32(1.0))
    found = np.flatnonzero(best > max_cosine)
    found = found[np.argsort(order[found])]
    return rows[order[found]], rows[order[other[found]]], best[found].astype(np.float64)


def _units(table: pl.LazyFrame, vectors: Vectors, rows: Ints) -> Values:
    """Returns the chosen vectors at length 1: float32 (n, dim)."""
    wanted = np.zeros(len(vectors.ids), dtype=bool)
    wanted[rows] = True
    units = np.empty((len(rows), vectors.dim), dtype=np.float32)
    done = 0
    for part in parts_of(table, ITEM_ID, "embedding"):
        of_part = np.flatnonzero(part.present) + part.first
        chosen = wanted[of_part]
        norm = vectors.norm[of_part[chosen], None]
        some = part.values[chosen] / norm
        units[done : done + len(some)] = some
        done += len(some)
    return units


def _widest(units: Values) -> Values:
    """Returns about the direction of the greatest variance, float32 (dim,), by powers on a sample.

    Any direction would do: a wide one leaves more blocks too far apart to be multiplied.
    """
    sample = units[:: -(-len(units) // SAMPLE)]
    centred = sample - sample.mean(axis=0)
    direction = centred[np.argmax(np.einsum("ij,ij->i", centred, centred))]
    for _ in range(POWERS):
        direction = (centred @ direction) @ centred
        direction /= max(float(np.linalg.norm(direction)), np.finfo(np.float32).tiny)
    widest: Values = direction
    return widest


def _keep_best(best: Values, other: Ints, product: Values, here: slice, there: slice) -> None:
    """Takes over where a product is beyond the best that a row has had."""
    place = product.argmax(axis=1)
    cosine = product[np.arange(len(place)), place]
    better = np.flatnonzero(cosine > best[here])
    best[here][better] = cosine[better]
    other[here][better] = place[better] + there.start
