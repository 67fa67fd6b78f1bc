"""Behaviour features: from train rows alone, exact in any order, the same from a Dataset's files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprep.behavior import LIMIT, behavior_features
from fedprep.behavior.components import PRIOR_ROWS
from fedprep.recipe import EmbedBehavior
from fedprep.schema import SPLIT_DTYPE

DAY = 86_400
START = 1_000_000_000

ITEMS = pl.DataFrame(
    {
        "item_id": [0, 1, 2, 3],
        "source_id": ["a", "b", "c", "d"],
        "categories": [["Drama"], ["Drama", "War", "War"], None, ["All", "Drama"]],
    },
    schema_overrides={"item_id": pl.Int32},
)


def table(rows: list[tuple[int, int, float | None, int | None, str]]) -> pl.DataFrame:
    """Returns interactions of (user, item, rating, seconds after the start, split)."""
    frame = pl.DataFrame(
        rows,
        schema={
            "user_id": pl.Int32,
            "item_id": pl.Int32,
            "rating": pl.Float32,
            "timestamp": pl.Int64,
            "split": SPLIT_DTYPE,
        },
        orient="row",
    )
    return frame.with_columns(
        pl.col("timestamp") + START,
        label=pl.col("rating").fill_null(5).ge(4).cast(pl.Int8),
    )


def random_table(
    seed: int, *, n_users: int = 40, n_items: int = 30
) -> tuple[pl.DataFrame, pl.DataFrame]:
    rng = np.random.default_rng(seed)
    pairs = rng.permutation(n_users * n_items)[: 12 * n_users]
    rows = pl.DataFrame(
        {
            "user_id": (pairs // n_items).astype(np.int32),
            "item_id": (pairs % n_items).astype(np.int32),
            "rating": rng.integers(1, 11, len(pairs)).astype(np.float32) / 2,
            "timestamp": START + rng.integers(0, 400 * DAY, len(pairs)),
            "split": pl.Series(
                rng.choice(["train", "train", "valid", "test"], len(pairs)), dtype=SPLIT_DTYPE
            ),
        }
    ).with_columns(label=(pl.col("rating") >= 4).cast(pl.Int8))
    items = pl.DataFrame(
        {
            "item_id": np.arange(n_items, dtype=np.int32),
            "source_id": [f"s{i}" for i in range(n_items)],
            "categories": [[f"c{i % 5}", f"d{i % 3}"] for i in range(n_items)],
        }
    )
    return rows, items


ROWS = table(
    [
        (0, 0, 5.0, 0, "train"),
        (0, 1, 3.0, 2 * DAY, "train"),
        (0, 2, 4.0, 3 * DAY, "test"),
        (1, 1, 1.0, 40 * DAY, "train"),
        (2, 3, 2.0, 41 * DAY, "valid"),
    ]
)


def raw(rows: pl.DataFrame, n_users: int, dim: int = 32) -> dict[str, list[float]]:
    values, facts = behavior_features(
        rows, ITEMS, n_users, EmbedBehavior(dim=dim, normalise="none")
    )
    return {name: values[:, place].tolist() for place, name in enumerate(facts["names"])}


def test_each_component_is_what_it_says() -> None:
    got = raw(ROWS, 2)
    third = math.log2(3)
    assert got["log_rows"] == pytest.approx([third, 1.0], abs=1e-6)
    assert got["rating_mean"] == pytest.approx([0.75, 0.0], abs=1e-6)  # 5 and 3 on the scale 1..5
    assert got["rating_deviation"] == pytest.approx([0.25, 0.0], abs=1e-6)
    assert got["rating_share_1"] == [0.0, 1.0]  # the distinct ratings are 1, 3, 5
    assert got["rating_share_2"] == [0.5, 0.0]
    assert got["rating_share_3"] == [0.5, 0.0]
    assert "rating_share_4" not in got
    assert got["label_mean"] == [0.5, 0.0]
    assert got["log_popularity"] == pytest.approx(
        [0.5, 1.0], abs=1e-6
    )  # b has two train rows, a one
    assert got["log_recency_days"] == pytest.approx([math.log2(39), 0.0], abs=1e-5)
    assert got["log_span_days"] == pytest.approx([third, 0.0], abs=1e-6)
    assert got["log_gap_seconds"] == pytest.approx([math.log2(1 + 2 * DAY)] * 2, abs=1e-5)
    assert got["log_active_days"] == pytest.approx([third, 1.0], abs=1e-6)
    assert got["recent_share"] == [0.0, 1.0]


def test_affinities_are_smoothed_lifts_and_a_category_listed_twice_counts_once() -> None:
    got = raw(ROWS, 2)
    assert "category:All" not in got  # no train row
    assert "category:Drama" not in got  # every train row
    share = 2 / 3
    expected = [
        math.log2((n + PRIOR_ROWS * share) / ((m + PRIOR_ROWS) * share))
        for n, m in [(1, 2), (1, 1)]
    ]
    assert got["category:War"] == pytest.approx(expected, abs=1e-6)
    assert got["item:b"] == pytest.approx(expected, abs=1e-6)
    assert list(got)[-3:] == ["category:War", "item:b", "item:a"]


def test_valid_and_test_rows_change_nothing() -> None:
    rows, items = random_table(3)
    options = EmbedBehavior()
    whole = behavior_features(rows, items, 40, options)
    train = behavior_features(rows.filter(pl.col("split") == "train"), items, 40, options)
    other = rows.with_columns(
        rating=pl.when(pl.col("split") == "train")
        .then("rating")
        .otherwise(pl.lit(5.0))
        .cast(pl.Float32),
        timestamp=pl.when(pl.col("split") == "train")
        .then("timestamp")
        .otherwise(START + 900 * DAY),
    )
    changed = behavior_features(other, items, 40, options)
    assert whole[1] == train[1] == changed[1]
    assert whole[0].tobytes() == train[0].tobytes() == changed[0].tobytes()


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), blocks=st.sampled_from([7, 50, 10_000]))
def test_neither_the_order_of_rows_nor_the_size_of_blocks_changes_a_byte(
    seed: int, blocks: int
) -> None:
    rows, items = random_table(seed)
    rows = rows.with_columns(  # means of duplicates are no round numbers
        rating=(pl.col("rating") / 3).cast(pl.Float32)
    )
    options = EmbedBehavior()
    expected = behavior_features(rows, items, 40, options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fedprep.behavior.rows.BLOCK_ROWS", blocks)
        got = behavior_features(
            rows.sample(fraction=1, shuffle=True, seed=seed), items.reverse(), 40, options
        )
    in_parts = behavior_features(list(rows.iter_slices(blocks)), items, 40, options)
    assert got[1] == expected[1] == in_parts[1]
    assert got[0].tobytes() == expected[0].tobytes() == in_parts[0].tobytes()


def test_sums_agree_with_a_loop_over_users() -> None:
    rows, items = random_table(1)
    values, facts = behavior_features(rows, items, 40, EmbedBehavior(dim=40, normalise="none"))
    column = {name: values[:, i] for i, name in enumerate(facts["names"])}
    train = rows.filter(pl.col("split") == "train").join(items, on="item_id")
    end = train["timestamp"].max()
    held = {name.removeprefix("category:") for name in column if name.startswith("category:")}
    assert held == {f"c{i}" for i in range(5)} | {f"d{i}" for i in range(3)}
    assert facts["users_with_train_rows"] == train["user_id"].n_unique()
    for user in train["user_id"].unique().to_list():
        own = train.filter(pl.col("user_id") == user)
        scaled = (own["rating"].to_numpy().astype(float) - 0.5) / 4.5
        assert column["rating_mean"][user] == pytest.approx(scaled.mean(), abs=2e-5)
        assert column["rating_deviation"][user] == pytest.approx(scaled.std(), abs=5e-4)
        days = len({t // DAY for t in own["timestamp"]})
        assert column["log_active_days"][user] == pytest.approx(math.log2(1 + days), abs=1e-5)
        assert column["recent_share"][user] == pytest.approx(
            (own["timestamp"] > end - 30 * DAY).mean(), abs=1e-5
        )
        assert column["label_mean"][user] == pytest.approx((own["rating"] >= 4).mean(), abs=1e-5)
        for category in held:
            share = train["categories"].list.contains(category).mean()
            n = own["categories"].list.contains(category).sum()
            lift = math.log2((n + PRIOR_ROWS * share) / ((own.height + PRIOR_ROWS) * share))
            assert column[f"category:{category}"][user] == pytest.approx(lift, abs=1e-5)


def test_ten_rating_values_share_five_bins() -> None:
    rows, items = random_table(2)
    values, facts = behavior_features(rows, items, 40, EmbedBehavior(normalise="none"))
    first = facts["names"].index("rating_share_1")
    assert facts["names"][first + 4] == "rating_share_5"
    train = rows.filter((pl.col("split") == "train") & (pl.col("user_id") == 0))[
        "rating"
    ].to_numpy()
    pairs = [((train > 2 * b / 2) & (train <= 2 * (b + 1) / 2)).mean() for b in range(5)]
    assert values[0, first : first + 5] == pytest.approx(pairs, abs=1e-5)


def test_components_are_standardised_over_users_with_train_rows() -> None:
    rows, items = random_table(4)
    lonely = rows.filter(pl.col("user_id") >= 5)
    values, facts = behavior_features(lonely, items, 40, EmbedBehavior())
    assert facts["users_without_train_rows"] == 5
    assert facts["values_cut"] == 0
    assert np.all(values[:5] == 0)
    assert np.abs(values[5:].mean(axis=0)).max() < 1e-4
    deviation = values[5:].std(axis=0)
    assert np.all((np.abs(deviation - 1) < 1e-4) | (deviation == 0))
    assert (deviation == 0).sum() <= 1
    assert facts["rms"] == pytest.approx(float(np.sqrt((values[5:].astype(float) ** 2).mean())))


def test_a_user_without_train_rows_gets_the_mean_of_the_others() -> None:
    got = raw(ROWS, 3)  # user 2 has a row in valid only
    for name, values in got.items():
        assert values[2] == pytest.approx(np.mean(values[:2]), abs=2e-6), name


def test_unit_length_by_recipe() -> None:
    rows, items = random_table(5)
    values, facts = behavior_features(rows, items, 41, EmbedBehavior(normalise="l2"))
    assert np.linalg.norm(values, axis=1) == pytest.approx(np.ones(41), abs=1e-6)
    assert facts["normalise"] == "l2"


def test_one_odd_user_is_cut() -> None:
    rows = [(u, u % 2, 4.0 if u else 1.0, u, "train") for u in range(400)]
    values, facts = behavior_features(table(rows), ITEMS, 400, EmbedBehavior())
    assert facts["values_cut"] > 0
    assert np.abs(values).max() == LIMIT


def test_what_the_data_cannot_tell_leaves_its_place_to_items() -> None:
    rows, items = random_table(6)
    bare = rows.with_columns(
        rating=pl.lit(None, pl.Float32), timestamp=pl.lit(None, pl.Int64), label=pl.lit(1, pl.Int8)
    )
    items = items.with_columns(categories=pl.lit(None, pl.List(pl.String)))
    values, facts = behavior_features(bare, items, 40, EmbedBehavior(dim=16))
    assert facts["names"][:2] == ["log_rows", "log_popularity"]
    assert all(name.startswith("item:s") for name in facts["names"][2:])
    assert len(facts["names"]) == 16
    assert np.isfinite(values).all()
    train = bare.filter(pl.col("split") == "train")
    most = (
        train["item_id"].value_counts().sort("count", "item_id", descending=[True, False])["count"]
    )
    chosen = [int(name.removeprefix("item:s")) for name in facts["names"][2:]]
    assert [train.filter(pl.col("item_id") == i).height for i in chosen] == most[:14].to_list()


def test_some_missing_ratings_and_times_are_left_out() -> None:
    rows = table(
        [
            (0, 0, 5.0, None, "train"),
            (0, 1, None, 2 * DAY, "train"),
            (0, 2, float("nan"), 4 * DAY, "train"),
            (1, 0, 1.0, None, "train"),
            (2, 0, 3.0, 5 * DAY, "train"),
        ]
    )
    got = raw(rows, 3)
    assert got["rating_mean"] == pytest.approx([1.0, 0.0, 0.5], abs=1e-5)
    assert got["log_span_days"][0] == pytest.approx(math.log2(3), abs=1e-5)
    # User 1 has no time: the mean of the others.
    assert got["log_recency_days"][1] == pytest.approx((1.0 + 0.0) / 2, abs=1e-5)


@pytest.mark.parametrize("dim", [0, 1, 8, 64])
def test_the_length_is_the_recipe_s(dim: int) -> None:
    values, facts = behavior_features(ROWS, ITEMS, 3, EmbedBehavior(dim=dim))
    assert values.shape == (3, dim)
    assert values.dtype == np.float32
    assert len(facts["names"]) == min(dim, 16)
    assert np.all(values[:, len(facts["names"]) :] == 0)


def test_no_train_row_at_all_gives_zeros() -> None:
    values, facts = behavior_features(
        ROWS.filter(pl.col("split") == "test"), ITEMS, 4, EmbedBehavior(dim=8)
    )
    assert values.shape == (4, 8)
    assert not values.any()
    assert facts["users_without_train_rows"] == 4


def test_a_dataset_s_files_give_the_same_bytes(tmp_path: Path) -> None:
    rows, items = random_table(7)
    expected = behavior_features(rows, items, 40, EmbedBehavior())
    rows.sort("timestamp", "item_id").write_parquet(tmp_path / "part.parquet", row_group_size=64)
    items.write_parquet(tmp_path / "items.parquet")
    got = behavior_features(
        pl.scan_parquet(tmp_path / "part.parquet").collect(),
        pl.scan_parquet(tmp_path / "items.parquet").collect(),
        40,
        EmbedBehavior(),
    )
    assert got[1] == expected[1]
    assert got[0].tobytes() == expected[0].tobytes()
