"""What a model is made of: tensors by name, and who holds each.

| scope  | what it is                                  | where it lives                                      |
| ------ | ------------------------------------------- | --------------------------------------------------- |
| shared | one tensor                                  | the server; each client trains a copy               |
| item   | a row for each item                         | the server; a client copies the rows it touches     |
| user   | a row for each user at a client             | the client alone: it is never sent                  |

A shared tensor with `head` set stays at the client too, if the algorithm personalises heads (FedPer).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from fedeval.draws import uniform

if TYPE_CHECKING:
    import torch

__all__ = ["Parameter", "Scope", "initial", "initial_rows", "stream"]

Scope = Literal["shared", "item", "user"]


@dataclass(frozen=True)
class Parameter:
    """A tensor of a model.

    scope: who holds it · shape: of the tensor, or of one row of it (scope item and user) ·
    scale: deviation of the normal numbers it starts from; 0 with `fill` for a constant start ·
    fill: the mean of its start · head: part of the personal head.
    """

    scope: Scope
    shape: tuple[int, ...]
    scale: float = 0.0
    fill: float = 0.0
    head: bool = False


def stream(*address: int | str) -> int:
    """Returns the seed of a stream of random numbers, 64 bits, by its address: `stream(seed, "init", name)`.

    Equal addresses give equal streams, on any machine; others are independent for all purposes here.
    """
    words = [
        part % 2**64 if isinstance(part, int) else int.from_bytes(part.encode()[:64], "little")
        for part in address
    ]
    parts = [
        (word >> shift) & 0xFFFFFFFF
        for word in words
        for shift in range(0, max(word.bit_length(), 1), 32)
    ]
    lengths = [max(1, -(-word.bit_length() // 32)) for word in words]
    low, high = np.random.SeedSequence([*parts, *lengths, len(words)]).generate_state(2, np.uint32)
    return int(low) | int(high) << 32


def initial(
    parameters: Mapping[str, Parameter], n_items: int, seed: int
) -> dict[str, torch.Tensor]:
    """Returns the shared tensors and the tables of items that a run starts from: float32, on the CPU."""
    import torch

    found = {}
    for name, parameter in parameters.items():
        if parameter.scope == "user":
            continue
        if parameter.scope == "item":
            found[name] = initial_rows(name, parameter, np.arange(n_items), seed)
        else:
            row = Parameter("item", parameter.shape, parameter.scale, parameter.fill)
            found[name] = initial_rows(name, row, np.zeros(1, np.int64), seed)[0].clone()
        assert found[name].dtype == torch.float32
    return found


def initial_rows(
    name: str, parameter: Parameter, rows: Iterable[int] | np.ndarray, seed: int
) -> torch.Tensor:
    """Returns float32 (len(rows), *shape): the start of these rows, each by its own number alone."""
    import torch

    numbers = np.asarray(rows, dtype=np.int64)
    size = int(np.prod(parameter.shape, dtype=np.int64))
    shape = (len(numbers), *parameter.shape)
    if not parameter.scale:
        return torch.full(shape, parameter.fill, dtype=torch.float32)
    place = np.arange(size)[None, :]
    first = uniform(stream(seed, "start", name), numbers[:, None], 2 * place)
    second = uniform(stream(seed, "start", name), numbers[:, None], 2 * place + 1)
    # Box and Muller (1958): two uniform numbers make a normal one.
    normal = np.sqrt(-2 * np.log1p(-first)) * np.cos(2 * np.pi * second)
    values = (parameter.fill + parameter.scale * normal).astype(np.float32)
    return torch.from_numpy(values.reshape(shape))
