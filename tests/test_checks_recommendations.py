"""Recommendations against their Dataset: planted faults with exact counts, clean lists, brute force."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings

from fedprep.checks import (
    CHECKS,
    RECOMMENDATION_CHECKS,
    Result,
    Validation,
    validate_recommendations,
)
from fedprep.dataset import Dataset
from fedprep.errors import RecipeError
from tests.checked import N_ITEMS, N_USERS, changed, interactions, write_dataset

law = settings(max_examples=40, deadline=None)

NAN, INF = float("nan"), float("inf")
LENGTH = 8


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("recommendations") / "whole"
    return Dataset.unchecked(write_dataset(folder, interactions()))


def lists() -> pl.DataFrame:
    """Eight items for each user, none of them in the user's train, in order of rank."""
    rows = interactions()
    users, chosen = [], []
    for user in range(N_USERS):
        train = rows.filter((pl.col("user_id") == user) & (pl.col("split") == "train"))["item_id"]
        fresh = [item for item in range(N_ITEMS) if item not in train.to_list()][:LENGTH]
        users += [user] * LENGTH
        chosen += fresh
    rank = np.tile(np.arange(1, LENGTH + 1), N_USERS)
    return pl.DataFrame(
        {"user_id": users, "item_id": chosen, "rank": rank, "score": 1.0 / rank},
        schema={"user_id": pl.Int32, "item_id": pl.Int32, "rank": pl.Int32, "score": pl.Float32},
    )


def judged(recs: pl.DataFrame, dataset: Dataset, **limits: Any) -> Validation:
    return validate_recommendations(recs, dataset, {"min_list_length": LENGTH, **limits})


def one(check: str, recs: pl.DataFrame, dataset: Dataset, **limits: Any) -> Result:
    """Returns the result of one check; no other may have changed but those named in `ALSO`."""
    validation = judged(recs, dataset, **limits)
    red = {result.name for result in validation.results if result.status != "pass"}
    assert red <= {check, *ALSO.get(check, ())}
    return validation[check]


ALSO = {
    "recommendations_are_unique": ("lists_are_long_enough",),
    "recommended_users_exist": (
        "ranks_are_one_to_n",
        "lists_are_long_enough",
        "scores_follow_ranks",
    ),
    "scores_follow_ranks": ("ranks_are_one_to_n",),
    "lists_are_long_enough": ("ranks_are_one_to_n", "test_users_have_a_list"),
}


def test_good_lists_pass_every_check_in_any_order_and_with_wide_ids(dataset: Dataset) -> None:
    for recs in (
        lists(),
        lists().sample(fraction=1.0, shuffle=True, seed=1),
        lists().cast({"user_id": pl.Int64, "item_id": pl.UInt32, "score": pl.Float64}),
    ):
        validation = judged(recs, dataset)
        assert validation.verdict == "pass"
        assert {result.status for result in validation.results} == {"pass"}
        assert all(result.denominator > 0 for result in validation.results)


def test_the_result_names_what_was_judged(dataset: Dataset) -> None:
    found = validate_recommendations(
        lists().lazy(), dataset, strict=True, name="recs.parquet"
    ).to_dict()
    assert found["subject"] == {"kind": "recommendations", "name": "recs.parquet", "id": dataset.id}
    assert found["strict"] is True
    assert [check["name"] for check in found["checks"]] == list(RECOMMENDATION_CHECKS)
    assert validate_recommendations(lists(), dataset).subject == "tiny"
    some = validate_recommendations(lists(), dataset, only=["scores_are_finite"])
    assert [result.name for result in some.results] == ["scores_are_finite"]
    with pytest.raises(RecipeError, match="scores_are_finite"):
        validate_recommendations(lists(), dataset, only=["scores_are_finit"])
    with pytest.raises(RecipeError, match="min_list_length"):
        validate_recommendations(lists(), dataset, {"min_list_lengths": 3})


@pytest.mark.parametrize("value", [NAN, INF, -INF, None])
def test_a_score_that_is_no_number_is_named(value: float | None, dataset: Dataset) -> None:
    found = one("scores_are_finite", changed(lists(), [3, 50], score=value), dataset)
    assert (found.status, found.count, found.denominator) == ("fail", 2, N_USERS * LENGTH)
    assert found.examples[0]["user_id"] == 0
    assert found.examples[1]["item_id"] == lists()["item_id"][50]


def test_an_item_twice_in_a_list_is_named_once(dataset: Dataset) -> None:
    recs = changed(lists(), [1, 2], item_id=int(lists()["item_id"][0]))
    recs = changed(recs, [LENGTH + 3], item_id=int(lists()["item_id"][LENGTH]))
    found = one("recommendations_are_unique", recs, dataset)
    assert (found.status, found.count) == ("fail", 2)
    assert [(e["user_id"], e["rows"]) for e in found.examples] == [(0, 3), (1, 2)]


def test_users_and_items_that_the_dataset_does_not_have_are_named(dataset: Dataset) -> None:
    items = changed(lists(), [4], item_id=N_ITEMS)
    items = changed(changed(items, [12], item_id=-1), [20], item_id=None)
    found = one("recommended_items_exist", items, dataset)
    assert (found.status, found.count) == ("fail", 3)
    assert [example["item_id"] for example in found.examples] == [N_ITEMS, -1, None]
    users = changed(changed(lists(), [4], user_id=N_USERS), [12], user_id=None)
    found = one("recommended_users_exist", users, dataset)
    assert (found.status, found.count) == ("fail", 2)
    assert [example["user_id"] for example in found.examples] == [N_USERS, None]


def test_items_of_train_are_seen_and_those_of_test_are_wanted(dataset: Dataset) -> None:
    rows = interactions().filter(pl.col("user_id") == 5)
    seen = int(rows.filter(pl.col("split") == "train")["item_id"][0])
    recs = changed(lists(), [5 * LENGTH + 2], item_id=seen)
    found = one("recommendations_are_new", recs, dataset)
    assert (found.status, found.count) == ("fail", 1)
    assert found.examples[0] == {"user_id": 5, "item_id": seen}
    hits = set(rows.filter(pl.col("split") != "train")["item_id"]) & set(
        lists().filter(pl.col("user_id") == 5)["item_id"]
    )
    assert hits, "held-out items are among the good lists, and pass"


@pytest.mark.parametrize(
    ("at", "rank"), [([0], 0), ([7], 9), ([3], 3), ([2], None), ([0, 1, 2, 3, 4, 5, 6, 7], 1)]
)
def test_ranks_that_are_not_one_to_n_name_the_user(
    at: list[int], rank: int | None, dataset: Dataset
) -> None:
    recs = changed(lists(), at, rank=rank).drop("score")
    validation = judged(recs, dataset)
    found = validation["ranks_are_one_to_n"]
    assert (found.status, found.count, found.denominator) == ("fail", 1, N_USERS)
    assert found.examples[0]["user_id"] == 0
    assert validation["scores_follow_ranks"].status == "skipped"


def test_a_score_above_that_of_the_rank_before_is_named(dataset: Dataset) -> None:
    found = one("scores_follow_ranks", changed(lists(), [10, 30], score=0.9), dataset)
    assert (found.status, found.count) == ("fail", 2)
    shown = found.examples[0]
    assert (shown["user_id"], shown["rank"]) == (1, 3)
    assert shown["score"] > shown["score_before"] == 0.5
    equal = lists().with_columns(score=pl.lit(1.0, pl.Float32))
    assert judged(equal, dataset).verdict == "pass", "equal scores are no wrong order"


def test_short_lists_are_named_the_shortest_first(dataset: Dataset) -> None:
    gone = (pl.col("user_id") == 3) & (pl.col("rank") > 2) | (pl.col("user_id") == 7) & (
        pl.col("rank") == 8
    )
    recs = lists().filter(~gone)
    found = judged(recs, dataset)["lists_are_long_enough"]
    assert (found.status, found.severity) == ("fail", "fail"), "a limit that is set is a gate"
    assert [(e["user_id"], e["length"]) for e in found.examples] == [(3, 2), (7, 7)]
    default = validate_recommendations(lists(), dataset)["lists_are_long_enough"]
    assert (default.status, default.count, dict(default.limits)) == (
        "warn",
        N_USERS,
        {"min_list_length": 10},
    )
    more_than_there_are = judged(lists(), dataset, min_list_length=1000)["lists_are_long_enough"]
    assert more_than_there_are.count == N_USERS
    everything = pl.DataFrame({"user_id": [0] * N_ITEMS, "item_id": range(N_ITEMS)})
    assert judged(everything, dataset, min_list_length=1000)["lists_are_long_enough"].count == 0


def test_repeats_do_not_make_a_list_longer(dataset: Dataset) -> None:
    recs = changed(lists(), [1], item_id=int(lists()["item_id"][0]))
    assert judged(recs, dataset)["lists_are_long_enough"].count == 1


def test_users_with_test_rows_and_no_list_are_named(dataset: Dataset, tmp_path: Path) -> None:
    recs = lists().filter(~pl.col("user_id").is_in([2, 9]))
    found = one("test_users_have_a_list", recs, dataset)
    assert (found.status, found.count, found.denominator) == ("warn", 2, N_USERS)
    assert [example["user_id"] for example in found.examples] == [2, 9]
    without = interactions().filter((pl.col("user_id") != 9) | (pl.col("split") != "test"))
    other = Dataset.unchecked(write_dataset(tmp_path / "other", without))
    found = judged(recs, other)["test_users_have_a_list"]
    assert (found.count, found.denominator) == (1, N_USERS - 1), "who has no test row needs no list"


def test_pairs_alone_can_be_judged(dataset: Dataset) -> None:
    validation = judged(lists().select("user_id", "item_id"), dataset)
    skipped = {
        result.name: result.reason for result in validation.results if result.status == "skipped"
    }
    assert set(skipped) == {"scores_are_finite", "ranks_are_one_to_n", "scores_follow_ranks"}
    assert skipped["scores_are_finite"] == "recommendations have no column score"
    assert validation.verdict == "pass"


@pytest.mark.parametrize(
    ("recs", "column"),
    [
        (lists().drop("item_id"), "item_id"),
        (lists().cast({"user_id": pl.String}), "user_id"),
        (lists().cast({"rank": pl.Float64}), "rank"),
        (lists().cast({"score": pl.String}), "score"),
        (lists().clear(), ""),
    ],
)
def test_a_table_that_cannot_be_judged_fails_and_the_rest_is_skipped(
    recs: pl.DataFrame, column: str, dataset: Dataset
) -> None:
    validation = judged(recs, dataset)
    assert validation.verdict == "fail"
    found = validation["columns_are_there"]
    assert (found.status, found.count, found.examples[0]["column"]) == ("fail", 1, column)
    assert {result.status for result in validation.results} == {"fail", "skipped"}


# -- laws ------------------------------------------------------------------------------------------


@st.composite
def dirty_lists(draw: st.DrawFn) -> pl.DataFrame:
    """Recommendations with everything wrong that they can have, here and there."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.sampled_from(range(1, 60)))
    share = draw(st.sampled_from([0.0, 0.05, 0.3]))

    def spoilt(values: Any, *wrong: Any) -> list[Any]:
        kept = list(np.asarray(values).tolist())
        for k in np.flatnonzero(rng.random(n) < share).tolist():
            kept[k] = wrong[rng.integers(len(wrong))]
        return kept

    return pl.DataFrame(
        {
            "user_id": spoilt(np.sort(rng.integers(0, 6, n)), None, 99, -1),
            "item_id": spoilt(rng.integers(0, N_ITEMS, n), None, 77, -2),
            "rank": spoilt(1 + np.arange(n) % draw(st.sampled_from([1, 3, 8])), None, 0, 7),
            "score": spoilt(rng.integers(0, 4, n) / 2, None, NAN, INF, -INF),
        },
        schema={"user_id": pl.Int64, "item_id": pl.Int64, "rank": pl.Int64, "score": pl.Float32},
        strict=False,
    )


def by_brute_force(recs: pl.DataFrame) -> dict[str, int]:
    data = interactions()
    seen = set(data.filter(pl.col("split") == "train").select("user_id", "item_id").iter_rows())
    tested = set(data.filter(pl.col("split") == "test")["user_id"].to_list())
    rows = list(recs.iter_rows(named=True))
    users: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        users.setdefault(row["user_id"], []).append(row)
    pairs = Counter(
        (r["user_id"], r["item_id"]) for r in rows if None not in (r["user_id"], r["item_id"])
    )
    finite = [r for r in rows if r["score"] is not None and np.isfinite(r["score"])]
    scores: dict[tuple[int, int], list[float]] = {}
    for row in finite:
        if row["user_id"] is not None and row["rank"] is not None:
            scores.setdefault((row["user_id"], row["rank"]), []).append(row["score"])
    rising = sum(
        a[0] == b[0] and min(scores[a]) < max(scores[b])
        for a, b in itertools.pairwise(sorted(scores))
    )
    return {
        "scores_are_finite": len(rows) - len(finite),
        "recommendations_are_unique": sum(n > 1 for n in pairs.values()),
        "recommended_users_exist": sum(r["user_id"] not in range(N_USERS) for r in rows),
        "recommended_items_exist": sum(r["item_id"] not in range(N_ITEMS) for r in rows),
        "recommendations_are_new": sum((r["user_id"], r["item_id"]) in seen for r in rows),
        "ranks_are_one_to_n": sum(
            sorted(r["rank"] or 0 for r in own) != list(range(1, len(own) + 1))
            for own in users.values()
        ),
        "scores_follow_ranks": rising,
        "lists_are_long_enough": sum(
            len({r["item_id"] for r in own}) < 3 for own in users.values()
        ),
        "test_users_have_a_list": len(tested - set(users)),
    }


@law
@given(dirty_lists())
def test_every_count_is_that_of_brute_force(dataset: Dataset, recs: pl.DataFrame) -> None:
    validation = validate_recommendations(recs, dataset, {"min_list_length": 3})
    counts = {result.name: result.count for result in validation.results}
    assert {result.status for result in validation.results} <= {"pass", "fail", "warn"}
    assert counts == {"columns_are_there": 0, **by_brute_force(recs)}


def test_no_name_is_both_a_check_of_data_and_one_of_recommendations() -> None:
    assert not set(CHECKS) & set(RECOMMENDATION_CHECKS)
    source = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in RECOMMENDATION_CHECKS if f'"{name}"' not in source] == []
