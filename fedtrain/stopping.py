"""When a run has learned what it will: the best round so far, and the end of patience.

A history holds, by metric, its (round, value) pairs in order of rounds, as `rounds.jsonl` does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from fedprep.errors import TrainingError, nearest

if TYPE_CHECKING:
    import polars as pl

    from fedtrain.plan import Stop

__all__ = ["History", "best_round", "history_of", "improvements", "require_metric", "should_stop"]

Values = Sequence[tuple[int, float]]
History = Mapping[str, Values]


def history_of(rounds: pl.DataFrame) -> History:
    """Returns the history in a table with the columns round, metric, value."""
    found: dict[str, list[tuple[int, float]]] = {}
    for round, metric, value in rounds.select("round", "metric", "value").iter_rows():
        found.setdefault(metric, []).append((round, value))
    return {metric: sorted(values, key=lambda pair: pair[0]) for metric, values in found.items()}


def improvements(
    values: Values, mode: Literal["max", "min"], min_delta: float = 0.0
) -> Iterator[tuple[int, float, bool]]:
    """Yields (round, value, whether it is better by more than `min_delta` than the last that was).

    The first finite value is better than none. NaN and infinities never are.
    """
    sign = 1.0 if mode == "max" else -1.0
    best = -math.inf
    for round, value in values:
        better = math.isfinite(value) and (best == -math.inf or sign * value > best + min_delta)
        best = sign * value if better else best
        yield round, value, better


def best_round(history: History, stop: Stop) -> int | None:
    """Returns the round with the best value of `stop.metric`, of equals the first; None without a value.

    Where no metric is named the best round is the last one that has any.
    """
    if not stop.metric:
        return max((values[-1][0] for values in history.values() if values), default=None)
    found = improvements(history.get(stop.metric, ()), stop.mode)
    return max((round for round, _, better in found if better), default=None)


def should_stop(history: History, stop: Stop) -> str | None:
    """Returns why the run ends here, or None.

    It ends once `stop.patience` values in a row, 0 for any number, were no improvement by more than
    `stop.min_delta`.
    """
    if not (stop.metric and stop.patience):
        return None
    idle, best = 0, "no finite value"
    for round, value, better in improvements(
        history.get(stop.metric, ()), stop.mode, stop.min_delta
    ):
        idle = 0 if better else idle + 1
        best = f"{value:.6g} of round {round}" if better else best
    if idle < stop.patience:
        return None
    return f"{stop.metric} is no better than {best} after {idle} more values"


def require_metric(history: History, metric: str, where: str) -> None:
    """Refuses the name of a metric that is not recorded, once there are records.

    Args:
        history: of a run that has been measured once.
        metric: a metric that the plan asks for.
        where: the key that asks for it.

    Raises:
        TrainingError: the history lacks it.
    """
    if metric not in history:
        raise TrainingError(
            f"the run records no metric '{metric}'", where=where, hint=nearest(metric, history)
        )
