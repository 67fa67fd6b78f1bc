"""Metrics beyond accuracy against their definitions, and what they do where a value is undefined."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedeval.metrics.beyond
from fedeval import evaluate
from fedprep.errors import EvaluationError
from tests import reference_metrics as reference

K = 3
LIST_METRICS = [
    "arp", "popularity_lift", "aplt", "aplt.5", "novelty", "ild", "ild_categories", "serendipity",
    "serendipity_categories", "calibration",
]  # fmt: skip
OVERALL = ["coverage", "coverage_all", "gini", "entropy"]


@st.composite
def worlds(draw: st.DrawFn, *, n_users: int = 6, n_items: int = 8) -> dict[str, Any]:
    """Lists, truth, training rows and items; some items without embedding, category or training row."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lists = {
        user: rng.permutation(n_items)[: rng.integers(1, n_items)].tolist()
        for user in range(n_users)
        if rng.random() < 0.8 or user == 0
    }
    history = {
        user: set(rng.permutation(n_items - 1)[: rng.integers(1, 5)].tolist())
        for user in range(1, n_users + 2)
    }
    truth = {0: {lists[0][0]}} | {
        user: set(rng.permutation(n_items)[: rng.integers(1, 4)].tolist())
        for user in range(1, n_users)
    }
    embeddings = {
        item: rng.normal(size=3).round(2).tolist() for item in range(n_items) if rng.random() < 0.8
    }
    categories = {
        item: set(rng.permutation(list("abcd"))[: rng.integers(1, 4)].tolist())
        for item in range(n_items)
        if rng.random() < 0.8
    }
    return {
        "lists": lists, "history": history, "truth": truth, "embeddings": embeddings,
        "categories": categories, "n_items": n_items,
    }  # fmt: skip


def pairs(of: dict[int, Any]) -> dict[str, list[int]]:
    rows = [(user, item) for user, items in of.items() for item in items]
    return {"user_id": [u for u, _ in rows], "item_id": [i for _, i in rows]}


def tables(world: dict[str, Any]) -> dict[str, Any]:
    ranks = [rank for items in world["lists"].values() for rank in range(1, len(items) + 1)]
    ids = range(world["n_items"])
    items = pl.DataFrame(
        {
            "item_id": ids,
            "embedding": [world["embeddings"].get(i) for i in ids],
            "categories": [sorted(world["categories"].get(i, [])) for i in ids],
        },
        schema={
            "item_id": pl.Int32,
            "embedding": pl.List(pl.Float32),
            "categories": pl.List(pl.String),
        },
    )
    return {
        "recs": pairs(world["lists"]) | {"rank": ranks},
        "truth": pairs(world["truth"]),
        "train": pairs(world["history"]),
        "items": items,
    }


def expected(world: dict[str, Any], name: str, user: int) -> float:
    items = world["lists"].get(user, [])[:K]
    history = world["history"].get(user, set())
    popularity = {
        i: sum(i in mine for mine in world["history"].values()) for i in range(world["n_items"])
    }
    mean = reference.mean
    if name.startswith("aplt"):
        head = reference.short_head(popularity, 0.5 if name == "aplt.5" else 0.8)
        return mean(item not in head for item in items)
    rel = dict.fromkeys(world["truth"][user], 1.0)
    cosine, jaccard = reference.cosine_distance, reference.jaccard_distance
    values = {
        "arp": lambda: mean(popularity[i] for i in items),
        "popularity_lift": lambda: (
            mean(popularity[i] for i in items) / mean(popularity[i] for i in history) - 1
            if history
            else math.nan
        ),
        "novelty": lambda: mean(
            -math.log2(max(popularity[i], 1) / len(world["history"])) for i in items
        ),
        "ild": lambda: reference.intra_list(items, world["embeddings"], cosine),
        "ild_categories": lambda: reference.intra_list(items, world["categories"], jaccard),
        "serendipity": lambda: reference.serendipity(
            items, rel, history, world["embeddings"], cosine, K
        ),
        "serendipity_categories": lambda: reference.serendipity(
            items, rel, history, world["categories"], jaccard, K
        ),
        "calibration": lambda: reference.miscalibration(items, history, world["categories"]),
    }
    return float(values[name]())


@settings(max_examples=50, deadline=None)
@given(worlds(), st.sampled_from([1, 1 << 23]))
def test_values_of_lists_are_those_of_the_definitions(world: dict[str, Any], cells: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fedeval.metrics.beyond, "CELLS", cells)
        found = evaluate(**tables(world), metrics=[*LIST_METRICS, "user_coverage"], k=K)
    for row in found.per_user.to_dicts():
        user = row["user_id"]
        assert row["user_coverage"] == float(user in world["lists"])
        for name in LIST_METRICS:
            wanted = expected(world, name, user)
            assert row[f"{name}@{K}"] == pytest.approx(wanted, abs=1e-5, nan_ok=True), (name, user)
    for name in LIST_METRICS:
        values = found.per_user[f"{name}@{K}"].to_numpy()
        undefined = int(np.isnan(values).sum())
        assert ("undefined" in found.reasons.get(f"{name}@{K}", "")) == (undefined > 0)
        if undefined < len(values):
            assert found.mean[f"{name}@{K}"] == pytest.approx(np.nanmean(values))


@settings(max_examples=50, deadline=None)
@given(worlds())
def test_values_of_all_lists_are_those_of_the_definitions(world: dict[str, Any]) -> None:
    found = evaluate(**tables(world), metrics=OVERALL, k=[1, K]).mean
    everything = set(range(world["n_items"]))
    trained = set().union(*world["history"].values())
    for k in (1, K):
        lists = world["lists"]
        assert found[f"coverage@{k}"] == pytest.approx(reference.coverage(lists, trained, k))
        assert found[f"coverage_all@{k}"] == pytest.approx(reference.coverage(lists, everything, k))
        assert found[f"gini@{k}"] == pytest.approx(
            reference.gini(lists, trained, k), abs=1e-12, nan_ok=True
        )
        assert found[f"entropy@{k}"] == pytest.approx(reference.entropy(lists, k), abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(worlds())
def test_what_train_and_items_tell_is_counted(world: dict[str, Any]) -> None:
    counts = evaluate(**tables(world), metrics="hr", k=K).counts
    trained = set().union(*world["history"].values())
    seen = sum(
        item in world["history"].get(user, ())
        for user, items in world["lists"].items()
        for item in items[:K]
    )
    assert counts["seen_recommended"] == seen
    assert counts["unknown_users"] == len(set(world["truth"]) - set(world["history"]))
    assert counts["cold_truth_rows"] == sum(
        i not in trained for mine in world["truth"].values() for i in mine
    )
    assert counts["seen_truth"] == sum(
        i in world["history"].get(user, ()) for user, mine in world["truth"].items() for i in mine
    )
    assert counts["unknown_items"] == 0


def test_items_that_no_table_has_are_counted_and_told() -> None:
    found = evaluate(
        {"user_id": [1, 1], "item_id": [7, 9], "rank": [1, 2]},
        {"user_id": [1], "item_id": [7]},
        "coverage@2",
        train={"user_id": [2], "item_id": [7]},
    )
    assert found.counts["unknown_items"] == 1
    assert found.mean["coverage@2"] == 1
    assert any("1 items that are recommended" in warning for warning in found.warnings)


def test_equal_exposure_has_no_inequality_and_one_item_alone_the_most() -> None:
    train = {"user_id": [0] * 4, "item_id": [0, 1, 2, 3]}
    truth = {"user_id": [0], "item_id": [0]}
    for items, gini, entropy in (([0, 1, 2, 3], 0.0, 2.0), ([2, 2, 2, 2], 0.75, 0.0)):
        recs = {"user_id": [0, 1, 2, 3], "item_id": items, "rank": [1] * 4}
        found = evaluate(recs, truth, ["gini@1", "entropy@1"], train=train).mean
        assert found == {"gini@1": gini, "entropy@1": entropy}


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        ("coverage@5", "train="),
        ("coverage_all@5", "items="),
        ("ild@5", "embedding"),
        ("calibration@5", "train="),
        ("ild_categories@5", "categories"),
        ("auc", "score"),
        ("rmse", "score"),
    ],
)
def test_a_metric_says_which_table_it_lacks(metric: str, told: str) -> None:
    recs, truth = {"user_id": [1], "item_id": [2], "rank": [1]}, {"user_id": [1], "item_id": [2]}
    with pytest.raises(EvaluationError, match="cannot be computed") as error:
        evaluate(recs, truth, metric)
    assert told in str(error.value)


def test_broken_items_are_refused() -> None:
    recs, truth = {"user_id": [1], "item_id": [2], "rank": [1]}, {"user_id": [1], "item_id": [2]}
    twice = pl.DataFrame({"item_id": [2, 2]})
    uneven = pl.DataFrame({"item_id": [1, 2], "embedding": [[1.0], [1.0, 2.0]]})
    infinite = pl.DataFrame({"item_id": [1, 2], "embedding": [[1.0], [math.inf]]})
    absent = pl.DataFrame({"item_id": [1], "embedding": [None]})
    joined = pl.DataFrame({"item_id": [1], "categories": ["a|b"]})
    words = pl.DataFrame({"item_id": [1], "embedding": [["a"]]})
    for items, told in (
        (twice, "twice"), (uneven, "different lengths"), (infinite, "not finite"),
        (absent, "no item has an embedding"), (joined, "a list of text for each item"),
        (words, "a list of numbers for each item"),
    ):  # fmt: skip
        with pytest.raises(EvaluationError, match=told):
            evaluate(recs, truth, "hr@1", items=items)


@pytest.mark.parametrize(
    "metric", ["calibration@1", "ild_categories@1", "serendipity_categories@1"]
)
def test_without_any_category_a_value_is_undefined_and_not_0(metric: str) -> None:
    items = pl.DataFrame(
        {"item_id": [7, 8], "categories": [None, []]},
        schema_overrides={"categories": pl.List(pl.String)},
    )
    truth = {"user_id": [1], "item_id": [7]}
    found = evaluate(
        truth | {"rank": [1]}, truth, metric, train={"user_id": [1], "item_id": [8]}, items=items
    )
    assert math.isnan(found.mean[metric])
    assert found.reasons[metric].startswith("undefined for every user")


def test_a_training_row_that_stands_there_twice_counts_once() -> None:
    recs, truth = {"user_id": [1], "item_id": [1], "rank": [1]}, {"user_id": [1], "item_id": [1]}
    once = {"user_id": [1, 2, 2], "item_id": [2, 1, 3]}
    twice = {"user_id": [1, 2, 2, 2, 1], "item_id": [2, 1, 3, 1, 2]}
    metrics = ["arp@1", "popularity_lift@1", "novelty@1", "aplt@1"]
    wanted = evaluate(recs, truth, metrics, train=once)
    found = evaluate(recs, truth, metrics, train=twice)
    assert found.mean == wanted.mean
    assert found.counts == wanted.counts


def test_an_embedding_of_zeros_has_no_direction_and_counts_as_none() -> None:
    recs = {"user_id": [1, 1, 1], "item_id": [1, 2, 3], "rank": [1, 2, 3]}
    items = pl.DataFrame({"item_id": [1, 2, 3], "embedding": [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]})
    found = evaluate(recs, {"user_id": [1], "item_id": [1]}, ["ild@2", "ild@3"], items=items).mean
    assert found == {"ild@2": 1.0, "ild@3": 1.0}
