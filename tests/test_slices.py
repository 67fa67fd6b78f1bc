"""Groups of users and items, metrics by group, and where one system beats another."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
import strategies
from hypothesis import given, settings

from fedeval.gaps import group_gaps
from fedeval.groups import (
    NO_GROUP,
    activity_groups,
    client_size_groups,
    cold_groups,
    column_groups,
    popularity_groups,
)
from fedeval.slices import by_relevant_item, recommended_shares, slice_comparison, slice_metrics
from fedeval.statistics import Inference, bootstrap_interval, correct
from fedprep.errors import EvaluationError

NAN = math.nan
LAW = settings(deadline=None, max_examples=40)
QUICK = Inference(n_resamples=60, n_flips=199)


def train(**rows_of: int) -> pl.DataFrame:
    """Users u1 … with so many rows each, of item 0 1 2 …"""
    rows = [(int(u[1:]), item) for u, n in rows_of.items() for item in range(n)]
    return pl.DataFrame(rows, schema={"user_id": pl.Int32, "item_id": pl.Int32}, orient="row")


def as_dict(groups: pl.DataFrame) -> dict[Any, str]:
    return dict(groups.with_columns(pl.col("group").cast(pl.String)).iter_rows())


def labels(groups: pl.DataFrame) -> list[str]:
    kind = groups.schema["group"]
    assert isinstance(kind, pl.Enum)
    return kind.categories.to_list()


# --- groups -------------------------------------------------------------------------------------------


def test_users_are_grouped_by_their_train_rows() -> None:
    rows = train(u1=1, u2=1, u3=2, u4=5, u5=9, u6=20)
    users = pl.Series("id", [1, 2, 3, 4, 5, 6, 7], dtype=pl.Int64)
    groups = activity_groups(rows, users, n_groups=3)
    assert as_dict(groups) == {1: "1", 2: "1", 3: "2–5", 4: "2–5", 5: "9–20", 6: "9–20", 7: "0"}
    assert labels(groups) == ["0", "1", "2–5", "9–20"]
    by_log = activity_groups(rows, bins="log")
    assert as_dict(by_log) == {1: "1–3", 2: "1–3", 3: "1–3", 4: "4–15", 5: "4–15", 6: "16–63"}


@LAW
@given(strategies.split_frames(), st.integers(1, 5), st.sampled_from(["quantile", "log"]))
def test_every_user_is_in_one_group_and_more_rows_are_a_later_group(
    frame: pl.DataFrame, n_groups: int, bins: str
) -> None:
    users = pl.Series(range(8), dtype=pl.Int32)
    rows = frame.filter(pl.col("split") == "train")
    groups = activity_groups(rows.lazy(), users, n_groups=n_groups, bins=bins)
    assert groups["user_id"].to_list() == list(range(8))
    counts = np.bincount(rows["user_id"].to_numpy(), minlength=8)
    at = groups["group"].to_physical().to_numpy()
    order = np.argsort(counts, kind="stable")
    assert (np.diff(at[order].astype(int)) >= 0).all()
    same = counts[order][1:] == counts[order][:-1]
    assert (np.diff(at[order].astype(int))[same] == 0).all()
    if bins == "quantile":
        assert len(labels(groups)) <= n_groups + 1


def test_users_are_grouped_by_the_size_of_their_client() -> None:
    rows = train(u1=1, u2=9, u3=1, u4=1)
    clients = pl.DataFrame({"user_id": [1, 2, 3, 4, 5], "client_id": [0, 0, 1, 1, 2]})
    groups = client_size_groups(rows, clients.cast(pl.Int32), n_groups=2)
    assert as_dict(groups) == {1: "10", 2: "10", 3: "2", 4: "2", 5: "0"}
    assert labels(groups) == ["0", "2", "10"]


def test_head_torso_and_tail_share_the_rows() -> None:
    rows = pl.DataFrame({"item_id": [5] * 4 + [7] * 3 + [6] * 3 + [1] * 6 + [2] * 2 + [3] + [4]})
    items = pl.Series(range(9))
    groups = popularity_groups(rows, items)  # 20 rows: 1 has 6, 5 has 4, 6 and 7 have 3, 2 has 2
    assert as_dict(groups) == {
        0: "cold", 1: "head", 2: "tail", 3: "tail", 4: "tail", 5: "torso", 6: "torso", 7: "torso", 8: "cold",
    }  # fmt: skip
    assert labels(groups) == ["head", "torso", "tail", "cold"]
    by_items = as_dict(popularity_groups(rows, items, head=2 / 7, tail=1 / 7, share_of="items"))
    assert [i for i, g in by_items.items() if g == "head"] == [1, 5]
    assert [i for i, g in by_items.items() if g == "tail"] == [4]  # of 3 and 4 the later id


@LAW
@given(strategies.cleaned_frames(), st.floats(0, 1), st.floats(0, 1))
def test_popularity_falls_from_head_to_tail(frame: pl.DataFrame, a: float, b: float) -> None:
    head, tail = min(a, 1 - b), min(b, 1 - a)
    groups = popularity_groups(frame, head=head, tail=tail)
    counts = frame.group_by("item_id").len().sort("item_id")
    assert groups["item_id"].to_list() == counts["item_id"].to_list()
    n, at = counts["len"].to_numpy(), groups["group"].to_physical().to_numpy()
    for group in (0, 1):
        if (at == group).any() and (at > group).any():
            assert n[at == group].min() >= n[at > group].max()
    if (at == 0).any():
        assert n[at == 0].sum() >= head * n.sum() - 1e-6 > n[at == 0].sum() - n.max() - 1e-6
    assert n[at == 2].sum() <= tail * n.sum() + 1e-6


def test_cold_users_and_items_have_no_train_row() -> None:
    rows = train(u1=2, u3=1)
    assert as_dict(cold_groups(rows, pl.Series([1, 2, 3]))) == {1: "warm", 2: "cold", 3: "warm"}
    items = cold_groups(rows, pl.Series([0, 1, 2]), key="item_id")
    assert as_dict(items) == {0: "warm", 1: "warm", 2: "cold"}


def test_any_column_makes_groups() -> None:
    table = pl.DataFrame(
        {
            "item_id": [0, 1, 2, 3],
            "categories": [["Drama", "War"], ["Drama"], [], None],
            "year": [1999, 1942, None, 1999],
            "score": [0.25, NAN, 0.5, 0.25],
            "brand": ["b", "a", "a", ""],
            "new": [True, False, True, True],
            "vector": [[[1.0]]] * 4,
        }
    )
    by_category = column_groups(table, "categories", key="item_id")
    assert sorted(by_category.with_columns(pl.col("group").cast(pl.String)).rows()) == [
        (0, "Drama"), (0, "War"), (1, "Drama"), (2, NO_GROUP), (3, NO_GROUP),
    ]  # fmt: skip
    assert labels(by_category) == ["Drama", "War", NO_GROUP]
    by_year = column_groups(table.lazy(), "year", key="item_id")
    assert labels(by_year) == ["1942", "1999", NO_GROUP]
    assert as_dict(column_groups(table, "score", key="item_id")) == {
        0: "0.25",
        1: NO_GROUP,
        2: "0.5",
        3: "0.25",
    }
    assert labels(column_groups(table, "brand", key="item_id")) == ["a", '""', "b"]
    assert labels(column_groups(table, "brand", key="item_id", limit=1)) == ["a", "others (2)"]
    assert as_dict(column_groups(table, "new", key="item_id"))[1] == "false"
    with pytest.raises(EvaluationError, match="vector"):
        column_groups(table, "vector", key="item_id")
    with pytest.raises(EvaluationError, match="did you mean 'year'"):
        column_groups(table, "years", key="item_id")
    assert labels(column_groups(table, "item_id", key="item_id")) == ["0", "1", "2", "3"]


@pytest.mark.parametrize("kind", [pl.Array(pl.Float32, 2), pl.List(pl.Float64)])
def test_numbers_of_a_vector_are_no_groups(kind: pl.DataType) -> None:
    table = pl.DataFrame(
        {"user_id": [1], "behavior": [[0.5, 1.5]]}, schema_overrides={"behavior": kind}
    )
    with pytest.raises(EvaluationError, match="'behavior' holds vectors"):
        column_groups(table, "behavior")


def test_numbers_of_many_values_are_binned_and_told_apart() -> None:
    table = pl.DataFrame({"user_id": range(40), "age": range(1960, 2000)})
    assert labels(column_groups(table, "age", n_groups=2)) == ["1960–1979", "1980–1999"]
    close = table.select("user_id", x=1.0 + pl.col("user_id") * 1e-9)
    groups = column_groups(close, "x", n_groups=4)
    assert groups["group"].n_unique() == 4


# --- slices -------------------------------------------------------------------------------------------


def values(n: int, seed: int = 0, shift: float = 0.0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.random(n) + shift
    return pl.DataFrame({"user_id": range(n), "ndcg@10": x, "hr@10": (x > 0.5).astype(float)})


def test_a_slice_is_the_mean_of_its_users_with_interval_and_counts() -> None:
    per_user = values(60).with_columns(
        pl.when(pl.col("user_id") % 10 > 0).then("ndcg@10").alias("ndcg@10")
    )
    groups = pl.DataFrame(
        {
            "user_id": range(50, -1, -1),
            "group": ["new" if u > 30 else "old" for u in range(50, -1, -1)],
        }
    )
    groups = pl.concat([groups, pl.DataFrame({"user_id": [900], "group": ["new"]})])
    table = slice_metrics(per_user, groups, inference=QUICK)
    assert table.select("metric", "group").rows() == [
        (m, g) for m in ("ndcg@10", "hr@10") for g in ("new", "old", NO_GROUP)
    ]
    new = table.row(0, named=True)
    inside = per_user.filter(pl.col("user_id").is_between(31, 50))["ndcg@10"].to_numpy()
    expected = bootstrap_interval(inside, n_resamples=60)
    assert (new["mean"], new["low"], new["high"]) == (expected.value, expected.low, expected.high)
    assert (new["n"], new["n_undefined"], new["n_absent"], new["n_units"]) == (18, 2, 1, 18)
    assert table["n"].sum() + table["n_undefined"].sum() == 120


def test_whole_clients_are_drawn_when_they_are_given() -> None:
    clients = pl.DataFrame({"user_id": range(60), "client_id": [u // 6 for u in range(60)]})
    groups = pl.DataFrame({"user_id": range(60), "group": ["a", "b"] * 30})
    table = slice_metrics(values(60), groups, ["hr@10"], clients=clients, inference=QUICK)
    assert table["n_units"].to_list() == [10, 10]


@LAW
@given(st.integers(2, 40), st.integers(1, 4), st.integers(0, 9))
def test_groups_that_part_the_users_add_up_to_all(n: int, n_groups: int, seed: int) -> None:
    per_user = values(n, seed)
    groups = pl.DataFrame({"user_id": range(n), "group": [f"g{u % n_groups}" for u in range(n)]})
    table = slice_metrics(per_user, groups, ["ndcg@10"], inference=Inference(n_resamples=2))
    assert table["n"].sum() == n
    together = (table["mean"] * table["n"]).sum() / n
    assert together == pytest.approx(per_user["ndcg@10"].mean())


def test_where_a_beats_b_is_told_by_group_and_corrected() -> None:
    b = values(200)
    gain = pl.when(pl.col("user_id") < 100).then(0.2).otherwise(0.0)
    noise = pl.Series(0.05 * np.random.default_rng(1).normal(size=200))
    a = b.with_columns(pl.col("ndcg@10") + gain + noise)
    groups = pl.DataFrame({"user_id": range(200), "group": ["active"] * 100 + ["rare"] * 100})
    table = slice_comparison(
        a, b.reverse(), groups, ["ndcg@10"], names=("ours", "theirs"), inference=QUICK
    )
    assert table["better"].to_list() == ["ours", "undecided"]
    assert table["group"].to_list() == ["active", "rare"]
    assert table["difference"][0] == pytest.approx(0.2, abs=0.02)
    assert table["p_corrected"].to_numpy() == pytest.approx(correct(table["p"].to_numpy()))
    assert table["n"].to_list() == [100, 100]
    differences = a.select("user_id", gain=pl.col("ndcg@10") - b["ndcg@10"])
    gap = group_gaps(differences, groups, inference=QUICK).row(0, named=True)
    assert gap["low"] > 0.1
    assert gap["p_corrected"] < 0.001
    worse = slice_comparison(
        a, b, groups, ["ndcg@10"], lower_is_better=["ndcg@10"], inference=QUICK
    )
    assert worse["better"].to_list() == ["B", "undecided"]


def hit_rate(recs: pl.DataFrame) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """The share of a user's relevant items in their list."""

    def score(truth: pl.DataFrame) -> pl.DataFrame:
        hits = truth.join(
            recs.select("user_id", "item_id", hit=1.0), on=["user_id", "item_id"], how="left"
        )
        return hits.group_by("user_id", maintain_order=True).agg(
            pl.col("hit").fill_null(0.0).mean().alias("recall")
        )

    return score


def test_hits_are_told_by_the_popularity_of_the_relevant_item() -> None:
    recs = pl.DataFrame(
        {"user_id": [1, 1, 2, 2], "item_id": [10, 20, 10, 30], "rank": [1, 2, 1, 2]}
    )
    truth = pl.DataFrame({"user_id": [1, 1, 2, 2], "item_id": [10, 21, 20, 99]})
    groups = pl.DataFrame({"item_id": [10, 20, 21, 30], "group": ["head", "tail", "tail", "tail"]})
    groups = groups.with_columns(pl.col("group").cast(pl.Enum(["head", "torso", "tail"])))
    sliced = by_relevant_item(hit_rate(recs), truth, groups)
    assert sliced.with_columns(pl.col("group").cast(pl.String)).sort("group", "user_id").rows() == [
        (2, 0.0, NO_GROUP), (1, 1.0, "head"), (1, 0.0, "tail"), (2, 0.0, "tail"),
    ]  # fmt: skip
    table = slice_metrics(sliced, inference=QUICK)
    assert table["group"].to_list() == ["head", "tail", NO_GROUP]
    assert table["n"].to_list() == [1, 2, 1]
    twin = slice_comparison(sliced, sliced, inference=QUICK)
    assert twin["ties"].to_list() == [1, 2, 1]


def test_shares_of_what_is_recommended_add_up() -> None:
    recs = pl.DataFrame(
        {"user_id": [1, 1, 1, 2], "item_id": [10, 20, 99, 10], "rank": [1, 2, 3, 1]}
    )
    groups = pl.DataFrame({"item_id": [10, 20, 20], "group": ["head", "tail", "war"]})
    shares = recommended_shares(recs, groups, k=3)
    table = {(u, str(g)): s for u, g, s in shares.iter_rows()}
    assert table[(1, "head")] == pytest.approx(1 / 3)
    assert table[(1, "tail")] == table[(1, "war")] == table[(1, NO_GROUP)] == pytest.approx(1 / 3)
    assert table[(2, "head")] == 1.0
    assert table[(2, "tail")] == 0.0
    means = slice_metrics(shares, inference=QUICK)
    assert means["metric"].unique().to_list() == ["share@3"]
    assert means["mean"][0] == pytest.approx(2 / 3)
    assert as_dict(recommended_shares(recs, groups[:1], k=1).select("user_id", "group")) == {
        1: "head",
        2: "head",
    }


PER_USER = values(4)
GROUPS = pl.DataFrame({"user_id": range(4), "group": ["a", "a", "b", "b"]})
NO_TRUTH = pl.DataFrame(schema={"user_id": pl.Int64, "item_id": pl.Int64})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: slice_metrics(PER_USER), "the table of values has no column 'group'"),
        (
            lambda: slice_metrics(PER_USER, GROUPS.rename({"group": "grp"})),
            "the table has no column 'group'",
        ),
        (lambda: slice_metrics(PER_USER, GROUPS, ["ndcg@5"]), "no metric 'ndcg@5' in the table"),
        (
            lambda: slice_metrics(PER_USER.with_columns(group=pl.lit("a")), GROUPS),
            "the values are grouped already, and groups of users are given",
        ),
        (
            lambda: slice_metrics(PER_USER, GROUPS.cast({"user_id": pl.String})),
            "'user_id' is String in one table and Int64 in the other",
        ),
        (
            lambda: slice_metrics(
                PER_USER, GROUPS, clients=pl.DataFrame({"user_id": [0], "client_id": [0]})
            ),
            "3 of 4 rows are of users without a client",
        ),
        (
            lambda: slice_comparison(PER_USER, PER_USER.drop("hr@10"), GROUPS),
            "no metric 'hr@10' in the table",
        ),
        (
            lambda: by_relevant_item(lambda t: t, pl.DataFrame({"user_id": [1]}), GROUPS),
            "the table has no column 'item_id'",
        ),
        (
            lambda: by_relevant_item(lambda t: t, NO_TRUTH, GROUPS.rename({"user_id": "item_id"})),
            "the truth has no row",
        ),
        (
            lambda: recommended_shares(pl.DataFrame({"user_id": [1], "item_id": [1]}), GROUPS, k=1),
            "the table has no column 'rank'",
        ),
        (lambda: activity_groups(pl.DataFrame({"user": [1]})), "the table has no column 'user_id'"),
        (lambda: activity_groups(train(u1=1), bins="logs"), "no bins are called 'logs'"),
        (lambda: activity_groups(train(u1=1), n_groups=0), "0 groups are asked for"),
        (lambda: popularity_groups(train(u1=1), head=0.8, tail=0.8), "head is 0.8 and tail is 0.8"),
        (lambda: popularity_groups(train(u1=1), share_of="item"), "no share of 'item'"),
    ],
)
def test_tables_that_cannot_be_sliced_are_refused(call: Callable[[], object], words: str) -> None:
    with pytest.raises(EvaluationError, match=re.escape(words)):
        call()
