"""FedNova: changes are divided by the local steps behind them, so that busy clients do not outweigh the rest.

Each client sends Δ_i / ‖a_i‖₁, where a_i counts how often each of its gradients is in Δ_i: τ_i steps of SGD
give ‖a_i‖₁ = τ_i; with momentum ρ, ‖a_i‖₁ = (τ_i − ρ (1 − ρ^τ_i) / (1 − ρ)) / (1 − ρ). The server multiplies
the mean by τ_eff = Σ p_i ‖a_i‖₁.

Reference: Wang, Liu, Liang, Joshi, Poor, Tackling the Objective Inconsistency Problem in Heterogeneous
Federated Optimization, NeurIPS 2020, equations 8 and 10 and section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from fedprep.errors import TrainingError
from fedtrain.algorithms.algorithm import (
    Algorithm,
    Answer,
    Means,
    Phase,
    Server,
    changes,
    descend,
    everything,
)
from fedtrain.axes import wide

if TYPE_CHECKING:
    from fedtrain.local import Local
    from fedtrain.parameters import Parameter
    from fedtrain.plan import Plan

__all__ = ["fednova", "reference"]


def fednova() -> Algorithm:
    """Returns FedNova."""
    return Algorithm(
        name="fednova",
        reference=(
            "Wang et al., Tackling the Objective Inconsistency Problem in Heterogeneous Federated "
            "Optimization, NeurIPS 2020"
        ),
        phases=phases,
        answer=answer,
        join=join,
    )


def phases(plan: Plan, parameters: Mapping[str, Parameter]) -> tuple[Phase, ...]:
    """Returns one phase of everything.

    Raises:
        TrainingError: the clients use Adam, for which a_i is not defined.
    """
    if plan.optimizer == "adam":
        raise TrainingError(
            "FedNova counts gradients, which Adam rescales",
            where="[train] optimizer",
            expected="optimizer = 'sgd' or 'momentum'",
        )
    return everything(plan, parameters)


def gradients_behind(steps: torch.Tensor, momentum: float) -> torch.Tensor:
    """Returns ‖a_i‖₁, float32 (C,): how many gradients are in the change of τ_i steps, momentum included."""
    tau = steps.float()
    if not momentum:
        return tau
    return (tau - momentum * (1 - momentum**tau) / (1 - momentum)) / (1 - momentum)


def answer(local: Local, private: frozenset[str]) -> Answer:
    """Returns the changes over ‖a_i‖₁, and ‖a_i‖₁."""
    plain = changes(local, private)
    behind = gradients_behind(local.steps, local.momentum)
    each = behind.clamp(min=1)  # a client that did no step has changed nothing
    by_row = each[local.row_client]
    return Answer(
        shared={name: value / wide(each, value) for name, value in plain.shared.items()},
        rows={name: value / wide(by_row, value) for name, value in plain.rows.items()},
        numbers={"tau": behind},
    )


def join(server: Server, means: Means, plan: Plan) -> Server:
    """Returns the server moved by τ_eff times the mean of the normalised changes."""
    tau = means.numbers["tau"]
    values = {name: tau * value for name, value in means.values.items()}
    return descend(server, replace(means, values=values), plan)


def reference(
    value: torch.Tensor,
    batches: Sequence[Sequence[object]],
    weights: Sequence[float],
    gradient: Callable[[torch.Tensor, object], torch.Tensor],
    lr: float,
) -> torch.Tensor:
    """Returns the server's value after a round of SGD clients; arguments as in `fedavg.reference`."""
    total = sum(weights)
    mean, tau = torch.zeros_like(value), 0.0
    for w, client in zip(weights, batches, strict=True):
        local = value.clone()
        for batch in client:
            local = local - lr * gradient(local, batch)
        mean = mean + w / total * (local - value) / len(client)
        tau += w / total * len(client)
    return value + tau * mean
