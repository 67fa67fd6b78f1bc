"""Real nodes: the ServerApp that trains over SuperNodes, each with its own exported shard.

The server has no Dataset. It asks the nodes who they are, trains by their messages, writes a Run directory
with each round's figures, and at the end the model. See docs/flower.md.
"""

from __future__ import annotations

import logging
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

from fedprep.errors import RecipeError, TrainingError
from fedprep.manifest import MANIFEST
from fedtrain.algorithms import ALGORITHMS, Server
from fedtrain.batch import Features
from fedtrain.clients import Clients
from fedtrain.engine import Work
from fedtrain.federation import Federation, Rows
from fedtrain.figures import figures_of, n_without_clients
from fedtrain.flower.messages import MODALITY
from fedtrain.flower.server_app import Fleet, do_round_with, measured_with, own_words
from fedtrain.flower.simulation import fitting
from fedtrain.idle import flat
from fedtrain.models import MODELS, Sizes
from fedtrain.parameters import initial
from fedtrain.privacy import epsilon, uncounted
from fedtrain.run import Run, refuse_other, resume, save
from fedtrain.samplers import SAMPLERS, SamplerOptions
from fedtrain.schedules import factor
from fedtrain.settings import parse_plan, plan_defaults
from fedtrain.state import refuse_unfit, restored, tensors_of, write_model
from fedtrain.stopping import history_of
from fedtrain.tasks import TASKS
from fedtrain.trainer import DIVERGED, NOBODY

if TYPE_CHECKING:
    from fedtrain.plan import Plan
    from fedtrain.rounds import Outcome
    from fedtrain.run import Saved
    from fedtrain.stopping import History

__all__ = ["app", "federation_of_nodes", "main", "measures"]

log = logging.getLogger(__name__)

PAUSE = 1.0
"""Seconds between two looks for nodes."""


def main(grid: Grid, context: Context) -> None:
    """Trains over the nodes, as `[tool.flwr.app.config]` says.

    recipe: a TOML file with the table [train] · nodes: how many to wait for · out: where the Run goes ·
    seed · patience: seconds that a round waits for its clients · classes: how many, for the task `classes` ·
    resume: whether to go on with the Run that is there, from its last checkpoint.

    Raises:
        TrainingError, RecipeError: the plan asks for what is not done here, or numbers went wrong, or all
            nodes are gone: then the Run has failed, and what was trained is in it.
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
    plan = _doable(plan)
    seed, go_on = int(config.get("seed", 0)), bool(config.get("resume", False))
    Run.refuse_taken(str(config["out"]), go_on=go_on)
    nodes = _nodes(grid, int(config["nodes"]))
    who = _who(grid, nodes)
    work = _work(plan, seed, who, int(config.get("classes", 2)))
    fleet = Fleet(
        grid=grid,
        nodes=nodes,
        clients=tuple(one["client"] for one in who),
        patience=float(config.get("patience", 3600)),
    )
    facts: dict[str, Any] = {
        "dataset_id": str(config.get("dataset-id", "")),
        "plan": plan.to_dict(),
        "seed": seed,
    }
    place = Path(str(config["out"]))
    if go_on and (place / MANIFEST).is_file():
        run = Run.open(place)
        refuse_other(run, facts["plan"], facts["dataset_id"], seed=seed)
        if run.manifest["status"] == "finished":
            return
    else:
        run = Run.create(place, {**facts, "engine": "flower"})
    with run.lock():
        saved = resume(run)
        if saved is None:
            _tell(run, plan)
        try:
            _train(run, work, fleet, saved)
        except BaseException as error:
            stopped = isinstance(error, KeyboardInterrupt)
            run.update(status="stopped" if stopped else "failed")
            raise
        run.update(status="finished")


UNDONE: Mapping[str, str] = {
    "stop.metric": "no round is chosen and none is the last before its time",
    "stop.patience": "no round is chosen and none is the last before its time",
    "valid_clients": "every node trains",
    "test_clients": "every node trains",
    "trace": "a node that is not there drops out",
    "faults.dropout": "a node that is not there drops out",
    "faults.stragglers": "a node does what it can",
    "loggers.names": "measures go to the Run alone",
}
"""Keys that would change what comes out and that the app does not follow, and what it does instead."""

UNREAD = ("eval_clients", "test_users", "expected", "compile", "mixed_precision", "threads")
"""Keys that change nothing here: nothing is ranked, and nodes have their own machines."""


def _doable(plan: Plan) -> Plan:
    """Returns the plan; refuses what the app would not do.

    Raises:
        RecipeError, TrainingError: it names the keys.
    """
    plan = fitting(plan, hint="see docs/flower.md, or train by `fedtrain run` on the Dataset")
    now, usual = flat(plan), flat(plan_defaults(plan.algorithm))
    undone = {key: why for key, why in UNDONE.items() if now[key] != usual[key]}
    if plan.on_nonfinite == "rollback":
        undone["on_nonfinite"] = "clients cannot be brought back to an earlier round: stop or skip"
    if undone:
        key, why = next(iter(undone.items()))
        raise RecipeError(
            f"the app for real nodes does not follow {', '.join(undone)}",
            where=f"train.{key}: {why}",
            hint="leave it out, or train by `fedtrain run` on the Dataset",
        )
    return plan


def _tell(run: Run, plan: Plan) -> None:
    """Notes what the plan sets and nothing here reads, and what epsilon does not count."""
    now, usual = flat(plan), flat(plan_defaults(plan.algorithm))
    idle = [key for key in UNREAD if now[key] != usual[key]]
    if idle:
        log.warning("set, and nothing reads it: %s", ", ".join(idle))
        run.event(0, "idle settings", settings=idle)
    loose = uncounted(plan)
    if loose:
        log.warning("epsilon does not count: %s", "; ".join(loose))
        run.event(0, "not counted in epsilon", what=loose)


def _train(run: Run, work: Work, fleet: Fleet, saved: Saved | None) -> None:
    """Trains to the last round. Each round's figures are in the Run when it ends, and so is the model.

    Raises:
        TrainingError: numbers went wrong, all nodes are gone, or no round had a client.
    """
    plan, federation = work.plan, work.federation
    server = Server(values=initial(work.parameters, federation.n_items, work.seed))
    nobody = Clients(federation.n_clients, {})  # what nodes keep is theirs
    if saved is not None:
        refuse_unfit(saved[1], server, nobody, str(run.path))
        server = restored(saved[0], saved[1], nobody, work.device)
    try:
        for number in range(server.round_number + 1, plan.rounds + 1):
            server = _round(run, work, fleet, server.at(number), nobody)
            if number % plan.checkpoint_every == 0 or number == plan.rounds:
                save(run, number, tensors_of(server, nobody), {})
            run.update(rounds_done=number)
    finally:
        if server.round_number:
            write_model(run, server, work.private, round=server.round_number)
    empty = n_without_clients(run.rounds())
    if empty:
        log.warning("%d of %d rounds had no client that counts", empty, plan.rounds)
        run.update(rounds_without_clients=empty)
    if empty >= plan.rounds:
        raise TrainingError("nothing was trained: no round had a client that counts")


def _round(run: Run, work: Work, fleet: Fleet, server: Server, nobody: Clients) -> Server:
    """Returns the server after a round, once its figures are in the Run."""
    plan, number = work.plan, server.round_number
    counts = work.federation.train.counts
    everyone = np.flatnonzero(counts > 0)
    history = history_of(run.rounds())
    begin = time.perf_counter()
    cohort = SAMPLERS[plan.sampler](
        counts, plan.clients_per_round, number, work.seed, SamplerOptions()
    )
    lr_factor = factor(number, plan, history)
    outcome = do_round_with(
        fleet,
        work,
        server,
        nobody,
        cohort,
        lr_factor=lr_factor,
        progress=(number - 1) / plan.rounds,
    )
    lost = dict(fleet.lost)
    if lost:
        log.warning("round %d: %d clients dropped out", number, len(lost))
        run.event(number, "clients dropped out", clients={str(c): w for c, w in lost.items()})
    _refuse_wrong(number, outcome, plan, history)
    found = {**measures(outcome), "lr": plan.rates["shared"] * lr_factor}
    found["clients/dropped"] = len(cohort) - len(outcome.client)
    if found["clients"] <= found["clients/skipped"]:
        run.event(number, NOBODY, what=f"{len(outcome.client)} of {len(cohort)} answered")
    if plan.privacy.noise_multiplier:
        privacy = plan.privacy
        rate = min(1.0, (plan.clients_per_round or len(everyone)) / len(everyone))
        noise = privacy.noise_multiplier, privacy.delta, privacy.accountant
        found["epsilon"] = epsilon(number, rate, *noise)
    if number % plan.eval_every == 0 or number == plan.rounds:
        found |= measured_with(fleet, work, outcome.server, everyone)
    run.log(number, {**found, "seconds": time.perf_counter() - begin})
    return outcome.server


def _refuse_wrong(number: int, outcome: Outcome, plan: Plan, history: History) -> None:
    """Refuses a round whose numbers went wrong.

    Raises:
        TrainingError: a client's or the server's are not finite, or the loss has grown beyond reason.
    """
    bad = outcome.client[~outcome.sound]
    wrong = [name for name, v in outcome.server.values.items() if not v.isfinite().all()]
    told = f"the server's {wrong[0]} is not finite after the join" if wrong else ""
    if len(bad) and plan.on_nonfinite != "skip":
        told = f"the numbers of {len(bad):,} clients are not finite, of client {bad[0]} first"
    loss, first = figures_of(outcome).get("loss/train"), history.get("loss/train", ())
    if loss is not None and first and loss > DIVERGED * max(first[0][1], 1.0 / DIVERGED):
        told = (
            told or f"the loss diverges: {loss:.4g}, and {first[0][1]:.4g} in round {first[0][0]}"
        )
    if told:
        raise TrainingError(
            told, where=f"round {number}", hint="lower the learning rates, or set clip_norm"
        )


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
