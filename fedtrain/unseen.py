"""Clients that never trained: how well a model serves them after a look at half of their rows.

A client's users are rebuilt on the support half of its rows, everything else as the server has it, and the
query half is predicted. This is how Federated Reconstruction serves clients (Singhal et al., NeurIPS 2021,
section 5); other algorithms are measured in the same way. Beside an error of ratings stands what means alone
would give on the same query rows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from fedprep.errors import TrainingError
from fedtrain.algorithms.algorithm import Answer, Phase, keeps_users
from fedtrain.chunks import chunks_of
from fedtrain.clients import Clients
from fedtrain.engine import train_chunk
from fedtrain.examples import Drawing
from fedtrain.examples import rows as row_examples
from fedtrain.halves import part_of
from fedtrain.measures import class_measures, rating_measures, scale_of
from fedtrain.prediction import outputs_for
from fedtrain.samplers import held_out

if TYPE_CHECKING:
    from fedtrain.algorithms import Server
    from fedtrain.engine import Work
    from fedtrain.federation import Rows

__all__ = ["mean_ratings", "unseen_measures"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def unseen_measures(
    work: Work, server: Server, clients: Clients, unseen: Ints, split: str
) -> dict[str, float]:
    """Returns `rmse/unseen/test` and the like, of the query rows of these clients.

    Of ratings also `rmse/user_mean/unseen/test`, and so on for each of `mean_ratings`.

    Args:
        unseen: int64 (n,), clients that never train.
        split: what their measures are called by, `valid` or `test`.

    Raises:
        TrainingError: the model looks at whole users, and has no vectors of users to rebuild.
    """
    users = keeps_users(work.parameters)
    if work.model.examples != "rows" or not users:
        raise TrainingError(
            f"the model '{work.plan.model}' has no vectors of users to rebuild at unseen clients",
            where="[train] valid_clients, test_clients",
            hint="model = 'mf'",
        )
    first = work.algorithm.phases(work.plan, work.parameters)[0]
    if not first.trains <= users:
        first = Phase(trains=users, epochs=work.plan.local_epochs)
    support = replace(first, part="support")
    alone = replace(
        work.algorithm, phases=lambda plan, parameters: (support,), stateless=True, remembers=False
    )
    work = replace(work, algorithm=alone)
    predicted, losses, rows, looked_at = [], [], [], []
    for chunk in chunks_of(work.federation, unseen, work.plan.chunk_rows, len(unseen)):
        local = train_chunk(work, server, clients, chunk)
        drawing = Drawing(
            task=work.task,
            negatives=work.plan.negatives,
            excluded=work.excluded,
            max_history=0,
            seed=work.seed,
            round_number=server.round_number,
        )
        examples = row_examples(work.federation, chunk, drawing)
        half = (server.round_number, 0)
        query = part_of(examples, chunk, "query", work.seed, half)
        kept = Clients(work.federation.n_clients, {n: t.clone() for n, t in clients.users.items()})
        everyone = torch.ones(local.n_clients, dtype=torch.bool)
        work.algorithm.keep(local, kept, users, everyone, Answer(shared={}, rows={}))
        outputs, loss = outputs_for(work, server, kept, chunk, examples, query)
        predicted.append(outputs)
        losses.append(loss)
        rows.append(chunk.row[query])
        looked_at.append(chunk.row[part_of(examples, chunk, "support", work.seed, half)])
    output, row = np.concatenate(predicted), np.concatenate(rows)
    train = work.federation.train
    found = {"loss": float(np.concatenate(losses).mean())}
    if work.task.target == "rating":
        found |= rating_measures(output[:, 0], train.rating[row], scale_of(train))
        never = held_out(train.counts, work.plan.valid_clients, work.plan.test_clients, work.seed)
        known = np.flatnonzero(np.repeat(~(never[0] | never[1]), train.counts))
        means = mean_ratings(train, work.federation.n_items, known, np.concatenate(looked_at), row)
        for name, told in means.items():
            of_means = rating_measures(told, train.rating[row], scale_of(train))
            found |= {f"{measure}/{name}": value for measure, value in of_means.items()}
    elif work.task.target == "label":
        guess = (output[:, 0] > 0).astype(np.int8) if output.shape[1] == 1 else output.argmax(1)
        found |= class_measures(guess, train.label[row])
    return {f"{name}/unseen/{split}": value for name, value in found.items()}


def mean_ratings(
    train: Rows, n_items: int, known: Ints, support: Ints, query: Ints
) -> dict[str, Floats]:
    """Returns what means say of the ratings of query rows, float64 (n,), by name.

    `user_mean`: the mean of the user's support rows · `item_mean`: the item's mean over the known rows, that
    of all of them where the item is in none · `both_means`: the item's mean, and the user's mean distance
    from it on the support rows.

    Args:
        train: the rows that the others number.
        n_items: of the Dataset.
        known: int64, rows of the clients that train.
        support: int64, rows of clients that do not train; each user of a query row has some.
        query: int64 (n,), other rows of those.
    """
    rating = train.rating.astype(np.float64)
    counts = np.bincount(train.item_id[known], minlength=n_items)
    sums = np.bincount(train.item_id[known], rating[known], minlength=n_items)
    item = np.where(counts > 0, sums / np.maximum(counts, 1), rating[known].mean())

    def by_user(values: Floats) -> Floats:
        slot = train.slot[support]
        n_slots = int(train.slot.max()) + 1
        total = np.bincount(slot, values, minlength=n_slots)
        each: Floats = total / np.maximum(np.bincount(slot, minlength=n_slots), 1)
        return each[train.slot[query]]

    of_item = item[train.item_id]
    return {
        "user_mean": by_user(rating[support]),
        "item_mean": of_item[query],
        "both_means": of_item[query] + by_user((rating - of_item)[support]),
    }
