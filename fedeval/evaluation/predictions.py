"""Rows of predictions paired with rows of truth, for metrics of ratings and of classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.evaluation.request import Request
from fedeval.metrics import Ask
from fedeval.metrics.ratings import Predictions, SeenRowsError
from fedeval.tables import SCORE
from fedprep.errors import EvaluationError, nearest
from fedprep.schema import ITEM_ID, USER_ID

__all__ = ["paired_sums"]

Floats = npt.NDArray[np.float64]


def paired_sums(request: Request, asks: Sequence[Ask]) -> tuple[dict[str, Floats], dict[str, int]]:
    """Returns each metric's sums, float64 (n_users, m), and counts of rows.

    Raises:
        SeenRowsError: a row of truth is a training row.
        EvaluationError: the truth lacks the column, a prediction is missing or doubled, or none fits.
    """
    truth = request.truth.whole()
    _refuse_seen(truth, request)
    keys = [USER_ID, ITEM_ID]
    wanted = truth.select(*keys).unique().lazy()
    recs = request.recs.rows.lazy().select(*keys, SCORE)
    found = recs.join(wanted, on=keys, how="semi").collect(engine="streaming")
    _refuse(found)
    pairs = truth.join(found, on=keys, how="inner", maintain_order="left")
    if not pairs.height:
        raise EvaluationError(
            "no row of truth has a prediction",
            expected="rows of the same user and item in both tables",
        )
    counts = {"predictions": pairs.height, "unpredicted": truth.height - pairs.height}
    row, n_users = request.users.find(pairs[USER_ID]), len(request.users)
    prediction = pairs[SCORE].cast(pl.Float64).to_numpy()
    sums = {}
    for ask in asks:
        target = _target(ask, truth)
        rows = Predictions(row, n_users, prediction, pairs[target].cast(pl.Float64).to_numpy())
        sums[ask.text] = ask.metric.function(rows)
    return sums, counts


def _target(ask: Ask, truth: pl.DataFrame) -> str:
    for name in ask.metric.target:
        if name in truth.columns:
            return name
    raise EvaluationError(
        f"{ask.text} needs a truth with a column '{ask.metric.target[0]}'",
        hint=nearest(ask.metric.target[0], truth.columns),
    )


def _refuse(found: pl.DataFrame) -> None:
    bad = found.filter(pl.col(SCORE).is_null() | ~pl.col(SCORE).is_finite())
    if bad.height:
        raise EvaluationError(
            f"{bad.height:,} of {found.height:,} predictions are missing, NaN or infinite"
        )
    twice = found.height - found.select(USER_ID, ITEM_ID).n_unique()
    if twice:
        raise EvaluationError(
            f"{twice:,} rows repeat a prediction", expected="one prediction a user and item"
        )


def _refuse_seen(truth: pl.DataFrame, request: Request) -> None:
    if request.train is None:
        return
    seen = truth.join(
        request.train.whole(USER_ID, ITEM_ID), on=[USER_ID, ITEM_ID], how="semi"
    ).height
    if seen:
        raise SeenRowsError(
            f"{seen:,} of {truth.height:,} rows of truth are training rows: an error on rows that the"
            " model was shown is no error of prediction",
            hint="leave them out of the truth",
        )
