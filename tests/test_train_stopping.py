"""The best round, and the end of patience."""

from __future__ import annotations

import math

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprep.errors import TrainingError
from fedtrain.plan import Stop
from fedtrain.stopping import best_round, history_of, improvements, require_metric, should_stop

NDCG = "ndcg@10/valid"


def history(*values: float, every: int = 1) -> dict[str, list[tuple[int, float]]]:
    """Values of one metric in rounds 1, 1 + every …"""
    return {NDCG: [(1 + every * place, value) for place, value in enumerate(values)]}


numbers = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, math.nan, math.inf, -math.inf]))


@given(values=numbers, mode=st.sampled_from(["max", "min"]))
@settings(deadline=None)
def test_the_best_round_has_the_first_of_the_best_finite_values(
    values: list[float], mode: str
) -> None:
    stop = Stop(metric=NDCG, mode=mode)  # type: ignore[arg-type]
    finite = [value for value in values if math.isfinite(value)]
    found = best_round(history(*values), stop)
    if finite:
        assert found == 1 + values.index(max(finite) if mode == "max" else min(finite))
    else:
        assert found is None


def test_without_a_metric_the_last_round_is_the_best() -> None:
    assert best_round({"a": [(1, 0.5), (4, 0.1)], "b": [(3, 0.2)]}, Stop()) == 4
    assert best_round({}, Stop()) is None


@pytest.mark.parametrize(
    ("values", "stop", "stops"),
    [
        ((0.1, 0.3, 0.2, 0.2), Stop(metric=NDCG, patience=2), True),
        ((0.1, 0.3, 0.2, 0.2), Stop(metric=NDCG, patience=3), False),
        ((0.1, 0.3, 0.2, 0.4), Stop(metric=NDCG, patience=1), False),
        ((0.1, 0.3, 0.3), Stop(metric=NDCG, patience=1), True),
        ((0.1, 0.3, 0.2, 0.2), Stop(metric=NDCG, patience=0), False),
        ((0.3, 0.1, 0.2), Stop(metric=NDCG, patience=1, mode="min"), True),
        ((0.3, 0.2, 0.1), Stop(metric=NDCG, patience=1, mode="min"), False),
        ((0.50, 0.51, 0.52), Stop(metric=NDCG, patience=2, min_delta=0.1), True),
        ((0.50, 0.55, 0.65), Stop(metric=NDCG, patience=2, min_delta=0.1), False),
        ((0.5, math.nan, math.nan), Stop(metric=NDCG, patience=2), True),
        ((math.nan, math.nan), Stop(metric=NDCG, patience=2), True),
        ((math.nan, 0.1, 0.2), Stop(metric=NDCG, patience=1), False),
        ((), Stop(metric=NDCG, patience=1), False),
    ],
)
def test_patience_ends_after_so_many_values_without_an_improvement(
    values: tuple[float, ...], stop: Stop, stops: bool
) -> None:
    assert (should_stop(history(*values), stop) is not None) == stops


def test_the_reason_names_metric_value_and_round() -> None:
    stop = Stop(metric=NDCG, patience=2)
    reason = should_stop(history(0.01, 0.0412, 0.04, 0.0, every=5), stop)
    assert reason == "ndcg@10/valid is no better than 0.0412 of round 6 after 2 more values"


def test_patience_counts_values_and_not_rounds() -> None:
    assert should_stop(history(0.3, 0.1, every=5), Stop(metric=NDCG, patience=2)) is None


def test_a_slow_rise_counts_against_the_last_improvement() -> None:
    found = improvements([(1, 0.5), (2, 0.57), (3, 0.61), (4, 0.70)], "max", 0.1)
    assert [better for _, _, better in found] == [True, False, True, False]


def test_a_metric_that_is_not_recorded_is_refused_with_the_nearest() -> None:
    require_metric(history(0.1), NDCG, "train.stop.metric")
    with pytest.raises(TrainingError) as caught:
        require_metric(history(0.1), "ndgc@10/valid", "train.stop.metric")
    assert "did you mean 'ndcg@10/valid'?" in str(caught.value)
    assert "train.stop.metric" in str(caught.value)


def test_a_history_is_read_from_the_table_of_rounds() -> None:
    rounds = pl.DataFrame(
        {"round": [2, 1, 1], "metric": ["a", "b", "a"], "value": [0.5, 1.0, 0.25]}
    )
    assert history_of(rounds) == {"a": [(1, 0.25), (2, 0.5)], "b": [(1, 1.0)]}
