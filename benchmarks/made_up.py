"""Made-up Datasets of any size, written part by part, for the benchmark of validation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from tables import GENRES, interactions

from fedprep.manifest import describe_table, write_manifest
from fedprep.schema import INDEX, SHARD, embedding_schema

N_ITEMS, DIM = 50_000, 384
GROUP_ROWS, FILE_ROWS = 8_192, 163_840
PARTS = 10  # of a large Dataset, made one after the other


def write_dataset(folder: Path, n_rows: int, n_clients: int, *, embeddings: bool) -> Path:
    """Writes a Dataset whose clients hold users of about 100 rows, or are users where there are many."""
    n_parts = PARTS if n_rows > 10 * GROUP_ROWS * PARTS and n_clients >= PARTS else 1
    n_users = max(n_clients, n_rows // 100)
    (folder / "clients").mkdir(parents=True)
    indices, n_files = [], 0
    for part in range(n_parts):
        rows = interactions(n_rows // n_parts, n_users // n_parts, N_ITEMS, least=5)
        here = n_clients // n_parts
        rows = rows.with_columns(
            user_id=pl.col("user_id") + part * (n_users // n_parts),
            client_id=(pl.col("user_id") % here + part * here).cast(pl.Int32),
        ).sort("client_id", "user_id", "timestamp", "item_id")
        from_end = pl.int_range(pl.len(), dtype=pl.Int32).reverse().over("user_id")
        split = (
            pl.when(from_end == 0).then(pl.lit("test")).when(from_end == 1).then(pl.lit("valid"))
        )
        rows = rows.with_columns(
            split.otherwise(pl.lit("train")).cast(SHARD["split"]).alias("split")
        ).select(*SHARD)
        indices.append(write_part(rows, folder / "clients", n_files))
        n_files = int(indices[-1]["file"].max()) + 1
    pl.concat(indices).write_parquet(folder / "clients" / "index.parquet")
    write_rest(folder, n_users, n_clients // n_parts * n_parts, n_rows, embeddings)
    return folder


def write_part(rows: pl.DataFrame, folder: Path, first_file: int) -> pl.DataFrame:
    """Writes sorted rows as shards with client-aligned row groups; returns their index."""
    counts = [
        (pl.col("split") == s).sum().cast(pl.Int32).alias(f"n_{s}")
        for s in ("train", "valid", "test")
    ]
    labels = [(pl.col("label") == k).sum().cast(pl.Int32) for k in range(5)]
    index = rows.group_by("client_id", maintain_order=True).agg(
        pl.len().cast(pl.Int32).alias("n_rows"),
        *counts,
        pl.col("user_id").n_unique().cast(pl.Int32).alias("n_users"),
        pl.concat_list(labels).list.to_array(5).alias("label_counts"),
    )
    n_rows = index["n_rows"].to_numpy().astype(np.int64)
    begin = np.cumsum(n_rows) - n_rows
    new_group = np.diff(begin // GROUP_ROWS, prepend=-1) != 0
    first = begin[new_group]
    group = np.cumsum(new_group) - 1
    file_of_group = np.cumsum(np.diff(first // FILE_ROWS, prepend=-1) != 0) - 1
    in_file = np.arange(len(first)) - np.searchsorted(file_of_group, file_of_group)
    ends = np.append(first[1:], rows.height)
    for file in range(int(file_of_group[-1]) + 1):
        mine = np.flatnonzero(file_of_group == file)
        table = rows.slice(int(first[mine[0]]), int(ends[mine[-1]] - first[mine[0]])).to_arrow()
        with pq.ParquetWriter(
            folder / f"part-{first_file + file:05d}.parquet", table.schema
        ) as writer:
            for k in mine.tolist():
                piece = table.slice(int(first[k] - first[mine[0]]), int(ends[k] - first[k]))
                writer.write_table(piece, row_group_size=1 << 26)
    places = {
        "file": first_file + file_of_group[group],
        "row_group": in_file[group],
        "offset": begin - first[group],
    }
    return index.with_columns(
        **{name: pl.Series(values, dtype=pl.Int32) for name, values in places.items()},
        divergence=pl.lit(0.0, pl.Float32),
        category_divergence=pl.lit(0.0, pl.Float32),
    ).select(*INDEX)


def write_rest(folder: Path, n_users: int, n_clients: int, n_rows: int, embeddings: bool) -> None:
    """Writes items, users, embeddings of unit length and the manifest."""
    ids = np.arange(N_ITEMS, dtype=np.int32)
    source = [f"i{k}" for k in range(N_ITEMS)]
    frames = {
        "items.parquet": pl.DataFrame(
            {
                "item_id": ids,
                "source_id": source,
                "title": source,
                "text": source,
                "categories": [[GENRES[k % 9], GENRES[k * 7 % 9]] for k in range(N_ITEMS)],
                "image": pl.Series([None] * N_ITEMS, dtype=pl.String),
            }
        ),
        "users.parquet": pl.scan_parquet(folder / "clients" / "part-*.parquet")
        .select("user_id", "client_id")
        .unique()
        .sort("user_id")
        .collect(engine="streaming")
        .select("user_id", pl.col("user_id").cast(pl.String).alias("source_id"), "client_id"),
    }
    if embeddings:
        values = np.random.default_rng(0).standard_normal((N_ITEMS, DIM)).astype(np.float32)
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        (folder / "embeddings").mkdir()
        frames["embeddings/text.parquet"] = pl.DataFrame(
            {"item_id": ids, "embedding": values}, schema=embedding_schema(DIM)
        )
    tables = {}
    for name, frame in frames.items():
        frame.write_parquet(folder / name, row_group_size=GROUP_ROWS)
        tables[name] = describe_table(folder / name, frame)
    statistics = {"n_present": N_ITEMS, "n_zero": 0, "norm_min": 1.0, "norm_median": 1.0, "norm_max": 1.0,
                  "rms": DIM**-0.5, "mean_abs": 0.0407}  # fmt: skip
    encoder = {"name": "made up", "dim": DIM, "normalise": "l2", "n_present": N_ITEMS, "n_missing": 0,
               "statistics": {"before": statistics, "after": statistics}}  # fmt: skip
    shards = pl.scan_parquet(folder / "clients" / "part-*.parquet")
    splits = shards.group_by("split").len().collect(engine="streaming").cast({"split": pl.String})
    manifest = {
        "name": "benchmark",
        "created": "2026-01-01T00:00:00+00:00",
        "recipe": {"name": "benchmark", "clean": {"label": "classes", "threshold": 4.0}},
        "source": {"name": "table", "files": []},
        "facts": {
            "n_users": n_users,
            "n_items": N_ITEMS,
            "n_interactions": n_rows,
            "n_clients": n_clients,
            "ratings": [[float(k), 1] for k in range(1, 6)],
            "splits": dict(splits.iter_rows()),
        },
        "classes": [1.0, 2.0, 3.0, 4.0, 5.0],
        "split": {},
        "steps": [],
        "encoders": {"text": encoder} if embeddings else {},
        "partition": {"method": "by_column", "unit": "user"},
        "tables": tables,
    }
    write_manifest(folder, manifest)


def write_dirty(path: Path, n_rows: int) -> dict[str, int]:
    """Writes rows of interactions with known faults as one Parquet file; returns how many of each."""
    rows = interactions(n_rows, n_rows // 100, N_ITEMS, least=5)
    rows = rows.with_columns(client_id=(pl.col("user_id") % 500).cast(pl.Int32)).sort(
        "client_id", "user_id", "timestamp", "item_id"
    )
    rng = np.random.default_rng(0)
    at = rng.permutation(n_rows)[:12]
    rating = rows["rating"].to_numpy().copy()
    rating[at[:3]], rating[at[3:5]], rating[at[5:9]] = np.nan, np.inf, 99.0
    missing = pl.int_range(pl.len()).is_in(at[9:].tolist())
    rows = rows.with_columns(pl.when(~missing).then(pl.Series(rating)).alias("rating"))
    again = rows[np.sort(rng.permutation(n_rows)[:7])]
    pl.concat([rows, again]).write_parquet(path)
    return {"null": 3, "NaN": 3, "infinite": 2, "out of range": 4, "repeated pairs": 7}
