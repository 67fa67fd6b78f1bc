"""What nodes measure on their own rows, as sums: the server adds them up, and never sees a row.

Loss, and accuracy where the task has classes. A ranking over all nodes would need each user's list; it is
measured where the rows are together, by `fedtrain run` and `fedeval`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from fedtrain.measures import predictions, task_measures

if TYPE_CHECKING:
    from fedtrain.algorithms import Server
    from fedtrain.clients import Clients
    from fedtrain.engine import Work

__all__ = ["judged", "pooled"]


def judged(work: Work, server: Server, clients: Clients, split: str) -> dict[str, float]:
    """Returns sums over a client's rows of a split: `rows`, `loss`, and of each class `rows/…`, `right/…`.

    {} where it has none.
    """
    rows = work.federation.splits[split]
    if not len(rows):
        return {}
    if work.model.examples != "rows":
        found = task_measures(work, server, clients, split).get(f"loss/{split}")
        return {} if found is None else {"rows": len(rows), "loss": found * len(rows)}
    row, outputs, losses = predictions(work, server, clients, split)
    sums = {"rows": float(len(row)), "loss": float(losses.sum())}
    if work.task.target == "label":
        one = outputs.shape[1] == 1
        guess = (outputs[:, 0] > 0).astype(np.int64) if one else outputs.argmax(1)
        label = rows.label[row]
        for number in np.unique(label).tolist():
            sums[f"rows/{number}"] = float((label == number).sum())
            sums[f"right/{number}"] = float(((label == number) & (guess == number)).sum())
    return sums


def pooled(sums: Iterable[Mapping[str, float]], split: str) -> dict[str, float]:
    """Returns the measures of all rows behind these sums, as `rounds.jsonl` names them; {} for no rows."""
    total: dict[str, float] = {}
    for one in sums:
        for name, value in one.items():
            total[name] = total.get(name, 0.0) + value
    if not total.get("rows"):
        return {}
    n_rows = total["rows"]
    found = {"loss": total["loss"] / n_rows}
    classes = sorted(name.partition("/")[2] for name in total if name.startswith("rows/"))
    if classes:
        found["accuracy"] = sum(total[f"right/{number}"] for number in classes) / n_rows
        found["accuracy/majority"] = max(total[f"rows/{number}"] for number in classes) / n_rows
        for number in classes:
            share = total[f"right/{number}"] / total[f"rows/{number}"]
            found[f"accuracy/class_{number}"] = share
    return {f"{name}/{split}": value for name, value in found.items()}
