"""Heterogeneity of clients against definitions written out with dictionaries and loops."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from itertools import permutations
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import shuffled, split_frames

from fedprep.partition import heterogeneity
from fedprep.partition.heterogeneity import gini

N_ITEMS = 8
KINDS = [["war"], ["war", "noir"], [], None, ["noir", "crime"], ["crime"], ["art", "art"], ["art"]]
ITEMS = pl.DataFrame({"item_id": np.arange(N_ITEMS, dtype=np.int32), "categories": KINDS})


@st.composite
def clients_of_rows(draw: st.DrawFn) -> pl.DataFrame:
    """Rows with clients; every client id up to the largest occurs."""
    rows = draw(split_frames(n_users=5, n_items=N_ITEMS))
    given = draw(st.lists(st.integers(0, 5), min_size=rows.height, max_size=rows.height))
    _, client = np.unique(given, return_inverse=True)
    return rows.with_columns(client_id=pl.Series(client.astype(np.int32)))


def jensen_shannon(one: Counter[Any], other: Counter[Any]) -> float:
    p = {key: n / one.total() for key, n in one.items()}
    q = {key: n / other.total() for key, n in other.items()}
    middle = {key: (p.get(key, 0) + q.get(key, 0)) / 2 for key in {*p, *q}}
    return sum(
        sum(share * math.log2(share / middle[key]) for key, share in d.items()) / 2 for d in (p, q)
    )


def gini_by_pairs(sizes: list[int]) -> float:
    differences = sum(abs(a - b) for a in sizes for b in sizes)
    return differences / (2 * len(sizes) * sum(sizes))


def overlap_by_pairs(items: dict[int, set[int]]) -> float | None:
    if len(items) < 2:
        return None
    pairs = list(permutations(items, 2))
    shared = sum(len(items[a] & items[b]) for a, b in pairs)
    return shared / sum(len(items[a]) for a, _ in pairs)


@settings(deadline=None, max_examples=150)
@given(rows=clients_of_rows(), block=st.integers(1, 70), seed=st.integers(0, 99))
def test_every_measure_is_what_its_definition_says(
    rows: pl.DataFrame, block: int, seed: int
) -> None:
    table, summary = heterogeneity(
        shuffled(rows, seed), ITEMS, n_classes=3, min_rows=4, block=block
    )
    categories = dict(ITEMS.iter_rows())
    by_client: dict[int, list[dict[str, Any]]] = {}
    for row in rows.iter_rows(named=True):
        by_client.setdefault(row["client_id"], []).append(row)

    def labels(held: list[dict[str, Any]]) -> Counter[Any]:
        return Counter(row["label"] for row in held)

    def kinds(held: list[dict[str, Any]]) -> Counter[Any]:
        return Counter(c for row in held for c in set(categories[row["item_id"]] or ()))

    everything = [row for held in by_client.values() for row in held]
    assert table["client_id"].to_list() == sorted(by_client)
    for client, got in zip(sorted(by_client), table.iter_rows(named=True), strict=True):
        held = by_client[client]
        assert got["n_rows"] == len(held)
        for name in ("train", "valid", "test"):
            assert got[f"n_{name}"] == sum(row["split"] == name for row in held)
        assert got["n_users"] == len({row["user_id"] for row in held})
        assert got["label_counts"] == [labels(held)[label] for label in range(3)]
        expected = jensen_shannon(labels(held), labels(everything))
        assert got["divergence"] == pytest.approx(expected, abs=1e-6)
        if kinds(held):
            expected = jensen_shannon(kinds(held), kinds(everything))
            assert got["category_divergence"] == pytest.approx(expected, abs=1e-6)
        else:
            assert got["category_divergence"] is None
    sizes = [len(held) for held in by_client.values()]
    assert summary["size_gini"] == pytest.approx(gini_by_pairs(sizes), abs=1e-6)
    assert summary["clients_below"] == {
        str(n): sum(size < n for size in sizes) for n in (4, 5, 10, 20)
    }
    items = {c: {row["item_id"] for row in held} for c, held in by_client.items()}
    assert summary["item_overlap"] == pytest.approx(overlap_by_pairs(items), abs=1e-6)
    holders = Counter(item for held in items.values() for item in held)
    alone = sum(n == 1 for n in holders.values()) / len(holders)
    assert summary["items_at_one_client"] == pytest.approx(alone, abs=1e-6)
    assert summary["items_per_client"]["max"] == max(len(held) for held in items.values())
    users = [len({row["user_id"] for row in held}) for held in by_client.values()]
    assert summary["users_per_client"]["mean"] == pytest.approx(statistics.mean(users), abs=1e-6)
    for name in ("divergence", "category_divergence"):
        known = table[name].drop_nulls().to_list()
        got = summary["label_divergence" if name == "divergence" else name]
        assert (got is None) == (not known)
        if got:
            assert got["median"] == pytest.approx(statistics.median(known), abs=2e-6)
            assert got["max"] == pytest.approx(max(known), abs=2e-6)
    shares = [labels(everything)[label] / len(everything) for label in range(3)]
    assert summary["class_shares"] == pytest.approx(shares, abs=1e-6)
    assert summary["largest_class_share"] == max(summary["class_shares"])
    assert summary["smallest_class_share"] == min(summary["class_shares"])


@settings(deadline=None, max_examples=30)
@given(rows=clients_of_rows(), seed=st.integers(0, 99), block=st.integers(1, 70))
def test_neither_order_nor_blocks_change_a_bit(rows: pl.DataFrame, seed: int, block: int) -> None:
    one = heterogeneity(rows, ITEMS, n_classes=2, min_rows=1)
    two = heterogeneity(shuffled(rows, seed), ITEMS, n_classes=2, min_rows=1, block=block)
    assert one[0].equals(two[0], null_equal=True)
    assert one[1] == two[1]


def test_clients_with_disjoint_labels_and_items_are_as_far_apart_as_can_be() -> None:
    rows = pl.DataFrame(
        {
            "client_id": [0, 0, 1, 1],
            "user_id": [0, 0, 1, 1],
            "item_id": [0, 0, 5, 5],
            "label": [0, 0, 1, 1],
            "split": ["train", "test"] * 2,
        }
    ).cast({"label": pl.Int8})
    table, summary = heterogeneity(rows, ITEMS, n_classes=2, min_rows=3)
    # to the whole, which is half of each: H(3/4, 1/4) - 1/2
    expected = -0.75 * math.log2(0.75) - 0.25 * math.log2(0.25) - 0.5
    assert table["divergence"].to_list() == pytest.approx([expected] * 2)
    assert table["category_divergence"].to_list() == pytest.approx([expected] * 2)
    assert summary["item_overlap"] == 0.0
    assert summary["items_at_one_client"] == 1.0
    assert summary["clients_below"]["3"] == 2


def test_without_categories_their_divergence_is_null() -> None:
    rows = pl.DataFrame(
        {
            "client_id": [0, 1],
            "user_id": [0, 1],
            "item_id": [0, 1],
            "label": [0, 0],
            "split": ["train", "train"],
        }
    )
    for items in (ITEMS.drop("categories"), ITEMS.with_columns(categories=None)):
        table, summary = heterogeneity(rows, items, n_classes=1, min_rows=1)
        assert table["category_divergence"].to_list() == [None, None]
        assert summary["category_divergence"] is None
        assert summary["label_divergence"] == {"median": 0.0, "p99": 0.0, "max": 0.0}


def test_one_client_has_no_other_to_share_items_with() -> None:
    rows = pl.DataFrame(
        {"client_id": [0], "user_id": [0], "item_id": [1], "label": [0], "split": ["train"]}
    )
    summary = heterogeneity(rows, ITEMS, n_classes=1, min_rows=1)[1]
    assert summary["item_overlap"] is None
    assert summary["size_gini"] == 0.0


def test_the_spread_of_clients_is_told_in_mean_and_percentiles() -> None:
    client = np.repeat(np.arange(101), np.arange(1, 102))  # sizes 1 to 101
    rows = pl.DataFrame({"client_id": client}).with_columns(
        user_id=pl.lit(0), item_id=pl.lit(0), label=pl.lit(0), split=pl.lit("train")
    )
    summary = heterogeneity(rows, ITEMS, n_classes=1, min_rows=1)[1]
    assert summary["rows_per_client"] == {
        "mean": 51.0, "min": 1.0, "p1": 2.0, "p25": 26.0, "median": 51.0, "p75": 76.0,
        "p99": 100.0, "max": 101.0,
    }  # fmt: skip


def test_gini_of_known_sizes() -> None:
    assert gini(np.array([5, 5, 5, 5])) == 0.0
    assert gini(np.array([0, 0, 0, 8])) == 0.75
    assert gini(np.array([1, 3])) == 0.25
    assert gini(np.array([0])) == 0.0
