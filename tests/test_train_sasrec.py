"""SASRec: what a place may see, where positions count from, what it refuses."""

from __future__ import annotations

import pytest
import torch

from fedprep.errors import RecipeError, TrainingError
from fedtrain.batch import Features, UserBlock
from fedtrain.facts import Facts, sizes_of
from fedtrain.models import example_losses
from fedtrain.models.sasrec import SASRec
from fedtrain.settings import parse_plan
from fedtrain.tasks import TASKS
from tests.model_toys import N_ITEMS, Tensors, Toy, sizes, toy

torch.set_num_threads(1)

LENGTH = 4  # places of a sequence in the toys


def full(model: SASRec) -> Toy:
    clients = toy(model, "bce")
    given = torch.ones_like(torch.as_tensor(clients.batch.given))
    return clients.with_batch(given=given, training=False)


def test_a_place_sees_itself_and_those_before_it_alone() -> None:
    clients = full(SASRec(dim=4))
    before = clients.outputs()
    for place in range(LENGTH):
        item = clients.batch.item.clone()
        item[..., place] = (item[..., place] + 1) % N_ITEMS  # an input, no candidate
        changed = (clients.with_batch(item=item).outputs() - before).abs().amax((0, 1, 3)) > 1e-9
        assert changed.tolist() == [False] * place + [True] * (LENGTH - place)


def test_order_matters() -> None:
    clients = full(SASRec(dim=4))
    item = clients.batch.item.clone()
    item[..., :2] = item[..., :2].flip(-1)
    other = clients.with_batch(item=item).outputs()
    assert float((other - clients.outputs())[:, :, -1].abs().max()) > 1e-6


def scores(model: SASRec, tables: Tensors, history: list[int], given: list[bool]) -> torch.Tensor:
    block = UserBlock(
        torch.tensor([[0]]), Features(), torch.tensor([[history]]), torch.tensor([[given]])
    )
    return model.scores(tables, model.encode_items(tables, Features()), block)[0, 0]


def one(model: SASRec, max_history: int = 5) -> Tensors:
    return toy(model, "bce", n_clients=1, max_history=max_history).tables


def test_padding_before_or_behind_a_history_changes_no_score() -> None:
    model = SASRec(dim=4, heads=2)
    tables = one(model)
    plain = scores(model, tables, [3, 1, 7], [True] * 3)
    behind = scores(model, tables, [3, 1, 7, 0, 0], [True] * 3 + [False] * 2)
    before = scores(model, tables, [0, 0, 3, 1, 7], [False] * 2 + [True] * 3)
    torch.testing.assert_close(behind, plain)
    torch.testing.assert_close(before, plain)


def test_of_a_longer_history_the_latest_items_are_read() -> None:
    model = SASRec(dim=4)
    tables = one(model, max_history=3)
    whole = scores(model, tables, [5, 2, 3, 1, 7], [True] * 5)
    torch.testing.assert_close(whole, scores(model, tables, [3, 1, 7], [True] * 3))
    assert not torch.allclose(whole, scores(model, tables, [2, 3, 1, 7][:3], [True] * 3))


def test_without_a_history_all_items_score_0() -> None:
    model = SASRec(dim=4)
    assert scores(model, one(model), [0, 0], [False, False]).tolist() == [0.0] * N_ITEMS


def test_without_a_block_a_place_knows_its_own_item_and_position() -> None:
    model = SASRec(dim=2, blocks=0)
    tables = {
        "item.embedding": torch.tensor([[[1.0, 0.0], [0.0, 2.0]]]),
        "position": torch.tensor([[[0.0, 0.0], [2.5, 0.0], [0.0, 0.0], [0.0, 0.0]]]),
        "norm.gain": torch.ones(1, 2),
        "norm.shift": torch.zeros(1, 2),
    }
    # √2 (0, 2) + (2.5, 0): the second number is larger, the norm makes (−1, 1) of it.
    found = scores(model, tables, [0, 1], [True, True])
    torch.testing.assert_close(found, torch.tensor([-1.0, 2.0]), rtol=1e-3, atol=1e-3)


def test_the_loss_is_the_mean_over_the_places_with_a_next_item() -> None:
    clients = toy(SASRec(dim=4), "bce").with_batch(training=False)
    batch = clients.batch
    assert batch.given is not None
    values = clients.values(clients.tables)
    losses = example_losses(clients.model, values, batch, TASKS["bce"].loss)
    each = TASKS["bce"].loss(clients.outputs(), batch)
    expected = each[0, 0][batch.given[0, 0]].mean()
    torch.testing.assert_close(losses[0, 0], expected)


def test_every_place_of_a_sequence_trains_its_own_negatives() -> None:
    clients = full(SASRec(dim=4))
    length = LENGTH
    item = clients.batch.item.clone()
    item[..., 2 * length + 2] = (item[..., 2 * length + 2] + 1) % N_ITEMS  # place 1's first of two
    changed = (clients.with_batch(item=item).outputs() - clients.outputs()).abs() > 1e-12
    assert changed.any((0, 1)).nonzero().tolist() == [[1, 1]]


def test_heads_divide_the_dimension() -> None:
    with pytest.raises(TrainingError, match="3 heads cannot share 64"):
        SASRec(heads=3).parameters(sizes())


@pytest.mark.parametrize("most", [1, 3, 8])
def test_there_are_as_many_positions_as_a_sequence_may_have_places(most: int) -> None:
    plan = parse_plan({"model": "sasrec", "max_history": most, "sasrec": {"dim": 4}})
    facts = Facts(
        n_users=3,
        n_items=9,
        n_clients=3,
        n_able=3,
        n_valid=0,
        label="implicit",
        n_classes=0,
        n_labels=1,
        n_ratings=1,
        modalities={},
    )
    model = SASRec(**plan.table("sasrec"))
    assert model.parameters(sizes_of(plan, facts))["position"].shape == (most, 4)


def test_no_key_of_the_model_says_otherwise() -> None:
    with pytest.raises(RecipeError, match=r"unknown key 'train\.sasrec\.length'"):
        parse_plan({"model": "sasrec", "sasrec": {"length": 50}})
