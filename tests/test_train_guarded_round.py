"""What leaves a client and comes back: nothing private, nothing broken; bounded, masked, noised, counted."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

torch = pytest.importorskip("torch", reason="torch is not installed")
torch.set_num_threads(1)

from federations import (  # noqa: E402
    assert_same_bits,
    begin,
    everyone,
    federation_of_rows,
    random_federation,
    rounds,
    state_of,
    work_of,
)

from fedprep.errors import TrainingError  # noqa: E402
from fedtrain.algorithms import Answer  # noqa: E402
from fedtrain.batch import Features  # noqa: E402
from fedtrain.engine import Work  # noqa: E402
from fedtrain.privacy import noise, update_norms  # noqa: E402
from fedtrain.rounds import do_round, expected_clients  # noqa: E402
from fedtrain.sums import FRACTION, WEIGHTS, Sums, unit_of  # noqa: E402

LAW = settings(deadline=None, max_examples=8)
MF: dict[str, Any] = {"model": "mf", "mf": {"dim": 3, "start": 0.5}}
ALGORITHMS = ("fedavg", "fedprox", "scaffold", "fednova", "fedyogi", "fedper", "fedrecon", "local")


def tower(federation: Any = None, **plan: Any) -> Work:
    """Two towers on text and behaviour, users' and items' own rows beside them."""
    federation = federation or random_federation(50)
    make = torch.Generator().manual_seed(50)
    features = Features(
        {"text": torch.randn(federation.n_items, 6, generator=make)},
        {"text": torch.ones(federation.n_items, dtype=torch.bool)},
        torch.randn(federation.n_users, 3, generator=make),
    )
    keywords = {"dim": 4, "hidden": 5, "image": False, "item_id": True, "user_id": True}
    return work_of(
        federation,
        features=features,
        sizes={"modalities": {"text": 6}, "behavior": 3},
        **{"task": "binary", "model": "two_tower", "two_tower": keywords, "lr": 0.1, **plan},
    )


def spied(work: Work) -> tuple[Work, list[tuple[Answer, Any]]]:
    """The same work, and a list of every answer with the chunk that gave it."""
    seen: list[tuple[Answer, Any]] = []

    def answer(local: Any, private: frozenset[str]) -> Answer:
        found = work.algorithm.answer(local, private)
        seen.append((found, local))
        return found

    return replace(work, algorithm=replace(work.algorithm, answer=answer)), seen


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("kind", ["small", "mf", "tower"])
def test_nothing_private_is_ever_in_what_is_sent(kind: str, algorithm: str) -> None:
    plan: dict[str, Any] = {"algorithm": algorithm, **(MF if kind == "mf" else {})}
    made = tower(**plan) if kind == "tower" else work_of(random_federation(50), **plan)
    work, seen = spied(made)
    rounds(work, 2)
    parameters = work.parameters
    users = {name for name, p in parameters.items() if p.scope == "user"}
    heads = {name for name, p in parameters.items() if p.head}
    private = {
        "local": set(parameters),
        "fedper": users | heads,
    }.get(algorithm, users)
    public = parameters.keys() - private
    controls = {"control/" + name for name in public} if algorithm == "scaffold" else set()
    assert users and (heads or kind == "mf") and seen
    for answer, local in seen:
        assert answer.shared.keys() | answer.rows.keys() == public | controls
        assert set(answer.numbers) == ({"tau"} if algorithm == "fednova" else set())
        held = [*local.users.values(), *(local.shared.get(n) for n in private)]
        held += [local.rows.get(name) for name in private]
        places = {value.untyped_storage().data_ptr() for value in held if value is not None}
        for name, value in itertools.chain(answer.shared.items(), answer.rows.items()):
            parameter = parameters[name.removeprefix("control/")]
            lines = local.n_clients if parameter.scope == "shared" else len(local.row_item)
            assert value.shape == (lines, *parameter.shape)
            assert value.untyped_storage().data_ptr() not in places


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_broken_user_harms_no_other_client_of_its_chunk(algorithm: str, optimizer: str) -> None:
    if optimizer == "adam" and algorithm in ("scaffold", "fednova"):
        optimizer = "sgd"
    plan = {"algorithm": algorithm, "optimizer": optimizer, "clip_norm": 5.0, "lr": 0.05}
    work = work_of(random_federation(51), **plan)
    bad, others = 2, np.array([0, 1, 3, 4])
    federation = work.federation
    slot = int(federation.slot_offsets[bad])
    server, clients = begin(work)
    _, without = begin(work)
    if algorithm == "fedrecon":  # users begin anew: break a rating instead
        ratings = federation.train.rating.copy()
        ratings[federation.train.offsets[bad]] = np.nan
        broken = replace(federation.train, rating=ratings)
        splits = {**federation.splits, "train": broken}
        work = replace(work, federation=replace(federation, splits=splits))
    else:
        clients.users["user"][slot, 1] = torch.nan
    kept = {name: value.clone() for name, value in clients.users.items()}
    outcome = do_round(work, server.at(1), clients, everyone(work))
    alone = do_round(work, server.at(1), without, others)
    assert outcome.client[~outcome.sound].tolist() == [bad]
    assert_same_bits(outcome.server.values, alone.server.values)
    assert_same_bits(outcome.server.extra, alone.server.extra) if algorithm != "scaffold" else None
    mine = np.flatnonzero(federation.slot_client == bad)
    left = np.flatnonzero(federation.slot_client != bad)
    assert torch.equal(clients.users["user"][left], without.users["user"][left])
    torch.testing.assert_close(
        clients.users["user"][mine], kept["user"][mine], rtol=0, atol=0, equal_nan=True
    )
    for name, value in clients.shared.items():
        assert torch.equal(value, without.shared[name]), name
    for name, store in clients.rows.items():
        assert_same_bits(store.state("s"), without.rows[name].state("s"))
    good = outcome.client != bad
    for name in ("loss", "update_norm", "grad_norm", "clipped"):
        assert np.array_equal(getattr(outcome, name)[good], getattr(alone, name)), name
    assert np.isfinite(outcome.drift)


@pytest.mark.parametrize("algorithm", ["fedavg", "fedper", "local"])
@pytest.mark.parametrize("broken", ["item", "user"])
def test_a_broken_feature_harms_only_the_clients_that_have_it(algorithm: str, broken: str) -> None:
    # Item 0 and user 0 are what padded places name; batches of 4 have padding.
    rows = [(0, 1, 1, 5.0, "train"), (1, 0, 0, 1.0, "train"), (1, 0, 2, 5.0, "train")]
    rows += [(2, 2, item, float(item), "train") for item in (1, 2, 3, 4, 5)]
    federation = federation_of_rows(rows, n_items=6, n_clients=3)
    work = tower(federation, algorithm=algorithm, batch_size=4, optimizer="adam", lr=0.01)
    assert work.features.behavior is not None
    table = work.features.items["text"] if broken == "item" else work.features.behavior
    server, without = begin(work)
    share = np.array([1.0, 1.0, 0.5])  # client 2 has two steps and does one
    alone = do_round(work, server.at(1), without, np.array([0, 2]), share=share[[0, 2]])
    table[0, 1] = torch.nan
    clients = begin(work)[1]
    outcome = do_round(work, server.at(1), clients, everyone(work), share=share)
    assert outcome.client[~outcome.sound].tolist() == [1]
    torch.testing.assert_close(outcome.server.values, alone.server.values, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(clients.state(), without.state(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", ["user", "item", "head"])
def test_what_broke_and_is_not_sent_is_found_and_not_kept(kind: str) -> None:
    # The loss of a rating of 1e15 is finite, and so is a step of 1e21; its square is not.
    rows = [(0, 0, 0, 4.0, "train"), (1, 1, 1, 1e15, "train")]
    federation = federation_of_rows(rows, 2, 2)
    rates = {"lr_user": 0.0, "lr_item": 0.0, "lr_head": 0.0, f"lr_{kind}": 1e6}
    algorithm = "fedper" if kind == "head" else "local"
    work = work_of(federation, algorithm=algorithm, lr=0.0, **rates)
    server, clients = begin(work)
    start = {name: value.clone() for name, value in clients.users.items()}
    outcome = do_round(work, server.at(1), clients, everyone(work))
    assert np.isfinite(outcome.loss).all() and np.isfinite(outcome.update_norm).all()
    assert outcome.sound.tolist() == [True, False]
    assert torch.equal(clients.users["user"][1], start["user"][1])
    assert torch.equal(clients.shared["h"][1], server.values["h"])
    for store in clients.rows.values():
        assert store.state("s")["s:client"].tolist() == [0]


def test_steps_of_others_leave_a_client_that_is_done_where_it_is() -> None:
    # Clients of 3, 2 and 3 steps, the middle one a straggler: decay would pull on its shared tensors.
    rows = [(c, c, item, 4.0, "train") for c, n in ((0, 3), (1, 2), (2, 3)) for item in range(n)]
    federation = federation_of_rows(rows, 3, 3)
    plan: dict[str, Any] = {"batch_size": 1, "weight_decay": 0.5, "lr": 0.1}
    share = np.array([0.3, 1.0, 1.0])
    for optimizer in ("sgd", "momentum", "adam"):
        work = work_of(federation, algorithm="local", optimizer=optimizer, **plan)
        server, clients = begin(work)
        do_round(work, server.at(1), clients, everyone(work), share=share)
        for client in range(3):
            alone = begin(work)[1]
            do_round(
                work, server.at(1), alone, np.array([client]), share=share[client : client + 1]
            )
            for name, value in clients.shared.items():
                assert torch.equal(value[client], alone.shared[name][client])


@LAW
@given(st.integers(0, 1000), st.sampled_from(["none", "topk", "int8"]), st.floats(0.01, 0.5))
def test_what_the_server_adds_up_is_within_the_bound_after_compression(
    seed: int, method: str, bound: float
) -> None:
    table = {"privacy": {"clip": bound}, "compression": {"method": method, "share": 0.5}}
    work = work_of(random_federation(seed), lr=0.3, **table)
    norms = []
    original = Sums.add

    def add(self: Sums, answer: Answer, local: Any, weight: Any) -> None:
        norms.append(update_norms(answer.shared, answer.rows, local.row_client, local.n_clients))
        original(self, answer, local, weight)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sums, "add", add)
        (outcome,), _, _ = rounds(work)
    after = torch.cat(norms)
    assert (after <= bound).all()
    assert (outcome.update_norm > bound).any(), "something was clipped"
    assert float(after.max()) > 0.99 * bound


def private_plan(**more: Any) -> dict[str, Any]:
    privacy = {"clip": 0.3, "noise_multiplier": 2.0}
    return {"weights": "uniform", "item_mean": "cohort", "privacy": privacy, "lr": 0.3, **more}


@pytest.mark.parametrize("item_mean", ["cohort", "sum"])
def test_noise_is_on_the_sum_and_both_are_divided_by_a_fixed_number(item_mean: str) -> None:
    federation = random_federation(52)
    noisy = work_of(federation, **private_plan(item_mean=item_mean, clients_per_round=4))
    plain = private_plan(item_mean="sum")
    plain["privacy"] = {"clip": 0.3}
    quiet = work_of(federation, **plain)
    # Two cohorts of other sizes than expected, as Poisson sampling gives them.
    for cohort in (np.array([1, 3]), everyone(noisy)):
        server, clients = begin(noisy)
        after = do_round(noisy, server.at(1), clients, cohort).server
        start, others = begin(quiet)
        summed = do_round(quiet, start.at(1), others, cohort).server
        for name, value in after.values.items():
            scope = noisy.parameters[name].scope
            total = summed.values[name].double() - start.values[name].double()
            if scope == "shared":
                total *= len(cohort)  # of a shared tensor the mean is told
            drawn = noise(tuple(value.shape), noisy.seed, 1, name, 2.0 * 0.3)
            by = 1 if scope == "item" and item_mean == "sum" else 4
            expected = start.values[name].double() + (total + drawn) / by
            torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-5)


def test_a_round_that_nobody_took_part_in_is_noise_alone_or_nothing() -> None:
    nobody = np.zeros(0, np.int64)
    quiet = work_of(random_federation(52))
    outcome = do_round(quiet, begin(quiet)[0].at(1), begin(quiet)[1], nobody)
    assert_same_bits(outcome.server.values, begin(quiet)[0].values)
    assert len(outcome.client) == outcome.bytes_up == outcome.bytes_down == 0
    noisy = work_of(random_federation(52), **private_plan(clients_per_round=4))
    start, clients = begin(noisy)
    after = do_round(noisy, start.at(1), clients, nobody).server
    for name, value in after.values.items():
        expected = noise(tuple(value.shape), noisy.seed, 1, name, 2.0 * 0.3) / 4
        moved = value.double() - start.values[name].double()
        torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("others", [[], [0, 3]])
@pytest.mark.parametrize("method", ["none", "topk"])
@pytest.mark.parametrize("algorithm", ["fedavg", "scaffold", "fedper", "fedrecon"])
def test_one_client_more_moves_all_that_a_round_releases_by_no_more_than_the_bound(
    algorithm: str, method: str, others: list[int]
) -> None:
    compression = {"compression": {"method": method, "share": 0.5}}
    work = work_of(
        random_federation(55),
        algorithm=algorithm,
        **private_plan(clients_per_round=3, lr=0.5, local_epochs=2, **compression),
    )
    found = []
    for cohort in (others, sorted([*others, 1])):
        server, clients = begin(work)
        server = do_round(work, server.at(1), clients, everyone(work)).server  # the same for both
        after = do_round(work, server.at(2), clients, np.array(cohort, dtype=np.int64)).server
        found.append((server, after))
    # The noise of a round is a function of its number: it is gone from the difference.
    (_, one), (start, two) = found
    assert one.extra.keys() == two.extra.keys()
    square = 0.0
    for name, value in two.values.items():
        square += float((3 * (value.double() - one.values[name])).square().sum())
        assert name in work.private or not torch.equal(one.values[name], start.values[name])
    for name, value in two.extra.items():
        assert name.startswith("control/")
        square += float((5 * (value.double() - one.extra[name])).square().sum())
        assert not torch.equal(one.extra[name], start.extra[name]), "noise is on it, whoever came"
    assert 0.25 < square**0.5 < 0.3 * (1 + 1e-4)


def test_the_number_that_noise_is_divided_by_is_that_of_the_clients_that_may_train() -> None:
    rows = [(client, client, 0, 3.0, "train") for client in range(10)]
    rows += [(10, 10, 0, 3.0, "valid")]
    federation = federation_of_rows(rows, 1, 11)
    assert expected_clients(work_of(federation)) == 10
    assert expected_clients(work_of(federation, clients_per_round=3)) == 3
    assert expected_clients(work_of(federation, valid_clients=0.2, test_clients=0.1)) == 7


@pytest.mark.parametrize(
    "plan", [{"algorithm": "fednova"}, {"weights": "rows"}, {"item_mean": "touched"}]
)
def test_noise_is_refused_where_it_would_hide_less_than_it_says(plan: dict[str, Any]) -> None:
    work = work_of(random_federation(52), **private_plan(**plan))
    with pytest.raises(TrainingError, match="noise"):
        rounds(work)


@pytest.mark.parametrize("algorithm", ["fedavg", "scaffold", "fednova", "fedper"])
@pytest.mark.parametrize("weights", ["rows", "uniform"])
def test_a_secure_sum_gives_the_bits_of_the_plain_one(algorithm: str, weights: str) -> None:
    plan: dict[str, Any] = {"algorithm": algorithm, "weights": weights, "lr": 0.1}
    for chunk_rows in (10_000, 7):
        found = []
        for enabled in (False, True):
            work = work_of(
                random_federation(53), secure={"enabled": enabled}, chunk_rows=chunk_rows, **plan
            )
            outcomes, server, clients = rounds(work, 2)
            found.append((state_of(server, clients), outcomes))
        assert_same_bits(found[0][0], found[1][0])
        for plain, secure in zip(found[0][1], found[1][1], strict=True):
            assert plain.drift == secure.drift
            assert plain.bytes_down == secure.bytes_down
            # Every client sends a word for each value, touched row and count: it cannot send less.
            assert secure.bytes_up % (8 * len(secure.client)) == 0
            assert secure.bytes_up > 8 * len(secure.client) * sum(
                server.values[name].numel() for name in server.values.keys() - work.private
            )


@pytest.mark.parametrize("plan", [{}, {"item_mean": "sum"}, {"algorithm": "scaffold"}])
def test_a_secure_sum_leaves_out_the_client_whose_numbers_went_wrong(plan: dict[str, Any]) -> None:
    found = []
    for enabled in (False, True):
        work = work_of(random_federation(54), secure={"enabled": enabled}, lr=0.1, **plan)
        server, clients = begin(work)
        clients.users["user"][0] = torch.nan
        outcome = do_round(work, server.at(1), clients, everyone(work))
        assert (~outcome.sound).sum() == 1
        found.append(outcome.server.values | outcome.server.extra)
    assert_same_bits(*found)


def test_a_secure_sum_of_one_client_is_refused() -> None:
    work = work_of(random_federation(54), secure={"enabled": True})
    with pytest.raises(TrainingError, match="secure sum"):
        rounds(work, 1, [np.array([1])])


def test_a_round_of_nobody_has_nothing_to_hide() -> None:
    # As Poisson sampling gives one now and then.
    work = work_of(random_federation(52), secure={"enabled": True})
    server, clients = begin(work)
    outcome = do_round(work, server.at(1), clients, np.zeros(0, np.int64))
    assert_same_bits(outcome.server.values, server.values)
    assert outcome.bytes_up == 0


def test_bytes_are_those_of_values_and_ids_down_and_up() -> None:
    # Client 0 touches items 0 and 1, client 1 item 1: 3 rows of 3 numbers, and 7 shared numbers each.
    rows = [(0, 0, 0, 5.0, "train"), (0, 0, 1, 3.0, "train"), (1, 1, 1, 1.0, "train")]
    federation = federation_of_rows(rows, n_items=2, n_clients=2)
    plain = 4 * (3 * (3 + 1) + 2 * 7)
    expected = {
        "fedavg": (plain, plain),
        "fedper": (plain - 2 * 3 * 4, plain - 2 * 3 * 4),  # the head stays
        # Controls too, ids once; and a bit for each row, whether it is new.
        "scaffold": (2 * plain - 3 * 4, 2 * plain - 3 * 4 + 2),
        "local": (0, 0),
    }
    for algorithm, (down, up) in expected.items():
        (outcome,), _, _ = rounds(work_of(federation, algorithm=algorithm))
        assert (outcome.bytes_down, outcome.bytes_up) == (down, up), algorithm


@LAW
@given(st.integers(0, 2**40))
def test_weights_are_whole_and_fit_into_a_sum(total: int) -> None:
    unit = unit_of(total)
    assert unit * total <= WEIGHTS
    assert unit == 1 or unit * total > WEIGHTS / 2
    assert (unit * FRACTION).is_integer() or total > 2**52


def test_a_client_of_one_row_counts_exactly_beside_one_of_many() -> None:
    # Item 0 is the small client's alone: its mean is its own change, to float32's last bits.
    rows = [(0, 0, 0, 5.0, "train")]
    rows += [(1, 1, 1 + item % 50, 3.0, "train") for item in range(5000)]
    federation = federation_of_rows(rows, n_items=51, n_clients=2)
    work = work_of(federation, batch_size=0, lr=1e-6, **MF)
    server, clients = begin(work)
    both = do_round(work, server.at(1), clients, everyone(work)).server
    alone = do_round(work, server.at(1), begin(work)[1], np.array([0])).server
    assert torch.equal(both.values["item_factors"][0], alone.values["item_factors"][0])
    assert not torch.equal(both.values["item_factors"][0], server.values["item_factors"][0])
