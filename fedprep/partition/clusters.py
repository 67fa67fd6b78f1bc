"""Clients of users with alike tastes: by_cluster, k-means on the users' profiles.

The profiles are put on a grid of whole numbers first. Sums and products of these stay below 2^53, so
floating-point arithmetic on them is exact: whatever the number of threads, the order in which a library
adds, or the processor, the clusters are the same.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from fedprep.errors import PartitionError
from fedprep.partition.task import Assigned, Floats, Ints, Task

__all__ = ["by_cluster", "kmeans"]

GRID_BITS = 15  # largest whole number 2^15: squares of 2^13 dimensions sum to less than 2^44
ROUNDS = 256  # seeds are drawn one by one up to here, several at a time beyond
ITERATIONS = 30
BLOCK = 1 << 22  # distances held at a time: 32 MiB


def by_cluster(task: Task, rng: np.random.Generator) -> Assigned:
    """Users clustered by what the texts of their items say (k-means): feature skew.

    Needs `profiles`, the mean text embedding of each user's train items: float32 (n_users, dim). Users
    stay whole, whatever the unit. Clusters differ in size; one that gets no user, or too few rows, is
    filled up from the largest.

    Reference: Lloyd, IEEE Trans. Inf. Theory 1982; Arthur, Vassilvitskii, "k-means++", SODA 2007.
    """
    if task.profiles is None:
        raise PartitionError(
            "by_cluster needs profiles of users, which are made from text embeddings",
            where="partition.method",
            hint="set embed.text.encoder to an encoder other than none",
        )
    profiles = task.profiles[task.units.user]
    broken = np.flatnonzero(~np.isfinite(profiles).all(axis=1))
    if len(broken):
        raise PartitionError(
            f"the profiles of {len(broken)} users are not finite",
            where=f"user {task.units.user[broken[0]]} is the first",
        )
    client = kmeans(profiles, task.n_clients, rng)
    return Assigned(client=client, facts={"dim": profiles.shape[1]})


def kmeans(points: npt.NDArray[np.float32], k: int, rng: np.random.Generator) -> Ints:
    """Returns the cluster of each point: int64 (n,), 0 to k - 1; clusters may stay empty.

    The centres are fitted on at most 64 points a cluster (at least 16,384), drawn at random.

    Args:
        points: float32 (n, dim), finite.
    """
    exponent = GRID_BITS - math.frexp(float(np.abs(points).max(initial=0.0)))[1]
    sample = rng.permutation(len(points))[: max(64 * k, 16_384)]
    fitted = _on_grid(points[np.sort(sample)], exponent)
    centres = _seeds(fitted, k, rng)
    nearest, distance = _nearest(fitted, centres)
    for _ in range(ITERATIONS):
        centres = _means(fitted, nearest, distance, k)
        before = nearest
        nearest, distance = _nearest(fitted, centres)
        if np.array_equal(before, nearest):
            break
    step = 1 << 16
    blocks = range(0, len(points), step)
    return np.concatenate(
        [_nearest(_on_grid(points[b : b + step], exponent), centres)[0] for b in blocks]
    )


def _on_grid(points: npt.NDArray[np.float32], exponent: int) -> Floats:
    """Returns the points times 2^exponent, rounded to whole numbers: float64 (n, dim)."""
    return np.rint(np.ldexp(points.astype(np.float64), exponent))


def _seeds(points: Floats, k: int, rng: np.random.Generator) -> Floats:
    """Returns k first centres, each drawn with probability in proportion to the squared distance
    from those before (k-means++); beyond 256 of them, a 256th part in each round.
    """
    chosen = points[rng.integers(len(points), size=1)]
    _, distance = _nearest(points, chosen)
    while len(chosen) < k:
        n = min(-(-k // ROUNDS), k - len(chosen))
        reach = np.cumsum(distance)
        if reach[-1] == 0:  # fewer distinct points than clusters
            return np.concatenate([chosen, np.repeat(chosen[:1], k - len(chosen), axis=0)])
        darts = (np.arange(n) + rng.random()) * (int(reach[-1]) / n)
        drawn = points[np.searchsorted(reach, darts.astype(np.int64), side="right")]
        distance = np.minimum(distance, _nearest(points, drawn)[1])
        chosen = np.concatenate([chosen, drawn])
    return chosen


def _nearest(points: Floats, centres: Floats) -> tuple[Ints, Ints]:
    """Returns the nearest centre of each point, the first of equal ones, and the squared distance."""
    nearest = np.empty(len(points), dtype=np.int64)
    distance = np.empty(len(points), dtype=np.int64)
    norms = np.einsum("ij,ij->i", centres, centres)
    step = max(1, BLOCK // len(centres))
    for start in range(0, len(points), step):
        part = points[start : start + step]
        score = norms - 2 * (part @ centres.T)  # (block, k)
        best = score.argmin(axis=1)
        nearest[start : start + step] = best
        own = np.einsum("ij,ij->i", part, part)
        distance[start : start + step] = own + score[np.arange(len(part)), best]
    return nearest, distance


def _means(points: Floats, nearest: Ints, distance: Ints, k: int) -> Floats:
    """Returns the mean of each cluster on the grid; an empty one moves to a point far from its centre."""
    order = np.argsort(nearest, kind="stable")
    counts = np.bincount(nearest, minlength=k)
    filled = np.flatnonzero(counts)
    begins = (np.cumsum(counts) - counts)[filled]
    centres = np.empty((k, points.shape[1]))
    sums = np.add.reduceat(points[order], begins, axis=0)
    centres[filled] = np.rint(sums / counts[filled, None])
    empty = np.flatnonzero(counts == 0)
    far = np.argsort(-distance, kind="stable")[: len(empty)]
    centres[empty[: len(far)]] = points[far]
    centres[empty[len(far) :]] = points[0]
    return centres
