"""What every model holds: one suite for all of `MODELS`."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fedprep.errors import RecipeError
from fedtrain.models import MODELS, Model
from fedtrain.parameters import initial
from tests.model_toys import N_ITEMS, Toy, learn, sizes, toy

torch.set_num_threads(1)

CASES = {
    "mf": ("mf", "rating", {"dim": 3}),
    "mf bce": ("mf", "bce", {"dim": 3, "bias": False}),
    "two_tower": ("two_tower", "binary", {"dim": 4, "hidden": 3}),
    "two_tower classes": (
        "two_tower", "classes", {"dim": 4, "hidden": 3, "fusion": "concat", "item_id": True, "user_id": True},
    ),
    "two_tower noisy": (
        "two_tower", "bce",
        {"dim": 4, "hidden": 3, "mixup": 0.7, "modality_dropout": 0.4, "dropout": 0.3, "item_id": True},
    ),
    "two_tower ids": (
        "two_tower", "bpr",
        {"dim": 4, "text": False, "image": False, "behavior": False, "item_id": True, "user_id": True},
    ),
    "two_tower cosine": (
        "two_tower", "softmax",
        {"dim": 4, "head": "cosine", "image": False, "behavior": False, "temperature": 0.5},
    ),
    "mult_vae": ("mult_vae", "bce", {"dim": 2, "hidden": 3}),
    "rating_vae": ("rating_vae", "rating", {"dim": 2, "hidden": 3, "mean": 3.5}),
    "rating_vae hidden": ("rating_vae", "rating", {"dim": 2, "hidden": 3, "hidden_only": True}),
    "ncf": ("ncf", "bce", {"dim": 4, "dropout": 0.3}),
    "ncf product": ("ncf", "rating", {"dim": 4, "layers": 0}),
    "ncf mlp": ("ncf", "classes", {"dim": 4, "layers": 3, "product": False}),
    "two_tower deep": (
        "two_tower", "binary", {"dim": 4, "hidden": [5, 3, 2], "dropout": [0.3, 0.0, 0.2]},
    ),
    "mult_vae deep": ("mult_vae", "bce", {"dim": 2, "hidden": [4, 3]}),
    "rating_vae deep": ("rating_vae", "rating", {"dim": 2, "hidden": [4, 3], "mean": 3.5}),
    "ncf deep": ("ncf", "bce", {"dim": 4, "hidden": [6, 3], "dropout": [0.3, 0.1]}),
    "sasrec": ("sasrec", "bce", {"dim": 4, "dropout": 0.2}),
    "sasrec heads": ("sasrec", "softmax", {"dim": 4, "heads": 2, "blocks": 1}),
    "lightgcn": ("lightgcn", "bpr", {"dim": 3}),
    "lightgcn rating": ("lightgcn", "rating", {"dim": 3, "layers": 1}),
    "lightgcn plain": ("lightgcn", "bce", {"dim": 3, "hidden": 0.0}),
}  # fmt: skip


def model_of(case: str) -> Model:
    name, _, options = CASES[case]
    model: Model = MODELS[name](**options)
    return model


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def clients(case: str) -> Toy:
    return toy(model_of(case), CASES[case][1])


def test_every_model_stands_in_this_suite() -> None:
    assert {name for name, _, _ in CASES.values()} == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_every_keyword_of_a_model_is_explained(name: str) -> None:
    text = inspect.getdoc(MODELS[name]) or ""
    named = text.replace(":", ",").replace("·", ",").replace(" ", ",").replace("\n", ",").split(",")
    lacking = set(inspect.signature(MODELS[name]).parameters) - set(named)
    assert not lacking


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("two_tower", {"hidden": []}),
        ("two_tower", {"hidden": 0}),
        ("two_tower", {"hidden": [4, 0]}),
        ("two_tower", {"hidden": [4, 3], "dropout": [0.1]}),
        ("two_tower", {"dropout": [0.1, 0.2]}),
        ("two_tower", {"dropout": [1.0]}),
        ("ncf", {"hidden": []}),
        ("ncf", {"layers": [3, -1]}),
        ("ncf", {"layers": 3, "hidden": [4]}),
        ("ncf", {"hidden": [4, 3], "dropout": [0.1]}),
        ("mult_vae", {"hidden": []}),
        ("rating_vae", {"hidden": [3, 0]}),
    ],
)
def test_widths_and_shares_that_fit_no_layer_are_refused(
    name: str, options: dict[str, Any]
) -> None:
    with pytest.raises(RecipeError, match=r"hidden|dropout|layers"):
        MODELS[name](**options)


def test_a_list_of_one_width_is_the_number_itself() -> None:
    pairs: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
        ("two_tower", {"hidden": 5, "dropout": 0.2}, {"hidden": [5], "dropout": [0.2]}),
        ("mult_vae", {"hidden": 5}, {"hidden": [5]}),
        ("rating_vae", {"hidden": 5}, {"hidden": [5]}),
        ("ncf", {"dim": 4, "layers": 2}, {"dim": 4, "hidden": [4, 2]}),
        ("ncf", {"dim": 4, "layers": 2}, {"dim": 4, "layers": [4, 2]}),
    )
    for name, number, several in pairs:
        one, other = (MODELS[name](**options) for options in (number, several))
        assert one.parameters(sizes()) == other.parameters(sizes())


def test_a_list_of_widths_gives_those_layers() -> None:
    found = MODELS["two_tower"](dim=8, hidden=[48, 24]).parameters(sizes())
    assert found["head.1.weight"].shape == (48, 24)
    assert found["head.out.weight"].shape == (24, 1)
    found = MODELS["ncf"](dim=8, hidden=[32, 16]).parameters(sizes())
    assert [found[f"mlp.{n}.weight"].shape for n in range(2)] == [(16, 32), (32, 16)]
    found = MODELS["mult_vae"](dim=2, hidden=[6, 4]).parameters(sizes())
    assert found["encoder.1.weight"].shape == (6, 4)
    assert found["decoder.1.weight"].shape == (4, 6)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_names_its_paper(name: str) -> None:
    module = inspect.getmodule(MODELS[name])
    assert module is not None and "Reference:" in (module.__doc__ or "")


def test_parameters_start_finite_and_alike_for_equal_seeds(case: str) -> None:
    parameters = model_of(case).parameters(sizes(3 if CASES[case][1] == "classes" else 1))
    first, second = (initial(parameters, N_ITEMS, 5) for _ in range(2))
    assert set(first) == {name for name, p in parameters.items() if p.scope != "user"}
    for name, value in first.items():
        assert torch.equal(value, second[name]) and bool(value.isfinite().all())


def test_the_losses_are_finite_and_differ_between_clients(clients: Toy) -> None:
    losses = clients.losses()
    assert losses.shape == (3,) and bool(losses.isfinite().all())
    assert len(losses.unique()) == 3


def test_gradients_equal_finite_differences(clients: Toy) -> None:
    gradients = clients.gradients()
    make = torch.Generator().manual_seed(3)
    step = 1e-6
    for name, gradient in gradients.items():
        direction = torch.randn(gradient.shape, generator=make, dtype=gradient.dtype)
        ends = [
            clients.losses(clients.tables | {name: clients.tables[name] + sign * step * direction})
            for sign in (1, -1)
        ]
        difference = (ends[0] - ends[1]) / (2 * step)
        expected = (gradient * direction).flatten(1).sum(1)
        torch.testing.assert_close(expected, difference, rtol=1e-5, atol=1e-7, msg=name)


def test_permuting_clients_permutes_losses_and_gradients(clients: Toy) -> None:
    order = [2, 0, 1]
    torch.testing.assert_close(clients.only(order).losses(), clients.losses()[order])
    whole = clients.gradients()
    for name, gradient in clients.only(order).gradients().items():
        torch.testing.assert_close(gradient, whole[name][order])


def test_clients_side_by_side_equal_clients_one_by_one(clients: Toy) -> None:
    whole, losses = clients.gradients(), clients.losses()
    for client in range(3):
        alone = clients.only([client])
        torch.testing.assert_close(alone.losses(), losses[[client]])
        for name, gradient in alone.gradients().items():
            torch.testing.assert_close(gradient, whole[name][[client]])


def test_a_padded_place_changes_no_loss_and_no_gradient(clients: Toy) -> None:
    batch = clients.batch
    given = batch.mask if batch.given is None else batch.given
    padded = ~batch.mask
    assert padded.any()
    item, target, user = batch.item.clone(), batch.target.clone(), batch.user.clone()
    item[padded] = N_ITEMS - 1
    user[padded] = 0
    target[padded] = 1
    if batch.given is not None:
        length = given.shape[-1]
        item[..., :length] = torch.where(given, item[..., :length], N_ITEMS - 1)
    other = clients.with_batch(item=item, target=target, user=user)
    torch.testing.assert_close(other.losses(), clients.losses())
    before = clients.gradients()
    for name, gradient in other.gradients().items():
        torch.testing.assert_close(gradient, before[name], msg=name)


def test_more_padding_changes_nothing(clients: Toy) -> None:
    batch = clients.batch
    noise = batch.noise
    assert noise is not None

    def wider(values: torch.Tensor) -> torch.Tensor:
        return torch.cat([values, torch.zeros_like(values[:, :2])], 1)

    more = clients.with_batch(
        user=wider(batch.user),
        item=wider(batch.item),
        target=wider(batch.target),
        mask=wider(batch.mask),
        given=None if batch.given is None else wider(batch.given),
        noise=lambda purpose, size: wider(noise(purpose, size)),
    )
    torch.testing.assert_close(more.losses(), clients.losses())


def test_without_training_nothing_is_drawn(clients: Toy) -> None:
    still = clients.with_batch(training=False)
    silent = clients.with_batch(training=False, noise=None)
    torch.testing.assert_close(still.losses(), silent.losses(), rtol=0, atol=0)


def test_server_tables_may_stand_once_for_all_clients(clients: Toy) -> None:
    def scores(*, once: bool) -> torch.Tensor:
        tables = {
            name: table
            if clients.scopes[name] == "user"
            else table[:1].expand(1 if once else 3, *table.shape[1:])
            for name, table in clients.tables.items()
        }
        return replace(clients, tables=tables).scores()

    torch.testing.assert_close(scores(once=True), scores(once=False))


def test_scores_are_the_outputs(clients: Toy) -> None:
    """But for what is the same for all of a user's items, and for classes: see the models' own files."""
    if clients.task == "classes":
        return
    still = clients.with_batch(training=False)
    scores = still.scores()
    assert scores.shape == (*clients.batch.user.shape, N_ITEMS)
    item, outputs, used = still.scored()
    constant = outputs - scores.gather(2, item)
    mean = (constant * used).sum(-1, keepdim=True) / used.sum(-1, keepdim=True).clamp(min=1)
    assert used.any()
    torch.testing.assert_close(constant[used], mean.expand_as(constant)[used])
    if still.batch.given is not None:
        torch.testing.assert_close(mean, torch.zeros_like(mean))


def test_a_plain_central_loop_learns(case: str) -> None:
    before, after = learn(model_of(case), CASES[case][1])
    assert after < 0.7 * before


@pytest.mark.parametrize("name", MODELS)
def test_every_model_and_key_is_documented(name: str) -> None:
    page = (Path(__file__).parent.parent / "docs/models.md").read_text(encoding="utf-8")
    assert f"| `{name}` |" in page
    own = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    if name == "rating_vae":  # its page says: the keys of mult_vae, and …
        own += page.partition("\n## mult_vae\n")[2].partition("\n## ")[0]
    assert {
        key for key in inspect.signature(MODELS[name]).parameters if f"`{key}`" not in own
    } == set()
