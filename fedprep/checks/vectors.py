"""Embeddings read once, block by block, and what the checks need to know of each vector and dimension.

Vectors with a NaN, an infinite value or a null inside are set apart (`finite`): no norm, range or sum is
taken of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from fedprep.errors import DatasetError

__all__ = ["BLOCK_ROWS", "Part", "Vectors", "parts_of", "vectors_of"]

BLOCK_ROWS = 8_192
"""Rows at a time: a row group of a Dataset."""

BLOCK_VALUES = 1 << 24
"""Numbers at a time: 64 MB of float32."""

TILE_ROWS = 1_024
"""Rows that are looked at together while they are in the processor's cache."""

BAD = {"row": pl.Int64, "dimension": pl.Int64, "value": pl.Float64}

_NONE = np.zeros(0)

EQUAL = 1e-6
"""A vector is constant where its values differ by no more than this share of their magnitude."""

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Values = npt.NDArray[np.float32] | npt.NDArray[np.float64]


class Part(NamedTuple):
    """Consecutive rows: the number of the first, their ids, which have a vector, and those vectors.

    ids: (n,); present: bool (n,); values: float (n_present, dim), NaN where a null is inside.
    """

    first: int
    ids: pl.Series
    present: Bools
    values: Values


@dataclass(frozen=True)
class Vectors:
    """What is known of the vectors of one modality, row by row of its table.

    ids: (n,); present: bool (n,), not null; finite: bool (n,), present and every value finite.
    norm: float64 (n,), NaN where not finite. constant: bool (n,), finite and one value throughout.
    fingerprint: uint64 (n,), equal for equal bytes; 0 where absent.
    low, high: float64 (dim,), over the finite vectors; infinite where there is none.
    sum_abs: of all values of the finite vectors.
    bad: `row`, `dimension`, `value`: the first value that is not finite, of each vector that has one.
    """

    ids: pl.Series
    present: Bools
    finite: Bools
    norm: Floats
    constant: Bools
    fingerprint: npt.NDArray[np.uint64]
    low: Floats
    high: Floats
    sum_abs: float
    bad: pl.DataFrame

    @property
    def dim(self) -> int:
        return len(self.low)

    @property
    def n_present(self) -> int:
        return int(self.present.sum())

    @property
    def norms(self) -> Floats:
        """The norms of the finite vectors."""
        return self.norm[self.finite]

    @property
    def alive(self) -> Bools:
        """bool (dim,): the dimensions in which the finite vectors differ."""
        return self.low < self.high

    @property
    def rms_norm(self) -> float:
        """The root mean square of the norms, NaN where there is none."""
        norms = self.norms
        return float(np.sqrt(np.mean(norms**2))) if len(norms) else float("nan")


def parts_of(table: pl.LazyFrame, key: str, column: str) -> Iterator[Part]:
    """Yields the rows of a table of vectors, some at a time.

    Args:
        table: any frame with the columns; a scanned file is read slice by slice.
        key: the column of ids. column: that of the vectors, arrays or lists of floats.

    Raises:
        DatasetError: lists of different lengths.
    """
    frame = table.select(key, column)
    dim = _dim(frame, column)
    n_rows = max(1, min(BLOCK_ROWS, BLOCK_VALUES // max(dim, 1)))
    first = 0
    while True:
        block = frame.slice(first, n_rows).collect()
        vectors = _as_array(block[column], dim)
        present = vectors.is_not_null().to_numpy()
        values = vectors.drop_nulls().to_numpy() if present.any() else np.zeros((0, dim), "f4")
        if block.height:
            yield Part(first, block[key], present, np.ascontiguousarray(values))
        first += block.height
        if block.height < n_rows:
            return


def _dim(frame: pl.LazyFrame, column: str) -> int:
    dtype = frame.collect_schema()[column]
    if isinstance(dtype, pl.Array):
        return int(dtype.shape[0])
    first = frame.select(pl.col(column).drop_nulls().first().list.len()).collect().item()
    return int(first or 0)


def _as_array(vectors: pl.Series, dim: int) -> pl.Series:
    if isinstance(vectors.dtype, pl.Array):
        return vectors
    lengths = vectors.list.len().drop_nulls()
    if (lengths != dim).any():
        raise DatasetError(
            f"{int((lengths != dim).sum()):,} vectors of the column {vectors.name} have another length",
            expected=f"{dim} numbers, as the first has",
        )
    return vectors.list.to_array(dim)


def vectors_of(table: pl.LazyFrame, key: str, column: str) -> Vectors:
    """Returns what is known of the vectors in a column, from one pass over it."""
    dim = _dim(table, column)
    low, high = np.full(dim, np.inf), np.full(dim, -np.inf)
    sum_abs = 0.0
    ids, present, bads = [pl.Series(key, [], table.collect_schema()[key])], [_NONE > 0], []
    looks = [Look(_NONE, _NONE > 0, _NONE > 0, _NONE.astype(np.uint64))]
    for part in parts_of(table, key, column):
        ids.append(part.ids)
        present.append(part.present)
        rows = part.first + np.flatnonzero(part.present)
        for begin in range(0, len(part.values), TILE_ROWS):
            values = part.values[begin : begin + TILE_ROWS]
            look = _look(values)
            looks.append(look)
            if not look.finite.all():
                bads.append(_first_bad(values, rows[begin : begin + TILE_ROWS], look.finite))
                values = values[look.finite]
            low = np.minimum(low, values.min(axis=0, initial=np.inf))
            high = np.maximum(high, values.max(axis=0, initial=-np.inf))
            sum_abs += float(np.abs(values).sum(dtype=np.float64))
    there = np.concatenate(present)
    norm, finite, constant, fingerprint = map(np.concatenate, zip(*looks, strict=True))
    return Vectors(
        ids=pl.concat(ids),
        present=there,
        finite=_spread(finite, there, False),
        norm=_spread(norm, there, np.nan),
        constant=_spread(constant, there, False),
        fingerprint=_spread(fingerprint, there, 0),
        low=low,
        high=high,
        sum_abs=sum_abs,
        bad=pl.concat([pl.DataFrame(schema=BAD), *bads]),
    )


class Look(NamedTuple):
    """Of some vectors: norm, whether finite, whether constant, fingerprint; all (n,)."""

    norm: Floats
    finite: Bools
    constant: Bools
    fingerprint: npt.NDArray[np.uint64]


def _look(values: Values) -> Look:
    with np.errstate(over="ignore", invalid="ignore"):
        norm, finite = _norms(values)
        return Look(norm, finite, _is_constant(values, norm), _fingerprint(values))


def _spread(values: npt.NDArray[Any], there: Bools, absent: Any) -> npt.NDArray[Any]:
    """Returns the values of the present rows in their places among all rows."""
    spread = np.full(len(there), absent, dtype=values.dtype)
    spread[there] = values
    return spread


def _norms(values: Values) -> tuple[Floats, Bools]:
    """Returns the norm of each vector, NaN where it is not finite, and which are."""
    squares = np.einsum("ij,ij->i", values, values).astype(np.float64)
    finite = np.ones(len(values), dtype=bool)
    # Too small or too large for 32 bits, or not finite: those few again, and wide.
    odd = np.flatnonzero(~((squares > 1e-30) & (squares < 1e30)))
    wide = values[odd].astype(np.float64)
    finite[odd] = np.isfinite(wide).all(axis=1)
    squares[odd] = np.einsum("ij,ij->i", wide, wide)
    squares[~finite] = np.nan
    return np.sqrt(squares), finite


def _first_bad(values: Values, rows: npt.NDArray[np.int64], finite: Bools) -> pl.DataFrame:
    bad = np.flatnonzero(~finite)
    dimension = np.argmin(np.isfinite(values[bad]), axis=1)
    found = {"row": rows[bad], "dimension": dimension, "value": values[bad, dimension]}
    return pl.DataFrame(found, schema=BAD)


def _is_constant(values: Values, norm: Floats) -> Bools:
    """Returns which vectors have one value in all dimensions, and not 0; one number alone is none of them."""
    dim = values.shape[1]
    constant = np.zeros(len(values), dtype=bool)
    if dim < 2:
        return constant
    # Of a constant vector, and of hardly another, the square of the sum is dim times that of the norm.
    sums = (values @ np.ones(dim, dtype=values.dtype)).astype(np.float64)
    near = np.flatnonzero(sums**2 > (1 - 1e-3) * dim * norm**2)
    low, high = values[near].min(axis=1), values[near].max(axis=1)
    constant[near] = high - low <= EQUAL * np.maximum(np.abs(low), np.abs(high))
    return constant


def _fingerprint(values: Values) -> npt.NDArray[np.uint64]:
    """Returns 64 bits for the bytes of each vector: uint64 (n,)."""
    width = pa.binary(values.shape[1] * values.itemsize)
    rows = pa.FixedSizeBinaryArray.from_buffers(width, len(values), [None, pa.py_buffer(values)])
    return pl.Series(values=pl.from_arrow(rows), dtype=pl.Binary).hash().to_numpy()
