"""`--engine flower`: the run's rounds as Flower's messages, in its simulation on one machine.

Flower starts Ray, and Ray workers that play the nodes: each message is one client's half of a round, done by
the engine's own functions on that client's rows alone. All else of a run (sampling, evaluation, checkpoints)
is the same, and so are the numbers, to float rounding; it is slower by two orders of magnitude.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from fedprep.errors import MissingExtraError, TrainingError, install
from fedtrain.algorithms import ALGORITHMS
from fedtrain.facts import facts_of
from fedtrain.preflight import check_plan, filled

if TYPE_CHECKING:
    from flwr.serverapp import Grid

    from fedprep.dataset import Dataset
    from fedtrain.plan import Plan
    from fedtrain.rounds import Outcome
    from fedtrain.run import Run

__all__ = ["fitting", "in_simulation", "train_with_flower"]

Result = TypeVar("Result")

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""No word home, and no warning of Ray's about its own defaults."""


DoRound = Callable[..., "Outcome"]
"""A function that does a round as `rounds.do_round` does, with its arguments."""


def train_with_flower(
    dataset: Dataset, plan: Plan, path: str | Path, *, workers: int = 0, **rest: Any
) -> Run:
    """Returns the Run, done as `fedtrain.train.train` does it, each round by Flower's messages.

    It runs in a thread of its own: signal handlers are set outside of it. A Run may go on with the other
    engine: the numbers are the same.

    Args:
        dataset, plan, path: as for `train`; `device = "auto"` is the CPU.
        workers: processes that play nodes; 0: one for each core.
        rest: the keywords of `train`.

    Raises:
        MissingExtraError: Flower or Ray is not installed.
        TrainingError: the plan needs what no node of Flower does here, the simulation broke down, or
            what `train` raises.
    """
    from fedtrain.train import train

    plan = fitting(plan)
    facts = facts_of(dataset)
    check_plan(filled(plan, facts), facts)  # `train` does so too; here before Ray starts
    n_clients = len(dataset.client_ids())
    n_nodes = min(n_clients, plan.clients_per_round or n_clients)
    return in_simulation(
        lambda do_round: train(dataset, plan, path, do_round=do_round, **rest),
        dataset.path,
        n_nodes,
        workers=workers,
    )


def fitting(plan: Plan, hint: str = "--engine own") -> Plan:
    """Returns the plan, on the CPU; refuses what only the own engine does.

    Args:
        plan: of a simulation, or of real nodes.
        hint: where it can be done.

    Raises:
        TrainingError: it names what.
    """
    algorithm = ALGORITHMS[plan.algorithm](**plan.table(plan.algorithm))
    if algorithm.pooled:
        raise TrainingError(
            f"the algorithm '{algorithm.name}' has no clients: there is nothing for Flower to do",
            hint=hint,
        )
    if algorithm.extrapolate is not None:
        raise TrainingError(
            f"the algorithm '{algorithm.name}' moves users whose nodes are not asked",
            hint=hint,
        )
    if plan.secure.enabled:
        raise TrainingError(
            "secure sums are simulated by the own engine alone",
            where="[train.secure]",
            hint="--engine own, or Flower's SecAgg+ in an app of your own",
        )
    if plan.device == "cuda":
        raise TrainingError(
            "the nodes of Flower's simulation train on the CPU",
            where="[train] device",
            hint="--set device=cpu, or --engine own",
        )
    return msgspec.structs.replace(plan, device="cpu")


def in_simulation(
    train: Callable[[DoRound], Result], dataset: Path, n_nodes: int, *, workers: int = 0
) -> Result:
    """Returns what `train(do_round)` returns, called by Flower's ServerApp once its nodes stand.

    Args:
        train: rounds, and whatever is around them; called in a thread of its own.
        dataset: the Dataset's folder, which the workers read.
        n_nodes: how many; a cohort may have more clients.
        workers: processes that play nodes; 0: one for each core.

    Raises:
        MissingExtraError: Flower or Ray is not installed.
        TrainingError: the simulation broke down.
        Exception: whatever `train` raises.
    """
    missing = [name for name in ("flwr", "ray") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"the engine 'flower' needs {' and '.join(missing)}",
            hint=f"{install('flower')}, or --engine own",
        )
    with tempfile.TemporaryDirectory(prefix="fedtrain-flower-") as folder, _quiet(Path(folder)):
        state = Path(folder) / "clients"
        return _simulated(train, dataset, state, n_nodes, workers or os.cpu_count() or 1)


def _simulated(
    train: Callable[[DoRound], Result], dataset: Path, state: Path, n_nodes: int, workers: int
) -> Result:
    from flwr.app import Context
    from flwr.serverapp import ServerApp
    from flwr.simulation import run_simulation

    from fedtrain.flower.client_app import app
    from fedtrain.flower.server_app import Fleet, do_round_with

    results: list[Result] = []
    errors: list[BaseException] = []
    stopped = threading.Event()

    def main(grid: Grid, context: Context) -> None:
        try:
            fleet = Fleet(
                grid=grid,
                nodes=_nodes(grid, n_nodes, stopped),
                dataset=str(dataset.absolute()),
                state=str(state),
                stopped=stopped,
            )
            results.append(train(functools.partial(do_round_with, fleet)))
        except BaseException as error:  # it is raised again below, in the caller's thread
            errors.append(error)

    server = ServerApp()
    server.main()(main)
    init = {
        "num_cpus": workers,
        "include_dashboard": False,
        "log_to_driver": False,
        "logging_level": logging.ERROR,
    }
    try:
        run_simulation(
            server,
            app,
            n_nodes,
            backend_config={
                "init_args": init,
                "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            },
        )
    except Exception as error:
        errors.append(TrainingError(f"the simulation of Flower broke down: {error}"))
    finally:
        stopped.set()  # lest the thread of the server waits for nodes that are gone
    if errors:
        raise errors[0]
    return results[0]


def _nodes(grid: Grid, n_nodes: int, stopped: threading.Event) -> tuple[int, ...]:
    """Returns the ids of the nodes, once all are there."""
    while len(nodes := tuple(sorted(grid.get_node_ids()))) < n_nodes:
        if stopped.wait(0.1):
            raise TrainingError("the simulation of Flower ended before its nodes stood")
    return nodes


@contextmanager
def _quiet(folder: Path) -> Iterator[None]:
    """Keeps Flower and Ray from talking, and from leaving anything in the environment or the user's home."""
    before = dict(os.environ)
    os.environ.update(QUIET, FLWR_HOME=str(folder / "home"))
    importlib.import_module(
        "flwr.simulation"
    )  # sets the level of Flower's log: before it is set here
    log = logging.getLogger("flwr")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
        for key in os.environ.keys() - before.keys():
            del os.environ[key]
        os.environ.update(before)
