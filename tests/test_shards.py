"""Shards: whole clients in sorted files, an index that tells the truth, and the same bytes every time."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprep import schema, shards
from fedprep.partition import heterogeneity
from fedprep.shards import write_shards

ORDER = ["client_id", "user_id", "timestamp", "item_id"]
ITEMS = pl.DataFrame({"item_id": np.arange(50, dtype=np.int32)})


def rows_of(sizes: list[int], seed: int = 0, *, users: int = 3) -> pl.DataFrame:
    """Rows of clients of these sizes, shuffled; each client has users of its own and times with ties."""
    rng = np.random.default_rng(seed)
    client = np.repeat(np.arange(len(sizes)), sizes)
    n = len(client)
    label = rng.integers(0, 2, n)
    frame = pl.DataFrame(
        {
            "client_id": client,
            "user_id": client * users + rng.integers(0, users, n),
            "item_id": np.arange(n) % 50,
            "rating": label + 0.5,
            "label": label,
            "timestamp": 1_000_000_000 + rng.integers(0, 20, n),
            "split": rng.choice(schema.SPLITS, n),
        }
    )
    return frame.cast(dict(schema.SHARD)).sample(fraction=1, shuffle=True, seed=seed)  # type: ignore[arg-type]


def write(rows: pl.DataFrame, folder: Path) -> pl.DataFrame:
    table, _ = heterogeneity(rows, ITEMS, n_classes=2, min_rows=1)
    return write_shards(rows, folder, per_client=table)


def check(rows: pl.DataFrame, folder: Path, index: pl.DataFrame) -> dict[tuple[int, int], int]:
    """Holds that the index finds exactly each client's rows; returns the rows of each group."""
    groups: dict[tuple[int, int], int] = {}
    assert index.equals(pl.read_parquet(folder / "index.parquet"))
    assert index.columns == list(schema.INDEX)
    files = {n: pq.ParquetFile(folder / f"part-{n:05d}.parquet") for n in index["file"].unique()}
    assert sorted(files) == list(range(len(files)))
    for place in index.iter_rows(named=True):
        group = files[place["file"]].read_row_group(place["row_group"])
        groups[place["file"], place["row_group"]] = group.num_rows
        found = pl.DataFrame(group.slice(place["offset"], place["n_rows"]))
        wanted = rows.filter(pl.col("client_id") == place["client_id"]).sort(ORDER)
        assert found.equals(wanted)
    assert sum(groups.values()) == rows.height
    assert len(groups) == sum(file.num_row_groups for file in files.values())
    for file in files.values():
        file.close()
    return groups


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups of 10 rows, files of 40, so that little data has many of both."""
    monkeypatch.setattr(shards, "OWN_FILE", 3)
    monkeypatch.setattr(shards, "GROUP_ROWS", 10)
    monkeypatch.setattr(shards, "FILE_ROWS", 40)


def test_few_clients_have_a_file_each(tmp_path: Path) -> None:
    rows = rows_of([30, 1, 12])
    index = write(rows, tmp_path)
    assert index["file"].to_list() == [0, 1, 2]
    assert index["offset"].to_list() == [0, 0, 0]
    check(rows, tmp_path, index)


def test_many_clients_share_files_and_groups(tmp_path: Path, small_groups: None) -> None:
    rows = rows_of([4] * 50)
    index = write(rows, tmp_path)
    groups = check(rows, tmp_path, index)
    assert index["file"].n_unique() == 5
    assert max(groups.values()) <= 2 * 10


def test_a_client_larger_than_a_group_is_a_group_of_its_own(
    tmp_path: Path, small_groups: None
) -> None:
    rows = rows_of([3, 2, 57, 1, 11, 12, 4, 4])
    index = write(rows, tmp_path)
    groups = check(rows, tmp_path, index)
    for client in (2, 4, 5):
        place = index.row(client, named=True)
        assert groups[place["file"], place["row_group"]] == place["n_rows"]
        assert place["offset"] == 0


@settings(deadline=None, max_examples=40)
@given(sizes=st.lists(st.integers(1, 25), min_size=1, max_size=40), seed=st.integers(0, 999))
def test_every_client_is_found_whole_in_one_group(
    sizes: list[int], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"OWN_FILE": 3, "GROUP_ROWS": 10, "FILE_ROWS": 40}.items():
            patch.setattr(shards, name, value)
        rows = rows_of(sizes, seed)
        groups = check(rows, folder, write(rows, folder))
    assert max(groups.values()) <= max(20, *sizes)


@pytest.mark.parametrize(
    "case", ["users apart", "users shared", "null times", "wide times", "ties"]
)
def test_rows_are_sorted_whatever_way_is_fast(tmp_path: Path, case: str) -> None:
    rows = rows_of([20, 5, 17, 7])
    if case == "users shared":
        rows = rows.with_columns(user_id=pl.col("user_id") % 4)
    if case == "null times":
        empty = pl.when(pl.col("item_id") % 3 > 0).then("timestamp")
        rows = rows.with_columns(timestamp=empty)
    if case == "wide times":
        rows = rows.with_columns(timestamp=(pl.col("item_id").cast(pl.Int64) - 25) * (1 << 57))
    if case == "ties":
        rows = rows.with_columns(item_id=pl.lit(3, dtype=pl.Int32))
    index = write(rows, tmp_path)
    found = pl.read_parquet(tmp_path / "part-*.parquet")
    assert found.equals(rows.sort(*ORDER, "rating", "label", "split"), null_equal=True)
    assert index["n_rows"].to_list() == [20, 5, 17, 7]


def test_polars_and_duckdb_read_the_schema_back(tmp_path: Path) -> None:
    rows = rows_of([9, 9])
    write(rows, tmp_path)
    assert dict(pl.scan_parquet(tmp_path / "part-*.parquet").collect_schema()) == schema.SHARD
    found = duckdb.sql(
        f"select split, count(*), sum(timestamp) from '{tmp_path}/part-*.parquet' group by 1 order by 1"
    ).fetchall()
    expected = (
        rows.with_columns(pl.col("split").cast(pl.String))
        .group_by("split")
        .agg(pl.len(), pl.col("timestamp").sum())
        .sort("split")
    )
    assert found == expected.rows()
    index = pl.scan_parquet(tmp_path / "index.parquet").collect_schema()
    wanted = {**schema.INDEX, "label_counts": pl.Array(pl.Int32, 2)}
    assert dict(index) == wanted


def test_every_column_of_every_group_has_statistics(tmp_path: Path) -> None:
    write(rows_of([9, 9]), tmp_path)
    group = pq.ParquetFile(tmp_path / "part-00001.parquet").metadata.row_group(0)
    client = group.column(0)
    assert (client.statistics.min, client.statistics.max) == (1, 1)
    assert all(group.column(i).is_stats_set for i in range(group.num_columns))
    assert {group.column(i).compression for i in range(4)} >= {"ZSTD"}


def test_the_order_of_the_rows_changes_no_byte(tmp_path: Path) -> None:
    rows = rows_of([20] * 30)
    write(rows, tmp_path / "one")
    write(rows.sample(fraction=1, shuffle=True, seed=9), tmp_path / "two")
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")


WRITE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_shards as t
t.shards.OWN_FILE = 3
t.write(t.rows_of([400] * 100, users=2), Path(sys.argv[2]))
rows = t.rows_of([400] * 100).with_columns(user_id=t.pl.col("user_id") % 7)  # sorted the slow way
rows = rows.with_columns(timestamp=(rows["timestamp"] - 1_000_000_000) * (1 << 57))
t.write(rows, Path(sys.argv[2]) / "more")
"""


def test_the_number_of_threads_changes_no_byte(tmp_path: Path) -> None:
    here = Path(__file__).parent
    for threads in ("1", "2"):
        subprocess.run(
            [sys.executable, "-c", WRITE, str(here), str(tmp_path / threads)],
            env={**os.environ, "POLARS_MAX_THREADS": threads, "OMP_NUM_THREADS": threads},
            cwd=here.parent,
            check=True,
            timeout=120,
        )
    assert hashes(tmp_path / "1") == hashes(tmp_path / "2")
    assert len(hashes(tmp_path / "1")) > 3


def hashes(folder: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.parquet"))
    }


def test_a_table_of_other_rows_is_our_own_mistake(tmp_path: Path) -> None:
    rows = rows_of([4, 4])
    table, _ = heterogeneity(rows, ITEMS, n_classes=2, min_rows=1)
    with pytest.raises(AssertionError, match="per_client"):
        write_shards(rows.head(7), tmp_path, per_client=table)
