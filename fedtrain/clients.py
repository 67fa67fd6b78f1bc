"""What stays at the clients between rounds: users' vectors, personal heads, control variates.

One process holds it for all clients here; none of it is ever in what is sent. Rows of items are kept for
the clients that have some, each by itself, so that a round costs what its cohort costs.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from fedtrain.parameters import Parameter, initial_rows

__all__ = ["Clients", "RowStore"]

Ints = npt.NDArray[np.int64]
Tensors = dict[str, torch.Tensor]


class RowStore:
    """Rows of items that clients keep: (client, item) → a row."""

    def __init__(self) -> None:
        self._of: dict[int, tuple[Ints, torch.Tensor]] = {}

    def read(
        self, clients: Ints, row_client: Ints, row_item: Ints, default: torch.Tensor
    ) -> torch.Tensor:
        """Returns a tensor like `default` (T, *shape), with the rows that are kept in place of its own.

        Args:
            clients: int64 (C,) ids · row_client: int64 (T,), ascending places in `clients` ·
            row_item: int64 (T,), ascending in a client.
        """
        return self.found(clients, row_client, row_item, default)[0]

    def found(
        self, clients: Ints, row_client: Ints, row_item: Ints, default: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns what `read` does, and bool (T,): which rows are kept."""
        rows = default.clone()
        there = torch.zeros(len(row_client), dtype=torch.bool, device=rows.device)
        edges = np.searchsorted(row_client, np.arange(len(clients) + 1))
        for place, client in enumerate(clients.tolist()):
            if client not in self._of:
                continue
            items, values = self._of[client]
            mine = row_item[edges[place] : edges[place + 1]]
            at = np.minimum(np.searchsorted(items, mine), len(items) - 1)
            known = np.flatnonzero(items[at] == mine)
            rows[edges[place] + known] = values[at[known]].to(rows.device)
            there[edges[place] + known] = True
        return rows, there

    def write(self, clients: Ints, row_client: Ints, row_item: Ints, rows: torch.Tensor) -> None:
        """Keeps these rows, beside the others that each client has."""
        edges = np.searchsorted(row_client, np.arange(len(clients) + 1))
        rows = rows.detach().cpu()
        for place, client in enumerate(clients.tolist()):
            part = slice(edges[place], edges[place + 1])
            if part.start == part.stop:
                continue
            items, values = row_item[part], rows[part].clone()
            if client in self._of:
                old, before = self._of[client]
                other = ~np.isin(old, items, assume_unique=True)
                items = np.concatenate([items, old[other]])
                values = torch.cat([values, before[torch.from_numpy(other)]])
                order = np.argsort(items)
                items, values = items[order], values[torch.from_numpy(order)]
            self._of[client] = (items, values)

    def take(self, other: RowStore, clients: Ints) -> None:
        """Keeps what another store has of these clients, in place of what is here of them."""
        for client in clients.tolist():
            self._of.pop(client, None)
            if client in other._of:
                self._of[client] = other._of[
                    client
                ]  # `write` puts others in their place, and changes none

    def state(self, name: str) -> Tensors:
        """Returns everything as flat tensors, in order of client and item."""
        if not self._of:
            return {}
        order = sorted(self._of)
        parts = [self._of[client] for client in order]
        return {
            f"{name}:client": torch.tensor(order),
            f"{name}:count": torch.tensor([len(items) for items, _ in parts]),
            f"{name}:item": torch.from_numpy(np.concatenate([items for items, _ in parts])),
            f"{name}:value": torch.cat([values for _, values in parts]),
        }

    @classmethod
    def restored(cls, name: str, state: Mapping[str, torch.Tensor]) -> RowStore:
        """Returns the store that `state` was taken of."""
        store = cls()
        if f"{name}:client" not in state:
            return store
        counts = state[f"{name}:count"].tolist()
        items = torch.split(state[f"{name}:item"], counts)
        values = torch.split(state[f"{name}:value"], counts)
        for client, mine, rows in zip(state[f"{name}:client"].tolist(), items, values, strict=True):
            store._of[client] = (mine.numpy().copy(), rows.clone())
        return store


class Clients:
    """The state of all clients. Tensors are float32 on the CPU, a row for each slot or client.

    users: by name (n_slots, *shape) · shared: by name (n_clients, *shape), made when first kept ·
    rows: by name, the rows of items that clients keep · forgets: users begin anew in each round, and no
    state has rows of theirs.
    """

    def __init__(self, n_clients: int, users: Tensors, *, forgets: bool = False) -> None:
        self.n_clients = n_clients
        self.users = users
        self.forgets = forgets
        self.shared: Tensors = {}
        self.rows: dict[str, RowStore] = {}

    @classmethod
    def new(
        cls,
        n_clients: int,
        n_slots: int,
        parameters: Mapping[str, Parameter],
        seed: int,
        *,
        forgets: bool = False,
    ) -> Clients:
        """Returns the clients before the first round."""
        users = {
            name: initial_rows(name, parameter, np.arange(n_slots), seed)
            for name, parameter in parameters.items()
            if parameter.scope == "user"
        }
        return cls(n_clients, users, forgets=forgets)

    def users_at(self, slots: Ints) -> Tensors:
        """Returns a copy of these users' rows, (len(slots), *shape) by name."""
        return {name: table[torch.from_numpy(slots)] for name, table in self.users.items()}

    def write_users(self, slots: Ints, values: Mapping[str, torch.Tensor]) -> None:
        """Keeps rows of users, (len(slots), *shape) by name."""
        for name, rows in values.items():
            self.users[name][torch.from_numpy(slots)] = rows

    def read_shared(self, name: str, clients: Ints, default: torch.Tensor) -> torch.Tensor:
        """Returns (C, *shape): what these clients keep under a name, `default` (*shape) where nothing yet."""
        if name not in self.shared:
            return default.expand(len(clients), *default.shape).clone()
        return self.shared[name][torch.from_numpy(clients)].to(default.device)

    def write_shared(
        self, name: str, clients: Ints, values: torch.Tensor, default: torch.Tensor
    ) -> None:
        """Keeps (C, *shape) under a name; the clients that never kept anything have `default`."""
        if name not in self.shared:
            self.shared[name] = default.cpu().expand(self.n_clients, *default.shape).clone()
        self.shared[name][torch.from_numpy(clients)] = values.detach().cpu()

    def row_store(self, name: str) -> RowStore:
        """Returns the rows of items that are kept under a name."""
        return self.rows.setdefault(name, RowStore())

    def state(self) -> Tensors:
        """Returns everything as tensors by name, for a checkpoint."""
        found: Tensors = {}
        if not self.forgets:
            found |= {f"users/{name}": value for name, value in self.users.items()}
        found |= {f"shared/{name}": value for name, value in self.shared.items()}
        for name, store in self.rows.items():
            found |= store.state(f"rows/{name}")
        return found

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Takes over what `state` returned."""
        if not self.forgets:
            self.users = {
                key.removeprefix("users/"): value.clone()
                for key, value in state.items()
                if key.startswith("users/")
            }
        self.shared = {
            key.removeprefix("shared/"): value.clone()
            for key, value in state.items()
            if key.startswith("shared/")
        }
        names = {key.rpartition(":")[0] for key in state if key.startswith("rows/")}
        self.rows = {
            name.removeprefix("rows/"): RowStore.restored(name, state) for name in sorted(names)
        }
