"""Clients that are lost in a round, and clients that do less than they were asked to.

Both are functions of (seed, round, client) alone: the same clients are lost whatever the cohort, and a
client that is lost at a share stays lost at any larger share.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedeval.draws import uniform
from fedprep.errors import TrainingError
from fedtrain.parameters import stream

__all__ = ["lost", "work"]

Ints = npt.NDArray[np.int64]


def lost(clients: Ints, round: int, seed: int, share: float) -> npt.NDArray[np.bool_]:
    """Returns bool (n,): whether a client's answer never arrives.

    Args:
        clients: int64 (n,), client ids.
        share: chance of each client, 0 to 1, independent of the others and of other rounds.

    Raises:
        TrainingError: a share outside 0 to 1.
    """
    _refuse_no_share("dropout", share)
    return np.asarray(_draw(clients, seed, "lost", round, place=0) < share)


def work(
    clients: Ints, round: int, seed: int, share: float, least: float
) -> npt.NDArray[np.float64]:
    """Returns float64 (n,): which part of its local steps a client does; 1 for most.

    A straggler's part is uniform between `least` and 1. The engine does at least one step.

    Args:
        clients: int64 (n,), client ids.
        share: chance that a client is a straggler, 0 to 1.
        least: the smallest part, 0 to 1.

    Raises:
        TrainingError: a number outside 0 to 1.

    Reference: Li et al., Federated Optimization in Heterogeneous Networks, MLSys 2020, section 5.2, where
    stragglers do a number of epochs drawn between 1 and all.
    """
    _refuse_no_share("stragglers", share)
    _refuse_no_share("straggler_work", least)
    slow = _draw(clients, seed, "slow", round, place=0) < share
    part = least + (1.0 - least) * _draw(clients, seed, "slow", round, place=1)
    return np.where(slow, part, 1.0)


def _draw(
    clients: Ints, seed: int, purpose: str, round: int, *, place: int
) -> npt.NDArray[np.float64]:
    return uniform(stream(seed, purpose, round), np.asarray(clients, np.int64), place)


def _refuse_no_share(key: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise TrainingError(f"{key} is {value:g}", expected="a share, from 0 to 1")
