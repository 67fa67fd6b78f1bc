"""How evenly a system serves the clients: their spread, the worst tenth, Jain's index.

A client's value is the mean over its users that have one. Every figure has a bootstrap interval in which
whole clients are drawn. Clients with few users have noisy means, and the spread over clients holds
that noise: with one test item a user, `hr@10` of a client of one user is 0 or 1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.per_user import metrics_of, with_clients
from fedeval.statistics.bootstrap import (
    Interval,
    bootstrap_interval,
    interval_of,
    resampled_sums,
)
from fedeval.statistics.comparison import Inference
from fedeval.statistics.values import defined
from fedprep.schema import CLIENT_ID

__all__ = ["QUANTILES", "client_summary", "client_values", "jains_index"]

Floats = npt.NDArray[np.float64]

QUANTILES = {
    "minimum": 0.0,
    "10 %": 0.1,
    "25 %": 0.25,
    "median": 0.5,
    "75 %": 0.75,
    "90 %": 0.9,
    "maximum": 1.0,
}

WORST = 0.1
"""The share of clients in the worst and in the best decile."""

BATCH = 1 << 20
"""Draws held at a time."""

SUMMARY: dict[str, pl.DataType] = {
    "metric": pl.String(),
    "statistic": pl.String(),
    "value": pl.Float64(),
    "low": pl.Float64(),
    "high": pl.Float64(),
    "n_clients": pl.Int64(),
    "n_clients_undefined": pl.Int64(),
    "n_users": pl.Int64(),
    "n_undefined": pl.Int64(),
    "reason": pl.String(),
}


def client_values(
    per_user: pl.DataFrame, clients: pl.DataFrame, metrics: Sequence[str] | None = None
) -> pl.DataFrame:
    """Returns a row per client: `client_id`, `n_users`, then for each metric its mean and `metric:n`.

    The mean is over the client's users with a value, `metric:n` of them; a client without any is NaN.

    Args:
        per_user: `user_id`, a float column a metric, NaN where undefined.
        clients: `user_id`, `client_id`.
        metrics: columns; None: all.

    Raises:
        EvaluationError: a column is missing, or a user without a client.
    """
    wanted = metrics_of(per_user, metrics)
    return (
        with_clients(per_user, clients)
        .with_columns(pl.col(wanted).fill_nan(None))
        .sort(CLIENT_ID)
        .group_by(CLIENT_ID, maintain_order=True)
        .agg(
            pl.len().cast(pl.Int64).alias("n_users"),
            *itertools.chain.from_iterable(
                (pl.col(m).mean().fill_null(math.nan), pl.col(m).count().alias(f"{m}:n"))
                for m in wanted
            ),
        )
    )


def client_summary(
    per_user: pl.DataFrame,
    clients: pl.DataFrame,
    metrics: Sequence[str] | None = None,
    *,
    lower_is_better: Collection[str] = (),
    inference: Inference | None = None,
) -> pl.DataFrame:
    """Returns a row per metric and statistic over clients, each with its interval.

    Statistics: `mean over users` (a client counts as often as it has users with a value) and `mean`
    over clients (each counts once); `deviation` (with n - 1); the quantiles of `QUANTILES`, each the
    value of a client (the ⌈q n⌉-th smallest); `worst decile` and `best decile`, the mean of the ⌈n / 10⌉
    lowest and highest clients; `jain`, Jain's index. Counts: clients with a value and without,
    users with a value and without. Clients without a value are left out.

    Intervals: percentile bootstrap, n clients drawn with replacement. The minimum and the maximum have
    none: a resample cannot go beyond the data.

    Args:
        per_user: `user_id`, a float column a metric, NaN where undefined.
        clients: `user_id`, `client_id`.
        metrics: columns; None: all.
        lower_is_better: metrics of which less is better: their worst decile is the highest.
        inference: how; its `interval` method is used for the two means alone.

    Raises:
        EvaluationError: a column is missing, or a user without a client.
    """
    how = inference or Inference()
    wanted = metrics_of(per_user, metrics)
    with_ids = with_clients(per_user, clients)
    table = client_values(per_user, clients, wanted)
    rows: list[dict[str, Any]] = []
    for metric in wanted:
        x = table[metric].to_numpy()
        over_users = bootstrap_interval(
            with_ids[metric].to_numpy(),
            with_ids[CLIENT_ID].to_numpy(),
            level=how.level,
            method=how.interval,
            n_resamples=how.n_resamples,
            seed=how.seed,
        )
        kept = np.sort(x[~np.isnan(x)])
        counts = {
            "metric": metric,
            "n_clients": kept.size,
            "n_clients_undefined": x.size - kept.size,
            "n_users": over_users.n,
            "n_undefined": over_users.n_undefined,
        }
        found = {"mean over users": over_users}
        found |= _over_clients(kept, how, worst_is_high=metric in lower_is_better)
        rows += [
            {
                **counts,
                "statistic": name,
                "value": interval.value,
                "low": interval.low,
                "high": interval.high,
                "reason": interval.reason,
            }
            for name, interval in found.items()
        ]
    return pl.DataFrame(rows, schema=SUMMARY)


def jains_index(values: npt.ArrayLike) -> float:
    """Returns (Σ x)² / (n Σ x²): 1 where all are equal, 1/n where one has everything.

    Undefined values are left out. NaN without a value, where all are 0 (everybody has the same, nothing),
    and with a negative value, for which it means nothing.

    Reference: Jain, Chiu, Hawe, A Quantitative Measure of Fairness and Discrimination, DEC Research Report
    TR-301, 1984.
    """
    x = defined(values).values
    if not x.size or x.min() < 0.0 or x.max() == 0.0:
        return math.nan
    x = x / x.max()  # so that no square is lost
    return float(x.sum() ** 2 / (x.size * (x**2).sum()))


def _over_clients(x: Floats, how: Inference, *, worst_is_high: bool) -> dict[str, Interval]:
    """Returns the statistics over clients; x: float64 (n_clients,), sorted, all defined."""
    n = x.size
    found = {
        "mean": bootstrap_interval(
            x, level=how.level, method=how.interval, n_resamples=how.n_resamples, seed=how.seed
        )
    }

    def add(name: str, value: float, resampled: Floats, reason: str = "") -> None:
        interval = interval_of(
            value, resampled, level=how.level, unit="clients", n=n, n_units=n, seed=how.seed
        )
        found[name] = replace(interval, reason=reason) if reason and n > 1 else interval

    deviations, jains = _resampled_spread(x, how)
    add("deviation", float(np.std(x, ddof=1)) if n > 1 else math.nan, deviations)
    for name, q in QUANTILES.items():
        at = max(math.ceil(q * n), 1)
        value = float(x[at - 1]) if n else math.nan
        if 0.0 < q < 1.0:
            add(name, value, _resampled_quantile(x, at, how))
        else:
            add(name, value, np.empty(0), "a resample cannot go beyond the data")
    lowest, (highest, of_resamples) = _decile(x, how), _decile(-x[::-1], how)
    ends = [lowest, (-highest, -of_resamples)]
    worst, best = ends[::-1] if worst_is_high else ends
    add("worst decile", *worst)
    add("best decile", *best)
    jain = jains_index(x)
    if math.isnan(jain):
        add("jain", jain, np.empty(0), "all values are 0, or one is negative")
    else:
        add("jain", jain, jains)
    return found


def _resampled_spread(x: Floats, how: Inference) -> tuple[Floats, Floats]:
    """Returns the deviation and Jain's index of each resample, from sums of x - mean and its square."""
    n = x.size
    if n < 2:
        return np.empty(0), np.empty(0)
    mean = float(x.mean())
    centred = x - mean
    sums = resampled_sums(
        np.column_stack([centred, centred**2]), n_resamples=how.n_resamples, seed=how.seed
    )
    variance = np.maximum(sums[:, 1] - sums[:, 0] ** 2 / n, 0.0) / (n - 1)
    squares = sums[:, 1] + 2.0 * mean * sums[:, 0] + n * mean**2  # Σ x²
    with np.errstate(divide="ignore", invalid="ignore"):
        jains = (sums[:, 0] + n * mean) ** 2 / (n * squares)
    return np.sqrt(variance), jains


def _resampled_quantile(x: Floats, at: int, how: Inference) -> Floats:
    """Returns the `at`-th smallest value of resamples of n values, drawn as what it is.

    The draws are positions ⌊n U⌋ in the sorted values, U uniform; the `at`-th smallest of n uniform
    numbers is Beta(at, n + 1 - at), so one number a resample says it all.
    """
    if not x.size:
        return x
    rng = np.random.default_rng(how.seed)
    place = rng.beta(at, x.size + 1 - at, how.n_resamples) * x.size
    return x[np.minimum(place.astype(np.int64), x.size - 1)]


def _decile(x: Floats, how: Inference) -> tuple[float, Floats]:
    """Returns the mean of the lowest ⌈n / 10⌉ of sorted values, and the same of resamples.

    Only the lowest draws are drawn: the first m of n sorted uniform numbers are E_1 + … + E_i over the sum
    of n + 1 exponential numbers E (Devroye, Non-Uniform Random Variate Generation, 1986, V.3.1).
    """
    n, m = x.size, math.ceil(WORST * x.size)
    if not n:
        return math.nan, np.empty(0)
    rng = np.random.default_rng(how.seed)
    parts = []
    step = max(1, BATCH // m)
    for done in range(0, how.n_resamples, step):
        rows = min(step, how.n_resamples - done)
        steps = np.cumsum(rng.standard_exponential((rows, m)), axis=1)
        rest = rng.standard_gamma(n + 1 - m, (rows, 1))
        place = (steps / (steps[:, -1:] + rest) * n).astype(np.int64)
        parts.append(x[np.minimum(place, n - 1)].mean(axis=1))
    return float(x[:m].mean()), np.concatenate(parts)
