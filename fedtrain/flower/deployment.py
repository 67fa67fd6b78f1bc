"""Real nodes: the ServerApp that trains over SuperNodes, each with its own exported shard.

The server has no Dataset. It asks the nodes who they are, trains by their messages, writes a Run directory
with each round's figures, and at the end the model. See docs/flower.md.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from flwr.app import Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from fedprep.errors import TrainingError
from fedtrain.algorithms import ALGORITHMS, Server
from fedtrain.batch import Features
from fedtrain.clients import Clients
from fedtrain.engine import Work
from fedtrain.federation import Federation, Rows
from fedtrain.figures import figures_of
from fedtrain.flower.messages import MODALITY
from fedtrain.flower.server_app import Fleet, do_round_with, measured_with, own_words
from fedtrain.models import MODELS, Sizes
from fedtrain.parameters import initial
from fedtrain.run import MODEL, Run, write_tensors
from fedtrain.samplers import SAMPLERS, SamplerOptions
from fedtrain.schedules import factor
from fedtrain.settings import parse_plan
from fedtrain.tasks import TASKS

if TYPE_CHECKING:
    from fedtrain.plan import Plan
    from fedtrain.rounds import Outcome

__all__ = ["app", "federation_of_nodes", "main", "measures"]

PAUSE = 1.0
"""Seconds between two looks for nodes."""


def main(grid: Grid, context: Context) -> None:
    """Trains over the nodes, as `[tool.flwr.app.config]` says.

    recipe: a TOML file with the table [train] · nodes: how many to wait for · out: where the Run goes ·
    seed · patience: seconds that a round waits for its clients · classes: how many, for the task `classes`.
    """
    config = context.run_config
    missing = [key for key in ("recipe", "nodes", "out") if key not in config]
    if missing:
        raise TrainingError(
            f"the app was not told {', '.join(missing)}",
            where="[tool.flwr.app.config] of its pyproject.toml",
        )
    recipe = Path(str(config["recipe"]))
    plan = parse_plan(tomllib.loads(recipe.read_text(encoding="utf-8"))["train"], str(recipe))
    seed = int(config.get("seed", 0))
    nodes = _nodes(grid, int(config["nodes"]))
    who = _who(grid, nodes)
    work = _work(plan, seed, who, int(config.get("classes", 2)))
    fleet = Fleet(
        grid=grid,
        nodes=nodes,
        clients=tuple(one["client"] for one in who),
        patience=float(config.get("patience", 3600)),
    )
    facts = {"dataset_id": str(config.get("dataset-id", "")), "plan": plan.to_dict(), "seed": seed}
    run = Run.create(str(config["out"]), {**facts, "engine": "flower"})
    with run.lock():
        server = _train(run, work, fleet)
        write_tensors(run.path / MODEL, server.values, {"round": server.round_number})
        run.update(status="finished")


def _train(run: Run, work: Work, fleet: Fleet) -> Server:
    """Returns the server after the last round; each round's figures are in the Run when it ends."""
    plan, federation = work.plan, work.federation
    server = Server(values=initial(work.parameters, federation.n_items, work.seed))
    nobody = Clients(federation.n_clients, {})  # what nodes keep is theirs
    counts = federation.train.counts
    everyone = np.flatnonzero(counts > 0)
    history: dict[str, list[tuple[int, float]]] = {}
    for number in range(1, plan.rounds + 1):
        begin = time.perf_counter()
        cohort = SAMPLERS[plan.sampler](
            counts, plan.clients_per_round, number, work.seed, SamplerOptions()
        )
        lr_factor = factor(number, plan, history)
        outcome = do_round_with(
            fleet,
            work,
            server.at(number),
            nobody,
            cohort,
            lr_factor=lr_factor,
            progress=(number - 1) / plan.rounds,
        )
        server = outcome.server
        found = {**measures(outcome), "lr": plan.rates["shared"] * lr_factor}
        found["clients/dropped"] = len(cohort) - len(outcome.client)
        if number % plan.eval_every == 0 or number == plan.rounds:
            found |= measured_with(fleet, work, server, everyone)
        run.log(number, {**found, "seconds": time.perf_counter() - begin})
        for name, value in found.items():
            history.setdefault(name, []).append((number, value))
        run.update(rounds_done=number)
    return server


def measures(outcome: Outcome) -> dict[str, float]:
    """Returns what a round's figures come to, by their names in `rounds.jsonl`."""
    return {
        "clients": len(outcome.client),
        "clients/skipped": int((~outcome.sound).sum()),
        **figures_of(outcome),
    }


def _nodes(grid: Grid, n_nodes: int) -> tuple[int, ...]:
    """Returns the ids of the nodes, once there are so many."""
    while len(nodes := tuple(sorted(grid.get_node_ids()))) < n_nodes:
        time.sleep(PAUSE)
    return nodes


def _who(grid: Grid, nodes: Sequence[int]) -> list[dict[str, Any]]:
    """Returns what each node says of itself, in order of `nodes`.

    Raises:
        TrainingError: a node has no shard, two have the same client's, or they know of different items.
    """
    asked = [Message(RecordDict({}), node, "query.who") for node in nodes]
    replies = {reply.metadata.src_node_id: reply for reply in grid.send_and_receive(asked)}
    failed = [reply.error.reason for reply in replies.values() if reply.has_error()]
    if failed or len(replies) < len(nodes):
        said = own_words(failed[0]) if failed else "no answer"
        n_silent = len(nodes) - len(replies) + len(failed)
        raise TrainingError(
            f"{n_silent} of {len(nodes)} nodes did not say who they are: {said}",
            where="the nodes of Flower",
        )
    who = [dict(replies[node].content["who"]) for node in nodes]
    clients = [one["client"] for one in who]
    if len(set(clients)) < len(clients):
        twice = next(client for client in clients if clients.count(client) > 1)
        raise TrainingError(
            f"two nodes hold the shard of client {twice}",
            hint="start one SuperNode for each exported folder",
        )
    if len({one["items"] for one in who}) > 1:
        raise TrainingError(
            "the nodes know of different items",
            where=", ".join(f"client {one['client']}: {one['items']}" for one in who[:5]),
            hint="give each node the items.parquet of the same export",
        )
    return who


def federation_of_nodes(who: Sequence[Mapping[str, Any]]) -> Federation:
    """Returns what a server knows of its nodes' rows: how many train rows and users each client has."""
    clients = np.array([one["client"] for one in who])
    n_clients = int(clients.max()) + 1
    counts, users = np.zeros(n_clients, np.int64), np.zeros(n_clients, np.int64)
    counts[clients] = [one["rows"] for one in who]
    users[clients] = [one["users"] for one in who]
    none = pl.DataFrame(schema={"i": pl.Int32, "f": pl.Float32, "b": pl.Int8, "l": pl.Int64})
    i, f, b, long = (none[name].to_numpy() for name in "ifbl")
    rows = Rows(
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        slot=i,
        item_id=i,
        rating=f,
        label=b,
        timestamp=long,
    )
    return Federation(
        n_users=int(users.sum()),
        n_items=int(who[0]["items"]),
        n_clients=n_clients,
        slot_user=i,
        slot_offsets=np.concatenate([[0], np.cumsum(users)]),
        splits={"train": rows},
    )


def _work(plan: Plan, seed: int, who: Sequence[Mapping[str, Any]], n_classes: int) -> Work:
    federation = federation_of_nodes(who)
    dims = {
        key.removeprefix(MODALITY): int(value)
        for key, value in who[0].items()
        if key.startswith(MODALITY)
    }
    behavior = int(who[0]["behavior"])
    sizes = Sizes(
        n_users=federation.n_users,
        n_items=federation.n_items,
        modalities=dims,
        behavior=behavior,
        n_outputs=n_classes if plan.task == "classes" else 1,
        max_history=plan.max_history,
    )
    model = MODELS[plan.model](**plan.table(plan.model))
    # The server reads no features: their names say what the nodes are to read.
    nothing = torch.empty(0)
    return Work(
        federation=federation,
        features=Features(dict.fromkeys(dims, nothing), {}, nothing if behavior else None),
        model=model,
        parameters=model.parameters(sizes),
        task=TASKS[plan.loss],
        algorithm=ALGORITHMS[plan.algorithm](**plan.table(plan.algorithm)),
        plan=plan,
        excluded=None,
        seed=seed,
    )


app = ServerApp()
app.main()(main)
