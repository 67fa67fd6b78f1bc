"""The auto-encoders: their likelihoods, divergence, annealing, and what the encoder is shown."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from fedtrain.batch import Batch, Features, UserBlock
from fedtrain.models.layers import normal
from fedtrain.models.vae import MultVAE, RatingVAE
from fedtrain.tasks import TASKS
from tests.model_toys import N_ITEMS, sizes, toy

torch.set_num_threads(1)


def flat_mult() -> MultVAE:
    return MultVAE(dim=1, hidden=1)


def batch_of(item: list[list[int]], target: list[list[float]], **more: object) -> Batch:
    values = torch.tensor([target])
    return replace(
        Batch(
            user=torch.arange(len(item))[None],
            item=torch.tensor([item]),
            target=values,
            mask=torch.ones(1, len(item), dtype=torch.bool),
            features=Features(),
            given=values > 0,
        ),
        **more,  # type: ignore[arg-type]
    )


def test_the_multinomial_of_equal_logits_is_the_logarithm_of_the_number_of_items() -> None:
    batch = batch_of([[0, 3, 0]], [[1.0, 1.0, 0.0]])
    loss = flat_mult().loss(torch.zeros(1, 1, 5), batch, TASKS["bce"].loss)
    assert loss.item() == pytest.approx(math.log(5))


def test_the_multinomial_takes_the_mean_over_a_users_items() -> None:
    logits = torch.tensor([[[math.log(1), math.log(2), math.log(5)]]])
    batch = batch_of([[1, 2]], [[1.0, 1.0]])
    expected = -(math.log(2 / 8) + math.log(5 / 8)) / 2
    loss = flat_mult().loss(logits, batch, TASKS["bce"].loss)
    assert loss.item() == pytest.approx(expected)


def test_the_divergence_is_that_of_two_normal_distributions() -> None:
    clients = toy(MultVAE(dim=2, hidden=3, kl_weight=1.0, annealing=0.0), "bce")
    tables = {
        name: torch.zeros_like(table) if name.startswith("latent") else table
        for name, table in clients.tables.items()
    }
    values = replace(clients, tables=tables).values(tables)
    _, extra = clients.model.outputs(values, clients.batch)  # type: ignore[misc]
    assert float(torch.as_tensor(extra).abs().max()) == 0
    # z ~ N(3, e^0.5) in both numbers: ½ Σ (9 + e^0.5 − 1 − 0.5), over the rows of the user.
    tables["latent.mean.bias"] += 3
    tables["latent.log_variance.bias"] += 0.5
    _, extra = clients.model.outputs(clients.values(tables), clients.batch)  # type: ignore[misc]
    assert clients.batch.given is not None
    rows = clients.batch.given.sum(-1).clamp(min=1)
    expected = (9 + math.exp(0.5) - 1.5) / rows
    torch.testing.assert_close(torch.as_tensor(extra), expected.double())


@pytest.mark.parametrize("model", [MultVAE, RatingVAE])
def test_the_divergence_weighs_more_as_rounds_pass(model: type) -> None:
    task = "bce" if model is MultVAE else "rating"
    clients = toy(model(dim=2, hidden=3, annealing=0.5, kl_weight=0.3), task)

    def extra(progress: float) -> torch.Tensor:
        batch = replace(clients.batch, progress=progress)
        found = clients.model.outputs(clients.values(clients.tables), batch)
        assert isinstance(found, tuple)
        return found[1]

    assert float(extra(0.0).sum()) == 0
    torch.testing.assert_close(extra(0.25), extra(1.0) / 2)
    torch.testing.assert_close(extra(0.5), extra(1.0))
    at_once = replace(clients, model=model(dim=2, hidden=3, annealing=0.0, kl_weight=0.3))
    found = at_once.model.outputs(
        at_once.values(at_once.tables), replace(clients.batch, progress=0.0)
    )
    torch.testing.assert_close(found[1], extra(1.0))


def test_only_items_at_a_client_have_encoder_rows_but_all_are_in_the_multinomial() -> None:
    clients = toy(MultVAE(dim=2, hidden=3, dropout=0.0), "bce", n_clients=1)
    given = torch.as_tensor(clients.batch.given) & (torch.arange(5) < 2)
    clients = clients.with_batch(given=given, target=given.double())
    gradients = clients.gradients()
    assert clients.batch.given is not None
    held = set(clients.batch.item[clients.batch.given].tolist())
    touched = gradients["encoder.item"].abs().sum((0, 2)).nonzero().flatten().tolist()
    assert set(touched) == held and len(held) < N_ITEMS
    assert bool((gradients["decoder.item"].abs().sum((0, 2)) > 0).all())


def rating_values(hidden: int = 1) -> dict[str, torch.Tensor]:
    """Encoder and decoder of nothing: what is left is the mean and the two offsets."""
    return {
        "encoder.bias": torch.zeros(1, hidden),
        "latent.mean.weight": torch.zeros(1, hidden, 1),
        "latent.mean.bias": torch.zeros(1, 1),
        "latent.log_variance.weight": torch.zeros(1, hidden, 1),
        "latent.log_variance.bias": torch.zeros(1, 1),
        "decoder.weight": torch.zeros(1, 1, hidden),
        "decoder.bias": torch.zeros(1, hidden),
    }


def test_a_users_vector_has_length_1_before_the_encoder() -> None:
    values = rating_values() | {
        "latent.mean.weight": torch.ones(1, 1, 1),
        "decoder.weight": torch.ones(1, 1, 1),
        "encoder.item": torch.ones(1, 5, 1),
        "decoder.item": torch.tensor([[[1.0], [2.0], [3.0], [4.0], [5.0]]]),
        "decoder.item_bias": torch.tensor([[0.5, 0.0, 0.0, 0.0, 0.0]]),
    }
    history = torch.tensor([[[0, 1, 2, 3]]])
    block = UserBlock(torch.tensor([[0]]), Features(), history, torch.ones(1, 1, 4).bool())
    model = flat_mult()
    scores = model.scores(values, model.encode_items(values, Features()), block)
    # Four items, each ½: h = tanh(4 · ½), z = h, d = tanh(z).
    d = math.tanh(math.tanh(2.0))
    torch.testing.assert_close(scores[0, 0], torch.tensor([d + 0.5, 2 * d, 3 * d, 4 * d, 5 * d]))


def test_what_is_drawn_for_z_is_normal() -> None:
    make = torch.Generator().manual_seed(0)

    def noise(purpose: str, size: int) -> torch.Tensor:
        return torch.rand(1, 4_000, size, generator=make)

    batch = replace(batch_of([[0]], [[1.0]]), mask=torch.ones(1, 4_000).bool(), noise=noise)
    drawn = normal(batch, "latent", 5)
    assert drawn.shape == (1, 4_000, 5)
    assert float(drawn.mean()) == pytest.approx(0, abs=0.03)
    assert float(drawn.std()) == pytest.approx(1, abs=0.03)
    assert float((drawn.abs() < 1).float().mean()) == pytest.approx(0.6827, abs=0.02)
    assert float(normal(replace(batch, training=False), "latent", 5).abs().max()) == 0


def test_a_users_offset_is_the_shrunk_mean_of_residuals() -> None:
    model = RatingVAE(dim=1, hidden=1, mean=3.0, shrinkage=2.0)
    bias = torch.tensor([[0.5, -0.5, 0.25]])  # of the items 0, 1, 2
    values = rating_values() | {
        "encoder.rating": torch.zeros(1, 3, 1),
        "encoder.seen": torch.zeros(1, 3, 1),
        "decoder.item": torch.zeros(1, 3, 1),
        "item_bias": bias,
    }
    items = model.encode_items(values, Features())
    block = UserBlock(
        torch.tensor([[0]]),
        Features(),
        torch.tensor([[[0, 1, 0]]]),
        torch.tensor([[[True, True, False]]]),
        torch.tensor([[[5.0, 4.0, 0.0]]]),
    )
    # Residuals 5 − 3 − 0.5 and 4 − 3 + 0.5, over 2 + 2.
    expected = 3.0 + bias + (1.5 + 1.5) / 4
    torch.testing.assert_close(model.scores(values, items, block)[0], expected)


def test_half_the_mean_squared_error_is_the_loss_of_ratings() -> None:
    batch = batch_of([[0, 1, 0]], [[5.0, 3.0, 0.0]])
    outputs = torch.tensor([[[4.0, 1.0, 9.0]]])
    loss = RatingVAE().loss(outputs, batch, TASKS["rating"].loss)
    assert loss.item() == pytest.approx(0.5 * (1 + 4) / 2)


def test_the_loss_of_the_hidden_ratings_alone() -> None:
    def noise(purpose: str, size: int) -> torch.Tensor:
        return torch.tensor([[[0.9, 0.1, 0.2]]])  # the first is shown

    batch = batch_of([[0, 1, 2]], [[5.0, 3.0, 1.0]], noise=noise)
    outputs = torch.tensor([[[0.0, 1.0, 2.0]]])
    task = TASKS["rating"].loss
    assert RatingVAE(hidden_only=True).loss(outputs, batch, task).item() == pytest.approx(
        0.5 * (4 + 1) / 2
    )
    still = replace(batch, training=False)
    assert RatingVAE(hidden_only=True).loss(outputs, still, task).item() == pytest.approx(
        0.5 * (25 + 4 + 1) / 3
    )


def test_a_hidden_rating_reaches_the_output_by_no_way() -> None:
    clients = toy(RatingVAE(dim=2, hidden=3), "rating", n_clients=1)
    batch = clients.batch
    assert batch.noise is not None and batch.given is not None
    hidden = batch.given & (batch.noise("input", 5) < 0.5)
    assert hidden.any() and (batch.given & ~hidden).any()
    other = clients.with_batch(target=torch.where(hidden, 1.0, batch.target))
    torch.testing.assert_close(other.outputs(), clients.outputs(), rtol=0, atol=0)
    shown = clients.with_batch(target=torch.where(hidden, batch.target, batch.target + 1))
    assert not torch.allclose(shown.outputs(), clients.outputs())


def test_a_user_without_rows_has_finite_scores() -> None:
    for model, task in ((MultVAE(dim=2, hidden=3), "bce"), (RatingVAE(dim=2, hidden=3), "rating")):
        clients = toy(model, task)
        assert clients.batch.given is not None
        nothing = torch.zeros_like(clients.batch.given)
        empty = clients.with_batch(given=nothing, target=clients.batch.target * 0, training=False)
        assert bool(empty.scores().isfinite().all()) and bool(empty.losses().isfinite().all())


def test_a_light_divergence_reconstructs_what_a_heavy_one_forgets() -> None:
    def after(weight: float) -> float:
        model = RatingVAE(dim=4, hidden=8, mean=3.0, dropout=0.0, annealing=0.0, kl_weight=weight)
        clients = toy(model, "rating", n_clients=1, dtype=torch.float32)
        leaves = {name: table.clone().requires_grad_() for name, table in clients.tables.items()}
        optimizer = torch.optim.Adam(leaves.values(), lr=0.02)
        for _ in range(120):
            optimizer.zero_grad()
            clients.losses(leaves).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        tables = {name: leaf.detach() for name, leaf in leaves.items()}
        still = replace(clients, tables=tables).with_batch(training=False)
        task = TASKS["rating"].loss
        return float(model.loss(still.outputs(), still.batch, task)[still.batch.mask].mean())

    assert after(0.001) < after(20.0)


def test_the_items_rows_are_items_and_the_rest_is_shared() -> None:
    scopes = {n: p.scope for n, p in RatingVAE().parameters(sizes()).items()}
    assert {n for n, s in scopes.items() if s == "item"} == {
        "encoder.rating", "encoder.seen", "decoder.item", "item_bias",
    }  # fmt: skip
    assert "user" not in scopes.values()
