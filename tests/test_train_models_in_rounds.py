"""Every model in the engine: rounds of a hand-made federation, however it is cut into chunks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedtrain.algorithms import ALGORITHMS, Server
from fedtrain.clients import Clients
from fedtrain.engine import Work
from fedtrain.federation import Federation, Rows
from fedtrain.models import MODELS
from fedtrain.parameters import initial
from fedtrain.rounds import do_round
from fedtrain.settings import parse_plan
from fedtrain.tasks import TASKS
from tests.model_toys import N_ITEMS, N_USERS, features, sizes
from tests.test_train_models import CASES

torch.set_num_threads(1)

USERS_OF_CLIENTS = [2, 3, *[1] * (N_USERS - 5)]


def federation() -> Federation:
    """Clients of one to three users, users of two to eight rows."""
    make = np.random.default_rng(0)
    counts = 2 + np.arange(N_USERS) * 5 % 7
    slot = np.repeat(np.arange(N_USERS, dtype=np.int32), counts)
    item = np.concatenate([make.permutation(N_ITEMS)[:count] for count in counts])
    slot_offsets = np.concatenate([[0], np.cumsum(USERS_OF_CLIENTS)])
    offsets = np.concatenate([[0], np.cumsum(counts)])[slot_offsets]
    label = make.integers(0, 2, len(slot))

    def rows(offsets: np.ndarray, kept: slice) -> Rows:
        return Rows(
            offsets=offsets,
            slot=slot[kept],
            item_id=item[kept].astype(np.int32),
            rating=(1 + 2 * label[kept] + item[kept] % 2).astype(np.float32),
            label=label[kept].astype(np.int8),
            timestamp=np.arange(len(slot))[kept],
        )

    nothing = rows(np.zeros_like(offsets), slice(0, 0))
    return Federation(
        n_users=N_USERS,
        n_items=N_ITEMS,
        n_clients=len(USERS_OF_CLIENTS),
        slot_user=np.arange(N_USERS, dtype=np.int32),
        slot_offsets=slot_offsets,
        splits={"train": rows(offsets, slice(None)), "valid": nothing, "test": nothing},
    )


def run(case: str, n_rounds: int, **settings: float) -> tuple[dict[str, torch.Tensor], list[float]]:
    """(the server's values, the mean loss of each round), all clients in each."""
    name, task, options = CASES[case]
    plan = parse_plan({"model": name, "task": task, "batch_size": 2, name: options, **settings})
    model = MODELS[name](**options)
    parameters = model.parameters(sizes(3 if task == "classes" else 1))
    here = federation()
    work = Work(
        federation=here,
        features=features(torch.float32),
        model=model,
        parameters=parameters,
        task=TASKS[task],
        algorithm=ALGORITHMS["fedavg"](),
        plan=plan,
        excluded=here.positives,
        seed=3,
    )
    server = Server(values=initial(parameters, N_ITEMS, 3))
    clients = Clients.new(here.n_clients, here.n_slots, parameters, 3)
    losses = []
    for number in range(1, n_rounds + 1):
        outcome = do_round(
            work, server.at(number), clients, np.arange(here.n_clients), progress=0.5
        )
        assert outcome.sound.all()
        losses.append(float(np.mean(outcome.loss)))
        server = outcome.server
    return server.values, losses


@pytest.mark.parametrize("case", CASES)
def test_chunks_change_nothing(case: str) -> None:
    whole, losses = run(case, 2, lr=0.1, chunk_rows=50_000)
    cut, others = run(case, 2, lr=0.1, chunk_rows=1)
    assert others == pytest.approx(losses, rel=1e-5)
    for name, value in whole.items():
        torch.testing.assert_close(cut[name], value, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("case", [name for name in CASES if " " not in name])
def test_the_loss_falls_over_rounds(case: str) -> None:
    _, losses = run(case, 25, lr=0.3)
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
