"""Which metrics repeat another one, so that a family of tests counts each distinct test once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["repeated_metrics"]


def repeated_metrics(frames: Sequence[pl.DataFrame], metrics: Sequence[str]) -> dict[str, str]:
    """Returns the metrics that repeat another one, each with the first one that it repeats.

    A metric repeats another where it gives every user of every system the other's value times one and
    the same positive number, as `recall@10` and `hr@10` do (and `precision@10`, a tenth of them) where
    every user has one relevant item. A paired test of it is then the same test once more, and has the
    same p.

    Args:
        frames: per-user frames of the systems that are compared.
        metrics: columns of each, in order; NaN where undefined.
    """
    first: dict[bytes, str] = {}
    repeated = {}
    for metric in metrics:
        values = np.concatenate([frame[metric].cast(pl.Float64).to_numpy() for frame in frames])
        earlier = first.setdefault(_fingerprint(values), metric)
        if earlier != metric:
            repeated[metric] = earlier
    return repeated


def _fingerprint(values: npt.NDArray[np.float64]) -> bytes:
    """Returns a digest that is equal for values that are equal but for a positive factor."""
    largest = float(np.nanmax(np.abs(values), initial=0.0, where=~np.isnan(values)))
    scaled = np.round(values / (largest or 1.0), 12) + 0.0  # -0.0 is 0.0
    scaled[np.isnan(scaled)] = np.nan  # one kind of NaN
    return hashlib.blake2b(scaled.tobytes()).digest()
