"""What a client keeps between rounds, in a file of its own: users' vectors, a personal head, controls.

It lies on the client's disk and is in no message. A simulation on one machine has the files of all clients in
one folder, where the evaluation finds them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from fedtrain.clients import Clients
from fedtrain.own_best import OWN
from fedtrain.parameters import initial_rows
from fedtrain.run import read_tensors, write_tensors

if TYPE_CHECKING:
    from fedtrain.engine import Work
    from fedtrain.federation import Federation

__all__ = ["gather", "recall", "remember"]

Tensors = dict[str, torch.Tensor]
ITEM, VALUE = ":item", ":value"


def recall(folder: Path, work: Work, client: int) -> Clients:
    """Returns the state of a client, as it was remembered or as it begins; of others there are zeros.

    Raises:
        TrainingError: its file is damaged.
    """
    slots = _slots(work.federation, client)
    numbers = np.arange(slots.start, slots.stop)
    users = {}
    for name, parameter in work.parameters.items():
        if parameter.scope == "user":
            users[name] = torch.zeros((slots.stop, *parameter.shape))
            users[name][slots] = initial_rows(name, parameter, numbers, work.seed)
    clients = Clients(client + 1, users, forgets=work.algorithm.stateless)
    gather(folder, work, clients, [client], {})
    return clients


def remember(folder: Path, work: Work, clients: Clients, cohort: Iterable[int]) -> None:
    """Writes what `clients` holds of each of these clients to its file, whole.

    A node does so after its training; a simulation also before it, so that a resumed run goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stores = {n: store for n, store in clients.rows.items() if not n.startswith(OWN)}
    kept = {name: store.state("rows") for name, store in stores.items()}
    for client in cohort:
        slots = _slots(work.federation, client)
        users = {} if work.algorithm.stateless else clients.users
        found = {f"users/{name}": value[slots] for name, value in users.items()}
        found |= {
            f"shared/{name}": value[client]
            for name, value in clients.shared.items()
            if not name.startswith(OWN)
        }
        for name, state in kept.items():
            mine = _rows_of(state, client)
            if mine is not None:
                found[f"rows/{name}{ITEM}"] = state["rows:item"][mine]
                found[f"rows/{name}{VALUE}"] = state["rows:value"][mine]
        write_tensors(_file(folder, client), found)


def gather(
    folder: Path, work: Work, clients: Clients, cohort: Iterable[int], defaults: Tensors
) -> None:
    """Takes over into `clients` what these clients remembered, where they have a file.

    Args:
        defaults: by name, what the other clients have of a tensor that one keeps; zeros where it is not
            named. Personal heads begin as the server's values.
    """
    for client in cohort:
        path = _file(folder, client)
        if path.is_file():
            _put(clients, work.federation, client, read_tensors(path)[0], defaults)


def _put(
    clients: Clients, federation: Federation, client: int, state: Tensors, defaults: Tensors
) -> None:
    slots, ids = _slots(federation, client), np.array([client])
    for key, value in state.items():
        kind, _, name = key.partition("/")
        if kind == "users" and not clients.forgets:
            clients.users[name][slots] = value
        elif kind == "shared":
            start = defaults.get(name, torch.zeros_like(value))
            clients.write_shared(name, ids, value[None], start)
        elif name.endswith(ITEM):
            name = name.removesuffix(ITEM)
            items, rows = value.numpy(), state[f"{kind}/{name}{VALUE}"]
            clients.row_store(name).write(ids, np.zeros(len(items), np.int64), items, rows)


def _rows_of(state: Tensors, client: int) -> slice | None:
    """Returns which of the flat rows of a store are of a client, None where it keeps none."""
    if not state:
        return None
    ids, counts = state["rows:client"].numpy(), state["rows:count"].numpy()
    at = int(np.searchsorted(ids, client))
    if at == len(ids) or ids[at] != client:
        return None
    end = int(counts[: at + 1].sum())
    return slice(end - int(counts[at]), end)


def _slots(federation: Federation, client: int) -> slice:
    return slice(int(federation.slot_offsets[client]), int(federation.slot_offsets[client + 1]))


def _file(folder: Path, client: int) -> Path:
    return folder / f"client-{client:05d}.safetensors"
