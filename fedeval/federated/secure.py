"""Secure sum, simulated: the server adds up masked statements and learns the total alone.

Each pair of neighbouring clients shares a random number for every word; one adds it, the other subtracts
it, modulo 2^64, so that masks cancel in the total and an upload by itself is uniformly random. A client
that drops out after the masks were agreed leaves its neighbours' masks behind; they are opened by
shares that its neighbours hold, which takes enough of them to be there.

This simulates what is sent and added up, to test that the total is exact and to count what it costs. It
is no implementation for use between real parties: there is no key agreement, no signature, and no
second mask of a client's own, which a real protocol needs against uploads that arrive late.

Reference: Bonawitz et al., Practical Secure Aggregation for Privacy-Preserving Machine Learning, CCS 2017;
Bell, Bonawitz, Gascón, Lepoint, Raykova, Secure Single-Server Aggregation with (Poly)Logarithmic Overhead,
CCS 2020, for few neighbours each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedeval.federated.statements import Statements
from fedeval.federated.sums import ClientSums
from fedprep.errors import EvaluationError

__all__ = ["SecureTotal", "masked", "secure_total"]

Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class SecureTotal:
    """What the server learned, and at what cost.

    total: sums of the clients that did not drop out · n_dropped · n_neighbours: of each client, at most ·
    n_masks_opened: pairs of a client that stayed and one that dropped · bytes_per_client: of an upload.
    """

    total: ClientSums
    n_dropped: int
    n_neighbours: int
    n_masks_opened: int
    bytes_per_client: int


def secure_total(
    statements: Statements,
    *,
    seed: int,
    dropped: npt.NDArray[np.bool_] | None = None,
    n_neighbours: int | None = None,
    threshold: float = 0.5,
) -> SecureTotal:
    """Returns the exact total of the statements that arrive, from masked uploads.

    Args:
        statements: of all clients that agreed on masks.
        seed: of the masks.
        dropped: bool (n_clients,): agreed and then sent nothing; None: nobody.
        n_neighbours: each client shares masks with so many others (rounded up to an even number), on a
            ring in random order; None: all of them up to 64 clients, 2 ⌈log2 n⌉ + 40 beyond.
        threshold: a dropped client's masks are opened if this share of its neighbours is there.

    Raises:
        EvaluationError: fewer than two clients are left, a dropped client has too few neighbours left,
            or all neighbours of a client dropped out, so that opening would show its sums.
    """
    n = len(statements)
    gone = np.zeros(n, bool) if dropped is None else np.asarray(dropped, dtype=bool)
    if gone.shape != (n,):
        raise EvaluationError(f"{gone.size:,} marks of dropped clients", expected=f"{n:,}")
    if n - int(gone.sum()) < 2:
        raise EvaluationError(
            f"{n - int(gone.sum())} clients are left", expected="at least two, to hide one another"
        )
    wanted = n - 1 if n <= 64 else 2 * math.ceil(math.log2(n)) + 40
    wanted = min(wanted if n_neighbours is None else n_neighbours, n - 1)
    if wanted < 1:
        raise EvaluationError(f"{wanted} neighbours are asked for", expected="at least 1")
    order = np.random.default_rng((seed, 0)).permutation(n)
    pairs = list(_pairs(order, wanted))
    _refuse_too_few(pairs, gone, threshold)
    words = _words(statements)
    uploads = masked(words, pairs, seed)
    total = uploads[~gone].sum(axis=0, dtype=np.uint64)
    opened = 0
    for place, (first, second) in enumerate(pairs):
        left, right = gone[second] & ~gone[first], gone[first] & ~gone[second]
        if left.any() or right.any():
            masks = _masks(seed, place, len(first), words.shape[1])
            total += masks[right].sum(axis=0, dtype=np.uint64)  # subtracted by the one that stayed
            total -= masks[left].sum(axis=0, dtype=np.uint64)
            opened += int(left.sum() + right.sum())
    return SecureTotal(
        total=_read(total, statements, n - int(gone.sum())),
        n_dropped=int(gone.sum()),
        n_neighbours=_most(pairs, n),
        n_masks_opened=opened,
        bytes_per_client=words.shape[1] * 8,
    )


def masked(words: Words, pairs: list[tuple[Ints, Ints]], seed: int) -> Words:
    """Returns the uploads: words plus the masks shared with later neighbours, minus those with earlier.

    Args:
        words: uint64 (n_clients, n_words).
        pairs: arrays of first and second client; each client at most once in either array.
        seed: of the masks.
    """
    uploads = words.copy()
    for place, (first, second) in enumerate(pairs):
        masks = _masks(seed, place, len(first), words.shape[1])
        uploads[first] += masks
        uploads[second] -= masks
    return uploads


def _pairs(order: Ints, n_neighbours: int) -> Iterator[tuple[Ints, Ints]]:
    """Yields the pairs at each distance on the ring, nearest first; every pair once."""
    n = len(order)
    for distance in range(1, min((n_neighbours + 1) // 2, n // 2) + 1):
        both = order, np.roll(order, -distance)
        # At half the ring every pair would come twice.
        keep = n // 2 if 2 * distance == n else n
        yield both[0][:keep], both[1][:keep]


def _masks(seed: int, place: int, n: int, n_words: int) -> Words:
    rng = np.random.default_rng((seed, 1, place))
    return rng.integers(0, 1 << 64, size=(n, n_words), dtype=np.uint64)


def _refuse_too_few(
    pairs: list[tuple[Ints, Ints]], gone: npt.NDArray[np.bool_], threshold: float
) -> None:
    n = len(gone)
    neighbours, left = np.zeros(n, np.int64), np.zeros(n, np.int64)
    for first, second in pairs:
        for one, other in ((first, second), (second, first)):
            neighbours[one] += 1
            left[one] += ~gone[other]
    lost = gone & (left < threshold * neighbours)
    if lost.any():
        raise EvaluationError(
            f"the masks of {int(lost.sum()):,} dropped clients cannot be opened",
            expected=f"{threshold:.0%} of a client's neighbours to be there",
            hint="more neighbours, or fewer clients that drop out",
        )
    bare = ~gone & (left == 0)
    if bare.any():
        raise EvaluationError(
            f"{int(bare.sum()):,} clients have no neighbour left: opening would show their sums",
            hint="more neighbours",
        )


def _most(pairs: list[tuple[Ints, Ints]], n: int) -> int:
    ends = [np.bincount(end, minlength=n) for pair in pairs for end in pair]
    return int(np.sum(ends, axis=0).max())


def _words(statements: Statements) -> Words:
    """Returns a row of 64-bit words per client; a negative whole part is its two's complement."""
    n = len(statements)
    fields = (statements.sums, statements.squares, statements.counts, statements.undefined)
    return np.concatenate([field.reshape(n, -1) for field in fields], axis=1).view(np.uint64)


def _read(words: Words, statements: Statements, n_clients: int) -> ClientSums:
    """Returns the sums that a row of words stands for."""
    m = len(statements.metrics)
    values = words.view(np.int64)
    sums, squares = (values[at : at + 3 * m].reshape(1, m, 3) for at in (0, 3 * m))
    counts, undefined = values[6 * m : 7 * m].reshape(1, m), values[7 * m :].reshape(1, m)
    row = Statements(statements.client_id[:1], statements.metrics, sums, squares, counts, undefined)
    total = row.total()
    return ClientSums(
        total.metrics, total.sums, total.squares, total.counts, total.undefined, n_clients
    )
