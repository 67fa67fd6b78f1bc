from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings

from fedprep.checks import CHECKS, Limits, Tables, validate
from fedprep.checks.drift import category_drift, divergence, gini
from fedprep.dataset import Dataset
from fedprep.faults import plant
from fedprep.partition import heterogeneity
from fedprep.schema import SPLITS
from tests.checked import (
    DAY,
    MANIFEST,
    N_CLIENTS,
    N_USERS,
    changed,
    dirty_frames,
    found_by,
    interactions,
    items,
    tables_of,
    users,
    write_dataset,
)

law = settings(max_examples=40, deadline=None)

Row = dict[str, Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("clients") / "whole", interactions())


def rewritten(whole: Path, folder: Path, index: Callable[[pl.DataFrame], pl.DataFrame]) -> Dataset:
    """Returns a copy of the Dataset with another index."""
    copy = write_dataset(folder, interactions())
    path = copy / "clients" / "index.parquet"
    index(pl.read_parquet(path)).write_parquet(path)
    return Dataset.unchecked(copy)


# -- planted ---------------------------------------------------------------------------------------

FAULTS = {
    "rows_without_client": "fail",
    "user_in_two_clients": "fail",
    "client_in_two_files": "fail",
    "lying_index": "fail",
    "clients_without_test": "warn",
    "clients_of_one_class": "warn",
}


@pytest.mark.parametrize(("fault", "status"), FAULTS.items())
def test_a_planted_fault_is_found_with_its_exact_count_and_no_other(
    fault: str, status: str, whole: Path, tmp_path: Path
) -> None:
    planted = plant(whole, tmp_path / "damaged", fault)
    validation = validate(Dataset.unchecked(tmp_path / "damaged"))
    found = validation[planted["check"]]
    assert (found.status, found.count, found.unit) == (status, planted["count"], planted["unit"])
    here = {r.name for r in validation.results if r.group in ("schema", "interactions", "clients")}
    red = {r.name for r in validation.results if r.status not in ("pass", "skipped")}
    assert red & here <= {planted["check"], *planted["also"]}


@pytest.mark.parametrize("check", [c for c in CHECKS.values() if c.group == "clients"])
def test_clients_without_a_fault_pass(check: Any, whole: Path) -> None:
    found = validate(Dataset.unchecked(whole), only=[check.name])[check.name]
    if check.name == "clients_hold_the_classes_asked_for":  # asked of one method alone
        assert found.status == "skipped"
        return
    assert (found.status, found.count, found.reason) == ("pass", 0, "")
    assert found.denominator > 0


# -- whose rows ------------------------------------------------------------------------------------


def test_rows_without_a_client_are_named() -> None:
    rows = changed(interactions(), [0, 50], client_id=None)
    found = found_by("every_row_has_one_client", tables_of(rows))
    assert (found.status, found.count, found.denominator) == ("fail", 2, 160)
    assert found.examples[0] == {"client_id": None, "user_id": 0, "item_id": rows["item_id"][0]}


def test_a_user_at_two_clients_is_one_user_however_many_rows() -> None:
    rows = interactions()
    first = rows.filter(pl.col("user_id") == 7).height
    rows = rows.with_columns(
        client_id=pl.when((pl.col("user_id") == 7) & (pl.col("split") == "train"))
        .then(pl.lit(0, pl.Int32))
        .otherwise("client_id")
    )
    found = found_by("user_lives_in_one_client", tables_of(rows, users=None))
    assert (found.count, found.unit, found.denominator) == (1, "users", N_USERS)
    assert found.examples == ({"user_id": 7, "client_low": 0, "client_high": 2},) and first == 8


def test_a_user_whose_table_names_another_client_is_found() -> None:
    table = users().with_columns(
        client_id=pl.when(pl.col("user_id") == 3).then(4).when(pl.col("user_id") == 4)
        .then(None).otherwise("client_id").cast(pl.Int32)
    )  # fmt: skip
    found = found_by("user_lives_in_one_client", tables_of(interactions(), users=table))
    assert [example["user_id"] for example in found.examples] == [3, 4]
    without = table.drop("client_id")
    assert (
        found_by(
            "user_lives_in_one_client", Tables.of_frames(interactions=interactions(), users=without)
        ).count
        == 0
    )


def test_users_may_live_at_several_clients_where_the_unit_is_the_interaction() -> None:
    rows = changed(interactions(), [1], client_id=4)
    manifest = {**MANIFEST, "partition": {"unit": "interaction"}}
    found = found_by("user_lives_in_one_client", tables_of(rows, manifest=manifest))
    assert (found.status, found.count) == ("skipped", 0)
    assert "interaction" in found.reason


def test_a_client_in_two_files_is_found_though_the_ranges_of_the_files_overlap(
    whole: Path, tmp_path: Path
) -> None:
    copy = write_dataset(tmp_path / "copy", interactions())
    shards = sorted((copy / "clients").glob("part-*.parquet"))
    assert len(shards) == N_CLIENTS
    ends = [pl.read_parquet(path) for path in (shards[0], shards[-1])]
    ends[0] = changed(ends[0], [0, 1], client_id=N_CLIENTS - 1)
    ends[0].write_parquet(shards[0])
    dataset = Dataset.unchecked(copy)
    found = validate(dataset, only=["client_never_crosses_a_file"])["client_never_crosses_a_file"]
    assert (found.count, found.status) == (1, "fail")
    assert found.examples == (
        {"client_id": N_CLIENTS - 1, "files": ["part-00000.parquet", "part-00004.parquet"]},
    )
    # disjoint clients, overlapping ranges: the footers cannot tell, the rows can
    ends[0].with_columns(client_id=pl.lit(N_CLIENTS + 3, pl.Int32)).write_parquet(shards[0])
    found = validate(dataset, only=["client_never_crosses_a_file"])["client_never_crosses_a_file"]
    assert found.count == 0


# -- the index -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("n_rows", pl.col("n_rows") - 1),
        ("n_train", pl.col("n_train") + 1),
        ("n_valid", pl.col("n_valid") + 1),
        ("n_test", pl.col("n_test") - 1),
        ("n_users", pl.col("n_users") + 2),
        ("offset", pl.col("offset") + 1),
        ("file", pl.lit(0)),
        ("row_group", pl.lit(1)),
        ("divergence", pl.lit(None)),
        ("divergence", pl.lit(float("nan"))),
        ("divergence", pl.lit(1.5)),
        ("category_divergence", pl.lit(None)),
        ("category_divergence", pl.lit(float("inf"))),
        ("category_divergence", pl.lit(-0.5)),
        ("label_counts", pl.lit([16, 15]).list.to_array(2)),
    ],
)
def test_a_wrong_entry_of_the_index_is_named_with_its_column(
    column: str, change: pl.Expr, whole: Path, tmp_path: Path
) -> None:
    def damaged(index: pl.DataFrame) -> pl.DataFrame:
        here = pl.col("client_id") == 2
        new = pl.when(here).then(change.cast(index.schema[column])).otherwise(column)
        return index.with_columns(new.alias(column))

    dataset = rewritten(whole, tmp_path / "copy", damaged)
    found = validate(dataset, only=["index_matches_shards"])["index_matches_shards"]
    assert (found.count, found.unit) == (1, "clients")
    assert found.examples[0]["client_id"] == 2
    named = found.examples[0]["differs"].split(", ")
    place = {"file": "offset", "row_group": "offset"}.get(column, column)
    assert named == (["n_rows", "offset"] if column == "n_rows" else [place])


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (lambda index: index.filter(pl.col("client_id") != 4), [4]),
        (lambda index: index.filter(pl.col("client_id") != 0), [0, 1, 2, 3, 4]),
        (lambda index: pl.concat([index, index.tail(1)]), [4]),
        (
            lambda index: index.with_columns(
                client_id=pl.col("client_id") + (pl.col("client_id") == 4)
            ),
            [4, 5],
        ),
        (lambda index: index.reverse(), [0, 1, 3, 4]),
        (
            lambda index: pl.concat(
                [index, index.tail(1).with_columns(client_id=pl.lit(None, pl.Int32))]
            ),
            [None],
        ),
    ],
)
def test_an_index_must_list_every_client_once_in_its_place(
    change: Any, wrong: list[int], whole: Path, tmp_path: Path
) -> None:
    dataset = rewritten(whole, tmp_path / "copy", change)
    frame = CHECKS["index_matches_shards"].function(Tables.of_dataset(dataset), Limits()).collect()
    assert frame["client_id"].to_list() == wrong


def test_an_index_is_compared_in_pieces_as_well(whole: Path, tmp_path: Path) -> None:
    damaged = rewritten(
        whole,
        tmp_path / "copy",
        lambda index: index.with_columns(pl.col("n_users") + pl.col("client_id") % 2),
    )
    with mock.patch("fedprep.checks.index.CLIENTS_AT_ONCE", 2):
        found = validate(damaged, only=["index_matches_shards"])["index_matches_shards"]
    assert [example["client_id"] for example in found.examples] == [1, 3]
    assert found.count == 2


def test_rows_out_of_their_place_are_found(whole: Path, tmp_path: Path) -> None:
    copy = write_dataset(tmp_path / "copy", interactions())
    shard = copy / "clients" / "part-00001.parquet"
    rows = pl.read_parquet(shard)
    assert rows["client_id"].unique().to_list() == [1]
    pl.concat([rows, changed(rows.head(1), [0], client_id=3)]).write_parquet(shard)
    found = validate(Dataset.unchecked(copy), only=["index_matches_shards"])["index_matches_shards"]
    (example,) = found.examples
    assert (found.count, example["client_id"], example["n_rows_counted"]) == (1, 3, 33)
    assert {"n_rows", "offset"} <= set(example["differs"].split(", "))


def test_a_client_that_a_row_group_cuts_is_found(whole: Path, tmp_path: Path) -> None:
    copy = write_dataset(tmp_path / "copy", interactions())
    path = copy / "clients" / "part-00003.parquet"
    pl.read_parquet(path).write_parquet(path, row_group_size=20)
    found = validate(Dataset.unchecked(copy), only=["index_matches_shards"])["index_matches_shards"]
    assert [(e["client_id"], e["differs"]) for e in found.examples] == [(3, "offset")]


def test_rows_of_a_client_out_of_its_stretch_are_found(whole: Path, tmp_path: Path) -> None:
    copy = write_dataset(tmp_path / "copy", interactions())
    for here, there in (("part-00001", 2), ("part-00002", 1)):  # a row of each, exchanged
        path = copy / "clients" / f"{here}.parquet"
        rows = pl.read_parquet(path)
        same = rows.with_columns(
            client_id=pl.when(pl.int_range(pl.len()) == 0)
            .then(there)
            .otherwise("client_id")
            .cast(pl.Int32)
        )
        same.write_parquet(path)
    found = validate(Dataset.unchecked(copy), only=["index_matches_shards"])["index_matches_shards"]
    assert {e["client_id"] for e in found.examples} == {1, 2}
    assert all("offset" in e["differs"].split(", ") for e in found.examples)


# -- how many, how unlike --------------------------------------------------------------------------


def test_small_clients_are_counted_the_smallest_first() -> None:
    rows = interactions().filter(
        (pl.col("client_id") != 3) | (pl.col("timestamp") == pl.col("timestamp").min())
    )
    found = found_by("clients_have_enough_rows", tables_of(rows))
    assert (found.status, found.count, found.denominator) == ("warn", 1, N_CLIENTS)
    assert found.examples == ({"client_id": 3, "n_rows": 4, "n_users": 4},)
    assert found_by("clients_have_enough_rows", tables_of(rows), min_client_rows=4).count == 0


def test_clients_without_a_split_that_others_have_are_found() -> None:
    rows = interactions().filter(~((pl.col("client_id") == 1) & (pl.col("split") == "valid")))
    found = found_by("clients_have_every_split", tables_of(rows))
    assert found.examples == ({"client_id": 1, "n_train": 24, "n_valid": 0, "n_test": 4},)
    none_has = interactions().filter(pl.col("split") != "valid")
    assert found_by("clients_have_every_split", tables_of(none_has)).count == 0
    one_split = interactions().filter(pl.col("split") == "train")
    assert found_by("clients_have_every_split", tables_of(one_split)).status == "skipped"
    assert (
        found_by("clients_have_every_split", tables_of(rows), min_split_rows=5).count == N_CLIENTS
    )


def labelled(*counts: tuple[int, int]) -> Tables:
    """Returns clients with so many rows of label 0 and of label 1."""
    rows = [
        (c, label)
        for c, pair in enumerate(counts)
        for label, n in enumerate(pair)
        for _ in range(n)
    ]
    frame = pl.DataFrame(rows, schema={"client_id": pl.Int32, "label": pl.Int8}, orient="row")
    n = pl.int_range(pl.len(), dtype=pl.Int32)
    return Tables.of_frames(interactions=frame.with_columns(user_id=n, item_id=n))


def test_a_class_that_is_nearly_all_or_hardly_any_of_the_rows_is_named() -> None:
    found = found_by("classes_are_balanced", labelled((1, 150), (0, 49)))
    assert (found.count, found.unit, found.denominator, found.status) == (2, "classes", 2, "warn")
    assert found.examples == (
        {"label": 0, "n_rows": 1, "share": 1 / 200},
        {"label": 1, "n_rows": 199, "share": 199 / 200},
    )
    assert (
        found_by("classes_are_balanced", labelled((1, 150), (0, 49)), min_class_share=0.005).count
        == 1
    )
    assert found_by("classes_are_balanced", labelled((5, 95)), max_class_share=0.95).count == 0


def test_a_class_without_a_row_is_a_class() -> None:
    manifest = {**MANIFEST, "classes": [1.0, 2.0, 3.0]}
    found = found_by("classes_are_balanced", tables_of(interactions(), manifest=manifest))
    assert [(e["label"], e["n_rows"]) for e in found.examples] == [(2, 0)]


def test_clients_of_one_class_are_found_by_its_share_of_their_rows() -> None:
    tables = labelled((0, 9), (10, 10), (96, 4), (7, 0))
    found = found_by("classes_are_balanced_per_client", tables)
    assert [(e["client_id"], e["largest_class"], e["largest_share"]) for e in found.examples] == [
        (0, 1, 1.0),
        (2, 0, 0.96),
        (3, 0, 1.0),
    ]
    assert found.count == 3
    assert found_by("classes_are_balanced_per_client", tables, max_client_class_share=1).count == 0
    smallest = found_by(
        "classes_are_balanced_per_client",
        tables,
        max_client_class_share=1,
        min_client_class_share=0.04,
    )
    assert [e["client_id"] for e in smallest.examples] == [0, 3]


def test_a_client_without_labels_has_no_shares() -> None:
    rows = changed(interactions(), list(range(32)), label=None)
    assert rows.filter(pl.col("label").is_null())["client_id"].unique().to_list() == [0]
    found = found_by(
        "classes_are_balanced_per_client",
        Tables.of_frames(interactions=rows),
        min_client_class_share=0.01,
    )
    assert found.count == 0


@pytest.mark.parametrize(
    "check", ["classes_are_balanced", "classes_are_balanced_per_client", "label_drift_is_bounded"]
)
def test_implicit_labels_are_not_asked_for_balance(check: str) -> None:
    manifest = {**MANIFEST, "classes": [1.0], "recipe": {"clean": {"label": "implicit"}}}
    found = found_by(check, tables_of(interactions(), manifest=manifest))
    assert found.status == "skipped" and "implicit" in found.reason


def test_label_drift_is_jensen_shannon_of_a_client_to_all_rows() -> None:
    found = found_by(
        "label_drift_is_bounded", labelled((9, 0), (0, 1), (0, 0)), max_label_drift=0.1
    )
    whole, own = np.array([0.9, 0.1]), np.array([0.0, 1.0])
    middle = (whole + own) / 2
    by_hand = (
        0.9 * math.log2(0.9 / middle[0])
        + 0.1 * math.log2(0.1 / middle[1])
        + math.log2(1 / middle[1])
    ) / 2
    assert found.count == 1
    assert found.examples[0]["client_id"] == 1
    assert found.examples[0]["drift"] == pytest.approx(by_hand, rel=1e-12)


def test_item_drift_is_that_of_categories() -> None:
    # Clients 0 to 3 hold every topic alike; client 4 is given items of topic 0 alone.
    rows = interactions().with_columns(
        item_id=pl.when(pl.col("client_id") == 4)
        .then(pl.col("item_id") // 4 * 4)
        .otherwise("item_id")
    )
    found = found_by("item_drift_is_bounded", tables_of(rows), max_item_drift=0.3)
    assert [e["client_id"] for e in found.examples] == [4]
    assert (found.status, found.count) == ("fail", 1)
    assert found_by("item_drift_is_bounded", tables_of(rows)).count == 0


def test_item_drift_is_not_asked_without_categories() -> None:
    no_names = items().with_columns(categories=pl.lit(None, pl.List(pl.String)))
    found = found_by("item_drift_is_bounded", tables_of(interactions(), items=no_names))
    assert (found.status, found.reason) == ("skipped", "no item has a category")
    no_column = Tables.of_frames(interactions=interactions(), items=items().drop("categories"))
    assert found_by("item_drift_is_bounded", no_column).status == "skipped"


def test_sizes_are_bounded_by_their_gini() -> None:
    tables = labelled((1, 0), (1, 0), (49, 49))
    found = found_by("sizes_are_bounded", tables, max_size_gini=0.6)
    assert (found.status, found.count, found.denominator) == ("fail", 1, 1)
    (example,) = found.examples
    assert example == {"gini": pytest.approx(97 * 4 / (2 * 3 * 100)), "n_clients": 3, "smallest": 1,
                       "median": 1.0, "largest": 98}  # fmt: skip
    assert found_by("sizes_are_bounded", tables, max_size_gini=0.65).count == 0


# -- laws ------------------------------------------------------------------------------------------


def brute_gini(sizes: list[int]) -> float:
    """Half the mean difference of all pairs over the mean."""
    n, total = len(sizes), sum(sizes)
    return sum(abs(a - b) for a in sizes for b in sizes) / (2 * n * total) if total else 0.0


@law
@given(sizes=st.lists(st.integers(0, 50), min_size=1, max_size=20))
def test_gini_is_that_of_all_pairs(sizes: list[int]) -> None:
    assert gini(np.array(sizes)) == pytest.approx(brute_gini(sizes), abs=1e-12)


def brute_divergence(own: Any, whole: Any) -> float:
    """Jensen–Shannon as the entropy of the mean less the mean of the entropies, in bits."""

    def entropy(p: Any) -> float:
        return -sum(x * math.log2(x) for x in p if x)

    p, q = np.array(own) / sum(own), np.array(whole) / sum(whole)
    return entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2


@law
@given(
    counts=st.integers(1, 6).flatmap(
        lambda k: st.lists(
            st.lists(st.integers(0, 9), min_size=k, max_size=k), min_size=1, max_size=8
        )
    )
)
def test_divergence_is_that_of_its_definition(counts: list[list[int]]) -> None:
    table = np.array(counts, dtype=np.int64)
    with mock.patch("fedprep.checks.drift.CELLS", 7):
        found = divergence(table, table.sum(axis=0))
    for row, value in zip(counts, found.tolist(), strict=True):
        if sum(row):
            assert value == pytest.approx(brute_divergence(row, table.sum(axis=0)), abs=1e-9)
        else:
            assert math.isnan(value)


@law
@given(rows=dirty_frames(), seed=st.integers(0, 99), small=st.booleans())
def test_category_drift_is_what_the_build_measures(
    rows: pl.DataFrame, seed: int, small: bool
) -> None:
    rows = rows.drop_nulls().filter(pl.col("item_id").is_between(0, 11) & (pl.col("user_id") >= 0))
    if rows.is_empty():
        return
    dense = pl.col("client_id").rank("dense").cast(pl.Int32) - 1
    rows = rows.with_columns(client_id=dense, label=pl.lit(0, pl.Int8))
    rng = np.random.default_rng(seed)
    names = [[f"c{k}" for k in rng.choice(5, rng.integers(0, 4), replace=True)] for _ in range(12)]
    named = items(12).with_columns(categories=pl.Series(names, dtype=pl.List(pl.String)))
    table, _ = heterogeneity(rows, named, n_classes=1, min_rows=1)
    sizes = {
        "fedprep.checks.rows.BLOCK_ROWS": 5,
        "fedprep.checks.drift.PORTION": 4,
        "fedprep.checks.drift.CELLS": 6,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in sizes.items() if small else ():
            patch.setattr(name, value)
        patch.setattr("fedprep.checks.drift.LOOKUP", -(10**6) if seed % 2 else 10**6)
        tables = Tables.of_frames(interactions=rows, items=named)
        found = category_drift(tables.rows, tables.totals, named.lazy())
    expected = table["category_divergence"].to_list()
    assert found["client_id"].to_list() == table["client_id"].to_list()
    for got, want in zip(found["drift"].to_list(), expected, strict=True):
        assert (got is None) == (want is None)
        assert got is None or got == pytest.approx(want, abs=1e-6)


def of_clients(rows: list[Row]) -> dict[int, list[Row]]:
    clients = defaultdict(list)
    for row in rows:
        if row["client_id"] is not None:
            clients[row["client_id"]].append(row)
    return clients


def _homes(rows: list[Row]) -> int:
    homes = defaultdict(set)
    for row in rows:
        if row["user_id"] is not None and row["client_id"] is not None:
            homes[row["user_id"]].add(row["client_id"])
    return sum(len(clients) > 1 for clients in homes.values())


def _without_a_split(rows: list[Row]) -> int:
    of_splits = [Counter(row["split"] for row in mine) for mine in of_clients(rows).values()]
    used = [split for split in SPLITS if any(counts[split] for counts in of_splits)]
    return (
        sum(any(not counts[split] for split in used) for counts in of_splits)
        if len(used) > 1
        else 0
    )


def _one_sided(rows: list[Row]) -> int:
    n = 0
    for mine in of_clients(rows).values():
        counts = Counter(row["label"] for row in mine if row["label"] is not None)
        n += (
            bool(counts) and max(counts.values()) / counts.total() > Limits().max_client_class_share
        )
    return n


def _drifted(rows: list[Row]) -> int:
    there = [row for row in rows if row["label"] is not None and row["client_id"] is not None]
    whole = Counter(row["label"] for row in there)
    n = 0
    for mine in of_clients(there).values():
        counts = Counter(row["label"] for row in mine)
        n += brute_divergence([counts[k] for k in whole], list(whole.values())) > 0.123456789
    return n


def _unequal(rows: list[Row]) -> int:
    return brute_gini([len(mine) for mine in of_clients(rows).values()] or [0]) > 0.2512345


BRUTE: dict[str, Callable[[list[Row]], int]] = {
    "every_row_has_one_client": lambda rows: sum(row["client_id"] is None for row in rows),
    "user_lives_in_one_client": _homes,
    "clients_have_enough_rows": lambda rows: sum(
        len(mine) < Limits().min_client_rows for mine in of_clients(rows).values()
    ),
    "clients_have_every_split": _without_a_split,
    "classes_are_balanced_per_client": _one_sided,
    "label_drift_is_bounded": _drifted,
    "sizes_are_bounded": _unequal,
}


@law
@given(rows=dirty_frames(), block_rows=st.sampled_from([4, 1_000]))
def test_counts_are_those_of_brute_force(rows: pl.DataFrame, block_rows: int) -> None:
    limits = {"max_label_drift": 0.123456789, "max_size_gini": 0.2512345}
    with mock.patch("fedprep.checks.rows.BLOCK_ROWS", block_rows):
        results = validate(Tables.of_frames(interactions=rows), limits, only=list(BRUTE)).results
    plain = list(rows.iter_rows(named=True))
    assert {r.name: r.count for r in results} == {name: BRUTE[name](plain) for name in BRUTE}
    assert not [r.reason for r in results if r.status == "error"]


@law
@given(rows=dirty_frames())
def test_class_shares_are_those_of_brute_force(rows: pl.DataFrame) -> None:
    counts = Counter(row for row in rows["label"].to_list() if row is not None)
    expected = [k for k in sorted(counts) if not 0.2 <= counts[k] / counts.total() <= 0.6]
    tables = Tables.of_frames(interactions=rows)
    limits = Limits(max_class_share=0.6, min_class_share=0.2)
    found = CHECKS["classes_are_balanced"].function(tables, limits).collect()
    assert found["label"].to_list() == expected


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), block_rows=st.sampled_from([9, 40, 1_000]))
def test_the_index_that_the_build_writes_matches_in_blocks_of_any_size(
    seed: int, block_rows: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(seed)
    client = np.sort(np.concatenate([np.arange(4), rng.integers(0, 4, rng.integers(1, 60))]))
    n = len(client)
    rows = (
        interactions()
        .head(1)[np.zeros(n, dtype=np.int64)]
        .with_columns(
            client_id=pl.Series(client, dtype=pl.Int32),
            user_id=pl.Series(client + 4 * rng.integers(0, 2, n), dtype=pl.Int32),
            item_id=pl.Series(rng.integers(0, 16, n), dtype=pl.Int32),
            label=pl.Series(rng.integers(0, 2, n), dtype=pl.Int8),
            timestamp=pl.int_range(pl.len()) * DAY,
        )
    )
    dataset = Dataset.unchecked(write_dataset(tmp_path_factory.mktemp("index") / "x", rows))
    with mock.patch("fedprep.checks.rows.BLOCK_ROWS", block_rows):
        tables = Tables.of_dataset(dataset)
        found = CHECKS["index_matches_shards"].function(tables, Limits()).collect()
    assert found.is_empty(), found
    blocks = [block.frame.height for block in tables.rows.blocks()]
    assert sum(blocks) == n and all(size <= block_rows for size in blocks)
    assert [block.first for block in tables.rows.blocks()] == [0, *np.cumsum(blocks)[:-1].tolist()]


def test_clients_with_one_label_more_than_k_are_named() -> None:
    name = "clients_hold_the_classes_asked_for"
    asked = {"recipe": {"partition": {"method": "pathological", "k": 1}}}
    one_each = interactions().with_columns(label=(pl.col("client_id") % 2).cast(pl.Int8))
    right = found_by(name, tables_of(one_each, manifest={**MANIFEST, **asked}))
    assert right.status == "pass"
    client = int(one_each["client_id"][0])
    other = 1 - int(one_each["label"][0])
    found = found_by(
        name, tables_of(changed(one_each, [0], label=other), manifest={**MANIFEST, **asked})
    )
    assert (found.status, found.count) == ("warn", 1)
    assert found.examples[0]["client_id"] == client
    assert found.examples[0]["n_labels"] == 2
