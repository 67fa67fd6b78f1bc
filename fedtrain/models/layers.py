"""Layers of many clients side by side: every client has weights of its own, clients first.

x is (C, ..., i); weights are (C, i, o), or (1, i, o) where all clients hold the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedprep.errors import RecipeError
from fedtrain.parameters import Parameter

if TYPE_CHECKING:
    import torch

    from fedtrain.batch import Batch

__all__ = [
    "Distinct",
    "distinct",
    "dropout",
    "layer_norm",
    "linear",
    "linear_parameters",
    "mean_class",
    "mean_over_places",
    "norm_parameters",
    "normal",
    "of_clients",
    "per_item_or_class",
    "rows_at",
    "rows_of",
    "shares_of",
    "user_blocks",
    "widths_of",
]

SCORED_AT_ONCE = 2**20  # numbers of a block of scores' hidden values


def linear_parameters(
    name: str,
    inputs: int,
    outputs: int,
    *,
    bias: bool = True,
    head: bool = False,
    gain: float = 1.0,
    fill: float = 0.0,
) -> dict[str, Parameter]:
    """Returns `name.weight` (inputs, outputs) and `name.bias` (outputs,), which begins at `fill`.

    `gain` is 2 before a rectifier.

    Reference: Glorot, Bengio, Understanding the Difficulty of Training Deep Feedforward Neural Networks,
    AISTATS 2010, equation 12: variance gain · 2 / (inputs + outputs).
    """
    scale = (gain * 2 / (inputs + outputs)) ** 0.5
    found = {f"{name}.weight": Parameter("shared", (inputs, outputs), scale, head=head)}
    return found | (
        {f"{name}.bias": Parameter("shared", (outputs,), fill=fill, head=head)} if bias else {}
    )


def norm_parameters(name: str, dim: int) -> dict[str, Parameter]:
    """Returns `name.gain` (dim,), ones, and `name.shift` (dim,), zeros."""
    return {
        f"{name}.gain": Parameter("shared", (dim,), fill=1.0),
        f"{name}.shift": Parameter("shared", (dim,)),
    }


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Returns x · weight + bias: (C, ..., o) of x (C or 1, ..., i), weight (C or 1, i, o), bias or none."""
    import torch

    flat = x.reshape(x.shape[0], -1, x.shape[-1])  # (C, places, i)
    if bias is not None and flat.shape[0] == weight.shape[0]:
        out = torch.baddbmm(bias.unsqueeze(1), flat, weight)
    else:
        out = flat @ weight
        out = out if bias is None else out + bias.unsqueeze(1)
    return out.reshape(out.shape[0], *x.shape[1:-1], weight.shape[-1])


def widths_of(value: int | Sequence[int], key: str) -> list[int]:
    """Returns the width of each hidden layer, of a number or a list of them.

    Raises:
        RecipeError: no width, or one below 1; it names the key.
    """
    found = [value] if isinstance(value, int) else list(value)
    if not found or min(found) < 1:
        raise RecipeError(
            f"train.{key} is {value}: a layer has no width" if found else f"train.{key} is empty",
            where="[train]",
            expected="a whole number from 1, or a list of them: the width of each hidden layer",
        )
    return found


def shares_of(value: float | Sequence[float], n_layers: int, key: str) -> list[float]:
    """Returns the share of each hidden layer's values that is dropped, of a number for all or a list.

    Raises:
        RecipeError: not one for each layer, or none from 0 to below 1; it names the key.
    """
    found = [value] * n_layers if isinstance(value, (int, float)) else list(value)
    if len(found) != n_layers or not all(0 <= share < 1 for share in found):
        raise RecipeError(
            f"train.{key} is {value}, and there are {n_layers} hidden layers",
            where="[train]",
            expected="a number from 0 to below 1, or a list with one for each hidden layer",
        )
    return found


def rows_of(values: torch.Tensor, n_dims: int) -> torch.Tensor:
    """Returns a client's row (C, d) as (C, 1, ..., 1, d) of `n_dims` dimensions."""
    return values.reshape(values.shape[0], *[1] * (n_dims - 2), values.shape[-1])


def layer_norm(x: torch.Tensor, gain: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Returns x (C, ..., d) with mean 0 and variance 1 along d, times gain (C, d), plus shift (C, d).

    Reference: Ba, Kiros, Hinton, Layer Normalization, 2016, equation 4.
    """
    from torch.nn.functional import layer_norm as normed

    return normed(x, x.shape[-1:]) * rows_of(gain, x.ndim) + rows_of(shift, x.ndim)


def dropout(x: torch.Tensor, share: float, batch: Batch, purpose: str) -> torch.Tensor:
    """Returns x (C, B, ...) with a share of its values 0 and the others raised by as much, in training.

    Reference: Srivastava et al., Dropout, JMLR 2014.
    """
    if not (share and batch.training and batch.noise):
        return x
    size = x[0, 0].numel()
    kept = batch.noise(purpose, size).reshape(x.shape) >= share
    return x * kept / (1 - share)


def normal(batch: Batch, purpose: str, size: int) -> torch.Tensor:
    """Returns normal numbers (C, B, size); zeros where nothing is drawn.

    Reference: Box, Muller, A Note on the Generation of Random Normal Deviates, 1958.
    """
    import torch

    if not (batch.training and batch.noise):
        return torch.zeros((*batch.mask.shape, size), device=batch.mask.device)
    first, second = batch.noise(purpose, 2 * size).chunk(2, -1)
    return (-2 * torch.log1p(-first)).sqrt() * torch.cos(2 * torch.pi * second)


def rows_at(items: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """Returns (C, ..., e): rows of items (C or 1, n, e) at int64 (C, ...)."""
    import torch

    if len(items) == 1:
        return items[0][place]
    client = torch.arange(len(items), device=items.device)
    return items[client.reshape(-1, *[1] * (place.ndim - 1)), place]


def user_blocks(users: torch.Tensor, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yields places (client, user), int64 (k,) each, of all users (C, U, ...), of `size` numbers each.

    A block of scores that stays in the processor's cache takes half the time of one that does not.
    """
    import torch

    n_clients, n_users = users.shape[:2]
    at_once = max(1, SCORED_AT_ONCE // max(size, 1))
    for begin in range(0, n_clients * n_users, at_once):
        end = min(begin + at_once, n_clients * n_users)
        place = torch.arange(begin, end, device=users.device)
        yield torch.div(place, n_users, rounding_mode="floor"), place % n_users


def of_clients(values: torch.Tensor, client: torch.Tensor) -> torch.Tensor:
    """Returns (k, ...): values (C or 1, ...) of clients (k,), without a copy where all have the same."""
    if len(values) == 1:
        return values.expand(len(client), *values.shape[1:])
    return values[client]


def per_item_or_class(found: torch.Tensor) -> torch.Tensor:
    """Returns (C, B, m) of (C, B, m, 1), or (C, B, n_classes) of each first item of (C, B, m, n_classes)."""
    return found[..., 0] if found.shape[-1] == 1 else found[:, :, 0]


def mean_class(found: torch.Tensor) -> torch.Tensor:
    """Returns (C, U, n_items) of (C, U, n_items, 1), or the mean class under the shares of n_classes."""
    import torch

    if found.shape[-1] == 1:
        return found[..., 0]
    return found.softmax(-1) @ torch.arange(found.shape[-1], device=found.device, dtype=found.dtype)


def mean_over_places(
    outputs: torch.Tensor, batch: Batch, task: Callable[[torch.Tensor, Batch], torch.Tensor]
) -> torch.Tensor:
    """Returns (C, B): the mean of a task's loss of outputs (C, B, L, 1 + n) over the given places."""
    assert batch.given is not None
    losses = task(outputs, batch)  # (C, B, L)
    return (losses * batch.given).sum(-1) / batch.given.sum(-1).clamp(min=1)


@dataclass(frozen=True)
class Distinct:
    """The distinct items of each client in a step.

    ids: int64 (C, K): them, ascending, padded with 0 · slot: int64 (C, P): which of them stands at a
    place · counts: int64 (C,): how many there are.
    """

    ids: torch.Tensor
    slot: torch.Tensor
    counts: torch.Tensor

    def take(self, values: torch.Tensor) -> torch.Tensor:
        """Returns (C, P, *rest): at each place the value of its item, of values (C, K, *rest)."""
        import torch

        client = torch.arange(len(values), device=values.device)[:, None] * values.shape[1]
        taken = values.flatten(0, 1).index_select(0, (self.slot + client).flatten())
        return taken.reshape(*self.slot.shape, *values.shape[2:])

    def first(self, values: torch.Tensor) -> torch.Tensor:
        """Returns (C, K, *rest): the value of one place of each item, of values (C, P, *rest)."""
        import torch

        place = torch.arange(self.slot.shape[1], device=values.device).expand_as(self.slot)
        found = torch.zeros_like(self.ids).scatter_reduce(
            1, self.slot, place, "amin", include_self=False
        )
        client = torch.arange(len(values), device=values.device)[:, None] * values.shape[1]
        taken = values.flatten(0, 1).index_select(0, (found + client).flatten())
        return taken.reshape(*self.ids.shape, *values.shape[2:])


def distinct(items: torch.Tensor, n_items: int) -> Distinct:
    """Returns each client's distinct items of int64 (C, P)."""
    import torch

    n_clients = len(items)
    client = torch.arange(n_clients, device=items.device)
    keys, inverse = torch.unique(items + client[:, None] * n_items, return_inverse=True)
    owner = torch.div(keys, n_items, rounding_mode="floor")
    counts = torch.bincount(owner, minlength=n_clients)
    rank = torch.arange(len(keys), device=items.device) - (counts.cumsum(0) - counts)[owner]
    width = int(counts.max()) if len(keys) else 0
    ids = torch.zeros((n_clients, width), dtype=torch.int64, device=items.device)
    ids[owner, rank] = keys - owner * n_items
    return Distinct(ids, rank[inverse], counts)
