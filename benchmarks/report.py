"""The report page of a large Dataset: seconds, memory and size.

    python benchmarks/report.py [--rows 10000000] [--clients 1000000]

Made-up interactions of a client a user, 50,000 items with embeddings of 384 numbers. The Dataset is made
first; numbers and pictures are made by a process of their own, whose peak memory is measured.

Limits: 6 s of processor time for the numbers, 4 s for the pictures, 1 GiB of memory, a page of 2 MB.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
from tables import Line, interactions, items, show

from fedprep import report
from fedprep.dataset import Dataset
from fedprep.partition import heterogeneity
from fedprep.schema import embedding_schema
from fedprep.shards import write_shards

N_ITEMS, DIM = 50_000, 384
NOTHING = {
    "format": 1, "verdict": "pass", "subject": {"kind": "dataset", "name": "large", "id": None},
    "strict": False, "counts": {}, "limits": {}, "seconds": 0.0, "checks": [],
}  # fmt: skip


def make(folder: Path, n_rows: int, n_clients: int) -> None:
    """Writes what the pictures look at of a Dataset."""
    rows = interactions(n_rows, n_clients, N_ITEMS, least=3).with_columns(client_id="user_id")
    about = items(N_ITEMS)
    per_client, _ = heterogeneity(rows, about, n_classes=5, min_rows=1)
    write_shards(rows, folder / "clients", per_client=per_client)
    about.write_parquet(folder / "items.parquet")
    rng = np.random.default_rng(0)
    embeddings = {
        "item_id": about["item_id"],
        "embedding": rng.standard_normal((N_ITEMS, DIM), np.float32),
    }
    (folder / "embeddings").mkdir()
    pl.DataFrame(embeddings, schema=embedding_schema(DIM)).write_parquet(
        folder / "embeddings" / "text.parquet", row_group_size=8_192
    )
    behavior = pl.Series(rng.standard_normal((n_clients, 32), np.float32))
    users = pl.DataFrame({"user_id": np.arange(n_clients, dtype=np.int32), "behavior": behavior})
    users.write_parquet(folder / "users.parquet")
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "id": "", "name": "large"}))


def measure(folder: Path) -> dict[str, float]:
    """Returns what one report costs, with the peak memory of this process."""
    start = time.process_time()
    found = report.aggregates(Dataset.unchecked(folder))
    counted = time.process_time()
    pictures = report.draw(found)
    drawn = time.process_time()
    assert all(picture.image for picture in pictures.values()), found.reasons
    page = report.page(NOTHING, pictures, {})
    return {
        "numbers": counted - start,
        "pictures": drawn - counted,
        "MiB": peak_memory(),
        "kB": len(page.encode()) / 1000,
    }


def peak_memory() -> float:
    """Returns the most MiB that this process had; `ru_maxrss` would count those of its parent as well."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--clients", type=int, default=1_000_000)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return 0
    with tempfile.TemporaryDirectory(prefix="fedprep-bench-") as name:
        make(Path(name), options.rows, options.clients)
        command = [sys.executable, __file__, "--measure", name]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    cost = json.loads(done.stdout)
    limits = {"numbers": 6, "pictures": 4, "MiB": 1024, "kB": 2000}
    words = {
        "numbers": "numbers, CPU s",
        "pictures": "pictures, CPU s",
        "MiB": "peak memory, MiB",
        "kB": "page, kB",
    }
    return show(
        f"Report of {options.rows:,} rows of {options.clients:,} clients",
        [
            Line(words[key], f"{cost[key]:,.1f}", f"at most {limit:,}", cost[key] <= limit)
            for key, limit in limits.items()
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
