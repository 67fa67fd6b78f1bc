"""Sections of `RESULTS.md` on like or dislike: accuracy of Runs with intervals, and how clients differ.

    python benchmarks/accuracy.py --section TITLE --notes FILE.md --system NAME RUN [RUN ...] [--system …]

Each Run is opened again with the state it kept, and its outputs on the test rows are measured: accuracy,
the mean of the two classes' shares found (balanced), the area under the ROC curve, and accuracy by client.
The first system is the one that the others are compared with, row by row. Intervals, 95 %, are of a
bootstrap over users; of several seeds each row's mean over them. Beside the Runs stand rules that need no
model, each from train rows alone: the majority, that of each client, the means of users and items. The
table takes the place of the word TABLE in FILE.md; without it the section has the table alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from results import cost, table, write_section

if TYPE_CHECKING:
    from fedtrain.federation import Federation

SPLIT = "test"
HEAD = ["system", "seeds", "accuracy", "first system less this", "balanced", "AUC",
        "by client: least · quartiles · most", "rounds", "bytes up / down", "seconds", "CPU s"]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Row:
    """A system on the test rows of a Dataset: right and score (seeds, n), and the cells of what it took."""

    name: str
    federation: Federation
    right: np.ndarray
    score: np.ndarray
    seeds: str = "–"
    cells: Sequence[str] = ("–",) * 4


def of_runs(name: str, runs: Sequence[Path]) -> Row:
    from fedtrain.measures import predictions
    from fedtrain.reopen import reopened

    right, score, seeds = [], [], []
    for path in runs:
        state = reopened(path)
        row, outputs, _ = predictions(state.work, state.server, state.clients, SPLIT)
        assert np.array_equal(row, np.arange(len(row)))
        label = state.work.federation.splits[SPLIT].label
        score.append(outputs[:, 0].astype(np.float64))
        right.append((outputs[:, 0] > 0) == label)
        seeds.append(str(state.run.manifest["seed"]))
    federation = state.work.federation
    return Row(name, federation, np.array(right), np.array(score), ", ".join(seeds), cost(runs))


def rules(federation: Federation) -> list[Row]:
    """Returns what needs no model: shares of likes in train, of all, of clients, users, items."""
    from fedtrain.measures import usual_labels

    train, test = federation.train, federation.splits[SPLIT]
    every = float(train.label.mean())

    def shares(of_train: np.ndarray, of_test: np.ndarray, n: int) -> np.ndarray:
        likes = (
            np.bincount(of_train, train.label, n) + 5 * every
        )  # as if five rows more, of the mean
        found: np.ndarray = (likes / (np.bincount(of_train, minlength=n) + 5))[of_test]
        return found

    client = np.searchsorted(test.offsets, np.arange(len(test)), side="right") - 1
    users = (federation.slot_user[train.slot], federation.slot_user[test.slot], federation.n_users)
    user = shares(*users)
    item = shares(train.item_id, test.item_id, federation.n_items)
    scores: Mapping[str, np.ndarray] = {
        "majority": np.full(len(test), every),
        "majority of each client": usual_labels(train)[client].astype(np.float64),
        "share of likes of the user": user,
        "share of likes of the item": item,
        "both, added": user + item - every,
    }
    return [
        Row(name, federation, ((score > 0.5) == test.label)[None], score[None])
        for name, score in scores.items()
    ]


def line(row: Row, first: Row) -> list[str]:
    from fedeval.statistics import bootstrap_interval

    test = row.federation.splits[SPLIT]
    user = row.federation.slot_user[test.slot]
    right = row.right.mean(0)
    accuracy = bootstrap_interval(right, user)
    if row is first or row.federation.n_users != first.federation.n_users:
        less = "–"
    else:
        found = bootstrap_interval(_in_order(first) - _in_order(row), np.sort(user))
        less = f"{found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
    balanced = np.mean([right[test.label == label].mean() for label in (0, 1)])
    return [
        row.name,
        row.seeds,
        f"{accuracy.value:.4f} ({accuracy.low:.4f} to {accuracy.high:.4f})",
        less,
        f"{balanced:.3f}",
        f"{np.mean([auc(score, test.label) for score in row.score]):.3f}",
        " · ".join(f"{value:.3f}" for value in by_client(row)),
        *row.cells,
    ]


def _in_order(row: Row) -> np.ndarray:
    """Returns each test row's mean over the seeds in the order of (user, item): that of no partition."""
    test = row.federation.splits[SPLIT]
    order = np.lexsort((test.item_id, row.federation.slot_user[test.slot]))
    mean: np.ndarray = row.right.mean(0)[order]
    return mean


def by_client(row: Row) -> np.ndarray:
    """Returns float64 (5,): the least, the quartiles and the most of the clients' accuracies."""
    counts = row.federation.splits[SPLIT].counts
    client = np.repeat(np.arange(len(counts)), counts)
    own = np.bincount(client, row.right.mean(0), len(counts))[counts > 0] / counts[counts > 0]
    spread: np.ndarray = np.quantile(own, [0, 0.25, 0.5, 0.75, 1])
    return spread


def auc(score: np.ndarray, label: np.ndarray) -> float:
    """Returns how often a like scores above a dislike; equal scores count half."""
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[place]
    likes = int(label.sum())
    return float(
        (rank[label == 1].sum() - likes * (likes + 1) / 2) / (likes * (len(label) - likes))
    )


def tabled(systems: Sequence[tuple[str, Sequence[Path]]]) -> str:
    """Returns the table: the Runs, then the rules of the first one's Dataset."""
    rows = [of_runs(name, runs) for name, runs in systems]
    return table(HEAD, [line(row, rows[0]) for row in [*rows, *rules(rows[0].federation)]])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--section")
    parser.add_argument("--notes", type=Path)
    parser.add_argument("--system", nargs="+", action="append", default=[], metavar="NAME RUN")
    given = parser.parse_args()
    if not given.system:
        print("no Runs are given: see --help")
        return
    body = tabled([(name, [Path(run) for run in runs]) for name, *runs in given.system])
    if given.section is None:
        print(body)
        return
    notes = given.notes.read_text("utf-8") if given.notes else "TABLE"
    write_section(given.section, notes.replace("TABLE", body))


if __name__ == "__main__":
    main()
