"""Partition and write: fedprep against flwr-datasets, the same rows in the same run.

    python benchmarks/partition_write.py [--clients 6040] [--rounds 3]

A table of the size of ml-1m (1,000,209 rows, 6,040 users, 3,706 items), made up. flwr-datasets partitions an
in-memory `datasets.Dataset` and writes a Parquet file for each client, as its documentation has it.
fedprep's time is that of `partition`, `heterogeneity` (which flwr-datasets does not compute) and
`write_shards`. Best of several rounds for fedprep, one round for flwr-datasets, which takes minutes.

Limits: at least 50 times as fast (by the clock, and by processor time, which a busy machine does not
change), at most a third of the bytes.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
from tables import Line, interactions, items, show, users

from fedprep.partition import heterogeneity, partition
from fedprep.recipe import Partition
from fedprep.shards import write_shards

os.environ.setdefault("HF_HUB_OFFLINE", "1")

N_ROWS, N_USERS, N_ITEMS = 1_000_209, 6_040, 3_706
FASTER, SMALLER = 50, 1 / 3


@dataclass(frozen=True)
class Cost:
    wall: float
    cpu: float
    n_bytes: int


def cost(work: Callable[[Path], None], rounds: int) -> Cost:
    """Returns the least seconds of several rounds, each into an empty folder, and the bytes on disk."""
    wall, cpu, size = [], [], 0
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="fedprep-bench-") as name:
            clock, processor = time.perf_counter(), time.process_time()
            work(Path(name))
            wall.append(time.perf_counter() - clock)
            cpu.append(time.process_time() - processor)
            size = sum(path.stat().st_size for path in Path(name).rglob("*") if path.is_file())
    return Cost(min(wall), min(cpu), size)


def fedprep_writes(rows: pl.DataFrame, options: Partition) -> Callable[[Path], None]:
    about_items, about_users = items(N_ITEMS), users(N_USERS)

    def work(folder: Path) -> None:
        made = partition(rows, about_items, about_users, options, seed=0)
        shared = rows.with_columns(client_id=pl.Series(made.client_id))
        per_client, _ = heterogeneity(shared, about_items, n_classes=5, min_rows=1)
        write_shards(shared, folder, per_client=per_client)

    return work


def flower_writes(rows: pl.DataFrame, partitioner: Callable[[], Any]) -> Callable[[Path], None]:
    import datasets

    datasets.disable_progress_bars()
    plain = rows.with_columns(pl.col("split").cast(pl.String)).to_arrow()
    strings = [f.with_type(pa.string()) if f.name == "split" else f for f in plain.schema]
    dataset = datasets.Dataset(plain.cast(pa.schema(strings)))

    def work(folder: Path) -> None:
        made = partitioner()
        made.dataset = dataset
        for client in range(made.num_partitions):
            made.load_partition(client).to_parquet(folder / f"{client}.parquet")

    return work


def compared(name: str, ours: Cost, theirs: Cost) -> list[Line]:
    faster, leaner = theirs.wall / ours.wall, theirs.cpu / ours.cpu
    smaller = ours.n_bytes / theirs.n_bytes
    return [
        Line(f"{name}: fedprep", f"{ours.wall:.2f} s"),
        Line(f"{name}: flwr-datasets", f"{theirs.wall:.1f} s"),
        Line("    times as fast", f"{faster:.0f}", f">= {FASTER}", faster >= FASTER),
        Line("    times less processor time", f"{leaner:.0f}", f">= {FASTER}", leaner >= FASTER),
        Line(
            f"    bytes: {ours.n_bytes / 1e6:.1f} MB of {theirs.n_bytes / 1e6:.1f} MB",
            f"{smaller:.2f}",
            f"<= {SMALLER:.2f}",
            smaller <= SMALLER,
        ),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=N_USERS, help="of the Dirichlet partition")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    from flwr_datasets.partitioner import DirichletPartitioner, NaturalIdPartitioner

    warnings.filterwarnings("ignore", message="The specified min_partition_size")
    rows = interactions(N_ROWS, N_USERS, N_ITEMS, least=20)
    n = given.clients
    cases = {
        "natural id": (
            Partition(method="by_user"),
            lambda: NaturalIdPartitioner(partition_by="user_id"),
        ),
        f"Dirichlet 0.5, {n:,} clients": (
            Partition(method="dirichlet", alpha=0.5, n_clients=n, unit="interaction"),
            lambda: DirichletPartitioner(n, "label", 0.5, min_partition_size=0, seed=0),
        ),
    }
    lines = []
    for name, (options, partitioner) in cases.items():
        ours = cost(fedprep_writes(rows, options), given.rounds)
        theirs = cost(flower_writes(rows, partitioner), 1)
        lines += compared(name, ours, theirs)
    return show(f"partition and write, {rows.height:,} rows, {N_USERS:,} users", lines)


if __name__ == "__main__":
    sys.exit(main())
