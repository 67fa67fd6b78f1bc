"""What a trained Run recommends to the users of a client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.setting import SEEN, setting_of
from fedprep.dataset import Dataset
from fedprep.errors import TrainingError
from fedtrain.reopen import reopened
from fedtrain.scoring import Scorer

if TYPE_CHECKING:
    from fedtrain.engine import Work

__all__ = ["recommend"]

Ints = npt.NDArray[np.int64]
SPLIT = "test"
"""A user's history is what is known before the rows of this split."""


def recommend(
    path: str | Path,
    client_id: int,
    *,
    user_id: int | None = None,
    k: int = 10,
    data: str | Path | None = None,
) -> dict[str, Any]:
    """Returns the k best items of each user of a client, as the Run's best or last state scores them.

    run, client, round, state (`best` or `checkpoint`) · users: for each `user`, `source_id`, `seen` (how many
    items are left out) and `items`: `rank`, `item`, `source_id`, `title`, `score`, with `probability` of a
    like under the task binary and `rating` under the task rating. Items of a user's train and valid rows are
    left out, as in `recommendations.parquet`.

    Args:
        path: the Run's folder.
        client_id: a client of the Dataset. Its users are scored with what this client keeps.
        user_id: one of its users; None: all of them.
        k: how many items.
        data: the Dataset, where it is not where the Run was trained on it.

    Raises:
        TrainingError: no such client or user there, another Dataset than the Run's, or no checkpoint.
        DatasetError: the Dataset is not there.
    """
    found = reopened(path, data)
    dataset = found.dataset
    users = _users_of(dataset, client_id, user_id)
    work = _at_client(found.work, client_id)
    setting = setting_of(dataset, split=SPLIT)
    scorer = Scorer(work, found.server, found.clients, SEEN[SPLIT])
    lists = _told(scorer.lists(users, k, setting.seen), dataset, work.plan.task)
    counts = dict(zip(users.tolist(), setting.seen.user_counts[users].tolist(), strict=True))
    names = _source_ids(dataset, users)
    return {
        "run": str(found.run.path),
        "client": client_id,
        "round": found.round,
        "state": found.kind,
        "task": work.plan.task,
        "users": [
            {"user": user, "source_id": names.get(user), "seen": counts[user], "items": lists[user]}
            for user in users.tolist()
        ],
    }


def _users_of(dataset: Dataset, client_id: int, user_id: int | None) -> Ints:
    """Returns int64: the users of a client that have train or valid rows there, ascending."""
    known = dataset.client_ids()
    if client_id not in known:
        raise TrainingError(
            f"there is no client {client_id}",
            where=str(dataset.path),
            expected=f"one of {len(known):,} clients, {known.min()} to {known.max()}",
        )
    rows = dataset.client(client_id)
    users = rows["user_id"].unique().sort().to_numpy().astype(np.int64)
    if user_id is None:
        return users
    if user_id not in users:
        some = ", ".join(map(str, users[:5].tolist())) + (" …" if len(users) > 5 else "")
        raise TrainingError(
            f"client {client_id} has no user {user_id}",
            where=str(dataset.path),
            expected=f"one of its {len(users):,} users: {some}",
        )
    return np.array([user_id], np.int64)


def _at_client(work: Work, client_id: int) -> Work:
    """Returns the work in which the users of this client are at home there, wherever else they have rows.

    Where all rows were pooled there is one client, and it is everybody's home.
    """
    if work.algorithm.pooled:
        return work
    return replace(work, federation=replace(work.federation, host=client_id))


def _told(lists: pl.DataFrame, dataset: Dataset, task: str) -> dict[int, list[dict[str, Any]]]:
    """Returns the items of each user, with their titles and what their score means."""
    items = dataset.items()
    names = items.collect_schema().names()
    wanted = [pl.col(name) for name in ("source_id", "title") if name in names]
    frame = lists.join(items.select("item_id", *wanted).collect(), on="item_id", how="left")
    frame = frame.sort("user_id", "rank")
    score = pl.col("score").cast(pl.Float64)
    if task == "binary":
        frame = frame.with_columns(probability=1 / (1 + (-score).exp()))
    elif task == "rating":
        scale = [float(value) for value, count in dataset.manifest["facts"]["ratings"] if count]
        frame = frame.with_columns(rating=score.clip(min(scale), max(scale)))
    found: dict[int, list[dict[str, Any]]] = {}
    for row in frame.rename({"item_id": "item"}).iter_rows(named=True):
        found.setdefault(row.pop("user_id"), []).append(row)
    return found


def _source_ids(dataset: Dataset, users: Ints) -> Mapping[int, str]:
    frame = dataset.users()
    if "source_id" not in frame.collect_schema().names():
        return {}
    wanted = frame.filter(pl.col("user_id").is_in(users.tolist())).select("user_id", "source_id")
    return dict(wanted.collect().iter_rows())
