"""Adaptive federated optimisation: federated averaging with an adaptive optimiser at the server.

The optimisers themselves are `fedtrain.server_optimizers`; these are federated averaging under the paper's
names, with its optimiser chosen.

Reference: Reddi, Charles, Zaheer, Garrett, Rush, Konečný, Kumar, McMahan, Adaptive Federated Optimization,
ICLR 2021, algorithm 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fedtrain.algorithms.algorithm import Algorithm

__all__ = ["fedadagrad", "fedadam", "fedyogi", "reference"]

REFERENCE = "Reddi et al., Adaptive Federated Optimization, ICLR 2021"


def fedadam() -> Algorithm:
    """Returns FedAdam: federated averaging whose server takes the mean change as a gradient of Adam."""
    return _adaptive("fedadam", "adam")


def fedyogi() -> Algorithm:
    """Returns FedYogi: federated averaging whose server takes the mean change as a gradient of Yogi."""
    return _adaptive("fedyogi", "yogi")


def fedadagrad() -> Algorithm:
    """Returns FedAdagrad: federated averaging whose server takes the mean change as a gradient of Adagrad."""
    return _adaptive("fedadagrad", "adagrad")


def _adaptive(name: str, optimizer: str) -> Algorithm:
    return Algorithm(name=name, reference=REFERENCE, defaults={"server_optimizer": optimizer})


def reference(
    value: torch.Tensor,
    changes: Sequence[torch.Tensor],
    second_moment: str,
    lr: float,
    beta1: float,
    beta2: float,
    tau: float,
) -> torch.Tensor:
    """Returns the server's value after rounds whose mean changes are given: algorithm 2, word for word.

    Args:
        value: x, any shape.
        changes: Δ_t of each round.
        second_moment: `adagrad`, `yogi` or `adam`.
        lr, beta1, beta2, tau: η, β₁, β₂, τ.
    """
    m, v = torch.zeros_like(value), torch.full_like(value, tau**2)
    for change in changes:
        m = beta1 * m + (1 - beta1) * change
        if second_moment == "adagrad":
            v = v + change**2
        elif second_moment == "yogi":
            v = v - (1 - beta2) * change**2 * torch.sign(v - change**2)
        else:
            v = beta2 * v + (1 - beta2) * change**2
        value = value + lr * m / (v.sqrt() + tau)
    return value
