"""NeuMF: its two halves by hand, its head, what it refuses."""

from __future__ import annotations

import pytest
import torch

from fedprep.errors import TrainingError
from fedtrain.batch import Batch, Features, UserBlock
from fedtrain.models.ncf import NeuMF
from tests.model_toys import sizes, toy

torch.set_num_threads(1)


def test_a_hand_sized_case() -> None:
    model = NeuMF(dim=2, layers=1)
    values = {
        "user.product": torch.tensor([[[1.0, 2.0]]]),
        "item.product": torch.tensor([[[[3.0, -1.0]]]]),
        "user.mlp": torch.tensor([[[1.0, 0.0]]]),
        "item.mlp": torch.tensor([[[[0.0, 2.0]]]]),
        "mlp.0.weight": torch.tensor([[[1.0, 0.0], [9.0, 9.0], [9.0, 9.0], [1.0, -1.0]]]),
        "mlp.0.bias": torch.tensor([[0.5, 0.5]]),
        "head.weight": torch.tensor([[[1.0], [10.0], [2.0], [7.0]]]),
        "head.bias": torch.tensor([[0.25]]),
    }
    batch = Batch(
        user=torch.tensor([[0]]),
        item=torch.tensor([[[0]]]),
        target=torch.ones(1, 1),
        mask=torch.ones(1, 1, dtype=torch.bool),
        features=Features(),
    )
    # Product (3, −2); perceptron relu(1 + 2 + 0.5, 0 − 2 + 0.5) = (3.5, 0).
    expected = torch.tensor([[[3.0 - 20.0 + 7.0 + 0.25]]])
    torch.testing.assert_close(model.outputs(values, batch), expected)


def test_the_last_layer_is_the_head_and_users_stay_at_home() -> None:
    parameters = NeuMF(dim=8).parameters(sizes(n_outputs=3))
    assert {name for name, p in parameters.items() if p.head} == {"head.weight", "head.bias"}
    assert {n for n, p in parameters.items() if p.scope == "user"} == {"user.product", "user.mlp"}
    assert parameters["head.weight"].shape == (8 + 4, 3)
    assert parameters["mlp.0.weight"].shape == (16, 8)
    assert parameters["mlp.1.weight"].shape == (8, 4)


@pytest.mark.parametrize("options", [{"layers": 0, "product": False}, {"dim": 2, "layers": 3}])
def test_a_model_of_nothing_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(TrainingError, match="nothing is left"):
        NeuMF(**options).parameters(sizes())  # type: ignore[arg-type]


def test_scores_of_classes_are_the_mean_class() -> None:
    clients = toy(NeuMF(dim=4), "classes").with_batch(training=False)
    expected = clients.outputs().softmax(-1) @ torch.arange(3, dtype=torch.float64)
    found = clients.scores().gather(2, clients.batch.item)[..., 0]
    torch.testing.assert_close(found, expected)


def test_scores_do_not_depend_on_how_many_users_are_scored_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clients = toy(NeuMF(dim=4), "bce")
    whole = clients.scores()
    monkeypatch.setattr("fedtrain.models.layers.SCORED_AT_ONCE", 1)
    torch.testing.assert_close(clients.scores(), whole)


def test_a_block_of_no_history_is_enough() -> None:
    clients = toy(NeuMF(dim=4, layers=0), "bce", n_clients=1)
    items = clients.model.encode_items(clients.tables, Features())
    values = {n: t[:, :2] if n.startswith("user") else t for n, t in clients.tables.items()}
    block = UserBlock(torch.tensor([[0, 1]]), Features())
    assert clients.model.scores(values, items, block).shape[:2] == (1, 2)
