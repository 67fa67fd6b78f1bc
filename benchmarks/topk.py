"""Top-100 of two matrices beside the bare product that it is made of.

    python benchmarks/topk.py [--users 98304] [--items 100000] [--dim 64] [--k 100]

The bare product (numpy, 512 users at a time, into a buffer) and `top_k_blocks` take turns of 16,384 users,
and the least of each counts, as other load only adds: once with all cores, once with one. The seconds of
100,000 users are extrapolated from the best turn. 50 seen items of each user are masked. Also shown: product
and argpartition as usually written; torch and faiss where installed.

Limit: at most 1.3 times the bare product.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import polars as pl
from tables import Line, show

from fedeval.interactions import interactions_from
from fedeval.topk import top_k_blocks

BARE = 512
"""Users of the bare product at a time: with fewer it is slower."""

TURN = 16_384
"""Users of a turn: a second, as the product's threads wait in a loop for a while after they have done."""

SEEN = 50
LIMIT = 1.3
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OPENBLAS", "OMP", "MKL", "VECLIB_MAXIMUM")}

Floats = npt.NDArray[np.float32]


def by_argpartition(users: Floats, items: Floats, k: int) -> None:
    scores = users @ items.T
    best = np.argpartition(scores, -k, axis=1)[:, -k:]
    np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)


def by_torch(users: Floats, items: Floats, k: int) -> None:
    import torch

    torch.topk(torch.from_numpy(users) @ torch.from_numpy(items).T, k)


def by_faiss(users: Floats, items: Floats, k: int) -> None:
    import faiss

    faiss.knn(users, items, k, metric=faiss.METRIC_INNER_PRODUCT)


PEERS: dict[str, tuple[str, Callable[[Floats, Floats, int], None]]] = {
    "numpy argpartition": ("numpy", by_argpartition),
    "torch topk": ("torch", by_torch),
    "faiss knn": ("faiss", by_faiss),
}


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def turns(users: Floats, items: Floats, k: int) -> dict[str, float]:
    """Returns seconds a user of the bare product and of top-k: the least of all turns, and the median."""
    n_users, n_items = len(users), len(items)
    rng = np.random.default_rng(1)
    pairs = np.unique(rng.integers(0, n_users * n_items, SEEN * n_users))
    rows = pl.DataFrame({"user_id": pairs // n_items, "item_id": pairs % n_items})
    seen = interactions_from(rows, n_users=n_users, n_items=n_items)
    transposed = np.ascontiguousarray(items.T)
    buffer = np.empty((BARE, n_items), np.float32)
    blocks = top_k_blocks(users, items, k=k, seen=seen)

    def product() -> None:
        for begin in range(0, TURN, BARE):
            np.matmul(users[begin : begin + BARE], transposed, out=buffer)

    def lists() -> None:
        done = 0
        while done < TURN:
            done += next(blocks).height // k

    first = seconds(lists)  # and the items put in tiles, once
    bare, ours = [], []
    for _ in range(n_users // TURN - 1):
        bare.append(seconds(product) / TURN)
        ours.append(seconds(lists) / TURN)
    return {
        "bare": min(bare),
        "ours": min(ours),
        "least": min(ours) / min(bare),
        "median": float(np.median(ours) / np.median(bare)),
        "tiling": max(0.0, first - TURN * float(np.median(ours))),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=98_304)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--alone", action="store_true", help="print what `turns` returns, as JSON")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    users = rng.standard_normal((given.users, given.dim), dtype=np.float32)
    items = rng.standard_normal((given.items, given.dim), dtype=np.float32)
    found = turns(users, items, given.k)
    if given.alone:
        print(json.dumps(found))
        return 0
    again = [sys.executable, __file__, *sys.argv[1:], "--alone"]
    done = subprocess.run(
        one_core(again), env=os.environ | ONE_THREAD, capture_output=True, check=True
    )
    single = json.loads(done.stdout)
    few = users[:BARE]
    peers = {
        name: min(seconds(lambda w=work: w(few, items, given.k)) for _ in range(5)) / BARE  # type: ignore[misc]
        for name, (package, work) in PEERS.items()
        if importlib.util.find_spec(package)
    }
    lines = [
        Line("bare product", f"{1 / found['bare']:,.0f} users/s"),
        Line("top_k_blocks", f"{1 / found['ours']:,.0f} users/s"),
        *(Line(name, f"{1 / taken:,.0f} users/s") for name, taken in peers.items()),
        Line("100,000 users, tiling too", f"{100_000 * found['ours'] + found['tiling']:.1f} s"),
    ]
    for name, ratios in (("all cores", found), ("one core", single)):
        least = ratios["least"]
        lines += [
            Line(f"top-k / bare, {name}", f"{least:.2f} x", f"<= {LIMIT} x", least <= LIMIT),
            Line("  median", f"{ratios['median']:.2f} x"),
        ]
    title = f"top-{given.k} of {given.users:,} users × {given.items:,} items × {given.dim} dims"
    return show(title, lines)


def one_core(command: list[str]) -> list[str]:
    """Returns the command on one core, where that can be asked for."""
    return ["taskset", "-c", "0", *command] if sys.platform == "linux" else command


if __name__ == "__main__":
    sys.exit(main())
