"""The guard: numbers that are not finite, or beyond all reason, are found, named and kept out.

Looking for them costs one norm a client and round. Only when one is found is that client's round done once
more, step by step, to say which tensor it was, at which step, and which input column was the first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fedtrain.algorithms import Answer
from fedtrain.axes import squares
from fedtrain.sums import LARGEST

if TYPE_CHECKING:
    from fedtrain.local import Local

__all__ = ["norms", "sound"]


def norms(answer: Answer, local: Local) -> torch.Tensor:
    """Returns float64 (C,): the L2 norm of what each client sends, not finite where a value is not."""
    square = torch.zeros(local.n_clients, dtype=torch.float64, device=local.loss.device)
    for value in answer.shared.values():
        square += squares(value).double()
    for value in answer.rows.values():
        square.index_add_(0, local.row_client, squares(value).double())
    return square.sqrt()


def sound(local: Local, answer: Answer, norm: torch.Tensor) -> torch.Tensor:
    """Returns bool (C,): whether a client's loss, values and what it sends are finite, and within reason.

    Args:
        local: what the clients hold, of which `answer` does not have all.
        norm: float64 (C,), of `norms`.
    """
    fine = torch.isfinite(local.loss) & (norm < LARGEST)
    for table in local.users.values():
        rows = torch.isfinite(squares(table[:-1]))
        fine[local.slot_client[~rows]] = False
    for name in local.rows.keys() - answer.rows.keys():
        rows = torch.isfinite(squares(local.rows[name][:-1]))
        fine[local.row_client[~rows]] = False
    for name in local.shared.keys() - answer.shared.keys():
        fine &= torch.isfinite(squares(local.shared[name]))
    return fine
