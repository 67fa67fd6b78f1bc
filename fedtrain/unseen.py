"""Clients that never trained: how well a model serves them after a look at half of their rows.

A client's users are rebuilt on the support half of its rows, everything else as the server has it, and the
query half is predicted. This is how Federated Reconstruction serves clients (Singhal et al., NeurIPS 2021,
section 5); other algorithms are measured in the same way.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from fedprep.errors import TrainingError
from fedtrain.algorithms.algorithm import Phase, keeps_users
from fedtrain.chunks import chunks_of
from fedtrain.clients import Clients
from fedtrain.engine import part_of, train_chunk
from fedtrain.examples import Drawing
from fedtrain.examples import rows as row_examples
from fedtrain.measures import class_measures, rating_measures
from fedtrain.prediction import outputs_for

if TYPE_CHECKING:
    from fedtrain.algorithms import Server
    from fedtrain.engine import Work

__all__ = ["unseen_measures"]

Ints = npt.NDArray[np.int64]


def unseen_measures(
    work: Work, server: Server, clients: Clients, unseen: Ints, split: str
) -> dict[str, float]:
    """Returns `rmse/unseen/test` and the like, of the query rows of these clients.

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
    alone = replace(work.algorithm, phases=lambda plan, parameters: (support,), stateless=True)
    work = replace(work, algorithm=alone)
    predicted, losses, rows = [], [], []
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
        query = part_of(examples, chunk, "query", work.seed, (server.round_number, 0))
        kept = Clients(work.federation.n_clients, {n: t.clone() for n, t in clients.users.items()})
        everyone = torch.ones(local.n_clients, dtype=torch.bool)
        work.algorithm.keep(local, kept, users, everyone)
        outputs, loss = outputs_for(work, server, kept, chunk, examples, query)
        predicted.append(outputs)
        losses.append(loss)
        rows.append(chunk.row[query])
    output, row = np.concatenate(predicted), np.concatenate(rows)
    train = work.federation.train
    found = {"loss": float(np.concatenate(losses).mean())}
    if work.task.target == "rating":
        found |= rating_measures(output[:, 0], train.rating[row])
    elif work.task.target == "label":
        guess = (output[:, 0] > 0).astype(np.int8) if output.shape[1] == 1 else output.argmax(1)
        found |= class_measures(guess, train.label[row])
    return {f"{name}/unseen/{split}": value for name, value in found.items()}
