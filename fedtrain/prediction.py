"""Outputs for given rows: the model on a split, each client with its own private values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from fedtrain.batch import Batch
from fedtrain.chunks import Chunk, chunks_of, local_rows
from fedtrain.engine import losses_of
from fedtrain.examples import Drawing, Examples
from fedtrain.examples import rows as row_examples

if TYPE_CHECKING:
    from fedtrain.algorithms import Server
    from fedtrain.clients import Clients
    from fedtrain.engine import Work

__all__ = ["outputs_for", "outputs_of"]

Ints = npt.NDArray[np.int64]

AT_ONCE = 4_096
"""Rows of one client that are predicted at a time."""

MOST_CLIENTS = 256
"""Clients whose own tensors are in memory at a time."""


@torch.no_grad()
def outputs_of(
    work: Work, server: Server, clients: Clients, split: str
) -> tuple[Ints, npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Returns for every row of a split its number, its outputs float32 (n, outputs), its loss float64 (n,).

    Implicit tasks draw negatives of a stream of their own, the same in every round.
    """
    federation = replace(work.federation, splits={"train": work.federation.splits[split]})
    drawing = Drawing(
        task=work.task,
        negatives=work.plan.negatives,
        excluded=work.excluded,
        max_history=0,
        seed=work.seed,
        round_number=-1,
    )
    apart = [name for name in work.private if work.parameters[name].scope != "user"]
    cohort = np.flatnonzero(federation.train.counts > 0)
    found: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    for chunk in chunks_of(
        federation, cohort, work.plan.chunk_rows, MOST_CLIENTS if apart else 1 << 30
    ):
        examples = row_examples(federation, chunk, drawing)
        for line in _lines(examples, len(chunk.clients), bool(apart)):
            values = _values(work, server, clients, chunk, examples, line)
            known = line >= 0
            batch = _batch(work, chunk, examples, line)
            outputs = work.model.outputs(values, batch)
            outputs = outputs[0] if isinstance(outputs, tuple) else outputs
            losses = losses_of(work, values, batch)
            row = torch.from_numpy(chunk.row[line.clip(0)])
            mask = torch.from_numpy(known)
            found.append((row[mask], outputs[mask].float().cpu(), losses[mask].cpu()))
    row, outputs, losses = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = row.argsort()
    return row[order].numpy(), outputs[order].numpy(), losses[order].double().numpy()


@torch.no_grad()
def outputs_for(
    work: Work, server: Server, clients: Clients, chunk: Chunk, examples: Examples, which: Ints
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Returns the outputs float32 (n, outputs) and losses float64 (n,) of some examples of a chunk."""
    line = which[None]
    values = _values(work, server, clients, chunk, examples, line)
    batch = _batch(work, chunk, examples, line)
    outputs = work.model.outputs(values, batch)
    outputs = outputs[0] if isinstance(outputs, tuple) else outputs
    losses = losses_of(work, values, batch)
    return outputs[0].float().cpu().numpy(), losses[0].double().cpu().numpy()


def _lines(examples: Examples, n_clients: int, apart: bool) -> Iterator[Ints]:
    """Yields int64 (C, B): numbers of examples, -1 where padded. One line for all, where none differ."""
    if not apart:
        yield np.arange(len(examples.client))[None]
        return
    counts = np.bincount(examples.client, minlength=n_clients)
    first = np.cumsum(counts) - counts
    for begin in range(0, int(counts.max(initial=0)), AT_ONCE):
        place = begin + np.arange(min(AT_ONCE, int(counts.max()) - begin))
        yield np.where(place < counts[:, None], first[:, None] + place, -1)


def _batch(work: Work, chunk: Chunk, examples: Examples, line: Ints) -> Batch:
    at = line.clip(0)
    user = work.federation.slot_user[chunk.slots].astype(np.int64)[examples.slot[at]]

    def tensor(values: npt.NDArray[np.generic]) -> torch.Tensor:
        return torch.from_numpy(values).to(work.device)

    return Batch(
        user=tensor(user),
        item=tensor(examples.item[at]),
        target=tensor(examples.target[at]),
        mask=tensor(line >= 0),
        features=work.features,
        training=False,
    )


def _values(
    work: Work, server: Server, clients: Clients, chunk: Chunk, examples: Examples, line: Ints
) -> dict[str, torch.Tensor]:
    """Returns each parameter for (C, B) examples, in the shapes of `Model.outputs`."""
    at, device = line.clip(0), work.device
    item = examples.item[at]  # (C, B, m)
    values = {}
    for name, parameter in work.parameters.items():
        private = name in work.private
        if parameter.scope == "user":
            rows = clients.users[name][torch.from_numpy(chunk.slots[examples.slot[at]])]
            values[name] = rows.to(device)
        elif parameter.scope == "shared":
            value = server.values[name]
            if private:
                values[name] = clients.read_shared(name, chunk.clients, value)
            else:
                values[name] = value.expand(len(line), *value.shape)
        elif private:
            client = np.broadcast_to(np.arange(len(line))[:, None, None], item.shape)
            row_client, row_item, place = local_rows(
                client, item, len(line), work.federation.n_items
            )
            default = server.values[name][torch.from_numpy(row_item)]
            rows = clients.row_store(name).read(chunk.clients, row_client, row_item, default)
            values[name] = rows[torch.from_numpy(place)]
        else:
            values[name] = server.values[name][torch.from_numpy(item).to(device)]
    return values
