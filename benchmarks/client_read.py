"""Reading clients: one at random, all in order, all rows as arrays.

    python benchmarks/client_read.py [--clients 100000] [--rows 10000000]

Writes a Dataset of 10 M made-up rows of 100,000 clients into a temporary folder (about 100 MB) and reads it.

Limits: `Dataset.client(i)` of a random client, warm, in under 0.5 ms at the median; iterating all clients
in under 10 s; arrays of all rows, without a Python loop, in less than that.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from tables import Line, interactions, items, show, users

from fedprep.dataset import Dataset
from fedprep.manifest import write_manifest
from fedprep.partition import heterogeneity, partition
from fedprep.recipe import Partition
from fedprep.shards import write_shards

N_ITEMS = 50_000
RANDOM_READS = 2_000


def timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def write_dataset(rows: pl.DataFrame, n_users: int, folder: Path) -> float:
    """Writes what `Dataset` needs of a Dataset; returns the seconds that the shards took."""
    made = partition(rows, items(N_ITEMS), users(n_users), Partition(), seed=0)
    shared = rows.with_columns(client_id=pl.Series(made.client_id))
    per_client, _ = heterogeneity(shared, items(N_ITEMS), n_classes=5, min_rows=1)
    seconds = timed(lambda: write_shards(shared, folder / "clients", per_client=per_client))
    tables = {f"clients/{path.name}": {} for path in sorted((folder / "clients").iterdir())}
    write_manifest(folder, {"name": "benchmark", "recipe": {}, "source": {}, "tables": tables})
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=10_000_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fedprep-bench-") as name:
        folder = Path(name)
        rows = interactions(given.rows, given.clients, N_ITEMS, least=10)
        writing = write_dataset(rows, given.clients, folder)
        del rows
        dataset = Dataset.unchecked(folder)
        size = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
        wanted = np.random.default_rng(2).integers(0, given.clients, RANDOM_READS).tolist()
        for client in wanted:
            dataset.client(client)
        single = np.array([timed(lambda c=client: dataset.client(c)) for client in wanted]) * 1e3
        every = timed(lambda: sum(frame.height for _, frame in dataset.clients()))
        arrays = timed(dataset.arrays)
    p50, p99 = np.percentile(single, [50, 99])
    lines = [
        Line("write shards and index", f"{writing:.1f} s"),
        Line("on disk", f"{size / 1e6:.0f} MB"),
        Line("one client, p50", f"{p50:.2f} ms", "< 0.5 ms", bool(p50 < 0.5)),
        Line("one client, p99", f"{p99:.2f} ms"),
        Line("all clients in order", f"{every:.1f} s", "< 10 s", bool(every < 10)),
        Line("all rows as arrays", f"{arrays:.2f} s", f"< {every:.1f} s", arrays < every),
    ]
    return show(f"reading {given.clients:,} clients of {given.rows:,} rows", lines)


if __name__ == "__main__":
    sys.exit(main())
