"""Clients that are alike, and clients that differ in size alone: iid, quantity."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedprep.partition.cut import cut, deal
from fedprep.partition.task import Assigned, Task

__all__ = ["iid", "quantity"]


def iid(task: Task, rng: np.random.Generator) -> Assigned:
    """Users (or rows) dealt out at random, equally many to each client: no skew but chance."""
    return Assigned(client=deal(rng.permutation(len(task.units)), task.n_clients))


def quantity(task: Task, rng: np.random.Generator) -> Assigned:
    """Clients of very unequal size, alike otherwise: shares of rows by a Dirichlet draw or a power law.

    law = "dirichlet": the shares of the clients are one draw of Dirichlet(alpha, …, alpha).
    law = "power": client i has a share in proportion to (i + 1) to the power of -exponent.
    Users come in random order, so a client gets its share to within one user; every client gets one.

    Reference: Li, Diao, Chen, He, "Federated Learning on Non-IID Data Silos", ICDE 2022, quantity skew.
    """
    options = task.options
    facts: dict[str, Any] = {"law": options.law}
    if options.law == "power":
        shares = np.arange(1.0, task.n_clients + 1) ** -options.exponent
        facts["exponent"] = options.exponent
    else:
        shares = rng.dirichlet(np.full(task.n_clients, options.alpha))
        facts["alpha"] = options.alpha
    order = rng.permutation(len(task.units))
    client = np.empty(len(order), dtype=np.int64)
    client[order] = cut(task.units.size[order], shares)
    return Assigned(client=client, facts=facts)
