"""Validation: fedprep's checks against hand-written polars, in blocks of clients, and beside other tools.

    python benchmarks/validation.py [--rows 5000000] [--large 50000000] [--peers] [--rounds 3]

Made-up Datasets are written to a temporary folder. Every contestant runs in a process of its own; its CPU
seconds are counted from after the imports, its peak memory is the process's (`VmHWM`, Linux).

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

from made_up import write_dataset, write_dirty
from tables import Line, show

CPU_LIMIT, PEAK_LIMIT = 1.5, 1024.0


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
validation = validate(Dataset.unchecked(folder))
result = {r.name: [r.status, r.count, r.reason] for r in validation.results}
"""
OUR_IMPORTS = "from fedprep.checks import Tables, validate\nfrom fedprep.dataset import Dataset\n"

DIRTY = """
tables = Tables.of_file(folder + "/dirty.parquet")
names = {"null": "no_missing_values", "NaN": "ratings_are_finite", "out of range": "ratings_are_in_range",
         "repeated pairs": "pairs_are_unique"}
found = validate(tables, {"min_rating": 1, "max_rating": 5}, only=list(names.values()))
result = {fault: found[name].count for fault, name in names.items()}
"""

PEERS = {
    "pandera, LazyFrame": (
        "import pandera.polars as pa",
        """
rating = pa.Column(polars.Float32, pa.Check.in_range(1, 5), nullable=False)
schema = pa.DataFrameSchema({"rating": rating}, unique=["user_id", "item_id"])
try:
    schema.validate(polars.scan_parquet(folder + "/dirty.parquet"), lazy=True)
    result = {}
except pa.errors.SchemaErrors as error:
    result = {"faults": len(error.failure_cases)}
""",
    ),
    "pandera, DataFrame": (
        "import pandera.polars as pa",
        """
rating = pa.Column(polars.Float32, pa.Check.in_range(1, 5), nullable=False)
schema = pa.DataFrameSchema({"rating": rating}, unique=["user_id", "item_id"])
try:
    schema.validate(polars.read_parquet(folder + "/dirty.parquet"), lazy=True)
    result = {}
except pa.errors.SchemaErrors as error:
    result = dict(error.failure_cases.group_by("check").len().sort("check").iter_rows())
""",
    ),
    "pointblank, LazyFrame": (
        "import pointblank as pb",
        """
rows = pb.Validate(data=polars.scan_parquet(folder + "/dirty.parquet"))
rows = rows.col_vals_not_null("rating").col_vals_between("rating", 1, 5).rows_distinct(["user_id", "item_id"])
counts = rows.interrogate().n_failed()
result = {"not_null": counts[1], "between": counts[2], "rows_distinct": counts[3]}
""",
    ),
    "dataframely": (
        "import dataframely as dy",
        """
class Interactions(dy.Schema):
    user_id = dy.Int32(primary_key=True)
    item_id = dy.Int32(primary_key=True)
    rating = dy.Float32(nullable=False, min=1, max=5)
columns = ["user_id", "item_id", "rating"]
result = Interactions.filter(polars.read_parquet(folder + "/dirty.parquet", columns=columns))[1].counts()
""",
    ),
    "Great Expectations": (
        "import pandas as pd\nimport great_expectations as gx",
        """
frame = pd.read_parquet(folder + "/dirty.parquet", columns=["user_id", "item_id", "rating"])
context = gx.get_context(mode="ephemeral")
context.variables.progress_bars = {"globally": False}
asset = context.data_sources.add_pandas("p").add_dataframe_asset("a")
batch = asset.add_batch_definition_whole_dataframe("b").get_batch({"dataframe": frame})
expected = gx.expectations
result = {
    name: batch.validate(expectation).result["unexpected_count"]
    for name, expectation in {
        "not_null": expected.ExpectColumnValuesToNotBeNull(column="rating"),
        "between": expected.ExpectColumnValuesToBeBetween(column="rating", min_value=1, max_value=5),
        "unique": expected.ExpectCompoundColumnsToBeUnique(column_list=["user_id", "item_id"]),
    }.items()
}
""",
    ),
}
PACKAGES = (
    "pandera[polars]",
    "pointblank",
    "dataframely",
    "great_expectations",
    "pandas",
    "pyarrow",
)

AROUND = """
import json, sys, time
import polars
folder = sys.argv[1]
{imports}
started = time.process_time()
{work}
cpu = time.process_time() - started
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
peak = int(status["VmHWM"].split()[0]) / 1024
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
            Line(
                "fedprep, peak MiB",
                f"{ours.peak:.0f}",
                f"<= {PEAK_LIMIT:.0f}",
                ours.peak <= PEAK_LIMIT,
            ),
            Line(
                "checks that could not run", str(len(not_run)), "0", not not_run and not ours.error
            ),
        ],
    )


def beside_peers(folder: Path, n_rows: int) -> int:
    folder.mkdir()
    planted = write_dirty(folder / "dirty.parquet", n_rows)
    venv.create(folder / "venv", with_pip=True)
    python = str(folder / "venv" / "bin" / "python")
    installed = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", *PACKAGES], capture_output=True, text=True
    )
    if installed.returncode != 0:
        raise SystemExit("the peers cannot be installed: " + installed.stderr.strip()[-300:])
    ours = run(DIRTY, folder, imports=OUR_IMPORTS)
    exact = {**planted, "NaN": planted["NaN"] + planted["infinite"]}  # one check finds both
    del exact["infinite"]
    lines = [
        Line("fedprep: as planted", _words(ours.result), "all", ours.result == exact),
        Line("fedprep, CPU s · peak MiB", f"{ours.cpu:.2f} · {ours.peak:.0f}"),
    ]
    for name, (imports, work) in PEERS.items():
        peer = run(work, folder, imports=imports, python=python)
        times = f"x {peer.cpu / ours.cpu:.1f} · {peer.peak / ours.peak:.1f}"
        cost = f"{peer.cpu:.2f} · {peer.peak:.0f}  ({times})"
        lines.append(Line(f"{name}: found", peer.error or _words(peer.result) or "nothing"))
        lines.append(Line(f"{name}, CPU s · peak MiB", cost))
    return show(f"{n_rows:,} rows in one file, planted: {_words(planted)}", lines)


def _words(counts: dict[str, Any]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
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
        if options.peers:
            status |= beside_peers(folder / "peers", options.rows or 5_000_000)
        for n_clients in (500, 1_000_000) if options.large else ():
            status |= in_blocks(folder / f"large-{n_clients}", options.large, n_clients)
    return status


if __name__ == "__main__":
    sys.exit(main())
