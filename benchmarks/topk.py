"""Top-100 of two matrices beside the bare product that it is made of.

    python benchmarks/topk.py [--users 32768] [--items 100000] [--dim 64] [--k 100]

Of 100,000 users × 100,000 items × 64 dims a slice of the users is done: time goes with the users, and
the seconds of 100,000 are extrapolated. A block of 512 users of the bare product (numpy, into a buffer)
and one of `top_k_blocks` take turns, and the least of each counts, as other load only adds: both wait
for the slower core at every step. 50 seen items of each user are masked. Also shown: product and
argpartition as usually written; torch and faiss where installed.

Limit: at most 1.3 times the bare product.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import polars as pl
from tables import Line, show

from fedeval.interactions import interactions_from
from fedeval.topk import top_k_blocks

BLOCK = 512
SEEN = 50
LIMIT = 1.3

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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=32_768)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--k", type=int, default=100)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    users = rng.standard_normal((given.users, given.dim), dtype=np.float32)
    items = rng.standard_normal((given.items, given.dim), dtype=np.float32)
    transposed = np.ascontiguousarray(items.T)
    pairs = np.unique(rng.integers(0, given.users * given.items, SEEN * given.users))
    rows = pl.DataFrame({"user_id": pairs // given.items, "item_id": pairs % given.items})
    seen = interactions_from(rows, n_users=given.users, n_items=given.items)

    buffer = np.empty((BLOCK, given.items), np.float32)
    blocks = top_k_blocks(users, items, k=given.k, seen=seen)
    first = seconds(lambda: next(blocks))  # and the items put in tiles, once
    bare, ours = [], []
    for begin in range(BLOCK, given.users, BLOCK):
        part = users[begin : begin + BLOCK]
        bare.append(
            seconds(lambda p=part: np.matmul(p, transposed, out=buffer[: len(p)])) / len(part)
        )  # type: ignore[misc]
        ours.append(seconds(lambda: next(blocks)) / len(part))
    few = users[:BLOCK]
    peers = {
        name: min(seconds(lambda w=work: w(few, items, given.k)) for _ in range(5)) / BLOCK  # type: ignore[misc]
        for name, (package, work) in PEERS.items()
        if importlib.util.find_spec(package)
    }
    ratio, usual = min(ours) / min(bare), float(np.median(ours) / np.median(bare))
    setup = max(0.0, first - BLOCK * float(np.median(ours)))
    lines = [
        Line("bare product", f"{1 / min(bare):,.0f} users/s"),
        Line("top_k_blocks", f"{1 / min(ours):,.0f} users/s"),
        *(Line(name, f"{1 / taken:,.0f} users/s") for name, taken in peers.items()),
        Line("100,000 users, tiles included", f"{100_000 * min(ours) + setup:.1f} s"),
        Line("top-k / bare product, least", f"{ratio:.2f} x", f"<= {LIMIT} x", ratio <= LIMIT),
        Line("top-k / bare product, median", f"{usual:.2f} x"),
    ]
    title = f"top-{given.k} of {given.users:,} users × {given.items:,} items × {given.dim} dims"
    return show(title, lines)


if __name__ == "__main__":
    sys.exit(main())
