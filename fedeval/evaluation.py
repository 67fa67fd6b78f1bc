"""One call from tables to numbers: `evaluate(recs, truth, ["ndcg@10", "hr@10"])`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.hits import Hits, hits_of, truth_of
from fedeval.ids import Codes, codes_of, fits
from fedeval.lists import RANK, Lists, top_lists
from fedeval.metrics import Ask, asked
from fedeval.policy import Policy
from fedprep.errors import EvaluationError
from fedprep.schema import ITEM_ID, USER_ID

__all__ = ["DEFAULT_METRICS", "Evaluation", "evaluate"]

logger = logging.getLogger(__name__)

DEFAULT_METRICS = ("ndcg@10", "hr@10", "recall@10", "mrr@10")
RELEVANCE = "relevance"
BLOCK = 1 << 18
"""Rows read at a time: what they touch stays in the processor's cache."""


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    mean: each metric's mean over the users for whom it is defined; NaN where there is none.
    per_user: `user_id` and a float64 column a metric, a row for each user evaluated, in order of id;
        NaN where the metric is undefined for the user.
    counts: what was read, left out, removed.
    reasons: why a mean is NaN, or how many users it leaves out.
    warnings: what a reader of the numbers must know.
    """

    mean: dict[str, float]
    per_user: pl.DataFrame
    counts: dict[str, int]
    policy: Policy
    protocol: Any = None
    reasons: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        values = ", ".join(f"{name} {value:.4f}" for name, value in self.mean.items())
        return f"<Evaluation of {self.counts['users']:,} users: {values}>"


def evaluate(
    recs: pl.DataFrame,
    truth: pl.DataFrame,
    metrics: str | Iterable[str] = DEFAULT_METRICS,
    *,
    k: int | Iterable[int] | None = None,
    policy: Policy | None = None,
    protocol: Any = None,
) -> Evaluation:
    """Returns the metrics of a table of recommendations.

    Args:
        recs: `user_id`, `item_id`, and `rank` (from 1) or `score` (higher is better), in any order.
        truth: `user_id`, `item_id`, and `relevance` where it is not 1.
        metrics: names such as `"ndcg@10"`; `METRICS` has them all.
        k: cut-offs for names without one; None: the whole list.
        policy: how disagreements among libraries are settled; None: `Policy()`.
        protocol: carried along, to stand beside the numbers.

    Raises:
        EvaluationError: tables or names that cannot be used.
    """
    policy = policy or Policy()
    if RANK not in recs.columns and policy.order == "rank":
        policy = Policy(**{**policy.to_dict(), "order": "score"})  # type: ignore[arg-type]
    asks = asked(metrics, k)
    depth = _depth(recs, asks, policy)

    def blocks() -> Iterator[pl.DataFrame]:
        return recs.iter_slices(BLOCK)

    relevance = truth[RELEVANCE].cast(pl.Float64).to_numpy() if RELEVANCE in truth.columns else None
    users = codes_of(truth[USER_ID])
    items = _item_codes(recs, truth)
    lists = top_lists(blocks, users, items, depth, policy)
    truths = truth_of(users.find(truth[USER_ID]), items(truth[ITEM_ID]), relevance, users, policy)
    hits = hits_of(lists, truths, policy)
    evaluated = _evaluated(hits, lists, policy)
    if not (evaluated & lists.present).any() and policy.no_common_user == "error":
        raise EvaluationError(
            "the recommendations and the truth have no user in common",
            expected=f"users such as {users.ids[0]} (truth)",
            where=f"recommendations are for users such as {recs[USER_ID][0]}",
        )
    return _gather(recs, truth, asks, hits, lists, evaluated, policy, protocol)


def _gather(
    recs: pl.DataFrame,
    truth: pl.DataFrame,
    asks: list[Ask],
    hits: Hits,
    lists: Lists,
    evaluated: npt.NDArray[np.bool_],
    policy: Policy,
    protocol: Any,
) -> Evaluation:
    columns, mean, reasons = {}, {}, {}
    everyone = bool(evaluated.all())
    for ask in asks:
        options = {} if ask.parameter is None else {ask.metric.parameter: ask.parameter}
        values = ask.metric.function(hits, ask.k, **options)
        columns[ask.text] = values if everyone else values[evaluated]
        defined = columns[ask.text][~np.isnan(columns[ask.text])]
        mean[ask.text] = float(defined.mean()) if defined.size else float("nan")
    found = hits.users_ids(evaluated)
    counts = {
        "users": int(evaluated.sum()),
        "users_without_list": int((evaluated & ~lists.present).sum()),
        "users_without_relevant": int((hits.n_relevant == 0).sum()),
        "rows": recs.height,
        "truth_rows": truth.height,
        "duplicates": lists.counts.get("duplicates", 0),
        "truth_duplicates": hits.truth.duplicates,
    }
    return Evaluation(
        mean, pl.DataFrame({USER_ID: found, **columns}), counts, policy, protocol, reasons
    )


def _evaluated(hits: Hits, lists: Lists, policy: Policy) -> npt.NDArray[np.bool_]:
    relevant: npt.NDArray[np.bool_] = hits.n_relevant > 0
    if policy.users == "relevant":
        return relevant
    there: npt.NDArray[np.bool_] = hits.truth.n_rows > 0
    if policy.users == "truth":
        return there
    return there & lists.present if policy.users == "both" else lists.present


def _depth(recs: pl.DataFrame, asks: list[Ask], policy: Policy) -> int:
    cuts = [ask.k for ask in asks]
    if None not in cuts and policy.duplicates != "join":
        return max(k for k in cuts if k is not None)
    if policy.order == "rank":
        return int(recs[RANK].max())  # type: ignore[arg-type]
    return int(recs.group_by(USER_ID).len()["len"].max())  # type: ignore[arg-type]


def _item_codes(recs: pl.DataFrame, truth: pl.DataFrame) -> Any:
    if fits(recs[ITEM_ID]) and fits(truth[ITEM_ID]):
        return lambda column: column.cast(pl.Int32).to_numpy()
    codes: Codes = codes_of(recs[ITEM_ID], truth[ITEM_ID])
    return codes.find
