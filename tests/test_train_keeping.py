"""How much clients will keep is known before the first round, near enough to refuse what cannot fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
torch.set_num_threads(1)

from federations import federation_of_rows, random_federation, rounds, work_of  # noqa: E402

from fedprep.errors import TrainingError  # noqa: E402
from fedtrain.clients import Clients  # noqa: E402
from fedtrain.engine import Work  # noqa: E402
from fedtrain.keeping import kept_bytes, memory_bytes, refuse_too_much  # noqa: E402
from fedtrain.setup import n_cores  # noqa: E402

MF: dict[str, Any] = {"model": "mf", "mf": {"dim": 4}}


def kept_by(clients: Clients) -> int:
    """The bytes of what clients keep beside rows of users."""
    tensors = [value for store in clients.rows.values() for value in store.state("s").values()]
    per_client = [
        store.state("s")[k] for store in clients.rows.values() for k in ("s:client", "s:count")
    ]
    n_bytes = [t.numel() * t.element_size() for t in (*tensors, *clients.shared.values())]
    return sum(n_bytes) - sum(t.numel() * t.element_size() for t in per_client)


def of_many(**plan: Any) -> tuple[Work, list[np.ndarray]]:
    """60 clients of 6 of 80 items, and the cohorts of three rounds."""
    rows = [(c, c, (7 * c + 11 * i) % 80, 4.0, "train") for c in range(60) for i in range(6)]
    work = work_of(federation_of_rows(rows, 80, 60), rounds=3, **plan)
    draw = np.random.default_rng(0)
    size = work.plan.clients_per_round or 60
    return work, [np.sort(draw.choice(60, size, replace=False)) for _ in range(3)]


@pytest.mark.parametrize("cohort", [0, 20])
@pytest.mark.parametrize("task", ["rating", "bce"])
@pytest.mark.parametrize("algorithm", ["scaffold", "local"])
def test_what_clients_will_keep_is_foretold(algorithm: str, task: str, cohort: int) -> None:
    for model in (MF, {}):
        if task == "bce" and not model:
            continue
        plan = {"algorithm": algorithm, "task": task, "clients_per_round": cohort, "negatives": 4}
        work, cohorts = of_many(**plan, **model)
        _, _, clients = rounds(work, 3, cohorts)
        times = 2 if work.algorithm.own_best else 1  # as they are, and as they were at their best
        assert kept_bytes(work) == pytest.approx(times * kept_by(clients), rel=0.1)


def test_most_algorithms_keep_nothing_beside_users_and_heads() -> None:
    assert kept_bytes(work_of(random_federation(1), **MF)) == 0
    personal = work_of(random_federation(1), algorithm="fedper")
    assert kept_bytes(personal) == 5 * 3 * 4
    _, _, clients = rounds(personal)
    assert kept_by(clients) == 5 * 3 * 4


def test_what_no_memory_can_hold_is_refused_before_the_first_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work, _ = of_many(algorithm="scaffold", **MF)
    refuse_too_much(work)
    monkeypatch.setattr("fedtrain.keeping.memory_bytes", lambda: kept_bytes(work) - 1)
    with pytest.raises(TrainingError, match=r"scaffold keeps about .* by round 3"):
        refuse_too_much(work)


def test_where_the_system_tells_no_memory_nothing_is_refused_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work, _ = of_many(algorithm="scaffold", **MF)
    monkeypatch.delattr("os.sysconf_names")  # as on Windows
    assert memory_bytes() is None
    refuse_too_much(work)


def test_cores_are_counted_where_the_system_tells_no_affinity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr("os.sched_getaffinity", raising=False)  # as on macOS and Windows
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    assert n_cores() == 3
