"""Clients that never trained: served after a look at half of their rows, and judged beside means alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
torch.set_num_threads(1)

from federations import begin, federation_of_rows, random_federation, rounds, work_of  # noqa: E402

from fedprep.errors import TrainingError  # noqa: E402
from fedtrain.chunks import chunks_of  # noqa: E402
from fedtrain.examples import Drawing  # noqa: E402
from fedtrain.examples import rows as row_examples  # noqa: E402
from fedtrain.halves import part_of  # noqa: E402
from fedtrain.measures import rating_measures, task_measures  # noqa: E402
from fedtrain.samplers import held_out  # noqa: E402
from fedtrain.unseen import mean_ratings, unseen_measures  # noqa: E402

MF = {
    "model": "mf",
    "mf": {"dim": 2, "start": 0.5, "mean": 3.0},
    "algorithm": "fedrecon",
    "lr": 0.1,
}
AWAY = {"valid_clients": 0.3, "test_clients": 0.3}


def test_means_are_of_support_rows_and_of_known_rows_alone() -> None:
    rows = [
        (0, 0, 0, 4.0, "train"), (0, 0, 1, 2.0, "train"), (1, 1, 0, 5.0, "train"),
        (2, 2, 0, 1.0, "train"), (2, 2, 1, 3.0, "train"), (2, 2, 2, 3.0, "train"),
    ]  # fmt: skip
    federation = federation_of_rows(rows, n_items=3, n_clients=3)
    # Items' means over clients 0 and 1: 4.5, 2, and 11/3 for item 2, which they do not have.
    found = mean_ratings(
        federation.train, 3, np.arange(3), support=np.array([3]), query=np.array([4, 5])
    )
    assert found["user_mean"].tolist() == [1.0, 1.0]
    assert found["item_mean"] == pytest.approx([2.0, 11 / 3])
    assert found["both_means"] == pytest.approx([2.0 - 3.5, 11 / 3 - 3.5])


def test_means_are_judged_on_the_same_query_rows() -> None:
    work = work_of(random_federation(4, n_clients=10), **MF, **AWAY)
    server, clients = begin(work)
    server = server.at(7)
    train = work.federation.train
    valid, test = held_out(train.counts, 0.3, 0.3, work.seed)
    unseen = np.flatnonzero(test)
    found = unseen_measures(work, server, clients, unseen, "test")
    (chunk,) = chunks_of(work.federation, unseen, 10_000, len(unseen))
    drawing = Drawing(
        task=work.task, negatives=4, excluded=None, max_history=0, seed=work.seed, round_number=7
    )
    examples = row_examples(work.federation, chunk, drawing)
    support, query = (
        chunk.row[part_of(examples, chunk, part, work.seed, (7, 0))]
        for part in ("support", "query")
    )
    client = np.repeat(np.arange(10), train.counts)
    known = np.flatnonzero(~(valid | test)[client])
    for name, guess in mean_ratings(train, 9, known, support, query).items():
        wanted = rating_measures(guess, train.rating[query], (1.0, 5.0))
        assert found[f"rmse/{name}/unseen/test"] == wanted["rmse"]
        assert found[f"accuracy/{name}/unseen/test"] == wanted["accuracy"]


def test_unseen_clients_change_nothing_and_are_rebuilt_from_their_start() -> None:
    work = work_of(random_federation(5, n_clients=10), **MF, **AWAY)
    unseen = np.flatnonzero(held_out(work.federation.train.counts, 0.3, 0.3, work.seed)[1])
    _, server, clients = rounds(work, 2)
    before = {name: value.clone() for name, value in clients.users.items()}
    first = unseen_measures(work, server.at(2), clients, unseen, "test")
    assert all(torch.equal(before[name], value) for name, value in clients.users.items())
    for value in clients.users.values():
        value.fill_(9.0)  # whatever a client has kept: Federated Reconstruction does not read it
    assert unseen_measures(work, server.at(2), clients, unseen, "test") == first


def test_a_look_at_the_support_rows_serves_better_than_none() -> None:
    rows = [
        (client, client, item, 5.0 if client % 2 else 1.0, "train")
        for client in range(10)
        for item in range(8)
    ]
    federation = federation_of_rows(rows, n_items=8, n_clients=10)
    unseen = np.array([2, 3, 4])
    errors = {}
    for epochs in (1, 30):
        work = work_of(federation, **{**MF, "fedrecon": {"recon_epochs": epochs, "recon_lr": 0.2}})
        server, clients = begin(work)
        found = unseen_measures(work, server.at(1), clients, unseen, "valid")
        errors[epochs] = found["rmse/unseen/valid"]
    assert errors[30] < 0.2 < errors[1]


def test_a_model_without_vectors_of_users_is_refused() -> None:
    work = work_of(random_federation(1), model="rating_vae")
    with pytest.raises(TrainingError, match="'rating_vae' has no vectors of users"):
        unseen_measures(work, *begin(work), np.array([0]), "test")


def test_the_error_on_shown_ratings_is_a_measure_of_its_own_name() -> None:
    """With all values at 0 the model tells of every item the mean of what it was shown of the user."""
    rows = [
        (0, 0, 0, 2.0, "train"), (0, 0, 1, 4.0, "train"), (0, 0, 2, 5.0, "valid"),
        (1, 1, 0, 1.0, "train"), (1, 1, 1, 5.0, "train"),
    ]  # fmt: skip
    federation = federation_of_rows(rows, n_items=3, n_clients=2)
    work = work_of(federation, model="rating_vae", rating_vae={"mean": 3.0, "shrinkage": 0.0})
    server, clients = begin(work)
    values = {name: torch.zeros_like(value) for name, value in server.values.items()}
    found = task_measures(work, replace(server, values=values), clients, "valid")
    # User 0 alone has a row of valid: of the shown 2 and 4 it tells 3, and user 1 counts nowhere.
    assert found["rmse/shown/valid"] == pytest.approx(1.0)
    assert found["rmse/valid"] == pytest.approx(
        2.0
    )  # cut to the scale of train, not to valid's 5 to 5
    assert "rmse/shown/valid" not in task_measures(
        work_of(federation, **MF), *begin(work_of(federation, **MF)), "valid"
    )
