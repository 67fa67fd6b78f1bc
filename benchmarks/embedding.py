"""Text embeddings: fedprep against the bare encoder, and a second build against the first.

    python benchmarks/embedding.py [--texts 1500] [--words 8] [--threads 2] [--device cpu]

Both embed the same texts with all-MiniLM-L6-v2 in one process, in turns. The bare encoder is
`SentenceTransformer.encode` at the batch size and the number of threads that suit it best. fedprep's time
is that of `embed_text` as a whole: hashing, batching, encoding, writing the cache.

Limits: at least 0.95 of the bare encoder's texts per second; the second build embeds nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from fedprep.embed.hub import find_model
from fedprep.embed.text import embed_text
from fedprep.embed.torch_setup import choose_device, cpu_threads, import_torch
from fedprep.recipe import EmbedText

os.environ.setdefault("HF_HUB_OFFLINE", "1")

WORDS = [
    "night",
    "city",
    "river",
    "ghost",
    "garden",
    "winter",
    "island",
    "letter",
    "queen",
    "ocean",
]
GENRES = ["Drama", "Comedy", "Thriller", "Romance", "Documentary", "Western"]


def titles(n: int, n_words: int) -> pl.Series:
    """Returns n different texts of about n_words words: a title, a year, genres."""
    rng = np.random.default_rng(0)
    lengths = rng.poisson(max(n_words - 4, 1), n) + 1
    return pl.Series(
        [
            f"{' '.join(rng.choice(WORDS, k))} {i} ({rng.integers(1920, 2025)}). "
            + ", ".join(rng.choice(GENRES, rng.integers(1, 4), replace=False))
            for i, k in enumerate(lengths)
        ]
    )


def timed(work: Callable[[], object]) -> np.ndarray:
    """Returns the wall and the processor seconds of some work."""
    begin = np.array([time.perf_counter(), time.process_time()])
    work()
    return np.array([time.perf_counter(), time.process_time()]) - begin


def best_of_bare(model: object, texts: list[str], threads: int) -> tuple[int, int]:
    """Returns the batch size and the threads an operation at which the bare encoder is fastest."""
    seconds = {}
    for count in sorted({1, threads}):
        with cpu_threads(count):
            for size in (8, 16, 32, 64, 128):
                seconds[size, count] = timed(
                    lambda size=size: model.encode(texts, batch_size=size, show_progress_bar=False)
                )[0]
    return min(seconds, key=seconds.__getitem__)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=1500)
    parser.add_argument("--words", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()

    import_torch("text")
    from sentence_transformers import SentenceTransformer

    device = choose_device(given.device)
    texts = titles(given.texts, given.words)
    options = EmbedText()
    model = SentenceTransformer(str(find_model(options.encoder).folder), device=device)
    model.encode(texts.head(64).to_list())
    size, count = best_of_bare(model, texts.head(400).to_list(), given.threads)
    print(f"{len(texts)} texts of about {given.words} words on {device}")
    print(f"bare encoder: best at batches of {size} with {count} threads an operation")

    bare, whole, again = [], [], []
    for _ in range(given.rounds):
        with cpu_threads(count):
            bare.append(
                timed(
                    lambda: model.encode(texts.to_list(), batch_size=size, show_progress_bar=False)
                )
            )
        with tempfile.TemporaryDirectory() as cache:
            work = lambda cache=cache: embed_text(  # noqa: E731
                texts, options, cache=Path(cache), device=device, threads=given.threads
            )
            whole.append(timed(work))
            again.append(timed(work))
    folder = str(find_model(options.encoder).folder)
    load = min(
        (timed(lambda: SentenceTransformer(folder, device=device)) for _ in range(3)), key=max
    )
    n = len(texts)
    wall, processor = np.median([b / (w - load) for b, w in zip(bare, whole, strict=True)], axis=0)
    quickest, first = np.min(bare, axis=0), np.min(whole, axis=0)
    print(f"bare encoder   {n / quickest[0]:8.0f} texts/s")
    print(
        f"fedprep        {n / (first - load)[0]:8.0f} texts/s (but for loading the model, {load[0]:.2f} s)"
    )
    print(
        f"ratio          {wall:8.2f} of the bare encoder's texts per second (limit: at least 0.95)"
    )
    print(f"               {processor:8.2f} of its texts per processor second")
    second = np.min(again, axis=0)
    print(f"second build   {second[0]:8.2f} s, {first[0] / second[0]:.0f} times faster")
    return 0 if wall >= 0.95 else 1


if __name__ == "__main__":
    sys.exit(main())
