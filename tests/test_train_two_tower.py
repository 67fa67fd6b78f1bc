"""The two-tower model: its inputs, its tokens, its head, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from fedprep.errors import TrainingError
from fedtrain.batch import Batch, Features, UserBlock
from fedtrain.models.layers import distinct, linear_parameters
from fedtrain.models.two_tower import TwoTower
from fedtrain.parameters import initial
from fedtrain.tasks import TASKS
from tests.model_toys import BEHAVIOR, IMAGE, N_ITEMS, TEXT, sizes, toy

torch.set_num_threads(1)


def test_the_head_is_the_last_layers_and_nothing_else() -> None:
    parameters = TwoTower(item_id=True, user_id=True).parameters(sizes())
    heads = {name for name, parameter in parameters.items() if parameter.head}
    assert heads == {name for name in parameters if name.startswith("head.")}
    assert {parameters[name].scope for name in heads} == {"shared"}
    scopes = {n: p.scope for n, p in parameters.items() if p.scope != "shared"}
    assert scopes == {"item.embedding": "item", "user.embedding": "user"}


def test_shapes_follow_the_inputs() -> None:
    parameters = TwoTower(dim=6, hidden=3).parameters(sizes(n_outputs=5))
    assert parameters["text.weight"].shape == (TEXT, 6)
    assert parameters["image.weight"].shape == (IMAGE, 6)
    assert parameters["behavior.weight"].shape == (BEHAVIOR, 6)
    assert parameters["head.out.weight"].shape == (3, 5)


def test_an_input_that_the_dataset_lacks_is_named_with_what_there_is() -> None:
    without = replace(sizes(), modalities={"text": 7}, behavior=0)
    with pytest.raises(TrainingError, match=r"no image and no behavior[\s\S]*inputs among: text"):
        TwoTower().parameters(without)


def test_nothing_to_tell_items_apart_is_refused() -> None:
    with pytest.raises(TrainingError, match="nothing to tell items apart"):
        TwoTower(text=False, image=False).parameters(sizes())


@pytest.mark.parametrize("options", [{"fusion": "sum"}, {"head": "linear"}])
def test_an_unknown_option_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(TrainingError, match="unknown"):
        TwoTower(**options).parameters(sizes())  # type: ignore[arg-type]


def test_a_cosine_has_no_classes() -> None:
    with pytest.raises(TrainingError, match="3 classes"):
        TwoTower(head="cosine").parameters(sizes(n_outputs=3))


def test_a_hand_sized_case() -> None:
    """One client, item and user of two numbers: worked out on paper."""
    model = TwoTower(dim=2, hidden=1, image=False)
    values = {
        "text.weight": torch.tensor([[[1.0, 0.0], [0.0, 2.0]]]),
        "text.bias": torch.zeros(1, 2),
        "text.gain": torch.tensor([[1.0, 2.0]]),
        "text.shift": torch.tensor([[0.0, 1.0]]),
        "text.token": torch.tensor([[5.0, 7.0]]),
        "behavior.weight": torch.eye(2)[None],
        "behavior.bias": torch.zeros(1, 2),
        "behavior.gain": torch.ones(1, 2),
        "behavior.shift": torch.zeros(1, 2),
        "head.user.weight": torch.tensor([[[1.0], [2.0]]]),
        "head.user.bias": torch.tensor([[0.5]]),
        "head.item.weight": torch.tensor([[[1.0], [1.0]]]),
        "head.cross.weight": torch.tensor([[[0.0], [-1.0]]]),
        "head.out.weight": torch.tensor([[[3.0]]]),
        "head.out.bias": torch.tensor([[-1.0]]),
    }
    features = Features(
        items={"text": torch.tensor([[1000.0, 1500.0], [0.0, 0.0]])},
        has={"text": torch.tensor([True, False])},
        behavior=torch.tensor([[300.0, 100.0]]),
    )
    batch = Batch(
        user=torch.tensor([[0, 0]]),
        item=torch.tensor([[[0], [1]]]),
        target=torch.zeros(1, 2),
        mask=torch.ones(1, 2, dtype=torch.bool),
        features=features,
    )
    # Item 0: (1000, 3000) normed (-1, 1), with gain and shift (-1, 3). Item 1: the token (5, 7).
    # User: (1, -1). Hidden: user 1 - 2 + 0.5; item 2 and 12; cross -1 · (-1 · 3) and -1 · (-1 · 7).
    expected = torch.tensor([[[3 * (-0.5 + 2 + 3) - 1.0], [3 * (-0.5 + 12 + 7) - 1.0]]])
    torch.testing.assert_close(model.outputs(values, batch), expected)
    items = model.encode_items(values, features)
    scores = model.scores(values, items, UserBlock(torch.tensor([[0]]), features))
    torch.testing.assert_close(scores[0, 0], expected[0, :, 0])


def test_a_gate_weighs_the_modalities_by_their_shares() -> None:
    clients = toy(TwoTower(dim=4, hidden=3), "binary", n_clients=1)
    features = clients.batch.features
    gates = [name for name in clients.tables if name.startswith("gate.")]
    tables = clients.tables | {name: torch.zeros_like(clients.tables[name]) for name in gates}

    def items(text: float, image: float) -> torch.Tensor:
        tables["gate.text.bias"][:], tables["gate.image.bias"][:] = text, image
        return clients.model.encode_items(tables, features)

    text, image = items(50, 0), items(0, 50)
    torch.testing.assert_close(items(0, 0), (text + image) / 2)
    torch.testing.assert_close(items(math.log(3), 0), 0.75 * text + 0.25 * image)
    # By what they hold: an item's weight is its own, and the shares of a pair of equal gates are halves.
    tables["gate.text.weight"] = tables["gate.text.weight"] + 1
    found = items(0, 0)
    share = text.sum(-1, keepdim=True).sigmoid()
    torch.testing.assert_close(found, share * text + (1 - share) * image)


def test_layers_start_by_glorot_and_bengio() -> None:
    assert linear_parameters("x", 3, 5)["x.weight"].scale == pytest.approx(0.5)
    assert linear_parameters("x", 3, 5, gain=2.0)["x.weight"].scale == pytest.approx(0.5**0.5)
    assert linear_parameters("x", 3, 5)["x.bias"].scale == 0


def test_the_scale_of_a_modality_changes_no_output() -> None:
    clients = toy(TwoTower(dim=4, hidden=3), "binary")
    tables = {n: t.zero_() if n == "image.bias" else t for n, t in clients.tables.items()}
    clients = replace(clients, tables=tables)
    batch = clients.batch
    items = batch.features.items
    loud = replace(batch.features, items={"text": items["text"], "image": 1000 * items["image"]})
    louder = clients.with_batch(features=loud).outputs()
    torch.testing.assert_close(louder, clients.outputs(), rtol=1e-4, atol=1e-4)


def test_an_item_without_a_modality_has_its_token() -> None:
    clients = toy(TwoTower(dim=4, hidden=3), "binary")
    batch = clients.batch
    items = batch.features.items
    lacking = ~batch.features.has["image"]
    image = items["image"] + lacking[:, None]  # what stands there is never read
    odd = replace(batch.features, items={"text": items["text"], "image": image})
    torch.testing.assert_close(clients.with_batch(features=odd).outputs(), clients.outputs())
    without = clients.with_batch(item=torch.zeros_like(batch.item)).gradients()
    assert without["image.token"].abs().sum() > 0 and without["image.weight"].abs().sum() == 0


def test_where_few_items_have_a_modality_each_has_the_output_it_has_alone() -> None:
    clients = toy(TwoTower(dim=4, hidden=3), "binary")
    features = clients.batch.features
    has = torch.zeros_like(features.has["image"])
    has[clients.batch.item[0, 3, 0]] = True  # one item, which some clients have and others do not
    few = replace(features, has={**features.has, "image": has})
    together = clients.with_batch(features=few).outputs()
    assert 0 < int(has[clients.batch.item].sum()) < clients.batch.item.numel() / 2
    none = replace(features, has={**features.has, "image": torch.zeros_like(has)})
    assert not together.equal(clients.with_batch(features=none).outputs())
    for place in range(clients.batch.item.shape[1]):
        item = clients.batch.item[:, place : place + 1].expand_as(clients.batch.item)
        alone = clients.with_batch(features=few, item=item).outputs()
        torch.testing.assert_close(alone[:, place], together[:, place])


def test_items_encoded_once_each_give_what_items_encoded_each_time_give(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for dropped in (0.0, 0.5):
        clients = toy(TwoTower(dim=4, hidden=3, modality_dropout=dropped), "bce")
        each, slow = clients.outputs(), clients.gradients()
        monkeypatch.setattr("fedtrain.models.two_tower.WORTH_SORTING", 1)
        torch.testing.assert_close(clients.outputs(), each)
        for name, gradient in clients.gradients().items():
            torch.testing.assert_close(gradient, slow[name])
        monkeypatch.undo()


def test_distinct_items_are_found_for_each_client() -> None:
    once = distinct(torch.tensor([[4, 0, 4, 2], [3, 3, 3, 3]]), 5)
    assert once.ids.tolist() == [[0, 2, 4], [3, 0, 0]]
    assert once.slot.tolist() == [[2, 0, 2, 1], [0, 0, 0, 0]]
    assert once.counts.tolist() == [3, 1]
    assert once.take(once.ids).tolist() == [[4, 0, 4, 2], [3, 3, 3, 3]]
    assert once.first(torch.tensor([[4, 0, 4, 2], [3, 3, 3, 3]]))[:, 0].tolist() == [0, 3]


def test_modalities_are_dropped_in_training_alone() -> None:
    model = TwoTower(dim=4, hidden=3, modality_dropout=1.0)
    clients = toy(model, "binary")
    gradients = clients.gradients()
    assert gradients["text.weight"].abs().sum() == 0 and gradients["text.token"].abs().sum() > 0
    assert clients.with_batch(training=False).gradients()["text.weight"].abs().sum() > 0


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    model = TwoTower(dim=8, hidden=200, dropout=0.25)
    clients = toy(model, "binary", n_clients=1)
    still = clients.with_batch(training=False).outputs()
    seen = []
    for seed in range(60):
        make = torch.Generator().manual_seed(seed)

        def noise(purpose: str, size: int, make: torch.Generator = make) -> torch.Tensor:
            return torch.rand(1, 5, size, generator=make, dtype=torch.float64)

        seen.append(clients.with_batch(noise=noise).outputs())
    mean = torch.stack(seen).mean(0)
    assert not torch.equal(seen[0], still)
    torch.testing.assert_close(mean, still, rtol=0.1, atol=0.5)


def test_mixup_mixes_each_example_with_the_next_of_its_client_and_both_targets() -> None:
    plain = toy(TwoTower(dim=4, hidden=3), "binary")
    batch = plain.batch

    def noise(purpose: str, size: int) -> torch.Tensor:
        return torch.ones(*batch.mask.shape, size, dtype=torch.float64)

    # Weight 1 for the other: a batch mixed with itself moved on by one place is that moved batch.
    mixed = replace(plain, model=TwoTower(dim=4, hidden=3, mixup=1.0)).with_batch(noise=noise)
    torch.testing.assert_close(mixed.losses(), plain.losses())
    outputs, still = mixed.outputs(), plain.outputs()
    for client, n in enumerate(batch.mask.sum(1).tolist()):
        expected = still[client, [*range(1, n), 0]]
        torch.testing.assert_close(outputs[client, :n], expected)


def test_half_a_mixup_has_half_of_each_loss() -> None:
    model = TwoTower(dim=4, hidden=3, mixup=1.0)
    clients = toy(model, "binary")
    batch = replace(clients.batch, noise=lambda _, size: torch.full((3, 5, size), 0.5).double())
    outputs = clients.outputs()
    task = TASKS["binary"].loss
    ones = replace(batch, target=torch.ones(3, 5).double())
    zeros = replace(batch, target=torch.zeros(3, 5).double())
    half = replace(batch, target=torch.tensor([[1.0, 0, 1, 0, 1]] * 3).double())
    expected = (task(outputs, ones) + task(outputs, zeros)) / 2
    torch.testing.assert_close(model.loss(outputs, half, task)[:, :3], expected[:, :3])


def test_scores_of_classes_are_the_mean_class() -> None:
    clients = toy(TwoTower(dim=4, hidden=3), "classes").with_batch(training=False)
    scores = clients.scores()
    shares = clients.outputs().softmax(-1)
    expected = shares @ torch.arange(3, dtype=torch.float64)
    found = scores.gather(2, clients.batch.item)[..., 0]
    torch.testing.assert_close(found, expected)
    assert scores.shape == (3, 5, N_ITEMS)


def test_scores_do_not_depend_on_how_many_users_are_scored_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clients = toy(TwoTower(dim=4, hidden=3), "binary")
    whole = clients.scores()
    monkeypatch.setattr("fedtrain.models.layers.SCORED_AT_ONCE", 1)
    torch.testing.assert_close(clients.scores(), whole)


def test_the_first_loss_is_near_that_of_knowing_nothing() -> None:
    """Of like or dislike that is log 2."""
    model = TwoTower(item_id=True)
    clients = toy(model, "binary", dtype=torch.float32)
    values = initial(model.parameters(sizes()), N_ITEMS, 0)
    tables = {name: value.expand(3, *value.shape) for name, value in values.items()}
    used = clients.batch.mask.sum()
    assert float(clients.losses(tables).sum() / used) == pytest.approx(math.log(2), abs=0.15)
