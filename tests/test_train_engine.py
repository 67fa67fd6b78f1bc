"""The engine's laws: order, chunks and threads change no bit; every row counts once; descent as torch's."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

torch = pytest.importorskip("torch", reason="torch is not installed")
torch.set_num_threads(1)

from federations import (  # noqa: E402
    Oracle,
    assert_same_bits,
    begin,
    everyone,
    federation_of_rows,
    random_federation,
    rounds,
    state_of,
    steps_of,
    work_of,
)

from fedprep.errors import TrainingError  # noqa: E402
from fedtrain.batch import Features  # noqa: E402
from fedtrain.chunks import Order, chunks_of, order_of  # noqa: E402
from fedtrain.clients import Clients, RowStore  # noqa: E402
from fedtrain.engine import Work, train_chunk  # noqa: E402
from fedtrain.federation import positives_of  # noqa: E402
from fedtrain.negatives import draw_negatives  # noqa: E402
from fedtrain.rounds import do_round  # noqa: E402

LAW = settings(deadline=None, max_examples=8)
SEEDS = st.integers(0, 10_000)
MF: dict[str, Any] = {"model": "mf", "mf": {"dim": 3, "start": 0.5}}
TOWER: dict[str, Any] = {
    "model": "two_tower",
    "two_tower": {"dim": 4, "hidden": 5, "image": False, "item_id": True, "user_id": True,
                  "dropout": 0.2, "modality_dropout": 0.3},
}  # fmt: skip
ALGORITHMS = ("fedavg", "fedprox", "scaffold", "fednova", "fedadam", "fedper", "fedrecon", "local")


def tower(seed: int, **plan: Any) -> Work:
    """Two towers on random features; the last item has no text."""
    federation = random_federation(seed)
    make = torch.Generator().manual_seed(seed)
    text = torch.randn(federation.n_items, 6, generator=make)
    has = torch.ones(federation.n_items, dtype=torch.bool)
    has[-1] = False
    features = Features(
        {"text": text * has[:, None]},
        {"text": has},
        torch.randn(federation.n_users, 3, generator=make),
    )
    sizes = {"modalities": {"text": 6}, "behavior": 3}
    return work_of(federation, features=features, sizes=sizes, task="binary", **{**TOWER, **plan})


def values_of(work: Work, n: int = 1) -> dict[str, Any]:
    _, server, clients = rounds(work, n)
    return {**server.values, **clients.users}


def assert_close(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=1e-5, atol=1e-6, msg=name)


@LAW
@given(SEEDS, st.booleans())
def test_fedprox_without_its_term_scaffold_at_first_and_fednova_with_equal_steps_are_fedavg(
    seed: int, small: bool
) -> None:
    federation = random_federation(seed)
    plan: dict[str, Any] = {"lr": 0.1, "local_steps": 3, **({} if small else MF)}
    plain = values_of(work_of(federation, **plan))
    prox = values_of(work_of(federation, algorithm="fedprox", fedprox={"mu": 0.0}, **plan))
    assert_same_bits(plain, prox)
    for name in ("scaffold", "fednova"):
        assert_close(plain, values_of(work_of(federation, algorithm=name, **plan)))
    local = work_of(federation, algorithm="fedprox", fedprox={"mu": 1.0}, **plan)
    with pytest.raises(AssertionError):
        assert_close(plain, values_of(local))


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [("mf", name) for name in ALGORITHMS]
    + [("tower", name) for name in ("fedavg", "scaffold", "fedper", "fedrecon")],
)
def test_order_chunks_and_threads_change_no_bit_and_products_of_matrices_by_the_last_alone(
    kind: str, algorithm: str
) -> None:
    plan: dict[str, Any] = {"algorithm": algorithm, "lr": 0.05, "batch_size": 3}
    plan |= {} if kind == "tower" else {**MF, "task": "bce", "local_epochs": 2}
    make = tower if kind == "tower" else lambda seed, **p: work_of(random_federation(seed), **p)
    share = np.array([1.0, 0.5, 1.0, 0.3, 1.0])
    found = []
    ways = [([0, 1, 2, 3, 4], 10_000, 1), ([3, 1, 4, 2, 0], 1, 2), ([2, 4, 0, 1, 3], 12, 1)]
    for order, chunk_rows, threads in ways:
        torch.set_num_threads(threads)
        try:
            work = make(21, chunk_rows=chunk_rows, **plan)
            server, clients = begin(work)
            figures = []
            for number in (1, 2):
                cohort = np.array(order)
                outcome = do_round(work, server.at(number), clients, cohort, share=share[order])
                server = outcome.server
                figures.append(outcome)
            found.append((state_of(server, clients), figures))
        finally:
            torch.set_num_threads(1)
    (first, told), *others = found
    for state, figures in others:
        if kind == "tower":  # BLAS rounds the products of matrices by their shapes
            assert_close(first, state)
            continue
        assert_same_bits(first, state)
        for one, other in zip(told, figures, strict=True):
            for name in ("client", "loss", "update_norm", "grad_norm", "drift", "bytes_up"):
                assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True)


@LAW
@given(SEEDS, st.sampled_from([0, 1, 3, 64]), st.integers(1, 2))
def test_every_row_is_used_exactly_once_in_each_local_epoch(
    seed: int, batch_size: int, epochs: int
) -> None:
    federation = random_federation(seed)
    work = work_of(federation, batch_size=batch_size, local_epochs=epochs)
    cohort = everyone(work)
    orders = []
    for client, steps in zip(cohort.tolist(), steps_of(work, cohort), strict=True):
        rows = federation.train.of(np.array([client]))[1]
        mine = Counter(zip(federation.train.slot[rows].tolist(),
                           federation.train.item_id[rows].tolist(), strict=True))  # fmt: skip
        size = batch_size or len(rows)
        each = -(-len(rows) // size)
        assert len(steps) == epochs * each
        for epoch in range(epochs):
            part = steps[epoch * each : (epoch + 1) * each]
            assert [len(step.slot) for step in part[:-1]] == [size] * (each - 1)
            used = [
                pair
                for step in part
                for pair in zip(step.slot.tolist(), step.item[:, 0].tolist(), strict=True)
            ]
            assert Counter(used) == mine
            orders.append(tuple(used))
    outcome = rounds(work)[0][0]
    assert outcome.rows.tolist() == federation.train.counts[cohort].tolist()


def test_each_epoch_and_round_has_an_order_of_its_own() -> None:
    rows = [(0, 0, item, 3.0, "train") for item in range(30)]
    work = work_of(federation_of_rows(rows, 30, 1), batch_size=1, local_epochs=2)
    seen = []
    for number in (1, 2):
        ((*steps,),) = steps_of(work, everyone(work), number)
        items = [int(step.item[0, 0]) for step in steps]
        seen += [items[:30], items[30:]]
    assert len({tuple(order) for order in seen}) == 4


def test_no_step_is_wider_than_its_fullest_client_and_numbers_do_not_tell() -> None:
    client, place = np.repeat(np.arange(3), [4, 1, 2]), np.array([0, 1, 2, 3, 0, 0, 1])
    clients = np.array([7, 1, 4])

    def order(size: int) -> Order:
        return order_of(client, place, clients, size, seed=1, address=(2,))

    assert order(64).step(0).shape == order(0).step(0).shape == (3, 4)
    assert order(64).step(0).tolist() == order(0).step(0).tolist()
    assert [order(3).step(n).shape for n in (0, 1)] == [(3, 3), (1, 3)]
    federation = random_federation(5)
    wide, whole = (rounds(work_of(federation, batch_size=size)) for size in (10_000, 0))
    assert_same_bits(state_of(*wide[1:]), state_of(*whole[1:]))


@LAW
@given(SEEDS)
def test_negatives_are_never_what_the_user_has_in_train(seed: int) -> None:
    federation = random_federation(seed)
    train = federation.train
    for number in (1, 2):
        drawn = draw_negatives(
            train.slot, federation.slot_client[train.slot], np.arange(len(train)), 5,
            federation.n_items, federation.positives, seed=seed, round_number=number,
        )  # fmt: skip
        assert drawn.shape == (len(train), 5) and drawn.min() >= 0
        assert drawn.max() < federation.n_items
        has = set(zip(train.slot.tolist(), train.item_id.tolist(), strict=True))
        pairs = {
            (slot, item)
            for slot, items in zip(train.slot.tolist(), drawn.tolist(), strict=True)
            for item in items
        }
        assert not has & pairs


def test_negatives_are_uniform_over_the_rest_and_reach_valid_and_test_items() -> None:
    # 12 items: the user has 0, 5, 11 in train, 3 in valid and 7 in test.
    rows = [(0, 0, item, 3.0, "train") for item in (0, 5, 11)]
    rows += [(0, 0, 3, 3.0, "valid"), (0, 0, 7, 3.0, "test")]
    federation = federation_of_rows(rows, n_items=12, n_clients=1)
    parts = list(federation.splits.values())
    pools = {
        "train": federation.positives,
        "leaky": positives_of(federation.n_slots, 12, parts),
        "all": None,
    }
    expected = {"train": 9, "leaky": 7, "all": 12}
    n = 4000
    for name, excluded in pools.items():
        drawn = np.concatenate(
            [
                draw_negatives(
                    np.zeros(50, np.int64), np.zeros(50, np.int64), np.arange(50), 80 // 2, 12,
                    excluded, seed=1, round_number=number,
                ).ravel()
                for number in (1, 2)
            ]
        )  # fmt: skip
        assert len(drawn) == n
        counts = np.bincount(drawn, minlength=12)
        left = np.flatnonzero(counts)
        assert len(left) == expected[name]
        assert {3, 7} <= set(left.tolist()) or name == "leaky"
        mean = n / len(left)
        chi_square = float(((counts[left] - mean) ** 2 / mean).sum())
        # Six deviations above the mean of the distribution.
        assert chi_square < len(left) - 1 + 6 * (2 * (len(left) - 1)) ** 0.5
    assert not {3, 7} & set(left.tolist()) or name == "all"


def test_a_user_who_has_every_item_has_no_negative() -> None:
    rows = [(0, 0, item, 3.0, "train") for item in range(3)]
    work = work_of(federation_of_rows(rows, 3, 1), task="bce", **MF)
    with pytest.raises(TrainingError, match="1 users have every one of the 3 items"):
        rounds(work)
    everything = replace(work, excluded=None)
    assert np.isfinite(rounds(everything)[0][0].loss).all()


def test_a_client_holds_the_rows_of_items_that_it_touches_and_no_other() -> None:
    federation = random_federation(30, n_items=50)
    work = work_of(federation, task="bce", negatives=2, **MF)
    server, clients = begin(work)
    (chunk,) = chunks_of(federation, everyone(work), 10_000, 100)
    local = train_chunk(work, server.at(1), clients, chunk)
    steps = steps_of(work, chunk.clients)
    pairs = [
        (place, item)
        for place, mine in enumerate(steps)
        for item in sorted({int(i) for step in mine for i in step.item.flatten()})
    ]
    assert list(zip(local.row_client.tolist(), local.row_item.tolist(), strict=True)) == pairs
    assert local.downloaded == len(pairs) < len(chunk.clients) * 50
    assert local.rows["item_factors"].shape == (len(pairs) + 1, 3)
    assert not local.rows["item_factors"][-1].any(), "the row of padding stands still"


def test_rows_that_no_step_trained_are_not_sent() -> None:
    federation = random_federation(31, most=6)
    work = work_of(federation, batch_size=1, lr=0.1)
    share = np.full(5, 0.5)
    server, clients = begin(work)
    outcome = do_round(work, server.at(1), clients, everyone(work), share=share)
    steps = steps_of(work, everyone(work), share=share)
    touched = {int(i) for mine in steps for step in mine for i in step.item.flatten()}
    moved = (outcome.server.values["item"] != server.values["item"]).any(1)
    assert set(np.flatnonzero(moved.numpy()).tolist()) == touched
    whole = do_round(work, server.at(1), begin(work)[1], everyone(work))
    assert outcome.bytes_down == whole.bytes_down, "what it may need is sent to a straggler too"
    assert outcome.bytes_up < whole.bytes_up


@pytest.mark.parametrize("clip_norm", [0.0, 0.5])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("small", [True, False])
def test_local_steps_are_those_of_torch_on_dense_tables(
    optimizer: str, small: bool, clip_norm: float
) -> None:
    federation = random_federation(40, most=6)
    plan: dict[str, Any] = {"optimizer": optimizer, "momentum": 0.7, "clip_norm": clip_norm}
    plan |= {"lr": 0.05, "local_epochs": 2, "batch_size": 3, "task": "bce", "negatives": 3}
    if small:
        plan["task"] = "rating"
    work = work_of(federation, **plan, **({} if small else MF))
    cohort = everyone(work)
    server, clients = begin(work)
    oracle = Oracle(work)
    start = oracle.vector(server, clients)
    (chunk,) = chunks_of(federation, cohort, 10_000, 100)
    local = train_chunk(work, server.at(1), clients, chunk)
    assert len({*local.steps.tolist()}) > 1, "clients do different numbers of steps"
    makers = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
        "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.7),
        "adam": lambda p: torch.optim.Adam(p, lr=0.05, betas=(0.7, 0.999)),
    }
    clipped = 0
    for place, mine in enumerate(steps_of(work, chunk.clients)):
        vector = start.clone().requires_grad_()
        descent = makers[optimizer]([vector])
        norms = []
        for step in mine:
            descent.zero_grad()
            oracle.loss(vector, step).backward()
            norms.append(float(vector.grad.norm()))
            if clip_norm:
                torch.nn.utils.clip_grad_norm_([vector], clip_norm)
            descent.step()
        tables = oracle.tables(vector.detach())
        at = local.row_client == place
        for name, parameter in work.parameters.items():
            if parameter.scope == "shared":
                found, expected = local.shared[name][place], tables[name]
            elif parameter.scope == "item":
                found, expected = local.rows[name][:-1][at], tables[name][local.row_item[at]]
            else:
                own = torch.from_numpy(chunk.slots[chunk.slot_client == place])
                found = local.users[name][:-1][local.slot_client == place]
                expected = tables[name][own]
            torch.testing.assert_close(found.double(), expected, rtol=2e-4, atol=2e-5, msg=name)
        assert int(local.steps[place]) == len(mine)
        measured = norms if clip_norm or optimizer != "sgd" else norms[:1]
        assert float(local.measured[place]) == len(measured)
        assert float(local.grad_norm[place]) == pytest.approx(sum(measured), rel=1e-4)
        expected_clips = sum(norm > clip_norm for norm in norms) if clip_norm else 0
        assert float(local.clipped[place]) == expected_clips
        clipped += expected_clips
    assert bool(clipped) == bool(clip_norm)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_weight_decay_holds_back_what_an_example_reads(optimizer: str) -> None:
    work = work_of(random_federation(41), optimizer=optimizer, weight_decay=0.3, lr=0.05)
    cohort = everyone(work)
    oracle = Oracle(work)
    server, clients = begin(work)
    start = oracle.vector(server, clients)
    (chunk,) = chunks_of(work.federation, cohort, 10_000, 100)
    local = train_chunk(work, server.at(1), clients, chunk)
    for place, mine in enumerate(steps_of(work, chunk.clients)):
        vector = start.clone().requires_grad_()
        make = torch.optim.SGD if optimizer == "sgd" else torch.optim.Adam
        descent = make([vector], lr=0.05)
        for step in mine:
            descent.zero_grad()
            tables = oracle.tables(vector)
            read = (
                tables["item"][step.item].square().sum() + tables["user"][step.slot].square().sum()
            )
            shared = sum(tables[name].square().sum() for name in ("w", "c", "h"))
            (oracle.loss(vector, step) + 0.15 * (read / len(step.slot) + shared)).backward()
            descent.step()
        for name in ("w", "c", "h"):
            expected = oracle.tables(vector.detach())[name]
            torch.testing.assert_close(
                local.shared[name][place].double(), expected, rtol=2e-4, atol=2e-5
            )
        at = local.row_client == place
        expected = oracle.tables(vector.detach())["item"][local.row_item[at]]
        torch.testing.assert_close(
            local.rows["item"][:-1][at].double(), expected, rtol=2e-4, atol=2e-5
        )


@pytest.mark.parametrize("algorithm", ["fedavg", "fednova"])
def test_stragglers_do_a_part_of_their_steps_and_at_least_one(algorithm: str) -> None:
    work = work_of(random_federation(42, most=6), algorithm=algorithm, batch_size=1, local_epochs=2)
    server, clients = begin(work)
    counts = work.federation.train.counts
    share = np.array([1.0, 0.01, 0.5, 0.75, 0.25])
    for chunk in chunks_of(work.federation, everyone(work), 10_000, 100):
        local = train_chunk(work, server.at(1), clients, chunk, share=share[chunk.clients])
        whole = 2 * counts[chunk.clients]
        expected = np.maximum(1, np.rint(whole * share[chunk.clients])).astype(int)
        assert local.steps.tolist() == local.used.tolist() == expected.tolist()
        if algorithm == "fednova":
            answer = work.algorithm.answer(local, work.private)
            assert answer.numbers["tau"].tolist() == expected.tolist()


@pytest.mark.parametrize("steps", [1, 4, 11])
def test_local_steps_are_so_many_for_every_client(steps: int) -> None:
    work = work_of(random_federation(43, most=6), batch_size=2, local_steps=steps)
    for mine in steps_of(work, everyone(work)):
        assert len(mine) == steps
    half = np.full(5, 0.5)
    for mine in steps_of(work, everyone(work), share=half):
        assert len(mine) == max(1, round(steps / 2))


def test_what_clients_hold_is_restored_to_the_bit_and_training_goes_on_the_same() -> None:
    for algorithm in ("scaffold", "fedper", "local"):
        work = work_of(random_federation(44), algorithm=algorithm, lr=0.1)
        _, server, clients = rounds(work, 2, [np.array([0, 3, 4]), np.array([1, 3])])
        again = Clients.new(5, work.federation.n_slots, work.parameters, seed=99)
        again.restore({name: value.clone() for name, value in clients.state().items()})
        assert_same_bits(again.state(), clients.state())
        first = do_round(work, server.at(3), clients, everyone(work))
        second = do_round(work, server.at(3), again, everyone(work))
        assert_same_bits(state_of(first.server, clients), state_of(second.server, again))


@LAW
@given(SEEDS)
def test_a_store_of_rows_gives_back_what_was_last_written(seed: int) -> None:
    rng = np.random.default_rng(seed)
    store = RowStore()
    known: dict[tuple[int, int], float] = {}
    for _ in range(4):
        clients = rng.permutation(6)[:4]
        pairs = np.argwhere(rng.random((4, 5)) < 0.4)
        rows = torch.from_numpy(rng.random((len(pairs), 2))).float()
        store.write(clients, pairs[:, 0], pairs[:, 1], rows)
        known |= {
            (int(clients[c]), int(i)): float(row[0])
            for (c, i), row in zip(pairs, rows, strict=True)
        }
        everything = np.argwhere(np.ones((4, 5), bool))
        store = RowStore.restored("s", store.state("s"))
        found = store.read(clients, everything[:, 0], everything[:, 1], torch.full((20, 2), -1.0))
        expected = [known.get((int(clients[c]), int(i)), -1.0) for c, i in everything]
        assert found[:, 0].tolist() == expected
