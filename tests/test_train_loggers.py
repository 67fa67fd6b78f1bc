"""Loggers: numbers reach the packages that were asked for, and no broken one ends a Run."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fedprep.errors import MissingExtraError, TrainingError
from fedtrain import loggers
from fedtrain.loggers import LOGGERS, Logger, open_loggers

PLAN = {"lr": 0.1, "names": ["a"], "mf": {"dim": 32}}
VALUES = {"ndcg@10/valid": 0.25, "clients": 7, "guard": "a text"}
NUMBERS = {"ndcg@10/valid": 0.25, "clients": 7.0}


class Calls(ModuleType):
    """A package of which every attribute is a function that takes anything, and writes down the call."""

    def __init__(self, name: str, calls: list[tuple[Any, ...]]) -> None:
        super().__init__(name)
        self.__dict__["calls"] = calls

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Calls(f"{self.__name__}.{name}", self.calls)

    def __call__(self, *given: Any, **named: Any) -> Any:
        self.calls.append((self.__name__, given, named))
        return self


def stand_in(
    monkeypatch: pytest.MonkeyPatch, *modules: str
) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    calls: list[Any] = []
    for module in modules:
        monkeypatch.setitem(sys.modules, module, Calls(module, calls))
    return calls


def test_no_name_opens_nothing(tmp_path: Path) -> None:
    logger = open_loggers([], tmp_path, PLAN)
    logger.log(1, VALUES)  # type: ignore[arg-type]
    logger.close()
    assert not list(tmp_path.iterdir())


def test_tensorboard_gets_each_number_under_its_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = stand_in(monkeypatch, "tensorboard", "torch.utils.tensorboard")
    logger = open_loggers(["tensorboard"], tmp_path, PLAN)
    logger.log(3, VALUES)  # type: ignore[arg-type]
    logger.close()
    assert calls[0][2] == {"log_dir": str(tmp_path / "tensorboard")}
    scalars = [given for name, given, _ in calls if name.endswith("add_scalar")]
    assert scalars == [("ndcg@10/valid", 0.25, 3), ("clients", 7.0, 3)]
    assert calls[-1][0].endswith("close")


def test_mlflow_gets_names_that_it_takes_and_the_plan_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = stand_in(monkeypatch, "mlflow", "mlflow.entities")
    plan = {**PLAN, "many": {f"k{n}": n for n in range(150)}}
    logger = open_loggers(["mlflow"], tmp_path, plan)
    logger.log(3, VALUES)  # type: ignore[arg-type]
    logger.close()
    parameters = [given for name, given, _ in calls if name == "mlflow.entities.Param"]
    assert parameters[:3] == [("lr", "0.1"), ("names", "['a']"), ("mf.dim", "32")]
    batches = [named for name, _, named in calls if name.endswith("log_batch")]
    assert [len(b.get("params", ())) for b in batches] == [100, 53, 0]
    metrics = [given for name, given, _ in calls if name == "mlflow.entities.Metric"]
    assert [(m[0], m[1], m[3]) for m in metrics] == [
        ("ndcg_at_10/valid", 0.25, 3),
        ("clients", 7.0, 3),
    ]
    assert all(m[2] > 1_600_000_000_000 for m in metrics), "milliseconds of the clock"
    assert calls[-1][0].endswith("set_terminated")


def test_wandb_gets_all_numbers_of_a_round_in_one_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = stand_in(monkeypatch, "wandb")
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    logger = open_loggers(["wandb"], tmp_path / "first", PLAN)
    logger.log(3, VALUES)  # type: ignore[arg-type]
    logger.close()
    begun = next(named for name, _, named in calls if name == "wandb.init")
    assert begun["config"] == PLAN and begun["name"] == "first" and begun["project"] == "fedtrain"
    logged = [(given, named) for name, given, named in calls if name.endswith("log")]
    assert logged == [((NUMBERS,), {"step": 3})]
    assert calls[-1][0].endswith("finish")


@pytest.mark.parametrize("name", LOGGERS)
def test_a_package_that_is_missing_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=f"pip install {name}"):
        open_loggers([name], tmp_path, PLAN)


def test_a_name_that_is_no_logger_gets_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="did you mean 'tensorboard'"):
        open_loggers(["tensorbord"], tmp_path, PLAN)


def test_a_logger_that_cannot_start_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(run_path: Path, plan: Any) -> Logger:
        raise ConnectionError("no route")

    monkeypatch.setitem(LOGGERS, "wandb", refuse)
    with pytest.raises(TrainingError, match="'wandb' cannot start: no route"):
        open_loggers(["wandb"], tmp_path, PLAN)


def test_a_logger_that_fails_is_told_of_once_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[int] = []

    def fail(round: int, values: Any) -> None:
        raise ConnectionError("no route")

    monkeypatch.setitem(LOGGERS, "wandb", lambda path, plan: Logger(fail, lambda: None))
    good = Logger(lambda round, values: seen.append(round), lambda: seen.append(-1))
    monkeypatch.setitem(LOGGERS, "mlflow", lambda path, plan: good)
    with caplog.at_level(logging.WARNING, loggers.__name__):
        logger = open_loggers(["wandb", "mlflow"], tmp_path, PLAN)
        logger.log(1, {"loss/train": 1.0})
        logger.log(2, {"loss/train": 1.0})
        logger.close()
    assert seen == [1, 2, -1]
    assert [record.getMessage() for record in caplog.records] == [
        "wandb failed and is left out from here on: no route"
    ]


def test_tensorboard_reads_what_was_logged(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the package tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = open_loggers(["tensorboard"], tmp_path, PLAN)
    logger.log(1, {"loss/train": 0.5})
    logger.log(2, {"loss/train": 0.25})
    logger.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss/train")] == [(1, 0.5), (2, 0.25)]
