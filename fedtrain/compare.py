"""What Runs reached, and what it took: rounds, bytes and seconds to a target, from their files alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from fedeval.metrics import METRICS
from fedprep.errors import TrainingError, nearest
from fedtrain.run import Run

__all__ = ["better", "compare", "metric_named", "unlike"]

SPLITS = ("train", "valid", "test")
OTHERS = {"loss": "lower", "accuracy": "higher"}
"""Measures with a direction that are no metric of `fedeval`."""


def better(metric: str) -> str:
    """Returns `higher`, `lower` or `neither`: which way a measure such as `ndcg@10/valid` is good."""
    family = metric.partition("/")[0].partition("@")[0]
    if metric.rpartition("/")[2] not in SPLITS:
        return "neither"
    return OTHERS.get(family) or (METRICS[family].better if family in METRICS else "neither")


def metric_named(name: str, there: Iterable[str]) -> str:
    """Returns the measure that a name means: itself, or that on valid where it names no split.

    Raises:
        TrainingError: no Run has it, or neither more nor less of it is better.
    """
    known = set(there)
    found = next((m for m in (name, f"{name}/valid") if m in known), None)
    good = sorted(metric for metric in known if better(metric) != "neither")
    if found is None or better(found) == "neither":
        what = "no Run has measured" if found is None else "neither more nor less is better of"
        raise TrainingError(
            f"{what} '{name}'", where="target", hint=nearest(name, good) if good else ""
        )
    return found


UNLIKE = {
    "dataset_id": "Datasets",
    "task": "tasks",
    "eval_clients": "eval_clients (how many users of valid are ranked for)",
    "test_users": "test_users (how many users of test are ranked for, drawn by which seed)",
    "held_out": "valid_clients or test_clients (clients that never train)",
}
"""What Runs have in common if their numbers can be compared, and how it is called."""


def unlike(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns in what the Runs of `compare` differ, so that their numbers cannot be compared."""
    return [what for key, what in UNLIKE.items() if len({str(row[key]) for row in rows}) > 1]


def compare(
    runs: Sequence[str | Path], target: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Returns a row for each Run, in the order given.

    run (its name, or its path where several have that name), path, status, algorithm, model, task, seed,
    dataset_id, eval_clients, test_users (with the seed that drew them), held_out (the shares
    `valid_clients` and `test_clients`): what it is · rounds: those measured · bytes_up, bytes_down,
    seconds: of all rounds; None where they were not measured · best: for each metric that has a direction
    `value` and the first `round` that had it · final: the last value of each metric · to_target: for each
    metric of the target `target`, `rounds`, `bytes` (up and down) and `seconds` up to the first round that
    reached it; None where none did.

    Args:
        runs: their folders.
        target: the value to reach by metric; `ndcg@10` is `ndcg@10/valid`.

    Raises:
        TrainingError: a folder is no Run, or the target names a metric that no Run has.
    """
    opened = [Run.open(run) for run in runs]
    tables = [run.rounds() for run in opened]
    there = {metric for table in tables for metric in table["metric"].unique()}
    goals = {metric_named(name, there): float(value) for name, value in (target or {}).items()}
    names = [run.name for run in opened]
    return [
        _row(run, table, goals) | ({"run": str(run.path)} if names.count(run.name) > 1 else {})
        for run, table in zip(opened, tables, strict=True)
    ]


def _row(run: Run, rounds: pl.DataFrame, goals: Mapping[str, float]) -> dict[str, Any]:
    plan = run.manifest["plan"]
    bests = {
        metric: _best(rounds, metric)
        for metric in rounds["metric"].unique(maintain_order=True)
        if better(metric) != "neither"
    }
    last = rounds.group_by("metric", maintain_order=True).last()
    return {
        "run": run.name,
        "path": str(run.path),
        "status": run.manifest["status"],
        "algorithm": plan.get("algorithm", ""),
        "model": plan.get("model", ""),
        "task": plan.get("task", ""),
        "seed": run.manifest["seed"],
        "dataset_id": run.manifest["dataset_id"],
        "eval_clients": plan.get("eval_clients", 0),
        "test_users": [plan["test_users"], run.manifest["seed"]] if plan.get("test_users") else 0,
        "held_out": [plan.get("valid_clients", 0.0), plan.get("test_clients", 0.0)],
        "rounds": rounds["round"].max() or 0,
        "bytes_up": _bytes(rounds, "bytes/up"),
        "bytes_down": _bytes(rounds, "bytes/down"),
        "seconds": _sum(rounds, "seconds"),
        "best": bests,
        "final": dict(zip(last["metric"], last["value"], strict=True)),
        "to_target": {metric: _cost(rounds, metric, goal) for metric, goal in goals.items()},
    }


def _best(rounds: pl.DataFrame, metric: str) -> dict[str, Any]:
    down = better(metric) == "higher"
    rows = rounds.filter(metric=metric).sort("value", "round", descending=[down, False])
    return {"value": rows["value"][0], "round": rows["round"][0]}


def _cost(rounds: pl.DataFrame, metric: str, goal: float) -> dict[str, Any]:
    value = pl.col("value")
    reached = value >= goal if better(metric) == "higher" else value <= goal
    first = rounds.filter(pl.col("metric") == metric, reached)["round"].min()
    found: dict[str, Any] = {"target": goal, "rounds": first, "bytes": None, "seconds": None}
    if first is not None:
        spent = rounds.filter(pl.col("round") <= first)
        sent = _bytes(spent, "bytes/up", "bytes/down")
        found |= {"bytes": sent, "seconds": _sum(spent, "seconds")}
    return found


def _sum(rounds: pl.DataFrame, *metrics: str) -> float | None:
    values = rounds.filter(pl.col("metric").is_in(metrics))["value"]
    return float(values.sum()) if len(values) else None


def _bytes(rounds: pl.DataFrame, *metrics: str) -> int | None:
    total = _sum(rounds, *metrics)
    return None if total is None else int(total)
