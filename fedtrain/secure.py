"""Secure sum of updates, simulated: the server adds up masked whole numbers and learns their sum alone.

The clients of a cohort stand on a ring in random order, and each shares a random 64-bit word for every
word it sends with its neighbours there. The one that comes first adds it, the other subtracts it, modulo
2^64: masks cancel in the sum, and one upload by itself is uniformly random. Masks of clients that dropped
out after masks were agreed are opened by their neighbours.

Every client sends all words, those of item rows it never touched included: which rows a client touched
would tell what it rated. That is the price: 8 bytes for each value of the model.

Sums are exact: those of the uploads have the bits of those of the words. As with
`fedeval.federated.secure`, which does the same for metrics, this is no implementation for use between
real parties: there is no key agreement and no second mask against uploads that arrive late.

Reference: Bonawitz et al., Practical Secure Aggregation for Privacy-Preserving Machine Learning, CCS 2017;
Bell, Bonawitz, Gascón, Lepoint, Raykova, Secure Single-Server Aggregation with (Poly)Logarithmic Overhead,
CCS 2020, for few neighbours each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fedeval.draws import uniform
from fedeval.draws import words as random_words
from fedprep.errors import TrainingError
from fedtrain.parameters import stream

if TYPE_CHECKING:
    import torch

__all__ = ["Ring", "opened", "ring", "uploads"]

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

BLOCK = 1 << 17
"""Words of masks made at once: few enough for a cache."""


@dataclass(frozen=True)
class Ring:
    """The clients of a round that agreed on masks.

    clients: int64 (n,), ids in order of the ring · reach: each client shares masks with so many clients to
    either side · masks: seed of the masks.
    """

    clients: Ints
    reach: int
    masks: int
    _places: Ints = field(repr=False)
    _sorted: Ints = field(repr=False)

    def place(self, clients: Ints) -> Ints:
        """Returns int64: where on the ring these clients stand.

        Raises:
            TrainingError: a client that is not of this ring.
        """
        at = np.searchsorted(self._sorted, clients).clip(max=len(self._sorted) - 1)
        strange = np.asarray(clients)[self._sorted[at] != clients]
        if len(strange):
            raise TrainingError(
                f"{len(strange):,} clients agreed on no masks", where=f"client {strange[0]}"
            )
        return np.asarray(self._places[at])

    @property
    def n_neighbours(self) -> int:
        """With how many others each client shares masks."""
        return min(2 * self.reach, len(self.clients) - 1)


def ring(clients: Ints, round: int, seed: int, n_neighbours: int = 0) -> Ring:
    """Returns who shares masks with whom in a round; the same for any order of `clients`.

    Args:
        clients: int64 (n,), ids of the whole cohort, distinct.
        n_neighbours: of each client, rounded up to an even number; 0: all others up to 64 clients, beyond
            that 2 ⌈log2 n⌉ + 40.

    Raises:
        TrainingError: fewer than two clients, or the same twice.
    """
    ids = np.sort(np.asarray(clients, np.int64))
    n = len(ids)
    if n < 2:
        raise TrainingError(
            f"{n} clients take part in a secure sum",
            where=f"round {round}",
            expected="at least two, to hide one another",
            hint="more clients a round; sampler = 'uniform' has as many in each",
        )
    if (ids[1:] == ids[:-1]).any():
        raise TrainingError("a client takes part twice in a secure sum")
    wanted = n_neighbours or (n - 1 if n <= 64 else 2 * math.ceil(math.log2(n)) + 40)
    order = np.lexsort((ids, uniform(stream(seed, "ring", round), ids, 0)))
    places = np.empty(n, np.int64)
    places[order] = np.arange(n)
    reach = min((wanted + 1) // 2, n // 2)
    return Ring(ids[order], reach, stream(seed, "masks", round), places, ids)


def uploads(words: torch.Tensor, clients: Ints, ring: Ring) -> torch.Tensor:
    """Returns int64 (C, W): what the server sees of these clients; a chunk of the ring's clients.

    Args:
        words: int64 (C, W), on the CPU: fixed-point values of each client's whole answer.
        clients: int64 (C,), whose words they are.

    Raises:
        TrainingError: a client that is not of this ring.
    """
    import torch

    n, place = len(ring.clients), ring.place(clients)
    found = words.clone().numpy().view(np.uint64)
    # Where both of a pair are here, their mask is made once. Pairs by their first, and whose they are.
    pairs = [
        (seed, *np.unique([place, (place - distance) % n], return_inverse=True))
        for distance, seed in enumerate(_seeds(ring), start=1)
    ]
    for cut in _blocks(2 * len(place), found.shape[1]):
        part = found[:, cut].copy()
        for seed, first, number in pairs:
            mask = _masks(seed, first, cut)
            added, taken = number.reshape(2, -1)
            part += mask[added]
            part -= mask[taken]
        found[:, cut] = part
    return torch.from_numpy(found.view(np.int64))


def opened(dropped: Ints, ring: Ring, n_words: int, threshold: float = 0.5) -> torch.Tensor:
    """Returns int64 (W,): what is to be added to the sum of the uploads that arrived, modulo 2^64.

    It takes off the masks that the clients that stayed shared with those that dropped out.

    Args:
        dropped: int64, ids of clients that agreed on masks and then sent nothing.
        n_words: W.
        threshold: masks can be opened if this share of a dropped client's neighbours stayed.

    Raises:
        TrainingError: fewer than two clients stayed, a dropped client has too few neighbours left, or all
            neighbours of one that stayed are gone, so that opening would show its words.
    """
    import torch

    n = len(ring.clients)
    gone = np.zeros(n, bool)
    gone[ring.place(np.asarray(dropped, np.int64))] = True
    _refuse_too_few(gone, ring, threshold)
    total = np.zeros(n_words, np.uint64)
    for distance, seed in enumerate(_seeds(ring), start=1):
        first, second = np.arange(n), (np.arange(n) + distance) % n
        left, right = first[gone[second] & ~gone[first]], first[gone[first] & ~gone[second]]
        for cut in _blocks(len(left) + len(right), n_words):
            total[cut] -= _masks(seed, left, cut).sum(axis=0, dtype=np.uint64)
            total[cut] += _masks(seed, right, cut).sum(axis=0, dtype=np.uint64)
    return torch.from_numpy(total.view(np.int64))


def _seeds(ring: Ring) -> list[int]:
    """Returns the seeds of the masks of pairs that stand 1, 2, … places apart."""
    return [stream(ring.masks, distance) for distance in range(1, ring.reach + 1)]


def _masks(seed: int, first: Ints, words: slice) -> Words:
    """Returns uint64 (len(first), n_words): the masks of the pairs of a distance, by the first's place.

    At half the ring two clients are a pair both ways round, and share two masks.
    """
    return random_words(seed, first[:, None], np.arange(words.start, words.stop))


def _blocks(n_pairs: int, n_words: int) -> list[slice]:
    size = max(BLOCK // max(n_pairs, 1), 1)
    return [slice(start, min(start + size, n_words)) for start in range(0, n_words, size)]


def _refuse_too_few(gone: npt.NDArray[np.bool_], ring: Ring, threshold: float) -> None:
    n, stayed = len(gone), int((~gone).sum())
    if stayed < 2:
        raise TrainingError(
            f"{stayed} clients are left", expected="two at least, to hide each other"
        )
    left = np.zeros(n, np.int64)
    for distance in range(1, ring.reach + 1):
        left += ~np.roll(gone, -distance)
        left += ~np.roll(gone, distance) if 2 * distance != n else 0  # else it is the same client
    lost = gone & (left < threshold * ring.n_neighbours)
    if lost.any():
        raise TrainingError(
            f"the masks of {int(lost.sum()):,} dropped clients cannot be opened",
            where=f"client {ring.clients[lost].min()}",
            expected=f"{threshold:.0%} of a client's neighbours to be there",
            hint="more neighbours, or fewer clients that drop out",
        )
    bare = ~gone & (left == 0)
    if bare.any():
        raise TrainingError(
            f"{int(bare.sum()):,} clients have no neighbour left: opening would show their words",
            hint="more neighbours",
        )
