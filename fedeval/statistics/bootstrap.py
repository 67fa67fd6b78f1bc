"""Bootstrap intervals over users, or over clients that hold several users.

Every resample is an exact multinomial one: n users (or clients) drawn with replacement. Two ways to
draw it have the same distribution, and which one is taken follows from the data alone:

- values that repeat (`hr@10` has two, `ndcg@10` of leave-one-out eleven) are counted, and the counts of
  the distinct values are drawn, a matrix product of weights and values per block of resamples;
- values that do not are cut into blocks of 65,536; how many draws fall into each block is multinomial,
  and inside a block they are 16 random bits each.

Rows are sorted first, so the order of the users changes nothing. Memory follows the values and one
block, never the number of resamples times the number of users.

Reference: Efron, Annals of Statistics 7 (1), 1979; Efron and Tibshirani, An Introduction to the
Bootstrap, 1993, chapters 13 and 14; Field and Welsh, JRSS B 69 (3), 2007, for clusters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fedeval.statistics.distributions import normal_cdf, normal_quantile
from fedeval.statistics.values import defined, refuse_unless

__all__ = ["METHODS", "Interval", "bootstrap_interval", "interval_of", "resampled_sums"]

METHODS = ("percentile", "bca")
Floats = npt.NDArray[np.float64]

BLOCK = 1 << 16
"""Rows of a block: as many as 16 bits can name; a float64 column of it stays in the second cache."""

REPEATS = 32
"""From this many rows a distinct row on, drawing counts is cheaper than drawing rows."""

BATCH = 1 << 18
"""Weights or draws held at a time."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A value with its bootstrap interval.

    value: over all users · low, high: the interval's ends, NaN with a `reason` where there are none ·
    standard_error: deviation of the resamples · level: such as 0.95 · method: percentile or bca ·
    unit: what was drawn · n: users with a value · n_undefined: users without, left out ·
    n_units: users or clients drawn from · n_resamples, seed: of the draws.
    """

    value: float
    low: float
    high: float
    standard_error: float
    level: float
    method: str
    unit: str
    n: int
    n_undefined: int
    n_units: int
    n_resamples: int
    seed: int
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as plain values."""
        return asdict(self)


def bootstrap_interval(
    values: npt.ArrayLike,
    clusters: npt.ArrayLike | None = None,
    *,
    level: float = 0.95,
    method: str = "percentile",
    n_resamples: int = 1_000,
    seed: int = 0,
) -> Interval:
    """Returns the mean over users with its bootstrap interval.

    With `clusters` whole clients are drawn, and the mean of a resample is over the users of the clients
    drawn, Σ w s / Σ w n with s and n the sum and number of users of a client: right where the users of
    a client resemble each other, and no narrower than the truth.

    Edge cases: undefined values are left out and counted. No value: all NaN. One user (client): no
    interval. All values equal: an interval of no width, with the reason. An interval of a mean near
    0 or 1, or of fewer than about 30 users (clients), covers less often than its level says.

    Args:
        values: float (n,), a value a user, NaN where undefined.
        clusters: (n,) client of each user; None draws users.
        level: between 0 and 1.
        method: "percentile", or "bca": corrected for bias and skewness (Efron, JASA 82, 1987), with the
            acceleration from the jackknife in closed form and resamples equal to the value counted half.
        n_resamples: 1,000 settles the ends to about a tenth of the half-width.
        seed: equal seeds give equal intervals, in whatever order the users come.

    Raises:
        EvaluationError: infinite values, an unknown method, or a level outside (0, 1).
    """
    unit = "users" if clusters is None else "clients"
    kept = defined(values, clusters)
    sums, sizes = kept.units()
    resampled = resampled_sums(np.column_stack([sums, sizes]), n_resamples=n_resamples, seed=seed)
    with np.errstate(invalid="ignore"):
        means = resampled[:, 0] / resampled[:, 1]
    value = kept.mean()
    return interval_of(
        value,
        means,
        influence=_jackknife(sums, sizes, value) if method == "bca" else None,
        level=level,
        method=method,
        unit=unit,
        n=kept.n,
        n_undefined=kept.n_undefined,
        n_units=int(sums.size),
        seed=seed,
    )


def interval_of(
    value: float,
    resampled: Floats,
    *,
    influence: Floats | None = None,
    level: float = 0.95,
    method: str = "percentile",
    unit: str = "users",
    n: int,
    n_undefined: int = 0,
    n_units: int,
    seed: int,
) -> Interval:
    """Returns the interval that resampled values of a statistic give.

    Args:
        value: the statistic of all the data.
        resampled: float64 (n_resamples,); undefined ones are left out.
        influence: float64 (n_units,): the jackknife's mean minus the statistic without each unit; needed
            by "bca".
        level, method, unit, n, n_undefined, n_units, seed: as in `Interval`.

    Raises:
        EvaluationError: an unknown method, or a level outside (0, 1).
    """
    refuse_unless(0.0 < level < 1.0, f"level is {level}", "between 0 and 1, such as 0.95")
    refuse_unless(method in METHODS, f"no interval is called '{method}'", " | ".join(METHODS))
    refuse_unless(
        method != "bca" or influence is not None,
        "bca needs the influence of each unit",
        "percentile",
    )
    finite = resampled[np.isfinite(resampled)]
    low = high = error = math.nan
    reason = _no_interval(n, n_units, unit, finite)
    if not reason:
        ends = (0.5 * (1.0 - level), 0.5 * (1.0 + level))
        if influence is not None and method == "bca":
            ends = _bca_ends(value, finite, influence, ends)
        low, high = (float(end) for end in np.quantile(finite, ends))
        error = float(np.std(finite, ddof=1)) if finite.size > 1 else math.nan
        if np.ptp(finite) == 0.0:
            reason = "every resample has the same value: the interval has no width"
    return Interval(
        value=value,
        low=low,
        high=high,
        standard_error=error,
        level=level,
        method=method,
        unit=unit,
        n=n,
        n_undefined=n_undefined,
        n_units=n_units,
        n_resamples=int(resampled.size),
        seed=seed,
        reason=reason,
    )


def resampled_sums(
    columns: npt.ArrayLike, *, n_resamples: int, seed: int | Sequence[int]
) -> Floats:
    """Returns the column sums of multinomial resamples of the rows: float64 (n_resamples, m).

    Row i of a resample counts w_i times, (w_1 … w_n) ~ Multinomial(n; 1/n … 1/n), in all columns alike.
    No row: NaN.

    Args:
        columns: float (n, m), finite.
        n_resamples: at least 1.
        seed: of the draws; several numbers for draws apart from those of other tables.

    Raises:
        EvaluationError: no resample is asked for.
    """
    refuse_unless(n_resamples >= 1, f"{n_resamples} resamples are asked for", "at least 1")
    table = np.asarray(columns, dtype=np.float64)
    if not len(table):
        return np.full((n_resamples, table.shape[1]), np.nan)
    constant = np.flatnonzero((table == table[0]).all(axis=0))
    varying = np.setdiff1d(np.arange(table.shape[1]), constant)
    sums = np.empty((n_resamples, table.shape[1]))
    sums[:, constant] = len(table) * table[0, constant]  # such as the size of a user
    if varying.size:
        rng = np.random.default_rng(seed)
        rows = _in_order(table[:, varying])
        new = np.append(True, (rows[1:] != rows[:-1]).any(axis=1))
        if np.count_nonzero(new) * REPEATS <= len(rows):
            starts = np.flatnonzero(new)
            counts = np.diff(starts, append=len(rows))
            sums[:, varying] = _by_counts(rows[starts], counts, n_resamples, rng)
        else:
            sums[:, varying] = _by_rows(rows, n_resamples, rng)
    return sums


def _in_order(table: Floats) -> Floats:
    if table.shape[1] == 1:
        return np.sort(table, axis=0)
    return table[np.lexsort(table.T[::-1])]


def _by_counts(
    rows: Floats, counts: npt.NDArray[np.int64], n_resamples: int, rng: np.random.Generator
) -> Floats:
    n = int(counts.sum())
    step = max(1, BATCH // len(rows))
    parts = [
        rng.multinomial(n, counts / n, size=min(step, n_resamples - done)) @ rows
        for done in range(0, n_resamples, step)
    ]
    return np.concatenate(parts)


def _by_rows(rows: Floats, n_resamples: int, rng: np.random.Generator) -> Floats:
    columns = [np.ascontiguousarray(column) for column in rows.T]
    n = len(rows)
    if n <= BLOCK:
        step = max(1, BATCH // n)
        parts = []
        for done in range(0, n_resamples, step):
            draws = rng.integers(0, n, (min(step, n_resamples - done), n), dtype=np.uint16)
            parts.append(np.stack([column.take(draws).sum(axis=1) for column in columns], axis=1))
        return np.concatenate(parts)
    starts = range(0, n, BLOCK)
    sizes = np.array([min(BLOCK, n - start) for start in starts])
    drawn = rng.multinomial(n, sizes / n, size=n_resamples)  # (n_resamples, n_blocks)
    sums = np.zeros((n_resamples, len(columns)))
    for block, start in enumerate(starts):
        here = [column[start : start + BLOCK] for column in columns]
        for resample, count in enumerate(drawn[:, block].tolist()):
            draws = _draws(rng, int(sizes[block]), count)
            for place, column in enumerate(here):
                sums[resample, place] += column.take(draws).sum()
    return sums


def _draws(rng: np.random.Generator, size: int, count: int) -> npt.NDArray[np.uint16]:
    """Returns `count` draws from 0 … size - 1, uint16; of a full block the generator's bits as they are."""
    if size < BLOCK:
        return rng.integers(0, size, count, dtype=np.uint16)
    words = rng.bit_generator.random_raw(-(-count // 4))
    bits: npt.NDArray[np.uint16] = words.astype("<u8", copy=False).view("<u2")
    return bits[:count]


def _jackknife(sums: Floats, sizes: Floats, value: float) -> Floats:
    """Returns the mean of the leave-one-out means minus each of them."""
    n = float(sizes.sum())
    total = value * n
    if len(sums) < 2:
        return np.zeros(len(sums))
    left = np.sort((total - sums) / (n - sizes))  # so that the order of the users changes no bit
    return np.asarray(left.mean() - left)


def _bca_ends(
    value: float, resampled: Floats, influence: Floats, ends: tuple[float, float]
) -> tuple[float, float]:
    equal = np.abs(resampled - value) <= 1e-12 * max(abs(value), float(np.ptp(resampled)))
    below = float(((resampled < value) & ~equal).mean() + 0.5 * equal.mean())
    # A value outside all resamples would send the bias to infinity: half a resample is as far as
    # they can tell.
    least = 0.5 / resampled.size
    bias = normal_quantile(min(max(below, least), 1.0 - least))
    spread = float((influence**2).sum())
    acceleration = float((influence**3).sum()) / (6.0 * spread**1.5) if spread > 0.0 else 0.0
    shifted = []
    for end in ends:
        at = bias + normal_quantile(end)
        shifted.append(normal_cdf(bias + at / (1.0 - acceleration * at)))
    return shifted[0], shifted[1]


def _no_interval(n: int, n_units: int, unit: str, finite: Floats) -> str:
    if n == 0:
        return "no user has a value"
    if n_units < 2:
        return f"one of the {unit} has values: there is nothing to draw from"
    return "" if finite.size else "the value is undefined in every resample"
