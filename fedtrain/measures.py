"""What is measured in a round: losses and task accuracy, and full ranking by fedeval's metrics.

Sums and counts of clients are added up, never means of means. A ranking is over all items of the Dataset
without those a user has seen, every user who has a truth row.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from fedeval import evaluate
from fedeval.interactions import interactions_of
from fedeval.setting import SEEN, setting_of
from fedprep.dataset import Dataset
from fedprep.schema import USER_ID
from fedtrain.prediction import outputs_of
from fedtrain.scoring import Scorer, rebuilt
from fedtrain.tasks import TASKS

if TYPE_CHECKING:
    from fedtrain.algorithms import Server
    from fedtrain.clients import Clients
    from fedtrain.engine import Work
    from fedtrain.federation import Rows

__all__ = [
    "LIST_LENGTH",
    "RANKING",
    "Truth",
    "lists_of_all",
    "part_of_users",
    "ranking",
    "standstill",
    "task_measures",
]

Ints = npt.NDArray[np.int64]
Told = Callable[[Ints, npt.NDArray[np.float64]], None]

RANKING = ("ndcg@10", "hr@10", "mrr@10", "coverage@10")
"""Ranking metrics of a round."""

SPREAD = (("min", 0.0), ("q1", 0.25), ("median", 0.5), ("q3", 0.75), ("max", 1.0))
"""What is told of a measure's values over clients, and the quantile that it is."""

STILL, CHANCE = 0.005, 3.0
"""A loss that changed by a lesser share stood still, unless lists are better by so many standard errors."""

LIST_LENGTH = 100
"""Items that a Run recommends to each user."""


@dataclass(frozen=True)
class Truth:
    """A Dataset's split as the truth of a ranking, by fedeval's own reading of it."""

    dataset: Dataset
    split: str
    most_users: int = 0
    seed: int = 0

    @functools.cached_property
    def setting(self) -> Any:
        return setting_of(self.dataset, split=self.split)

    @functools.cached_property
    def users(self) -> Ints:
        """int64: users with a truth row, ascending; a random part of them where not all are asked for."""
        return part_of_users(self.everybody, self.most_users, self.seed)

    @functools.cached_property
    def everybody(self) -> Ints:
        """int64: all users with a truth row, ascending."""
        found: Ints = self.setting.truth[USER_ID].unique().sort().to_numpy().astype(np.int64)
        return found

    @functools.cached_property
    def rows(self) -> pl.DataFrame:
        rows: pl.DataFrame = self.setting.truth.filter(pl.col(USER_ID).is_in(self.users.tolist()))
        return rows


def part_of_users(users: Ints, most: int, seed: int) -> Ints:
    """Returns int64, ascending: so many of these users, drawn by the seed; all of them for 0."""
    if not most or most >= len(users):
        return users
    found: Ints = np.sort(np.random.default_rng([seed, 7]).choice(users, most, replace=False))
    return found


def ranking(
    work: Work, server: Server, clients: Clients, truth: Truth
) -> tuple[dict[str, float], pl.DataFrame]:
    """Returns the metrics `ndcg@10/valid` …, and the lists: user_id, item_id, rank, score."""
    seen = truth.setting.seen
    scorer = Scorer(work, server, clients, SEEN[truth.split])
    with_home = truth.users[work.federation.home[truth.users] >= 0]
    lists = scorer.lists(with_home, LIST_LENGTH, seen)
    found = evaluate(lists, truth.rows, RANKING, train=truth.setting.train_frame)
    return {f"{name}/{truth.split}": value for name, value in found.mean.items()}, lists


def standstill(
    work: Work, before: tuple[Server, Clients], after: tuple[Server, Clients], truth: Truth
) -> str:
    """Returns that training has changed nothing, in words; "" where it has.

    The untrained and the trained state are compared on the same rows, those of valid, or of train where there
    are none: rounds compared with each other differ by who was drawn. A loss may move little and the order
    of items much (that of all items at once): where lists are better, user by user, the run has learned.

    Args:
        work: of the run.
        before, after: server and clients untrained, and trained.
        truth: of valid.
    """
    split = "valid" if len(work.federation.splits["valid"]) else "train"
    found = [task_measures(work, *state, split).get(f"loss/{split}") for state in (before, after)]
    begun, end = found
    if begun is None or end is None or not abs(end - begun) < STILL * abs(begun):
        return ""
    if work.task.implicit and split == "valid":
        one, other = (_by_user(work, *state, truth) for state in (before, after))
        gain = other - one
        if gain.mean() > CHANCE * max(gain.std() / len(gain) ** 0.5, 1e-12):
            return ""
    return f"untrained, the loss on {split} is {begun:.4f}, and after training {end:.4f}"


def _by_user(work: Work, server: Server, clients: Clients, truth: Truth) -> npt.NDArray[np.float64]:
    """Returns NDCG at `LIST_LENGTH` of each user, float64 (n_users,)."""
    lists = ranking(work, server, clients, truth)[1]
    metric = f"ndcg@{LIST_LENGTH}"
    found = evaluate(lists, truth.rows, [metric], train=truth.setting.train_frame)
    return found.per_user[metric].fill_nan(0.0).to_numpy()


def lists_of_all(
    work: Work, server: Server, clients: Clients, dataset: Dataset, most_users: int = 0
) -> pl.DataFrame:
    """Returns the lists of every user with a row, or of so many, what train and valid have left out."""
    users = part_of_users(np.flatnonzero(work.federation.home >= 0), most_users, work.seed)
    seen = interactions_of(dataset, *SEEN["test"])
    return Scorer(work, server, clients, SEEN["test"]).lists(users, LIST_LENGTH, seen)


def task_measures(
    work: Work,
    server: Server,
    clients: Clients,
    split: str,
    told: Told | None = None,
) -> dict[str, float]:
    """Returns the loss on a split, and accuracy or error by the task; {} where the split has no rows.

    `binary` and `classes`: accuracy, that of the majority class, that of each client's own majority in
    train, of each class, and its spread over clients · `rating`: RMSE, MAE and the accuracy of the rounded
    rating · implicit tasks: the loss alone.

    Models that see whole users and tell ratings, such as `rating_vae`, have `rmse/shown` beside: the error
    on the very ratings that the model was shown as input when it told the split's. It is no test error,
    however small it is.

    Args:
        told: told the rows of the split that were measured, and the loss of each.
    """
    if not len(work.federation.splits[split]):
        return {}
    if work.model.examples == "rows":
        found = _by_rows(work, server, clients, split, told)
    else:
        found = _by_scores(work, server, clients, split, told)
    return {f"{name}/{split}": value for name, value in found.items()}


def predictions(
    work: Work, server: Server, clients: Clients, split: str
) -> tuple[Ints, npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Returns for the rows of a split: their numbers, outputs float32 (n, outputs), losses float64 (n,)."""
    if work.algorithm.stateless:
        clients = rebuilt(work, server, clients)
        work = replace(work, algorithm=replace(work.algorithm, stateless=False))
    return outputs_of(work, server, clients, split)


def _by_rows(
    work: Work, server: Server, clients: Clients, split: str, told: Told | None
) -> dict[str, float]:
    if work.task.in_batch:
        # One row of a client has no batch: each is measured among drawn negatives.
        work = replace(work, task=TASKS["softmax"])
    row, outputs, losses = predictions(work, server, clients, split)
    found = {"loss": float(losses.mean())}
    if told is not None:
        told(row, losses)
    rows = work.federation.splits[split]
    if work.task.implicit:
        return found
    if work.task.target == "rating":
        return found | rating_measures(
            outputs[:, 0], rows.rating[row], scale_of(work.federation.train)
        )
    guess = (outputs[:, 0] > 0).astype(np.int8) if outputs.shape[1] == 1 else outputs.argmax(1)
    label = rows.label[row]
    client = np.searchsorted(rows.offsets, row, side="right") - 1
    usual = usual_labels(work.federation.train)[client]
    return {
        **found,
        **class_measures(guess, label),
        "accuracy/majority_of_client": float(np.mean(usual == label)),
        **spread(guess == label, client),
    }


def scale_of(train: Rows) -> tuple[float, float]:
    """Returns the lowest and the highest rating of the train rows."""
    return float(train.rating.min()), float(train.rating.max())


def rating_measures(
    predicted: npt.NDArray[np.floating],
    rating: npt.NDArray[np.floating],
    scale: tuple[float, float],
) -> dict[str, float]:
    """Returns RMSE and MAE of predictions cut to the scale, and how often the rounded one is right."""
    predicted = np.clip(predicted.astype(np.float64), *scale)
    error = predicted - rating
    right = np.rint(predicted) == np.rint(rating)
    return {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "mae": float(np.mean(np.abs(error))),
        "accuracy": float(np.mean(right)),
    }


def class_measures(
    guess: npt.NDArray[np.integer], label: npt.NDArray[np.integer]
) -> dict[str, float]:
    """Returns accuracy, what the majority class alone would give, and the share found of each class."""
    counts = np.bincount(label)
    found = {
        "accuracy": float(np.mean(guess == label)),
        "accuracy/majority": float(counts.max() / counts.sum()),
    }
    for number in np.flatnonzero(counts).tolist():
        found[f"accuracy/class_{number}"] = float(np.mean(guess[label == number] == number))
    return found


def usual_labels(train: Rows) -> Ints:
    """Returns int64 (n_clients,): the label that most of a client's train rows have, else most of all."""
    n_classes = int(train.label.max()) + 1
    client = np.repeat(np.arange(len(train.counts)), train.counts)
    counts = np.bincount(client * n_classes + train.label, minlength=len(train.counts) * n_classes)
    counts = counts.reshape(-1, n_classes)
    usual: Ints = np.where(train.counts > 0, counts.argmax(1), counts.sum(0).argmax())
    return usual


def spread(right: npt.NDArray[np.bool_], client: npt.NDArray[np.integer]) -> dict[str, float]:
    """Returns how accuracy differs between clients: the least, the quartiles and the most of their own.

    Args:
        right: bool (n,), whether each row's guess is right; of a client each row counts the same, and of
            all clients with a row each client, however many it has.
        client: integer (n,), whose row it is.
    """
    counts = np.bincount(client)
    own = np.bincount(client, weights=right)[counts > 0] / counts[counts > 0]
    values = np.quantile(own, [point for _, point in SPREAD])
    return {
        f"accuracy/client_{name}": float(value)
        for (name, _), value in zip(SPREAD, values, strict=True)
    }


def _by_scores(
    work: Work, server: Server, clients: Clients, split: str, told: Told | None
) -> dict[str, float]:
    """Of models that see whole users: a row's output is the user's score of its item."""
    rows = work.federation.splits[split]
    n = len(rows)
    scorer = Scorer(work, server, clients, SEEN[split])
    user = work.federation.slot_user[rows.slot].astype(np.int64)
    item, rating = rows.item_id, rows.rating
    if work.task.target == "rating":
        shown_user, shown_item, shown_rating = _shown(work, SEEN[split], user)
        user = np.concatenate([user, shown_user])
        item, rating = np.concatenate([item, shown_item]), np.concatenate([rating, shown_rating])
    order = np.argsort(user, kind="stable")
    users, first = np.unique(user[order], return_index=True)
    edges = np.append(first, len(order))
    score = np.empty(len(order), np.float32)
    loss = np.empty(len(order), np.float64)
    step = max(1, (1 << 24) // work.federation.n_items)
    for begin in range(0, len(users), step):
        scores = scorer.scores(users[begin : begin + step])
        line = order[edges[begin] : edges[min(begin + step, len(users))]]
        place = np.searchsorted(users[begin : begin + step], user[line])
        score[line] = scores[place, item[line]]
        if work.task.implicit:
            total = torch.from_numpy(scores).double().logsumexp(1).numpy()
            loss[line] = total[place] - score[line]
    if told is not None:
        of_label = ((score[:n] > 0) != (rows.label > 0)).astype(np.float64)
        of_rating = (score[:n].astype(np.float64) - rows.rating) ** 2 / 2
        other = of_rating if work.task.target == "rating" else of_label
        told(np.arange(n), loss if work.task.implicit else other)
    if work.task.implicit:
        return {"loss": float(loss.mean())}
    if work.task.target == "rating":
        scale = scale_of(work.federation.train)
        found = rating_measures(score[:n], rating[:n], scale)
        shown = rating_measures(score[n:], rating[n:], scale)["rmse"]
        return {"loss": found["rmse"] ** 2 / 2, **found, "rmse/shown": shown}
    return class_measures((score > 0).astype(np.int8), rows.label)


def _shown(
    work: Work, splits: tuple[str, ...], users: Ints
) -> tuple[Ints, npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Returns user, item and rating of the rows that the model is shown of these users."""
    parts = [work.federation.splits[name] for name in splits]
    user = work.federation.slot_user[np.concatenate([part.slot for part in parts])].astype(np.int64)
    mine = np.isin(user, users)
    item = np.concatenate([part.item_id for part in parts])
    rating = np.concatenate([part.rating for part in parts])
    return user[mine], item[mine], rating[mine]
