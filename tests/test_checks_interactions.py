from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings

from fedprep.checks import CHECKS, Limits, Tables, validate
from fedprep.dataset import Dataset
from fedprep.faults import plant
from fedprep.schema import SHARD
from tests.checked import (
    DAY,
    FIRST,
    MANIFEST,
    N_ITEMS,
    N_USERS,
    changed,
    dirty_frames,
    forms,
    found_by,
    interactions,
    items,
    tables_of,
    users,
    write_dataset,
)

law = settings(max_examples=40, deadline=None)

NAN, INF = float("nan"), float("inf")

Row = dict[str, Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("interactions") / "whole", interactions())


# -- planted ---------------------------------------------------------------------------------------

FAULTS = [
    "null_ratings", "nan_ratings", "infinite_ratings", "ratings_out_of_range", "wrong_labels",
    "millisecond_timestamps", "future_timestamps", "dangling_items", "dangling_users", "repeated_pairs",
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_with_its_exact_count_and_no_other(
    fault: str, whole: Path, tmp_path: Path
) -> None:
    planted = plant(whole, tmp_path / "damaged", fault)
    validation = validate(Dataset.unchecked(tmp_path / "damaged"))
    found = validation[planted["check"]]
    assert (found.status, found.count, found.unit) == ("fail", planted["count"], planted["unit"])
    same = {"client_id"} if fault.startswith("dangling") else {"client_id", "user_id", "item_id"}
    same &= planted["first"][0].keys() & found.examples[0].keys()
    told = [{key: example[key] for key in same} for example in planted["first"]]
    assert [{key: example[key] for key in same} for example in found.examples] == told
    here = {r.name for r in validation.results if r.group in ("schema", "interactions", "clients")}
    red = {r.name for r in validation.results if r.status not in ("pass", "skipped")}
    assert red & here <= {planted["check"], *planted["also"]}


@pytest.mark.parametrize("check", [c for c in CHECKS.values() if c.group == "interactions"])
def test_rows_without_a_fault_pass(check: Any, whole: Path) -> None:
    found = validate(Dataset.unchecked(whole), only=[check.name])[check.name]
    assert (found.status, found.count, found.reason) == ("pass", 0, "")
    assert found.denominator > 0


# -- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["user_id", "item_id", "rating", "label", "timestamp", "split"])
def test_a_missing_value_is_named_with_its_column(column: str) -> None:
    found = found_by(
        "no_missing_values", tables_of(changed(interactions(), [3, 70], **{column: None}))
    )
    assert found.count == 2
    assert [example["missing"] for example in found.examples] == [column, column]


def test_a_row_that_misses_several_values_counts_once() -> None:
    rows = changed(interactions(), [5], rating=None, label=None)
    found = found_by("no_missing_values", tables_of(rows))
    assert found.count == 1
    assert found.examples[0]["missing"] == "rating, label"


def test_a_missing_client_is_left_to_the_check_of_clients() -> None:
    assert (
        found_by("no_missing_values", tables_of(changed(interactions(), [5], client_id=None))).count
        == 0
    )


def test_ratings_may_be_missing_where_labels_are_implicit() -> None:
    rows = interactions().with_columns(rating=pl.lit(None, pl.Float32), label=pl.lit(1, pl.Int8))
    implicit = {**MANIFEST, "recipe": {"clean": {"label": "implicit"}}, "classes": [1.0]}
    assert found_by("no_missing_values", tables_of(rows)).count == rows.height
    assert found_by("no_missing_values", tables_of(rows, manifest=implicit)).count == 0


def test_timestamps_may_be_missing_where_the_manifest_knows_of_none() -> None:
    rows = interactions().with_columns(timestamp=pl.lit(None, pl.Int64))
    without = {**MANIFEST, "facts": {"time_range": [None, None]}}
    assert found_by("no_missing_values", tables_of(rows)).count == rows.height
    assert found_by("no_missing_values", tables_of(rows, manifest=without)).count == 0


@pytest.mark.parametrize(("value", "word"), [(NAN, "NaN"), (INF, "Infinity"), (-INF, "-Infinity")])
def test_a_rating_that_is_no_number_fails_and_names_its_row(value: float, word: str) -> None:
    rows = changed(interactions(), [10], rating=value)
    found = found_by("ratings_are_finite", tables_of(rows))
    assert (found.status, found.count) == ("fail", 1)
    who = rows.row(10, named=True)
    expected = {k: who[k] for k in ("client_id", "user_id", "item_id")} | {"rating": word}
    assert found.to_dict()["examples"] == [expected]


def test_only_finite_ratings_can_be_out_of_range() -> None:
    rows = changed(interactions(), [1], rating=NAN)
    rows = changed(changed(rows, [2], rating=INF), [3, 4], rating=0.25)
    found = found_by("ratings_are_in_range", tables_of(rows))
    assert found.count == 2
    assert found.limits == {"min_rating": 1.0, "max_rating": 5.0}


def test_the_range_is_the_sources_scale_the_manifests_count_or_what_was_set() -> None:
    rows = changed(interactions(), [0], rating=9.0)
    count = {
        name: found_by("ratings_are_in_range", tables_of(rows, manifest=manifest)).limits
        for name, manifest in {
            "source": {**MANIFEST, "source": {"name": "movielens"}},
            "facts": {**MANIFEST, "facts": {"ratings": [[2.0, 1], [9.0, 3]]}},
        }.items()
    }
    assert count["source"] == {"min_rating": 0.5, "max_rating": 5.0}
    assert count["facts"] == {"min_rating": 2.0, "max_rating": 9.0}
    assert found_by("ratings_are_in_range", Tables.of_frames(interactions=rows)).count == 1
    assert (
        found_by("ratings_are_in_range", Tables.of_frames(interactions=rows), max_rating=9).count
        == 0
    )


def test_a_limit_that_is_no_float32_does_not_split_equal_ratings() -> None:
    rows = interactions().with_columns(rating=pl.lit(3.3, pl.Float32))
    tables = Tables.of_frames(interactions=rows)
    assert found_by("ratings_are_in_range", tables, min_rating=3.3, max_rating=3.3).count == 0


def test_whole_numbers_can_be_ratings() -> None:
    rows = interactions().with_columns(pl.col("rating").cast(pl.Int64))
    tables = Tables.of_frames(interactions=rows)
    assert found_by("ratings_are_finite", tables).count == 0
    n_ones = int((rows["rating"] == 1).sum())
    assert found_by("ratings_are_in_range", tables, min_rating=1.5).count == n_ones > 0


@pytest.mark.parametrize(
    ("label", "classes"), [("binary", [0.0, 1.0]), ("classes", [1.0, 2.0, 3.0, 3.5, 4.0, 5.0])]
)
def test_labels_are_compared_with_what_the_recipe_makes_of_ratings(
    label: str, classes: list[float]
) -> None:
    manifest = {**MANIFEST, "classes": classes}
    manifest["recipe"] = {"clean": {"label": label, "threshold": 4.0}}
    rows = interactions()
    if label == "classes":
        right = pl.Series(np.searchsorted(classes, rows["rating"].to_numpy()), dtype=pl.Int8)
        rows = rows.with_columns(label=right)
    assert found_by("labels_match_ratings", tables_of(rows, manifest=manifest)).count == 0
    wrong = rows.with_columns(
        label=pl.when(pl.int_range(pl.len()) < 4).then(-1).otherwise("label").cast(pl.Int8)
    )
    wrong = changed(wrong, [9], label=len(classes))
    assert found_by("labels_match_ratings", tables_of(wrong, manifest=manifest)).count == 5


def test_an_implicit_label_is_one() -> None:
    manifest = {**MANIFEST, "classes": [1.0], "recipe": {"clean": {"label": "implicit"}}}
    rows = interactions().with_columns(rating=pl.lit(None, pl.Float32))
    rows = rows.with_columns(label=pl.lit(1, pl.Int8))
    wrong = changed(rows, [2, 5, 6], label=0)
    assert found_by("labels_match_ratings", tables_of(rows, manifest=manifest)).count == 0
    assert found_by("labels_match_ratings", tables_of(wrong, manifest=manifest)).count == 3


@pytest.mark.parametrize(
    ("time", "words"),
    [
        (FIRST * 1000, "milliseconds, not seconds"),
        (FIRST * 10**6, "microseconds, not seconds"),
        (FIRST * 10**9, "nanoseconds, not seconds"),
        (FIRST // 1000, "seconds divided by 1000, as if they were milliseconds"),
        (FIRST // DAY, "days, not seconds"),
        (0, "no time: 0"),
        (-1, "too early"),
        (2**62, "in the future"),
        (FIRST + 100 * 365 * DAY, "in the future"),
    ],
)
def test_an_implausible_time_is_told_for_what_it_looks_like(time: int, words: str) -> None:
    found = found_by(
        "timestamps_are_plausible", tables_of(changed(interactions(), [7], timestamp=time))
    )
    assert (found.status, found.count) == ("fail", 1)
    assert found.examples[0]["looks_like"] == words


def test_no_time_is_later_than_the_making_of_the_dataset() -> None:
    rows = changed(interactions(), [7], timestamp=1_577_836_800 + 3 * DAY)  # made 2020-01-01
    assert found_by("timestamps_are_plausible", tables_of(rows)).count == 1
    assert found_by("timestamps_are_plausible", Tables.of_frames(interactions=rows)).count == 0


# -- pairs, references, history --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [pl.Int32, pl.Int64, pl.String])
def test_seven_repeated_pairs_are_seven_whatever_the_type_of_ids(dtype: Any) -> None:
    rows = interactions()
    rows = pl.concat([rows, rows.head(7), rows.head(3)]).cast({"user_id": dtype, "item_id": dtype})
    found = found_by("pairs_are_unique", Tables.of_frames(interactions=rows))
    assert (found.count, found.unit) == (7, "pairs")
    assert len(found.examples) == 3


def test_negative_ids_do_not_run_into_each_other() -> None:
    rows = interactions().head(4).with_columns(
        user_id=pl.Series([-1, -1, 0, 0], dtype=pl.Int32), item_id=pl.Series([-1, 0, -1, 0], dtype=pl.Int32)
    )  # fmt: skip
    assert found_by("pairs_are_unique", Tables.of_frames(interactions=rows)).count == 0
    twice = pl.concat([rows, rows.head(1)])
    found = found_by("pairs_are_unique", Tables.of_frames(interactions=twice))
    assert found.examples == ({"user_id": -1, "item_id": -1},)


@pytest.mark.parametrize("ids", [range(N_ITEMS), range(0, 2 * N_ITEMS, 2)])
def test_items_that_are_not_in_their_table_are_found_with_and_without_gaps(ids: range) -> None:
    rows = interactions().with_columns(pl.col("item_id") * ids.step)
    table = items().with_columns(item_id=pl.Series(ids, dtype=pl.Int32))
    assert found_by("items_exist", tables_of(rows, items=table)).count == 0
    lost = changed(rows, [1, 2, 8], item_id=2 * N_ITEMS)
    assert found_by("items_exist", tables_of(lost, items=table)).count == 3
    without_one = table.filter(pl.col("item_id") != ids[5])
    expected = int((rows["item_id"] == ids[5]).sum())
    assert found_by("items_exist", tables_of(rows, items=without_one)).count == expected > 0


def test_users_that_are_not_in_their_table_are_found() -> None:
    table = users().filter(~pl.col("user_id").is_in([0, 7]))
    found = found_by("users_exist", tables_of(interactions(), users=table))
    assert (found.status, found.count) == ("fail", 16)
    assert {example["user_id"] for example in found.examples} <= {0, 7}


def test_users_with_a_short_history_are_counted_the_shortest_first() -> None:
    rows = interactions().filter(
        ~((pl.col("user_id") == 3) & (pl.col("split") == "train"))
        & ~((pl.col("user_id") == 4) & (pl.col("timestamp") < FIRST + 4 * DAY))
    )
    found = found_by("users_have_enough_history", tables_of(rows))
    assert (found.status, found.count, found.denominator) == ("warn", 2, N_USERS)
    assert [(e["user_id"], e["n_train"]) for e in found.examples] == [(3, 0), (4, 2)]
    assert found_by("users_have_enough_history", tables_of(rows), min_user_history=2).count == 1
    assert (
        found_by("users_have_enough_history", tables_of(rows), min_user_history=3).status == "fail"
    )


def test_sparsity_names_the_measures_that_are_too_small() -> None:
    found = found_by(
        "sparsity_is_workable", tables_of(interactions()), min_density=0.6, min_rows_per_user=9
    )
    assert (found.count, found.denominator) == (2, 3)
    density, per_user = found.examples
    assert density == {"measure": "density", "value": 160 / (20 * 16), "limit": 0.6}
    assert (per_user["measure"], per_user["value"]) == ("rows per user", 8.0)
    found = found_by("sparsity_is_workable", tables_of(interactions()), min_rows_per_item=10.5)
    assert [example["measure"] for example in found.examples] == ["rows per item"]


# -- against brute force ---------------------------------------------------------------------------


def _finite(row: Row) -> bool:
    return row["rating"] is not None and math.isfinite(row["rating"])


def _short(rows: list[Row]) -> int:
    train = Counter(row["user_id"] for row in rows if row["split"] == "train")
    return sum(
        train[user] < Limits().min_user_history for user in {r["user_id"] for r in rows} - {None}
    )


def _too_sparse(rows: list[Row]) -> int:
    n_users, n_items = (len({r[key] for r in rows} - {None}) for key in ("user_id", "item_id"))
    limits, n = Limits(), len(rows)
    measures = (n / max(n_users * n_items, 1), n / max(n_users, 1), n / max(n_items, 1))
    least = (limits.min_density, limits.min_rows_per_user, limits.min_rows_per_item)
    return sum(value < limit for value, limit in zip(measures, least, strict=True))


def _repeated(rows: list[Row]) -> int:
    pairs = Counter((row["user_id"], row["item_id"]) for row in rows)
    return sum(n > 1 for pair, n in pairs.items() if None not in pair)


BRUTE: dict[str, Callable[[list[Row]], int]] = {
    "no_missing_values": lambda rows: sum(
        any(row[name] is None for name in SHARD if name != "client_id") for row in rows
    ),
    "ratings_are_finite": lambda rows: sum(
        row["rating"] is not None and not math.isfinite(row["rating"]) for row in rows
    ),
    "ratings_are_in_range": lambda rows: sum(
        _finite(r) and not 0 <= r["rating"] <= 5 for r in rows
    ),
    "labels_match_ratings": lambda rows: sum(
        _finite(r) and r["label"] is not None and r["label"] != (r["rating"] >= 4) for r in rows
    ),
    "timestamps_are_plausible": lambda rows: sum(
        r["timestamp"] is not None and not FIRST <= r["timestamp"] < FIRST + 9 * DAY for r in rows
    ),
    "pairs_are_unique": _repeated,
    "items_exist": lambda rows: sum(
        r["item_id"] is not None and not 0 <= r["item_id"] < N_ITEMS for r in rows
    ),
    "users_exist": lambda rows: sum(
        r["user_id"] is not None and not 0 <= r["user_id"] < N_USERS for r in rows
    ),
    "users_have_enough_history": _short,
    "sparsity_is_workable": _too_sparse,
}


def test_brute_force_covers_the_group() -> None:
    assert set(BRUTE) == {check.name for check in CHECKS.values() if check.group == "interactions"}


@law
@given(rows=dirty_frames())
def test_counts_are_those_of_brute_force(rows: pl.DataFrame) -> None:
    validation = validate(tables_of(rows), {"min_rating": 0, "max_rating": 5}, only=list(BRUTE))
    plain = list(rows.iter_rows(named=True))
    expected = {name: count(plain) for name, count in BRUTE.items()}
    assert {r.name: r.count for r in validation.results} == expected
    assert not [r.reason for r in validation.results if r.status in ("error", "skipped")]


@settings(max_examples=12, deadline=None)
@given(rows=dirty_frames())
def test_frames_files_and_folders_of_shards_give_the_same_counts(
    rows: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("forms")
    names = [check.name for check in CHECKS.values() if check.group in ("interactions", "clients")]
    found = defaultdict(set)
    for block_rows in (6, 1_000):
        with mock.patch("fedprep.checks.rows.BLOCK_ROWS", block_rows):
            for name, tables in forms(rows, folder / str(block_rows)):
                results = validate(tables, only=names).results
                counts = tuple((r.name, r.status, r.count, r.denominator) for r in results)
                found[counts].add((name, block_rows))
    assert len(found) == 1, found
