"""Metrics of accuracy against their definitions, on small unfriendly tables, in any order and id."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedeval.evaluation.passes
import fedeval.hits
import fedeval.lists
import fedeval.tables
from fedeval import METRICS, PRESETS, Policy, evaluate
from fedeval.metrics import asked
from fedprep.errors import EvaluationError
from tests import reference_metrics as reference

ACCURACY = [name for name in METRICS if METRICS[name].kind == "accuracy" and name != "err"]
"""All but ERR, which depends on the largest relevance of the whole truth: it has a test by hand."""
METRICS_AT = [f"{name}@{k}" for name in ACCURACY if METRICS[name].cut for k in (1, 3, 20)]
METRICS_AT.append("r_precision")
AT_3 = [name for name in METRICS_AT if name.endswith("@3")]  # lists go on behind what is looked at


@st.composite
def tables(
    draw: st.DrawFn, *, n_users: int = 5, n_items: int = 7
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Recommendations and truth: repeats, ties and gaps of rank, users of one table alone, grades of 0."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = []
    for user in rng.permutation(n_users)[: rng.integers(1, n_users + 1)].tolist():
        length = int(rng.integers(1, 2 * n_items))
        rank = np.arange(1, length + 1)
        if rng.random() < 0.4:
            ties = bool(rng.random() < 0.5)
            rank = np.sort(rng.choice(length + 3, length, replace=ties))
            rank = rank - rank[0] + 1
        repeats = bool(rng.random() < 0.4) or length > n_items
        items = rng.choice(n_items, length, replace=repeats)
        rows += [(user, int(i), int(r)) for i, r in zip(items, rank, strict=True)]
    recs = pl.DataFrame(
        rows, schema={"user_id": pl.Int32, "item_id": pl.Int32, "rank": pl.Int32}, orient="row"
    )
    recs = recs.with_columns(score=pl.Series(rng.integers(0, 6, recs.height) / 4))
    n_truth = int(rng.integers(1, 14))
    grades = [1.0] if rng.random() < 0.5 else [0.0, 1.0, 2.0, 3.0]
    truth = pl.DataFrame(
        {
            "user_id": np.append(recs["user_id"][0], rng.integers(0, n_users + 1, n_truth)),
            "item_id": rng.integers(0, n_items, n_truth + 1),
            "relevance": np.append(1.0, rng.choice(grades, n_truth)),
        },
        schema_overrides={"user_id": pl.Int32, "item_id": pl.Int32},
    )
    return recs[rng.permutation(recs.height)], truth[rng.permutation(truth.height)]


def expected(lists: dict[Any, list[Any]], truth: pl.DataFrame, metric: str) -> dict[Any, float]:
    """The metric of each user who has a relevant item."""
    ask = asked(metric)[0]
    of = reference.ACCURACY[ask.name]
    told = reference.relevant(truth.rows())
    return {user: of(lists.get(user, []), rel, ask.k or 10**6) for user, rel in told.items() if rel}


def assert_equal(found: pl.DataFrame, lists: dict[Any, list[Any]], truth: pl.DataFrame) -> None:
    for metric in found.columns[1:]:
        wanted = expected(lists, truth, metric)
        assert found["user_id"].to_list() == sorted(wanted)
        for user, value in zip(*found.select("user_id", metric), strict=True):
            assert value == pytest.approx(wanted[user], abs=1e-12), (metric, user)


@settings(max_examples=80, deadline=None)
@given(tables(), st.sampled_from([METRICS_AT, AT_3]))
def test_lists_by_rank_have_the_values_of_the_definitions(
    drawn: tuple[pl.DataFrame, pl.DataFrame], metrics: list[str]
) -> None:
    recs, truth = drawn
    lists = reference.lists_by_rank(recs.drop("score").rows())
    found = evaluate(recs, truth, metrics)
    assert_equal(found.per_user, lists, truth)
    for name, value in found.mean.items():
        assert value == pytest.approx(
            reference.mean(expected(lists, truth, name).values()), abs=1e-12
        )


@settings(max_examples=60, deadline=None)
@given(tables(), st.sampled_from([METRICS_AT, AT_3]))
def test_lists_by_score_have_the_values_of_the_definitions(
    drawn: tuple[pl.DataFrame, pl.DataFrame], metrics: list[str]
) -> None:
    recs, truth = drawn
    lists = reference.lists_by_score(recs.drop("rank").rows())
    by_score = Policy(order="score")
    assert_equal(evaluate(recs.drop("rank"), truth, metrics).per_user, lists, truth)
    assert_equal(evaluate(recs, truth, metrics, policy=by_score).per_user, lists, truth)


@settings(max_examples=40, deadline=None)
@given(tables(), st.sampled_from([1, 3, 20]))
def test_counts_are_those_of_the_tables(drawn: tuple[pl.DataFrame, pl.DataFrame], k: int) -> None:
    recs, truth = drawn
    told, listed = reference.relevant(truth.rows()), set(recs["user_id"])
    users = {user for user, rel in told.items() if rel}
    kept = recs.filter(pl.col("user_id").is_in(list(told))).drop("score")
    lists = reference.lists_by_rank(recs.drop("score").rows())
    counts = evaluate(recs, truth, f"hr@{k}").counts
    assert counts["users"] == len(users)
    assert counts["users_without_list"] == len(users - listed)
    assert counts["users_without_relevant"] == len(told) - len(users)
    assert counts["users_without_truth"] == len(listed - set(told))
    assert counts["rows"] == recs.height
    assert counts["truth_rows"] == truth.height
    assert (
        counts["truth_duplicates"] == truth.height - truth.select("user_id", "item_id").n_unique()
    )
    assert counts["duplicates"] == reference.repeats_above(kept.rows(), k)
    assert counts["short_lists"] == sum(len(lists[user]) < k for user in users & listed)
    assert counts["rank_gaps"] == reference.lists_with_gaps(kept.rows(), k)


@settings(max_examples=30, deadline=None)
@given(tables(), st.sampled_from(["text", "wide", "negative"]))
def test_ids_of_any_kind_give_the_same_values(
    drawn: tuple[pl.DataFrame, pl.DataFrame], kind: str
) -> None:
    recs, truth = drawn

    def other(column: str) -> pl.Expr:
        if kind == "text":
            return pl.format("id {}", column).alias(column)
        return pl.col(column).cast(pl.Int64) * 2**40 if kind == "wide" else pl.col(column) - 3

    changed = [frame.with_columns(other("user_id"), other("item_id")) for frame in (recs, truth)]
    found, wanted = evaluate(*changed, METRICS_AT), evaluate(recs, truth, METRICS_AT)
    assert found.mean == wanted.mean
    assert found.counts == wanted.counts
    assert (
        found.per_user["user_id"].to_list()
        == wanted.per_user.select(other("user_id"))["user_id"].to_list()
    )


@settings(max_examples=30, deadline=None)
@given(drawn=tables(n_users=9), seed=st.integers(0, 9))
def test_blocks_of_rows_and_of_users_and_joins_change_nothing(
    drawn: tuple[pl.DataFrame, pl.DataFrame], seed: int
) -> None:
    recs, truth = drawn
    wanted = [
        evaluate(recs, truth, METRICS_AT),
        evaluate(recs, truth, METRICS_AT, policy=Policy(order="score")),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fedeval.tables, "BLOCK", 1 + seed)
        patch.setattr(fedeval.evaluation.passes, "CELLS", 20 * (1 + seed))
        patch.setattr(fedeval.evaluation.passes, "SORTED_ROWS", 7)
        patch.setattr(fedeval.hits, "DENSE", 10**6 * (seed % 2))
        patch.setattr(fedeval.hits, "BLOCK", 2)
        patch.setattr(fedeval.hits, "JOINED", 50)
        patch.setattr(fedeval.lists, "PAIRWISE", 2)
        for source in (recs, recs.lazy()):
            found = [
                evaluate(source, truth, METRICS_AT),
                evaluate(source, truth, METRICS_AT, policy=Policy(order="score")),
            ]
            for one, other in zip(found, wanted, strict=True):
                assert one.per_user.equals(other.per_user)
                assert one.counts == other.counts


@settings(max_examples=60, deadline=None)
@given(tables(n_users=2, n_items=5))
def test_averaged_ties_are_the_mean_over_every_order(
    drawn: tuple[pl.DataFrame, pl.DataFrame],
) -> None:
    recs, truth = drawn
    recs = recs.unique(["user_id", "item_id"], keep="first", maintain_order=True).drop("rank")
    found = evaluate(recs, truth, METRICS_AT, policy=Policy(ties="average")).per_user
    told = reference.relevant(truth.rows())
    for user in found["user_id"]:
        scored = {item: score for u, item, score in recs.rows() if u == user}
        for metric in METRICS_AT:
            ask = asked(metric)[0]
            of = reference.ACCURACY[ask.name]
            orders = reference.every_order(scored)
            wanted = reference.mean(of(order, told[user], ask.k or 10**6) for order in orders)
            value = found.filter(pl.col("user_id") == user)[metric].item()
            assert value == pytest.approx(wanted, abs=1e-12), metric


@settings(max_examples=30, deadline=None)
@given(tables(n_users=2, n_items=5))
def test_items_left_out_can_be_tied_behind_the_list(
    drawn: tuple[pl.DataFrame, pl.DataFrame],
) -> None:
    recs, truth = drawn
    recs = recs.unique(["user_id", "item_id"], keep="first", maintain_order=True).drop("rank")
    policy = Policy(ties="average", unlisted="tied")
    items = pl.DataFrame({"item_id": range(5)})
    truth = truth.filter(pl.col("item_id") < 5)
    everything = recs.filter(pl.col("user_id") == recs["user_id"][0])
    # The same lists, written out: what is left out has the lowest score of all.
    rest = items.with_columns(user_id=pl.lit(recs["user_id"][0], pl.Int32)).with_columns(
        pl.col("item_id").cast(pl.Int32), score=pl.lit(-9.0)
    )
    written = pl.concat([everything, rest.select(everything.columns)]).unique(
        ["user_id", "item_id"], keep="first", maintain_order=True
    )
    truth = truth.filter(pl.col("user_id") == recs["user_id"][0])
    if not truth.height or truth["relevance"].max() == 0:
        return
    names = [*METRICS_AT, "ndcg", "precision"]  # of the whole list too
    found = evaluate(everything, truth, names, policy=policy, items=items).per_user
    wanted = evaluate(written, truth, names, policy=Policy(ties="average")).per_user
    for name in names:
        assert found[name].item() == pytest.approx(wanted[name].item(), abs=1e-12), name


@settings(max_examples=40, deadline=None)
@given(tables())
def test_auc_is_the_share_of_pairs_in_the_right_order(
    drawn: tuple[pl.DataFrame, pl.DataFrame],
) -> None:
    recs, truth = drawn
    # Of a repeated item the best score counts, as in any list by score.
    best = recs.group_by("user_id", "item_id").agg(pl.col("score").max())
    found = evaluate(recs, truth, "auc")
    told = reference.relevant(truth.rows())
    for user, value in found.per_user.rows():
        scored = {item: score for u, item, score in best.rows() if u == user}
        assert value == pytest.approx(reference.auc(scored, told[user]), abs=1e-12, nan_ok=True)
    undefined = int(found.per_user["auc"].is_nan().sum())
    assert ("undefined" in found.reasons.get("auc", "")) == (undefined > 0)


@settings(max_examples=30, deadline=None)
@given(tables())
def test_metrics_stay_between_0_and_1_and_grow_with_hits(
    drawn: tuple[pl.DataFrame, pl.DataFrame],
) -> None:
    found = evaluate(*drawn, METRICS_AT).per_user
    for name in METRICS_AT:
        assert found[name].is_between(0, 1 + 1e-12).all(), name
    for name in ("hr", "recall", "mrr", "rbp"):
        assert (found[f"{name}@3"] >= found[f"{name}@1"]).all()


def test_a_constant_scorer_does_not_score_1() -> None:
    users, items = np.repeat(np.arange(50), 20), np.tile(np.arange(20), 50)
    recs = pl.DataFrame({"user_id": users, "item_id": items, "score": np.ones(1000)})
    truth = pl.DataFrame({"user_id": np.arange(50), "item_id": np.arange(50) % 20})
    for ties in ("item_id", "average"):
        found = evaluate(recs, truth, ["hr@1", "hr@5", "auc"], policy=Policy(ties=ties))
        assert found.mean["hr@1"] < 0.07
        assert found.mean["hr@5"] < 0.35
        assert found.mean["auc"] == 0.5
        assert any("every score is the same" in warning for warning in found.warnings)


def test_a_preset_s_parameter_is_read_from_the_name() -> None:
    recs = {"user_id": [1, 1], "item_id": [5, 6], "rank": [1, 2]}
    truth = {"user_id": [1], "item_id": [6]}
    found = evaluate(recs, truth, ["rbp.5@2", "rbp@2", "rbp.95"]).mean
    assert found == pytest.approx({"rbp.5@2": 0.25, "rbp@2": 0.16, "rbp.95": 0.0475})


def test_a_name_without_a_cut_off_stands_for_each_k() -> None:
    assert [ask.text for ask in asked(["ndcg", "hr@3", "auc"], [5, 10])] == [
        "ndcg@5",
        "ndcg@10",
        "hr@3",
        "auc",
    ]
    assert [ask.text for ask in asked("NDCG@010")] == ["ndcg@10"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ndgc@10", "did you mean 'ndcg'"),
        ("hr@0", "at least 1"),
        ("auc@10", "takes no cut-off"),
        ("hr.5@10", "takes no parameter"),
        ("ndcg@ten", "no metric is called"),
        ([], "no metric was asked for"),
    ],
)
def test_a_name_that_is_no_metric_is_refused_with_the_nearest(name: Any, told: str) -> None:
    with pytest.raises(EvaluationError) as error:
        asked(name)
    assert told in str(error.value)


def test_cut_offs_are_whole_numbers_of_any_kind() -> None:
    assert [ask.k for ask in asked("hr", np.int64(3))] == [3]
    for k in ("5", 5.0):
        with pytest.raises(EvaluationError, match="a cut-off must be a whole number"):
            asked("hr", k)  # type: ignore[arg-type]


def test_a_gain_beyond_all_numbers_is_refused() -> None:
    recs = {"user_id": [1], "item_id": [5], "rank": [1]}
    truth = {"user_id": [1], "item_id": [5], "relevance": [2000]}
    with pytest.raises(EvaluationError, match="ndcg_exp has no gain 2\\^2000"):
        evaluate(recs, truth, "ndcg_exp@1")
    assert evaluate(recs, truth, "ndcg_graded@1").mean == {"ndcg_graded@1": 1.0}


def test_a_value_that_no_user_has_is_nan_with_a_reason() -> None:
    recs = {"user_id": [1], "item_id": [5], "score": [0.5]}
    truth = {"user_id": [1], "item_id": [5]}
    found = evaluate(recs, truth, "auc")
    assert math.isnan(found.mean["auc"])
    assert found.reasons["auc"].startswith("undefined for every user")
    assert found.to_dict()["metrics"] == {"auc": None}


# --- F1 and ERR, by hand --------------------------------------------------------------------------------


def test_f1_is_the_harmonic_mean_of_precision_and_recall_and_0_without_a_hit() -> None:
    recs = {"user_id": [1] * 4 + [2] * 2, "item_id": [5, 6, 7, 8, 5, 6], "rank": [1, 2, 3, 4, 1, 2]}
    truth = {"user_id": [1, 1, 1, 2, 3], "item_id": [5, 7, 9, 4, 4]}
    found = evaluate(recs, truth, ["f1@4", "f1@1", "f1"]).per_user
    assert found["f1@4"].to_list() == pytest.approx([4 / 7, 0, 0])  # P = 2/4, R = 2/3
    assert found["f1@1"].to_list() == pytest.approx([2 / 4, 0, 0])  # P = 1, R = 1/3
    assert found["f1"].to_list() == pytest.approx([4 / 7, 0, 0])


def test_err_is_the_sum_over_places_of_the_chance_to_stop_there() -> None:
    recs = {"user_id": [1, 1, 1, 2], "item_id": [5, 6, 7, 4], "rank": [1, 2, 3, 1]}
    truth = {"user_id": [1, 1, 2, 3], "item_id": [5, 7, 4, 4], "relevance": [1.0, 2.0, 1.0, 2.0]}
    # The largest relevance is 2: s is 1/4 of relevance 1 and 3/4 of relevance 2.
    found = evaluate(recs, truth, ["err@3", "err@2"]).per_user
    assert found["err@3"].to_list() == pytest.approx([1 / 4 + 3 / 4 * 3 / 4 / 3, 1 / 4, 0])
    assert found["err@2"].to_list() == pytest.approx([1 / 4, 1 / 4, 0])
    binary = {"user_id": [1, 1], "item_id": [5, 7]}
    assert evaluate(recs, binary, ["err"]).per_user["err"].to_list() == pytest.approx(
        [1 / 2 + 1 / 4 / 3]
    )
    with pytest.raises(EvaluationError, match="err"):
        evaluate(recs, truth, ["err@3"], policy=Policy(ties="average"))


def test_a_row_of_truth_that_is_repeated_counts_each_time_where_tables_are_joined() -> None:
    # As RecTools 0.19.0 merges lists and interactions: two rows of item 6, one of item 9.
    recs = {"user_id": [1, 1], "item_id": [5, 6], "rank": [1, 2]}
    truth = {"user_id": [1, 1, 1], "item_id": [6, 6, 9]}
    policy = PRESETS["rectools"].policy
    found = evaluate(recs, truth, ["recall@2", "precision@2", "map@2", "mrr@2"], policy=policy)
    assert found.mean == pytest.approx(
        {"recall@2": 2 / 3, "precision@2": 1.0, "map@2": (2 / 2) / 3, "mrr@2": 1 / 2}
    )
    assert evaluate(recs, truth, ["recall@2"]).mean["recall@2"] == 1 / 2
