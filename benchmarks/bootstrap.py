"""Bootstrap and sign flips of a million users: fedeval against scipy (if installed), in the same run.

    python benchmarks/bootstrap.py [--users 1000000] [--rounds 3]

1,000 resamples of 1,000,000 users. Values that all differ are the hard case; values of leave-one-out
NDCG@10 (eleven different ones) are the usual one. Seconds are the least of several rounds, of fedeval; scipy
runs once, in batches so that it fits into memory.

Limits: 1,000 resamples of 1,000,000 users in 5 s, at most half of scipy's processor time, in 64 MiB beside
the values (scipy's default of one batch would take 8 GB); 1,000 sign flips in 1 s of the processor.
"""

from __future__ import annotations

import argparse
import sys
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
from tables import Line, show

from fedeval.statistics import bootstrap_interval, paired_test

RESAMPLES = 1_000
SECONDS, FLIPPING, MEBIBYTES, RATIO = 5.0, 1.0, 64.0, 2.0


def least(work: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Returns the least seconds by the clock and of the processor."""
    wall, cpu = [], []
    for _ in range(rounds):
        clock, processor = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - clock)
        cpu.append(time.process_time() - processor)
    return min(wall), min(cpu)


def peak(work: Callable[[], object]) -> float:
    """Returns the most MiB held at a time beyond what was held before."""
    tracemalloc.start()
    work()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most / 2**20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    n, rng = asked.users, np.random.default_rng(0)
    distinct = rng.random(n)
    ranks = rng.integers(2, 12, (2, n))
    ndcg, other = np.where(rng.random((2, n)) < 0.3, 1 / np.log2(ranks), 0.0)
    client = rng.integers(0, n // 10, n)

    def bootstrap() -> object:
        return bootstrap_interval(distinct, n_resamples=RESAMPLES)

    wall, cpu = least(bootstrap, asked.rounds)
    memory = peak(bootstrap)
    bca, _ = least(lambda: bootstrap_interval(distinct, method="bca"), 1)
    usual, _ = least(lambda: bootstrap_interval(ndcg), asked.rounds)
    clients, _ = least(lambda: bootstrap_interval(distinct, client), asked.rounds)
    _, flip = least(lambda: paired_test(distinct - ndcg, n_resamples=RESAMPLES), asked.rounds)
    many, _ = least(lambda: paired_test(ndcg - other), asked.rounds)
    lines = [
        Line("bootstrap, all values differ", f"{wall:.2f} s", f"≤ {SECONDS:.0f} s", wall <= SECONDS),
        Line("  of the processor", f"{cpu:.2f} s"),
        Line("  memory beside the values", f"{memory:.0f} MiB", f"≤ {MEBIBYTES:.0f}", memory <= MEBIBYTES),
        Line("bootstrap, bca", f"{bca:.2f} s"),
        Line("bootstrap, leave-one-out NDCG@10", f"{usual:.2f} s"),
        Line(f"bootstrap of {n // 10:,} clients", f"{clients:.2f} s"),
        Line("sign flips, of the processor", f"{flip:.2f} s", f"≤ {FLIPPING:.0f} s", flip <= FLIPPING),
        Line("9,999 sign flips, leave-one-out NDCG@10", f"{many:.2f} s"),
        *against_scipy(distinct, cpu),
    ]  # fmt: skip
    return show(f"{RESAMPLES:,} resamples of {n:,} users", lines)


def against_scipy(values: np.ndarray[tuple[int], np.dtype[np.float64]], ours: float) -> list[Line]:
    """Returns scipy's processor seconds and the ratio; a line that says so where it is not installed."""
    try:
        from scipy import stats
    except ImportError:
        return [Line("scipy", "not installed")]
    _, theirs = least(
        lambda: stats.bootstrap(
            (values,), np.mean, n_resamples=RESAMPLES, batch=10, method="percentile", rng=0
        ),
        1,
    )
    ratio = theirs / ours
    return [
        Line("scipy.stats.bootstrap, of the processor", f"{theirs:.2f} s"),
        Line("scipy / fedeval", f"{ratio:.1f}", f"≥ {RATIO:.0f}", ratio >= RATIO),
    ]


if __name__ == "__main__":
    sys.exit(main())
