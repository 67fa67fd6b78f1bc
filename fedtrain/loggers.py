"""Copies of a Run's measures for TensorBoard, MLflow or Weights & Biases, through their own packages.

Off by default: the Run's own files hold everything. A resumed Run is a new run there. Times and measures
go, as they are; texts stay in the Run.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedprep.errors import FedprepError, MissingExtraError, TrainingError, nearest

__all__ = ["LOGGERS", "Logger", "open_loggers", "require_loggers"]

log = logging.getLogger(__name__)

PROJECT = "fedtrain"
"""The experiment of MLflow and the project of W&B, unless their own variables name another."""

MOST_PARAMETERS = 100
"""What MLflow takes in one call."""

Values = Mapping[str, float]
Plan = Mapping[str, Any]


@dataclass(frozen=True)
class Logger:
    """log: takes a round and its numbers by metric · close: hands over what is still held."""

    log: Callable[[int, Values], None]
    close: Callable[[], None]


def tensorboard(run_path: Path, plan: Plan) -> Logger:
    """Writes event files into the Run's folder `tensorboard/`, to see with `tensorboard --logdir`.

    Raises:
        MissingExtraError: the package `tensorboard` is not installed.
    """
    _package("tensorboard", "tensorboard")
    writer = _package("torch.utils.tensorboard", "tensorboard").SummaryWriter(
        log_dir=str(run_path / "tensorboard")
    )
    writer.add_text("plan", "```\n" + json.dumps(plan, indent=2) + "\n```")

    def add(round: int, values: Values) -> None:
        for metric, value in values.items():
            writer.add_scalar(metric, value, round)
        writer.flush()

    return Logger(add, writer.close)


def mlflow(run_path: Path, plan: Plan) -> Logger:
    """Logs to the server that `MLFLOW_TRACKING_URI` names, else where MLflow does by itself.

    MLflow takes no `@` in a name: `ndcg@10` is `ndcg_at_10` there.

    Raises:
        MissingExtraError: the package `mlflow` is not installed.
    """
    package = _package("mlflow", "mlflow")
    experiment = package.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT))
    client = package.MlflowClient()
    run_id = client.create_run(
        experiment.experiment_id, run_name=run_path.absolute().name
    ).info.run_id
    entities = _package("mlflow.entities", "mlflow")
    facts = [entities.Param(key, str(value)) for key, value in _flat(plan).items()]
    for start in range(0, len(facts), MOST_PARAMETERS):
        client.log_batch(run_id, params=facts[start : start + MOST_PARAMETERS])

    def add(round: int, values: Values) -> None:
        now = int(time.time() * 1000)
        metrics = [
            entities.Metric(metric.replace("@", "_at_"), value, now, round)
            for metric, value in values.items()
        ]
        client.log_batch(run_id, metrics=metrics)

    return Logger(add, lambda: client.set_terminated(run_id))


def wandb(run_path: Path, plan: Plan) -> Logger:
    """Logs to Weights & Biases as `WANDB_MODE`, `WANDB_PROJECT` and the like say.

    Raises:
        MissingExtraError: the package `wandb` is not installed.
    """
    package = _package("wandb", "wandb")
    run = package.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        name=run_path.absolute().name,
        dir=str(run_path),
        config=dict(plan),
    )

    def add(round: int, values: Values) -> None:
        run.log(dict(values), step=round)

    return Logger(add, run.finish)


LOGGERS: dict[str, Callable[[Path, Plan], Logger]] = {
    "tensorboard": tensorboard,
    "mlflow": mlflow,
    "wandb": wandb,
}


def require_loggers(names: Sequence[str]) -> None:
    """Refuses loggers whose packages are not here, before there is a Run to log.

    Raises:
        TrainingError: no logger has a name.
        MissingExtraError: a package is not installed.
    """
    _require_known(names)
    for name in names:
        _package(name, name)


def open_loggers(names: Sequence[str], run_path: Path, plan: Plan) -> Logger:
    """Returns one logger that feeds those named; without names it does nothing.

    One that fails while training is told of in a warning and left out from then on: no server that is down
    ends a Run.

    Raises:
        TrainingError: no logger has a name, or one cannot start.
        MissingExtraError: a package is not installed.
    """
    _require_known(names)
    live = {name: _opened(name, run_path, plan) for name in names}

    def to_all(call: Callable[[Logger], None]) -> None:
        for name, logger in list(live.items()):
            try:
                call(logger)
            except Exception as error:
                del live[name]
                log.warning("%s failed and is left out from here on: %s", name, error)

    def add(round: int, values: Mapping[str, float | str]) -> None:
        numbers = {name: float(v) for name, v in values.items() if not isinstance(v, str)}
        to_all(lambda logger: logger.log(round, numbers))

    return Logger(add, lambda: to_all(lambda logger: logger.close()))


def _require_known(names: Sequence[str]) -> None:
    for name in names:
        if name not in LOGGERS:
            raise TrainingError(
                f"no logger is called '{name}'", where="loggers.names", hint=nearest(name, LOGGERS)
            )


def _opened(name: str, run_path: Path, plan: Plan) -> Logger:
    try:
        return LOGGERS[name](run_path, plan)
    except FedprepError:
        raise
    except Exception as error:
        raise TrainingError(
            f"the logger '{name}' cannot start: {error}",
            where="loggers.names",
            hint=f"set up {name}, or leave it out: the Run's own files hold all that it would",
        ) from None


def _package(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise MissingExtraError(
            f"the logger '{package}' needs a package that is not installed",
            hint=f"pip install {package}",
        ) from None


def _flat(plan: Plan, before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in plan.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{before}{key}.")
        else:
            found[before + key] = value
    return found
