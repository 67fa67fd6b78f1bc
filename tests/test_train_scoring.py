"""Scores of all items: blocks of users with like histories give what each user alone is given."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
torch.set_num_threads(1)

from federations import begin, federation_of_rows, random_federation, work_of  # noqa: E402

import fedtrain.scoring  # noqa: E402
from fedtrain.scoring import Scorer  # noqa: E402


@pytest.mark.parametrize("algorithm", ["fedavg", "local"])
@pytest.mark.parametrize("model", ["rating_vae", "mult_vae", "sasrec", "mf", "lightgcn"])
@pytest.mark.parametrize("places", [1, 7, 1 << 16])
def test_whoever_is_scored_beside_a_user_changes_no_score(
    model: str, algorithm: str, places: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fedtrain.scoring, "PLACES", places)
    task = "rating" if model in ("rating_vae", "mf") else "implicit"
    work = work_of(
        random_federation(2, n_clients=7, most=6), model=model, algorithm=algorithm, task=task
    )
    server, clients = begin(work)
    scorer = Scorer(work, server, clients, ("train",))
    users = np.flatnonzero(work.federation.home >= 0)[::-1].copy()
    together = scorer.scores(users)
    alone = np.concatenate([scorer.scores(users[at : at + 1]) for at in range(len(users))])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)
    assert np.ptp(together, axis=1).min() > 0


def test_a_graph_joins_the_users_of_a_client_and_no_others() -> None:
    """Without what a client's other user has had, and with others' rows changed, only the first matters."""
    rows = [
        (0, 0, 0, 5.0, "train"), (0, 0, 1, 5.0, "train"), (0, 1, 1, 5.0, "train"), (0, 1, 2, 5.0, "train"),
        (1, 2, 1, 5.0, "train"), (1, 2, 3, 5.0, "train"),
    ]  # fmt: skip
    told = {}
    for name, kept in (
        ("whole", rows),
        ("without its neighbour", [row for row in rows if row[1] != 1]),
        (
            "without the other client",
            [row for row in rows if row[0] == 0] + [(1, 2, 0, 1.0, "train")],
        ),
    ):
        federation = federation_of_rows(kept, n_items=4, n_clients=2)
        work = work_of(federation, model="lightgcn", task="implicit")
        server, clients = begin(work)
        told[name] = Scorer(work, server, clients, ("train",)).scores(np.array([0]))
    assert not np.allclose(told["whole"], told["without its neighbour"])
    np.testing.assert_array_equal(told["whole"], told["without the other client"])
