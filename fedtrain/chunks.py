"""A chunk: what a few clients of a cohort hold in one round, laid side by side in tensors."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fedeval.draws import uniform
from fedtrain.federation import Federation, ranges
from fedtrain.parameters import stream

if TYPE_CHECKING:
    pass

__all__ = ["Chunk", "Order", "chunks_of", "local_rows", "order_of"]

Ints = npt.NDArray[np.int64]

DENSE = 8
"""A map of clients × items is used where it has at most so many cells for each place to look up."""

CHANCE_BITS = 24
"""Of the random number that an example is sorted by; equal ones stay in order of place."""


@dataclass(frozen=True)
class Chunk:
    """Some clients' rows in a round. Places count from 0 inside the chunk.

    clients: int64 (C,), in descending order of rows · slots: int64 (S,), their slots · slot_client: int64
    (S,), the place of each slot's client · row: int64 (R,), the rows in the federation's train split ·
    row_client, row_slot: int64 (R,), places · place: int64 (R,), the row's place in its client's rows.
    """

    clients: Ints
    slots: Ints
    slot_client: Ints
    row: Ints
    row_client: Ints
    row_slot: Ints
    place: Ints

    @property
    def n_rows(self) -> Ints:
        """int64 (C,): rows of each client."""
        return np.bincount(self.row_client, minlength=len(self.clients))


def chunks_of(
    federation: Federation, cohort: Ints, most_rows: int, most_clients: int
) -> Iterator[Chunk]:
    """Yields the cohort in chunks of at most so many rows and clients; a larger client is alone in one.

    Clients of like size share a chunk, so that little is padded. Small clients come first: their chunks touch
    most rows of items, and what is allocated for later chunks fits into what earlier ones let go.
    """
    counts = federation.train.counts[cohort]
    order = np.lexsort((cohort, -counts))
    cohort, counts = cohort[order], counts[order]
    ends = np.cumsum(counts)
    begins = [0]
    while begins[-1] < len(cohort):
        begin = begins[-1]
        start = ends[begin] - counts[begin]
        fits = int(np.searchsorted(ends, start + most_rows, side="right"))
        begins.append(min(max(fits, begin + 1), begin + most_clients))
    for begin, end in reversed(list(itertools.pairwise(begins))):
        yield chunk_of(federation, cohort[begin:end])


def chunk_of(federation: Federation, clients: Ints) -> Chunk:
    """Returns one chunk of these clients, in their order."""
    train = federation.train
    row_client, row = train.of(clients)
    slot_place, slots = ranges(federation.slot_offsets, clients)
    first = np.searchsorted(slot_place, np.arange(len(clients)))
    row_slot = first[row_client] + train.slot[row] - federation.slot_offsets[clients][row_client]
    return Chunk(
        clients,
        slots,
        slot_place,
        row,
        row_client,
        row_slot,
        row - train.offsets[clients][row_client],
    )


def local_rows(client: Ints, item: Ints, n_clients: int, n_items: int) -> tuple[Ints, Ints, Ints]:
    """Returns the distinct (client, item) pairs in ascending order, and where each given one is among them.

    Args:
        client, item: int64, any equal shape.

    Returns:
        client of each pair int64 (T,), item of each pair int64 (T,), int64 of the given shape.
    """
    keys = client * n_items + item
    if n_clients * n_items <= DENSE * keys.size:
        marked = np.zeros(n_clients * n_items, bool)
        marked[keys] = True
        pairs = np.flatnonzero(marked)
        number = np.empty(n_clients * n_items, np.int32)
        number[pairs] = np.arange(len(pairs), dtype=np.int32)
        return (*np.divmod(pairs, n_items), number[keys].astype(np.int64))
    pairs, number = np.unique(keys, return_inverse=True)
    return (*np.divmod(pairs, n_items), number.reshape(keys.shape).astype(np.int64))


@dataclass(frozen=True)
class Order:
    """In which step each example is used: B examples a step for each client.

    steps: int64 (C,): steps of each client · padded: int64: client c's examples of step s are
    `padded[start[c] + s * B :][:B]`, -1 where there is none · start: int64 (C,).
    """

    steps: Ints
    padded: Ints
    start: Ints
    batch_size: int

    def step(self, number: int, steps: Ints | None = None) -> Ints:
        """Returns int64 (c, B): the examples of one step; clients after the last active one are left out.

        Args:
            number: which step.
            steps: int64 (C,): how many steps each client does; None: all.
        """
        steps = self.steps if steps is None else steps
        active = steps > number
        last = int(np.flatnonzero(active)[-1]) + 1
        begin = np.where(active, self.start + number * self.batch_size, 0)[:last]
        found = self.padded[begin[:, None] + np.arange(self.batch_size)]
        found[~active[:last]] = -1
        return found

    def used(self, steps: Ints, n_examples: int) -> npt.NDArray[np.bool_]:
        """Returns bool (n_examples,): whether an example is in the first so many steps (C,) of its client."""
        found = np.ones(n_examples, bool)
        if (steps < self.steps).any():
            number = np.arange(len(self.padded)) - np.repeat(
                self.start, self.steps * self.batch_size
            )
            late = number >= np.repeat(steps * self.batch_size, self.steps * self.batch_size)
            found[self.padded[late & (self.padded >= 0)]] = False
        return found


def order_of(
    client: Ints,
    place: Ints,
    clients: Ints,
    batch_size: int,
    *,
    seed: int,
    address: tuple[Any, ...],
) -> Order:
    """Returns a random order of each client's examples, every one once, in steps of `batch_size`.

    Args:
        client: int64 (m,), ascending: the place of each example's client.
        place: int64 (m,): the example's number at its client.
        clients: int64 (C,): the ids of the clients, whose streams are used.
        batch_size: examples a step at most; 0: all of the client's.
        seed, address: the stream.
    """
    counts = np.bincount(client, minlength=len(clients))
    most = max(1, int(counts.max(initial=1)))
    size = min(batch_size or most, most)  # no step is wider than its fullest client
    first = np.cumsum(counts) - counts
    within = np.arange(len(client)) - first[client]
    bits = int(within.max(initial=0)).bit_length()
    chance = uniform(stream(seed, "order", *address), clients[client], place, bits=CHANCE_BITS)
    # One number holds client, chance and place: sorting numbers is three times quicker than sorting indices.
    key = (client << CHANCE_BITS) + (chance * 2.0**CHANCE_BITS).astype(np.int64)
    key = np.sort((key << bits) + within)
    steps = -(-counts // size)
    start = np.concatenate([[0], np.cumsum(steps * size)])
    padded = np.full(int(start[-1]), -1, np.int64)
    padded[start[client] + within] = (key & ((1 << bits) - 1)) + first[client]
    return Order(steps, padded, start[:-1], size)
