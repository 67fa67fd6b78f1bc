"""SCAFFOLD: control variates take the clients' drift out of their gradients.

Each client adds c − c_i to its gradients, where c_i is its control and c the server's, and afterwards
c_i⁺ = c_i − c + (x − y_i) / (K η). The server moves by the mean change of the clients, and c by |S| / N times
the mean change of their controls.

A row of items has a control of its own at each client that touched it. A row that a client does not touch in
a round is neither corrected nor sent, and the server's control of a row moves by the mean over the clients
that touched it: with dense models this is the paper, with item tables its sparse form.

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

CONTROL = "control/"
"""Before the name of a parameter: its control variate."""

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
        downloads=2,
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
    """Returns each client's own control and the server's: `own/NAME` and `control/NAME`."""
    found = {}
    ids = local.chunk.clients
    for name, value in local.sent.items():
        control = server.extra.get(CONTROL + name)
        if name in local.rows:
            zero = torch.zeros_like(value)
            found[CONTROL + name] = zero if control is None else control[local.row_item].float()
            store = clients.row_store(CONTROL + name)
            rows = (local.row_client.cpu().numpy(), local.row_item.cpu().numpy())
            found["own/" + name] = store.read(ids, *rows, zero)
        else:
            zero = torch.zeros_like(value[0])
            own = zero if control is None else control.float()
            found[CONTROL + name] = own.expand_as(value)
            found["own/" + name] = clients.read_shared(CONTROL + name, ids, zero)
    return found


def correction(local: Local, name: str) -> torch.Tensor | None:
    """Returns c − c_i, None for users' rows: those never leave the client and do not drift."""
    if name in local.users:
        return None
    return local.kept[CONTROL + name] - local.kept["own/" + name]


def answer(local: Local, private: frozenset[str]) -> Answer:
    """Returns the changes of the parameters, and of the controls."""
    plain = changes(local, private)
    shared, rows = dict(plain.shared), dict(plain.rows)
    for name in plain.shared:
        shared[CONTROL + name] = _next(local, name) - local.kept["own/" + name]
    for name in plain.rows:
        rows[CONTROL + name] = _next(local, name) - local.kept["own/" + name]
    return Answer(shared=shared, rows=rows)


def _next(local: Local, name: str) -> torch.Tensor:
    """Returns c_i⁺; a client that did no step, or steps of length 0, keeps c_i."""
    own = local.kept["own/" + name]
    if not local.lr[name]:
        return own
    steps = local.steps[local.row_client] if name in local.rows else local.steps
    steps = wide(steps.float(), own)
    change = -local.delta(name) / (steps.clamp(min=1) * local.lr[name])
    return torch.where(steps > 0, own - local.kept[CONTROL + name] + change, own)


def keep(local: Local, clients: Clients, private: frozenset[str], fine: torch.Tensor) -> None:
    """Keeps what is private, and the new controls."""
    keep_private(local, clients, private, fine)
    for name, value in local.sent.items():
        if name in private:
            continue
        if name in local.rows:
            keep_rows(local, clients, CONTROL + name, _next(local, name), fine)
        else:
            zero = torch.zeros_like(value[0])
            keep_shared(local, clients, CONTROL + name, _next(local, name), zero, fine)


def join(server: Server, means: Means, plan: Plan) -> Server:
    """Returns the server after x ← x + η Δx and c ← c + |S| / N Δc."""
    after = descend(server, means, plan)
    extra = dict(after.extra)
    share = means.n_answers / means.n_clients
    for name, change in means.values.items():
        if name.startswith(CONTROL):
            extra[name] = extra.get(name, torch.zeros_like(change)) + share * change
    return replace(after, extra=extra)


def reference(
    value: torch.Tensor,
    control: torch.Tensor,
    controls: Sequence[torch.Tensor],
    batches: Sequence[Sequence[object]],
    weights: Sequence[float],
    gradient: Callable[[torch.Tensor, object], torch.Tensor],
    lr: float,
    n_clients: int,
) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """Returns the server's value and control, and the clients' controls, after a round: algorithm 1.

    Args:
        value, control: x and c of the server.
        controls: c_i of the clients of the round.
        batches, weights, gradient, lr: as in `fedavg.reference`.
        n_clients: N.
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
    total = sum(weights)
    shares = [w / total for w in weights]
    mean = torch.stack([s * change for s, change in zip(shares, changes_, strict=True)]).sum(0)
    move = torch.stack([s * change for s, change in zip(shares, moves, strict=True)]).sum(0)
    return value + mean, control + len(batches) / n_clients * move, after
