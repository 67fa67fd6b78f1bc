"""Two systems on the same users: their difference, its interval and test, and what it could have seen."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.per_user import metrics_of, paired_frame, with_clients
from fedeval.statistics.bootstrap import METHODS, bootstrap_interval
from fedeval.statistics.corrections import CORRECTIONS, correct
from fedeval.statistics.distributions import noncentrality_for_power
from fedeval.statistics.effects import cohens_dz, smallest_difference, superiority, win_tie_loss
from fedeval.statistics.paired import PAIRED_TESTS, paired_test
from fedeval.statistics.repeats import repeated_metrics
from fedeval.statistics.values import paired_differences
from fedprep.errors import EvaluationError, nearest
from fedprep.schema import CLIENT_ID

__all__ = ["COMPARISON", "UNDECIDED", "Inference", "compare_systems", "compare_values", "decided"]

UNDECIDED = "undecided"

COMPARISON: dict[str, pl.DataType] = {
    "mean_a": pl.Float64(),
    "mean_b": pl.Float64(),
    "difference": pl.Float64(),
    "low": pl.Float64(),
    "high": pl.Float64(),
    "p": pl.Float64(),
    "smallest_p": pl.Float64(),
    "cohens_dz": pl.Float64(),
    "superiority": pl.Float64(),
    "wins": pl.Int64(),
    "ties": pl.Int64(),
    "losses": pl.Int64(),
    "smallest_difference": pl.Float64(),
    "n": pl.Int64(),
    "n_undefined": pl.Int64(),
    "n_units": pl.Int64(),
    "how": pl.String(),
    "reason": pl.String(),
}
"""The columns of a comparison; `p_corrected` and `better` are added when the family is whole."""

FAMILY = ("metric", "group", "a", "b")
"""What names a test in a table; not every table has groups."""


@dataclass(frozen=True, kw_only=True)
class Inference:
    """How intervals and tests are made, in one place.

    level: of intervals; 1 - level is the level of tests · interval: "percentile" or "bca" ·
    n_resamples: of the bootstrap · test: a name in `PAIRED_TESTS` · n_flips: of the randomisation test;
    the smallest p it can give is 1 / (n_flips + 1) · correction: a name in `CORRECTIONS` ·
    power: of the smallest difference · seed: of every draw.

    Raises:
        EvaluationError: an unknown name.
    """

    level: float = 0.95
    interval: str = "percentile"
    n_resamples: int = 1_000
    test: str = "randomisation"
    n_flips: int = 9_999
    correction: str = "holm"
    power: float = 0.8
    seed: int = 0

    def __post_init__(self) -> None:
        known: dict[str, Collection[str]] = {
            "interval": METHODS,
            "test": PAIRED_TESTS,
            "correction": CORRECTIONS,
        }
        for field, names in known.items():
            value = getattr(self, field)
            if value not in names:
                raise EvaluationError(f"no {field} is called '{value}'", hint=nearest(value, names))
        if not 0.0 < self.level < 1.0:
            raise EvaluationError(f"level is {self.level}", expected="between 0 and 1")

    @property
    def alpha(self) -> float:
        return 1.0 - self.level


def compare_systems(
    systems: Mapping[str, pl.DataFrame],
    metrics: Sequence[str] | None = None,
    *,
    against: str | None = None,
    clients: pl.DataFrame | None = None,
    lower_is_better: Collection[str] = (),
    inference: Inference | None = None,
) -> pl.DataFrame:
    """Returns a row per metric and pair of systems, in the order given.

    Columns: `metric`, `a`, `b`, those of `COMPARISON`, `n_only_a` and `n_only_b` (users that the other
    system lacks: left out), `same_as` (the metric before it that it repeats, see `repeated_metrics`, or
    ""), `p_corrected` (the family is the whole table, each distinct test once) and `better`: the system
    that is better at level alpha after correction, or "undecided". Intervals are of each difference by
    itself and not widened for their number.

    Args:
        systems: name → per-user frame (`user_id`, a float column a metric, NaN where undefined).
        metrics: columns to compare; None: those of the first system.
        against: compare every other system (a) with this one (b); None: all pairs.
        clients: `user_id`, `client_id`: whole clients are drawn and flipped; None: users are.
        lower_is_better: metrics, such as `rmse`, of which less is better: wins, superiority and `better`
            follow, the difference does not.
        inference: how; None: the defaults.

    Raises:
        EvaluationError: fewer than two systems, an unknown one, a metric that one lacks, a user twice,
            or no user in common.
    """
    how = inference or Inference()
    names = list(systems)
    if against is not None and against not in systems:
        raise EvaluationError(f"no system is called '{against}'", hint=nearest(against, names))
    if len(names) < 2:
        raise EvaluationError(f"{len(names)} systems are given", expected="at least two")
    wanted = list(metrics) if metrics is not None else metrics_of(systems[names[0]])
    pairs = (
        [(name, against) for name in names if name != against]
        if against is not None
        else list(itertools.combinations(names, 2))
    )
    rows: list[dict[str, Any]] = []
    for a, b in pairs:
        both, only_a, only_b = paired_frame(systems[a], systems[b], wanted, names=(a, b))
        codes = None
        if clients is not None:
            both = with_clients(both, clients)
            codes = both[CLIENT_ID].to_numpy()
        for metric in wanted:
            row = compare_values(
                both[f"{metric}:a"].to_numpy(),
                both[f"{metric}:b"].to_numpy(),
                codes,
                lower_is_better=metric in lower_is_better,
                inference=how,
            )
            rows.append(
                {"metric": metric, "a": a, "b": b, **row, "n_only_a": only_a, "n_only_b": only_b}
            )
    same = dict.fromkeys(wanted, "") | repeated_metrics(list(systems.values()), wanted)
    table = pl.DataFrame(rows, schema_overrides=COMPARISON)
    table = table.with_columns(same_as=pl.col("metric").replace_strict(same))
    order = {name: at for at, name in enumerate(wanted)}
    table = table.sort(pl.col("metric").replace_strict(order), maintain_order=True)
    return decided(table, how, lower_is_better=lower_is_better)


def compare_values(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    clusters: npt.ArrayLike | None = None,
    *,
    lower_is_better: bool = False,
    inference: Inference | None = None,
) -> dict[str, Any]:
    """Returns the fields of `COMPARISON` for two systems on the same users.

    Means, difference, wins and test are over the users for whom both values are defined; the others are
    `n_undefined`.

    Args:
        a, b: float (n,), the same users in the same order, NaN where undefined.
        clusters: (n,) client of each user, or None.
        lower_is_better: wins and superiority count where a is lower.
        inference: how; None: the defaults.

    Raises:
        EvaluationError: different lengths or infinite values.
    """
    how = inference or Inference()
    d = paired_differences(a, b)
    both = ~np.isnan(d)
    interval = bootstrap_interval(
        d,
        clusters,
        level=how.level,
        method=how.interval,
        n_resamples=how.n_resamples,
        seed=how.seed,
    )
    test = paired_test(d, how.test, clusters=clusters, n_resamples=how.n_flips, seed=how.seed)
    better = -d if lower_is_better else d
    counts = win_tie_loss(better)
    return {
        "mean_a": _mean(np.asarray(a, dtype=np.float64)[both]),
        "mean_b": _mean(np.asarray(b, dtype=np.float64)[both]),
        "difference": interval.value,
        "low": interval.low,
        "high": interval.high,
        "p": test.p,
        "smallest_p": test.smallest_p,
        "cohens_dz": cohens_dz(d),
        "superiority": superiority(better),
        "wins": counts.wins,
        "ties": counts.ties,
        "losses": counts.losses,
        "smallest_difference": smallest_difference(d, clusters, alpha=how.alpha, power=how.power),
        "n": interval.n,
        "n_undefined": interval.n_undefined,
        "n_units": interval.n_units,
        "how": f"{test.test}, {test.how}",
        "reason": "; ".join(dict.fromkeys(filter(None, (interval.reason, test.reason)))),
    }


def decided(
    table: pl.DataFrame, inference: Inference, *, lower_is_better: Iterable[str] = ()
) -> pl.DataFrame:
    """Returns a table of comparisons with `p_corrected`, the table being the family, and `better`.

    A test that repeats another (`same_as`) counts once, and has the other's corrected p.
    `smallest_difference`, which came in for a test by itself, becomes that of a test of the family: at the
    level that the correction asks of its smallest p-value, alpha over the number of tests.

    Args:
        table: `metric`, `a`, `b`, `same_as` and the columns of `COMPARISON`; `group` where there are some.
        inference: its correction and level.
        lower_is_better: metrics of which less is better.
    """
    keys = [name for name in FAMILY if name in table.columns]
    tested = table.filter(pl.col("same_as") == "")
    corrected = pl.Series("p_corrected", correct(tested["p"].to_numpy(), inference.correction))
    first = pl.when(pl.col("same_as") == "").then("metric").otherwise("same_as").alias("metric")
    found = table.select(first, *keys[1:]).join(
        tested.select(*keys, corrected), on=keys, how="left", maintain_order="left"
    )
    sign = pl.when(pl.col("metric").is_in(list(lower_is_better))).then(-1.0).otherwise(1.0)
    gain = pl.col("difference") * sign
    seen = (pl.col("p_corrected") <= inference.alpha) & pl.col("p_corrected").is_not_nan()
    seen_at = inference.alpha
    if inference.correction != "none":
        seen_at /= max(1, int(tested["p"].is_not_nan().sum()))
    return table.with_columns(
        found["p_corrected"], smallest_difference=_at_level(table, inference, seen_at)
    ).with_columns(
        better=pl.when(seen & (gain > 0))
        .then(pl.col("a"))
        .when(seen & (gain < 0))
        .then(pl.col("b"))
        .otherwise(pl.lit(UNDECIDED))
    )


def _at_level(table: pl.DataFrame, inference: Inference, level: float) -> pl.Series:
    """Returns the smallest differences, measured at alpha, as a test of another level finds them.

    They are proportional to the t test's noncentrality, which rests on the units drawn alone.
    """
    sizes = table["smallest_difference"]
    if level == inference.alpha:
        return sizes
    larger = {
        n: noncentrality_for_power(inference.power, level, n - 1)
        / noncentrality_for_power(inference.power, inference.alpha, n - 1)
        for n in table["n_units"].unique().to_list()
        if n > 1
    }
    return sizes * table["n_units"].replace_strict(larger, default=1.0, return_dtype=pl.Float64)


def _mean(values: npt.NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else float("nan")
