"""What a federated algorithm is: a frozen value of pure functions.

    send      which names go down is whatever is not private
    phases    what a client does with what it got: which parameters it trains, on which of its rows
    correction  what it adds to its gradients
    answer    what goes up
    join      how the server makes its next values of the sums
    keep      what stays at the client for its next round; it may look at what the server made of its answer
    extrapolate  what the server does for the users of clients that were not sampled

Each module holds one algorithm and its paper, and `reference`: the same in the words of the paper's
pseudocode, one client after the other on small dense tensors, which tests hold the fast one against.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from fedtrain.parameters import Parameter

if TYPE_CHECKING:
    from fedtrain.clients import Clients
    from fedtrain.local import Local
    from fedtrain.plan import Plan

__all__ = ["Algorithm", "Answer", "Means", "Moved", "Phase", "Server", "keeps_users"]

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Server:
    """What the server holds after a round.

    round_number: of the round that is being done, from 1 · values: shared (*shape) and item tables
    (n_items, *shape) by name · extra: what the algorithm or its optimiser holds beside them.
    """

    values: Tensors
    extra: Tensors = field(default_factory=dict)
    round_number: int = 0

    def at(self, round_number: int) -> Server:
        return replace(self, round_number=round_number)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of a client's work.

    trains: the names of what changes; all else stands still · part: of which rows: all, support, query ·
    epochs: over them · steps: in place of epochs; 0: whole epochs · lr: learning rates by name, in place of
    the plan's · steady: at the same rates and for its own epochs in each round, whatever the schedule and
    `local_steps`: it begins anew each time.
    """

    trains: frozenset[str]
    part: str = "all"
    epochs: int = 1
    steps: int = 0
    lr: Mapping[str, float] = field(default_factory=dict)
    steady: bool = False


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What goes up from C clients: shared (C, *shape), rows of items (T, *shape), numbers (C,).

    new: bool (T,): the rows of items that their client never sent before; None: nobody asks.
    """

    shared: Tensors
    rows: Tensors
    numbers: Tensors = field(default_factory=dict)
    new: torch.Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Means:
    """Weighted means over the clients that answered, in float64; of a row over those that touched it.

    values: by name, in the shape of the server's · numbers: by name · totals: the weighted sums behind the
    values · tables: the names of those of items · weight_of_all: of all clients that may train, whether they
    were asked or not · new: (n_items,), the weight of the clients that sent a row for the first time; None
    where nobody asks, or nobody may know.
    """

    values: Tensors
    numbers: Mapping[str, float]
    totals: Tensors
    tables: frozenset[str]
    weight_of_all: float
    new: torch.Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Moved:
    """The users that a round's training moved, by slot in ascending order; those with train rows alone.

    round_number: of the round · slots, slot_client: int64 (m,), their slots and clients · before: their rows
    before the round, (m, *shape) by name · unsampled: int64, the slots with train rows of the clients that
    may be sampled and were not · loss: of the round's training, NaN without a client · extra: what the
    server keeps from round to round for this; it is written · told: events of the round, written likewise.
    """

    round_number: int
    slots: npt.NDArray[np.int64]
    slot_client: npt.NDArray[np.int64]
    before: Tensors
    unsampled: npt.NDArray[np.int64]
    loss: float = math.nan
    extra: Tensors = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)


def keeps_users(parameters: Mapping[str, Parameter]) -> frozenset[str]:
    """Returns the names of the rows of users: those never leave a client, whatever the algorithm."""
    return frozenset(name for name, parameter in parameters.items() if parameter.scope == "user")


def no_names(parameters: Mapping[str, Parameter]) -> frozenset[str]:
    """Returns none."""
    return frozenset()


def everything(plan: Plan, parameters: Mapping[str, Parameter]) -> tuple[Phase, ...]:
    """Returns one phase that trains all parameters on all rows."""
    return (Phase(trains=frozenset(parameters), epochs=plan.local_epochs),)


def nothing(local: Local, server: Server, clients: Clients) -> Tensors:
    """Returns no state."""
    return {}


def changes(local: Local, private: frozenset[str]) -> Answer:
    """Returns what training changed, of all that is not private."""
    return Answer(
        shared={name: local.delta(name) for name in local.shared if name not in private},
        rows={name: local.delta(name) for name in local.rows if name not in private},
    )


def keep_private(
    local: Local, clients: Clients, private: frozenset[str], fine: torch.Tensor, answer: Answer
) -> None:
    """Keeps the users' rows and whatever else is private, of the clients whose numbers are fine."""
    slots, mine = torch.from_numpy(local.chunk.slots), fine[local.slot_client].cpu()
    for name, table in local.users.items() if not clients.forgets else ():
        clients.users[name][slots[mine]] = table[:-1].cpu()[mine]
    for name in sorted(private & local.shared.keys()):
        # Whoever never trained has what the server began with, as all had before anything was kept.
        keep_shared(local, clients, name, local.shared[name], local.sent[name][0], fine)
    for name in sorted(private & local.rows.keys()):
        keep_rows(local, clients, name, local.rows[name][:-1], fine)


def keep_shared(
    local: Local,
    clients: Clients,
    name: str,
    values: torch.Tensor,
    start: torch.Tensor,
    fine: torch.Tensor,
) -> None:
    """Keeps (C, *shape) under a name; clients that never trained have `start` (*shape)."""
    mine = fine.cpu()
    ids = local.chunk.clients[mine.numpy()]
    clients.write_shared(name, ids, values.cpu()[mine], start)


def keep_rows(
    local: Local, clients: Clients, name: str, rows: torch.Tensor, fine: torch.Tensor
) -> None:
    """Keeps rows of items (T, *shape) under a name."""
    mine = fine[local.row_client].cpu().numpy()
    clients.row_store(name).write(
        local.chunk.clients,
        local.row_client.cpu().numpy()[mine],
        local.row_item.cpu().numpy()[mine],
        rows.cpu()[torch.from_numpy(mine)],
    )


def descend(server: Server, means: Means, plan: Plan) -> Server:
    """Returns the server one step of its optimiser further along the mean change.

    The change stands for a negative gradient (Reddi et al., Adaptive Federated Optimization, ICLR 2021,
    algorithm 2); `sgd` with rate 1 adds it as it is.
    """
    from fedtrain.server_optimizers import SERVER_OPTIMIZERS

    step = SERVER_OPTIMIZERS[plan.server_optimizer]
    values, extra = dict(server.values), dict(server.extra)
    for name, change in means.values.items():
        if name not in values:
            continue
        moments = {
            key: extra[f"{key}/{name}"] for key in ("first", "second") if f"{key}/{name}" in extra
        }
        moved, moments = step(change, moments, plan)
        values[name] = (values[name].double() + moved).float()
        extra |= {f"{key}/{name}": moment for key, moment in moments.items()}
    return replace(server, values=values, extra=extra)


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """A federated algorithm. The fields' defaults are federated averaging.

    name, reference: the algorithm and its paper · stateless: users begin anew each round · pooled: all rows
    lie at one client (the centralised control) · remembers: the moments of the clients' optimiser go on
    from round to round; of a pooled one alone · own_best: each client is served as it was in its own best
    round · joins: False where nothing is sent · beside: prefixes of the names of what goes down and up
    beside each value · defaults: of the plan, by key · reveals: of what is private, the names that the
    server sees all the same · row_weights: float32 (T,), at most 1: what each row of items counts for, in
    place of its client's weight · extrapolate: moves, in what the clients hold, the users of those that
    were not sampled; returns figures of the round by name · behavior: whether that wants the users'
    behaviour vectors, whatever the model wants.
    """

    name: str
    reference: str
    private: Callable[[Mapping[str, Parameter]], frozenset[str]] = keeps_users
    phases: Callable[[Plan, Mapping[str, Parameter]], tuple[Phase, ...]] = everything
    open: Callable[[Local, Server, Clients], Tensors] = nothing
    correction: Callable[[Local, str], torch.Tensor | None] | None = None
    answer: Callable[[Local, frozenset[str]], Answer] = changes
    keep: Callable[[Local, Clients, frozenset[str], torch.Tensor, Answer], None] = keep_private
    join: Callable[[Server, Means, Plan], Server] = descend
    reveals: Callable[[Mapping[str, Parameter]], frozenset[str]] = no_names
    row_weights: Callable[[Answer, Local], torch.Tensor] | None = None
    # The first is a `fedtrain.engine.Work`, which itself has an algorithm.
    extrapolate: Callable[[Any, Clients, Moved], dict[str, float]] | None = None
    behavior: bool = False
    stateless: bool = False
    pooled: bool = False
    remembers: bool = False
    own_best: bool = False
    joins: bool = True
    beside: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
