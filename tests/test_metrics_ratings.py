"""Metrics of predictions: values, per-user parts that add up, and errors that are called by their name."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedeval import METRICS, evaluate
from fedeval.metrics.ratings import NotAnRMSEError, SeenRowsError, refuse_wrong_rmse
from fedprep.errors import EvaluationError
from tests import reference_metrics as reference

RATINGS = ["rmse", "mae"]
BINARY = ["accuracy", "balanced_accuracy", "logloss", "ece"]


def world(seed: int, n: int = 40) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Predictions in (0, 1) and truth with rating and label, in different orders."""
    rng = np.random.default_rng(seed)
    ids = {"user_id": rng.integers(0, 5, n), "item_id": np.arange(n)}
    recs = pl.DataFrame(ids | {"score": rng.random(n).round(3)})
    truth = pl.DataFrame(
        ids | {"rating": rng.integers(1, 6, n) / 1.0, "label": rng.integers(0, 2, n)}
    )
    return recs[rng.permutation(n)], truth[rng.permutation(n)]


def rows(recs: pl.DataFrame, truth: pl.DataFrame, target: str) -> tuple[np.ndarray, np.ndarray]:
    both = truth.join(recs, on=["user_id", "item_id"])
    return both["score"].to_numpy(), both[target].to_numpy().astype(float)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_values_are_those_of_the_definitions(seed: int) -> None:
    recs, truth = world(seed)
    found = evaluate(recs, truth, RATINGS + BINARY).mean
    p, r = rows(recs, truth, "rating")
    assert found["rmse"] == pytest.approx(math.sqrt(np.mean((p - r) ** 2)))
    assert found["mae"] == pytest.approx(np.mean(np.abs(p - r)))
    p, y = rows(recs, truth, "label")
    assert found["accuracy"] == pytest.approx(np.mean((p >= 0.5) == y))
    each = [np.mean((p >= 0.5)[y == c] == c) for c in (0, 1)]
    assert found["balanced_accuracy"] == pytest.approx(np.mean(each))
    given_to_truth = np.clip(np.where(y == 1, p, 1 - p), 2**-52, 1)
    assert found["logloss"] == pytest.approx(np.mean(-np.log(given_to_truth)))
    assert found["ece"] == pytest.approx(
        reference.expected_calibration_error(p.tolist(), y.tolist())
    )


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_users_sums_add_up_to_the_value_of_all_rows(seed: int) -> None:
    recs, truth = world(seed)
    found = evaluate(recs, truth, RATINGS + BINARY)
    for name in RATINGS + BINARY:
        finish = METRICS[name].finish
        assert finish is not None
        assert found.mean[name] == pytest.approx(float(finish(found.sums[name].sum(axis=0))))
        for user, value in zip(*found.per_user.select("user_id", name), strict=True):
            one = truth.filter(pl.col("user_id") == user)
            alone = evaluate(recs, one, name).mean[name]
            assert value == pytest.approx(alone, nan_ok=True), (name, user)


def test_the_interval_of_a_value_of_all_rows_is_over_resampled_users() -> None:
    recs, truth = world(7)
    found = evaluate(recs, truth, ["rmse", "ece"])
    one = found.interval("rmse", n_resamples=500)
    assert one.low < found.mean["rmse"] < one.high
    assert one.n == found.counts["users"] == 5
    clients = [0, 0, 1, 1, 1]
    assert found.interval("rmse", clients, n_resamples=100).n_units == 2


def test_scikit_learn_gives_the_same_values() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    recs, truth = world(3, 200)
    found = evaluate(recs, truth, RATINGS + BINARY).mean
    p, y = rows(recs, truth, "label")
    assert found["logloss"] == pytest.approx(sklearn.log_loss(y, p), abs=1e-9)
    assert found["balanced_accuracy"] == pytest.approx(
        sklearn.balanced_accuracy_score(y, p >= 0.5), abs=1e-9
    )
    p, r = rows(recs, truth, "rating")
    assert found["rmse"] == pytest.approx(sklearn.root_mean_squared_error(r, p), abs=1e-9)


def test_a_probability_of_one_half_says_yes() -> None:
    ids = {"user_id": [0, 0, 0], "item_id": [0, 1, 2]}
    truth = pl.DataFrame(ids | {"label": [1, 0, 0]})
    found = evaluate(pl.DataFrame(ids | {"score": [0.5, 0.5, 0.4]}), truth, BINARY[:2]).mean
    assert found == {"accuracy": pytest.approx(2 / 3), "balanced_accuracy": pytest.approx(0.75)}


def test_a_missing_class_is_nan_with_a_reason() -> None:
    recs = {"user_id": [1, 2], "item_id": [1, 1], "score": [0.9, 0.2]}
    truth = {"user_id": [1, 2], "item_id": [1, 1], "label": [1, 1]}
    found = evaluate(recs, truth, ["balanced_accuracy", "accuracy"])
    assert math.isnan(found.mean["balanced_accuracy"])
    assert "no row" in found.reasons["balanced_accuracy"]
    assert found.mean["accuracy"] == 0.5


def test_rows_without_a_prediction_are_counted_and_told() -> None:
    recs = {"user_id": [1, 9], "item_id": [1, 9], "score": [4.0, 1.0]}
    truth = {"user_id": [1, 2], "item_id": [1, 1], "rating": [3.0, 5.0]}
    found = evaluate(recs, truth, "rmse")
    assert found.mean["rmse"] == 1.0
    assert found.counts["predictions"] == 1
    assert found.counts["unpredicted"] == 1
    assert found.warnings == ("1 rows of truth have no prediction and are left out",)


def test_an_mse_that_is_called_rmse_is_refused_by_name() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(1, 6, 1000).astype(float)
    prediction = truth + rng.normal(0, 0.7743, 1000)
    rmse = float(np.sqrt(np.mean((prediction - truth) ** 2)))
    assert refuse_wrong_rmse(rmse, prediction, truth) == rmse
    with pytest.raises(NotAnRMSEError, match="is called RMSE, but is the MSE"):
        refuse_wrong_rmse(rmse**2, prediction, truth)
    with pytest.raises(NotAnRMSEError, match="is not the RMSE of these rows"):
        refuse_wrong_rmse(0.2, prediction, truth)


def test_an_error_on_training_rows_is_refused_by_name() -> None:
    recs, truth = world(1)
    with pytest.raises(SeenRowsError, match="3 of 40 rows of truth are training rows"):
        evaluate(recs, truth, "rmse", train=truth.head(3))


@pytest.mark.parametrize(
    ("score", "label", "told"),
    [
        ([-1.5, 0.5], [0, 1], "are no probabilities"),
        ([0.5, 0.5], [0, 3], "0 and 1"),
        ([math.nan, 0.5], [0, 1], "NaN"),
        ([math.inf, 0.5], [0, 1], "infinite"),
        ([None, 0.5], [0, 1], "missing"),
    ],
)
def test_scores_and_labels_that_fit_no_class_are_refused(
    score: list[float], label: list[int], told: str
) -> None:
    ids = {"user_id": [1, 2], "item_id": [1, 1]}
    with pytest.raises(EvaluationError, match=told):
        evaluate(ids | {"score": score}, ids | {"label": label}, "logloss")


def test_predictions_and_truth_must_meet_row_by_row() -> None:
    ids = {"user_id": [1, 1], "item_id": [1, 1]}
    truth = {"user_id": [1], "item_id": [1], "rating": [1.0]}
    with pytest.raises(EvaluationError, match="repeat a prediction"):
        evaluate(ids | {"score": [0.1, 0.2]}, truth, "rmse")
    with pytest.raises(EvaluationError, match="no row of truth has a prediction"):
        evaluate({"user_id": [1], "item_id": [2], "score": [0.1]}, truth, "rmse")
    with pytest.raises(EvaluationError, match="needs a truth with a column 'label'"):
        evaluate({"user_id": [1], "item_id": [1], "score": [0.1]}, truth, "accuracy")
