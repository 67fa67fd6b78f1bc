"""Accuracy of clients: its spread, and what each client's own majority would give."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
torch.set_num_threads(1)

from federations import begin, federation_of_rows, work_of  # noqa: E402

from fedtrain.measures import spread, task_measures, usual_labels  # noqa: E402

ROWS = [
    *[(0, 0, item, 5.0, "train") for item in range(3)],
    (0, 0, 3, 1.0, "train"),
    *[(1, 1, item, 1.0, "train") for item in range(2)],
    *[(0, 0, item, rating, "valid") for item, rating in ((4, 5.0), (5, 1.0))],
    *[(1, 1, item, rating, "valid") for item, rating in ((3, 1.0), (4, 1.0), (5, 5.0))],
    (2, 2, 0, 5.0, "valid"),
]
"""Client 0 likes, client 1 does not, client 2 has no train row."""


def test_the_spread_is_that_of_clients_each_counted_once() -> None:
    right = np.array([True, True, False, True, False, False])
    client = np.array([0, 0, 0, 0, 2, 5])  # 0.75, 0, 0
    found = spread(right, client)
    assert found["accuracy/client_min"] == 0 and found["accuracy/client_median"] == 0
    assert found["accuracy/client_q3"] == pytest.approx(0.375)
    assert found["accuracy/client_max"] == 0.75


def test_a_client_without_train_rows_has_the_majority_of_all() -> None:
    train = federation_of_rows(ROWS, 6, 3).train
    assert usual_labels(train).tolist() == [1, 0, 0]  # three likes, and three not: the lower label


def test_each_clients_own_majority_is_told_beside_that_of_all() -> None:
    work = work_of(federation_of_rows(ROWS, 6, 3), task="binary")
    found = task_measures(work, *begin(work), "valid")
    assert found["accuracy/majority/valid"] == 0.5
    assert found["accuracy/majority_of_client/valid"] == pytest.approx(3 / 6)
    assert 0 <= found["accuracy/client_min/valid"] <= found["accuracy/client_max/valid"] <= 1
