"""NDCG, recall, MRR and HR at 10: fedeval against the bare sums in polars and, with --peers, other libraries.

    python benchmarks/metrics.py [--rounds 3] [--small] [--huge] [--peers FOLDER] [--only ranx rectools]

Recommendations of 20 million rows, 200,000 users × 100 and 1,000,000 × 20, sorted and shuffled, as a frame
in memory and as Parquet (user_id, item_id, rank, score as in a Run), and a truth of 10 and 3 items a user.
Each line is a process of its own: the least CPU seconds of some rounds, and its peak memory with tables and
libraries and all (Linux). "polars" does the bare sums and checks nothing: no repeats, no gaps, no NaN, no
counts, no values of users. "scan" reads the Parquet file and throws it away.

--peers makes a virtual environment for each library below FOLDER, outside the tree, and installs it there
(network); they are given the frame in memory, RecBole's metrics the matrix that they take, made beforehand.
--huge adds 200 million rows in Parquet, sorted and shuffled, which are streamed.

Limits: in memory 0.3 s and 1.2 GiB at 200,000 × 100, 0.7 s at 1,000,000 × 20; from Parquet 4 times the
scan; 200 million rows in 2 GiB; RecTools 20 and 8 times as slow, RecBole's metric class 5 times, ranx 100.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
METRICS = ["ndcg@10", "recall@10", "mrr@10", "hr@10"]
SHAPES = {"200,000 x 100": (200_000, 100, 10), "1,000,000 x 20": (1_000_000, 20, 3)}
SMALL = {"20,000 x 100": (20_000, 100, 10), "100,000 x 20": (100_000, 20, 3)}
HUGE = {"2,000,000 x 100": (2_000_000, 100, 3)}
N_ITEMS = 50_000
GIB = 2**30

SECONDS = {"200,000 x 100": 0.3, "1,000,000 x 20": 0.7}
MEMORY = {"200,000 x 100": 1.2}
TIMES_A_SCAN = 4.0
STREAMED = 2.0
FASTER = {
    ("rectools", "200,000 x 100"): 20, ("rectools", "1,000,000 x 20"): 8, ("recbole", "200,000 x 100"): 5,
    ("recbole", "1,000,000 x 20"): 5, ("ranx", "200,000 x 100"): 100, ("ranx", "1,000,000 x 20"): 100,
}  # fmt: skip


# --- what is measured: (recs, truth) or their paths to four numbers ------------------------------------


def by_fedeval(recs: Any, truth: Any) -> list[float]:
    import fedeval

    return list(fedeval.evaluate(recs, truth, METRICS).mean.values())


def by_polars(recs: Any, truth: Any) -> list[float]:
    import polars as pl

    rows = pl.scan_parquet(recs) if isinstance(recs, Path) else recs.lazy()
    told = pl.scan_parquet(truth) if isinstance(truth, Path) else truth.lazy()
    ideal = np.append(0, np.cumsum(1 / np.log2(np.arange(2, 12))))
    relevant = told.group_by("user_id").len("relevant")
    hits = (
        rows.filter(pl.col("rank") <= 10)
        .join(told, on=["user_id", "item_id"])
        .group_by("user_id")
        .agg(
            (1 / (pl.col("rank") + 1).log(2)).sum().alias("dcg"), pl.len().alias("hits"),
            pl.col("rank").min().alias("first"),
        )
    )  # fmt: skip
    reach = pl.col("relevant").clip(upper_bound=10)
    table = pl.LazyFrame({"relevant": np.arange(11, dtype=np.uint32), "ideal": ideal})
    values = (
        relevant.join(hits, on="user_id", how="left")
        .with_columns(reach.alias("reach"))
        .join(table, left_on="reach", right_on="relevant")
        .select(
            (pl.col("dcg") / pl.col("ideal")).fill_null(0).mean(),
            (pl.col("hits") / pl.col("relevant")).fill_null(0).mean().alias("recall"),
            (1 / pl.col("first")).fill_null(0).mean().alias("mrr"),
            pl.col("hits").is_not_null().mean().alias("hr"),
        )
    )
    return list(values.collect(engine="streaming").row(0))


def by_scan(recs: Path, truth: Path) -> list[float]:
    import polars as pl

    return [float(pl.read_parquet(recs).height)]


def by_ranx(recs: Any, truth: Any) -> list[float]:
    from ranx import Qrels, Run, evaluate

    told = truth.to_pandas().assign(relevance=1)
    rows = recs.to_pandas()
    for frame in (told, rows):
        frame[["user_id", "item_id"]] = frame[["user_id", "item_id"]].astype(str)
    rows["score"] = -rows["rank"].astype(float)
    qrels = Qrels.from_df(told, q_id_col="user_id", doc_id_col="item_id", score_col="relevance")
    run = Run.from_df(rows, q_id_col="user_id", doc_id_col="item_id", score_col="score")
    names = ["ndcg@10", "recall@10", "mrr@10", "hit_rate@10"]
    return list(evaluate(qrels, run, names, make_comparable=True).values())


def by_rectools(recs: Any, truth: Any) -> list[float]:
    from rectools.metrics import MRR, NDCG, HitRate, Recall, calc_metrics

    metrics = {
        "ndcg": NDCG(k=10, divide_by_achievable=True), "recall": Recall(k=10), "mrr": MRR(k=10),
        "hr": HitRate(k=10),
    }  # fmt: skip
    found = calc_metrics(metrics, recs.to_pandas(), truth.to_pandas())
    return [found[name] for name in metrics]


def matrix_for_recbole(recs: Any, truth: Any) -> Any:
    """Returns what its metrics take: hits at each place, and the number of relevant items."""
    import torch

    users, items, rank = (recs[c].to_numpy() for c in ("user_id", "item_id", "rank"))
    n = int(truth["user_id"].max()) + 1
    lists = np.full((n, int(rank.max())), -1, np.int32)
    lists[users, rank - 1] = items
    keys = np.sort(
        truth["user_id"].to_numpy().astype(np.int64) * N_ITEMS + truth["item_id"].to_numpy()
    )
    wanted = np.arange(n)[:, None] * N_ITEMS + lists[:, :10]
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    sizes = np.bincount(truth["user_id"].to_numpy(), minlength=n)
    return torch.from_numpy(
        np.concatenate([keys[at] == wanted, sizes[:, None]], axis=1).astype(np.int64)
    )


def by_recbole(topk: Any, truth: Any) -> list[float]:
    from recbole.config import Config
    from recbole.evaluator import metrics as theirs
    from recbole.evaluator.collector import DataStruct

    vars(np)["float"] = float  # it was written for numpy 1
    config = Config.__new__(Config)
    config.final_config_dict = {
        "metrics": ["NDCG", "Recall", "MRR", "Hit"], "topk": [10], "metric_decimal_place": 10,
    }  # fmt: skip
    struct = DataStruct()
    struct.set("rec.topk", topk)
    names = (theirs.NDCG, theirs.Recall, theirs.MRR, theirs.Hit)
    return [next(iter(name(config).calculate_metric(struct).values())) for name in names]


def by_replay(recs: Any, truth: Any) -> list[float]:
    import polars as pl
    from replay.metrics import MRR, NDCG, HitRate, OfflineMetrics, Recall

    rows = recs.with_columns(rating=-pl.col("rank").cast(pl.Float64)).select(
        "user_id", "item_id", "rating"
    )
    columns = {"query_column": "user_id", "item_column": "item_id", "rating_column": "rating"}
    metrics = [NDCG(10), Recall(10), MRR(10), HitRate(10)]
    return list(OfflineMetrics(metrics, **columns)(rows, truth).values())


def by_torchmetrics(recs: Any, truth: Any) -> list[float]:
    import polars as pl
    import torch
    from torchmetrics import retrieval as theirs

    # What a list leaves out must stand behind it, or its ideal would be too low; and scores must be
    # above 0, or recall and MRR are 0.
    both = recs.join(
        truth.with_columns(target=1), on=["user_id", "item_id"], how="full", coalesce=True
    )
    both = both.select(
        "user_id", (1 / pl.col("rank").fill_null(10**6)).cast(pl.Float32).alias("score"),
        pl.col("target").fill_null(0),
    )  # fmt: skip
    users, scores, target = (torch.from_numpy(both[c].to_numpy().copy()) for c in both.columns)
    names = ("RetrievalNormalizedDCG", "RetrievalRecall", "RetrievalMRR", "RetrievalHitRate")
    metrics = [getattr(theirs, name) for name in names]
    return [float(m(top_k=10)(scores, target.long(), indexes=users.long())) for m in metrics]


def by_pytrec_eval(recs: Any, truth: Any) -> list[float]:
    import pytrec_eval

    def nested(frame: Any, values: list[float]) -> dict[str, dict[str, float]]:
        told: dict[str, dict[str, float]] = {}
        users, items = (frame[c].cast(str).to_list() for c in ("user_id", "item_id"))
        for user, item, value in zip(users, items, values, strict=True):
            told.setdefault(user, {})[item] = value
        return told

    recs = recs.filter(
        recs["rank"] <= 10
    )  # its nested dicts of all rows would take minutes and 6 GiB
    run = nested(recs, [-float(r) for r in recs["rank"].to_list()])
    names = {"ndcg_cut.10", "recall.10", "recip_rank", "success.10"}
    found = pytrec_eval.RelevanceEvaluator(nested(truth, [1] * truth.height), names).evaluate(run)
    keys = ("ndcg_cut_10", "recall_10", "recip_rank", "success_10")
    n = truth["user_id"].n_unique()
    return [sum(values[key] for values in found.values()) / n for key in keys]


WORK: dict[str, Callable[[Any, Any], list[float]]] = {
    "fedeval": by_fedeval, "polars": by_polars, "scan": by_scan, "ranx": by_ranx,
    "rectools": by_rectools, "recbole": by_recbole, "replay": by_replay,
    "torchmetrics": by_torchmetrics, "pytrec_eval": by_pytrec_eval,
}  # fmt: skip

PEERS: dict[str, list[str]] = {
    "ranx": ["ranx==0.3.21", "polars", "pandas<3", "pyarrow"],
    "rectools": ["rectools==0.19.0", "polars", "pyarrow<20"],
    "recbole": ["torch", "recbole==1.2.1", "polars", "pyarrow"],
    "replay": ["torch", "replay-rec==0.22.0", "polars", "pyarrow"],
    "torchmetrics": ["torch", "torchmetrics==1.9.0", "polars", "pyarrow"],
    "pytrec_eval": ["pytrec-eval-terrier", "polars", "pyarrow"],
}  # fmt: skip


# --- a process that measures one -----------------------------------------------------------------------


def measure(who: str, folder: Path, source: str, rounds: int) -> None:
    recs: Any = folder / "recs.parquet"
    truth: Any = folder / "truth.parquet"
    if source == "memory":
        import polars as pl

        recs, truth = pl.read_parquet(recs), pl.read_parquet(truth)
    if who == "fedeval":
        import fedeval

        _ = fedeval.evaluate
    if who == "recbole":
        recs = matrix_for_recbole(recs, truth)
    cpu, wall, values = [], [], []
    for _ in range(rounds):
        began, passed = time.process_time(), time.perf_counter()
        values = WORK[who](recs, truth)
        cpu.append(time.process_time() - began)
        wall.append(time.perf_counter() - passed)
        if wall[-1] > 20:
            break
    print(json.dumps({"cpu": min(cpu), "wall": min(wall), "peak": peak(), "values": values}))


def peak() -> int:
    """Returns the most memory that this process held, in bytes; getrusage has that of its parent as well."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024


def measured(python: str, who: str, folder: Path, source: str, rounds: int) -> dict[str, Any]:
    command = [python, __file__, "--measure", who, str(folder), source, "--rounds", str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["killed"])[-1][:90]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


# --- tables --------------------------------------------------------------------------------------------


def write(folder: Path, shape: tuple[int, int, int], order: str, block: int = 100_000) -> None:
    """Writes recommendations and truth, block by block of users; shuffled: rows in any order."""
    import polars as pl
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    n_users, length, relevant = shape
    rng = np.random.default_rng(0)
    names = (
        rng.permutation(n_users).astype(np.int32)
        if order == "shuffled"
        else np.arange(n_users, dtype=np.int32)
    )
    writers: dict[str, Any] = {}
    for start in range(0, n_users, block):
        users = names[start : start + block]
        items = distinct(rng, len(users), length + relevant)
        rank = np.arange(1, length + 1, dtype=np.int32)
        listed = {
            "user_id": np.repeat(users, length), "item_id": items[:, :length].ravel(),
            "rank": np.tile(rank, len(users)),
            "score": rng.random(len(users) * length, np.float32),
        }  # fmt: skip
        listed["score"] = -np.sort(-listed["score"].reshape(-1, length)).ravel()
        # A third of the relevant items are listed somewhere.
        told = items[:, length:].copy()
        inside = rng.random(told.shape) < 1 / 3
        told[inside] = np.take_along_axis(items, rng.integers(0, length, told.shape), axis=1)[
            inside
        ]
        truth = {"user_id": np.repeat(users, relevant), "item_id": told.ravel()}
        for name, rows in (("recs", pl.DataFrame(listed)), ("truth", pl.DataFrame(truth).unique())):
            mixed = (
                rows.sample(fraction=1, shuffle=True, seed=start) if order == "shuffled" else rows
            )
            table = (
                mixed if order == "shuffled" else mixed.sort("user_id", maintain_order=True)
            ).to_arrow()
            if name not in writers:
                writers[name] = pq.ParquetWriter(
                    folder / f"{name}.parquet", table.schema, compression="zstd"
                )
            writers[name].write_table(table, row_group_size=1 << 20)
    for writer in writers.values():
        writer.close()


def distinct(rng: np.random.Generator, n: int, width: int) -> np.ndarray:
    """Returns int32 (n, width): items, none twice in a row: an arithmetic sequence modulo a prime."""
    prime = 49_999
    start, step = rng.integers(0, prime, (n, 1)), rng.integers(1, prime, (n, 1))
    return ((start + step * np.arange(width)) % prime).astype(np.int32)


# --- the table -----------------------------------------------------------------------------------------


def line(*cells: str, verdict: str = "") -> None:
    widths = (16, 9, 8, 14, 8, 8, 9, 30)
    print(
        "  " + " ".join(f"{c:<{w}}" for c, w in zip(cells, widths, strict=False)) + verdict,
        flush=True,
    )


def compare(
    name: str,
    shape: tuple[int, int, int],
    order: str,
    work: Path,
    options: argparse.Namespace,
    pythons: dict[str, str],
) -> bool:
    """Prints the lines of one shape in one order; returns whether every limit is met."""
    folder = work / name.replace(" ", "").replace(",", "") / order
    write(folder, shape, order)
    good, ours = True, {}
    told: list[float] = []
    for source in ("memory", "parquet") if name not in HUGE else ("parquet",):
        whos = ["polars", "fedeval"] if source == "memory" else ["scan", "polars", "fedeval"]
        whos += list(pythons) if (source, order) == ("memory", "sorted") else []
        whos = [w for w in whos if w not in ("polars", "scan") or name not in HUGE]
        base = None
        for who in whos:
            rounds = options.rounds if who in ("fedeval", "polars", "scan") else 1
            found = measured(pythons.get(who, sys.executable), who, folder, source, rounds)
            if "error" in found:
                line(name, order, source, who, verdict=found["error"])
                continue
            gib = found["peak"] / GIB
            note, passed = "", True
            base = found["cpu"] if who in ("polars", "scan") and base is None else base
            if who == "fedeval":
                ours[source], told = found, told or found["values"]
                limits = []
                if source == "memory" and name in SECONDS:
                    limits.append((found["cpu"], SECONDS[name], "s"))
                    if name in MEMORY:
                        limits.append((gib, MEMORY[name], "GiB"))
                elif source == "parquet" and name not in HUGE and base:
                    limits.append((found["cpu"] / base, TIMES_A_SCAN, "scans"))
                elif name in HUGE:
                    limits.append((gib, STREAMED, "GiB"))
                passed = all(value <= limit for value, limit, _ in limits)
                note = ", ".join(f"{v:.2f} of {limit:g} {unit}" for v, limit, unit in limits)
            elif who not in ("scan", "polars"):
                times = found["cpu"] / ours["memory"]["cpu"]
                note = f"{times:.0f} times as slow"
                if (who, name) in FASTER:
                    passed = times >= FASTER[who, name]
                    note += f", limit {FASTER[who, name]}"
            if who != "scan" and told and not np.allclose(found["values"], told, atol=1e-5):
                note += " OTHER VALUES " + " ".join(f"{v:.4f}" for v in found["values"])
                passed = passed and who not in ("fedeval", "polars")
            ratio = f"{found['cpu'] / base:.2f}" if base else ""
            good &= passed
            line(
                name, order, source, who, f"{found['cpu']:.2f}", f"{found['wall']:.2f}", f"{gib:.2f}",
                f"{ratio:<7} {note}", verdict="" if not note else (" pass" if passed else " FAIL"),
            )  # fmt: skip
    return good


def installed(folder: Path, wanted: list[str]) -> dict[str, str]:
    """Returns the Python of each peer's environment, made where it is not there."""
    pythons = {}
    for name in wanted:
        python = folder / name / "bin" / "python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(folder / name)], check=True)
            done = subprocess.run([str(python), "-m", "pip", "install", "-q", *PEERS[name]])
            if done.returncode:
                print(f"  {name} cannot be installed")
                continue
        pythons[name] = str(python)
    return pythons


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--small", action="store_true", help="a tenth of the users, no limits of seconds"
    )
    parser.add_argument("--huge", action="store_true", help="200 million rows, streamed")
    parser.add_argument("--peers", type=Path, help="a folder for their virtual environments")
    parser.add_argument("--only", nargs="*", default=list(PEERS), help="of the peers, these")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure[0], Path(options.measure[1]), options.measure[2], options.rounds)
        return 0
    pythons = installed(options.peers.absolute(), options.only) if options.peers else {}
    shapes = SMALL if options.small else SHAPES
    print(
        "\nNDCG, recall, MRR and HR at 10 (CPU s: least of the rounds; x: times polars, or a scan)"
    )
    line("users x list", "order", "source", "who", "CPU s", "wall s", "peak GiB", "x     limit")
    good = True
    with tempfile.TemporaryDirectory() as work:
        for name, shape in (shapes | (HUGE if options.huge else {})).items():
            for order in ("sorted", "shuffled"):
                good &= compare(name, shape, order, Path(work), options, pythons)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
