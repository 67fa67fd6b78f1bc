"""Scores of all items: blocks of users with like histories give what each user alone is given."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
torch.set_num_threads(1)

from federations import begin, random_federation, work_of  # noqa: E402

import fedtrain.scoring  # noqa: E402
from fedtrain.scoring import Scorer  # noqa: E402


@pytest.mark.parametrize("algorithm", ["fedavg", "local"])
@pytest.mark.parametrize("model", ["rating_vae", "mult_vae", "sasrec", "mf"])
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
