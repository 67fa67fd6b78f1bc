"""The engine: the clients of a cohort train side by side, chunk by chunk.

    server ──send──► chunk of clients ──local steps──► answers ──sums──► server

A chunk holds C clients in tensors with the clients first: a copy of each shared tensor for each of them, and
one ragged table of the item rows that any of them touches, a row for each (client, item). A step takes the
next examples of every client that has some left; as no two clients share a tensor's row, one backward pass
gives each its own gradient. What a client draws depends on (seed, round, client) alone, and sums are in
fixed point, so chunks, threads and the order of clients change no bit of what the server adds up; but for
models with products of matrices, whose last bit BLAS rounds by how many clients stand side by side.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from fedeval.draws import uniform
from fedtrain.axes import padded
from fedtrain.batch import Batch, Features
from fedtrain.chunks import Chunk, Order, order_of
from fedtrain.descent import Descent, moments_of
from fedtrain.examples import EXAMPLES, Drawing, Examples, item_rows
from fedtrain.halves import part_of
from fedtrain.local import Local
from fedtrain.models.interface import example_losses
from fedtrain.parameters import Parameter, initial_rows, stream
from fedtrain.samplers import held_out

if TYPE_CHECKING:
    from fedtrain.algorithms.algorithm import Algorithm, Phase, Server
    from fedtrain.clients import Clients
    from fedtrain.federation import Federation, Positives
    from fedtrain.models import Model
    from fedtrain.plan import Plan
    from fedtrain.tasks import Task

__all__ = ["Work", "losses_of", "train_chunk"]

Ints = npt.NDArray[np.int64]
Tensors = dict[str, torch.Tensor]

LOSS_STEPS = 2.0**32
"""Steps of one unit in which losses are counted: their sum is exact, however wide a chunk is padded."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What stays the same from round to round.

    excluded: the items that are no negatives of a user, None for none · seed: of the run.
    """

    federation: Federation
    features: Features
    model: Model
    parameters: Mapping[str, Parameter]
    task: Task
    algorithm: Algorithm
    plan: Plan
    excluded: Positives | None
    seed: int
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def private(self) -> frozenset[str]:
        """The names of all that never leaves a client."""
        return self.algorithm.private(self.parameters)

    @functools.cached_property
    def may_train(self) -> npt.NDArray[np.bool_]:
        """bool (n_clients,): the clients with train rows that are not held out for valid or test."""
        plan, counts = self.plan, self.federation.train.counts
        if not plan.valid_clients + plan.test_clients:
            return counts > 0
        valid, test = held_out(counts, plan.valid_clients, plan.test_clients, self.seed)
        return (counts > 0) & ~valid & ~test

    @property
    def least_clients(self) -> int:
        """Of how many clients a round's sum is at least; of fewer the round is skipped."""
        return 2 if self.plan.secure.enabled and self.algorithm.joins else 1

    @functools.cached_property
    def weight_of_all(self) -> float:
        """The weight of all clients that may train: their rows, or how many they are."""
        counts = self.federation.train.counts[self.may_train]
        return float(counts.sum() if self.plan.weights == "rows" else len(counts))


def train_chunk(
    work: Work,
    server: Server,
    clients: Clients,
    chunk: Chunk,
    *,
    lr_factor: float = 1.0,
    progress: float = 0.0,
    share: npt.NDArray[np.float64] | None = None,
) -> Local:
    """Returns the clients of a chunk after their local training. `clients` is read, not written.

    Args:
        work: what stays the same.
        server: what the server holds; its round number is the round's.
        clients: what the clients hold.
        chunk: which clients.
        lr_factor: the schedule's factor on all learning rates.
        progress: share of the run's rounds that have passed.
        share: float64 (C,) in (0, 1]: the part of their steps that they do (stragglers); None: all.
    """
    plan = work.plan
    drawing = Drawing(
        task=work.task,
        negatives=plan.negatives,
        excluded=work.excluded,
        max_history=plan.max_history,
        seed=work.seed,
        round_number=server.round_number,
    )
    examples = EXAMPLES[work.model.examples](work.federation, chunk, drawing)
    goes_on = work.algorithm.remembers and plan.optimizer != "sgd"
    # Moments move rows of items too that no example of this round touches.
    row_client, row_item, place = item_rows(
        examples, len(chunk.clients), work.federation.n_items, whole=goes_on
    )
    local = _opened(work, server, clients, chunk, row_client, row_item)
    if goes_on:
        local.moments = moments_of(clients)
        local.trained[:-1] = True
    step = _Step(work, local, examples, place, lr_factor, progress)
    for number, phase in enumerate(work.algorithm.phases(plan, work.parameters)):
        step.train(phase, (server.round_number, number), share)
    local.let_go()
    return local


def _opened(
    work: Work, server: Server, clients: Clients, chunk: Chunk, row_client: Ints, row_item: Ints
) -> Local:
    """Returns the clients of a chunk before their first step."""
    device, private, ids = work.device, work.private, chunk.clients
    items = torch.from_numpy(row_item).to(device)
    shared, rows, users, sent = {}, {}, {}, {}
    for name, parameter in work.parameters.items():
        if parameter.scope == "user":
            users[name] = _user_rows(work, clients, chunk, name, parameter).to(device)
        elif parameter.scope == "shared":
            value = server.values[name]
            if name in private:
                sent[name] = clients.read_shared(name, ids, value)
            else:
                sent[name] = value.expand(len(ids), *value.shape)
            shared[name] = sent[name].clone()
        else:
            sent[name] = server.values[name].index_select(0, items)
            if name in private and name in clients.rows:
                sent[name] = clients.rows[name].read(ids, row_client, row_item, sent[name])
            rows[name] = padded(sent[name])
    nothing = torch.zeros(len(ids), dtype=torch.float64, device=device)
    local = Local(
        chunk=chunk,
        shared=shared,
        rows=rows,
        users=users,
        row_client=torch.from_numpy(row_client).to(device),
        row_item=items,
        trained=torch.zeros(len(items) + 1, dtype=torch.bool, device=device),
        downloaded=len(items),
        slot_client=torch.from_numpy(chunk.slot_client).to(device),
        sent=sent,
        kept={},
        lr={},
        momentum=work.plan.momentum if work.plan.optimizer == "momentum" else 0.0,
        steps=nothing.long(),
        loss=nothing.clone(),
        used=nothing.long(),
        grad_norm=nothing.clone(),
        clipped=nothing.clone(),
        measured=nothing.clone(),
    )
    local.kept = work.algorithm.open(local, server, clients)
    return local


def _user_rows(
    work: Work, clients: Clients, chunk: Chunk, name: str, parameter: Parameter
) -> torch.Tensor:
    """Returns (S + 1, *shape): the chunk's users, as they are kept or as they begin."""
    if work.algorithm.stateless:
        return padded(initial_rows(name, parameter, chunk.slots, work.seed))
    return padded(clients.users[name][torch.from_numpy(chunk.slots)])


class _Step:
    """The local steps of a chunk: its examples as tensors, and the way down."""

    def __init__(
        self,
        work: Work,
        local: Local,
        examples: Examples,
        place: Ints,
        lr_factor: float,
        progress: float,
    ) -> None:
        self.work, self.local, self.examples = work, local, examples
        self.lr_factor, self.progress = lr_factor, progress
        self.reads_features = bool(work.features.items) or work.features.behavior is not None
        device = work.device
        n_slots, n_rows = len(local.chunk.slots), len(local.row_item)
        # The line after the last example stands for padding.
        self.slot = _with_last(examples.slot, n_slots).to(device)
        self.place = _with_last(place, n_rows).to(device)
        self.target = _with_last(examples.target, 0).to(device)
        given = examples.given
        self.given = None if given is None else _with_last(given, False).to(device)
        self.item = torch.cat([local.row_item, local.row_item.new_zeros(1)])
        users = work.federation.slot_user[local.chunk.slots].astype(np.int64)
        self.user = _with_last(users, 0).to(device)

    def train(
        self, phase: Phase, address: tuple[int, ...], share: npt.NDArray[np.float64] | None
    ) -> None:
        """Does all steps of a phase."""
        work, chunk = self.work, self.local.chunk
        plan = work.plan
        chosen = part_of(self.examples, chunk, phase.part, self.work.seed, address)
        if not len(chosen):
            return
        client = self.examples.client[chosen]
        descent = Descent(work.parameters, work.algorithm, plan, self.local, phase, self.lr_factor)
        self.local.lr |= descent.lr
        counts = np.bincount(client, minlength=len(chunk.clients))
        size = plan.batch_size or max(1, int(counts.max()))
        each = -(-counts // size)  # steps an epoch
        steps = phase.steps or (0 if phase.steady else plan.local_steps)
        limit = np.where(counts > 0, steps, 0) if steps else each * phase.epochs
        if share is not None:
            limit = np.where(limit > 0, np.maximum(1, np.rint(limit * share)), 0).astype(np.int64)
        epochs = int(np.max(-(-limit // np.maximum(each, 1)), initial=0))
        for epoch in range(epochs):
            order = order_of(
                client,
                self.examples.place[chosen],
                chunk.clients,
                plan.batch_size,
                seed=self.work.seed,
                address=(*address, epoch),
            )
            left = np.clip(limit - epoch * each, 0, order.steps)
            self._epoch(order, left, chosen, descent, (*address, epoch))
            if self.local.rows.keys() & phase.trains and self.local.moments is None:
                used = order.used(left, len(chosen))
                self.local.trained[self.place[torch.from_numpy(chosen[used]).to(work.device)]] = (
                    True
                )
        descent.end()

    def _epoch(
        self, order: Order, steps: Ints, chosen: Ints, descent: Descent, address: tuple[int, ...]
    ) -> None:
        n_examples = len(self.examples.client)
        lines = np.concatenate([chosen, [n_examples]])  # the padding's -1 is the last
        for number in range(int(steps.max(initial=0))):
            line = torch.from_numpy(lines[order.step(number, steps)]).to(self.work.device)  # (c, B)
            self._step(line, line < n_examples, descent, (*address, number))

    def _step(
        self, line: torch.Tensor, mask: torch.Tensor, descent: Descent, address: tuple[int, ...]
    ) -> None:
        work, local = self.work, self.local
        slot, place = self.slot[line], self.place[line]  # (c, B), (c, B, m)
        values = descent.leaves(len(line), slot, place)
        owner, owned = slot, place
        if self.reads_features and not bool(mask.all()):
            # Padding reads what the client's own first example does: 0 times another's NaN were NaN.
            own = torch.where(mask, line, line.amin(1, keepdim=True))
            owner, owned = self.slot[own], self.place[own]
        batch = Batch(
            user=self.user[owner],
            item=self.item[owned],
            target=self.target[line],
            mask=mask,
            features=work.features,
            given=None if self.given is None else self.given[line],
            training=True,
            noise=self._noise(len(line), line.shape[1], address),
            progress=self.progress,
        )
        with torch.enable_grad():
            given = self._in_batch(values) if work.task.in_batch else values
            loss = losses_of(work, given, batch)  # (c, B)
            loss = torch.where(mask, loss, 0.0)
            count = mask.sum(1)
            torch.autograd.backward((loss.sum(1) / count.clamp(min=1)).sum())
        steps = (loss.detach().double() * LOSS_STEPS).round()
        local.loss[: len(line)] += steps.sum(1) / LOSS_STEPS
        local.used[: len(line)] += count
        descent.step(values, slot, place, count)
        local.steps[: len(line)] += (count > 0).long()

    def _in_batch(self, values: Tensors) -> Tensors:
        """Returns the values with the items of all examples on one line: (c, B, 1, *) → (c, 1, B, *)."""
        parameters = self.work.parameters
        return {
            name: value.transpose(1, 2) if parameters[name].scope == "item" else value
            for name, value in values.items()
        }

    def _noise(self, n_clients: int, n_examples: int, address: tuple[int, ...]):  # type: ignore[no-untyped-def]
        """Returns what draws uniform numbers for dropout and the like, by client, round and step alone."""
        clients = self.local.chunk.clients[:n_clients]

        def noise(name: str, *shape: int) -> torch.Tensor:
            seed = stream(self.work.seed, name, *address)
            # Each example counts from a number of its own: how wide a chunk is padded changes no draw.
            number = np.arange(n_examples)[:, None] << 32 | np.arange(
                np.prod(shape, dtype=np.int64)
            )
            numbers = uniform(seed, clients[:, None, None], number, bits=24)
            found = torch.from_numpy(numbers.astype(np.float32)).to(self.work.device)
            return found.reshape(n_clients, n_examples, *shape)

        return noise


def losses_of(work: Work, values: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
    """Returns float32 (C, B): the loss of each example; in mixed precision on CUDA, if the plan says so."""
    mixed = work.plan.mixed_precision and work.device.type == "cuda"
    losses = compiled_losses() if work.plan.compile and batch.training else example_losses
    with torch.autocast(work.device.type, enabled=mixed):
        return losses(work.model, values, batch, work.task.loss).float()


@functools.cache
def compiled_losses() -> Callable[..., torch.Tensor]:
    """Returns `example_losses` compiled for tensors of any size.

    Off unless a plan asks for it: with matrix factorisation on a CPU a step is 1.1 times quicker, after more
    than a minute of compiling.
    """
    found: Callable[..., torch.Tensor] = torch.compile(example_losses, dynamic=True)
    return found


def _with_last(values: npt.NDArray[np.generic], last: float) -> torch.Tensor:
    """Returns the array as a tensor, with one more line that holds `last` everywhere."""
    line = np.full((1, *values.shape[1:]), last, values.dtype)
    return torch.from_numpy(np.concatenate([values, line]))
