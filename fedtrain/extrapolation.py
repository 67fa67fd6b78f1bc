"""What an algorithm that moves unsampled users is told of a round, and row weights of its own in the sums."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from fedtrain.algorithms import Answer, Means, Moved, Server
from fedtrain.axes import wide
from fedtrain.sums import FRACTION, Sums, fixed, real

if TYPE_CHECKING:
    from fedtrain.clients import Clients
    from fedtrain.engine import Work
    from fedtrain.local import Local

__all__ = ["RowWeightedSums", "extrapolated", "revealed_bytes", "watched"]

Ints = npt.NDArray[np.int64]
Masks = npt.NDArray[np.bool_]


class RowWeightedSums(Sums):
    """Sums in which each row of items counts as the algorithm says, shared tensors as their client.

    weighted: int64 by name (n_items, *shape) · weights: int64 (n_items,), of the rows that were added. The
    plain sums are there too: what is said of clients' drift means those.
    """

    def __init__(self, n_items: int, row_weights: Callable[[Answer, Local], torch.Tensor]) -> None:
        super().__init__(n_items)
        self.row_weights = row_weights
        self.weighted: dict[str, torch.Tensor] = {}
        self.weights: torch.Tensor | None = None

    def add(self, answer: Answer, local: Local, weight: torch.Tensor) -> None:
        """Adds the answers of a chunk, twice; a client of weight 0 does not count."""
        super().add(answer, local, weight)
        fine = weight[local.row_client] > 0
        by_row = torch.where(fine, self.row_weights(answer, local), 0.0)
        for name, value in answer.rows.items():
            if name not in self.weighted:
                self.weighted[name] = torch.zeros_like(self.values[name])
            scaled = fixed(value * wide(by_row, value))
            self.weighted[name].index_add_(0, local.row_item, scaled)
        if self.weights is None:
            self.weights = torch.zeros(self.n_items, dtype=torch.int64, device=weight.device)
        self.weights.index_add_(0, local.row_item, fixed(by_row))

    def joining(self, weight_of_all: float, unit: float) -> Means:
        """Returns the means that the server joins; arguments as of `means`."""
        plain = self.means("touched", weight_of_all, unit=unit)
        if self.weights is None:
            return plain
        by = real(self.weights).clamp(min=1 / FRACTION)  # a row of weight 0: 0 / 0
        own = {name: real(total) / wide(by, total) for name, total in self.weighted.items()}
        return replace(plain, values={**plain.values, **own})


def watched(work: Work, server_round: int, clients: Clients, cohort: Ints) -> Moved | None:
    """Returns the users of a cohort as they are before a round; None where no algorithm wants to know.

    It costs what there are users, not what the cohort costs: such an algorithm reaches all of them.
    """
    if work.algorithm.extrapolate is None:
        return None
    federation = work.federation
    in_cohort = np.zeros(federation.n_clients, bool)
    in_cohort[cohort] = True
    unsampled = ~in_cohort & work.may_train
    has_rows = federation.slot_rows > 0

    def slots_of(which: Masks) -> Ints:
        return np.flatnonzero(which[federation.slot_client] & has_rows)

    slots = slots_of(in_cohort)
    return Moved(
        round_number=server_round,
        slots=slots,
        slot_client=federation.slot_client[slots],
        before=clients.users_at(slots),
        unsampled=slots_of(unsampled),
    )


def extrapolated(
    work: Work,
    server: Server,
    clients: Clients,
    moved: Moved | None,
    trained: Ints,
    loss: float,
) -> tuple[Server, dict[str, float], dict[str, str]]:
    """Lets the algorithm move the users that were not sampled; returns the server, figures and events.

    Args:
        work: what stays the same.
        server: after it joined the round.
        clients: what the clients hold; it is written.
        moved: of `watched`.
        trained: int64: the clients whose numbers are fine.
        loss: of their training, NaN without one.
    """
    if moved is None or work.algorithm.extrapolate is None:
        return server, {}, {}
    fine = np.isin(moved.slot_client, trained)
    moved = replace(
        moved,
        slots=moved.slots[fine],
        slot_client=moved.slot_client[fine],
        before={name: rows[torch.from_numpy(fine)] for name, rows in moved.before.items()},
        loss=loss,
        extra=dict(server.extra),
    )
    figures = work.algorithm.extrapolate(work, clients, moved)
    return replace(server, extra=moved.extra), figures, moved.told


def revealed_bytes(work: Work, moved: Moved | None) -> int:
    """Returns the bytes of what the server sees of the cohort's users: as many go down as come up."""
    if moved is None:
        return 0
    names = work.algorithm.reveals(work.parameters)
    return sum(4 * moved.before[name].numel() for name in names)
