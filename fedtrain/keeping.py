"""How much the clients will keep, known before the first round: the process that simulates them holds it all.

A real client keeps its own alone; here it is that of all of them, and it grows from round to round as clients
touch rows of items that they never had, negatives among them.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

import numpy as np

from fedprep.errors import TrainingError

if TYPE_CHECKING:
    from fedtrain.engine import Work

__all__ = ["kept_bytes", "memory_bytes", "refuse_too_much"]

VALUE, ITEM = 4, 8
"""Bytes of a value, and of the item that a row is of."""


def kept_bytes(work: Work) -> int:
    """Returns about how many bytes clients will keep after the last round, beside the rows of their users.

    Of what never leaves them, and of what the algorithm keeps beside it: SCAFFOLD a control for each value. A
    row of an item is kept once a client touched it; of n items that it may draw as negatives, m draws leave
    n (1 − 1/n)^m untouched, in the mean.
    """
    federation, plan = work.federation, work.plan
    shared = per_row = n_tables = 0
    for name, parameter in work.parameters.items():
        times = 1 if name in work.private else len(work.algorithm.beside)
        if parameter.scope == "shared":
            shared += times * math.prod(parameter.shape)
        elif parameter.scope == "item":
            per_row += times * math.prod(parameter.shape)
            n_tables += times
    twice = 2 if work.algorithm.own_best else 1  # as they are, and as they were at their best
    shared, per_row, n_tables = twice * shared, twice * per_row, twice * n_tables
    found = VALUE * shared * federation.n_clients
    if not per_row:
        return found
    able = federation.train.counts[work.may_train].astype(np.float64)
    chance = min((plan.clients_per_round or len(able)) / max(len(able), 1), 1.0)
    ever = 1.0 - (1.0 - chance) ** plan.rounds  # that a client is ever sampled
    turns = plan.rounds * chance / ever
    draws = plan.negatives * able * turns if work.task.implicit else np.zeros_like(able)
    others = np.maximum(federation.n_items - able, 1.0)
    drawn = others * -np.expm1(draws * np.log1p(-1 / np.maximum(others, 1.0 + 1e-9)))
    n_rows = ever * (np.minimum(able, federation.n_items) + drawn).sum()
    return found + int(n_rows * (VALUE * per_row + ITEM * n_tables))


def memory_bytes() -> int | None:
    """Returns the memory of this machine, None where the system does not tell (Windows)."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", ()):
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def refuse_too_much(work: Work) -> None:
    """Refuses a run whose clients will keep more than this machine holds: it would be killed without a word.

    Raises:
        TrainingError: it says how much.
    """
    wanted, there = kept_bytes(work), memory_bytes()
    if there is not None and wanted > there:
        raise TrainingError(
            f"{work.algorithm.name} keeps about {wanted / 1e9:,.1f} GB at the clients by round "
            f"{work.plan.rounds:,}, and this machine has {there / 1e9:,.1f} GB",
            where="train.algorithm",
            expected="less than the machine's memory: all clients are simulated in one process",
            hint="fewer negatives or rounds, a smaller model, or --algorithm fedavg, which keeps none of it",
        )
