"""What is sent and kept by clients, by hand: whose numbers count, and whose do not."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from fedtrain.algorithms import Answer  # noqa: E402
from fedtrain.guard import norms, sound  # noqa: E402
from fedtrain.sums import LARGEST  # noqa: E402


def three_clients() -> Any:
    """Clients of one, two and one row of items, a user and a kept head each; the last row is nobody's."""
    return SimpleNamespace(
        n_clients=3,
        loss=torch.zeros(3),
        users={"user": torch.zeros(4, 2)},
        slot_client=torch.tensor([0, 1, 2]),
        rows={"item": torch.zeros(5, 2), "kept": torch.zeros(5)},
        row_client=torch.tensor([0, 1, 1, 2]),
        shared={"w": torch.zeros(3, 2, 2), "head": torch.zeros(3, 2)},
    )


def sent() -> Answer:
    return Answer(shared={"w": torch.zeros(3, 2, 2)}, rows={"item": torch.zeros(4, 2)})


def test_the_norm_is_over_all_tensors_and_rows_that_a_client_sends() -> None:
    answer = sent()
    answer.shared["w"][0] = torch.tensor([[1.0, 2.0], [2.0, 0.0]])
    answer.rows["item"][:] = torch.tensor([[0.0, 4.0], [1.0, 0.0], [0.0, 2.0], [3e10, 0.0]])
    found = norms(answer, three_clients())
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx([5.0, math.sqrt(5.0), 3e10])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", ["loss", "user", "kept", "head"])
def test_a_number_that_is_not_finite_costs_its_own_client_alone(place: str, bad: float) -> None:
    local = three_clients()
    held = {
        "loss": local.loss[1:2], "user": local.users["user"][1], "kept": local.rows["kept"][2:3],
        "head": local.shared["head"][1],
    }  # fmt: skip
    held[place][-1] = bad
    assert sound(local, sent(), torch.zeros(3).double()).tolist() == [True, False, True]


@pytest.mark.parametrize("norm", [LARGEST, 2 * LARGEST, math.inf, math.nan])
def test_what_is_sent_is_finite_and_below_the_largest_that_a_sum_takes(norm: float) -> None:
    norms_of = torch.tensor([0.0, math.nextafter(LARGEST, 0.0), norm], dtype=torch.float64)
    assert sound(three_clients(), sent(), norms_of).tolist() == [True, True, False]


def test_what_stands_behind_the_last_row_is_nobodys() -> None:
    local = three_clients()
    for table in (local.users["user"], local.rows["item"], local.rows["kept"]):
        table[-1] = math.nan
    assert sound(local, sent(), torch.zeros(3).double()).all()
