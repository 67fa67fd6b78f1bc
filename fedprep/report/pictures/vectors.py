"""Embeddings of one file: the norm of each, and a few thousand of them in full."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from fedprep.frames import parquet_file

__all__ = ["Vectors", "read_vectors"]

MOST_ROWS = 262_144
"""Rows read of one file: beyond it, row groups spread evenly over the file stand for the rest."""

CANDIDATES = 6_000
SAMPLE = 1_500
"""Vectors kept in full: candidates by a fixed stride over the rows, of those there are again by stride."""


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """What was read of a file of embeddings.

    norms: float64 (n_usable,), above 0. mean_square: of all values of these vectors. ids, sample: int64
    (n,) and float32 (n, dim), at most `SAMPLE`. n_rows: rows of the file; n_read: of these, rows read;
    of which n_missing are null, n_unusable hold a NaN or an infinite value, n_zero are all zeros.
    """

    norms: npt.NDArray[np.float64]
    dim: int
    ids: npt.NDArray[np.int64]
    sample: npt.NDArray[np.float32]
    n_rows: int
    n_read: int
    n_missing: int
    n_unusable: int
    n_zero: int

    @property
    def rms(self) -> float:
        """Root mean square of a value; NaN where there is none."""
        return float(np.sqrt(np.mean(self.norms**2) / self.dim)) if len(self.norms) else np.nan


def read_vectors(path: Path, id_column: str, column: str) -> Vectors:
    """Returns norms and a sample of the vectors in a file, read a row group at a time."""
    norms, ids, samples = [], [], []
    n_read = n_missing = n_unusable = n_zero = dim = 0
    with parquet_file(path) as file:
        groups = _spread_groups(file)
        n_rows = file.metadata.num_rows
        stride = max(1, sum(file.metadata.row_group(g).num_rows for g in groups) // CANDIDATES)
        for group in groups:
            frame = pl.DataFrame(file.read_row_group(group, columns=[id_column, column]))
            frame = frame.with_row_index("place", offset=n_read)
            there = frame.drop_nulls(column)
            values = there[column].to_numpy()  # (n, dim)
            dim = values.shape[1]
            wide = values.astype(np.float64)
            norm = np.sqrt(np.einsum("ij,ij->i", wide, wide))
            usable = np.isfinite(norm)
            norms.append(norm[usable & (norm > 0)])
            kept = usable & (there["place"].to_numpy() % stride == 0)
            ids.append(there[id_column].to_numpy()[kept])
            samples.append(values[kept])
            n_read += frame.height
            n_missing += frame.height - there.height
            n_unusable += int((~usable).sum())
            n_zero += int((norm == 0).sum())
    sample, numbers = np.concatenate(samples), np.concatenate(ids)
    thin = slice(None, None, -(-len(numbers) // SAMPLE) or 1)
    return Vectors(
        norms=np.concatenate(norms), dim=dim, ids=numbers[thin], sample=sample[thin], n_rows=n_rows,
        n_read=n_read, n_missing=n_missing, n_unusable=n_unusable, n_zero=n_zero,
    )  # fmt: skip


def _spread_groups(file: pq.ParquetFile) -> list[int]:
    """Returns the row groups to read: all, or so many, spread evenly, as hold `MOST_ROWS` rows."""
    n_groups, n_rows = file.metadata.num_row_groups, file.metadata.num_rows
    n_read = max(1, min(n_groups, int(n_groups * MOST_ROWS / max(n_rows, 1))))
    return np.unique(np.linspace(0, n_groups - 1, n_read).astype(int)).tolist() if n_rows else []
