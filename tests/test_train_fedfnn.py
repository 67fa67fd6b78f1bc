"""FedFNN: what the meta-models learn, how the folds judge them, who is moved and who is not."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
torch.set_num_threads(1)

from federations import (  # noqa: E402
    assert_same_bits,
    begin,
    federation_of_rows,
    random_federation,
    rounds,
    state_of,
    work_of,
)
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from fedprep.errors import RecipeError, TrainingError  # noqa: E402
from fedtrain.algorithms import ALGORITHMS  # noqa: E402
from fedtrain.algorithms.fedfnn import fedfnn, reference  # noqa: E402
from fedtrain.batch import Features  # noqa: E402
from fedtrain.chunks import chunks_of  # noqa: E402
from fedtrain.engine import Work, train_chunk  # noqa: E402
from fedtrain.metamodels import (  # noqa: E402
    META_MODELS,
    PENALTIES,
    Fitted,
    Fitting,
    Samples,
    batches,
    folds_of,
    linear,
    mlp,
    starts,
)
from fedtrain.rounds import do_round  # noqa: E402
from fedtrain.settings import parse_plan  # noqa: E402

FITTING = Fitting(hidden=16, epochs=80, patience=10, batch=32, lr=0.02, seed=7)
MF = {"model": "mf", "mf": {"dim": 3, "start": 0.5, "bias": False}, "lr": 0.3}


def samples_of(inputs: torch.Tensor, changes: torch.Tensor, n_folds: int = 5) -> Samples:
    fold, n_folds = folds_of(np.arange(len(inputs)), n_folds, seed=1)
    return Samples(inputs, changes, torch.from_numpy(fold), n_folds)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- meta-models -------------------------------------------------------------------------------------


def test_the_linear_metamodel_recovers_a_planted_linear_relation() -> None:
    inputs, weights = normal(80, 4), normal(4, 3, seed=1)
    shift = torch.tensor([5.0, 0.0, -2.0], dtype=torch.float64)
    fitted = linear(samples_of(inputs, inputs @ weights + shift), FITTING)
    assert PENALTIES[fitted.chosen] == min(PENALTIES)
    assert fitted.r2 == pytest.approx(1.0, abs=1e-6)
    new = normal(10, 4, seed=2)
    torch.testing.assert_close(fitted.predict(new), new @ weights + shift, atol=1e-4, rtol=0)


def test_the_network_learns_a_planted_relation_that_no_line_is_near() -> None:
    inputs = normal(300, 3)
    changes = torch.stack([inputs[:, 0].abs(), inputs[:, 1] * (inputs[:, 2] > 0)], 1)
    samples = samples_of(inputs, changes)
    net, line = mlp(samples, FITTING), linear(samples, FITTING)
    assert net.r2 > 0.9 > 0.5 > line.r2
    new = normal(200, 3, seed=2)
    wanted = torch.stack([new[:, 0].abs(), new[:, 1] * (new[:, 2] > 0)], 1)
    missed = (net.predict(new) - wanted).square().sum()
    assert missed < 0.1 * (wanted - wanted.mean(0)).square().sum()


@pytest.mark.parametrize("meta", META_MODELS)
def test_where_nothing_can_be_learned_everybody_is_given_about_the_mean(meta: str) -> None:
    inputs, changes = normal(60, 5), normal(60, 2, seed=1) + 3.0
    fitted = META_MODELS[meta](samples_of(inputs, changes), FITTING)
    assert 0.0 - 0.1 < fitted.r2 < 0.1
    assert fitted.explained > 0.8  # the mean alone is near: it is 3 where the deviation is 1
    spread = (fitted.predict(inputs) - changes.mean(0)).square().mean().sqrt()
    assert spread < 0.5


@pytest.mark.parametrize("meta", META_MODELS)
def test_changes_that_are_all_alike_or_all_zero_are_predicted_as_they_are(meta: str) -> None:
    inputs = normal(12, 2)
    alike = torch.full((12, 2), 0.25, dtype=torch.float64)
    fitted = META_MODELS[meta](samples_of(inputs, alike), FITTING)
    assert fitted.explained == pytest.approx(1.0)
    torch.testing.assert_close(fitted.predict(inputs), alike)
    still = META_MODELS[meta](samples_of(inputs, 0 * alike), FITTING)
    assert still.explained == 0.0 and not still.predict(inputs).any()


def standard(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return (values - like.mean(0)) / like.std(0, unbiased=False)


def plain_line(
    x: torch.Tensor, y: torch.Tensor, held: torch.Tensor, penalty: float
) -> torch.Tensor:
    """Fits a ridge on (x, y) alone and returns its predictions for `held`."""
    z = standard(x, x)
    if penalty == float("inf"):
        weights = torch.zeros(x.shape[1], y.shape[1], dtype=x.dtype)
    else:
        square = z.T @ z + penalty * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
        weights = torch.linalg.solve(square, z.T @ (y - y.mean(0)))
    return standard(held, x) @ weights + y.mean(0)


def plain_nets(
    samples: Samples, used: torch.Tensor, held: torch.Tensor, epochs: int
) -> list[torch.Tensor]:
    """Fits a network on the used samples alone, by autograd; returns its predictions after each epoch."""
    x, y = samples.inputs[used], samples.changes[used]
    scale = (y - y.mean(0)).square().mean().sqrt()
    hidden = torch.nn.Linear(x.shape[1], FITTING.hidden)
    last = torch.nn.Linear(FITTING.hidden, y.shape[1])
    first, bias, second, shift = starts(x.shape[1], FITTING.hidden, y.shape[1], FITTING.seed)
    with torch.no_grad():
        for own, start in (
            (hidden.weight, first.T), (hidden.bias, bias[0]), (last.weight, second.T), (last.bias, shift[0])
        ):  # fmt: skip
            own.copy_(start)
    net = torch.nn.Sequential(hidden, torch.nn.ReLU(), last)
    adam = torch.optim.Adam(net.parameters(), lr=FITTING.lr)

    def predictions() -> torch.Tensor:
        return net(standard(held, x).float()).detach().double() * scale + y.mean(0)

    found = [predictions()]
    for epoch in range(1, epochs + 1):
        for rows in batches(len(samples.fold), FITTING.batch, FITTING.seed, epoch):
            mine = rows[used[rows]]
            wanted = ((samples.changes[mine] - y.mean(0)) / scale).float()
            adam.zero_grad()
            torch.nn.functional.mse_loss(
                net(standard(samples.inputs[mine], x).float()), wanted
            ).backward()
            adam.step()
        found.append(predictions())
    return found


@pytest.mark.parametrize("meta", META_MODELS)
def test_folds_side_by_side_are_folds_one_after_the_other_each_judged_by_what_never_saw_it(
    meta: str,
) -> None:
    inputs = normal(67, 3)
    changes = torch.stack([inputs[:, 0].abs(), inputs[:, 1]], 1) + 0.5 * normal(67, 2, seed=1)
    samples = samples_of(inputs, changes, n_folds=4)
    fitted = META_MODELS[meta](samples, FITTING)
    missed, spread = 0.0, 0.0
    for fold in range(samples.n_folds):
        used = samples.fold != fold
        x, y, held = inputs[used], changes[used], inputs[~used]
        if meta == "linear":
            found = plain_line(x, y, held, PENALTIES[fitted.chosen])
        else:
            found = plain_nets(samples, used, held, fitted.chosen)[-1]
        missed += float((changes[~used] - found).square().sum())
        spread += float((changes[~used] - y.mean(0)).square().sum())
    assert fitted.r2 == pytest.approx(1 - missed / spread, abs=1e-4)
    everyone = torch.ones(67, dtype=torch.bool)
    new = normal(9, 3, seed=3)
    if meta == "linear":
        found = plain_line(inputs, changes, new, PENALTIES[fitted.chosen])
    else:
        found = plain_nets(samples, everyone, new, fitted.chosen)[-1]
    torch.testing.assert_close(fitted.predict(new), found, atol=1e-3, rtol=0)


@settings(max_examples=30, deadline=None)
@given(
    groups=st.lists(st.integers(0, 30), min_size=1, max_size=60),
    n_folds=st.integers(2, 7),
    seed=st.integers(0, 99),
)
def test_folds_keep_a_client_together_and_are_even(
    groups: list[int], n_folds: int, seed: int
) -> None:
    ids = np.array(groups)
    fold, found = folds_of(ids, n_folds, seed)
    assert found == min(n_folds, len(set(groups)))
    of_client = dict(zip(groups, fold.tolist(), strict=True))
    assert [of_client[group] for group in groups] == fold.tolist()
    sizes = np.bincount(list(of_client.values()), minlength=found)
    assert sizes.min() >= 1 and np.ptp(sizes) <= 1
    order = np.random.default_rng(seed).permutation(len(ids))
    assert folds_of(ids[order], n_folds, seed)[0].tolist() == fold[order].tolist()


# --- rounds ------------------------------------------------------------------------------------------


def work(federation: Any = None, **table: Any) -> Work:
    federation = federation or random_federation(5, n_clients=24)
    return work_of(federation, **{**MF, "algorithm": "fedfnn", **table})


SOME = np.array([1, 3, 4, 8, 9, 13, 17, 21, 22])


@pytest.mark.parametrize("meta", META_MODELS)
@pytest.mark.parametrize("weights", ["magnitude", "interactions"])
def test_a_round_is_what_the_reference_says(
    meta: str, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Fitted] = []

    def noting(samples: Samples, fitting: Fitting) -> Fitted:
        kept.append(replace(real(samples, fitting), explained=1.0))
        return kept[-1]

    real = META_MODELS[meta]
    monkeypatch.setitem(META_MODELS, meta, noting)
    table = {"meta": meta, "item_weights": weights, "side": False, "discount": 0.7, "epochs": 5}
    mine = work(fedfnn=table)
    server, clients = begin(mine)
    before = clients.users["user_factors"].clone()
    changes, rows = [], []
    for client in SOME:
        (chunk,) = chunks_of(mine.federation, np.array([client]), 1, 1)
        local = train_chunk(mine, server.at(1), clients, chunk)
        items = local.row_item.tolist()
        changes.append(dict(zip(items, local.delta("item_factors").double(), strict=True)))
        rows.append(int(mine.federation.train.counts[client]))
    outcome = do_round(mine, server.at(1), clients, SOME)
    after = clients.users["user_factors"]
    delegates = np.flatnonzero(np.isin(mine.federation.slot_client, SOME))
    items_after, vectors = reference(
        server.values["item_factors"].double(),
        changes,
        rows,
        {slot: vector.double() for slot, vector in enumerate(before)},
        {int(slot): after[slot].double() for slot in delegates},
        lambda vector: kept[0].predict(vector[None])[0],
        discount=0.7,
        magnitude=weights == "magnitude",
    )
    close = {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(outcome.server.values["item_factors"].double(), items_after, **close)
    expected = torch.stack([vectors[slot] for slot in range(len(before))])
    torch.testing.assert_close(after.double(), expected, **close)
    assert (after != before).any(1).all()
    assert outcome.figures["fedfnn/predicted"] == len(before) - len(delegates)


def test_without_predictions_and_weighted_by_interactions_it_is_federated_averaging() -> None:
    cohorts = [SOME, np.array([0, 3, 5, 20])]
    own = rounds(work(fedfnn={"discount": 0.0}), 2, cohorts)
    plain = rounds(work(algorithm="fedavg"), 2, cohorts)
    assert_same_bits(state_of(*own[1:]), state_of(*plain[1:]))
    assert all(outcome.figures["fedfnn/predicted"] == 0 for outcome in own[0])


def test_every_vector_that_the_server_sees_is_counted_in_bytes_both_ways() -> None:
    (own,), _, _ = rounds(work(), 1, [SOME])
    (plain,), _, _ = rounds(work(algorithm="fedavg"), 1, [SOME])
    users = np.isin(work().federation.slot_client, SOME).sum()
    assert own.bytes_up - plain.bytes_up == 4 * 3 * users
    assert own.bytes_down - plain.bytes_down == 4 * 3 * users


def test_it_says_which_private_rows_the_server_sees_and_no_other_algorithm_shows_any() -> None:
    parameters = work().parameters
    for name, constructor in ALGORITHMS.items():
        revealed = constructor().reveals(parameters)
        assert revealed == ({"user_factors"} if name == "fedfnn" else frozenset())
        assert revealed <= constructor().private(parameters)


def test_users_without_rows_and_clients_that_are_held_out_stay_as_they_were() -> None:
    rows = [
        (client, client, item, float(1 + (client + item) % 5), "train")
        for client in range(30)
        for item in range(1 + client % 5)
    ]
    rows += [(client, 100 + client, 7, 4.0, "valid") for client in range(30)]
    federation = federation_of_rows(rows, n_items=8, n_clients=30)
    mine = work(federation, valid_clients=0.2, test_clients=0.1, fedfnn={"meta": "linear"})
    from fedtrain.samplers import held_out

    valid, test = held_out(federation.train.counts, 0.2, 0.1, mine.seed)
    cohort = np.flatnonzero(~valid & ~test)[:12]
    server, clients = begin(mine)
    before = clients.users["user_factors"].clone()
    outcome = do_round(mine, server.at(1), clients, cohort)
    moved = (clients.users["user_factors"] != before).any(1).numpy()
    trains = federation.slot_rows > 0
    held = (valid | test)[federation.slot_client]
    assert held.sum() == 2 * (valid | test).sum() > 0
    np.testing.assert_array_equal(moved, trains & ~held)
    assert outcome.figures["fedfnn/predicted"] == (trains & ~held).sum() - len(cohort)


@pytest.mark.parametrize("weights", ["magnitude", "interactions"])
def test_chunks_threads_and_the_order_of_the_cohort_change_no_bit(weights: str) -> None:
    table = {"item_weights": weights, "epochs": 6, "hidden": 8}
    first = state_of(*rounds(work(fedfnn=table), 2, [SOME, SOME])[1:])
    second = state_of(*rounds(work(fedfnn=table, chunk_rows=1), 2, [SOME[::-1], SOME])[1:])
    assert_same_bits(first, second)
    torch.set_num_threads(2)
    try:
        third = state_of(*rounds(work(fedfnn=table), 2, [SOME, SOME])[1:])
    finally:
        torch.set_num_threads(1)
    assert_same_bits(first, third)


def foretelling(change: float, explained: float) -> Any:
    def fit(samples: Samples, fitting: Fitting) -> Fitted:
        def predict(inputs: torch.Tensor) -> torch.Tensor:
            return torch.full((len(inputs), samples.changes.shape[1]), change, dtype=torch.float64)

        return Fitted(predict=predict, r2=0.0, explained=explained, chosen=0)

    return fit


@pytest.mark.parametrize(("side", "width"), [(True, 3 + 1 + 2), (False, 3)])
def test_the_metamodel_is_given_rows_and_behaviour_of_each_user_unless_told_not_to(
    side: bool, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[torch.Tensor] = []

    def noting(samples: Samples, fitting: Fitting) -> Fitted:
        given.append(samples.inputs)
        found: Fitted = foretelling(0.0, explained=1.0)(samples, fitting)
        return found

    monkeypatch.setitem(META_MODELS, "mlp", noting)
    federation = random_federation(5, n_clients=24)
    users = torch.arange(federation.n_users, dtype=torch.float32)
    mine = work(
        federation,
        fedfnn={"side": side},
        features=Features(behavior=torch.stack([users, -users], 1)),
    )
    assert mine.algorithm.behavior is side
    rounds(mine, 1, [SOME])
    slots = np.flatnonzero(np.isin(federation.slot_client, SOME))
    assert given[0].shape == (len(slots), width)
    if side:
        assert given[0][:, 3].tolist() == np.log1p(federation.slot_rows[slots]).tolist()
        assert given[0][:, 4].tolist() == federation.slot_user[slots].tolist()


def test_predictions_that_are_worse_than_none_move_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(META_MODELS, "mlp", foretelling(0.1, explained=-0.01))
    (outcome,), _, clients = rounds(work(), 1, [SOME])
    assert outcome.figures["fedfnn/predicted"] == 0
    before = begin(work())[1].users["user_factors"]
    others = ~np.isin(work().federation.slot_client, SOME)
    assert torch.equal(clients.users["user_factors"][others], before[others])


def test_no_predicted_change_is_longer_than_the_longest_of_the_delegates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(META_MODELS, "mlp", foretelling(1e6, explained=0.5))
    mine = work(fedfnn={"discount": 0.5, "decay": 0.5})
    server, clients = begin(mine)
    lengths = []
    for number in (1, 2):
        before = clients.users["user_factors"].clone()
        server = do_round(mine, server.at(number), clients, SOME).server
        length = (clients.users["user_factors"] - before).norm(dim=1).numpy()
        delegates = np.isin(mine.federation.slot_client, SOME)
        lengths.append(length[~delegates] / length[delegates].max())
    # Half of the longest in the first round, and a quarter in the second.
    np.testing.assert_allclose(lengths[0], 0.5, rtol=1e-4)
    np.testing.assert_allclose(lengths[1], 0.25, rtol=1e-4)


def test_a_delegate_whose_numbers_go_wrong_teaches_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = work(fedfnn={"meta": "linear"})
    server, clients = begin(mine)
    bad = np.flatnonzero(mine.federation.slot_client == SOME[2])
    clients.users["user_factors"][bad] = float("nan")
    outcome = do_round(mine, server.at(1), clients, SOME)
    assert outcome.sound.sum() == len(SOME) - 1
    delegates = np.isin(mine.federation.slot_client, SOME).sum() - len(bad)
    assert outcome.figures["fedfnn/delegates"] == delegates
    fine = np.delete(np.arange(mine.federation.n_slots), bad)
    assert clients.users["user_factors"][fine].isfinite().all()


def test_one_delegate_is_too_few_for_folds_and_nobody_is_moved() -> None:
    (outcome,), _, _ = rounds(work(), 1, [np.array([4])])
    assert outcome.figures["fedfnn/predicted"] == 0
    assert "fedfnn/r2" not in outcome.figures


@pytest.mark.parametrize(
    "keyword",
    [
        {"discount": 1.5},
        {"decay": -0.1},
        {"folds": 1},
        {"hidden": 0},
        {"patience": -1},
        {"meta_patience": 0},
        {"tolerance": 1.5},
        {"epochs": 0},
        {"meta_batch": 0},
        {"meta_lr": -1.0},
        {"meta_lr": float("nan")},
    ],
)
def test_numbers_out_of_range_are_refused(keyword: dict[str, Any]) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_plan({"algorithm": "fedfnn", "fedfnn": keyword})
    assert caught.value.key == f"train.fedfnn.{next(iter(keyword))}"


def test_the_least_and_the_most_that_are_in_range_are_taken() -> None:
    fedfnn(
        hidden=1, epochs=1, meta_patience=1, meta_batch=1, folds=2, meta_lr=0.0, discount=0, decay=1
    )
    fedfnn(discount=1, decay=0)


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ({"item_mean": "cohort"}, "item_mean"),
        ({"weights": "uniform"}, "weights"),
        ({"model": "mult_vae", "task": "implicit"}, "vectors of users"),
    ],
)
def test_what_it_cannot_work_with_is_refused(table: dict[str, Any], word: str) -> None:
    mine = work(**table)
    with pytest.raises(TrainingError, match=word):
        mine.algorithm.phases(mine.plan, mine.parameters)


def test_every_key_is_documented_with_its_default() -> None:
    page = (Path(__file__).parent.parent / "docs" / "fedfnn.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*`) \| (\S.*?) \| .*\|$", page, re.M)
    documented = {
        key.strip("`"): value
        for keys, values in rows
        for key, value in zip(keys.split(", "), values.split(", "), strict=True)
    }
    assert documented == {
        key: json.dumps(parameter.default)
        for key, parameter in inspect.signature(fedfnn).parameters.items()
    }
