"""Validation: fedprep's checks against hand-written polars, in blocks of clients, and beside other tools.

    python benchmarks/validation.py [--rows 5000000] [--large 50000000] [--peers] [--rounds 3]

Made-up Datasets are written to a temporary folder. Every contestant runs in a process of its own; its CPU
seconds are counted from after the imports, its peak memory is the process's (`ru_maxrss`).

- `--rows`: the hand-written queries answer the questions about rows and embeddings in one streaming pass
  each, as one would write them; fedprep runs every check there is. Limit: 1.5 times the CPU seconds.
- `--large`: the same Dataset cut into 500 clients and into 1,000,000. Limit: 1 GiB of peak memory.
- `--peers`: pandera, pointblank, dataframely and Great Expectations are installed into a virtual
  environment in the temporary folder and look at one dirty table: found or missed, CPU seconds, memory.
  fedprep must find every fault with its exact count.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from tables import GENRES, Line, interactions, show

from fedprep.manifest import describe_table, write_manifest
from fedprep.schema import INDEX, SHARD, embedding_schema

N_ITEMS, DIM = 50_000, 384
GROUP_ROWS, FILE_ROWS = 8_192, 163_840
CPU_LIMIT, PEAK_LIMIT = 1.5, 1024.0
PARTS = 10  # of a large Dataset, made one after the other


# --- Datasets ----------------------------------------------------------------------------------------


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
        split = pl.when(from_end == 0).then(pl.lit("test")).when(from_end == 1).then(pl.lit("valid"))
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
    counts = [(pl.col("split") == s).sum().cast(pl.Int32).alias(f"n_{s}") for s in ("train", "valid", "test")]
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
        with pq.ParquetWriter(folder / f"part-{first_file + file:05d}.parquet", table.schema) as writer:
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


# --- contestants -------------------------------------------------------------------------------------

BY_HAND = """
import polars as pl
rows = pl.scan_parquet(folder + "/clients/part-*.parquet")
items, users = (pl.scan_parquet(f"{folder}/{name}.parquet") for name in ("items", "users"))
rating, moment = pl.col("rating"), pl.col("timestamp")
values = rows.select(
    *(pl.col(c).is_null().sum().alias(f"{c}_null") for c in rows.collect_schema().names()),
    (~rating.is_finite()).sum().alias("not_finite"),
    ((rating < 1) | (rating > 5)).sum().alias("out_of_range"),
    (~moment.is_between(631152000, 1800000000)).sum().alias("not_plausible"),
    (pl.col("label") != rating - 1).sum().alias("wrong_label"),
)
pairs = rows.group_by("user_id", "item_id").len().filter(pl.col("len") > 1).select(pl.len())
at_two = rows.group_by("user_id").agg(pl.col("client_id").n_unique()).filter(pl.col("client_id") > 1)
no_item = rows.join(items, on="item_id", how="anti").select(pl.len())
no_user = rows.join(users, on="user_id", how="anti").select(pl.len())
queries = [values, pairs, at_two.select(pl.len()), no_item, no_user]
vectors = pl.scan_parquet(folder + "/embeddings/text.parquet").select(v=pl.col("embedding"))
norm = pl.col("v").arr.eval(pl.element() ** 2).arr.sum().sqrt()
queries.append(vectors.select(
    finite=(~pl.col("v").arr.sum().is_finite()).sum(),
    off_norm=(~norm.is_between(0.999, 1.001)).sum(),
    constant=(pl.col("v").arr.max() == pl.col("v").arr.min()).sum(),
))
queries.append(vectors.group_by("v").len().filter(pl.col("len") > 1).select(pl.len()))
for query in queries:
    query.collect(engine="streaming")
result = {}
"""

OURS = """
validation = validate(Dataset.open(folder))
result = {r.name: [r.status, r.count, r.reason] for r in validation.results}
"""
OUR_IMPORTS = "from fedprep.checks import validate\nfrom fedprep.dataset import Dataset\n"

AROUND = """
import json, resource, sys, time
import polars
folder = sys.argv[1]
{imports}
started = time.process_time()
{work}
cpu = time.process_time() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({{"cpu": cpu, "peak": peak, "result": result}}))
"""


@dataclass(frozen=True)
class Run:
    """CPU seconds, peak MiB and what was found; `error` where it did not finish."""

    cpu: float
    peak: float
    result: dict[str, Any]
    error: str = ""


def run(work: str, folder: Path, *, imports: str = "", python: str = sys.executable) -> Run:
    """Returns what a contestant found and cost, in a process of its own."""
    script = AROUND.format(imports=imports, work=work)
    done = subprocess.run([python, "-c", script, str(folder)], capture_output=True, text=True)
    if done.returncode != 0:
        return Run(float("nan"), float("nan"), {}, done.stderr.strip().splitlines()[-1][:100])
    return Run(**json.loads(done.stdout.splitlines()[-1]))


def best(work: str, folder: Path, rounds: int, **options: str) -> Run:
    """Returns the round of the least CPU seconds."""
    return min((run(work, folder, **options) for _ in range(rounds)), key=lambda r: r.cpu)


# --- the three parts ---------------------------------------------------------------------------------


def against_hand(folder: Path, n_rows: int, rounds: int) -> int:
    write_dataset(folder, n_rows, 500, embeddings=True)
    hand = best(BY_HAND, folder, rounds)
    ours = best(OURS, folder, rounds, imports=OUR_IMPORTS)
    not_run = [name for name, (status, *_) in ours.result.items() if status == "error"]
    ratio = ours.cpu / hand.cpu
    for contestant in (hand, ours):
        if contestant.error:
            raise SystemExit(contestant.error)
    title = f"{n_rows:,} rows, 50,000 x 384 embeddings: hand-written polars, and every check"
    return show(
        title,
        [
            Line("by hand, CPU seconds", f"{hand.cpu:.2f}"),
            Line(f"fedprep, {len(ours.result)} checks, CPU seconds", f"{ours.cpu:.2f}"),
            Line("ratio of CPU seconds", f"{ratio:.2f}", f"<= {CPU_LIMIT}", ratio <= CPU_LIMIT),
            Line("by hand, peak MiB", f"{hand.peak:.0f}"),
            Line("fedprep, peak MiB", f"{ours.peak:.0f}"),
            Line("checks that could not run", str(len(not_run)), "0", not not_run),
        ],
    )


def in_blocks(folder: Path, n_rows: int, n_clients: int) -> int:
    write_dataset(folder, n_rows, n_clients, embeddings=False)
    ours = run(OURS, folder, imports=OUR_IMPORTS)
    not_run = [name for name, (status, *_) in ours.result.items() if status == "error"]
    return show(
        f"{n_rows:,} rows of {n_clients:,} clients, every check",
        [
            Line("fedprep, CPU seconds", f"{ours.cpu:.1f}"),
            Line("fedprep, peak MiB", f"{ours.peak:.0f}", f"<= {PEAK_LIMIT:.0f}", ours.peak <= PEAK_LIMIT),
            Line("checks that could not run", str(len(not_run)), "0", not not_run and not ours.error),
        ],
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--large", type=int, default=50_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", action="store_true")
    options = parser.parse_args()
    status = 0
    with tempfile.TemporaryDirectory(prefix="fedprep-bench-") as name:
        folder = Path(name)
        if options.rows:
            status |= against_hand(folder / "rows", options.rows, options.rounds)
        for n_clients in (500, 1_000_000) if options.large else ():
            status |= in_blocks(folder / f"large-{n_clients}", options.large, n_clients)
    return status


if __name__ == "__main__":
    sys.exit(main())
