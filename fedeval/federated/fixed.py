"""Exact sums: values as whole numbers in units of 2^-64.

A float64 v becomes w + a / 2^32 + b / 2^64 with whole w, a and b of v's sign: rounded once, by at most
2^-65, and only where it has bits below 2^-64. Sums of whole numbers are exact, whatever their order.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedprep.errors import EvaluationError

__all__ = ["LIMB", "UNIT", "exact_sums", "whole_numbers"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

UNIT = 64
"""Sums are in units of 2 to the power of minus this."""

LIMB = 32
"""Bits of the limbs a and b; up to 2^31 of them add up in 64 bits."""


def exact_sums(values: Floats, starts: Ints) -> Ints:
    """Returns the sums of runs of rows: int64 (n_runs, m, 3), the sums of w, a and b.

    Args:
        values: float64 (n, m), finite.
        starts: int64 (n_runs,), the first row of each run, ascending from 0.

    Raises:
        EvaluationError: values so large that the whole parts would not add up in 64 bits.
    """
    largest, n = float(np.abs(values).max(initial=0.0)), len(values)
    if largest * n >= 2.0**62 or n >= 1 << 31:
        raise EvaluationError(
            f"{n:,} values as large as {largest:g} cannot be added up exactly",
            expected=f"at most {2.0**62 / max(n, 1):g}",
        )
    size = np.abs(values)
    whole = np.floor(size)
    scaled = (size - whole) * 2.0**LIMB  # exact: a fraction, and a power of two
    first = np.floor(scaled)
    second = np.rint((scaled - first) * 2.0**LIMB)
    signed = np.copysign(np.stack([whole, first, second], axis=-1), values[..., None])
    limbs = signed.astype(np.int64)
    if not len(starts):
        return np.zeros((0, *limbs.shape[1:]), np.int64)
    return np.asarray(np.add.reduceat(limbs, starts, axis=0))


def whole_numbers(limbs: Ints) -> tuple[int, ...]:
    """Returns what sums of w, a and b stand for, in units of 2^-64; limbs: int64 (m, 3)."""
    return tuple((w << UNIT) + (a << LIMB) + b for w, a, b in limbs.tolist())
