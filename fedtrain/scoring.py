"""Scores of all items for users: each with their own client's private values, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from fedeval.interactions import Interactions
from fedeval.ranking import ranked
from fedprep.errors import TrainingError
from fedtrain.algorithms.algorithm import Answer, keeps_users
from fedtrain.batch import UserBlock
from fedtrain.chunks import chunks_of
from fedtrain.clients import Clients
from fedtrain.engine import train_chunk

if TYPE_CHECKING:
    from fedtrain.algorithms import Server
    from fedtrain.engine import Work

__all__ = ["Scorer", "rebuilt"]

Ints = npt.NDArray[np.int64]

BLOCK = 256
"""Users scored at a time where each has tensors of its own client."""

PLACES = 1 << 16
"""Places of histories, padding among them, that are read at a time."""

FLOATS = 1 << 26
"""Values of private tables that are in memory at a time."""

GRAPH_WIDTH = 64
"""Values an item that a model of graphs is reckoned to need for each client."""


class Scorer:
    """Scores users by what the server holds and what their clients keep.

    A user at several clients is scored at the one that holds most of their train rows.
    """

    def __init__(self, work: Work, server: Server, clients: Clients, seen: tuple[str, ...]) -> None:
        """Args:
        seen: the splits whose rows are a user's history.
        """
        self.work, self.server = work, server
        self.clients = rebuilt(work, server, clients) if work.algorithm.stateless else clients
        self.history = None if work.model.examples == "rows" else _History(work, seen)
        private = work.private - keeps_users(work.parameters)
        self.apart = sorted(private)  # what differs from client to client
        self._items: torch.Tensor | None = None

    def scores(self, users: Ints) -> npt.NDArray[np.float32]:
        """Returns float32 (b, n_items).

        Raises:
            TrainingError: a user has no rows at any client.
        """
        slots = self.work.federation.home[users]
        if (slots < 0).any():
            raise TrainingError(f"user {users[slots < 0][0]} has no row at any client")
        found = np.empty((len(users), self.work.federation.n_items), np.float32)
        if self.work.model.examples == "graphs":
            self._on_graphs(slots, found)
            return found
        for block in self._blocks(slots):
            n = len(block)
            found[block] = self._block(slots[block], (n, 1) if self.apart else (1, n))
        return found

    def _on_graphs(self, slots: Ints, found: npt.NDArray[np.float32]) -> None:
        """Writes (b, n_items), each client on a graph of its own: that of all of its users."""
        federation = self.work.federation
        ids = federation.slot_client[slots]
        offsets = federation.slot_offsets
        n_users = offsets[ids + 1] - offsets[ids]
        alone = np.flatnonzero(n_users == 1)
        most = int(np.clip(FLOATS // (GRAPH_WIDTH * federation.n_items), 1, BLOCK))
        for place in np.split(alone, range(most, len(alone), most)):
            if len(place):
                found[place] = self._block(slots[place], (len(place), 1))
        for client in np.unique(ids[n_users > 1]).tolist():
            own = np.arange(offsets[client], offsets[client + 1])
            place = np.flatnonzero(ids == client)
            found[place] = self._block(own, (1, len(own)))[slots[place] - own[0]]

    def lists(self, users: Ints, k: int, seen: Interactions) -> pl.DataFrame:
        """Returns the k best items of each user, without those seen: user_id, item_id, rank, score."""
        n_items = self.work.federation.n_items
        return ranked(self.scores, users, n_items, k=min(k, n_items), seen=seen)

    @torch.no_grad()
    def _block(self, slots: Ints, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
        """Returns (b, n_items).

        Args:
            slots: int64 (b,).
            shape: (b, 1), each user with a client of its own; or (1, b), all with the same values.
        """
        work = self.work
        federation = work.federation
        ids = federation.slot_client[slots][: shape[0]]
        values = {}
        for name, parameter in work.parameters.items():
            if parameter.scope == "user":
                rows = self.clients.users[name][torch.from_numpy(slots)].to(work.device)
                values[name] = rows.reshape(*shape, *rows.shape[1:])
            elif name not in self.apart:
                values[name] = self.server.values[name][None]
            elif parameter.scope == "shared":
                values[name] = self.clients.read_shared(name, ids, self.server.values[name])
            else:
                values[name] = self._tables(name, ids)
        block = UserBlock(
            user=torch.from_numpy(federation.slot_user[slots].astype(np.int64))
            .to(work.device)
            .reshape(shape),
            features=work.features,
        )
        if self.history is not None:
            history, given, rating = self.history.of(slots, shape)
            block = replace(block, history=history, given=given, rating=rating)
        found = work.model.scores(values, self._encoded(values, ids), block)
        return found.reshape(len(slots), -1).float().cpu().numpy()

    def _blocks(self, slots: Ints) -> Iterator[Ints]:
        """Yields int64: places in `slots` that are scored together, those of like histories."""
        most = self._at_once() if self.apart else max(len(slots), 1)
        if self.history is None:
            yield from np.split(np.arange(len(slots)), range(most, len(slots), most))
            return
        count = np.maximum(self.history.counts(slots), 1)
        order = np.argsort(count, kind="stable")
        while len(order):
            places = np.arange(1, len(order) + 1) * count[order]
            size = min(most, max(1, int(np.searchsorted(places, PLACES, side="right"))))
            yield order[:size]
            order = order[size:]

    def _encoded(self, values: Mapping[str, torch.Tensor], ids: Ints) -> torch.Tensor:
        """Returns the items as the model encodes them, once for each client or for all that have the same."""
        model, parameters, features = self.work.model, self.work.parameters, self.work.features
        if all(parameters[name].head for name in self.apart):
            if self._items is None:
                self._items = model.encode_items(values, features)
            return self._items
        distinct, first, place = np.unique(ids, return_index=True, return_inverse=True)
        if len(distinct) == len(ids):
            return model.encode_items(values, features)
        once = torch.from_numpy(first).to(self.work.device)
        of_clients = {
            name: value[once] if name in self.apart else value
            for name, value in values.items()
            if parameters[name].scope != "user"
        }
        found = model.encode_items(of_clients, features)
        return found[torch.from_numpy(place).to(self.work.device)]

    def _at_once(self) -> int:
        """Returns how many clients' own tensors are scored at a time."""
        each = sum(self.server.values[name].numel() for name in self.apart)
        return int(np.clip(FLOATS // max(each, 1), 1, BLOCK))

    def _tables(self, name: str, ids: Ints) -> torch.Tensor:
        """Returns (b, n_items, *shape): a table of items as each client has it."""
        table = self.server.values[name]
        n_items = len(table)
        distinct, place = np.unique(ids, return_inverse=True)
        client = np.repeat(np.arange(len(distinct)), n_items)
        item = np.tile(np.arange(n_items), len(distinct))
        default = table.repeat(len(distinct), *[1] * (table.dim() - 1))
        rows = self.clients.row_store(name).read(distinct, client, item, default)
        return rows.reshape(len(distinct), *table.shape)[torch.from_numpy(place)]


class _History:
    """The rows that users have had, in order of time."""

    def __init__(self, work: Work, seen: tuple[str, ...]) -> None:
        parts = [work.federation.splits[name] for name in seen]
        slot = np.concatenate([part.slot for part in parts]).astype(np.int64)
        time = np.concatenate([part.timestamp for part in parts])
        item = np.concatenate([part.item_id for part in parts]).astype(np.int64)
        order = np.lexsort((item, time, slot))
        self.item = item[order]
        self.rating = np.concatenate([part.rating for part in parts])[order]
        self.offsets = np.searchsorted(slot[order], np.arange(work.federation.n_slots + 1))
        most = work.plan.max_history if work.model.examples == "sequences" else 1 << 40
        self.most, self.device = most, work.device

    def counts(self, slots: Ints) -> Ints:
        """Returns int64 (n,): rows in the history of each slot."""
        found: Ints = np.minimum(self.offsets[slots + 1] - self.offsets[slots], self.most)
        return found

    def of(self, slots: Ints, shape: tuple[int, int]) -> list[torch.Tensor]:
        """Returns history, given, rating of these slots, each (*shape, H), the latest row last."""
        end, count = self.offsets[slots + 1], self.counts(slots)
        longest = max(1, int(count.max(initial=0)))
        at = end[:, None] - longest + np.arange(longest)
        given = np.arange(longest) >= longest - count[:, None]
        at = np.where(given, at, 0)
        rating = np.where(given, self.rating[at], 0.0).astype(np.float32)
        return [
            torch.from_numpy(values).to(self.device).reshape(*shape, longest)
            for values in (np.where(given, self.item[at], 0), given, rating)
        ]


def rebuilt(work: Work, server: Server, clients: Clients) -> Clients:
    """Returns clients whose users are rebuilt on all their train rows, by the algorithm's first phase.

    For algorithms that keep none (Federated Reconstruction).
    """
    first = work.algorithm.phases(work.plan, work.parameters)[0]
    alone = replace(
        work.algorithm, phases=lambda plan, parameters: (replace(first, part="all"),), joins=False
    )
    work = replace(work, algorithm=alone)
    fresh = Clients(clients.n_clients, {name: rows.clone() for name, rows in clients.users.items()})
    federation = work.federation
    everyone = np.flatnonzero(federation.train.counts > 0)
    for chunk in chunks_of(federation, everyone, work.plan.chunk_rows, len(everyone)):
        local = train_chunk(work, server, fresh, chunk)
        everyone_fine = torch.ones(local.n_clients, dtype=torch.bool)
        work.algorithm.keep(local, fresh, work.private, everyone_fine, Answer(shared={}, rows={}))
    return fresh
