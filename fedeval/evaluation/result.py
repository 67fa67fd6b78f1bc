"""What `evaluate` returns: means, the values of every user, counts, and what to know about them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.metrics import Metric, asked
from fedeval.policy import Policy
from fedprep.errors import EvaluationError, nearest

if TYPE_CHECKING:
    from fedeval.statistics import Interval

__all__ = ["COUNTS", "Evaluation"]

COUNTS: dict[str, str] = {
    "users": "users evaluated",
    "users_without_list": "of them without a list: they score 0",
    "users_without_relevant": "users left out: no relevant item in the truth",
    "users_without_truth": "users left out: no row in the truth",
    "rows": "rows of recommendations",
    "truth_rows": "rows of truth",
    "duplicates": "repeats of an item in a list, passed over",
    "truth_duplicates": "repeats of a user and item in the truth, the largest relevance counts",
    "rank_gaps": "lists that leave ranks out, closed up",
    "tied_ranks": "places of a rank given twice, ordered by item id",
    "tied_scores": "places of equal scores, ordered by item id",
    "contradictions": "places at which rank and score disagree about which of two items is better",
    "equal_scores": "places of the score of the place before, ordered by rank",
    "short_lists": "lists shorter than the largest k",
    "unknown_users": "users evaluated who have no training row",
    "unknown_items": "items recommended that neither train nor the table of items has",
    "cold_truth_rows": "relevant rows of truth whose item has no training row",
    "seen_recommended": "places taken by an item that the user has in train",
    "seen_truth": "rows of truth that are training rows as well",
    "predictions": "rows with a prediction and a truth",
    "unpredicted": "rows of truth without a prediction, left out",
}
"""What each of `Evaluation.counts` counts. Those of ties, lists and train are there where they apply."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The values of one system.

    mean: each metric's value; the mean over the users for whom it is defined, or the one value of all
        lists or rows (`METRICS[…].kind` exposure, rows). NaN where there is none.
    per_user: `user_id` and a float64 column a metric, a row for each user evaluated, in ascending
        order; NaN where it is undefined. Metrics of kind exposure have no column.
    counts: what was read, left out, removed; `COUNTS` says what each is.
    reasons: by metric, why the value is NaN, or how many users have none.
    warnings: what a reader of the values must know.
    sums: by metric of kind rows, float64 (n, m): what the value is made of, a row for each user of the
        truth, in ascending order.
    """

    mean: dict[str, float]
    per_user: pl.DataFrame
    counts: dict[str, int]
    policy: Policy
    protocol: Any = None
    reasons: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    sums: dict[str, Floats] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        values = ", ".join(f"{name} {value:.4f}" for name, value in self.mean.items())
        return f"<Evaluation of {self.counts['users']:,} users: {values}>"

    def interval(
        self, metric: str, clusters: npt.ArrayLike | None = None, **options: Any
    ) -> Interval:
        """Returns a metric's bootstrap interval over users, or over clusters of them.

        Args:
            metric: one of `mean`.
            clusters: (n_users,), such as each user's client; None: users are drawn.
            options: `level`, `method`, `n_resamples`, `seed` of `statistics.bootstrap_interval`.

        Raises:
            EvaluationError: no such metric, or one that no users' values make up.
        """
        from fedeval.statistics import bootstrap_interval
        from fedeval.statistics.bootstrap import interval_of, resampled_sums

        if metric not in self.mean:
            raise EvaluationError(
                f"no metric '{metric}' was asked for", hint=nearest(metric, self.mean)
            )
        if metric not in self.sums:
            if metric not in self.per_user.columns:
                raise EvaluationError(
                    f"{metric} is one value of all lists: it has no interval over users",
                    hint="compare two systems by what their users get, such as novelty or arp",
                )
            return bootstrap_interval(self.per_user[metric].to_numpy(), clusters, **options)
        sums = self.sums[metric]
        if clusters is not None:
            if len(np.asarray(clusters)) != len(sums):
                raise EvaluationError(
                    f"{len(np.asarray(clusters)):,} clusters",
                    expected=f"one for each of {len(sums):,} users of the truth",
                )
            codes = np.unique(np.asarray(clusters), return_inverse=True)[1]
            sums = np.stack([np.bincount(codes, weights=column) for column in sums.T], axis=1)
        n_resamples, seed = int(options.pop("n_resamples", 1_000)), int(options.pop("seed", 0))
        drawn = resampled_sums(sums, n_resamples=n_resamples, seed=seed)
        finish = self._metric(metric).finish
        assert finish is not None
        return interval_of(
            self.mean[metric], finish(drawn), n=len(self.sums[metric]), n_units=len(sums), seed=seed,
            unit="users" if clusters is None else "clusters", **options,
        )  # fmt: skip

    def _metric(self, name: str) -> Metric:
        return asked(name)[0].metric

    def to_dict(self) -> dict[str, Any]:
        """Returns all but the users' values, ready for JSON: NaN is None."""
        described = self.protocol.to_dict() if hasattr(self.protocol, "to_dict") else self.protocol
        return {
            "metrics": {k: None if math.isnan(v) else v for k, v in self.mean.items()},
            "reasons": self.reasons,
            "counts": self.counts,
            "policy": self.policy.to_dict(),
            "protocol": described,
            "warnings": list(self.warnings),
        }
