"""Partitions: one contract that every method passes, and what each of them promises besides."""

from __future__ import annotations

import logging
import math
import zlib
from collections import Counter
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import shuffled

from fedprep import recipe
from fedprep.errors import EmptyDataError, PartitionError, RecipeError
from fedprep.partition import PARTITIONS, Partitioned, heterogeneity, partition
from fedprep.partition.classes import anchors
from fedprep.partition.clusters import GRID_BITS, _means, _nearest, _on_grid, kmeans
from fedprep.partition.cut import cut, pour
from fedprep.partition.grouping import best_of, in_blocks, in_order
from fedprep.partition.label_skew import _holders, _slots
from fedprep.partition.rebalance import rebalance
from fedprep.partition.task import Task, row_units, user_units

NATURAL = ("by_user", "by_column")
WHOLE = ("by_user", "by_cluster")


class Tables:
    """Random interactions of users with items, with columns to partition by, and profiles."""

    def __init__(self, seed: int, n_users: int = 12, n_items: int = 15, most: int = 8) -> None:
        rng = np.random.default_rng(seed)
        counts = rng.integers(1, most + 1, n_users)
        user = np.repeat(np.arange(n_users), counts)
        item = np.concatenate([rng.choice(n_items, count, replace=False) for count in counts])
        n = len(user)
        label = rng.integers(0, 3, n)
        self.rows = pl.DataFrame(
            {
                "user_id": user.astype(np.int32),
                "item_id": item.astype(np.int32),
                "rating": (label + 1).astype(np.float32),
                "label": label.astype(np.int8),
                "timestamp": rng.integers(0, 50, n).astype(np.int64),
                "split": rng.choice(["train", "valid", "test"], n),
            },
            schema_overrides={"split": pl.Enum(["train", "valid", "test"])},
        )
        names = ["crime", "drama", "noir", "war"]
        cities = ["Ayr", "Bern", None]
        self.items = pl.DataFrame(
            {
                "item_id": np.arange(n_items, dtype=np.int32),
                "categories": [
                    None if i % 7 == 3 else names[: 1 + int(rng.integers(4))][i % 3 :]
                    for i in range(n_items)
                ],
                "state": [cities[int(rng.integers(3))] for _ in range(n_items)],
            },
            schema_overrides={"categories": pl.List(pl.String), "state": pl.String},
        )
        self.users = pl.DataFrame(
            {
                "user_id": np.arange(n_users, dtype=np.int32),
                "age": [None if i % 5 == 4 else int(rng.integers(18, 21)) for i in range(n_users)],
            }
        )
        self.profiles = rng.normal(size=(n_users, 6)).astype(np.float32)

    def partition(
        self, rows: pl.DataFrame | None = None, *, seed: int = 0, **options: Any
    ) -> Partitioned:
        return partition(
            self.rows if rows is None else rows,
            self.items,
            self.users,
            recipe.Partition(**options),
            seed=seed,
            profiles=self.profiles,
        )


def single_rows(label: list[int]) -> Tables:
    """Users of one row each, with these labels."""
    tables = Tables(0, n_users=len(label), most=1)
    tables.rows = tables.rows.with_columns(label=pl.Series(label, dtype=pl.Int8))
    return tables


def sizes_of(clients: np.ndarray) -> np.ndarray:
    return np.bincount(clients)


@st.composite
def options_of(draw: st.DrawFn, method: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        "method": method,
        "unit": draw(st.sampled_from(["user", "interaction"])),
        "min_rows": draw(st.integers(0, 5)),
        "alpha": draw(st.sampled_from([0.01, 0.5, 100.0])),
        "on": draw(st.sampled_from(["label", "category"])),
        "law": draw(st.sampled_from(["dirichlet", "power"])),
        "k": draw(st.integers(1, 3)),
        "column": draw(st.sampled_from(["state", "age"])),
    }
    if method not in NATURAL:
        options["n_clients"] = draw(st.integers(1, 14))
    return options


def outcome(tables: Tables, rows: pl.DataFrame, options: dict[str, Any]) -> pl.DataFrame | str:
    """The client of every (user, item), or what the error says."""
    try:
        result = tables.partition(rows, **options)
    except (PartitionError, RecipeError) as error:
        return str(error)
    client = pl.Series("client", result.client_id)
    return rows.select("user_id", "item_id").with_columns(client).sort("user_id", "item_id")


@pytest.mark.parametrize("method", PARTITIONS)
@settings(deadline=None, max_examples=40)
@given(data=st.data(), seed=st.integers(0, 10**6))
def test_every_partition_gives_each_row_one_client_and_keeps_the_contract(
    method: str, data: st.DataObject, seed: int
) -> None:
    tables = Tables(seed)
    options = data.draw(options_of(method))
    clients = outcome(tables, tables.rows, options)
    # the rows' order changes nothing, and neither does a second run
    shuffled = tables.rows.sample(fraction=1, shuffle=True, seed=seed)
    again = outcome(tables, shuffled, options)
    assert clients.equals(again) if isinstance(clients, pl.DataFrame) else clients == again
    if isinstance(clients, str):
        return
    n_rows = sizes_of(clients["client"].to_numpy())
    assert clients.height == tables.rows.height
    assert clients["client"].dtype == pl.Int32
    assert n_rows.min() >= max(1, options["min_rows"])
    assert len(n_rows) == options.get("n_clients", len(n_rows))
    if options["unit"] == "user" or method in WHOLE:
        assert clients.group_by("user_id").agg(pl.col("client").n_unique())["client"].max() == 1


@pytest.mark.parametrize("method", PARTITIONS)
def test_partition_refuses_only_what_cannot_be(method: str) -> None:
    tables = Tables(3, n_users=40)
    made = tables.partition(method=method, n_clients=4, column="state", k=2)
    n_rows = sizes_of(made.client_id)
    assert made.facts["n_clients"] == len(n_rows)
    assert made.facts["smallest"] == n_rows.min()
    assert made.facts["largest"] == n_rows.max()
    assert made.steps[0].rows_in == made.steps[0].rows_out == tables.rows.height


@pytest.mark.parametrize("method", ["iid", "dirichlet", "quantity", "pathological"])
def test_another_seed_gives_other_clients(method: str) -> None:
    tables = Tables(1, n_users=60)
    one, two = (tables.partition(method=method, n_clients=5, seed=s).client_id for s in (0, 1))
    assert not np.array_equal(one, two)


GOLDEN = {
    "by_user": 0x0C070A60,
    "iid": 0x8DD7D40F,
    "dirichlet": 0x96E61472,
    "quantity": 0xEB311062,
    "pathological": 0x9DD080B0,
    "by_column": 0xE43A6AF3,
    "by_cluster": 0x58AA5B07,
    "by_time": 0x83DE0B2E,
}


@pytest.mark.parametrize("method", PARTITIONS)
def test_a_seed_gives_the_same_clients_in_every_release(method: str) -> None:
    # a Dataset's id depends on it: if a new version of numpy draws other numbers, say so in CHANGELOG
    tables = Tables(0, n_users=30)
    clients = tables.partition(
        method=method, n_clients=5, column="state", unit="interaction", seed=7
    ).client_id
    assert zlib.crc32(clients.tobytes()) == GOLDEN[method]


def test_users_of_one_row_are_partitioned_like_rows() -> None:
    tables = single_rows([0, 1, 2] * 20)
    for method in ("iid", "dirichlet", "quantity", "pathological", "by_time"):
        by_user, by_row = (
            tables.partition(method=method, n_clients=6, unit=unit).client_id
            for unit in ("user", "interaction")
        )
        assert np.array_equal(by_user, by_row), method


def test_rows_of_a_pair_that_repeats_are_told_apart_by_time_in_whatever_order_they_come() -> None:
    tables = Tables(0)
    later = tables.rows.with_columns(pl.col("timestamp") + 100, label=pl.lit(2, pl.Int8))
    rows = pl.concat([tables.rows, later]).with_row_index("at")
    keys = ("user_id", "item_id", "timestamp")
    found = []
    for seed in range(3):
        mixed = shuffled(rows, seed)
        made = tables.partition(mixed, method="iid", n_clients=4, unit="interaction")
        found.append(mixed.with_columns(client=pl.Series(made.client_id)).sort(*keys)["client"])
    assert found[0].equals(found[1])
    assert found[0].equals(found[2])


# --- what each method promises ---------------------------------------------------------------------


def test_by_user_numbers_the_users_that_have_rows() -> None:
    tables = Tables(0)
    rows = tables.rows.filter(pl.col("user_id") != 2)
    clients = tables.partition(rows, method="by_user").client_id
    expected = rows["user_id"].to_numpy() - (rows["user_id"].to_numpy() > 2)
    assert np.array_equal(clients, expected)


@pytest.mark.parametrize("unit", ["user", "interaction"])
def test_iid_deals_equal_numbers_of_units(unit: str) -> None:
    tables = Tables(5, n_users=23)
    clients = tables.partition(method="iid", n_clients=5, unit=unit).client_id
    units = tables.rows.with_columns(client=pl.Series(clients))
    if unit == "user":
        units = units.unique("user_id")
    n = sizes_of(units["client"].to_numpy())
    assert n.max() - n.min() <= 1


def label_divergence(tables: Tables, **options: Any) -> float:
    clients = tables.partition(**options).client_id
    rows = tables.rows.with_columns(client_id=pl.Series(clients))
    median: float = heterogeneity(rows, tables.items, n_classes=3, min_rows=1)[1][
        "label_divergence"
    ]["median"]
    return median


@pytest.mark.parametrize("unit", ["user", "interaction"])
def test_a_smaller_alpha_makes_labels_of_clients_differ_more(unit: str) -> None:
    tables = Tables(2, n_users=600)
    skew = [
        label_divergence(tables, method="dirichlet", n_clients=10, alpha=alpha, unit=unit)
        for alpha in (0.05, 1.0, 1000.0)
    ]
    assert skew[0] > 2 * skew[1] > 4 * skew[2]
    assert skew[2] < 0.01


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), on=st.sampled_from(["label", "category"]))
def test_a_user_stands_in_the_class_with_the_largest_standardised_residual(
    seed: int, on: Literal["label", "category"]
) -> None:
    tables = Tables(seed)
    units = user_units(tables.rows)
    task = Task(
        rows=tables.rows,
        items=tables.items,
        users=tables.users,
        options=recipe.Partition(on=on),
        units=units,
        n_clients=2,
    )
    found = anchors(task, np.random.default_rng(0))
    kinds = dict(tables.items.select("item_id", "categories").iter_rows())
    counts: dict[int, Counter[str]] = {user: Counter() for user in range(len(units))}
    for row in tables.rows.iter_rows(named=True):
        classes = [str(row["label"])] if on == "label" else kinds[row["item_id"]] or []
        counts[row["user_id"]].update(classes)
    whole = sum(counts.values(), Counter())
    for user, own in counts.items():
        name = found.names[found.of_unit[user]]
        if not own:
            assert name == "(no category)"
            continue
        residual = {}
        for key, total in whole.items():
            share = total / whole.total()
            expected = own.total() * share
            residual[key] = (own[key] - expected) / math.sqrt(expected * (1 - share))
        assert residual[name] == pytest.approx(max(residual.values()), abs=1e-9)


def test_dirichlet_gives_each_client_its_share_of_every_label_to_within_a_row() -> None:
    size = np.ones(1_000, dtype=np.int64)
    shares = np.random.default_rng(0).dirichlet(np.full(30, 0.3))
    for start in (0.0, 0.3, 0.999):
        got = np.bincount(pour(size, shares, start), minlength=30)
        assert np.abs(got - 1_000 * shares).max() < 1


def test_dirichlet_on_categories_skews_categories_and_not_labels() -> None:
    tables = Tables(4, n_users=800)
    clients = tables.partition(
        method="dirichlet", n_clients=8, alpha=0.05, on="category", unit="interaction"
    ).client_id
    rows = tables.rows.with_columns(client_id=pl.Series(clients))
    summary = heterogeneity(rows, tables.items, n_classes=3, min_rows=1)[1]
    assert summary["category_divergence"]["median"] > 5 * summary["label_divergence"]["median"]


def test_a_row_stands_in_each_category_of_its_item_by_equal_chance() -> None:
    tables = single_rows([0] * 900)  # 900 users of one row each, all of one item
    item = tables.items.select(
        pl.lit(0, pl.Int32).alias("item_id"), categories=pl.lit(["crime", "noir", "war"])
    ).head(1)
    rows = tables.rows.with_columns(item_id=pl.lit(0, pl.Int32))
    task = Task(
        rows=rows,
        items=item,
        users=tables.users,
        options=recipe.Partition(on="category"),
        units=row_units(rows),
        n_clients=2,
    )
    found = anchors(task, np.random.default_rng(0))
    assert found.names == ("crime", "noir", "war")
    assert np.abs(np.bincount(found.of_unit) - 300).max() < 60  # four standard deviations


def test_dirichlet_of_users_reports_what_the_draw_asked_for() -> None:
    tables = single_rows([0, 1] * 100)
    made = tables.partition(method="dirichlet", n_clients=10, alpha=2.0)
    rows = tables.rows.with_columns(client_id=pl.Series(made.client_id))
    summary = heterogeneity(rows, tables.items, n_classes=2, min_rows=1)[1]
    # users of one row can follow the draw exactly
    assert made.facts["moved"] == 0
    assert made.facts["pool_divergence"] == summary["label_divergence"]["median"]


def test_quantity_by_power_law_gives_sizes_of_that_law() -> None:
    tables = Tables(6, n_users=400)
    made = tables.partition(
        method="quantity", n_clients=8, law="power", exponent=1.0, unit="interaction"
    )
    share = 1 / np.arange(1, 9)
    expected = tables.rows.height * share / share.sum()
    assert np.abs(sizes_of(made.client_id) - expected).max() <= 1
    assert made.facts["exponent"] == 1.0


def test_quantity_by_dirichlet_is_more_unequal_with_a_smaller_alpha() -> None:
    tables = Tables(6, n_users=400)
    spread = [
        sizes_of(tables.partition(method="quantity", n_clients=20, alpha=alpha).client_id).std()
        for alpha in (0.1, 1.0, 100.0)
    ]
    assert spread[0] > spread[1] > spread[2]


@pytest.mark.parametrize("k", [1, 2, 3])
def test_pathological_gives_each_client_k_labels_and_about_equal_rows(k: int) -> None:
    tables = Tables(7, n_users=500)
    clients = tables.partition(
        method="pathological", n_clients=12, k=k, unit="interaction"
    ).client_id
    per_client = tables.rows.with_columns(client=pl.Series(clients)).group_by("client")
    labels = per_client.agg(pl.col("label").n_unique(), pl.len())
    assert labels["label"].unique().to_list() == [k]
    assert labels["len"].max() < 1.5 * labels["len"].min()  # type: ignore[operator]


def test_pathological_counts_the_clients_that_hold_more_than_k_labels() -> None:
    tables = Tables(7, n_users=500)
    asked = {"method": "pathological", "n_clients": 12, "k": 1}
    rows = tables.partition(**asked, unit="interaction").facts
    assert (rows["most_held"], rows["clients_above_k"]) == (1, 0)
    for options in ({"unit": "user"}, {"unit": "user", "on": "category"}):
        made = tables.partition(**asked, **options)
        assert made.facts["clients_above_k"] > 0
        assert made.facts["most_held"] > 1
    filled = single_rows([0] * 30 + [1] * 2)
    facts = filled.partition(
        method="pathological", n_clients=2, k=1, min_rows=5, unit="interaction"
    ).facts
    assert (facts["most_held"], facts["clients_above_k"]) == (2, 1)


def test_pathological_refuses_to_lose_labels() -> None:
    tables = single_rows([0, 1, 2, 3, 4] * 3)
    with pytest.raises(PartitionError, match="2 clients of 2 labels hold at most 4 of 5"):
        tables.partition(method="pathological", n_clients=2, k=2)
    with pytest.raises(RecipeError, match="6 labels a client are asked for"):
        tables.partition(method="pathological", n_clients=2, k=6)
    tables = single_rows([0, 1, 2, 3] * 3)
    assert tables.partition(method="pathological", n_clients=2, k=2).facts["n_clients"] == 2


@pytest.mark.parametrize("unit", ["user", "interaction"])
def test_one_class_alone_cannot_be_skewed(unit: str) -> None:
    tables = single_rows([1] * 9)
    with pytest.raises(PartitionError, match="stand in one label, '1'"):
        tables.partition(method="dirichlet", n_clients=3, unit=unit)
    tables.items = tables.items.drop("categories")
    with pytest.raises(PartitionError, match=r"one category, '\(no category\)'"):
        tables.partition(method="pathological", k=1, n_clients=3, on="category", unit=unit)


@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(st.integers(1, 10_000), min_size=1, max_size=12),
    n_clients=st.integers(1, 30),
    data=st.data(),
)
def test_slots_fit_the_clients_and_no_client_has_a_class_twice(
    rows: list[int], n_clients: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(-(-len(rows) // n_clients), max(len(rows), 1)))
    most = np.minimum(np.array(rows), n_clients)
    if most.sum() < n_clients:
        return
    slots = _slots(np.array(rows, dtype=float), most, n_clients * k)
    assert slots.min() >= 1
    assert (slots <= most).all()
    assert slots.sum() == min(n_clients * k, most.sum())
    holders = _holders(slots, n_clients, k, np.random.default_rng(0))
    assert [len(h) for h in holders] == slots.tolist()
    assert all(len(set(h.tolist())) == len(h) for h in holders)
    held = np.bincount(np.concatenate(holders), minlength=n_clients)
    assert 1 <= held.min() <= held.max() <= k


def by_state(states: list[str | None], unit: str = "user") -> Partitioned:
    """Partition by the state of items of three users: rows (0, 0..3), (1, 4..5), (2, 6)."""
    tables = Tables(0, n_users=3, n_items=7)
    tables.rows = tables.rows.head(0).vstack(
        pl.DataFrame(
            {"user_id": [0, 0, 0, 0, 1, 1, 2], "item_id": [0, 1, 2, 3, 4, 5, 6]},
        ).select(
            pl.col("user_id", "item_id").cast(pl.Int32),
            rating=pl.lit(1.0, dtype=pl.Float32),
            label=pl.lit(0, dtype=pl.Int8),
            timestamp=pl.lit(0, dtype=pl.Int64),
            split=pl.lit("train", dtype=pl.Enum(["train", "valid", "test"])),
        )
    )
    tables.items = tables.items.with_columns(state=pl.Series(states, dtype=pl.String))
    return tables.partition(method="by_column", column="state", unit=unit)


def test_by_column_sends_a_user_to_the_value_of_most_rows() -> None:
    made = by_state(["PA", "PA", "FL", None, "FL", "FL", "FL"])
    assert made.client_id.tolist() == [1, 1, 1, 1, 0, 0, 0]
    assert made.facts["names"] == ["FL", "PA"]


def test_by_column_settles_ties_by_the_value_that_all_users_have_more_often() -> None:
    made = by_state(["AZ", "AZ", "FL", "FL", "FL", None, "FL"])
    assert made.client_id.tolist() == [0] * 7
    assert made.facts["values_without_client"] == 1
    # as often: the smaller value
    assert by_state(["FL", "AZ", None, None, None, None, None]).facts["names"] == ["AZ", None]


def test_by_column_puts_users_without_a_value_to_a_last_client_without_name() -> None:
    made = by_state(["PA", "PA", None, None, None, None, "FL"])
    assert made.facts["names"] == ["FL", "PA", None]
    assert made.client_id.tolist() == [1, 1, 1, 1, 2, 2, 0]
    assert made.facts["without_value"] == 1


def test_values_that_only_items_without_rows_have_leave_one_client_of_all() -> None:
    tables = Tables(0)
    unseen = {"item_id": [15], "categories": [None], "state": ["Ayr"]}
    tables.items = pl.concat(
        [
            tables.items.with_columns(state=pl.lit(None, pl.String)),
            pl.DataFrame(unseen, schema=tables.items.schema),
        ]
    )
    made = tables.partition(method="by_column", column="state")
    assert not made.client_id.any()
    assert (made.facts["without_value"], made.facts["values_without_client"]) == (12, 1)


def test_by_column_splits_rows_by_their_item_on_request() -> None:
    made = by_state(["PA", "PA", None, "FL", None, "FL", "FL"], unit="interaction")
    assert made.client_id.tolist() == [1, 1, 2, 0, 2, 0, 0]


def test_by_column_orders_numbers_as_numbers() -> None:
    tables = Tables(0)
    tables.users = tables.users.with_columns(age=pl.Series([9, 10, 100] * 4))
    assert tables.partition(method="by_column", column="age").facts["names"] == ["9", "10", "100"]


def test_by_column_names_the_nearest_column() -> None:
    tables = Tables(0)
    with pytest.raises(RecipeError, match="did you mean 'state'"):
        tables.partition(method="by_column", column="State_")
    with pytest.raises(RecipeError, match="which column"):
        tables.partition(method="by_column")
    with pytest.raises(RecipeError, match='on = "category"'):
        tables.partition(method="by_column", column="categories")
    tables.items = tables.items.rename({"categories": "tags"})
    with pytest.raises(RecipeError, match="cannot be one value a client") as error:
        tables.partition(method="by_column", column="tags")
    assert not error.value.hint
    tables.items = tables.items.with_columns(state=pl.lit(None, dtype=pl.String))
    with pytest.raises(PartitionError, match="holds no value"):
        tables.partition(method="by_column", column="state")
    tables.items, tables.users = tables.items.select("item_id"), tables.users.select("user_id")
    with pytest.raises(RecipeError, match="no columns to partition by"):
        tables.partition(method="by_column", column="state")


def test_by_time_makes_consecutive_periods_of_equal_rows() -> None:
    tables = Tables(8, n_users=100)
    clients = tables.partition(method="by_time", n_clients=7, unit="interaction").client_id
    spans = (
        tables.rows.with_columns(client=pl.Series(clients))
        .group_by("client")
        .agg(first=pl.col("timestamp").min(), last=pl.col("timestamp").max(), n=pl.len())
        .sort("client")
    )
    assert (spans["last"][:-1] <= spans["first"][1:]).all()
    assert spans["n"].max() - spans["n"].min() <= 1  # type: ignore[operator]


def test_by_time_places_a_user_by_the_median_row() -> None:
    tables = Tables(9, n_users=40)
    clients = tables.partition(method="by_time", n_clients=4).client_id
    middle = (
        tables.rows.with_columns(client=pl.Series(clients))
        .group_by("user_id")
        .agg(pl.col("client").first(), pl.col("timestamp").quantile(0.5, "lower"))
        .sort("timestamp", "user_id")
    )
    assert middle["client"].is_sorted()


def test_by_time_needs_timestamps() -> None:
    tables = Tables(0)
    rows = tables.rows.with_columns(timestamp=pl.lit(None, dtype=pl.Int64))
    with pytest.raises(PartitionError, match="have no timestamp"):
        tables.partition(rows, method="by_time", n_clients=2)


def test_by_cluster_finds_planted_clusters() -> None:
    tables = Tables(0, n_users=90)
    truth = np.arange(90) % 3
    centres = np.eye(3, 6, dtype=np.float32) * 5
    tables.profiles = (centres[truth] + tables.profiles / 10).astype(np.float32)
    clients = tables.partition(method="by_cluster", n_clients=3, unit="interaction").client_id
    found = dict(zip(tables.rows["user_id"].to_list(), clients.tolist(), strict=True))
    assert len({(truth[user], client) for user, client in found.items()}) == 3


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 12))
def test_clusters_do_not_depend_on_the_order_in_which_numbers_are_added(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    points = (rng.integers(0, 3, (60, 9)) / 10).astype(np.float32)  # ties abound
    turned = points[:, rng.permutation(9)]
    one, two = (kmeans(p, k, np.random.default_rng(seed)) for p in (points, turned))
    assert np.array_equal(one, two)


def test_profiles_lie_on_whole_numbers_that_add_up_exactly() -> None:
    points = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)
    exponent = GRID_BITS - math.frexp(float(np.abs(points).max()))[1]
    grid = _on_grid(points, exponent)
    nearest, distance = _nearest(grid, grid[:4])
    centres = _means(grid, nearest, distance, 4)
    for values in (grid, centres):
        assert (values == np.rint(values)).all()
        assert np.abs(values).max() <= 2**GRID_BITS
    assert np.abs(grid).max() > 2 ** (GRID_BITS - 1)  # and as fine as that allows
    assert distance.tolist() == ((grid - grid[nearest]) ** 2).sum(axis=1).tolist()


def test_many_clusters_and_equal_points_are_borne() -> None:
    rng = np.random.default_rng(0)
    assert kmeans(np.ones((20, 3), np.float32), 5, rng).tolist() == [0] * 20
    points = rng.normal(size=(900, 4)).astype(np.float32)
    assert len(np.unique(kmeans(points, 600, rng))) > 500


def test_by_cluster_says_what_it_lacks() -> None:
    tables = Tables(0)
    tables.profiles[4, 0] = np.nan
    with pytest.raises(PartitionError, match=r"1 users are not finite[\s\S]*user 4"):
        tables.partition(method="by_cluster", n_clients=2)
    tables.profiles = None  # type: ignore[assignment]
    with pytest.raises(PartitionError, match="text embeddings"):
        tables.partition(method="by_cluster", n_clients=2)


# --- what cannot be -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["dirichlet", "by_cluster"])
def test_no_client_is_empty_even_where_none_need_have_rows(method: str) -> None:
    tables = Tables(0, n_users=40)
    tables.profiles = np.ones((40, 3), np.float32)  # a single cluster
    made = tables.partition(method=method, n_clients=30, alpha=0.01, min_rows=0)
    assert made.facts["moved"] > 0
    assert len(made.steps) == 2
    assert sizes_of(made.client_id).min() >= 1


def test_more_clients_than_users_are_refused_with_both_numbers() -> None:
    tables = Tables(0)
    with pytest.raises(
        PartitionError, match="13 clients are asked for, but there are only 12 users"
    ):
        tables.partition(method="iid", n_clients=13)
    # rows can go to as many clients as there are rows
    n = tables.rows.height
    made = tables.partition(method="dirichlet", n_clients=n, unit="interaction", alpha=0.01)
    assert sizes_of(made.client_id).tolist() == [1] * n


def test_rows_that_cannot_fill_the_clients_are_refused() -> None:
    with pytest.raises(PartitionError, match="10 clients of 100 rows need 1,000 rows"):
        Tables(0).partition(method="iid", n_clients=10, min_rows=100)


def test_too_small_clients_of_nature_are_named() -> None:
    tables = Tables(0)
    counts = sizes_of(tables.rows["user_id"].to_numpy())
    least = int(counts.min()) + 1
    worst = int(counts.argmin())
    with pytest.raises(
        PartitionError, match=rf"client {worst} with {counts.min()}[\s\S]*user_core"
    ):
        tables.partition(method="by_user", min_rows=least)
    with pytest.raises(PartitionError, match=r"client \d \((Ayr|Bern)\) with[\s\S]*from the data"):
        tables.partition(method="by_column", column="state", min_rows=1_000)


def test_units_that_move_to_fill_a_client_make_a_step_and_those_that_stay_make_none() -> None:
    tables = single_rows([0, 1] * 10)
    stay = tables.partition(method="iid", n_clients=5)
    assert [step.name for step in stay.steps] == ["iid"]
    assert (stay.facts["moved"], stay.facts["clients_below_min_rows"]) == (0, 0)
    assert "names" not in stay.facts
    move = tables.partition(method="quantity", n_clients=5, alpha=0.01, min_rows=3)
    assert [step.name for step in move.steps] == ["quantity", "min_rows"]
    assert move.steps[1].why.startswith(f"{move.facts['moved']} users moved")
    assert move.facts["moved"] > 0


def test_a_missing_number_of_clients_is_an_error_and_a_useless_one_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tables = Tables(0)
    with pytest.raises(RecipeError, match="needs to know how many clients"):
        tables.partition(method="iid")
    with caplog.at_level(logging.WARNING):
        tables.partition(method="by_user", n_clients=3)
    assert "n_clients = 3 is not used" in caplog.text


def test_no_row_is_no_partition() -> None:
    tables = Tables(0)
    with pytest.raises(EmptyDataError):
        tables.partition(tables.rows.head(0), method="by_user")


# --- the parts ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(
    size=st.lists(st.integers(1, 9), min_size=1, max_size=60),
    min_rows=st.integers(1, 12),
    n_clients=st.integers(1, 20),
    seed=st.integers(0, 10**6),
)
def test_rebalancing_fills_small_clients_and_never_makes_one(
    size: list[int], min_rows: int, n_clients: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rows = np.array(size)
    client = rng.integers(0, n_clients, len(rows))
    before = np.bincount(client, weights=rows, minlength=n_clients)
    after, moved = rebalance(client, rows, n_clients, min_rows, rng.permutation(len(rows)))
    got = np.bincount(after, weights=rows, minlength=n_clients)
    assert moved == (after != client).sum()
    assert (got >= np.minimum(before, min_rows)).all()
    if (before >= min_rows).all():
        assert moved == 0
    if min_rows == 1 and len(rows) >= n_clients:
        assert got.min() >= 1
    # it gives up only when no client can spare a unit and keep min_rows
    short = got < min_rows
    if short.any():
        spare = [
            (rows[after == c].sum() - rows[after == c].min()) >= min_rows
            for c in np.flatnonzero(before > min_rows)
            if (after == c).any()
        ]
        assert not any(spare)


def test_rebalancing_takes_from_the_largest_client_first() -> None:
    client = np.array([0] * 10 + [1] * 5)
    after, moved = rebalance(client, np.ones(15, np.int64), 3, 3, np.arange(15))
    assert moved == 3
    assert np.bincount(after).tolist() == [7, 5, 3]


@settings(deadline=None, max_examples=100)
@given(
    size=st.lists(st.integers(1, 50), min_size=1, max_size=60),
    weights=st.lists(st.floats(0, 1), min_size=1, max_size=60),
)
def test_a_cut_keeps_neighbours_together_and_leaves_no_piece_empty(
    size: list[int], weights: list[float]
) -> None:
    weights = weights[: len(size)]
    weights[0] = 1.0
    piece = cut(np.array(size), np.array(weights))
    assert piece[0] == 0
    assert piece[-1] == len(weights) - 1
    assert set(np.diff(piece).tolist()) <= {0, 1}


@settings(deadline=None, max_examples=50)
@given(owner=st.lists(st.integers(0, 9), min_size=1, max_size=80), block=st.integers(1, 100))
def test_blocks_hold_whole_owners_and_every_row_once(owner: list[int], block: int) -> None:
    owners = np.array(owner)
    n_rows = np.bincount(owners)
    assert in_order(owners).tolist() == np.argsort(owners, kind="stable").tolist()
    seen = []
    for first, last, part in in_blocks(owners, n_rows, block):
        rows = np.arange(len(owners))[part]
        assert ((owners[rows] >= first) & (owners[rows] < last)).all()
        seen += rows.tolist()
    assert sorted(seen) == list(range(len(owners)))


def test_the_best_of_each_owner_is_the_first_of_equals() -> None:
    owner = np.array([1, 1, 1, 4, 4, 7])
    owners, best = best_of(owner, np.array([2.0, 3.0, 3.0, -1.0, -1.0, 0.0]))
    assert owners.tolist() == [1, 4, 7]
    assert best.tolist() == [1, 3, 5]


def test_every_method_is_in_the_recipe_and_in_the_documentation() -> None:
    methods = recipe.Partition.__annotations__["method"]
    named = get_args(eval(methods, vars(recipe))) if isinstance(methods, str) else get_args(methods)
    assert set(PARTITIONS) == set(named)
    text = (Path(__file__).parent.parent / "docs" / "partitions.md").read_text(encoding="utf-8")
    for name, method in PARTITIONS.items():
        assert f"### `{name}`" in text
        first = (method.__doc__ or "").splitlines()[0]
        assert 20 < len(first) < 110
        assert first.endswith(".")
