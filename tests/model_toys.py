"""Toy clients for the tests of models: tables of parameters, a batch of any kind, the rows it reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from fedtrain.batch import Batch, Features, UserBlock
from fedtrain.models import Model, Sizes, example_losses
from fedtrain.parameters import initial, initial_rows, stream
from fedtrain.tasks import TASKS

N_USERS, N_ITEMS = 12, 9
TEXT, IMAGE, BEHAVIOR = 7, 5, 4
Tensors = dict[str, torch.Tensor]


def sizes(n_outputs: int = 1, *, max_history: int = 8) -> Sizes:
    return Sizes(
        n_users=N_USERS,
        n_items=N_ITEMS,
        modalities={"text": TEXT, "image": IMAGE},
        behavior=BEHAVIOR,
        n_outputs=n_outputs,
        max_history=max_history,
    )


def features(dtype: torch.dtype = torch.float64) -> Features:
    """Every third item has no image, and the last no text."""
    make = torch.Generator().manual_seed(1)
    text = torch.randn(N_ITEMS, TEXT, generator=make, dtype=dtype)
    image = torch.randn(N_ITEMS, IMAGE, generator=make, dtype=dtype)
    has_text, has_image = torch.ones(2, N_ITEMS, dtype=torch.bool)
    has_image[::3] = False
    has_text[-1] = False
    return Features(
        items={"text": text * has_text[:, None], "image": image * has_image[:, None]},
        has={"text": has_text, "image": has_image},
        behavior=torch.randn(N_USERS, BEHAVIOR, generator=make, dtype=dtype),
    )


@dataclass(frozen=True)
class Toy:
    """C clients: their tables, (C, *shape), (C, n_items, *shape) or (C, n_users, *shape), and a batch."""

    model: Model
    task: str
    tables: Tensors
    scopes: Mapping[str, str]
    batch: Batch

    def values(self, tables: Tensors) -> Tensors:
        """What `outputs` is given: shared tensors, and the rows that the batch reads."""
        client = torch.arange(len(self.batch.user))
        rows = {
            "item": (client[:, None, None], self.batch.item),
            "user": (client[:, None], self.batch.user),
        }
        return {
            name: table if self.scopes[name] == "shared" else table[rows[self.scopes[name]]]
            for name, table in tables.items()
        }

    def losses(self, tables: Tensors | None = None) -> torch.Tensor:
        """(C,): the sum of a client's losses, padding left out."""
        values = self.values(self.tables if tables is None else tables)
        found = example_losses(self.model, values, self.batch, TASKS[self.task].loss)
        return found.where(self.batch.mask, torch.zeros_like(found)).sum(1)

    def gradients(self) -> Tensors:
        leaves = {name: table.clone().requires_grad_() for name, table in self.tables.items()}
        found = torch.autograd.grad(
            self.losses(leaves).sum(), list(leaves.values()), allow_unused=False
        )
        return dict(zip(leaves, found, strict=True))

    def only(self, clients: list[int]) -> Toy:
        """The same for some clients, in this order."""
        batch = self.batch
        noise = batch.noise
        return replace(
            self,
            tables={name: table[clients] for name, table in self.tables.items()},
            batch=replace(
                batch,
                **{
                    key: value[clients]
                    for key in ("user", "item", "target", "mask", "given")
                    if (value := getattr(batch, key)) is not None
                },
                noise=(lambda purpose, size: noise(purpose, size)[clients]) if noise else None,
            ),
        )

    def with_batch(self, **changes: Any) -> Toy:
        return replace(self, batch=replace(self.batch, **changes))

    def outputs(self) -> torch.Tensor:
        found = self.model.outputs(self.values(self.tables), self.batch)
        return found[0] if isinstance(found, tuple) else found

    def scored(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(C, B, p) each: items, outputs, and which of them are no padding; of a sequence at its end."""
        batch, outputs = self.batch, self.outputs()
        if batch.given is None:
            return batch.item, outputs, batch.mask[..., None].expand_as(outputs)
        length = batch.given.shape[-1]
        if self.model.examples == "bags" and outputs.shape[-1] == N_ITEMS:
            item = torch.arange(N_ITEMS).expand_as(outputs)
            return item, outputs, batch.mask[..., None].expand_as(outputs)
        if self.model.examples == "bags":
            return batch.item, outputs, batch.given
        skipped = length if self.model.examples == "sequences" else 0
        own = batch.item[..., skipped : skipped + length, None]
        n = (batch.item.shape[-1] - skipped) // length - 1
        others = batch.item[..., skipped + length :].reshape(*own.shape[:-1], n)
        item = torch.cat([own, others], -1)
        if self.model.examples == "graphs":
            used = batch.given[..., None].expand_as(item)
            return item.flatten(2), outputs.flatten(2), used.flatten(2)
        last = (
            (batch.given.sum(-1) - 1)
            .clamp(min=0)[..., None, None]
            .expand(-1, -1, 1, item.shape[-1])
        )
        item, outputs = item.gather(2, last)[:, :, 0], outputs.gather(2, last)[:, :, 0]
        return item, outputs, batch.mask[..., None].expand_as(item)

    def scores(self) -> torch.Tensor:
        """(C, B, n_items): the scores of the batch's users, by the rows of the batch where it holds them."""
        client = torch.arange(len(self.batch.user))[:, None]
        values = {
            name: table[client, self.batch.user] if self.scopes[name] == "user" else table
            for name, table in self.tables.items()
        }
        items = self.model.encode_items(values, self.batch.features)
        asked = UserBlock(self.batch.user, self.batch.features)
        if self.batch.given is not None:
            length = self.batch.given.shape[-1]
            asked = replace(
                asked,
                history=self.batch.item[..., :length],
                given=self.batch.given,
                rating=self.batch.target,
            )
        return self.model.scores(values, items, asked)


def toy(
    model: Model,
    task: str,
    *,
    n_clients: int = 3,
    dtype: torch.dtype = torch.float64,
    max_history: int = 8,
) -> Toy:
    """Clients with other tables and other examples each; the last places of a client are padded."""
    make = torch.Generator().manual_seed(2)
    parameters = model.parameters(sizes(3 if task == "classes" else 1, max_history=max_history))
    tables = {}
    for name, parameter in parameters.items():
        size = {"shared": (), "item": (N_ITEMS,), "user": (N_USERS,)}[parameter.scope]
        shape = (n_clients, *size, *parameter.shape)
        tables[name] = parameter.fill + 0.5 * torch.randn(shape, generator=make, dtype=dtype)
    batch = BATCHES[model.examples](task, n_clients, make, dtype)
    scopes = {name: parameter.scope for name, parameter in parameters.items()}
    return Toy(model, task, tables, scopes, batch)


def row_batch(task: str, n_clients: int, make: torch.Generator, dtype: torch.dtype) -> Batch:
    n, m = 5, 4 if TASKS[task].implicit else 1
    item = torch.randint(N_ITEMS, (n_clients, n, m), generator=make)
    return _batch(n_clients, n, item, _target(task, (n_clients, n), make, dtype), make, dtype)


def sequence_batch(task: str, n_clients: int, make: torch.Generator, dtype: torch.dtype) -> Batch:
    length, n = 4, 3
    order = torch.rand(n_clients, n, N_ITEMS, generator=make).argsort(-1)
    negatives = torch.randint(N_ITEMS, (n_clients, n, 2 * length), generator=make)
    item = torch.cat([order[..., :length], order[..., 1 : length + 1], negatives], -1)
    given = torch.arange(length) < torch.randint(1, length + 1, (n_clients, n, 1), generator=make)
    return _batch(n_clients, n, item, given.to(dtype), make, dtype, given)


def bag_batch(task: str, n_clients: int, make: torch.Generator, dtype: torch.dtype) -> Batch:
    length, n = 5, 3
    item = torch.rand(n_clients, n, N_ITEMS, generator=make).argsort(-1)[..., :length]
    given = torch.arange(length) < torch.randint(1, length + 1, (n_clients, n, 1), generator=make)
    target = torch.randint(1, 6, item.shape, generator=make) if task == "rating" else given
    return _batch(n_clients, n, item, target.to(dtype) * given, make, dtype, given)


def graph_batch(task: str, n_clients: int, make: torch.Generator, dtype: torch.dtype) -> Batch:
    batch = bag_batch(task, n_clients, make, dtype)
    n_negatives = 10 if TASKS[task].implicit else 0
    negatives = torch.randint(N_ITEMS, (*batch.item.shape[:2], n_negatives), generator=make)
    return replace(batch, item=torch.cat([batch.item, negatives], -1))


BATCHES = {
    "rows": row_batch,
    "sequences": sequence_batch,
    "bags": bag_batch,
    "graphs": graph_batch,
}


def _target(
    task: str, shape: tuple[int, ...], make: torch.Generator, dtype: torch.dtype
) -> torch.Tensor:
    if TASKS[task].implicit:
        return torch.ones(shape, dtype=dtype)
    top = {"binary": 2, "classes": 3, "rating": 5}[task]
    return torch.randint(top, shape, generator=make).to(dtype)


def _batch(
    n_clients: int,
    n: int,
    item: torch.Tensor,
    target: torch.Tensor,
    make: torch.Generator,
    dtype: torch.dtype,
    given: torch.Tensor | None = None,
) -> Batch:
    user = torch.rand(n_clients, N_USERS, generator=make).argsort(-1)[:, :n]
    mask = torch.arange(n)[None] < n - torch.arange(n_clients)[:, None] % 2
    if given is not None:
        given = given & mask[..., None]
        target = target * given
        length = given.shape[-1]
        item = torch.cat([item[..., :length] * given, item[..., length:]], -1)
    item = item * mask[..., None]

    def noise(purpose: str, size: int) -> torch.Tensor:
        own = torch.Generator().manual_seed(stream("noise", purpose) % 2**62)
        return torch.rand(n_clients, n, size, generator=own, dtype=dtype)

    return Batch(
        user=user, item=item, target=target, mask=mask, features=features(dtype), given=given, noise=noise
    )  # fmt: skip


def learn(model: Model, task: str, *, steps: int = 100, lr: float = 0.05) -> tuple[float, float]:
    """(loss before, loss after) so many steps of Adam of one client on one batch, from the model's start."""
    torch.manual_seed(0)
    start = toy(model, task, n_clients=1, dtype=torch.float32)
    parameters = model.parameters(sizes(3 if task == "classes" else 1))
    tables = {name: value[None] for name, value in initial(parameters, N_ITEMS, 0).items()}
    for name, parameter in parameters.items():
        if parameter.scope == "user":
            tables[name] = initial_rows(name, parameter, range(N_USERS), 0)[None]
    leaves = {name: table.clone().requires_grad_() for name, table in tables.items()}
    optimizer = torch.optim.Adam(leaves.values(), lr=lr)
    first = float(start.losses(tables).sum())
    for _ in range(steps):
        optimizer.zero_grad()
        start.losses(leaves).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return first, float(start.losses(leaves).sum().detach())
