"""The halves of a client's examples, for algorithms that rebuild users on one and train on the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fedeval.draws import uniform
from fedtrain.parameters import stream

if TYPE_CHECKING:
    from fedtrain.chunks import Chunk
    from fedtrain.examples import Examples

__all__ = ["part_of"]

Ints = npt.NDArray[np.int64]


def part_of(
    examples: Examples, chunk: Chunk, part: str, seed: int, address: tuple[int, ...]
) -> Ints:
    """Returns the numbers of the examples of a part: all, or each user's support or query half.

    Halves are drawn anew each round; a user with one example has it in both.
    """
    if part == "all":
        return np.arange(len(examples.client))
    slot = examples.slot
    chance = uniform(
        stream(seed, "support", address[0]), chunk.clients[examples.client], examples.place
    )
    order = np.lexsort((examples.place, chance, slot))
    counts = np.bincount(slot, minlength=len(chunk.slots))
    rank = np.empty(len(slot), np.int64)
    rank[order] = np.arange(len(slot)) - (np.cumsum(counts) - counts)[slot[order]]
    half = (counts + 1) // 2
    support = rank < half[slot]
    chosen = support if part == "support" else ~support | (counts[slot] == 1)
    return np.flatnonzero(chosen)
