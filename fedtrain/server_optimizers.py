"""Optimisers at the server: the mean change of the clients stands for a negative gradient.

Each takes the change (float64), its moments, and the plan, and returns how far the values move, and the
moments after. `sgd` with `server_lr = 1` is federated averaging.

Reference: Reddi, Charles, Zaheer, Garrett, Rush, Konečný, Kumar, McMahan, Adaptive Federated Optimization,
ICLR 2021, algorithm 2 (FedAdagrad, FedYogi, FedAdam); momentum: Hsu, Qi, Brown, Measuring the Effects of
Non-Identical Data Distribution for Federated Visual Classification, 2019 (FedAvgM).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from fedtrain.plan import Plan

__all__ = ["SERVER_OPTIMIZERS"]

Moments = dict[str, torch.Tensor]
Optimizer = Callable[[torch.Tensor, Moments, "Plan"], tuple[torch.Tensor, Moments]]


def sgd(change: torch.Tensor, moments: Moments, plan: Plan) -> tuple[torch.Tensor, Moments]:
    """Returns η Δ."""
    return plan.rates["server"] * change, {}


def momentum(change: torch.Tensor, moments: Moments, plan: Plan) -> tuple[torch.Tensor, Moments]:
    """Returns η m, where m ← β m + Δ.

    Reference: Hsu, Qi, Brown, Measuring the Effects of Non-Identical Data Distribution for Federated Visual
    Classification, 2019.
    """
    first = plan.server_momentum * moments.get("first", torch.zeros_like(change)) + change
    return plan.rates["server"] * first, {"first": first}


def adagrad(change: torch.Tensor, moments: Moments, plan: Plan) -> tuple[torch.Tensor, Moments]:
    """Returns η m / (√v + τ), where v ← v + Δ².

    Reference: Reddi et al., Adaptive Federated Optimization, ICLR 2021, algorithm 2.
    """
    return _adaptive(change, moments, plan, lambda second: second + change.square())


def yogi(change: torch.Tensor, moments: Moments, plan: Plan) -> tuple[torch.Tensor, Moments]:
    """Returns η m / (√v + τ), where v ← v − (1 − β₂) Δ² sign(v − Δ²).

    Reference: Reddi et al., Adaptive Federated Optimization, ICLR 2021, algorithm 2.
    """
    rate, square = 1 - plan.server_beta2, change.square()
    return _adaptive(
        change, moments, plan, lambda second: second - rate * square * (second - square).sign()
    )


def adam(change: torch.Tensor, moments: Moments, plan: Plan) -> tuple[torch.Tensor, Moments]:
    """Returns η m / (√v + τ), where v ← β₂ v + (1 − β₂) Δ².

    Reference: Reddi et al., Adaptive Federated Optimization, ICLR 2021, algorithm 2.
    """
    beta = plan.server_beta2
    return _adaptive(
        change, moments, plan, lambda second: beta * second + (1 - beta) * change.square()
    )


def _adaptive(
    change: torch.Tensor,
    moments: Moments,
    plan: Plan,
    grown: Callable[[torch.Tensor], torch.Tensor],
) -> tuple[torch.Tensor, Moments]:
    # The paper's algorithm: m ← β₁ m + (1 − β₁) Δ, v begins at τ², no correction of the bias.
    beta, tau = plan.server_momentum, plan.server_tau
    first = beta * moments.get("first", torch.zeros_like(change)) + (1 - beta) * change
    second = grown(moments.get("second", torch.full_like(change, tau**2)))
    return plan.rates["server"] * first / (second.sqrt() + tau), {"first": first, "second": second}


SERVER_OPTIMIZERS: Mapping[str, Optimizer] = {
    "sgd": sgd,
    "momentum": momentum,
    "adagrad": adagrad,
    "yogi": yogi,
    "adam": adam,
}
"""Each optimiser of the server by its name in a plan."""
