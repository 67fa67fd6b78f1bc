"""FedPer: clients share the base of a model and keep its head.

The head, a model's parameters with `head` set, is trained at each client together with the base, is kept
there from round to round, and is never sent. A client that is new begins with the head of the start.

Reference: Arivazhagan, Aggarwal, Singh, Choudhary, Federated Learning with Personalization Layers, 2019,
arXiv 1912.00818, algorithms 1 and 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from fedtrain.algorithms.algorithm import Algorithm, keeps_users

if TYPE_CHECKING:
    from fedtrain.parameters import Parameter

__all__ = ["fedper", "keeps_heads", "reference"]


def fedper() -> Algorithm:
    """Returns FedPer."""
    return Algorithm(
        name="fedper",
        reference="Arivazhagan et al., Federated Learning with Personalization Layers, 2019",
        private=keeps_heads,
    )


def keeps_heads(parameters: Mapping[str, Parameter]) -> frozenset[str]:
    """Returns the names of the rows of users and of the head."""
    heads = frozenset(name for name, parameter in parameters.items() if parameter.head)
    return keeps_users(parameters) | heads


def reference(
    base: torch.Tensor,
    heads: Sequence[torch.Tensor],
    batches: Sequence[Sequence[object]],
    weights: Sequence[float],
    gradient: Callable[[torch.Tensor, torch.Tensor, object], tuple[torch.Tensor, torch.Tensor]],
    lr: float,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Returns the server's base and each client's head after a round: algorithms 1 and 2.

    Args:
        base: W_B.
        heads: W_Pj of each client.
        batches, weights, lr: as in `fedavg.reference`.
        gradient: of a batch's mean loss at (base, head), one for each.
    """
    bases, after = [], []
    for head, client in zip(heads, batches, strict=True):
        own_base, own_head = base.clone(), head.clone()
        for batch in client:
            by_base, by_head = gradient(own_base, own_head, batch)
            own_base, own_head = own_base - lr * by_base, own_head - lr * by_head
        bases.append(own_base)
        after.append(own_head)
    total = sum(weights)
    mean = torch.stack([w / total * own for w, own in zip(weights, bases, strict=True)]).sum(0)
    return mean, after
