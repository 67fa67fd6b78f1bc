"""Per-user values as the statistics take them: float64, undefined ones left out and counted."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedprep.errors import EvaluationError

__all__ = ["Defined", "defined", "paired_differences", "refuse_unless"]


@dataclass(frozen=True)
class Defined:
    """Values without the undefined ones.

    values: float64 (n,), finite · clusters: int64 (n,), dense from 0, or None · n_undefined: how many
    were NaN and are left out.
    """

    values: npt.NDArray[np.float64]
    clusters: npt.NDArray[np.int64] | None
    n_undefined: int

    @property
    def n(self) -> int:
        return int(self.values.size)

    def mean(self) -> float:
        """Returns the mean over users, rounded once (so their order changes nothing); NaN without any."""
        blocks = (self.values[at : at + 65_536].tolist() for at in range(0, self.n, 65_536))
        return math.fsum(itertools.chain.from_iterable(blocks)) / self.n if self.n else math.nan

    def units(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Returns sum and number of values of each unit that is independent: a user, or a cluster."""
        if self.clusters is None:
            return self.values, np.ones(self.n)
        n_clusters = int(self.clusters.max(initial=-1)) + 1
        sizes = np.bincount(self.clusters, minlength=n_clusters).astype(np.float64)
        sums = np.bincount(self.clusters, self.values, minlength=n_clusters)
        return sums.astype(np.float64), sizes


def defined(values: npt.ArrayLike, clusters: npt.ArrayLike | None = None) -> Defined:
    """Returns the values that are defined, with their clusters numbered from 0.

    Args:
        values: float (n,), one a user; NaN is undefined.
        clusters: (n,) ids of any kind, such as clients; those of undefined values do not count.

    Raises:
        EvaluationError: not one-dimensional, infinite values, or another number of clusters than values.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise EvaluationError(
            f"values have shape {array.shape}", expected="one dimension, a value a user"
        )
    infinite = int(np.isinf(array).sum())
    if infinite:
        raise EvaluationError(
            f"{infinite:,} of {array.size:,} values are infinite",
            expected="finite numbers, or NaN where a value is undefined",
        )
    keep = ~np.isnan(array)
    kept = array[keep]
    codes = None
    if clusters is not None:
        ids = np.asarray(clusters)
        if ids.shape != array.shape:
            raise EvaluationError(
                f"{array.size:,} values and {ids.size:,} clusters", expected="one cluster a value"
            )
        codes = np.unique(ids[keep], return_inverse=True)[1].astype(np.int64)
    return Defined(kept, codes, int(array.size - kept.size))


def paired_differences(a: npt.ArrayLike, b: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Returns a - b, user by user: float64 (n,), NaN where either is undefined, 0 where they are equal.

    A difference below 1e-12 of the largest value is a rounding error and is 0: two ways to add up the
    same gains must tie.

    Raises:
        EvaluationError: different lengths.
    """
    first, second = (np.asarray(values, dtype=np.float64) for values in (a, b))
    if first.shape != second.shape:
        raise EvaluationError(
            f"system A has {first.size:,} values and system B {second.size:,}",
            expected="the same users in the same order",
        )
    difference = first - second
    scale = np.fmax(np.abs(first), np.abs(second))
    largest = float(np.nanmax(scale)) if np.isfinite(scale).any() else 0.0
    return np.where(np.abs(difference) <= 1e-12 * largest, 0.0, difference)


def refuse_unless(condition: bool, what: str, expected: str) -> None:
    """Raises an EvaluationError unless the condition holds."""
    if not condition:
        raise EvaluationError(what, expected=expected)
