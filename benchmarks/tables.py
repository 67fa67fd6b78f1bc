"""Made-up interactions at the size of real ones, for benchmarks, and the table of their results."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from fedprep.schema import SPLIT_DTYPE

GENRES = ("Action", "Comedy", "Crime", "Drama", "Horror", "Musical", "Noir", "Romance", "War")


@dataclass(frozen=True)
class Line:
    """One line of a benchmark's table; `limit` in words, `passed` None where nothing is asked for."""

    what: str
    value: str
    limit: str = ""
    passed: bool | None = None


def show(title: str, lines: list[Line]) -> int:
    """Prints the table; returns the exit status: 1 where a limit is missed."""
    print(f"\n{title}")
    wide = max(len(line.what) for line in lines)
    for line in lines:
        verdict = {True: "pass", False: "FAIL", None: ""}[line.passed]
        print(f"  {line.what:<{wide}}  {line.value:>12}  {line.limit:<12} {verdict}")
    return int(any(line.passed is False for line in lines))


def interactions(n_rows: int, n_users: int, n_items: int, *, least: int) -> pl.DataFrame:
    """Returns rows as `split` leaves them, shuffled: every pair once, 5 classes as ratings.

    Users have `least` rows and a log-normal number more, items are drawn by a power law, and a user's
    rows come in sessions in which many share a second, as in MovieLens.
    """
    rng = np.random.default_rng(0)
    weight = rng.lognormal(0, 1.2, n_users)
    extra = np.floor(weight / weight.sum() * (n_rows - least * n_users)).astype(np.int64)
    counts = np.minimum(least + extra, n_items // 2)
    short = n_rows - int(counts.sum())
    counts += short // n_users + (np.arange(n_users) < short % n_users)
    user = np.repeat(np.arange(n_users), counts)
    item = _distinct_items(rng, user, n_items)
    session = 950_000_000 + rng.integers(0, 60_000_000, n_users)[user]
    step = rng.integers(0, 40, n_rows) * (rng.random(n_rows) < 0.5)
    passed = np.cumsum(step)
    timestamp = session + passed - np.repeat(passed[np.cumsum(counts) - counts], counts)
    rating = rng.choice(5, n_rows, p=[0.06, 0.11, 0.26, 0.35, 0.22]) + 1
    part = np.where(rng.random(n_rows) < 0.9, 0, rng.integers(1, 3, n_rows)).astype(np.uint8)
    frame = pl.DataFrame(
        {
            "user_id": user.astype(np.int32),
            "item_id": item.astype(np.int32),
            "rating": rating.astype(np.float32),
            "label": (rating - 1).astype(np.int8),
            "timestamp": timestamp,
            "split": pl.Series(part).replace_strict([0, 1, 2], list(SPLIT_DTYPE.categories)),
        }
    )
    return frame.with_columns(pl.col("split").cast(SPLIT_DTYPE)).sample(
        fraction=1, shuffle=True, seed=0
    )


def _distinct_items(rng: np.random.Generator, user: np.ndarray, n_items: int) -> np.ndarray:
    """Returns an item for each row by a power law, no item twice at a user."""
    chance = 1 / np.arange(1, n_items + 1) ** 0.8
    edges = np.cumsum(chance / chance.sum())
    item = np.searchsorted(edges, rng.random(len(user)))
    while True:
        pair = user * n_items + item
        order = np.argsort(pair, kind="stable")
        twice = order[1:][pair[order][1:] == pair[order][:-1]]
        if not len(twice):
            return item
        item[twice] = rng.integers(0, n_items, len(twice))


def items(n_items: int) -> pl.DataFrame:
    """Returns items with one to three categories each."""
    rng = np.random.default_rng(1)
    first = rng.integers(0, len(GENRES), n_items)
    some = [list(GENRES[i : i + 1 + i % 3]) for i in first.tolist()]
    return pl.DataFrame({"item_id": np.arange(n_items, dtype=np.int32), "categories": some})


def users(n_users: int) -> pl.DataFrame:
    return pl.DataFrame({"user_id": np.arange(n_users, dtype=np.int32)})
