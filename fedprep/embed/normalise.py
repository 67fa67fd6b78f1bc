"""Embeddings of one modality brought to a common scale, with the numbers that show it.

Everything is computed in float64, block by block, and stored as float32. `l2`, `standardize` and
`none` give the same bytes with any number of threads: they add in a fixed order and call no BLAS.
`whiten` multiplies matrices of whole numbers, whose sums are exact in any order; only its
eigenvectors come from LAPACK, whose last bits may differ between machines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedprep.errors import EncoderError, RecipeError

__all__ = ["METHODS", "normalise"]

BLOCK = 8192
"""Rows at a time: 25 MB of float64 at 384 dimensions."""

CONSTANT = 1e-6
"""A dimension whose deviation is at most this share of its largest magnitude does not vary."""

RIDGE = 1e-3
"""whiten: added to every variance, as a share of their mean."""

Values = NDArray[np.float32]
Mask = NDArray[np.bool_]
Wide = NDArray[np.float64]
Apply = Callable[[Wide], Wide]


def normalise(
    values: Values, present: Mask, method: str, *, fit: Mask, dim: int = 0
) -> tuple[Values, Mask, dict[str, Any]]:
    """Returns normalised embeddings, which rows have one, and statistics before and after.

    A present row that is a zero vector afterwards says nothing; it is marked as missing and counted,
    so that no zero is mistaken for an embedding. (Under `l2` that is a vector without a direction,
    under `standardize` and `whiten` one that equals the mean.)

    Args:
        values: float32 (n, d), finite where present.
        present: bool (n,).
        method: `l2` gives unit norm; `standardize` mean 0 and deviation 1 in each dimension; `whiten`
            rotates to principal components, greatest variance first, and scales each to deviation 1
            (a little less where the variance is small); `none` changes nothing.
        fit: bool (n,), the rows that mean, deviation and components are taken from (where present):
            those seen in train.
        dim: `whiten`: how many components are kept; 0 keeps d.

    Returns:
        values float32 (n, d or dim), zero where missing; present bool (n,); statistics as plain
        numbers: `before` and `after` (n_present, n_zero, norm_min, norm_median, norm_max, rms,
        mean_abs), `n_fit`, and for `standardize` `n_constant` (dimensions without variation, left at
        0), for `whiten` `ridge` and `explained` (share of the variance that is kept).

    Raises:
        EncoderError: a value is not finite, or fewer than two rows are there to fit.
        RecipeError: an unknown method, or `dim` beyond d.

    Reference: Kessy, Lewin, Strimmer, Optimal Whitening and Decorrelation, The American Statistician
    2018 (PCA whitening).
    """
    if method not in METHODS:
        raise RecipeError(f"no normalisation is called '{method}'", expected=" | ".join(METHODS))
    if not 0 <= dim <= values.shape[1]:
        raise RecipeError(
            f"whiten_dim = {dim} dimensions are asked of embeddings that have {values.shape[1]}"
        )
    before = _statistics(values, present)
    used = present & fit
    kept = dim if method == "whiten" and dim else values.shape[1]
    result = np.zeros((len(values), kept), np.float32)
    facts: dict[str, Any] = {}
    if present.any():
        apply, facts = METHODS[method](values, used, kept)
        for rows, block in _blocks(values, present):
            result[rows] = apply(block)
    after = _statistics(result, present)
    present = present & (result != 0).any(axis=1)
    return result, present, {"before": before, "after": after, **facts}


def _l2(values: Values, used: Mask, dim: int) -> tuple[Apply, dict[str, Any]]:
    def apply(block: Wide) -> Wide:
        norms = _norms(block)[:, None]
        return np.divide(block, norms, out=np.zeros_like(block), where=norms > 0)

    return apply, {}


def _standardize(values: Values, used: Mask, dim: int) -> tuple[Apply, dict[str, Any]]:
    mean, largest, n = _mean(values, used)
    squares = np.zeros(values.shape[1])
    for _, block in _blocks(values, used):
        squares += np.add.reduce((block - mean) ** 2, axis=0)
    deviation = np.sqrt(squares / n)
    varies = deviation > CONSTANT * largest
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=varies)
    return lambda block: (block - mean) * scale, {"n_fit": n, "n_constant": int((~varies).sum())}


def _whiten(values: Values, used: Mask, dim: int) -> tuple[Apply, dict[str, Any]]:
    mean, _, n = _mean(values, used)
    covariance = _covariance(values, used, mean) / n
    variance, components = np.linalg.eigh(covariance)  # ascending
    variance, components = np.maximum(variance[::-1], 0.0), components[:, ::-1]
    ridge = RIDGE * float(variance.mean())
    if ridge == 0.0:
        raise EncoderError(
            "whiten: all embeddings to fit are equal", hint="normalise = 'l2' or 'none'"
        )
    kept = _signed(components[:, :dim]) / np.sqrt(variance[:dim] + ridge)  # (d, dim)
    facts = {
        "n_fit": n,
        "ridge": _rounded(ridge),
        "explained": _rounded(variance[:dim].sum() / variance.sum()),
    }
    return lambda block: _product(block - mean, kept), facts


def _none(values: Values, used: Mask, dim: int) -> tuple[Apply, dict[str, Any]]:
    return lambda block: block, {}


METHODS: dict[str, Callable[[Values, Mask, int], tuple[Apply, dict[str, Any]]]] = {
    "l2": _l2,
    "standardize": _standardize,
    "whiten": _whiten,
    "none": _none,
}
"""Each takes values, the rows to fit and the dimensions to keep, and gives what to do with a block."""


def _mean(values: Values, used: Mask) -> tuple[Wide, Wide, int]:
    """Returns the mean of the used rows (d,), their largest magnitudes (d,), and how many they are."""
    n = int(used.sum())
    if n < 2:
        raise EncoderError(
            f"{n} embeddings of items seen in train are too few to normalise by mean and deviation",
            expected="2 at least",
            hint="normalise = 'l2' or 'none'",
        )
    total, largest = np.zeros(values.shape[1]), np.zeros(values.shape[1])
    for _, block in _blocks(values, used):
        total += np.add.reduce(block, axis=0)
        largest = np.maximum(largest, np.abs(block).max(axis=0))
    mean: Wide = total / n
    return mean, largest, n


def _covariance(values: Values, used: Mask, mean: Wide) -> Wide:
    """Returns the sums of products of the centred rows, (d, d).

    Each dimension is on a grid of its own, so fine that the sums over a block are just exact.
    """
    bits = (53 - (BLOCK - 1).bit_length()) // 2
    largest = np.zeros(values.shape[1])
    for _, block in _blocks(values, used):
        largest = np.maximum(largest, np.abs(block - mean).max(axis=0))
    step = _step(largest, bits)  # (d,)
    total: Wide = np.zeros((values.shape[1], values.shape[1]))
    for _, block in _blocks(values, used):
        whole = np.rint((block - mean) / step)
        total += whole.T @ whole
    total *= np.outer(step, step)
    return total


def _product(block: Wide, components: Wide) -> Wide:
    """Returns block @ components, (n, dim), both on grids so fine that float32 hardly shows them.

    A row is on a grid of its own, and so is a component: sums of d products are then exact.
    """
    bits = (53 - (block.shape[1] - 1).bit_length()) // 2
    rows = _step(np.abs(block).max(axis=1, keepdims=True), bits)
    columns = _step(np.abs(components).max(axis=0, keepdims=True), bits)
    product: Wide = np.rint(block / rows) @ np.rint(components / columns)
    product *= rows
    product *= columns
    return product


def _step(largest: Any, bits: int) -> Any:
    """Returns the power of two by which magnitudes up to `largest` become whole numbers of `bits` bits."""
    _, exponent = np.frexp(largest)
    return np.ldexp(1.0, exponent - bits)


def _signed(components: Wide) -> Wide:
    """Returns the components, each with its sign such that its greatest entry is positive.

    Of entries that are as great but for rounding, the first decides.
    """
    size = np.abs(components)
    decisive = np.argmax(size >= size.max(axis=0) * (1 - 1e-6), axis=0)
    signed: Wide = components * np.sign(components[decisive, np.arange(components.shape[1])])
    return signed


def _norms(block: Wide) -> Wide:
    norms: Wide = np.sqrt(np.einsum("ij,ij->i", block, block))
    return norms


def _blocks(values: Values, mask: Mask) -> Iterator[tuple[NDArray[np.int64], Wide]]:
    """Yields the positions of the masked rows and the rows in float64, some at a time."""
    rows = np.flatnonzero(mask)
    for low in range(0, len(rows), BLOCK):
        part = rows[low : low + BLOCK]
        yield part, values[part].astype(np.float64)


def _statistics(values: Values, present: Mask) -> dict[str, Any]:
    """Returns what can be seen of scale, over the present rows; None where there is none."""
    n = int(present.sum())
    if n == 0 or values.shape[1] == 0:
        return dict.fromkeys(("norm_min", "norm_median", "norm_max", "rms", "mean_abs")) | {
            "n_present": n,
            "n_zero": n,
        }
    norms = np.empty(n)
    sum_abs, done = 0.0, 0
    for rows, block in _blocks(values, present):
        norms[done : done + len(rows)] = _norms(block)
        sum_abs += float(np.abs(block).sum())
        done += len(rows)
    if not np.isfinite(norms).all():
        first = int(np.flatnonzero(present)[np.argmin(np.isfinite(norms))])
        raise EncoderError(
            f"{int((~np.isfinite(norms)).sum()):,} embeddings are not finite",
            where=f"the first in row {first}",
        )
    return {
        "n_present": n,
        "n_zero": int((norms == 0).sum()),
        "norm_min": _rounded(norms.min()),
        "norm_median": _rounded(np.median(norms)),
        "norm_max": _rounded(norms.max()),
        "rms": _rounded(np.sqrt(np.mean(norms**2) / values.shape[1])),
        "mean_abs": _rounded(sum_abs / (n * values.shape[1])),
    }


def _rounded(number: Any) -> float:
    """Returns six significant digits: the manifest is for reading."""
    return float(f"{float(number):.6g}")
