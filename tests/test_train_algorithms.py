"""Every algorithm's fast path gives what its plain reference gives, on small federations."""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
torch.set_num_threads(1)

from federations import (  # noqa: E402
    Oracle,
    Step,
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
from fedtrain.algorithms import ALGORITHMS  # noqa: E402
from fedtrain.engine import Work  # noqa: E402
from fedtrain.rounds import do_round  # noqa: E402

MODELS = {"small": {}, "mf": {"model": "mf", "mf": {"dim": 3, "start": 0.5}}}


def reference_of(name: str) -> Any:
    """The module's function; the package has constructors under the modules' names."""
    return importlib.import_module(f"fedtrain.algorithms.{name}").reference


def rows_of(work: Work, cohort: np.ndarray) -> list[float]:
    return [float(n) for n in work.federation.train.counts[cohort]]


def test_two_clients_and_five_values_by_hand() -> None:
    # One user each, items 0 and 1; dim 1, no bias: the five values are p_0, p_1, q_0, q_1 and the mean 3.
    rows = [(0, 0, 0, 5.0, "train"), (0, 0, 1, 3.0, "train"), (1, 1, 1, 1.0, "train")]
    federation = federation_of_rows(rows, n_items=2, n_clients=2)
    table = {"mf": {"dim": 1, "bias": False, "mean": 3.0}, "model": "mf", "lr": 0.1}
    work = work_of(federation, batch_size=0, **table)
    server, clients = begin(work)
    server.values["item_factors"][:] = torch.tensor([[2.0], [1.0]])
    clients.users["user_factors"][:] = torch.tensor([[1.0], [-1.0]])
    outcome = do_round(work, server.at(1), clients, everyone(work))
    # Client 0: errors 3 + 1·2 - 5 = 0 and 3 + 1·1 - 3 = 1, half of each counts. q_0 stays at 2,
    # q_1 falls by 0.1 · 1 · 1 / 2, p_0 by 0.1 · (0 · 2 + 1 · 1) / 2.
    # Client 1: error 3 - 1·1 - 1 = 1. q_1 grows by 0.1 · 1 · 1, p_1 falls by 0.1 · 1 · 1.
    # Item 1 is the mean by rows of both: (2 · 0.95 + 1 · 1.1) / 3 = 1; item 0 is client 0's alone.
    close = {"rtol": 0, "atol": 1e-6}
    torch.testing.assert_close(
        outcome.server.values["item_factors"], torch.tensor([[2.0], [1.0]]), **close
    )
    torch.testing.assert_close(
        clients.users["user_factors"], torch.tensor([[0.95], [-1.1]]), **close
    )
    assert outcome.loss == pytest.approx([0.25, 0.5])  # half squared errors, means over rows
    assert outcome.update_norm == pytest.approx([0.05, 0.1])
    # Squared gradients: client 0 has 0.5² of q_1 and 0.5² of p_0, client 1 has 1 of each.
    assert outcome.grad_norm == pytest.approx([0.5**0.5, 2**0.5])
    assert outcome.rows.tolist() == [2, 1]
    # Down and up: values and ids of 2 rows, and of 1.
    assert outcome.bytes_down == outcome.bytes_up == 2 * (4 + 4) + (4 + 4)
    # Drift: 2/3 · 0.05² + 1/3 · 0.1², as the mean change of item 1 is 0.
    assert outcome.drift == pytest.approx((2 / 3 * 0.05**2 + 1 / 3 * 0.1**2) ** 0.5, rel=1e-3)


@pytest.mark.parametrize("weights", ["rows", "uniform"])
@pytest.mark.parametrize("model", MODELS)
def test_drift_is_the_distance_of_what_each_client_changes_alone_from_the_mean(
    model: str, weights: str
) -> None:
    work = work_of(random_federation(6), lr=0.3, weights=weights, **MODELS[model])
    start, _ = begin(work)
    cohort = everyone(work)
    alone = [rounds(work, 1, [np.array([client])])[1].values for client in cohort]
    weight = torch.tensor(rows_of(work, cohort) if weights == "rows" else [1.0] * len(cohort))
    square = torch.tensor(0.0)
    for name, value in start.values.items():
        change = torch.stack([values[name] - value for values in alone])
        by_client = weight.reshape(-1, *[1] * value.dim())
        if work.parameters[name].scope == "item":  # over the clients that have the row
            has = (change != 0).any(-1, keepdim=True) if change.dim() > 2 else change != 0
            by_client = by_client * has
        mean = (by_client * change).sum(0) / by_client.sum(0).clamp(min=1e-9)
        square += (by_client * (change - mean) ** 2).sum()
    (outcome,), _, _ = rounds(work, 1)
    assert outcome.drift == pytest.approx(float(square / weight.sum()) ** 0.5, rel=1e-4)


def test_a_row_mean_may_be_over_the_cohort_or_a_sum() -> None:
    rows = [(0, 0, 0, 5.0, "train"), (0, 0, 1, 3.0, "train"), (1, 1, 1, 1.0, "train")]
    federation = federation_of_rows(rows, n_items=3, n_clients=2)
    table = {"mf": {"dim": 1, "bias": False, "start": 1.0}, "model": "mf", "weights": "uniform"}
    changes = {}
    for item_mean in ("touched", "cohort", "sum"):
        (outcome,), _, _ = rounds(work_of(federation, item_mean=item_mean, **table))
        start, _ = begin(work_of(federation, **table))
        changes[item_mean] = outcome.server.values["item_factors"] - start.values["item_factors"]
    close = {"rtol": 1e-4, "atol": 1e-6}
    torch.testing.assert_close(changes["cohort"][0], changes["touched"][0] / 2, **close)
    torch.testing.assert_close(changes["cohort"][1], changes["touched"][1], **close)
    torch.testing.assert_close(changes["sum"], 2 * changes["cohort"], **close)
    assert changes["touched"][0].abs() > 1e-3 and changes["touched"][2] == 0


@pytest.mark.parametrize("model", MODELS)
def test_one_client_with_full_batches_is_centralised_descent(model: str) -> None:
    federation = random_federation(4, n_clients=1, most=5)
    work = work_of(federation, batch_size=0, local_epochs=3, lr=0.05, **MODELS[model])
    server, clients = begin(work)
    oracle = Oracle(work)
    vector = oracle.vector(server, clients).requires_grad_()
    descent = torch.optim.SGD([vector], lr=0.05)
    for number in range(1, 4):
        server = do_round(work, server.at(number), clients, everyone(work)).server
        ((step, *_),) = steps_of(work, everyone(work))  # any order: all rows
        for _ in range(3):
            descent.zero_grad()
            oracle.loss(vector, step).backward()
            descent.step()
        oracle.compare(vector.detach(), server, clients)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("seed", range(2))
def test_fedavg_agrees_with_its_reference(model: str, seed: int) -> None:
    work = work_of(random_federation(seed), local_epochs=2, lr=0.2, **MODELS[model])
    cohort = everyone(work)
    oracle = Oracle(work)
    steps, weights = steps_of(work, cohort), rows_of(work, cohort)
    before = oracle.vector(*begin(work))

    def run(own: list[float]) -> torch.Tensor:
        return reference_of("fedavg")(before, steps, own, oracle.gradient, 0.2)

    _, server, clients = rounds(work)
    oracle.compare(oracle.by_touch(steps, weights, run, before), server, clients)


def test_weights_may_be_the_same_for_all_and_rates_of_each_kind_its_own() -> None:
    rates = {"lr_item": 0.4, "lr_user": 0.1}
    work = work_of(random_federation(7), weights="uniform", lr=0.2, **rates)
    cohort = everyone(work)
    oracle = Oracle(work, {"shared": 0.2, "item": 0.4, "user": 0.1})
    steps = steps_of(work, cohort)
    before = oracle.vector(*begin(work))

    def run(own: list[float]) -> torch.Tensor:
        return reference_of("fedavg")(before, steps, own, oracle.gradient, 1.0)

    _, server, clients = rounds(work)
    oracle.compare(oracle.by_touch(steps, [1.0] * len(cohort), run, before), server, clients)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("seed", range(2))
def test_fedprox_agrees_with_its_reference(model: str, seed: int) -> None:
    # Users stand still here: the reference would hold them too, and they have no server to stay near.
    plan = {"local_epochs": 3, "lr": 0.2, "lr_user": 0.0, "fedprox": {"mu": 0.7}}
    work = work_of(random_federation(seed), algorithm="fedprox", **plan, **MODELS[model])
    cohort = everyone(work)
    oracle = Oracle(work, {"user": 0.0})
    steps, weights = steps_of(work, cohort), rows_of(work, cohort)
    before = oracle.vector(*begin(work))

    def run(own: list[float]) -> torch.Tensor:
        return reference_of("fedprox")(before, steps, own, oracle.gradient, 0.2, 0.7)

    _, server, clients = rounds(work)
    oracle.compare(oracle.by_touch(steps, weights, run, before), server, clients)


def test_fedprox_leaves_users_free() -> None:
    # One client and one row: the first step is the same, the second would be held back.
    federation = federation_of_rows([(0, 0, 0, 5.0, "train")], n_items=1, n_clients=1)
    found = []
    for mu in (0.0, 5.0):
        plan = {"local_epochs": 2, "lr": 0.1, "lr_item": 0.0, "fedprox": {"mu": mu}}
        work = work_of(federation, algorithm="fedprox", **MODELS["mf"], **plan)
        found.append(rounds(work)[2].users)
    for name, table in found[0].items():
        torch.testing.assert_close(table, found[1][name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("seed", range(2))
def test_scaffold_agrees_with_its_reference_whoever_is_sampled(model: str, seed: int) -> None:
    plan = {"local_epochs": 2, "lr": 0.1, "lr_user": 0.0, "algorithm": "scaffold"}
    work = work_of(random_federation(seed), **plan, **MODELS[model])
    oracle = Oracle(work, {"user": 0.0})
    items = torch.zeros(oracle.size, dtype=torch.bool)
    for name, part in oracle.parts.items():
        items[part] = work.parameters[name].scope == "item"
    server, clients = begin(work)
    value = oracle.vector(server, clients)
    control, holders = torch.zeros_like(value), torch.zeros_like(value)
    controls = {int(client): torch.zeros_like(value) for client in everyone(work)}
    ever = {client: torch.zeros(oracle.size, dtype=torch.bool) for client in controls}
    for number, cohort in enumerate([np.array([1, 4]), np.array([0, 2, 3]), *[everyone(work)] * 2]):
        steps = steps_of(work, cohort, number + 1)
        weights = rows_of(work, cohort)
        held = oracle.touched(steps)
        own = []
        for client, mine, weight in zip(cohort.tolist(), held, weights, strict=True):
            # A row of an item without a control has the server's: it is not corrected.
            first = items & mine & ~ever[client]
            holders[first] += weight
            own.append(torch.where(mine & ~first, controls[client], control))
            ever[client] |= mine
        of_all = torch.where(items, holders.clamp(min=1), work.federation.train.counts.sum())
        value, control, after = reference_on(
            oracle, held, value, control, own, steps, weights, of_all
        )
        server = do_round(work, server.at(number + 1), clients, cohort).server
        for client, new, mine in zip(cohort.tolist(), after, held, strict=True):
            controls[client] = torch.where(mine, new, controls[client])
        oracle.compare(value, server, clients)
        extra = {name: server.extra["control/" + name] for name in server.values}
        for name, table in oracle.tables(control).items():
            if name in extra:
                torch.testing.assert_close(extra[name], table, rtol=1e-4, atol=1e-6, msg=name)


def reference_on(
    oracle: Oracle,
    held: torch.Tensor,
    value: torch.Tensor,
    control: torch.Tensor,
    own: Sequence[torch.Tensor],
    steps: Sequence[Sequence[Step]],
    weights: Sequence[float],
    of_all: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """The reference, value by value with the weights of those who hold it, corrections where held alone."""
    new_value, new_control = value.clone(), control.clone()
    after: list[torch.Tensor] = []
    for pattern in torch.unique(held, dim=1).T:
        share = [w * bool(has) for w, has in zip(weights, pattern, strict=True)]
        if not any(share):
            continue
        mine = (held == pattern[:, None]).all(0)
        by_value, by_control, after = reference_of("scaffold")(
            value, control, own, steps, share, oracle.gradient, 0.1, of_all
        )
        new_value[mine], new_control[mine] = by_value[mine], by_control[mine]
    return new_value, new_control, after


@pytest.mark.parametrize(
    "plan",
    [
        {},
        {"weights": "uniform"},
        {"item_mean": "sum"},
        {"item_mean": "cohort"},
        {"compression": {"method": "topk", "share": 0.4}},
        {"privacy": {"clip": 0.05}},
        {"secure": {"enabled": True}},
        {"valid_clients": 0.2},
    ],
    ids=str,
)
def test_a_control_of_the_server_is_at_any_time_the_mean_of_those_that_clients_keep(
    plan: dict[str, Any],
) -> None:
    federation = random_federation(17, n_clients=6)
    work = work_of(federation, algorithm="scaffold", lr=0.1, **plan)
    server, clients = begin(work)
    assert work.may_train.sum() == 6 - round(6 * plan.get("valid_clients", 0))
    rows = federation.train.counts * work.may_train
    weight = torch.from_numpy((rows if work.plan.weights == "rows" else rows > 0).astype(float))
    able = np.flatnonzero(work.may_train)
    draw = np.random.default_rng(5)
    for number in range(1, 7):
        cohort = np.sort(draw.choice(able, 2 + number % 2, replace=False))
        server = do_round(work, server.at(number), clients, cohort).server
        for name in ("w", "c", "h"):
            kept = clients.shared["control/" + name].double()
            mean = (kept.reshape(6, -1) * weight[:, None]).sum(0) / weight.sum()
            told = server.extra["control/" + name].reshape(-1)
            torch.testing.assert_close(told, mean, rtol=1e-5, atol=1e-7)
        state = clients.row_store("control/item").state("s")
        owner = torch.repeat_interleave(state["s:client"], state["s:count"])
        total, by = torch.zeros(9, 3, dtype=torch.float64), torch.zeros(9, dtype=torch.float64)
        total.index_add_(0, state["s:item"], state["s:value"].double() * weight[owner, None])
        by.index_add_(0, state["s:item"], weight[owner])
        if work.plan.item_mean == "cohort":
            by = weight.sum().expand(9)
        mean = total / by.clamp(min=1)[:, None]
        torch.testing.assert_close(server.extra["control/item"], mean, rtol=1e-5, atol=1e-7)
        assert mean.abs().max() > 1e-3


def test_scaffold_ends_where_the_pooled_loss_is_least_whoever_is_sampled() -> None:
    # Client i's loss is a_i (x − b_i)² / 2; few are sampled, and sizes differ by far.
    draw = np.random.default_rng(0)
    sizes = np.array([1.0, 2.0, 1.0, 40.0, 7.0, 1.0, 3.0, 90.0])
    a, b = (torch.from_numpy(draw.uniform(low, high, 8)) for low, high in ((0.5, 2), (-4, 4)))
    best = float((torch.from_numpy(sizes) * a * b).sum() / (torch.from_numpy(sizes) * a).sum())
    value, control = torch.zeros(1).double(), torch.zeros(1).double()
    controls = [torch.zeros(1).double()] * 8
    for _ in range(1500):
        cohort = draw.choice(8, 2, replace=False)
        value, control, after = reference_of("scaffold")(
            value, control, [controls[i] for i in cohort], [[i] * 4 for i in cohort],
            sizes[cohort].tolist(), lambda x, i: a[i] * (x - b[i]), 0.05, sizes.sum(),
        )  # fmt: skip
        for client, new in zip(cohort, after, strict=True):
            controls[client] = new
    assert float(value) == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("local", [{"local_epochs": 2}, {"local_steps": 5}])
def test_fednova_agrees_with_its_reference_for_uneven_steps(
    model: str, local: dict[str, int]
) -> None:
    work = work_of(random_federation(5), algorithm="fednova", lr=0.1, **local, **MODELS[model])
    cohort = everyone(work)
    oracle = Oracle(work)
    steps, weights = steps_of(work, cohort), rows_of(work, cohort)
    taken = [len(mine) for mine in steps]
    assert (len(set(taken)) > 1) == ("local_epochs" in local)
    before = oracle.vector(*begin(work))
    tau = np.average(taken, weights=weights)

    def run(own: list[float]) -> torch.Tensor:
        # τ_eff is of the whole cohort, also for a row that not all have.
        after = reference_of("fednova")(before, steps, own, oracle.gradient, 0.1)
        return before + (after - before) * tau / np.average(taken, weights=own)

    _, server, _ = rounds(work)
    expected = oracle.by_touch(steps, weights, run, before)
    oracle.compare(expected, server, clients_without_users(work))


def clients_without_users(work: Work) -> Any:
    """Clients that hold nothing to compare: users' rows are not the server's to normalise."""
    clients = begin(work)[1]
    clients.users = {}
    return clients


def test_fednova_counts_the_gradients_behind_momentum() -> None:
    work = work_of(
        random_federation(6),
        algorithm="fednova",
        optimizer="momentum",
        momentum=0.8,
        lr=0.05,
        local_epochs=3,
        item_mean="cohort",
    )
    cohort = everyone(work)
    oracle = Oracle(work)
    steps = steps_of(work, cohort)
    weights = np.array(rows_of(work, cohort))
    before = oracle.vector(*begin(work))
    normalised, behind = [], []
    for mine in steps:
        local, velocity, count, total = before.clone(), torch.zeros_like(before), 0.0, 0.0
        for step in mine:
            velocity = 0.8 * velocity + oracle.gradient(local, step)
            local = local - 0.05 * velocity
            count = 0.8 * count + 1  # how many gradients are in the velocity
            total += count
        normalised.append((local - before) / total)
        behind.append(total)
    share = weights / weights.sum()
    mean = sum(s * each for s, each in zip(share, normalised, strict=True))
    expected = before + float(share @ behind) * mean
    _, server, _ = rounds(work)
    oracle.compare(expected, server, clients_without_users(work))


def test_a_client_without_a_step_adds_none_to_those_of_fednova() -> None:
    # A sequence of one row has no next item: client 1 does nothing, and has its weight all the same.
    rows = [(0, 0, item, 3.0, "train") for item in range(5)] + [(1, 1, 0, 3.0, "train")]
    plan = {"model": "sasrec", "task": "bce", "local_steps": 3, "lr": 0.1, "batch_size": 1}
    found = []
    for algorithm in ("fedavg", "fednova"):
        work = work_of(federation_of_rows(rows, 9, 2), algorithm=algorithm, **plan)
        start, _ = begin(work)
        _, server, _ = rounds(work)
        found.append({name: server.values[name] - start.values[name] for name in start.values})
    # Client 0 does 3 steps of weight 5/6: 5/6 Δ / 3 · (5/6 · 3 + 1/6 · 0), where averaging gives 5/6 Δ.
    for name, change in found[0].items():
        scope = work.parameters[name].scope
        if scope == "shared":
            torch.testing.assert_close(found[1][name], change * 5 / 6, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("name", "kind"), [(f"fed{k}", k) for k in ("adagrad", "yogi", "adam")])
def test_adaptive_servers_agree_with_their_reference_over_three_rounds(
    name: str, kind: str
) -> None:
    options = {"server_lr": 0.3, "server_tau": 0.05, "server_beta2": 0.7, "lr": 0.2}
    work = work_of(random_federation(8), algorithm=name, **options)
    assert work.plan.server_optimizer == kind
    server, clients = begin(work)
    start, changes = server.values, []
    for number in range(1, 4):
        plain = work_of(random_federation(8), lr=0.2)
        other = begin(plain)[1]
        other.restore(clients.state())
        averaged = do_round(plain, server.at(number), other, everyone(work)).server
        changes.append({n: averaged.values[n].double() - server.values[n] for n in start})
        server = do_round(work, server.at(number), clients, everyone(work)).server
    for n, value in start.items():
        expected = reference_of("fedopt")(
            value.double(), [c[n] for c in changes], kind, 0.3, 0.9, 0.7, 0.05
        )
        torch.testing.assert_close(server.values[n].double(), expected, rtol=1e-4, atol=1e-5)


def test_an_adaptive_server_takes_small_steps_unless_a_plan_says_otherwise() -> None:
    for name in ("fedadam", "fedyogi", "fedadagrad"):
        work = work_of(random_federation(8), algorithm=name)
        _, server, _ = rounds(work)
        start, _ = begin(work)
        for n, value in start.values.items():
            assert 0 < float((server.values[n] - value).abs().max()) < 0.05
        assert work_of(random_federation(8), algorithm=name, server_lr=1.0).plan.server_lr == 1.0


def test_fedper_agrees_with_its_reference_over_two_rounds() -> None:
    work = work_of(random_federation(9), algorithm="fedper", lr=0.2, local_epochs=2)
    cohort = everyone(work)
    oracle = Oracle(work)
    server, clients = begin(work)
    part = oracle.parts["h"]
    base = oracle.vector(server, clients)
    heads = [base[part].clone() for _ in cohort]

    def gradient(
        own: torch.Tensor, head: torch.Tensor, step: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        whole = own.clone()
        whole[part] = head
        found = oracle.gradient(whole, step)
        by_head = found[part].clone()
        found[part] = 0
        return found, by_head

    for number in (1, 2):
        steps, weights = steps_of(work, cohort, number), rows_of(work, cohort)
        after: list[torch.Tensor] = []

        def run(
            own: list[float],
            base: torch.Tensor = base,
            heads: Sequence[torch.Tensor] = heads,
            steps: Sequence[Sequence[Step]] = steps,
            after: list[torch.Tensor] = after,
        ) -> torch.Tensor:
            found, after[:] = reference_of("fedper")(base, heads, steps, own, gradient, 0.2)
            return torch.as_tensor(found)

        base = oracle.by_touch(steps, weights, run, base)
        heads = list(after)
        server = do_round(work, server.at(number), clients, cohort).server
        oracle.compare(base, server, clients)
        assert clients.shared["h"].shape == (5, 3)
        torch.testing.assert_close(
            clients.shared["h"].double(), torch.stack(heads), rtol=1e-5, atol=1e-6
        )


def test_a_head_is_kept_at_its_client_and_nowhere_else() -> None:
    work = work_of(random_federation(9), algorithm="fedper", lr=0.2, chunk_rows=1)
    start, _ = begin(work)
    cohorts = [np.array([1, 3]), np.array([0])]
    _, server, clients = rounds(work, 2, cohorts)
    heads = clients.shared["h"]
    assert torch.equal(server.values["h"], start.values["h"])
    for client in (2, 4):  # never sampled
        assert torch.equal(heads[client], start.values["h"])
    assert len(torch.unique(heads, dim=0)) == 4
    still = work_of(random_federation(9), algorithm="fedper", lr=0.2, lr_head=0.0)
    _, _, kept = rounds(still, 2)
    assert (kept.shared["h"] == start.values["h"]).all()
    nothing = work_of(random_federation(9), algorithm="fedper", lr=0.0)
    _, after, kept = rounds(nothing, 2)
    assert (kept.shared["h"] == start.values["h"]).all()
    assert_same_bits(after.values, start.values)


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("model", MODELS)
def test_fedrecon_agrees_with_its_reference(model: str, split: bool) -> None:
    recon = {"recon_epochs": 3, "recon_lr": 0.3, "split": split}
    plan = {"algorithm": "fedrecon", "fedrecon": recon, "local_epochs": 2, "lr": 0.2}
    work = work_of(random_federation(10, most=5), **plan, **MODELS[model])
    cohort = everyone(work)
    oracle = Oracle(work)
    users = torch.zeros(oracle.size, dtype=torch.bool)
    for name, part in oracle.parts.items():
        users[part] = work.parameters[name].scope == "user"
    server, clients = begin(work)
    value = oracle.vector(server, clients)
    start = torch.where(users, value, 0.0)

    def gradient(shared: torch.Tensor, own: torch.Tensor, step: object) -> torch.Tensor:
        return oracle.gradient(torch.where(users, own, shared), step)

    for number in (1, 2):
        steps, weights = steps_of(work, cohort, number), rows_of(work, cohort)
        support = [[step for step in mine if step.support] for mine in steps]
        query = [[step for step in mine if not step.support] for mine in steps]
        assert all(support) and all(query)

        def run(
            own: list[float],
            value: torch.Tensor = value,
            support: Any = support,
            query: Any = query,
        ) -> torch.Tensor:
            found: torch.Tensor = reference_of("fedrecon")(
                value, [start] * len(cohort), support, query, own,
                lambda *at: torch.where(users, gradient(*at), 0.0),
                lambda *at: torch.where(users, 0.0, gradient(*at)),
                0.3, 0.2,
            )  # fmt: skip
            return found

        value = oracle.by_touch(query, weights, run, value)
        server = do_round(work, server.at(number), clients, cohort).server
        oracle.compare(value, server, clients_without_users(work))


def test_a_schedule_leaves_the_rebuilding_of_users_alone() -> None:
    work = work_of(random_federation(10, most=5), algorithm="fedrecon", lr=0.2, **MODELS["mf"])
    found = []
    for factor in (1.0, 0.25, 0.0):
        _, server, clients = rounds(work, lr_factor=factor)
        found.append((server, clients))
    for _, clients in found[1:]:
        assert_same_bits(clients.users, found[0][1].users)
    start, _ = begin(work)
    assert_same_bits(found[2][0].values, start.values)
    moved = [(server.values["item_factors"] - start.values["item_factors"]) for server, _ in found]
    assert 0 < float(moved[1].norm()) < float(moved[0].norm())


def test_a_number_of_local_steps_leaves_the_passes_over_the_support_rows_alone() -> None:
    recon = {"fedrecon": {"recon_epochs": 3}, "batch_size": 1}
    federation = random_federation(10, most=5)
    work = work_of(federation, algorithm="fedrecon", local_steps=2, **recon)
    passes = work_of(federation, algorithm="fedrecon", **recon)
    cohort = everyone(work)
    for few, all_ in zip(steps_of(work, cohort), steps_of(passes, cohort), strict=True):
        assert sum(step.support for step in few) == sum(step.support for step in all_) >= 3
        assert sum(not step.support for step in few) == 2


def test_fedrecon_uses_each_row_in_one_half_and_a_lone_row_in_both() -> None:
    federation = random_federation(11, most=5)
    work = work_of(federation, algorithm="fedrecon", batch_size=0)
    for number in (1, 2, 3):
        for mine in steps_of(work, everyone(work), number):
            halves = [
                list(zip(step.slot.tolist(), step.item[:, 0].tolist(), strict=True))
                for step in mine
            ]
            support, query = (set(half) for half in halves)
            for slot in {slot for slot, _ in support | query}:
                n = int(federation.slot_rows[slot])
                first = [pair for pair in support if pair[0] == slot]
                second = [pair for pair in query if pair[0] == slot]
                assert len(first) == (n + 1) // 2
                assert len(second) == max(n // 2, 1)
                assert len({*first, *second}) == n


def test_reconstruction_with_everyone_lowers_the_pooled_objective_in_every_round() -> None:
    federation = random_federation(12, n_clients=8, most=6)
    recon = {"recon_epochs": 60, "recon_lr": 1.0, "split": False}
    table = {"mf": {"dim": 2, "bias": False, "start": 0.5, "mean": 3.0}, "model": "mf"}
    work = work_of(
        federation,
        algorithm="fedrecon",
        fedrecon=recon,
        batch_size=0,
        lr=0.5,
        item_mean="cohort",
        weight_decay=0.05,
        **table,
    )
    server, clients = begin(work)
    train = federation.train
    found = []
    for number in range(1, 7):
        item = server.values["item_factors"]
        server = do_round(work, server.at(number), clients, everyone(work)).server
        # Clients hold what they rebuilt for the items that they were sent.
        score = 3.0 + (clients.users["user_factors"][train.slot] * item[train.item_id]).sum(1)
        own = clients.users["user_factors"][train.slot].square().sum(1)
        kept = 0.05 * (own + item[train.item_id].square().sum(1))
        found.append(float(((score - torch.from_numpy(train.rating)) ** 2 + kept).sum()))
    assert all(after < before for before, after in itertools.pairwise(found)), found
    assert found[-1] < 0.9 * found[0]


def test_users_of_a_reconstruction_begin_anew_in_each_round() -> None:
    work = work_of(random_federation(13), algorithm="fedrecon", **MODELS["mf"])
    server, clients = begin(work)
    _, _, touched = rounds(work, 2)
    server = do_round(work, server.at(1), clients, everyone(work)).server
    for table in clients.users.values():
        table.fill_(7.0)
    do_round(work, server.at(2), clients, everyone(work))
    assert_same_bits(clients.users, touched.users)


@pytest.mark.parametrize("mu", [-0.1, math.nan, math.inf])
def test_a_proximal_weight_that_is_no_weight_is_refused(mu: float) -> None:
    with pytest.raises(TrainingError, match="mu is"):
        ALGORITHMS["fedprox"](mu=mu)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"algorithm": "fedrecon", "model": "mult_vae", "task": "implicit"}, "nothing to rebuild"),
        ({"algorithm": "fednova", "optimizer": "adam"}, "Adam rescales"),
        ({"algorithm": "scaffold", "optimizer": "momentum"}, "plain SGD steps, not of momentum"),
        ({"algorithm": "scaffold", "optimizer": "adam"}, "plain SGD steps, not of adam"),
    ],
)
def test_what_an_algorithm_cannot_work_with_is_refused_before_a_round(
    table: dict[str, Any], words: str
) -> None:
    work = work_of(random_federation(1), **table)
    with pytest.raises(TrainingError, match=words):
        work.algorithm.phases(work.plan, work.parameters)


def test_a_client_alone_keeps_all_it_has_and_sends_nothing() -> None:
    work = work_of(random_federation(14), algorithm="local", lr=0.2)
    start, _ = begin(work)
    outcomes, server, clients = rounds(work, 2)
    assert all(outcome.bytes_up == outcome.bytes_down == 0 for outcome in outcomes)
    assert all(not outcome.update_norm.any() for outcome in outcomes)
    assert_same_bits(server.values, start.values)
    # Two rounds of the others change nothing for a client; its own do.
    alone = work_of(random_federation(14), algorithm="local", lr=0.2)
    _, _, other = rounds(alone, 2, [np.array([2]), np.array([2])])
    slots = slice(*work.federation.slot_offsets[2:4])
    assert torch.equal(other.users["user"][slots], clients.users["user"][slots])
    for name in ("w", "c", "h"):
        assert torch.equal(other.shared[name][2], clients.shared[name][2])
        assert not torch.equal(clients.shared[name][2], start.values[name])
    assert torch.equal(other.rows["item"]._of[2][1], clients.rows["item"]._of[2][1]), (
        "rows of items"
    )


def test_controls_stand_still_where_nothing_was_learned() -> None:
    work = work_of(random_federation(15), algorithm="scaffold", lr=0.1)
    server, clients = begin(work)
    server = do_round(work, server.at(1), clients, everyone(work)).server
    before = {name: value.clone() for name, value in state_of(server, clients).items()}
    outcome = do_round(work, server.at(2), clients, everyone(work), lr_factor=0.0)
    assert outcome.sound.all()
    assert_same_bits(state_of(outcome.server, clients), before)


def test_algorithms_that_know_one_optimiser_refuse_others() -> None:
    for name, optimizer in (("fednova", "adam"), ("scaffold", "momentum")):
        work = work_of(random_federation(1), algorithm=name, optimizer=optimizer)
        with pytest.raises(TrainingError, match=r"SGD|Adam"):
            rounds(work)
