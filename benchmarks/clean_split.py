"""Clean and split: fedprep against plain polars that does the same, CPU seconds and peak memory.

    python benchmarks/clean_split.py [--rows 1000000 20000000] [--rounds 3]

Made-up interactions of the shape of MovieLens, one row in a hundred repeated. Both drop broken ratings, keep
the last row of a pair, take the 20-core, label, and hold out two rows a user. The polars version is what one
would write by hand; it leaves ties to the order of rows, counts nothing and measures no leak. Each runs in a
process of its own; memory is the peak beyond the table that it was given (Linux).

Limits: at 1,000,000 rows at most 0.4 s of CPU; never more CPU or memory than plain polars.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl
from tables import Line, interactions, show

from fedprep.clean import clean
from fedprep.recipe import Clean, Split
from fedprep.split import split

CORE = 20
CPU_SECONDS_OF_A_MILLION = 0.4
MB = 2**20


def by_fedprep(rows: pl.DataFrame) -> pl.DataFrame:
    kept, _ = clean(rows, Clean(k_core=CORE))
    return split(kept, Split(), seed=0)[0]


def by_polars(rows: pl.DataFrame) -> pl.DataFrame:
    kept = (
        rows.filter(pl.col("rating").is_finite())
        .sort("timestamp", "line")
        .unique(["user_id", "item_id"], keep="last", maintain_order=True)
    )
    while True:
        of_user, of_item = pl.len().over("user_id"), pl.len().over("item_id")
        left = kept.filter((of_user >= CORE) & (of_item >= CORE))
        if left.height == kept.height:
            break
        kept = left
    from_end = pl.len().over("user_id") - pl.int_range(pl.len()).over("user_id")
    part = pl.when(from_end == 1).then(pl.lit("test")).when(from_end == 2).then(pl.lit("valid"))
    return kept.sort("user_id", "timestamp", "item_id").with_columns(
        label=(pl.col("rating") >= 4).cast(pl.Int8),
        split=part.otherwise(pl.lit("train")).cast(pl.Enum(["train", "valid", "test"])),
    )


WORK = {"fedprep": by_fedprep, "polars": by_polars}


def raw_rows(n_rows: int) -> pl.DataFrame:
    """Returns rows as a source gives them: shuffled, one in a hundred once more at another time."""
    n_users, n_items = n_rows // 160, max(10_000, n_rows // 500)
    rows = interactions(n_rows, n_users, n_items, least=20).drop("label", "split")
    again = rows[::100].with_columns(pl.col("timestamp") + 86_400)
    line = pl.int_range(1, pl.len() + 1, dtype=pl.UInt32).alias("line")
    return pl.concat([rows, again]).sample(fraction=1, shuffle=True, seed=1).with_columns(line)


def measured(who: str, table: Path, rounds: int) -> dict[str, float]:
    """Returns CPU seconds, peak memory beyond the table (bytes) and rows out, from a fresh process."""
    command = [sys.executable, __file__, "--measure", who, str(table), "--rounds", str(rounds)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def measure(who: str, table: Path, rounds: int) -> None:
    rows = pl.read_parquet(table)
    Path("/proc/self/clear_refs").write_text("5")  # the peak of reading the file is not ours
    before = peak_memory()
    seconds = []
    for _ in range(rounds):
        begin = time.process_time()
        out = WORK[who](rows)
        seconds.append(time.process_time() - begin)
        height = out.height
        del out
    print(json.dumps({"seconds": min(seconds), "bytes": peak_memory() - before, "rows": height}))


def peak_memory() -> int:
    """Returns the most bytes that this process had in memory (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def lines_for(n_rows: int, rounds: int) -> list[Line]:
    with tempfile.TemporaryDirectory(prefix="fedprep-bench-") as folder:
        table = Path(folder) / "rows.parquet"
        raw_rows(n_rows).write_parquet(table)
        ours, theirs = (measured(who, table, rounds) for who in WORK)
    assert ours["rows"] == theirs["rows"], "both must keep the same rows"
    name = f"{n_rows:,} rows"
    cpu, memory = ours["seconds"] / theirs["seconds"], ours["bytes"] / max(theirs["bytes"], 1)
    lines = [
        Line(f"{name}: CPU, polars", f"{theirs['seconds']:.2f} s"),
        Line(f"{name}: CPU, fedprep", f"{ours['seconds']:.2f} s"),
        Line(f"{name}: CPU, ratio", f"{cpu:.2f}", "<= 1", bool(cpu <= 1)),
        Line(f"{name}: memory, polars", f"{theirs['bytes'] / MB:.0f} MiB"),
        Line(f"{name}: memory, fedprep", f"{ours['bytes'] / MB:.0f} MiB"),
        Line(f"{name}: memory, ratio", f"{memory:.2f}", "<= 1", bool(memory <= 1)),
    ]
    if n_rows == 1_000_000:
        limit = CPU_SECONDS_OF_A_MILLION
        lines[1] = Line(
            lines[1].what, lines[1].value, f"<= {limit} s", bool(ours["seconds"] <= limit)
        )
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 20_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", nargs=2, metavar=("WHO", "TABLE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(given.measure[0], Path(given.measure[1]), given.rounds)
        return 0
    lines = [line for n_rows in given.rows for line in lines_for(n_rows, given.rounds)]
    return show(f"clean and split, {CORE}-core, leave-last-out", lines)


if __name__ == "__main__":
    sys.exit(main())
