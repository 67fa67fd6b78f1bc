"""Checks of splits: apart, in the order of time, of known items, and features that come from train alone."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings

from fedprep.behavior import behavior_features
from fedprep.checks import CHECKS, Tables, validate
from fedprep.recipe import EmbedBehavior
from fedprep.schema import embedding_schema
from tests.checked import (
    DAY,
    FIRST,
    MANIFEST,
    N_ITEMS,
    N_USERS,
    PER_USER,
    changed,
    dirty_frames,
    forms,
    interactions,
    items,
    result_of,
    tables_of,
    users,
)

law = settings(max_examples=30, deadline=None)

NAN, INF = float("nan"), float("inf")


def row_of(user: int, split: str, nth: int = 0) -> int:
    """The position of a user's nth row of a split."""
    rows = interactions().with_row_index()
    chosen = rows.filter((pl.col("user_id") == user) & (pl.col("split") == split))
    return int(chosen["index"][nth])


def item_at(position: int) -> int:
    return int(interactions()["item_id"][position])


# -- apart -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", ["test", "valid"])
def test_users_whose_cut_falls_into_a_tie_are_named_beyond_a_share(held: str) -> None:
    name = "test_rows_are_told_from_train_by_time"
    rows = interactions()
    assert result_of(name, tables_of(rows), max_tied_cut_share=0.0).status == "pass"
    for n_tied in (1, N_USERS // 2, N_USERS // 2 + 1):
        tied = rows
        for user in range(n_tied):
            last = row_of(user, "train", PER_USER - 3)
            at = row_of(user, held)
            time = int(rows["timestamp"][last])
            tied = changed(tied, [last, at] if held == "valid" else [at - 1, at], timestamp=time)
        found = result_of(name, tables_of(tied), max_tied_cut_share=0.0)
        assert (found.status, found.count) == ("fail", n_tied)  # a limit that is set is a gate
        usual = result_of(name, tables_of(tied)).status
        assert usual == ("warn" if n_tied > N_USERS / 2 else "pass")


def test_a_pair_in_train_and_test_is_named_once() -> None:
    rows = changed(interactions(), [row_of(3, "test")], item_id=item_at(row_of(3, "train")))
    rows = changed(
        rows, [row_of(5, "valid"), row_of(5, "test")], item_id=item_at(row_of(5, "train"))
    )
    found = result_of("splits_do_not_overlap", tables_of(rows))
    assert (found.status, found.count, found.denominator) == ("fail", 2, 160)
    expected = [(3, item_at(row_of(3, "train"))), (5, item_at(row_of(5, "train")))]
    assert [(e["user_id"], e["item_id"]) for e in found.examples] == expected


def test_a_pair_in_valid_and_test_overlaps_as_well() -> None:
    rows = changed(interactions(), [row_of(3, "test")], item_id=item_at(row_of(3, "valid")))
    assert result_of("splits_do_not_overlap", tables_of(rows)).count == 1


def test_a_pair_twice_in_train_does_not_overlap() -> None:
    rows = changed(interactions(), [row_of(3, "train", 1)], item_id=item_at(row_of(3, "train")))
    assert result_of("pairs_are_unique", tables_of(rows)).count == 1
    assert result_of("splits_do_not_overlap", tables_of(rows)).count == 0


def test_a_split_of_another_name_is_named() -> None:
    rows = changed(interactions().cast({"split": pl.String}), [4, 9], split="val")
    found = result_of("splits_are_known", tables_of(rows, manifest=None))
    assert (found.status, found.count, found.examples[0]["split"]) == ("fail", 2, "val")
    own = interactions().cast({"split": pl.Enum(["train", "valid", "test", "extra"])})
    assert result_of("splits_are_known", tables_of(own, manifest=None)).status == "pass"
    missing = changed(interactions(), [4], split=None)
    assert result_of("splits_are_known", tables_of(missing)).count == 0


# -- time ------------------------------------------------------------------------------------------


def test_a_train_row_later_than_the_first_test_row_of_its_user_is_named() -> None:
    late = row_of(7, "train", 2)
    rows = changed(interactions(), [late], timestamp=FIRST + 8 * DAY)
    found = result_of("train_precedes_test", tables_of(rows))
    assert (found.status, found.count, found.denominator) == ("fail", 1, 120)
    example = found.examples[0]
    assert (example["user_id"], example["item_id"]) == (7, item_at(late))
    assert (example["timestamp"], example["first_test"]) == (FIRST + 8 * DAY, FIRST + 7 * DAY)


def test_a_train_row_of_the_moment_of_the_test_row_or_of_no_time_is_not_late() -> None:
    at_once = changed(interactions(), [row_of(7, "train")], timestamp=FIRST + 7 * DAY)
    assert result_of("train_precedes_test", tables_of(at_once)).count == 0
    timeless = changed(interactions(), [row_of(7, "train"), row_of(8, "test")], timestamp=None)
    assert result_of("train_precedes_test", tables_of(timeless)).count == 0
    without_test = interactions().filter(pl.col("split") != "test")
    assert result_of("train_precedes_test", tables_of(without_test)).count == 0


def test_the_global_line_counts_train_rows_after_anybodys_first_test_row() -> None:
    assert result_of("train_precedes_test_globally", tables_of(interactions())).status == "pass"
    early = [
        row_of(4, split, k)
        for split, n in (("train", 6), ("valid", 1), ("test", 1))
        for k in range(n)
    ]
    rows = interactions().with_columns(
        timestamp=pl.when(pl.int_range(pl.len()).is_in(early)).then(pl.col("timestamp") - 5 * DAY)
        .otherwise("timestamp")
    )  # fmt: skip
    found = result_of("train_precedes_test_globally", tables_of(rows))
    later = 19 * 3  # of 19 users the rows of days 3, 4 and 5 are later than day 2
    assert (found.status, found.count, found.denominator) == ("warn", later, 120)
    assert found.examples[0]["first_test"] == FIRST + 2 * DAY
    share = later / 120
    limit = "max_later_train_share"
    assert (
        result_of("train_precedes_test_globally", tables_of(rows), **{limit: share}).status
        == "pass"
    )
    gate = result_of("train_precedes_test_globally", tables_of(rows), **{limit: share - 0.01})
    assert (gate.status, gate.count) == ("fail", later)
    assert result_of("train_precedes_test", tables_of(rows)).count == 0


def test_a_split_by_chance_is_not_asked_for_the_order_of_time() -> None:
    by_chance = {**MANIFEST, "recipe": {"split": {"method": "ratio"}}}
    rows = changed(interactions(), [row_of(7, "train")], timestamp=FIRST + 8 * DAY)
    for check in ("train_precedes_test", "train_precedes_test_globally"):
        found = result_of(check, tables_of(rows, manifest=by_chance))
        assert found.status == "skipped" and "ratio" in found.reason
        assert result_of(check, tables_of(rows)).count > 0


def test_without_test_rows_there_is_no_global_line() -> None:
    train = interactions().filter(pl.col("split") == "train")
    found = result_of("train_precedes_test_globally", tables_of(train))
    assert found.status == "skipped" and found.reason


# -- items and sizes -------------------------------------------------------------------------------


def test_test_rows_of_items_that_train_does_not_have_are_named() -> None:
    first, second = row_of(2, "test"), row_of(3, "test")
    rows = changed(interactions(), [first, second, row_of(4, "valid")], item_id=99)
    found = result_of("test_items_are_known", tables_of(rows, items=items(100)))
    assert (found.status, found.count, found.denominator) == ("warn", 2, 20)
    assert {example["user_id"] for example in found.examples} == {2, 3}
    assert {example["item_id"] for example in found.examples} == {99}
    assert result_of("test_items_are_known", tables_of(rows), max_cold_share=0.1).status == "pass"
    gate = result_of("test_items_are_known", tables_of(rows), max_cold_share=0.09)
    assert (gate.status, gate.count) == ("fail", 2)


def test_sizes_of_splits_are_those_of_the_manifest() -> None:
    assert result_of("split_sizes_match_manifest", tables_of(interactions())).status == "pass"
    moved = changed(interactions(), [row_of(2, "test")], split="train")
    found = result_of("split_sizes_match_manifest", tables_of(moved))
    assert (found.status, found.count, found.denominator) == ("fail", 2, 3)
    assert list(found.examples) == [
        {"split": "train", "found": 121, "said": 120},
        {"split": "test", "found": 19, "said": 20},
    ]
    gone = interactions().filter(pl.col("split") != "valid")
    assert result_of("split_sizes_match_manifest", tables_of(gone)).count == 1
    unknown = {**MANIFEST, "facts": {"splits": {"train": 140, "test": 20}}}
    found = result_of("split_sizes_match_manifest", tables_of(interactions(), manifest=unknown))
    assert [(e["split"], e["said"]) for e in found.examples] == [("train", 140), ("valid", None)]
    found = result_of(
        "split_sizes_match_manifest", tables_of(interactions(), manifest={"facts": {}})
    )
    assert found.status == "skipped" and found.reason


# -- features --------------------------------------------------------------------------------------

OPTIONS = {"dim": 16, "normalise": "standardize"}
WITH_OPTIONS = {**MANIFEST, "recipe": {**MANIFEST["recipe"], "embed": {"behavior": OPTIONS}}}


def featured(rows: pl.DataFrame, **options: Any) -> pl.DataFrame:
    """The users with the behaviour that the train rows of `rows` give."""
    values, _ = behavior_features(rows, items(), N_USERS, EmbedBehavior(**{**OPTIONS, **options}))
    column = pl.Series("behavior", values, dtype=pl.Array(pl.Float32, values.shape[1]))
    return users().with_columns(column)


def with_features(rows: pl.DataFrame, table: pl.DataFrame, **options: Any) -> Tables:
    embed = {"behavior": {**OPTIONS, **options}}
    manifest = {**MANIFEST, "recipe": {**MANIFEST["recipe"], "embed": embed}}
    return tables_of(rows, users=table, manifest=manifest)


@pytest.mark.parametrize("normalise", ["standardize", "l2", "none"])
def test_behaviour_of_train_passes_whatever_its_normalisation(normalise: str) -> None:
    table = featured(interactions(), normalise=normalise)
    mixed = interactions().sample(fraction=1.0, shuffle=True, seed=0)
    found = result_of("features_come_from_train", with_features(mixed, table, normalise=normalise))
    assert (found.status, found.count, found.denominator) == ("pass", 0, N_USERS)


def test_behaviour_that_has_seen_test_rows_fails() -> None:
    leaked = interactions().with_columns(split=pl.lit("train", interactions().schema["split"]))
    found = result_of("features_come_from_train", with_features(interactions(), featured(leaked)))
    assert found.status == "fail" and found.count > N_USERS / 2
    assert found.examples[0]["feature"]


@pytest.mark.parametrize("value", [NAN, INF, None, 0.5])
def test_a_changed_value_names_the_user_and_the_feature(value: float | None) -> None:
    table = featured(interactions())
    vectors = table["behavior"].to_list()
    vectors[11][1] = value if value != 0.5 else vectors[11][1] + 0.5
    spoilt = table.with_columns(behavior=pl.Series(vectors, dtype=table.schema["behavior"]))
    found = result_of("features_come_from_train", with_features(interactions(), spoilt))
    assert (found.status, found.count) == ("fail", 1)
    assert (found.examples[0]["user_id"], found.examples[0]["feature"]) == (11, "rating_mean")
    whole = changed(table, [4], behavior=None)
    found = result_of("features_come_from_train", with_features(interactions(), whole))
    assert [example["user_id"] for example in found.examples] == [4]


def test_the_users_who_differ_most_come_first_and_a_small_difference_is_none() -> None:
    table = featured(interactions())
    values = table["behavior"].to_numpy().copy()
    values[3, 2] += 0.0005
    values[6, 2] += 0.002
    values[9, 0] -= 2.0
    spoilt = table.with_columns(behavior=pl.Series(values, dtype=table.schema["behavior"]))
    tables = with_features(interactions(), spoilt)
    found = result_of("features_come_from_train", tables)
    assert [example["user_id"] for example in found.examples] == [9, 6]
    shown = found.examples[0]
    assert shown["found"] == pytest.approx(shown["from_train"] - 2.0, abs=1e-5)
    assert result_of("features_come_from_train", tables, max_feature_error=0.0001).count == 3
    assert result_of("features_come_from_train", tables, max_feature_error=0.01).count == 1


def test_rows_that_cannot_be_computed_with_are_left_out_and_no_error() -> None:
    table = featured(interactions())
    n = interactions().height
    odd = (
        interactions().head(5).with_columns(user_id=pl.Series([-1, 99, None, 3, 3], dtype=pl.Int32))
    )
    odd = odd.with_columns(item_id=pl.Series([1, 1, 1, -4, 2**31 - 1], dtype=pl.Int32))
    unlabelled = interactions().head(1).with_columns(label=pl.lit(None, pl.Int8))
    rows = pl.concat([interactions(), odd, unlabelled])
    assert rows.height == n + 6
    found = result_of("features_come_from_train", with_features(rows, table))
    assert (found.status, found.count) == ("pass", 0)


def test_features_are_not_asked_for_where_nothing_says_how_they_were_made() -> None:
    table = featured(interactions())
    bare = tables_of(interactions(), users=table)
    assert result_of("features_come_from_train", bare).status == "skipped"
    backwards = with_features(interactions(), table.reverse())
    found = result_of("features_come_from_train", backwards)
    assert found.status == "skipped" and "ids of users" in found.reason


def test_features_are_the_same_in_blocks() -> None:
    with mock.patch("fedprep.checks.rows.BLOCK_ROWS", 9):
        tables = with_features(interactions(), featured(interactions()))
        found = result_of("features_come_from_train", tables)
    assert (found.status, found.count) == ("pass", 0)


# -- standardisation -------------------------------------------------------------------------------


def embedded(method: str, fit: np.ndarray, *, add: float = 0.0, times: float = 1.0) -> Tables:
    """Items 0 to 19, standardised over `fit`; train has 16, test one more; one dimension does not vary."""
    rows = changed(interactions(), [row_of(0, "test")], item_id=17)
    values = np.random.default_rng(3).normal(2.0, 3.0, (20, 5))
    values[16:] += 4.0
    values[:, 3] = 7.0
    deviation = values[fit].std(axis=0)
    scale = np.divide(1.0, deviation, out=np.zeros(5), where=deviation > 1e-9)
    scaled = ((values - values[fit].mean(axis=0)) * scale * times + add).astype(np.float32)
    frame = pl.DataFrame(
        {"item_id": np.arange(20, dtype=np.int32), "embedding": scaled}, schema=embedding_schema(5)
    )
    manifest = {**MANIFEST, "encoders": {"text": {"normalise": method}}}
    return tables_of(rows, items=items(20), embeddings={"text": frame}, manifest=manifest)


TRAIN, ALL = np.arange(N_ITEMS), np.arange(20)


def test_standardisation_over_items_in_train_passes_and_over_all_items_fails() -> None:
    check = "standardisation_comes_from_train"
    good = result_of(check, embedded("standardize", TRAIN))
    assert (good.status, good.denominator) == ("pass", 5)
    leaked = result_of(check, embedded("standardize", ALL))
    assert (leaked.status, leaked.count) == ("fail", 4), "all that vary"
    assert {example["dimension"] for example in leaked.examples} == {0, 1, 2}
    wider = result_of(check, embedded("standardize", TRAIN, times=1.5))
    assert wider.count == 4
    assert wider.examples[0]["deviation"] == pytest.approx(1.5, abs=1e-3)
    shifted = result_of(check, embedded("standardize", TRAIN, add=0.1))
    assert shifted.count == 5
    assert shifted.examples[0]["mean"] == pytest.approx(0.1, abs=1e-3)
    assert (
        result_of(check, embedded("standardize", TRAIN, add=0.1), max_feature_error=0.2).count == 0
    )


def test_whitening_is_asked_for_its_mean_alone() -> None:
    check = "standardisation_comes_from_train"
    assert result_of(check, embedded("whiten", TRAIN, times=0.5)).status == "pass"
    assert result_of(check, embedded("whiten", ALL)).count == 4


@pytest.mark.parametrize("method", ["l2", "none"])
def test_other_normalisations_learn_nothing_from_train(method: str) -> None:
    found = result_of("standardisation_comes_from_train", embedded(method, ALL))
    assert found.status == "skipped" and found.reason


# -- laws ------------------------------------------------------------------------------------------


def by_brute_force(rows: pl.DataFrame) -> dict[str, int]:
    splits_of, items_of, first_test = defaultdict(set), defaultdict(set), {}
    for row in rows.iter_rows(named=True):
        user, item, split, time = (row[k] for k in ("user_id", "item_id", "split", "timestamp"))
        if user is not None and item is not None and split is not None:
            splits_of[user, item].add(split)
        if split is not None and item is not None:
            items_of[split].add(item)
        if split == "test" and time is not None and user is not None:
            first_test[user] = min(time, first_test.get(user, time))
    tests = rows.filter(pl.col("split") == "test")
    first = tests["timestamp"].min()
    late = late_for_all = 0
    for row in rows.filter(pl.col("split") == "train").iter_rows(named=True):
        time = row["timestamp"]
        late += (
            time is not None and row["user_id"] in first_test and time > first_test[row["user_id"]]
        )
        late_for_all += time is not None and first is not None and time > first  # type: ignore[operator]
    return {
        "splits_do_not_overlap": sum(len(splits) > 1 for splits in splits_of.values()),
        "train_precedes_test": late,
        "train_precedes_test_globally": late_for_all,
        "test_items_are_known": sum(
            i is not None and i not in items_of["train"] for i in tests["item_id"].to_list()
        ),
        "split_sizes_match_manifest": sum(
            (rows["split"] == name).sum() != said
            for name, said in (("train", 7), ("valid", 2), ("test", 2))
        ),
    }


@law
@given(dirty_frames())
def test_every_count_is_that_of_brute_force_in_every_form(rows: pl.DataFrame) -> None:
    import tempfile

    expected = by_brute_force(rows)
    asked = [name for name in expected if name != "split_sizes_match_manifest"]
    with tempfile.TemporaryDirectory() as folder, mock.patch("fedprep.checks.rows.BLOCK_ROWS", 9):
        for form, tables in forms(rows, Path(folder) / "forms"):
            validation = validate(tables, only=asked)
            counts = {r.name: r.count for r in validation.results}
            assert counts == {name: expected[name] for name in asked}, form
            assert {r.status for r in validation.results} <= {"pass", "fail", "warn", "skipped"}
    said = {"facts": {"splits": {"train": 7, "valid": 2, "test": 2}}}
    tables = Tables.of_frames(interactions=rows, manifest=said)
    found = validate(tables, only=["split_sizes_match_manifest"])["split_sizes_match_manifest"]
    assert found.count == expected["split_sizes_match_manifest"]


def test_every_check_of_splits_has_a_test_here() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    names = [check.name for check in CHECKS.values() if check.group == "splits"]
    assert len(names) == 9
    assert [name for name in names if f'"{name}"' not in source] == []
