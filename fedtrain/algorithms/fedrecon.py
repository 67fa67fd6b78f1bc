"""Federated Reconstruction: users' vectors are rebuilt at the client each round, and forgotten after it.

A client splits its rows into a support and a query half. With the server's values fixed it rebuilds its
users' vectors on the support rows from their start; with those fixed it then trains the server's on the query
rows. The rows of items that only the support half has are read and not trained: they are not sent back.
Nothing is kept: a client that was never seen is served in the same way (`fedtrain.unseen`), at the same rate.
So the rate of the rebuilding is one in all rounds: a schedule is for the server's values alone.

A client weighs its train rows; in the paper those of its query half, half as many but for an odd one.

Reference: Singhal, Sidahmed, Garrett, Wu, Rush, Prakash, Federated Reconstruction: Partially Local Federated
Learning, NeurIPS 2021, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from fedprep.errors import RecipeError, TrainingError
from fedprep.keys import Count, Positive, Rate
from fedtrain.algorithms.algorithm import Algorithm, Phase, keeps_users

if TYPE_CHECKING:
    from fedtrain.parameters import Parameter
    from fedtrain.plan import Plan

__all__ = ["fedrecon", "reference"]


def fedrecon(
    *,
    recon_epochs: Positive = 1,
    recon_steps: Count = 0,
    recon_lr: Rate | None = None,
    split: bool = True,
) -> Algorithm:
    """Returns Federated Reconstruction.

    Args:
        recon_epochs: passes over the support rows.
        recon_steps: steps on them (k_r of the paper), the same number for each client; 0: whole passes.
        recon_lr: learning rate of the users' vectors, in every round; None: the plan's `lr_user`.
        split: whether support and query rows are different ones; False: both are all rows.

    Raises:
        RecipeError: passes and steps at once.
    """
    if recon_steps and recon_epochs != 1:
        raise RecipeError(
            f"recon_steps = {recon_steps} and recon_epochs = {recon_epochs} both say how long users "
            "are rebuilt",
            where="train.fedrecon.recon_steps",
            hint="leave one of them out",
        )

    def phases(plan: Plan, parameters: Mapping[str, Parameter]) -> tuple[Phase, ...]:
        users = keeps_users(parameters)
        if not users:
            raise TrainingError(
                f"the model '{plan.model}' keeps no vectors of users: there is nothing to rebuild",
                where="[train] model",
                hint="model = 'mf'",
            )
        rates = {} if recon_lr is None else dict.fromkeys(users, recon_lr)
        parts = ("support", "query") if split else ("all", "all")
        return (
            Phase(
                trains=users,
                part=parts[0],
                epochs=recon_epochs,
                steps=recon_steps,
                lr=rates,
                steady=True,
            ),
            Phase(trains=frozenset(parameters) - users, part=parts[1], epochs=plan.local_epochs),
        )

    return Algorithm(
        name="fedrecon",
        reference="Singhal et al., Federated Reconstruction, NeurIPS 2021",
        phases=phases,
        stateless=True,
    )


def reference(
    value: torch.Tensor,
    start: Sequence[torch.Tensor],
    support: Sequence[Sequence[object]],
    query: Sequence[Sequence[object]],
    weights: Sequence[float],
    local_gradient: Callable[[torch.Tensor, torch.Tensor, object], torch.Tensor],
    global_gradient: Callable[[torch.Tensor, torch.Tensor, object], torch.Tensor],
    recon_lr: float,
    lr: float,
) -> torch.Tensor:
    """Returns the server's value after a round: algorithm 1.

    Args:
        value: g.
        start: what each client's local value begins with.
        support, query: batches of each client.
        weights: of each client.
        local_gradient, global_gradient: of a batch's mean loss at (g, l), by l and by g.
        recon_lr, lr: η_r and η_c.
    """
    changes = []
    for begin, first, second in zip(start, support, query, strict=True):
        own = begin.clone()
        for batch in first:
            own = own - recon_lr * local_gradient(value, own, batch)
        moved = value.clone()
        for batch in second:
            moved = moved - lr * global_gradient(moved, own, batch)
        changes.append(moved - value)
    total = sum(weights)
    mean = torch.stack([w / total * c for w, c in zip(weights, changes, strict=True)]).sum(0)
    return value + mean
