"""SCAFFOLD: control variates take the clients' drift out of their gradients.

Each client adds c − c_i to its gradients, where c_i is its control and c the server's, and afterwards
c_i⁺ = c_i − c + (x − y_i) / (K η). The server moves by the mean change of the clients, and c by
Σ w_i Δc_i / W, over the clients of the round, where W is the weight of all clients: with equal weights that
is the paper's |S| / N times the mean. **So c is the weighted mean of all clients' controls at any time.**
Divided by the weights of the round it would wander off, and SCAFFOLD end where Σ w_i ∇f_i is not 0.

A row of items has a control of its own at each client that ever trained it. A row that a client does not
touch in a round is neither corrected nor sent. This is the sparse form of the paper: a row's c is the mean
over the clients that have a control of it (they say where they have a new one, and the server adds up their
weights); a client without one takes c for its own, and is not corrected. Where means are over the cohort
(`item_mean = "cohort"`), whoever never trained a row counts as a control of 0, as in the paper.

A client keeps the change that the server read of its answer, compressed or clipped: c is the mean of those.

Reference: Karimireddy, Kale, Mohri, Reddi, Stich, Suresh, SCAFFOLD: Stochastic Controlled Averaging for
Federated Learning, ICML 2020, algorithm 1, option II.
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
    keep_private,
    keep_rows,
    keep_shared,
)
from fedtrain.axes import wide

if TYPE_CHECKING:
    from fedtrain.clients import Clients
    from fedtrain.local import Local
    from fedtrain.parameters import Parameter
    from fedtrain.plan import Plan

__all__ = ["CONTROL", "reference", "scaffold"]

CONTROL, OWN = "control/", "own/"
"""Before the name of a parameter: the server's control variate, and a client's."""

NEW, HOLDERS = "new/", "holders"
"""Before the name of a table: the rows that a client has no control of; and the weight of those that have."""

Tensors = dict[str, torch.Tensor]


def scaffold() -> Algorithm:
    """Returns SCAFFOLD."""
    return Algorithm(
        name="scaffold",
        reference="Karimireddy et al., SCAFFOLD: Stochastic Controlled Averaging, ICML 2020",
        phases=phases,
        open=opened,
        correction=correction,
        answer=answer,
        keep=keep,
        join=join,
        beside=(CONTROL,),
    )


def phases(plan: Plan, parameters: Mapping[str, Parameter]) -> tuple[Phase, ...]:
    """Returns one phase of everything.

    Raises:
        TrainingError: the clients do not descend by plain SGD, whose steps controls are made of.
    """
    if plan.optimizer != "sgd":
        raise TrainingError(
            f"SCAFFOLD's controls are made of plain SGD steps, not of {plan.optimizer}",
            where="[train] optimizer",
            expected="optimizer = 'sgd'",
        )
    return everything(plan, parameters)


def opened(local: Local, server: Server, clients: Clients) -> Tensors:
    """Returns `own/`, the clients' controls, `control/`, the server's, and `new/`: bool, rows without one."""
    found = {}
    ids = local.chunk.clients
    for name, value in local.sent.items():
        control = server.extra.get(CONTROL + name)
        if name in local.rows:
            zero = torch.zeros_like(value)
            found[CONTROL + name] = zero if control is None else control[local.row_item].float()
            start = found[CONTROL + name] if HOLDERS in server.extra else zero
            rows = (local.row_client.cpu().numpy(), local.row_item.cpu().numpy())
            own, there = clients.row_store(CONTROL + name).found(ids, *rows, start)
            found[OWN + name], found[NEW + name] = own, ~there
        else:
            zero = torch.zeros_like(value[0])
            own = zero if control is None else control.float()
            found[CONTROL + name] = own.expand_as(value)
            found[OWN + name] = clients.read_shared(CONTROL + name, ids, zero)
    return found


def correction(local: Local, name: str) -> torch.Tensor | None:
    """Returns c − c_i, None for users' rows: those never leave the client and do not drift."""
    if name in local.users:
        return None
    return local.kept[CONTROL + name] - local.kept[OWN + name]


def answer(local: Local, private: frozenset[str]) -> Answer:
    """Returns the changes of the parameters, and of the controls."""
    plain = changes(local, private)
    return Answer(
        shared=plain.shared | {CONTROL + name: _change(local, name) for name in plain.shared},
        rows=plain.rows | {CONTROL + name: _change(local, name) for name in plain.rows},
        new=next((local.kept[NEW + name] for name in plain.rows), None),
    )


def _change(local: Local, name: str) -> torch.Tensor:
    """Returns c_i⁺ − c_i; 0 of a client that did no step, or steps of length 0."""
    control = local.kept[CONTROL + name]
    if not local.lr[name]:
        return torch.zeros_like(control)
    steps = local.steps[local.row_client] if name in local.rows else local.steps
    steps = wide(steps.float(), control)
    change = -local.delta(name) / (steps.clamp(min=1) * local.lr[name])
    return torch.where(steps > 0, change - control, 0.0)


def keep(
    local: Local, clients: Clients, private: frozenset[str], fine: torch.Tensor, answer: Answer
) -> None:
    """Keeps what is private, and the new controls: c_i and the change that the server was told."""
    keep_private(local, clients, private, fine, answer)
    for name, value in local.sent.items():
        if CONTROL + name in answer.rows:
            own = local.kept[OWN + name] + answer.rows[CONTROL + name]
            keep_rows(local, clients, CONTROL + name, own, fine)
        elif CONTROL + name in answer.shared:
            own = local.kept[OWN + name] + answer.shared[CONTROL + name]
            zero = torch.zeros_like(value[0])
            keep_shared(local, clients, CONTROL + name, own, zero, fine)


def join(server: Server, means: Means, plan: Plan) -> Server:
    """Returns the server after x ← x + η Δx and c ← c + Σ w_i Δc_i / W."""
    after = descend(server, means, plan)
    extra = dict(after.extra)
    if means.new is not None:
        extra[HOLDERS] = extra.get(HOLDERS, torch.zeros_like(means.new)) + means.new
    for name, total in means.totals.items():
        if not name.startswith(CONTROL):
            continue
        before = extra.get(name, torch.zeros_like(total))
        by_row = HOLDERS in extra and name in means.tables
        weight = wide(extra[HOLDERS].clamp(min=1), total) if by_row else means.weight_of_all
        extra[name] = before + total / weight
    return replace(after, extra=extra)


def reference(
    value: torch.Tensor,
    control: torch.Tensor,
    controls: Sequence[torch.Tensor],
    batches: Sequence[Sequence[object]],
    weights: Sequence[float],
    gradient: Callable[[torch.Tensor, object], torch.Tensor],
    lr: float,
    weight_of_all: float,
) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """Returns the server's value and control, and the clients' controls, after a round: algorithm 1.

    Args:
        value, control: x and c of the server.
        controls: c_i of the clients of the round.
        batches, weights, gradient, lr: as in `fedavg.reference`.
        weight_of_all: of all clients; N where the weights are 1.
    """
    changes_, moves, after = [], [], []
    for own, client in zip(controls, batches, strict=True):
        local = value.clone()
        for batch in client:
            local = local - lr * (gradient(local, batch) - own + control)
        new = own - control + (value - local) / (len(client) * lr)
        changes_.append(local - value)
        moves.append(new - own)
        after.append(new)
    change = torch.stack([w * each for w, each in zip(weights, changes_, strict=True)]).sum(0)
    move = torch.stack([w * each for w, each in zip(weights, moves, strict=True)]).sum(0)
    return value + change / sum(weights), control + move / weight_of_all, after
