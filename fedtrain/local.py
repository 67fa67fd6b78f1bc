"""What the clients of a chunk hold while they train."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fedtrain.chunks import Chunk

__all__ = ["Local"]

Tensors = dict[str, torch.Tensor]


@dataclass(eq=False, kw_only=True)
class Local:
    """What C clients hold while they train.

    shared: (C, *shape) · rows: (T + 1, *shape), a row for each (client, item) in ascending order, the last
    for padding · users: (S + 1, *shape), likewise · row_client, row_item: int64 (T,): the place of its
    client, and its item · trained: bool (T + 1,), the rows that a step trained · downloaded: how many rows
    the server sent · sent: the values before, shared (C, *shape), rows (T, *shape) · kept: what an
    algorithm keeps at the clients beside parameters, a line for each of `sent`, as `KIND/NAME` · lr,
    momentum: of the descent, rates by name · steps: int64 (C,), done · loss: float64 (C,), summed over
    examples · used: int64 (C,), examples · grad_norm, clipped: float64 (C,), sums over `measured` (C,)
    steps · moments: of an optimiser that goes on from round to round (`descent.moments_of`); None: anew.
    """

    chunk: Chunk
    shared: Tensors
    rows: Tensors
    users: Tensors
    row_client: torch.Tensor
    row_item: torch.Tensor
    trained: torch.Tensor
    downloaded: int
    slot_client: torch.Tensor
    sent: Tensors
    kept: Tensors
    lr: dict[str, float]
    momentum: float
    steps: torch.Tensor
    loss: torch.Tensor
    used: torch.Tensor
    grad_norm: torch.Tensor
    clipped: torch.Tensor
    measured: torch.Tensor
    moments: Tensors | None = None

    @property
    def n_clients(self) -> int:
        return len(self.steps)

    def let_go(self) -> None:
        """Forgets the rows of items that no step trained: they are what they were, and are not sent back.

        Such rows were only read, or are of examples that a client with fewer steps did not come to.
        """
        if bool(self.trained[:-1].all()):
            return
        left = torch.cat([self.trained[:-1], self.trained.new_ones(1)])
        self.rows = {name: table[left] for name, table in self.rows.items()}
        mine = left[:-1]
        for held in (self.sent, self.kept):
            for name in held:
                if name.rpartition("/")[2] in self.rows:
                    held[name] = held[name][mine]
        self.row_client, self.row_item = self.row_client[mine], self.row_item[mine]
        self.trained = self.trained[left]

    def delta(self, name: str) -> torch.Tensor:
        """Returns what training changed: (C, *shape), or (T, *shape) for a table of items."""
        if name in self.rows:
            return self.rows[name][:-1] - self.sent[name]
        return self.shared[name] - self.sent[name]

    def table(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns a table, its row of padding included, and the client of each other row."""
        if name in self.rows:
            return self.rows[name], self.row_client
        return self.users[name], self.slot_client
