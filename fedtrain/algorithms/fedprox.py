"""FedProx: federated averaging, where a proximal term holds each client near to what it got.

Reference: Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith, Federated Optimization in Heterogeneous Networks,
MLSys 2020, algorithm 2: a client minimises F_k(w) + μ/2 ‖w − wᵗ‖². Clients that do only a part of their work
(`[train.faults] stragglers`) send what they have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fedprep.errors import TrainingError
from fedprep.keys import From0
from fedtrain.algorithms.algorithm import Algorithm

if TYPE_CHECKING:
    import torch

    from fedtrain.local import Local

__all__ = ["fedprox", "reference"]


def fedprox(*, mu: From0 = 0.01) -> Algorithm:
    """Returns FedProx.

    Args:
        mu: weight of the proximal term, at least 0; 0 is federated averaging.

    Raises:
        TrainingError: mu is negative, or no finite number.
    """
    if not 0 <= mu < math.inf:
        raise TrainingError(f"mu is {mu}", where="[train.fedprox]", expected="0 or more")

    def correction(local: Local, name: str) -> torch.Tensor | None:
        if name in local.users:
            return None  # private: there is nothing that it could drift from
        value = local.rows[name][:-1] if name in local.rows else local.shared[name]
        return mu * (value - local.sent[name])

    return Algorithm(
        name="fedprox",
        reference="Li et al., Federated Optimization in Heterogeneous Networks, MLSys 2020",
        correction=correction if mu else None,
    )


def reference(
    value: torch.Tensor,
    batches: Sequence[Sequence[object]],
    weights: Sequence[float],
    gradient: Callable[[torch.Tensor, object], torch.Tensor],
    lr: float,
    mu: float,
) -> torch.Tensor:
    """Returns the server's value after a round: algorithm 2; arguments as in `fedavg.reference`."""
    locals_ = []
    for client in batches:
        local = value.clone()
        for batch in client:
            local = local - lr * (gradient(local, batch) + mu * (local - value))
        locals_.append(local)
    total = sum(weights)
    return sum(w / total * local for w, local in zip(weights, locals_, strict=True))  # type: ignore[return-value]
