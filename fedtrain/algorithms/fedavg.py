"""Federated averaging: clients train by themselves, the server takes the weighted mean of their changes.

Reference: McMahan, Moore, Ramage, Hampson, Agüera y Arcas, Communication-Efficient Learning of Deep Networks
from Decentralized Data, AISTATS 2017, algorithm 1. Rows of items are averaged over the clients that touched
them (`item_mean`); users' vectors stay at the clients, as in Chai et al., Secure Federated Matrix
Factorization, IEEE Intelligent Systems 2021.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fedtrain.algorithms.algorithm import Algorithm

if TYPE_CHECKING:
    import torch

__all__ = ["fedavg", "reference"]

REFERENCE = (
    "McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data, "
    "AISTATS 2017"
)


def fedavg() -> Algorithm:
    """Returns federated averaging."""
    return Algorithm(name="fedavg", reference=REFERENCE)


def reference(
    value: torch.Tensor,
    batches: Sequence[Sequence[object]],
    weights: Sequence[float],
    gradient: Callable[[torch.Tensor, object], torch.Tensor],
    lr: float,
    server_lr: float = 1.0,
) -> torch.Tensor:
    """Returns the server's value after a round: algorithm 1, one client after the other.

    Args:
        value: what the server sends, any shape.
        batches: of each client, in the order of its local steps.
        weights: of each client: its number of rows.
        gradient: the gradient of a batch's mean loss at a value.
        lr: the clients' learning rate.
        server_lr: the server's.
    """
    changes = []
    for client in batches:
        local = value.clone()
        for batch in client:
            local = local - lr * gradient(local, batch)
        changes.append(local - value)
    total = sum(weights)
    mean = sum(w / total * change for w, change in zip(weights, changes, strict=True))
    return value + server_lr * mean
