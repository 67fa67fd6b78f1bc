"""The sums of a round by secure sum: the server gets them from masked uploads, to the same bits.

Each client's words are all that plain sums would take of it, in one line of whole numbers: every value of the
model times the client's weight, 0 in the rows of items that it never touched, the weight of each row that it
did, and of those that are new, its numbers, its weight, and a 1 for having answered.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from fedtrain.secure import Ring, uploads
from fedtrain.sums import Sums, fixed, fixed_number

if TYPE_CHECKING:
    from fedtrain.algorithms import Answer
    from fedtrain.local import Local

__all__ = ["MaskedSums"]

Shape = tuple[int, ...]

WORDS = 1 << 23
"""Words of uploads that are in memory at a time, but for a client that has more."""

TOUCHED, NEW, WEIGHT, ANSWERED = "touched", "new", "weight", "answered"


class MaskedSums(Sums):
    """Sums of which the server sees masked uploads alone; `opened` unpacks what they add up to.

    total: int64 (W,), the sum of all uploads so far, modulo 2^64.
    """

    def __init__(self, n_items: int, ring: Ring) -> None:
        super().__init__(n_items)
        self.ring = ring
        self.total: torch.Tensor | None = None
        self._layout: dict[
            str, Shape
        ] = {}  # the words' parts in their order; `values/`, `numbers/` and the rest

    @property
    def n_words(self) -> int:
        """Words of each upload."""
        return sum(math.prod(shape) for shape in self._layout.values())

    def add(self, answer: Answer, local: Local, weight: torch.Tensor) -> None:
        """Adds the uploads of a chunk's clients; arguments as in `Sums`."""
        if not self._layout:
            self._layout = self._parts(answer)
            self.tables = set(answer.rows)
            self.total = torch.zeros(self.n_words, dtype=torch.int64)
        assert self.total is not None
        size = max(1, WORDS // self.n_words)
        for start in range(0, local.n_clients, size):
            block = slice(start, min(start + size, local.n_clients))
            words = self._words(answer, local, weight, block)
            seen = uploads(words.cpu(), local.chunk.clients[block], self.ring)
            self.total += seen.sum(0)

    def opened(self) -> None:
        """Unpacks the sum of all uploads."""
        if self.total is None:
            return
        parts = torch.split(self.total, [math.prod(shape) for shape in self._layout.values()])
        for (name, shape), part in zip(self._layout.items(), parts, strict=True):
            kind, _, own = name.partition("/")
            if kind == "values":
                self.values[own] = part.reshape(shape)
            elif kind == "numbers":
                self.numbers[own] = part.reshape(())
            elif kind == TOUCHED:
                self.touched = part
            elif kind == NEW:
                self.new = part
            elif kind == WEIGHT:
                self.weight = int(part)
            else:
                self.n_answers = int(part)

    def _parts(self, answer: Answer) -> dict[str, Shape]:
        found: dict[str, Shape] = {
            f"values/{name}": v.shape[1:] for name, v in answer.shared.items()
        }
        found |= {f"values/{name}": (self.n_items, *v.shape[1:]) for name, v in answer.rows.items()}
        found |= {f"numbers/{name}": () for name in answer.numbers}
        if answer.rows:
            found[TOUCHED] = (self.n_items,)
        if answer.new is not None:
            found[NEW] = (self.n_items,)
        return found | {WEIGHT: (), ANSWERED: ()}

    def _words(
        self, answer: Answer, local: Local, weight: torch.Tensor, block: slice
    ) -> torch.Tensor:
        """Returns int64 (c, W): the words of the clients of a block."""
        mine = (local.row_client >= block.start) & (local.row_client < block.stop)
        place, item = local.row_client[mine] - block.start, local.row_item[mine]
        own = weight[block]
        n = len(own)
        found = {WEIGHT: fixed(own), ANSWERED: (own > 0).long()}
        for name, value in answer.shared.items():
            found[f"values/{name}"] = fixed(value[block], own)
        for name, value in answer.rows.items():
            table = torch.zeros((n, *self._layout[f"values/{name}"]), dtype=torch.int64)
            table = table.to(value.device)
            table[place, item] = fixed(value[mine], own[place])
            found[f"values/{name}"] = table
        for name, number in answer.numbers.items():
            found[f"numbers/{name}"] = fixed_number(number[block], own)
        if answer.rows:
            touched = torch.zeros((n, self.n_items), dtype=torch.int64, device=weight.device)
            touched[place, item] = fixed(own)[place]
            found[TOUCHED] = touched
            if answer.new is not None:
                new = torch.zeros_like(touched)
                new[place, item] = touched[place, item] * answer.new[mine]
                found[NEW] = new
        return torch.cat([found[name].reshape(n, -1) for name in self._layout], 1)
