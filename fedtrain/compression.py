"""Smaller answers: what a client sends is compressed, and the server works on what it can decode.

| method | a client sends                                        | bytes                              |
| ------ | ----------------------------------------------------- | ---------------------------------- |
| `none` | every value                                           | 4 a value                          |
| `topk` | the share of its values that are largest in magnitude | 8 a value kept: it and its place   |
| `int8` | every value as a whole number from -127 to 127        | 1 a value, 4 a tensor for its scale |

With each, the ids of the item rows it touched: 4 bytes a row. A value's place in `topk` is among the
client's own values, so 4 bytes are enough for any number of items. Headers of messages are not counted.

What `topk` leaves out is lost, and its sums are biased towards 0: there is no error feedback, for which a
client would keep a remainder of each value that it ever sent. `int8` rounds up or down by chance, so that its
sums are right on average.

Reference: Aji and Heafield, Sparse Communication for Distributed Gradient Descent, EMNLP 2017 (topk);
Alistarh et al., QSGD: Communication-Efficient SGD via Gradient Quantization and Encoding, NeurIPS 2017,
section 3.1 (stochastic rounding; here in units of the largest value, not of the norm).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from fedeval.draws import uniform
from fedprep.errors import TrainingError
from fedtrain.parameters import stream

if TYPE_CHECKING:
    import torch

__all__ = ["COMPRESSIONS", "Compressed", "Draws", "Options"]

Tensors = Mapping[str, "torch.Tensor"]
Compressed = tuple[dict[str, "torch.Tensor"], dict[str, "torch.Tensor"], "torch.Tensor"]
"""shared and rows as the server decodes them, and bytes sent by each client: int64 (C,)."""

VALUE, ROW, PLACE, SCALE = 4, 4, 4, 4
"""Bytes of a float32 value, an item's id, a place, a scale."""

LEVELS = 127


class Options(Protocol):
    """What `[train.compression]` says: share of values kept by `topk`, above 0, at most 1."""

    @property
    def share(self) -> float: ...


@dataclass(frozen=True)
class Draws:
    """Uniform random numbers of a chunk's clients in a round; clients: int64 (C,), their ids."""

    seed: int
    round: int
    clients: npt.NDArray[np.int64]

    def __call__(
        self, name: str, client: npt.NDArray[np.int64], place: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """Returns float64 in [0, 1) by tensor, client (its position in the chunk) and place, broadcast."""
        address = stream(self.seed, "compression", name, self.round)
        return uniform(address, self.clients[client], place)


Method = Callable[[Tensors, Tensors, "torch.Tensor", int, Options, Draws], Compressed]


def none(
    shared: Tensors,
    rows: Tensors,
    row_client: torch.Tensor,
    n_clients: int,
    options: Options,
    draws: Draws,
) -> Compressed:
    """Returns everything as it is, and its bytes."""
    values, n_rows = _sizes(shared, rows, row_client, n_clients)
    return dict(shared), dict(rows), VALUE * values + ROW * n_rows


def topk(
    shared: Tensors,
    rows: Tensors,
    row_client: torch.Tensor,
    n_clients: int,
    options: Options,
    draws: Draws,
) -> Compressed:
    """Returns the tensors with 0 in place of all but each client's largest values, over everything it sends.

    A client keeps round(share · its values), at least one. Of equal magnitudes the first is kept: shared
    tensors before rows, names in order of the alphabet. A kept 0 is not sent. NaN counts as largest.

    Args:
        shared: by name float32 (C, *shape).
        rows: by name float32 (T, *shape).
        row_client: int64 (T,), ascending.
        n_clients: C.

    Raises:
        TrainingError: a share that is not above 0 and at most 1.

    Reference: Aji, Heafield, Sparse Communication for Distributed Gradient Descent, EMNLP 2017.
    """
    import torch

    if not 0.0 < options.share <= 1.0:
        raise TrainingError(
            f"compression keeps a share of {options.share:g}", expected="above 0, at most 1"
        )
    values, n_rows = _sizes(shared, rows, row_client, n_clients)
    everyone = torch.arange(n_clients, device=row_client.device)
    parts = [(value, everyone) for _, value in sorted(shared.items())]
    parts += [(value, row_client) for _, value in sorted(rows.items())]
    if not parts:
        return {}, {}, ROW * n_rows
    flat = torch.cat([value.reshape(-1) for value, _ in parts])
    client = torch.cat(
        [owner.repeat_interleave(math.prod(value.shape[1:])) for value, owner in parts]
    )
    # The bits of floats from 0 up have the order of the floats: one key for client and magnitude.
    key = (client << 32) - flat.abs().view(torch.int32).long()
    order = torch.sort(key, stable=True).indices
    place = torch.arange(len(flat), device=flat.device)
    rank = place - (values.cumsum(0) - values)[client[order]]
    most = (values.double() * options.share).round().long().clamp(min=1)
    kept = torch.zeros_like(flat, dtype=torch.bool)
    kept[order] = rank < most[client[order]]
    kept &= flat != 0
    n_kept = torch.bincount(client[kept], minlength=n_clients)
    pieces = iter(
        torch.split_with_sizes(torch.where(kept, flat, 0.0), [value.numel() for value, _ in parts])
    )
    found = [
        {name: next(pieces).reshape(tensors[name].shape) for name in sorted(tensors)}
        for tensors in (shared, rows)
    ]
    return found[0], found[1], (VALUE + PLACE) * n_kept + ROW * n_rows


def int8(
    shared: Tensors,
    rows: Tensors,
    row_client: torch.Tensor,
    n_clients: int,
    options: Options,
    draws: Draws,
) -> Compressed:
    """Returns the tensors in 255 steps of each client and tensor, rounded by chance to one of the next two.

    A step is the client's largest magnitude in the tensor, over 127. The mean of what is decoded is the
    value itself. A client's tensor with a value that is not finite is decoded as NaN.

    Args:
        shared: by name float32 (C, *shape).
        rows: by name float32 (T, *shape); a table has one scale for each client.
        row_client: int64 (T,), ascending.
        n_clients: C.
        draws: by tensor, client, and the value's place among the client's values.

    Reference: Alistarh et al., QSGD: Communication-Efficient SGD via Gradient Quantization and Encoding,
    NeurIPS 2017, section 3.1.
    """
    import torch

    values, n_rows = _sizes(shared, rows, row_client, n_clients)
    everyone = torch.arange(n_clients, device=row_client.device)
    place_of_row = torch.arange(len(row_client), device=n_rows.device)
    place_of_row = place_of_row - (n_rows.cumsum(0) - n_rows)[row_client]
    found_shared = {
        name: _in_steps(name, value, everyone, torch.zeros_like(everyone), n_clients, draws)
        for name, value in shared.items()
    }
    found_rows = {
        name: _in_steps(name, value, row_client, place_of_row, n_clients, draws)
        for name, value in rows.items()
    }
    n_scales = len(shared) + len(rows) * (n_rows > 0)
    return found_shared, found_rows, values + SCALE * n_scales + ROW * n_rows


def _in_steps(
    name: str,
    value: torch.Tensor,
    client: torch.Tensor,
    row: torch.Tensor,
    n_clients: int,
    draws: Draws,
) -> torch.Tensor:
    """Returns value (n, *shape) as decoded; client, row: int64 (n,), whose it is and its which row."""
    import torch

    flat = value.reshape(len(value), math.prod(value.shape[1:]))  # (n, size)
    largest = flat.abs().amax(1)
    scale = flat.new_zeros(n_clients).scatter_reduce(0, client, largest, "amax") / LEVELS
    step = scale[client][:, None]
    place = row.cpu().numpy()[:, None] * flat.shape[1] + np.arange(flat.shape[1])
    chance = torch.from_numpy(draws(name, client.cpu().numpy()[:, None], place)).to(flat.device)
    whole = torch.floor(flat.double() / step + chance).clamp(-LEVELS, LEVELS).float()
    # A tensor of zeros has no step; one that is not finite has no other sign than NaN.
    decoded = torch.where(step == 0, flat.new_zeros(()), whole * step)
    decoded = torch.where(torch.isfinite(step), decoded, math.nan)
    return decoded.reshape(value.shape)


def _sizes(
    shared: Tensors, rows: Tensors, row_client: torch.Tensor, n_clients: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns how many values and how many item rows each client has: int64 (C,) twice."""
    import torch

    n_rows = torch.bincount(row_client if rows else row_client[:0], minlength=n_clients)
    each = sum(math.prod(value.shape[1:]) for value in shared.values())
    in_row = sum(math.prod(value.shape[1:]) for value in rows.values())
    return each + in_row * n_rows, n_rows


COMPRESSIONS: Mapping[str, Method] = {"none": none, "topk": topk, "int8": int8}
"""Each method by its name: (shared, rows, row_client, n_clients, options, draws) → `Compressed`."""
