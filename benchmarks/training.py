"""Rounds of FedAvg with a matrix factorisation: a full one, small ones, and Flower's on the same work.

    python benchmarks/training.py [--data DATASET] [--no-flower]

The work is ml-1m's: 6,040 clients with 1 M rows (made up, or those of a Dataset), d = 32 with biases, one
local epoch, four negatives a positive: some 4.9 M examples. Then clients in ever larger numbers, of 20 rows
each, and cohorts of 100 of them: what a round costs follows the cohort.

The peer is Flower's own simulation (`flower_peer.py`: its message API, its FedAvg, Ray below) in the same
run, where flwr is installed (`pip install 'fedprep[flower]'`) and a Dataset is given; it trains 60 clients,
and its round is scaled by clients to all of them.

Limits: a full round in at most 4 s of CPU and 1.5 GiB; 60 clients in under 0.15 s; at least 50 times faster
than Flower; a round at 1,000,000 clients in at most twice the time of one at 10,000.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from tables import Line, interactions, show

from fedprep.dataset import Dataset
from fedtrain.algorithms import ALGORITHMS
from fedtrain.batch import Features
from fedtrain.engine import Work
from fedtrain.federation import Federation, Rows, federation_of
from fedtrain.models import MODELS, Sizes
from fedtrain.rounds import do_round
from fedtrain.settings import parse_plan
from fedtrain.setup import begin
from fedtrain.tasks import TASKS

N_ITEMS = 3_706
ROUNDS = 3
PLAN = {"lr": 5.0, "lr_item": 20.0}


def made_up(n_clients: int, n_rows: int) -> Federation:
    """Returns a client per user with about so many rows, by popularity and size laws like MovieLens's."""
    rows = interactions(n_rows, n_clients, N_ITEMS, least=max(5, n_rows // n_clients // 3))
    rows = rows.sort("user_id", "timestamp", "item_id")
    user = rows["user_id"].to_numpy().astype(np.int32)
    return of_rows(user, rows["item_id"].to_numpy().astype(np.int32), n_clients)


def alike(n_clients: int, each: int) -> Federation:
    """Returns clients of equal size, with items at random."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(n_clients, dtype=np.int32), each)
    return of_rows(user, rng.integers(0, N_ITEMS, len(user), dtype=np.int32), n_clients)


def of_rows(user: np.ndarray, item: np.ndarray, n_clients: int) -> Federation:
    offsets = np.searchsorted(user, np.arange(n_clients + 1))
    nothing = np.zeros(len(user), np.float32)
    train = Rows(
        offsets=offsets,
        slot=user,
        item_id=item,
        rating=nothing,
        label=nothing.astype(np.int8),
        timestamp=np.arange(len(user)),
    )
    return Federation(
        n_users=n_clients,
        n_items=N_ITEMS,
        n_clients=n_clients,
        slot_user=np.arange(n_clients, dtype=np.int32),
        slot_offsets=np.arange(n_clients + 1),
        splits={"train": train},
    )


def work_on(federation: Federation) -> Work:
    plan = parse_plan(PLAN)
    model = MODELS["mf"](dim=32)
    sizes = Sizes(n_users=federation.n_users, n_items=federation.n_items, modalities={})
    return Work(
        federation=federation,
        features=Features(),
        model=model,
        parameters=model.parameters(sizes),
        task=TASKS["bce"],
        algorithm=ALGORITHMS["fedavg"](),
        plan=plan,
        excluded=federation.positives,
        seed=0,
    )


def timed(work: Work, size: int, rounds: int) -> tuple[float, float]:
    """Returns the medians of wall and CPU seconds of rounds with cohorts of so many clients."""
    server, clients = begin(work)
    rng = np.random.default_rng(0)
    walls, cpus = [], []
    for number in range(1, rounds + 2):
        cohort = np.sort(rng.choice(work.federation.n_clients, size, replace=False))
        begun, cpu = time.perf_counter(), time.process_time()
        server = do_round(work, server.at(number), clients, cohort).server
        walls.append(time.perf_counter() - begun)
        cpus.append(time.process_time() - cpu)
    return statistics.median(walls[1:]), statistics.median(cpus[1:])  # the first one warms up


def flower(dataset: Path) -> float:
    """Returns the seconds of a round of all clients in Flower's simulation."""
    script = Path(__file__).with_name("flower_peer.py")
    done = subprocess.run(
        [sys.executable, str(script), str(dataset), "--cohorts", "60"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return float(
        next(line["seconds_for_all"] for line in reversed(lines) if "seconds_for_all" in line)
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a Dataset, such as ml-1m; else rows are made up")
    parser.add_argument("--no-flower", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    federation = (
        federation_of(Dataset.open(given.data)) if given.data else made_up(6_040, 1_000_209)
    )
    work = work_on(federation)
    n_rows = len(federation.train)
    wall, cpu = timed(work, federation.n_clients, ROUNDS)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    small, small_cpu = timed(work, 60, 20)
    lines = [
        Line("a round of all clients, CPU", f"{cpu:.2f} s", "<= 4 s", cpu <= 4.0),
        Line("  by the clock", f"{wall:.2f} s"),
        Line("  examples a second of CPU", f"{5 * n_rows / cpu:,.0f}"),
        Line("  peak memory of the process", f"{peak:.2f} GiB", "<= 1.5 GiB", peak <= 1.5),
        Line("a round of 60 clients", f"{small:.3f} s", "< 0.15 s", small < 0.15),
        Line("  CPU", f"{small_cpu:.3f} s"),
    ]
    if given.no_flower or given.data is None or importlib.util.find_spec("flwr") is None:
        lines.append(Line("Flower's simulation", "left out: flwr, --data"))
    else:
        theirs = flower(given.data)
        ratio = theirs / wall
        lines += [
            Line("Flower's simulation, all clients", f"{theirs:.0f} s"),
            Line("  times as long as ours", f"{ratio:.0f}", ">= 50", ratio >= 50),
        ]
    title = (
        f"FedAvg, MF of d = 32: {federation.n_clients:,} clients, {5 * n_rows:,} examples a round"
    )
    status = show(title, lines)
    found = {}
    for n_clients in (10_000, 100_000, 1_000_000):
        found[n_clients] = timed(work_on(alike(n_clients, 20)), 100, 20)[0]
    growth = found[1_000_000] / found[10_000]
    more = [
        Line(f"100 of {n:,} clients", f"{1000 * seconds:.1f} ms") for n, seconds in found.items()
    ]
    more.append(Line("  1,000,000 / 10,000", f"{growth:.2f} x", "<= 2 x", growth <= 2.0))
    return status | show("A round of 100 clients with 20 rows each", more)


if __name__ == "__main__":
    sys.exit(main())
