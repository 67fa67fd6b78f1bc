"""Losses of the tasks, by hand."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from fedtrain.batch import Batch, Features  # noqa: E402
from fedtrain.tasks import TASKS  # noqa: E402


def batch(target: list[float], item: object, user: list[int], mask: list[bool]) -> Batch:
    return Batch(
        user=torch.tensor([user]),
        item=torch.as_tensor(item),
        target=torch.tensor([target]),
        mask=torch.tensor([mask]),
        features=Features(),
    )


def of_rows(target: list[float], m: int = 1) -> Batch:
    n = len(target)
    return batch(target, torch.zeros((1, n, m), dtype=torch.long), [0] * n, [True] * n)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_the_logistic_loss_of_labels() -> None:
    found = TASKS["binary"].loss(torch.tensor([[[2.0], [2.0]]]), of_rows([1.0, 0.0]))
    assert found.tolist()[0] == pytest.approx([-math.log(sigmoid(2)), -math.log(sigmoid(-2))])


def test_half_the_squared_error_of_ratings() -> None:
    found = TASKS["rating"].loss(torch.tensor([[[3.0], [5.0]]]), of_rows([4.0, 2.0]))
    assert found.tolist()[0] == pytest.approx([0.5, 4.5])


def test_the_cross_entropy_of_classes() -> None:
    found = TASKS["classes"].loss(torch.tensor([[[0.0, math.log(3)]]]), of_rows([1.0]))
    assert found.tolist()[0] == pytest.approx([-math.log(3 / 4)])


def test_implicit_losses_compare_the_first_item_with_the_others() -> None:
    scores = torch.tensor([[[1.0, 0.0, -1.0]]])
    rows = of_rows([1.0], 3)
    bce = -(math.log(sigmoid(1)) + math.log(sigmoid(0)) + math.log(sigmoid(1))) / 3
    bpr = -(math.log(sigmoid(1)) + math.log(sigmoid(2))) / 2
    softmax = -math.log(math.e / (math.e + 1 + 1 / math.e))
    for name, expected in (("bce", bce), ("bpr", bpr), ("softmax", softmax)):
        assert float(TASKS[name].loss(scores, rows)) == pytest.approx(expected)


def test_in_a_batch_the_items_of_other_users_are_the_negatives() -> None:
    # Users 0, 0, 1, and padding; items 5, 6, 7; scores of each example with each of the four places.
    scores = torch.tensor(
        [[[1.0, 9.0, 0.0, 9.0], [9.0, 2.0, 0.0, 9.0], [0.0, 1.0, 3.0, 9.0], [0.0] * 4]]
    )
    item = torch.tensor([5, 6, 7, 0]).expand(1, 4, 4)
    found = TASKS["contrastive"].loss(
        scores, batch([1.0] * 4, item, [0, 0, 1, 2], [True, True, True, False])
    )
    first = -math.log(math.exp(1) / (math.exp(1) + math.exp(0)))
    second = -math.log(math.exp(2) / (math.exp(2) + math.exp(0)))
    third = -math.log(math.exp(3) / (math.exp(0) + math.exp(1) + math.exp(3)))
    assert found[0, :3].tolist() == pytest.approx([first, second, third])


def test_in_a_batch_an_item_that_comes_twice_is_no_negative_of_itself() -> None:
    item = torch.tensor([5, 5]).expand(1, 2, 2)
    found = TASKS["contrastive"].loss(
        torch.tensor([[[1.0, 7.0], [7.0, 1.0]]]), batch([1.0, 1.0], item, [0, 1], [True, True])
    )
    assert found.tolist()[0] == pytest.approx([0.0, 0.0])
