"""Small tables without a fault, a Dataset of them, and the ways in which the same rows can come."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import polars as pl

from fedprep.build.tables import facts_of
from fedprep.checks import Result, Tables, validate
from fedprep.manifest import describe_table, write_manifest
from fedprep.partition import heterogeneity
from fedprep.schema import SHARD, SPLIT_DTYPE
from fedprep.shards import write_shards

N_USERS, N_ITEMS, N_CLIENTS, PER_USER = 20, 16, 5, 8

DAY = 86_400
FIRST = 956_703_932

MANIFEST: dict[str, Any] = {
    "name": "tiny",
    "created": "2020-01-01T00:00:00+00:00",
    "recipe": {
        "name": "tiny",
        "source": {"name": "table"},
        "clean": {"label": "binary", "threshold": 4.0},
        "embed": {},
    },
    "source": {
        "name": "table", "synthetic": False, "licence": "", "redistribution": False, "citation": "",
        "homepage": "", "files": [],
    },
    "facts": {"ratings": [[1.0, 40], [5.0, 40]], "splits": {"train": 120, "valid": 20, "test": 20}},
    "classes": [0.0, 1.0],
    "split": {
        "method": "leave_last_out", "rule": "", "rows": {}, "users": {}, "items": {}, "time": {},
        "cold": {"rule": "keep", "rows": {}, "items": {}}, "leak": None,
    },
    "steps": [],
    "encoders": {},
    "partition": {"method": "by_column", "unit": "user"},
    "seconds": {},
    "versions": {},
}  # fmt: skip


def interactions() -> pl.DataFrame:
    """Rows in which no check finds anything: `schema.SHARD`, sorted; user u is at client u % 5."""
    row = np.arange(N_USERS * PER_USER)
    user, turn = row // PER_USER, row % PER_USER
    rating = np.array([1.0, 5.0, 2.0, 4.0, 3.0, 5.0, 4.0, 3.5])[(turn + user) % 8]
    return pl.DataFrame(
        {
            "client_id": user % N_CLIENTS,
            "user_id": user,
            "item_id": (3 * user + turn) % N_ITEMS,
            "rating": rating,
            "label": rating >= 4,
            "timestamp": FIRST + DAY * turn,
            "split": (["train"] * (PER_USER - 2) + ["valid", "test"]) * N_USERS,
        }
    ).cast(SHARD).sort("client_id", "user_id", "timestamp", "item_id")  # fmt: skip


def items(n: int = N_ITEMS) -> pl.DataFrame:
    """Items 0 to n - 1 (`schema.ITEMS`), of four categories."""
    return pl.DataFrame(
        {
            "item_id": np.arange(n, dtype=np.int32),
            "source_id": [f"item {k}" for k in range(n)],
            "title": [f"title {k}" for k in range(n)],
            "text": [f"text {k}" for k in range(n)],
            "categories": [[f"topic {k % 4}"] for k in range(n)],
            "image": pl.Series([None] * n, dtype=pl.String),
        }
    )


def users(n: int = N_USERS) -> pl.DataFrame:
    """Users 0 to n - 1, with the client that `interactions` gives them and two numbers of behaviour."""
    behavior = pl.Series(np.ones((n, 2), dtype=np.float32), dtype=pl.Array(pl.Float32, 2))
    return pl.DataFrame(
        {
            "user_id": np.arange(n, dtype=np.int32),
            "source_id": [f"user {k}" for k in range(n)],
            "client_id": (np.arange(n) % N_CLIENTS).astype(np.int32),
            "behavior": behavior,
        }
    )


def write_dataset(folder: Path, rows: pl.DataFrame, **entries: Any) -> Path:
    """Writes the rows with `items` and `users` as a Dataset; entries lie over `MANIFEST`."""
    per_client, summary = heterogeneity(rows, items(), n_classes=2, min_rows=1)
    write_shards(rows, folder / "clients", per_client=per_client)
    items().write_parquet(folder / "items.parquet")
    users().write_parquet(folder / "users.parquet")
    described = {
        path.relative_to(folder).as_posix(): describe_table(path, pl.read_parquet(path))
        for path in sorted(folder.rglob("*.parquet"))
    }
    made: dict[str, Any] = {**MANIFEST, **entries, "tables": described}
    made["facts"] = {**facts_of(rows), "n_items": N_ITEMS, "n_users": N_USERS, **made["facts"]}
    made["partition"] = {
        "seed": 0, "n_clients": per_client.height, "heterogeneity": summary, **made["partition"]
    }  # fmt: skip
    write_manifest(folder, made)
    return folder


def changed(rows: pl.DataFrame, at: list[int], **values: Any) -> pl.DataFrame:
    """Returns the rows with these values in place of the columns' at some positions."""
    here = pl.int_range(pl.len()).is_in(at)
    return rows.with_columns(
        pl.when(here).then(pl.lit(value, dtype=rows.schema[name])).otherwise(name).alias(name)
        for name, value in values.items()
    )


def tables_of(rows: pl.DataFrame, **others: Any) -> Tables:
    """Returns tables in memory: these interactions, items, users and a manifest."""
    given = {"items": items(), "users": users(), "manifest": MANIFEST, **others}
    return Tables.of_frames(interactions=rows, **given)


def result_of(check: str, tables: Tables, **limits: float) -> Result:
    """Returns the result of one check."""
    return validate(tables, limits, only=[check])[check]


def found_by(check: str, tables: Tables, **limits: float) -> Result:
    """Returns the result of one check that can run: a count of 0 is no error in disguise."""
    result = result_of(check, tables, **limits)
    assert result.status != "error", result.reason
    return result


def forms(rows: pl.DataFrame, folder: Path) -> Iterator[tuple[str, Tables]]:
    """Yields the same rows as a frame, a lazy frame, a Parquet file of small row groups, and a folder."""
    folder.mkdir(exist_ok=True)
    yield "frame", Tables.of_frames(interactions=rows)
    yield "lazy frame", Tables.of_frames(interactions=rows.lazy().filter(pl.lit(True)))
    file = folder / "one.parquet"
    rows.write_parquet(file, row_group_size=7)
    yield "file", Tables.of_file(file)
    shards = folder / "shards"
    shards.mkdir()
    for number, part in enumerate(rows.iter_slices(max(1, rows.height // 3))):
        part.write_parquet(shards / f"part-{number:05d}.parquet", row_group_size=5)
    yield "folder of shards", Tables.of_folder(shards)


@st.composite
def dirty_frames(draw: st.DrawFn) -> pl.DataFrame:
    """Frames of `schema.SHARD` in any order with everything wrong that a row can have, here and there."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.sampled_from(range(1, 60)))
    n_users, n_items, n_clients = (draw(st.sampled_from(range(1, k))) for k in (9, 12, 7))
    share = draw(st.sampled_from([0.0, 0.05, 0.3]))

    def spoilt(values: Any, *wrong: Any) -> list[Any]:
        kept = list(np.asarray(values).tolist())
        for k in np.flatnonzero(rng.random(n) < share).tolist():
            kept[k] = wrong[rng.integers(len(wrong))]
        return kept

    user = rng.integers(0, n_users, n)
    client = user % n_clients if draw(st.booleans()) else rng.integers(0, n_clients, n)
    nan, inf = float("nan"), float("inf")
    frame = pl.DataFrame(
        {
            "client_id": spoilt(client, None, n_clients + 3),
            "user_id": spoilt(user, None, 99, -1),
            "item_id": spoilt(rng.integers(0, n_items, n), None, 77, -2),
            "rating": spoilt(rng.choice([1.0, 2.5, 4.0, 5.0], n), None, nan, inf, -inf, 99.0, 0.0),
            "label": spoilt(rng.integers(0, 2, n), None, 3, -1),
            "timestamp": spoilt(FIRST + DAY * rng.integers(0, 9, n), None, 0, -5, FIRST * 1000, 2**62),
            "split": spoilt(rng.choice(["train", "train", "valid", "test"], n), None),
        },
        schema=SHARD | {"split": pl.String()},
        strict=False,
    ).cast({"split": SPLIT_DTYPE})  # fmt: skip
    return frame.sort("client_id", "user_id", nulls_last=True) if draw(st.booleans()) else frame
