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
from typing import TYPE_CHECKING, TypeVar

from fedprep.errors import MissingExtraError, TrainingError

if TYPE_CHECKING:
    from flwr.serverapp import Grid

    from fedtrain.engine import Work
    from fedtrain.rounds import Outcome

__all__ = ["train_with_flower"]

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
    work: Work,
    train: Callable[[DoRound], Result],
    *,
    dataset: Path,
    workers: int = 0,
) -> Result:
    """Returns what `train(do_round)` returns, called by Flower's ServerApp once its nodes stand.

    It is called in a thread of its own: signal handlers are set outside of it.

    Args:
        work: of the run; on the CPU.
        train: the run's loop over rounds; it is given the function that does one.
        dataset: the Dataset's folder, which the workers read.
        workers: processes that play nodes; 0: one for each core.

    Raises:
        MissingExtraError: Flower or Ray is not installed.
        TrainingError: the run needs what no node of Flower does here, or the simulation broke down.
        Exception: whatever `train` raises.
    """
    _refuse(work)
    with tempfile.TemporaryDirectory(prefix="fedtrain-flower-") as folder, _quiet(Path(folder)):
        state = Path(folder) / "clients"
        return _simulated(work, train, dataset, state, workers or os.cpu_count() or 1)


def _refuse(work: Work) -> None:
    missing = [name for name in ("flwr", "ray") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"the engine 'flower' needs {' and '.join(missing)}",
            hint="pip install 'fedprep[flower]', or --engine own",
        )
    if work.algorithm.pooled:
        raise TrainingError(
            f"the algorithm '{work.algorithm.name}' has no clients: there is nothing for Flower to do",
            hint="--engine own",
        )
    if work.plan.secure.enabled:
        raise TrainingError(
            "secure sums are simulated by the own engine alone",
            where="[train.secure]",
            hint="--engine own, or Flower's SecAgg+ in an app of your own",
        )
    if work.device.type != "cpu":
        raise TrainingError(
            f"the simulation of Flower trains on the CPU, not on {work.device.type}",
            hint="--set device=cpu, or --engine own",
        )


def _simulated(
    work: Work, train: Callable[[DoRound], Result], dataset: Path, state: Path, workers: int
) -> Result:
    from flwr.app import Context
    from flwr.serverapp import ServerApp
    from flwr.simulation import run_simulation

    from fedtrain.flower.client_app import app
    from fedtrain.flower.server_app import Fleet, do_round_with

    n_clients = work.federation.n_clients
    n_nodes = min(n_clients, work.plan.clients_per_round or n_clients)
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
