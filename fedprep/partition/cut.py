"""Units in a given order, cut into clients: by number, by shares of rows, or poured at random."""

from __future__ import annotations

import numpy as np

from fedprep.partition.task import Floats, Ints

__all__ = ["cut", "deal", "pour"]


def deal(order: Ints, n_clients: int) -> Ints:
    """Returns a client for each unit, int64 (n_units,): as many units each, give or take one.

    Args:
        order: int64 (n_units,), a permutation of the units.
    """
    client = np.empty(len(order), dtype=np.int64)
    client[order] = np.arange(len(order)) * n_clients // len(order)
    return client


def pour(size: Ints, shares: Floats, start: float) -> Ints:
    """Returns a piece for each unit, int64 (n_units,), so that pieces get their shares of the rows.

    The units lie side by side on a line as long as their rows. Each is drawn at the same relative point
    `start` of its own stretch (systematic sampling), and goes to the piece whose share lies there. With
    `start` uniform a unit's chance of a piece is the piece's share, and with units of one row a piece
    misses its share by less than one row. Pieces may stay empty.

    Args:
        size: rows of the units, in the order in which they lie.
        shares: float64 (n_pieces,), at least 0, not all 0.
        start: 0 to 1.
    """
    edges = np.cumsum(shares)
    point = (np.cumsum(size) - size + start * size) / size.sum() * edges[-1]
    piece: Ints = np.minimum(np.searchsorted(edges, point, side="right"), len(shares) - 1)
    return piece


def cut(size: Ints, shares: Floats) -> Ints:
    """Returns a piece for each unit, int64 (n_units,): neighbours stay together, no piece is empty.

    A piece gets its share of the rows as nearly as whole units, and one unit for every piece, allow.

    Args:
        size: rows of the units in order, at least as many as pieces.
        shares: float64 (n_pieces,).
    """
    n_units, n_pieces = len(size), len(shares)
    rank = np.arange(n_units)
    piece = pour(size, shares, 0.5)
    piece = np.maximum(
        piece, rank - (n_units - n_pieces)
    )  # enough units left for the pieces to come
    piece[0] = 0
    return np.minimum.accumulate(piece - rank) + rank  # no step larger than one
