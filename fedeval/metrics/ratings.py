"""Metrics of predictions: a rating or a probability for rows whose truth is known, no list involved.

A metric is a few sums over rows, and what is made of them: the sums of users, clients or resamples add up
to those of all rows, and the metric is made of the total. A function `*_sums` takes `Predictions` and
returns float64 (n_users, m); `*_of` makes float64 (…) of float64 (…, m). NaN where there is no row, or
where a class is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fedprep.errors import EvaluationError

__all__ = [
    "NotAnRMSEError",
    "Predictions",
    "SeenRowsError",
    "accuracy_sums",
    "balanced_accuracy_of",
    "balanced_accuracy_sums",
    "calibration_error_of",
    "calibration_error_sums",
    "log_loss_sums",
    "mae_sums",
    "mean_of",
    "refuse_wrong_rmse",
    "rmse_of",
    "rmse_sums",
]

Floats = npt.NDArray[np.float64]

BINS = 15
"""Bins of the calibration error."""

LEAST = float(np.finfo(np.float64).eps)
"""Probabilities nearer to 0 and 1 than this are taken for this: one wrong certainty is not infinite."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """Rows with a prediction and a truth: float64 (n_rows,); row: int (n_rows,), the user, below n_users."""

    row: npt.NDArray[np.integer]
    n_users: int
    prediction: Floats
    truth: Floats

    def sums(self, *columns: npt.NDArray[Any] | None) -> Floats:
        """Returns float64 (n_users, m): each user's sum of each column; None: of ones."""
        summed = [np.bincount(self.row, weights=c, minlength=self.n_users) for c in columns]
        return np.stack(summed, axis=1).astype(np.float64)


def rmse_sums(rows: Predictions) -> Floats:
    """Root mean squared error: √(Σ (prediction − truth)² / rows), over all rows alike.

    Not the mean of users' errors. Its square is the MSE: see `refuse_wrong_rmse`.
    Equals `root_mean_squared_error` of scikit-learn.
    Reference: Gunawardana & Shani, "A survey of accuracy evaluation metrics of recommendation tasks",
    JMLR 2009.
    """
    return rows.sums((rows.prediction - rows.truth) ** 2, None)


def rmse_of(sums: Floats) -> Floats:
    """Returns √(squared errors / rows)."""
    return np.asarray(np.sqrt(mean_of(sums)))


def mae_sums(rows: Predictions) -> Floats:
    """Mean absolute error: Σ |prediction − truth| / rows.

    Reference: Gunawardana & Shani, JMLR 2009.
    """
    return rows.sums(np.abs(rows.prediction - rows.truth), None)


def mean_of(sums: Floats) -> Floats:
    """Returns sum / rows."""
    with np.errstate(invalid="ignore"):
        mean: Floats = sums[..., 0] / sums[..., 1]
    return mean


def accuracy_sums(rows: Predictions) -> Floats:
    """Share of rows whose class (1 from a probability of 0.5 on) is right.

    Says little where classes are uneven: against four sampled negatives a constant has 80 %.
    Reference: Sokolova & Lapalme, "A systematic analysis of performance measures for classification
    tasks", Information Processing & Management 2009.
    """
    _refuse_no_probability(rows)
    return rows.sums((rows.prediction >= 0.5) == (rows.truth == 1), None)


def balanced_accuracy_sums(rows: Predictions) -> Floats:
    """Mean of the shares of class 1 and of class 0 that are right; a constant has 0.5.

    Equals `balanced_accuracy_score` of scikit-learn.
    Reference: Brodersen, Ong, Stephan, Buhmann, "The balanced accuracy and its posterior distribution",
    ICPR 2010.
    """
    _refuse_no_probability(rows)
    yes, positive = rows.prediction >= 0.5, rows.truth == 1
    return rows.sums(yes & positive, positive, ~yes & ~positive, ~positive)


def balanced_accuracy_of(sums: Floats) -> Floats:
    """Returns (right of class 1 / rows of it + right of class 0 / rows of it) / 2."""
    with np.errstate(invalid="ignore"):
        both: Floats = (sums[..., 0] / sums[..., 1] + sums[..., 2] / sums[..., 3]) / 2
    return both


def log_loss_sums(rows: Predictions) -> Floats:
    """Mean of −log(probability given to what happened); natural logarithm.

    Equals `log_loss` of scikit-learn.
    Reference: Good, "Rational decisions", JRSS B 1952.
    """
    _refuse_no_probability(rows)
    given = np.where(rows.truth == 1, rows.prediction, 1 - rows.prediction)
    return rows.sums(-np.log(np.clip(given, LEAST, 1 - LEAST)), None)


def calibration_error_sums(rows: Predictions) -> Floats:
    """Expected calibration error: Σ_b rows_b / rows · |mean probability − share of class 1| in bin b.

    15 bins of equal width, each with its upper end; 0 is in the first.
    Reference: Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017.
    """
    _refuse_no_probability(rows)
    bins = np.clip(np.ceil(rows.prediction * BINS).astype(np.int64) - 1, 0, BINS - 1)
    cell, cells = rows.row * BINS + bins, rows.n_users * BINS
    sums = np.empty((rows.n_users, 2 * BINS + 1))
    for start, values in ((0, rows.prediction), (BINS, rows.truth)):
        summed = np.bincount(cell, weights=values, minlength=cells)
        sums[:, start : start + BINS] = summed.reshape(rows.n_users, BINS)
    sums[:, -1] = np.bincount(rows.row, minlength=rows.n_users)
    return sums


def calibration_error_of(sums: Floats) -> Floats:
    """Returns Σ_b |probabilities − class 1| / rows."""
    apart = np.abs(sums[..., :BINS] - sums[..., BINS : 2 * BINS]).sum(axis=-1)
    with np.errstate(invalid="ignore"):
        error: Floats = apart / sums[..., -1]
    return error


def refuse_wrong_rmse(
    claimed: float, prediction: Floats, truth: Floats, *, tolerance: float = 1e-3
) -> float:
    """Returns the RMSE of predictions if it is the one claimed.

    Args:
        claimed: the value that somebody called RMSE.
        prediction, truth: float64 (n,), of rows the model was not shown.
        tolerance: how far the claim may be off.

    Raises:
        NotAnRMSEError: the claim is the mean squared error, or nothing that these rows give.
    """
    squared = float(np.mean((prediction - truth) ** 2))
    found = float(np.sqrt(squared))
    if abs(claimed - found) <= tolerance:
        return found
    what = f"{claimed:g} is not the RMSE of these rows"
    if abs(claimed - squared) <= tolerance:
        what = f"{claimed:g} is called RMSE, but is the MSE"
    raise NotAnRMSEError(
        what,
        where=f"{len(truth):,} rows",
        expected=f"an RMSE of {found:.4f}, the root of {squared:.4f}",
        hint="measured on other rows? On rows that the model was shown an error proves nothing",
    )


class NotAnRMSEError(EvaluationError):
    """A value that is called RMSE is an MSE, or of other rows."""


class SeenRowsError(EvaluationError):
    """An error of predictions is measured on rows that the model was shown."""


def _refuse_no_probability(rows: Predictions) -> None:
    binary = np.isin(rows.truth, (0, 1))
    if not binary.all():
        raise EvaluationError(
            "a binary metric needs a truth of 0 and 1",
            where=f"{int((~binary).sum()):,} rows have another value",
        )
    low, high = rows.prediction.min(initial=0), rows.prediction.max(initial=1)
    if low < 0 or high > 1:
        raise EvaluationError(
            f"scores from {low:g} to {high:g} are no probabilities",
            expected="0 to 1",
            hint="a model's logits need the sigmoid first",
        )
