"""Metrics from sums: each client adds up its own users, and only sums and counts leave it.

Sums are exact (`fedeval.federated.fixed`), so in whatever order and whatever tree the clients are merged
the total is the same to the last bit. A mean is rounded once more when it is turned back into a
float, and meets the pooled mean to about 1e-16 of the largest value.

Reference: the mergeable states of Agarwal, Cormode, Huang, Phillips, Wei, Yi, Mergeable Summaries, PODS 2012.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.federated.fixed import UNIT
from fedeval.statistics.distributions import normal_quantile
from fedprep.errors import EvaluationError

__all__ = ["ClientSums", "merge"]

Ints = npt.NDArray[np.int64]

FIELDS = (
    "metrics",
    "sums",
    "squares",
    "unit",
    "counts",
    "undefined",
    "n_clients",
    "exposure",
)


@dataclass(frozen=True, eq=False)
class ClientSums:
    """The sums of one client, or of many merged; nothing of a single user can be read from many.

    sums, squares: Σ v and Σ v² over the users with a value, whole numbers in units of 2^-64, by metric ·
    counts: users with a value · undefined: users without · n_clients: merged so far ·
    exposure: int64 (n_items,), how often each item was recommended, or None.
    """

    metrics: tuple[str, ...]
    sums: tuple[int, ...]
    squares: tuple[int, ...]
    counts: tuple[int, ...]
    undefined: tuple[int, ...]
    n_clients: int
    exposure: Ints | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClientSums) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # it holds an array

    def __add__(self, other: ClientSums) -> ClientSums:
        return merge([self, other])

    def mean(self, metric: str) -> float:
        """Returns the mean over users, rounded once; NaN without any."""
        at = self._at(metric)
        return self.sums[at] / (self.counts[at] << UNIT) if self.counts[at] else math.nan

    def deviation(self, metric: str) -> float:
        """Returns the standard deviation over users (n - 1); NaN with fewer than two.

        From Σ v² - (Σ v)² / n, which cancels; here the sums are exact and only the squares are rounded, so
        spreads below about 1e-8 of the mean are lost.
        """
        at = self._at(metric)
        n = self.counts[at]
        if n < 2:
            return math.nan
        total, squares = Fraction(self.sums[at], 1 << UNIT), Fraction(self.squares[at], 1 << UNIT)
        return math.sqrt(max(float((squares - total * total / n) / (n - 1)), 0.0))

    def summary(self, level: float = 0.95) -> pl.DataFrame:
        """Returns a row per metric: `mean`, `deviation`, `standard_error`, `low`, `high`, and the counts.

        The interval is mean ± z s / √n: it takes users as independent. Where users of a client resemble
        each other it is too narrow, and the client bootstrap (which needs each client's sums) is right.
        """
        z = normal_quantile(0.5 * (1.0 + level))
        rows = []
        for at, metric in enumerate(self.metrics):
            mean, deviation, n = self.mean(metric), self.deviation(metric), self.counts[at]
            error = deviation / math.sqrt(n) if n else math.nan
            rows.append(
                {
                    "metric": metric,
                    "mean": mean,
                    "deviation": deviation,
                    "standard_error": error,
                    "low": mean - z * error,
                    "high": mean + z * error,
                    "n": n,
                    "n_undefined": self.undefined[at],
                    "n_clients": self.n_clients,
                }
            )
        return pl.DataFrame(rows)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, ready for JSON; sums are text, as they have more digits than a float."""
        return {
            "metrics": list(self.metrics),
            "sums": [str(s) for s in self.sums],
            "squares": [str(s) for s in self.squares],
            "unit": f"2^-{UNIT}",
            "counts": list(self.counts),
            "undefined": list(self.undefined),
            "n_clients": self.n_clients,
            "exposure": None if self.exposure is None else self.exposure.tolist(),
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> ClientSums:
        """Returns the sums that `to_dict` gave.

        Raises:
            EvaluationError: a field is missing, or the sums are in other units.
        """
        missing = [name for name in FIELDS if name not in fields]
        if missing or fields["unit"] != f"2^-{UNIT}":
            raise EvaluationError(
                f"these are no sums of a client: {', '.join(missing) or 'other units'}",
                expected=f"{', '.join(FIELDS)}; unit 2^-{UNIT}",
            )
        histogram = fields["exposure"]
        return cls(
            tuple(fields["metrics"]),
            tuple(int(s) for s in fields["sums"]),
            tuple(int(s) for s in fields["squares"]),
            tuple(fields["counts"]),
            tuple(fields["undefined"]),
            fields["n_clients"],
            None if histogram is None else np.asarray(histogram, dtype=np.int64),
        )

    def _at(self, metric: str) -> int:
        if metric not in self.metrics:
            raise EvaluationError(
                f"no sums of '{metric}'", expected=" | ".join(self.metrics) or "none are there"
            )
        return self.metrics.index(metric)


def merge(parts: Iterable[ClientSums]) -> ClientSums:
    """Returns the sums of several clients (or of sums merged before) together; the order changes nothing.

    Raises:
        EvaluationError: none is given, they are of other metrics, or exposures of other lengths.
    """
    given = list(parts)
    if not given:
        raise EvaluationError("there are no sums to merge")
    first = given[0]
    shape = None if first.exposure is None else first.exposure.shape
    for part in given:
        if part.metrics != first.metrics:
            raise EvaluationError(
                f"sums of {part.metrics} and of {first.metrics}", expected="the same metrics"
            )
        if (None if part.exposure is None else part.exposure.shape) != shape:
            raise EvaluationError("exposures of other items", expected="one place an item, in all")
    histograms = [part.exposure for part in given if part.exposure is not None]
    return ClientSums(
        first.metrics,
        _added([part.sums for part in given]),
        _added([part.squares for part in given]),
        _added([part.counts for part in given]),
        _added([part.undefined for part in given]),
        sum(part.n_clients for part in given),
        np.asarray(np.sum(histograms, axis=0, dtype=np.int64)) if histograms else None,
    )


def _added(parts: list[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(sum(column) for column in zip(*parts, strict=True))
