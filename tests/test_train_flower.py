"""Flower does what the own engine does: the same numbers, and nothing private on the wire."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from built import write_built

from fedprep.dataset import Dataset
from fedprep.errors import DatasetError, MissingExtraError, RecipeError, TrainingError
from fedprep.export import export
from fedtrain.algorithms import ALGORITHMS, Server
from fedtrain.clients import Clients
from fedtrain.engine import Work
from fedtrain.facts import facts_of, sizes_of
from fedtrain.federation import features_of, federation_of
from fedtrain.flower import train_with_flower
from fedtrain.flower.judging import judged, pooled
from fedtrain.flower.memory import gather, recall, remember
from fedtrain.flower.parts import join_parts, part_of
from fedtrain.flower.shard import exported, federation_of_shard, shard_of_dataset
from fedtrain.flower.simulation import in_simulation
from fedtrain.measures import task_measures
from fedtrain.models import MODELS
from fedtrain.parameters import initial
from fedtrain.rounds import Outcome, do_round
from fedtrain.run import Run, read_tensors
from fedtrain.settings import parse_plan
from fedtrain.tasks import TASKS
from fedtrain.train import train

needs_flower = pytest.mark.skipif(
    importlib.util.find_spec("flwr") is None or importlib.util.find_spec("ray") is None,
    reason="needs Flower: pip install 'fedprep[flower]'",
)
# Flower's command line uses what click is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:'click.utils:DeprecationWarning")
SEED = 3
CLOSE = 1e-5


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """12 clients of several users each."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("flower")
    return Dataset.open(write_built(folder / "dataset"))


def work_of(dataset: Dataset, **table: Any) -> Work:
    plan = parse_plan({"clients_per_round": 5, "batch_size": 8, "lr": 0.5, **table})
    federation, facts = federation_of(dataset), facts_of(dataset)
    model = MODELS[plan.model](**plan.table(plan.model))
    return Work(
        federation=federation,
        features=features_of(dataset, list(facts.modalities), behavior=True),
        model=model,
        parameters=model.parameters(sizes_of(plan, facts)),
        task=TASKS[plan.loss],
        algorithm=ALGORITHMS[plan.algorithm](**plan.table(plan.algorithm)),
        plan=plan,
        excluded=federation.positives,
        seed=SEED,
    )


def begun(work: Work) -> tuple[Server, Clients]:
    federation = work.federation
    server = Server(values=initial(work.parameters, federation.n_items, SEED), round_number=1)
    sizes = federation.n_clients, federation.n_slots
    forgets = work.algorithm.stateless
    return server, Clients.new(*sizes, work.parameters, SEED, forgets=forgets)


COHORTS = (np.array([0, 3, 4, 7, 11]), np.array([1, 3, 7, 8, 10]))
"""Two rounds: clients 3 and 7 are in both, and go on from what they kept."""


def two_rounds(work: Work, round_of: Any) -> tuple[list[Outcome], Clients]:
    server, clients = begun(work)
    outcomes = []
    for number, cohort in enumerate(COHORTS, start=1):
        outcome = round_of(
            work, server.at(number), clients, cohort, lr_factor=0.5, progress=number / 2
        )
        outcomes.append(outcome)
        server = outcome.server
    return outcomes, clients


def assert_alike(work: Work, given: tuple[list[Outcome], Clients]) -> None:
    """Every value at the server and at the clients is the own engine's, after each round."""
    own, own_clients = two_rounds(work, do_round)
    other, clients = given
    for mine, theirs in zip(own, other, strict=True):
        assert mine.server.values.keys() == theirs.server.values.keys()
        for name, value in mine.server.values.items():
            torch.testing.assert_close(theirs.server.values[name], value, atol=CLOSE, rtol=0)
        np.testing.assert_array_equal(theirs.client, mine.client)
        np.testing.assert_array_equal(theirs.rows, mine.rows)
        np.testing.assert_allclose(theirs.loss, mine.loss, atol=CLOSE)
        np.testing.assert_allclose(theirs.drift, mine.drift, atol=CLOSE)
        assert (theirs.bytes_up, theirs.bytes_down) == (mine.bytes_up, mine.bytes_down)
    before = begun(work)[0].values
    moved = any(not torch.equal(own[-1].server.values[n], before[n]) for n in before)
    assert moved == work.algorithm.joins
    mine, theirs = own_clients.state(), clients.state()
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        torch.testing.assert_close(theirs[name], value, atol=CLOSE, rtol=0)


PLANS: dict[str, dict[str, Any]] = {
    "fedavg": {},
    "fedprox": {"fedprox": {"mu": 0.1}},
    "fedper": {"model": "two_tower", "task": "binary", "two_tower": {"dim": 4, "hidden": 4}},
    "fedrecon": {"task": "rating", "lr": 0.1},
    "scaffold": {},
    "fednova": {},
    "fedadam": {"server_lr": 0.01},
    "local": {},
}
"""What each algorithm is tried with; on the rest of the list there is matrix factorisation."""

algorithms = pytest.mark.parametrize("algorithm", [name for name in PLANS if name in ALGORITHMS])


def plan_of(algorithm: str) -> dict[str, Any]:
    return {"algorithm": algorithm, "mf": {"dim": 4}, **PLANS[algorithm]}


@algorithms
def test_clients_one_by_one_on_their_own_shards_add_up_to_the_same_round(
    algorithm: str, dataset: Dataset, tmp_path: Path
) -> None:
    def alone(work: Work, server: Server, clients: Clients, cohort: Any, **rest: Any) -> Outcome:
        parts = []
        for client in reversed(cohort.tolist()):
            shard = shard_of_dataset(dataset, client)
            first = int(work.federation.slot_offsets[client])
            own = federation_of_shard(shard, first)
            mine = replace(work, federation=own, excluded=own.positives)
            kept = recall(tmp_path, mine, client)
            parts.append(part_of(mine, server, kept, client, **rest))
            remember(tmp_path, mine, kept, [client])
        outcome = join_parts(work, server, cohort, parts)
        gather(tmp_path, work, clients, cohort.tolist(), dict(server.values))
        return outcome

    work = work_of(dataset, **plan_of(algorithm))
    assert_alike(work, two_rounds(work, alone))


class Here:
    """A grid whose nodes are in this process: what `Fleet` needs of one, and a record of all messages."""

    def __init__(self, configs: list[dict[str, Any]]) -> None:
        from flwr.app import Context, RecordDict
        from flwr.supercore.task_identity import TaskIdentity

        # What Flower's runtime sets before a ServerApp makes its first message.
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 0, 1
        self.contexts = {
            node: Context(
                run_id=1, node_id=node, node_config=config, state=RecordDict(), run_config={}
            )
            for node, config in enumerate(configs, start=1)
        }
        self.replies: dict[str, Any] = {}
        self.seen: list[tuple[str, Any]] = []
        self.silent: set[int] = set()
        self.dies: dict[int, int] = {}  # by node: the round from which on it is gone
        self.gone: set[int] = set()

    def get_node_ids(self) -> list[int]:
        return [node for node in self.contexts if node not in self.gone]

    def push_messages(self, messages: Iterable[Any]) -> Iterator[str]:
        from flwr.app import Error, Message

        from fedtrain.flower.client_app import app

        for number, message in enumerate(messages, start=len(self.seen)):
            message.metadata.__dict__["_message_id"] = str(number)
            self.seen.append(("down", message.content))
            node, group = message.metadata.dst_node_id, message.metadata.group_id
            if node in self.dies and group.isdigit() and int(group) >= self.dies[node]:
                self.gone.add(node)
                error = Error(code=3, reason="Error: Node Unavailable")
                self.replies[str(number)] = Message(error, reply_to=message)
                yield str(number)
                continue
            try:
                reply = app(message, self.contexts[message.metadata.dst_node_id])
                self.seen.append(("up", reply.content))
            except Exception as error:
                reason = f"Exception ClientAppException occurred. Message: {error}'>"
                reply = Message(Error(code=0, reason=reason), reply_to=message)
            if message.metadata.dst_node_id not in self.silent:
                self.replies[str(number)] = reply
            yield str(number)

    def send_and_receive(self, messages: Iterable[Any]) -> list[Any]:
        return [self.replies.pop(number) for number in list(self.push_messages(messages))]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Any]:
        there = [number for number in sorted(message_ids, reverse=True) if number in self.replies]
        return [self.replies.pop(number) for number in there[:2]]


def simulated(dataset: Dataset, state: Path) -> tuple[Here, Any]:
    """Nodes that are told which client to play."""
    from fedtrain.flower.server_app import Fleet

    grid = Here([{}] * 5)
    nodes = tuple(grid.get_node_ids())
    return grid, Fleet(grid=grid, nodes=nodes, dataset=str(dataset.path), state=str(state))  # type: ignore[arg-type]


def rounds_of(fleet: Any) -> Any:
    from fedtrain.flower.server_app import do_round_with

    return lambda *given, **rest: do_round_with(fleet, *given, **rest)


@needs_flower
@algorithms
def test_rounds_by_messages_are_the_own_engines(
    algorithm: str, dataset: Dataset, tmp_path: Path
) -> None:
    work = work_of(dataset, **plan_of(algorithm))
    grid, fleet = simulated(dataset, tmp_path)
    assert_alike(work, two_rounds(work, rounds_of(fleet)))
    assert [kind for kind, _ in grid.seen].count("up") == 10


@needs_flower
@algorithms
def test_no_message_holds_a_private_parameter(
    algorithm: str, dataset: Dataset, tmp_path: Path
) -> None:
    work = work_of(dataset, **plan_of(algorithm))
    grid, fleet = simulated(dataset, tmp_path)
    _, clients = two_rounds(work, rounds_of(fleet))
    assert work.private
    users = {
        name
        for name, parameter in work.parameters.items()
        if parameter.scope == "user"
    }  # fmt: skip
    assert users <= work.private
    kept = [values for name, values in clients.state().items() if values.dtype == torch.float32]
    for _, content in grid.seen:
        for record in content.array_records.values():
            assert not work.private & set(record)
            assert not [name for name in record if name.startswith(("first/", "second/"))]
            for array in record.values():
                sent = array.numpy()
                for values in kept:
                    rows = values.numpy()
                    if rows.ndim > 1 and sent.shape == rows.shape:
                        assert not np.array_equal(sent, rows)


@needs_flower
def test_real_nodes_read_their_own_exported_shard_alone(dataset: Dataset, tmp_path: Path) -> None:
    from flwr.app import Message, RecordDict

    from fedtrain.flower.server_app import Fleet

    work = work_of(dataset, **plan_of("fedavg"))
    export(dataset, tmp_path / "shards", to="client-files")
    order = [4, 0, 11, 3, 7, 1, 8, 10]
    configs = []
    for client in order:
        alone = tmp_path / f"node-{client}"
        (tmp_path / "shards" / f"client-{client:05d}").rename(alone)
        (alone / "items.parquet").write_bytes((tmp_path / "shards" / "items.parquet").read_bytes())
        configs.append({"data": str(alone), "state": str(alone / "kept")})
    grid = Here(configs)
    asked = [Message(RecordDict({}), node, "query.who") for node in grid.get_node_ids()]
    numbers = list(grid.push_messages(asked))
    who = [int(grid.replies.pop(number).content["who"]["client"]) for number in numbers]
    assert who == order
    fleet = Fleet(grid=grid, nodes=tuple(grid.get_node_ids()), clients=tuple(who))  # type: ignore[arg-type]
    own, own_clients = two_rounds(work, do_round)
    outcomes, nobody = two_rounds(work, rounds_of(fleet))
    for mine, theirs in zip(own, outcomes, strict=True):
        for name, value in mine.server.values.items():
            torch.testing.assert_close(theirs.server.values[name], value, atol=CLOSE, rtol=0)
    # The server's process has learnt nothing of what the nodes keep; their own folders hold it.
    for name, value in begun(work)[1].users.items():
        assert torch.equal(nobody.users[name], value)
    for client, config in zip(order, configs, strict=True):
        gather(Path(config["state"]), work, nobody, [client], {})
    for name, value in own_clients.users.items():
        torch.testing.assert_close(nobody.users[name], value, atol=CLOSE, rtol=0)


def run_config(folder: Path, n_nodes: int, **train: Any) -> dict[str, Any]:
    lines = [f"{key} = {json.dumps(value)}" for key, value in train.items()]
    recipe = folder / "recipe.toml"
    recipe.write_text("\n".join(["[train]", *lines, "[train.mf]", "dim = 4"]))
    return {"recipe": str(recipe), "nodes": n_nodes, "out": str(folder / "run"), "seed": SEED}


def app_over(grid: Here, config: dict[str, Any]) -> None:
    from flwr.app import Context, RecordDict

    from fedtrain.flower.deployment import app

    context = Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config=config)
    app(grid, context)  # type: ignore[arg-type]


@needs_flower
def test_the_app_for_real_nodes_trains_what_the_own_engine_trains(
    dataset: Dataset, tmp_path: Path
) -> None:
    export(dataset, tmp_path / "shards", to="client-files")
    folders = sorted((tmp_path / "shards").glob("client-*"))
    grid = Here([{"data": str(f), "state": str(tmp_path / "kept")} for f in reversed(folders)])
    train = {"rounds": 2, "clients_per_round": 0, "batch_size": 8, "lr": 0.5}
    app_over(grid, run_config(tmp_path, len(folders), **train))
    work = work_of(dataset, mf={"dim": 4}, **train)
    server, clients = begun(work)
    outcomes = []
    for number in (1, 2):
        cohort = np.arange(len(folders))
        outcomes.append(do_round(work, server.at(number), clients, cohort))
        server = outcomes[-1].server
    found, header = read_tensors(tmp_path / "run" / "model.safetensors")
    assert header["round"] == 2
    assert found.keys() == server.values.keys()
    for name, value in server.values.items():
        torch.testing.assert_close(found[name], value, atol=CLOSE, rtol=0)
    run = Run.open(tmp_path / "run")
    assert run.manifest["status"] == "finished"
    rounds = run.rounds()
    for number, outcome in enumerate(outcomes, start=1):
        mine = dict(rounds.filter(round=number).select("metric", "value").iter_rows())
        assert mine["rows"] == len(work.federation.train)
        assert mine["bytes/up"] == outcome.bytes_up
        loss = np.average(outcome.loss, weights=outcome.rows)
        assert mine["loss/train"] == pytest.approx(loss, abs=CLOSE)
    assert rounds.filter(metric="loss/valid")["round"].to_list() == [2]  # eval_every, and the last
    known = task_measures(work, server, clients, "valid")
    assert known.keys() == {"loss/valid"}
    assert mine["loss/valid"] == pytest.approx(known["loss/valid"], abs=CLOSE)


def grid_over(dataset: Dataset, folder: Path) -> Here:
    """Nodes that hold the exported shards, each of a client of its own."""
    if not (folder / "shards").is_dir():
        export(dataset, folder / "shards", to="client-files")
    shards = sorted((folder / "shards").glob("client-*"))
    return Here([{"data": str(shard), "state": str(folder / "kept")} for shard in shards])


TRAIN: dict[str, Any] = {"rounds": 4, "clients_per_round": 0, "batch_size": 8, "lr": 0.5}


@needs_flower
def test_a_node_that_dies_is_a_client_that_dropped_out_and_the_others_go_on(
    dataset: Dataset, tmp_path: Path
) -> None:
    grid = grid_over(dataset, tmp_path)
    grid.dies = {2: 2}
    app_over(grid, run_config(tmp_path, len(grid.contexts), **TRAIN))
    run = Run.open(tmp_path / "run")
    assert (run.manifest["status"], run.manifest["rounds_done"]) == ("finished", 4)
    n = len(grid.contexts)
    counted = run.rounds().filter(metric="clients")["value"].to_list()
    assert counted == [n, n - 1, n - 1, n - 1]
    assert run.rounds().filter(metric="clients/dropped")["value"].to_list() == [0, 1, 1, 1]
    lost = [e for e in run.events() if e["event"] == "clients dropped out"]
    assert [e["round"] for e in lost] == [2, 3, 4]
    assert "Unavailable" in lost[0]["clients"]["1"]
    assert read_tensors(run.path / "model.safetensors")[1]["round"] == 4


@needs_flower
def test_where_all_nodes_die_the_run_has_failed_and_holds_what_was_trained_until_then(
    dataset: Dataset, tmp_path: Path
) -> None:
    grid = grid_over(dataset, tmp_path)
    n = len(grid.contexts)
    grid.dies = dict.fromkeys(grid.contexts, 3)
    with pytest.raises(TrainingError, match=f"{n} of {n} clients failed"):
        app_over(grid, run_config(tmp_path, n, **TRAIN))
    run = Run.open(tmp_path / "run")
    assert (run.manifest["status"], run.manifest["rounds_done"]) == ("failed", 2)
    after_two, header = read_tensors(run.path / "model.safetensors")
    assert header["round"] == 2
    # Nodes that come back go on from there, where the app is told to.
    config = run_config(tmp_path, n, **TRAIN)
    app_over(grid_over(dataset, tmp_path), config | {"resume": True})
    run = Run.open(tmp_path / "run")
    assert (run.manifest["status"], run.manifest["rounds_done"]) == ("finished", 4)
    whole = tmp_path / "whole"
    whole.mkdir()
    app_over(grid_over(dataset, whole), run_config(whole, n, **TRAIN))
    one, other = (read_tensors(p / "run" / "model.safetensors")[0] for p in (tmp_path, whole))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(after_two["item_factors"], one["item_factors"])


@needs_flower
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("secure", {"enabled": True}),
        ("stop", {"metric": "loss/valid", "mode": "min"}),
        ("valid_clients", 0.2),
        ("test_clients", 0.2),
        ("on_nonfinite", "rollback"),
        ("faults", {"dropout": 0.5}),
        ("algorithm", "centralised"),
        ("algorithm", "fedfnn"),
    ],
)
def test_what_the_app_does_not_do_is_refused_before_a_node_is_asked(
    dataset: Dataset, tmp_path: Path, key: str, value: Any
) -> None:
    inner = value if isinstance(value, dict) else {}
    keys = {f"{key}.{name}": own for name, own in inner.items()} or {key: value}
    grid = Here([{}])
    with pytest.raises((RecipeError, TrainingError)):
        app_over(grid, run_config(tmp_path, 1, rounds=1, **keys))
    assert not grid.seen
    assert not (tmp_path / "run").exists()


@needs_flower
def test_numbers_that_go_wrong_at_a_node_end_the_run_unless_it_is_to_be_left_out(
    dataset: Dataset, tmp_path: Path
) -> None:
    wrong = TRAIN | {"lr": 1e5, "task": "rating", "rounds": 2, "local_epochs": 20}
    grid = grid_over(dataset, tmp_path)
    with pytest.raises(TrainingError, match="not finite"):
        app_over(grid, run_config(tmp_path, len(grid.contexts), **wrong))
    assert Run.open(tmp_path / "run").manifest["status"] == "failed"


@pytest.mark.parametrize("split", ["train", "valid"])
@pytest.mark.parametrize("task", ["binary", "rating", "implicit"])
def test_sums_of_clients_pool_to_the_measures_of_all_rows(
    task: str, split: str, dataset: Dataset
) -> None:
    work = work_of(dataset, task=task, mf={"dim": 4, "start": 1.0})
    server, clients = begun(work)
    sums = []
    for client in range(work.federation.n_clients):
        shard = shard_of_dataset(dataset, client)
        own = federation_of_shard(shard, int(work.federation.slot_offsets[client]))
        mine = replace(work, federation=own, excluded=own.positives)
        sums.append(judged(mine, server, clients, split))
    found, known = pooled(sums, split), task_measures(work, server, clients, split)
    apart = {f"{name}/{split}" for name in ("rmse", "mae", "accuracy")}
    assert set(known) - set(found) <= apart | {name for name in known if "client" in name}
    assert (f"accuracy/{split}" in found) == (task == "binary")
    for name, value in found.items():
        assert value == pytest.approx(known[name], abs=CLOSE), name
    assert pooled([{}, {}], split) == {}


@needs_flower
def test_the_app_refuses_two_nodes_of_one_client(dataset: Dataset, tmp_path: Path) -> None:
    export(dataset, tmp_path / "shards", to="client-files")
    data = str(tmp_path / "shards" / "client-00003")
    grid = Here([{"data": data, "state": str(tmp_path / str(i))} for i in range(2)])
    with pytest.raises(TrainingError, match="two nodes hold the shard of client 3"):
        app_over(grid, run_config(tmp_path, 2))
    with pytest.raises(TrainingError, match="2 of 2 nodes did not say who they are: no exported"):
        app_over(Here([{"data": str(tmp_path)}] * 2), run_config(tmp_path, 2))
    with pytest.raises(TrainingError, match="the app was not told recipe, out"):
        app_over(grid, {"nodes": 2})


@needs_flower
def test_what_a_client_cannot_do_is_said_in_its_own_words(dataset: Dataset, tmp_path: Path) -> None:
    from fedtrain.flower.server_app import Fleet

    work = work_of(dataset, **plan_of("fedavg"))
    grid = Here([{}])
    fleet = Fleet(grid=grid, nodes=(1,), clients=(0,))  # type: ignore[arg-type]
    server, clients = begun(work)
    with pytest.raises(
        TrainingError, match="1 of 1 clients failed: this node was not told"
    ) as caught:
        rounds_of(fleet)(work, server, clients, np.array([0]))
    assert "--node-config" in str(caught.value)


@needs_flower
def test_a_round_goes_on_without_the_nodes_that_do_not_answer_in_time(
    dataset: Dataset, tmp_path: Path
) -> None:
    work = work_of(dataset, **plan_of("fedavg"))
    server, clients = begun(work)
    grid, fleet = simulated(dataset, tmp_path / "some")
    grid.silent = {2, 5}
    impatient = replace(fleet, patience=0.0)
    with pytest.raises(TrainingError, match="none of 5 clients answered"):
        rounds_of(impatient)(work, server, clients, COHORTS[0])
    impatient = replace(fleet, patience=2.0)
    outcome = rounds_of(impatient)(work, server, clients, COHORTS[0])
    there = COHORTS[0][[0, 2, 3]]
    assert outcome.client.tolist() == there.tolist()
    known = do_round(work, server, begun(work)[1], there)
    for name, value in known.server.values.items():
        torch.testing.assert_close(outcome.server.values[name], value, atol=CLOSE, rtol=0)
    fleet.stopped.set()
    with pytest.raises(TrainingError, match="5 of 5 clients will not answer any more"):
        rounds_of(fleet)(work, server, clients, COHORTS[0])


@needs_flower
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_rounds_in_flowers_simulation_are_the_own_engines(dataset: Dataset) -> None:
    work = work_of(dataset, **plan_of("fedavg"))
    before = dict(os.environ)
    given = in_simulation(lambda do: two_rounds(work, do), dataset.path, n_nodes=4, workers=2)
    assert_alike(work, given)
    assert dict(os.environ) == before
    gc.collect()  # what Ray leaves open is not our mistake


@needs_flower
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_error_in_flowers_simulation_comes_out_as_it_is(dataset: Dataset) -> None:
    work = work_of(dataset, **plan_of("fedavg"))
    server, clients = begun(work)
    # The workers' Dataset has items beyond these: a client fails, and says so.
    broken = replace(server, values={name: values[:3] for name, values in server.values.items()})
    cohort = np.array([2])
    with pytest.raises(TrainingError, match="1 of 1 clients failed: index out of range"):
        in_simulation(lambda do: do(work, broken, clients, cohort), dataset.path, 1, workers=1)
    gc.collect()


@needs_flower
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_run_of_flower_is_the_own_engines_run_and_goes_on_with_either(
    dataset: Dataset, tmp_path: Path
) -> None:
    table = {"rounds": 2, "clients_per_round": 5, "eval_every": 1, "threads": 1, "device": "cpu"}
    plan = parse_plan({**plan_of("fedavg"), **table})
    own = train(dataset, plan, tmp_path / "own", seed=SEED)
    first = tmp_path / "first"
    begun_here = train(dataset, plan, first, seed=SEED, stop=lambda: True)
    assert begun_here.manifest["rounds_done"] == 1
    other = train_with_flower(dataset, plan, first, seed=SEED, go_on=True, workers=2)
    mine, theirs = own.rounds(), other.rounds()
    still = ~pl.col("metric").str.contains("seconds")
    mine, theirs = (rounds.filter(still).sort("round", "metric") for rounds in (mine, theirs))
    assert mine.height > 30
    assert mine.select("round", "metric").equals(theirs.select("round", "metric"))
    np.testing.assert_allclose(theirs["value"], mine["value"], atol=CLOSE)
    for name in ("recommendations.parquet", "model.safetensors"):
        assert (other.path / name).is_file()
    gc.collect()


@pytest.mark.parametrize("package", ["flwr", "ray"])
def test_a_missing_flower_names_the_extra(
    package: str, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=package) as caught:
        in_simulation(lambda do: None, dataset.path, 1)
    assert "[flower]'" in str(caught.value)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"algorithm": "centralised"}, "has no clients"),
        ({"secure": {"enabled": True}}, "secure sums"),
        ({"device": "cuda"}, "on the CPU"),
    ],
)
def test_what_only_the_own_engine_does_is_refused_before_flower_starts(
    table: dict[str, Any], words: str, dataset: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=words) as caught:
        train_with_flower(dataset, parse_plan(table), tmp_path / "run")
    assert "--engine own" in str(caught.value)
    with pytest.raises(TrainingError, match="99 clients a round, but there are 12"):
        train_with_flower(dataset, parse_plan({"clients_per_round": 99}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_no_shard_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"interactions\.parquet is missing"):
        exported(tmp_path, {})
    export(dataset, tmp_path / "all", to="client-files")
    both = tmp_path / "all" / "client-00000"
    other = pl.read_parquet(tmp_path / "all" / "client-00001" / "interactions.parquet")
    mixed = pl.concat([pl.read_parquet(both / "interactions.parquet"), other])
    mixed.write_parquet(both / "interactions.parquet")
    with pytest.raises(DatasetError, match="rows of 2 clients"):
        _ = exported(both, {}).client_id


def test_an_exported_shard_is_what_the_dataset_has_of_its_client(
    dataset: Dataset, tmp_path: Path
) -> None:
    export(dataset, tmp_path / "all", to="client-files")
    whole = federation_of(dataset)
    for client in (0, 5, 11):
        first = int(whole.slot_offsets[client])
        shard = exported(tmp_path / "all" / f"client-{client:05d}", dataset.manifest["facts"])
        assert shard.client_id == client
        assert shard.modalities == dataset.modalities
        own = federation_of_shard(shard, first)
        slots = slice(first, int(whole.slot_offsets[client + 1]))
        assert shard.n_users == slots.stop - slots.start
        np.testing.assert_array_equal(own.slot_user[slots], whole.slot_user[slots])
        np.testing.assert_array_equal(own.slot_offsets[client:][:2], [slots.start, slots.stop])
        for split, rows in whole.splits.items():
            mine = slice(int(rows.offsets[client]), int(rows.offsets[client + 1]))
            np.testing.assert_array_equal(own.splits[split].item_id, rows.item_id[mine])
            np.testing.assert_array_equal(own.splits[split].slot, rows.slot[mine])
        given = features_of(shard, list(shard.modalities), behavior=True)
        known = features_of(dataset, list(dataset.modalities), behavior=True)
        for name, values in known.items.items():
            assert torch.equal(given.items[name], values)
        users = torch.from_numpy(own.slot_user[slots].astype(np.int64))
        assert given.behavior is not None and known.behavior is not None
        assert torch.equal(given.behavior[users], known.behavior[users])


def test_what_clients_keep_comes_back_from_their_files(dataset: Dataset, tmp_path: Path) -> None:
    work = work_of(dataset, **plan_of("fedavg"))
    clients = begun(work)[1]
    start = torch.full((2,), 7.0)
    clients.write_shared("head", np.array([4]), torch.tensor([[1.0, 2.0]]), start)
    items = np.array([3, 5, 8])
    place = np.array([0, 0, 1])
    clients.row_store("controls").write(np.array([1, 4]), place, items, torch.ones(3, 2))
    cohort = range(work.federation.n_clients)
    remember(tmp_path, work, clients, cohort)
    again = begun(work)[1]
    for values in again.users.values():
        values.zero_()
    gather(tmp_path, work, again, [1, 4], {"head": start})
    given, known = again.state(), clients.state()
    assert given.keys() == known.keys()
    slots = np.flatnonzero(np.isin(work.federation.slot_client, [1, 4]))
    for name, values in known.items():
        at = slots if name.startswith("users/") else slice(None)
        assert torch.equal(given[name][at], values[at]), name
