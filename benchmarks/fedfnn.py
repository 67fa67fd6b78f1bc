"""FedFNN beside FedAvg: rounds and seconds of training to a target, with few clients in a round.

    python benchmarks/fedfnn.py DATASET [--shares 0.01 0.05 0.2] [--target 0.02] [--seeds 1] [--bias]
                                [--lr 10] [--lr-item 300] [--passes 3] [--json FILE]

A matrix factorisation, d = 32, four negatives a positive, the same cohorts for all; the rounds of a share
add up to `--passes` over all clients. Measured is full-ranking NDCG@10 on valid, fifteen times; the target
counts as reached where two measurements in a row have it. Without biases, the default here, a user that was
never sampled has a random vector and random recommendations: this is where predicted updates help most. With
`--bias` such a user gets what is popular from the start.

The paper's abstract claims five times the speed of the best other method; the last column is what is found.
Seconds are CPU seconds of one thread, measurements left out.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedprep.dataset import Dataset
from fedtrain.measures import Truth, ranking
from fedtrain.rounds import do_round
from fedtrain.samplers import SAMPLERS, SamplerOptions
from fedtrain.settings import parse_plan
from fedtrain.setup import begin, work_of

METRIC = "ndcg@10/valid"

SYSTEMS: dict[str, dict[str, Any]] = {
    "FedAvg": {"algorithm": "fedavg"},
    "FedFNN, MLP, W2": {"algorithm": "fedfnn"},
    "FedFNN, MLP, W1": {"algorithm": "fedfnn", "fedfnn": {"item_weights": "magnitude"}},
    "FedFNN, linear, W2": {"algorithm": "fedfnn", "fedfnn": {"meta": "linear"}},
    "FedFNN, linear, W1": {
        "algorithm": "fedfnn",
        "fedfnn": {"meta": "linear", "item_weights": "magnitude"},
    },
    "FedFNN, linear, W2, vectors alone": {
        "algorithm": "fedfnn",
        "fedfnn": {"meta": "linear", "side": False},
    },
}


def trained(
    dataset: Dataset, table: dict[str, Any], size: int, rounds: int, every: int, seed: int
) -> list[tuple[int, float, float]]:
    """Returns round, NDCG@10 on valid and CPU seconds of training until then, every so many rounds."""
    work = work_of(dataset, parse_plan(table), seed)
    server, clients = begin(work)
    truth = Truth(dataset, "valid", 0, seed)
    counts = work.federation.train.counts
    found, seconds = [], 0.0
    for number in range(1, rounds + 1):
        cohort = SAMPLERS["uniform"](counts, size, number, seed, SamplerOptions(counts > 0, None))
        begun = time.process_time()
        server = do_round(work, server.at(number), clients, cohort).server
        seconds += time.process_time() - begun
        if number % every == 0:
            measured, _ = ranking(work, server, clients, truth)
            found.append((number, measured[METRIC], seconds))
    return found


def reached(curve: list[tuple[int, float, float]], target: float) -> tuple[float, float]:
    """Returns round and seconds where the target was reached for good, infinity where it was not."""
    for (number, value, seconds), (_, after, _) in itertools.pairwise(curve):
        if value >= target <= after:
            return float(number), seconds
    return float("inf"), float("inf")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.01, 0.05, 0.2])
    parser.add_argument("--target", type=float, default=0.02)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--bias", action="store_true")
    parser.add_argument("--lr", type=float, default=10.0)
    parser.add_argument("--lr-item", type=float, default=300.0)
    parser.add_argument("--passes", type=float, default=3.0)
    parser.add_argument("--json", type=Path, help="write all curves there, a line each")
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS))
    given = parser.parse_args()
    dataset = Dataset.open(given.dataset)
    n_clients = len(dataset.client_ids())
    print(f"{'share':>6} {'system':<34} {'round':>6} {'s':>7} {'best':>7} {'than FedAvg':>15}")
    for share in given.shares:
        size = max(1, round(share * n_clients))
        rounds = max(10, round(given.passes * n_clients / size))
        every = max(1, rounds // 15)
        plain = float("nan")
        for name in given.systems:
            table = {
                "threads": 1,
                "lr": given.lr,
                "lr_item": given.lr_item,
                "mf": {"dim": 32, "bias": given.bias},
                **SYSTEMS[name],
            }
            curves = [
                trained(dataset, table, size, rounds, every, seed) for seed in range(given.seeds)
            ]
            ends = [reached(curve, given.target) for curve in curves]
            number, seconds = (statistics.median(each) for each in zip(*ends, strict=True))
            best = float(np.mean([max(value for _, value, _ in curve) for curve in curves]))
            plain = number if name == "FedAvg" else plain
            ratio = f"{plain / number:.1f}x" if np.isfinite(plain) and np.isfinite(number) else "-"
            print(
                f"{share:>6.0%} {name:<34} {number:>6.0f} {seconds:>7.1f} {best:>7.4f} {ratio:>15}",
                flush=True,
            )
            if given.json:
                with given.json.open("a") as file:
                    file.write(
                        json.dumps({"share": share, "system": name, "curves": curves}) + "\n"
                    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
