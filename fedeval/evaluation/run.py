"""`evaluate`: from tables to an `Evaluation`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.evaluation.passes import Gathered, gather
from fedeval.evaluation.predictions import paired_sums
from fedeval.evaluation.request import Request, request_of
from fedeval.evaluation.result import Evaluation
from fedeval.metrics import Ask, asked
from fedeval.policy import Policy
from fedeval.protocol import Protocol
from fedeval.tables import SCORE
from fedprep.errors import EvaluationError
from fedprep.schema import ITEM_ID, USER_ID

__all__ = ["DEFAULT_METRICS", "evaluate"]

logger = logging.getLogger(__name__)

DEFAULT_METRICS = ("ndcg@10", "hr@10", "recall@10", "mrr@10")

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def evaluate(
    recs: Any,
    truth: Any,
    metrics: str | Iterable[str] = DEFAULT_METRICS,
    *,
    k: int | Iterable[int] | None = None,
    policy: Policy | None = None,
    order: Literal["auto", "rank", "score"] | None = None,
    min_relevance: float | None = None,
    protocol: Any = None,
    train: Any = None,
    items: Any = None,
    columns: Mapping[str, str] | None = None,
    truth_columns: Mapping[str, str] | None = None,
) -> Evaluation:
    """Returns the metrics of a table of recommendations, of any system.

    A table is a path (Parquet, CSV, Arrow, TREC, or a Run's folder) or a frame of polars, pandas or
    Arrow. Files are read block by block: recommendations may be larger than memory.

    Args:
        recs: `user_id`, `item_id`, and `rank` (from 1) or `score` (higher is better), in any order.
        truth: `user_id`, `item_id`, and `relevance` where it is not 1 (0: not relevant); `rating` or
            `label` for metrics of predictions, which compare them with `score`.
        metrics: names such as `"ndcg@10"`; `METRICS` has them all.
        k: cut-offs for names without one; None: the whole list.
        policy: how disagreements among libraries are settled; None: that of the protocol, or `Policy()`.
        order: `rank` or `score`: what lists go by, in place of the policy's `order`.
        min_relevance: relevance from which on a row of truth counts, in place of the policy's.
        protocol: to stand beside the numbers. A `Protocol` comes back as it was kept: with the digest of the
            truth, and with what was found in the lists of items that users have in train.
        train: training rows, `user_id` and `item_id`: popularity, coverage, history, what was seen.
        items: `item_id`, and `categories` or `embedding`.
        columns: our name to the recommendations' own, where they differ.
        truth_columns: our name to the truth's own.

    Raises:
        EvaluationError: a table, a name or a cut-off cannot be used.

    Example:
        >>> import polars as pl
        >>> recs = pl.DataFrame({"user_id": [1, 1], "item_id": [7, 8], "rank": [1, 2]})
        >>> truth = pl.DataFrame({"user_id": [1], "item_id": [8]})
        >>> evaluate(recs, truth, ["hr@1", "mrr@2"]).mean
        {'hr@1': 0.0, 'mrr@2': 0.5}
    """
    policy = policy or (protocol.policy if isinstance(protocol, Protocol) else Policy())
    policy = policy.with_choices(order, min_relevance)
    request = request_of(
        recs, truth, asked(metrics, k), policy,
        train=train, items=items, columns=columns, truth_columns=truth_columns,
    )  # fmt: skip
    try:
        return _result(request, protocol)
    except pl.exceptions.PolarsError as error:
        where = request.recs.where
        raise EvaluationError(f"the recommendations cannot be read: {error}", where=where) from None


def _result(request: Request, protocol: Any) -> Evaluation:
    rows_asked = request.of_kind("rows")
    sums, counts = paired_sums(request, rows_asked) if rows_asked else ({}, {})
    found = None
    evaluated: Mask = request.relevant.n_rows > 0
    if len(rows_asked) < len(request.asks):
        found = gather(request)
        evaluated = _evaluated(request, found)
        _refuse_none_in_common(request, found)
    counts |= _counts(request, found, evaluated)
    values = {} if found is None else dict(found.values)
    values |= {ask.text: _finish(ask, sums[ask.text]) for ask in rows_asked}
    columns, mean, reasons = {}, {}, {}
    for ask in request.asks:
        if ask.text in values:
            column = values[ask.text] if evaluated.all() else values[ask.text][evaluated]
            if ask.metric.kind == "accuracy" and not request.policy.users.startswith("relevant"):
                column = np.nan_to_num(column, nan=0.0)
            columns[ask.text] = column
        mean[ask.text], reason = _mean(ask, columns.get(ask.text), sums.get(ask.text), found)
        if reason:
            reasons[ask.text] = reason
    ids = request.names[USER_ID].of(request.users.ids[evaluated], request.dtype)
    warnings = tuple(_warnings(request, counts, found))
    for warning in warnings:
        logger.info(warning)
    if isinstance(protocol, Protocol):
        protocol = protocol.measured(request.policy, counts, request.told)
    return Evaluation(
        mean=mean,
        per_user=pl.DataFrame({USER_ID: ids, **columns}),
        counts=counts,
        policy=request.policy,
        protocol=protocol,
        reasons=reasons,
        warnings=warnings,
        sums={name: table[request.relevant.n_rows > 0] for name, table in sums.items()},
    )


def _finish(ask: Ask, sums: Floats) -> Floats:
    assert ask.metric.finish is not None
    values: Floats = ask.metric.finish(sums)
    return values


def _mean(
    ask: Ask, column: Floats | None, sums: Floats | None, found: Gathered | None
) -> tuple[float, str]:
    """The value of all users, lists or rows, and why it is undefined, or for how many users."""
    why = ask.metric.undefined or "no relevant item"
    if column is None or sums is not None:
        if sums is not None:
            value = float(_finish(ask, sums.sum(axis=0)))
        else:
            assert found is not None
            value = found.overall[ask.text]
        return value, f"undefined: {why}" if np.isnan(value) else ""
    if not column.size:
        return float("nan"), "undefined: there is no user to average over"
    undefined = int(np.isnan(column).sum())
    if not undefined:
        return float(column.mean()), ""
    if undefined == column.size:
        return float("nan"), f"undefined for every user: {why}"
    return float(np.nanmean(column)), f"undefined for {undefined:,} of {column.size:,} users: {why}"


def _evaluated(request: Request, found: Gathered) -> Mask:
    there: Mask = request.relevant.n_rows > 0
    relevant: Mask = request.relevant.n_relevant > 0
    ways = {
        "relevant": relevant,
        "relevant_with_list": relevant & found.present,
        "truth": there,
        "truth_with_list": there & found.present,
        "list": found.present,
    }
    return ways[request.policy.users]


def _refuse_none_in_common(request: Request, found: Gathered) -> None:
    there = request.relevant.n_rows > 0
    if request.policy.users.startswith("relevant") and not request.relevant.n_relevant.any():
        raise EvaluationError(
            "no user has a relevant item",
            expected="a relevance above 0 in the truth",
            where=f"{int(there.sum()):,} users of the truth",
        )
    if (there & found.present).any() or request.policy.no_common_user == "zero":
        return
    names = request.names[USER_ID]
    other = request.recs.rows.lazy().select(pl.col(USER_ID).head(1)).collect()[USER_ID].to_numpy()
    raise EvaluationError(
        "the recommendations and the truth have no user in common",
        where=f"recommendations for users such as {names.text(other)[0]}",
        expected=f"users of the truth, such as {names.text(request.users.ids[there][:1])[0]}",
        hint="are the ids of another Dataset, or coded otherwise?",
    )


def _counts(request: Request, found: Gathered | None, evaluated: Mask) -> dict[str, int]:
    relevant = request.relevant
    there = relevant.n_rows > 0
    counts = {"users": int(evaluated.sum()), "truth_rows": request.truth.whole().height}
    if found is None:
        return counts
    listed = evaluated & found.present
    counts |= {
        "users_without_list": int((evaluated & ~found.present).sum()),
        "users_without_relevant": int((there & (relevant.n_relevant == 0)).sum()),
        "users_without_truth": found.strangers + int((found.present & ~there).sum()),
        "rows": found.n_rows,
        "truth_duplicates": relevant.duplicates,
        **found.counts,
        "short_lists": int((found.length[listed] < _largest_cut(request)).sum()),
    }
    return counts if request.train is None else counts | _beside_train(request, evaluated)


def _beside_train(request: Request, evaluated: Mask) -> dict[str, int]:
    assert request.train is not None
    train = request.train.whole(USER_ID, ITEM_ID)
    truth = request.truth.whole(USER_ID, ITEM_ID)
    row = request.users.find(train[USER_ID])
    known = np.zeros(len(evaluated) + 1, bool)
    known[row] = True  # the last place takes users that have no row
    items = train[ITEM_ID].unique().cast(pl.Int32)
    return {
        "unknown_users": int((evaluated & ~known[:-1]).sum()),
        "cold_truth_rows": int((~pl.Series(request.relevant.item).is_in(items.implode())).sum()),
        "seen_truth": truth.join(train, on=[USER_ID, ITEM_ID], how="semi").height,
    }


def _largest_cut(request: Request) -> int:
    return max((ask.k for ask in request.asks if ask.k is not None), default=0)


TIED = {
    "item_id": "item id",
    "text_descending": "item id as text, descending",
    "average": "every order at once",
}

WARNINGS = {
    "users_without_list": "{n} of {users} users have no list: they score 0",
    "short_lists": "{n} of {users} lists are shorter than {k} items",
    "duplicates": "{n} repeats of an item in a list were passed over",
    "rank_gaps": "{n} lists leave out ranks: they were closed up",
    "contradictions": "rank and score contradict each other at {n} places: ordered by {key} (--order)",
    "tied_ranks": "{n} places share a rank with another item: ordered by {ties}",
    "tied_scores": "{n} places have the score of the place before: ordered by {ties}",
    "unpredicted": "{n} rows of truth have no prediction and are left out",
    "unknown_items": "{n} items that are recommended are in no table of items or train",
    "seen_truth": "{n} rows of truth are training rows: lists without seen items cannot hit them",
    "seen_recommended": "{n} places are taken by items that the user has in train",
}


def _warnings(request: Request, counts: Mapping[str, int], found: Gathered | None) -> Iterable[str]:
    users, k = f"{counts['users']:,}", _largest_cut(request)
    for name, text in WARNINGS.items():
        averaged = name == "tied_scores" and request.policy.ties == "average"
        if counts.get(name) and not averaged:
            yield text.format(
                n=f"{counts[name]:,}",
                users=users,
                k=k,
                key=request.key,
                ties=TIED[request.policy.ties],
            )
    if counts.get("equal_scores") and counts["equal_scores"] >= _places_behind_first(found):
        yield "every score is the same: the order is that of the ranks alone"
    if found is not None and SCORE in request.recs and request.key == SCORE:
        low, high = request.recs.range(SCORE)
        if low == high and counts["rows"] > counts["users"]:
            yield "every score is the same: the order is that of item ids alone"


def _places_behind_first(found: Gathered | None) -> int:
    """Places looked at that have one before them in their list."""
    return 0 if found is None else int(np.maximum(found.length - 1, 0).sum())
