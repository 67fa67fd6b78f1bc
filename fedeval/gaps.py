"""Gaps between groups of users or clients, with intervals in which whole clients are drawn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.per_user import GROUP, metrics_of, same_ids, with_clients
from fedeval.statistics.bootstrap import Interval, interval_of, resampled_sums
from fedeval.statistics.comparison import Inference
from fedeval.statistics.corrections import correct
from fedeval.statistics.effects import cliffs_delta
from fedprep.errors import EvaluationError, nearest
from fedprep.schema import CLIENT_ID, USER_ID

__all__ = ["group_gaps"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

GAPS: dict[str, pl.DataType] = {
    "metric": pl.String(),
    "a": pl.String(),
    "b": pl.String(),
    "mean_a": pl.Float64(),
    "mean_b": pl.Float64(),
    "gap": pl.Float64(),
    "low": pl.Float64(),
    "high": pl.Float64(),
    "p": pl.Float64(),
    "cliffs_delta": pl.Float64(),
    "n_a": pl.Int64(),
    "n_b": pl.Int64(),
    "n_undefined": pl.Int64(),
    "n_units": pl.Int64(),
    "reason": pl.String(),
}


@dataclass(frozen=True)
class Grouped:
    """Rows of users with their group and what is drawn.

    frame: the metrics · group: int64 (n,), a place in `labels` · unit: int64 (n,), the client or user.
    """

    frame: pl.DataFrame
    labels: list[str]
    group: Ints
    unit: Ints
    unit_name: str


def group_gaps(
    per_user: pl.DataFrame,
    groups: pl.DataFrame,
    metrics: Sequence[str] | None = None,
    *,
    clients: pl.DataFrame | None = None,
    reference: str | None = None,
    inference: Inference | None = None,
) -> pl.DataFrame:
    """Returns the gaps between groups: a row per metric and pair of groups, mean_a - mean_b over users.

    Columns: `metric`, `a`, `b`, `mean_a`, `mean_b`, `gap`, the ends `low` and `high` of its percentile
    interval, `p` (gap over the deviation of its resamples, two-sided normal), `cliffs_delta` of the users'
    values, `n_a` and `n_b` users with a value, `n_undefined` without, `n_units` drawn, `reason`, and
    `p_corrected`, the family being the table. Each interval is of its gap by itself: the largest of
    many gaps is large by chance, which `p_corrected` takes into account and the interval does not.

    Whole clients are drawn where they are given, users otherwise. Where every client (user) is in one
    group alone, each group is drawn by itself and keeps its number of clients; where not, as with
    users of both genders at a client or overlapping groups, a drawn client brings all its users.

    Args:
        per_user: `user_id`, a float column a metric, NaN where undefined; to ask whether A beats B by more
            in one group than in another, the differences A - B.
        groups: `user_id`, `group`.
        metrics: columns; None: all.
        clients: `user_id`, `client_id`; None: users are drawn.
        reference: compare every other group (a) with this one (b); None: all pairs.
        inference: how; None: the defaults.

    Raises:
        EvaluationError: a column is missing, a user without a client, fewer than two groups with users,
            or no such reference.
    """
    how = inference or Inference()
    wanted = metrics_of(per_user, metrics)
    grouped = _grouped(per_user, groups, clients)
    pairs = _pairs(grouped.labels, reference)
    rows: list[dict[str, Any]] = []
    for metric in wanted:
        x = grouped.frame[metric].to_numpy()
        means = _resampled_means(x, grouped, how)
        for a, b in pairs:
            rows.append({"metric": metric, **_gap(x, grouped, a, b, means, how)})
    gaps = pl.DataFrame(rows, schema=GAPS)
    return gaps.with_columns(p_corrected=pl.Series(correct(gaps["p"].to_numpy(), how.correction)))


def _grouped(per_user: pl.DataFrame, groups: pl.DataFrame, clients: pl.DataFrame | None) -> Grouped:
    for column in (USER_ID, GROUP):
        if column not in groups.columns:
            raise EvaluationError(
                f"the table of groups has no column '{column}'",
                hint=nearest(column, groups.columns),
            )
    frame = with_clients(per_user, clients) if clients is not None else per_user
    table = same_ids(groups.select(USER_ID, GROUP), frame, USER_ID).drop_nulls().unique()
    joined = frame.join(table, on=USER_ID, how="inner", maintain_order="left")
    found = joined.select(pl.col(GROUP).unique().sort().cast(pl.String))[GROUP].to_list()
    if len(found) < 2:
        raise EvaluationError(
            f"{len(found)} groups have users with values", expected="at least two, to have a gap"
        )
    name = USER_ID if clients is None else CLIENT_ID
    return Grouped(
        joined,
        found,
        joined[GROUP].cast(pl.String).replace_strict(found, range(len(found))).to_numpy(),
        joined[name].rank("dense").to_numpy().astype(np.int64) - 1,
        "users" if clients is None else "clients",
    )


def _pairs(labels: list[str], reference: str | None) -> list[tuple[int, int]]:
    places = range(len(labels))
    if reference is None:
        return list(itertools.combinations(places, 2))
    if reference not in labels:
        raise EvaluationError(f"no group is called '{reference}'", hint=nearest(reference, labels))
    return [(place, labels.index(reference)) for place in places if labels[place] != reference]


def _resampled_means(x: Floats, grouped: Grouped, how: Inference) -> Floats:
    """Returns the groups' means in resamples: float64 (n_resamples, n_groups), NaN where none was drawn."""
    there, n_groups = ~np.isnan(x), len(grouped.labels)
    place = np.unique(grouped.unit[there], return_inverse=True)[1] * n_groups + grouped.group[there]
    cells, cell = np.unique(
        place, return_inverse=True
    )  # the pairs of unit and group that there are
    sums, sizes = np.bincount(cell, x[there]), np.bincount(cell).astype(np.float64)
    unit, group = cells // n_groups, cells % n_groups
    means = np.full((how.n_resamples, n_groups), np.nan)
    if np.unique(unit).size == cells.size:
        for at in np.unique(group).tolist():
            table = np.column_stack([sums[group == at], sizes[group == at]])
            drawn = resampled_sums(table, n_resamples=how.n_resamples, seed=(how.seed, at))
            means[:, at] = drawn[:, 0] / drawn[:, 1]
        return means
    table = np.zeros((int(unit.max()) + 1, 2 * n_groups))
    table[unit, group], table[unit, n_groups + group] = sums, sizes
    drawn = resampled_sums(table, n_resamples=how.n_resamples, seed=how.seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(drawn[:, :n_groups] / drawn[:, n_groups:])


def _gap(
    x: Floats, grouped: Grouped, a: int, b: int, means: Floats, how: Inference
) -> dict[str, Any]:
    there = ~np.isnan(x)
    of_a, of_b = (x[there & (grouped.group == place)] for place in (a, b))
    in_pair = (grouped.group == a) | (grouped.group == b)
    n_units = int(np.unique(grouped.unit[there & in_pair]).size)
    mean_a, mean_b = (float(v.mean()) if v.size else math.nan for v in (of_a, of_b))
    interval = interval_of(
        mean_a - mean_b,
        means[:, a] - means[:, b],
        level=how.level,
        unit=grouped.unit_name,
        n=min(of_a.size, of_b.size),
        n_units=n_units,
        seed=how.seed,
    )
    return {
        "a": grouped.labels[a],
        "b": grouped.labels[b],
        "mean_a": mean_a,
        "mean_b": mean_b,
        "gap": interval.value,
        "low": interval.low,
        "high": interval.high,
        "p": _two_sided(interval),
        "cliffs_delta": cliffs_delta(of_a, of_b),
        "n_a": of_a.size,
        "n_b": of_b.size,
        "n_undefined": int((~there & in_pair).sum()),
        "n_units": n_units,
        "reason": interval.reason,
    }


def _two_sided(interval: Interval) -> float:
    """Returns p of a value of 0, by the normal distribution and the deviation of the resamples."""
    if not interval.standard_error > 0.0:
        return math.nan
    return math.erfc(abs(interval.value) / (interval.standard_error * math.sqrt(2.0)))
