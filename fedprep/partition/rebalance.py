"""Clients with too few rows, filled up from the largest ones."""

from __future__ import annotations

import numpy as np

from fedprep.partition.task import Ints

__all__ = ["rebalance"]


def rebalance(
    client: Ints, size: Ints, n_clients: int, min_rows: int, key: Ints
) -> tuple[Ints, int]:
    """Returns the clients of the units after every client got `min_rows` rows, and how many units moved.

    The client that is largest at the time gives, its smallest units first, and keeps `min_rows` rows.
    Units are handed out in rounds: a round covers what is missing, as far as whole units can, and the
    next one mends what the overhang of large units left open. Where not enough can be spared, some
    clients stay short: the caller looks.

    Args:
        client: int64 (n_units,) · size: int64 (n_units,), rows.
        key: int64 (n_units,), which of equal units of a client moves first: the larger.
    """
    have = np.bincount(client, weights=size, minlength=n_clients).astype(np.int64)
    if (have >= min_rows).all():
        return client, 0
    client = client.copy()
    spare = _spare(client, size, have, min_rows, key)
    moved = 0
    while len(spare) and (have < min_rows).any():
        short = np.flatnonzero(have < min_rows)
        missing = min_rows - have[short]
        order = np.argsort(-missing, kind="stable")
        short, missing = short[order], missing[order]
        # A unit counts for no more than one client can use: else a large one would pass for many.
        useful = np.minimum(size[spare], missing[0])
        begins = np.cumsum(useful) - useful
        n_given = int(np.searchsorted(begins, missing.sum()))
        given = spare[:n_given]
        taker = short[np.searchsorted(np.cumsum(missing), begins[:n_given], side="right")]
        np.subtract.at(have, client[given], size[given])
        np.add.at(have, taker, size[given])
        client[given] = taker
        spare = spare[n_given:]
        moved += n_given
    return client, moved


def _spare(client: Ints, size: Ints, have: Ints, min_rows: int, key: Ints) -> Ints:
    """Returns the units that can be taken away, in the order in which they should be."""
    order = np.lexsort((key, -size, client))
    rows, owner = size[order], client[order]
    before_owner = (np.cumsum(have) - have)[owner]
    left = np.cumsum(rows) - before_owner  # rows of the owner up to and with this unit
    can_go = left - rows >= min_rows
    order, left = order[can_go], left[can_go]
    return order[np.lexsort((client[order], -left))]
