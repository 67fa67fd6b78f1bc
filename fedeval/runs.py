"""What a Run's folder says of itself: its Dataset, its training negatives, its rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedeval.opening import MANIFEST, RECOMMENDATIONS
from fedprep.decoding import parse_json, read_json
from fedprep.errors import EvaluationError, nearest

__all__ = [
    "ROUNDS",
    "dataset_of_run",
    "is_run",
    "negatives_of_run",
    "pool_of_run",
    "rounds_of_run",
    "sample_of_run",
    "trained_otherwise",
]

ROUNDS = "rounds.jsonl"
"""A Run's measures, a line per round and metric: `{"round": 3, "metric": "ndcg@10", "value": 0.04}`."""

TRAINED = {"train": "train", "all": "none", "leaky": "all"}
"""What a trainer draws negatives from (all items but `train` rows, `all` items, or `leaky`: all items but
those of every row), to what such negatives leave out."""

TASKS = {
    "binary": "to tell liked from disliked rows",
    "classes": "to tell the classes of rated rows",
    "rating": "to foretell ratings",
}
"""Tasks of a trainer that rank nothing, in words."""


def is_run(path: Path) -> bool:
    """Says whether a path is a Run's folder; one of Parquet files alone is a table."""
    return path.is_dir() and any(
        (path / file).is_file() for file in (MANIFEST, ROUNDS, RECOMMENDATIONS)
    )


def dataset_of_run(path: str | Path) -> str:
    """Returns the id of the Dataset that a Run was trained on, "" where its manifest does not say.

    Raises:
        EvaluationError: the manifest cannot be read.
    """
    facts = _facts(Path(path))
    found = facts.get("dataset_id") or facts.get("dataset", "")
    return str(found.get("id", "") if isinstance(found, dict) else found)


def pool_of_run(path: Path) -> str:
    """Returns what the Run says of its training negatives, "" where it had none or says nothing.

    Raises:
        EvaluationError: the manifest cannot be read.
    """
    facts = _facts(path)
    if facts.get("draws_negatives") is False:
        return ""
    said = _plan(facts).get("negative_pool")
    return TRAINED.get(str(said), "") or str(facts.get("negative_pool") or "")


def negatives_of_run(path: Path) -> int | None:
    """Returns how many negatives the Run's plan draws for each train row, None where it does not say.

    Raises:
        EvaluationError: the manifest cannot be read.
    """
    said = _plan(_facts(path)).get("negatives")
    return said if isinstance(said, int) else None


def trained_otherwise(path: Path, rounds: Sequence[Mapping[str, Any]]) -> str:
    """Returns what a Run was trained for where that is no ranking, and what it measured of that; else "".

    Args:
        rounds: the Run's measures, as `rounds_of_run` returns them.

    Raises:
        EvaluationError: the manifest cannot be read.
    """
    task = str(_plan(_facts(path)).get("task"))
    if task not in TASKS:
        return ""
    last = {row["metric"]: row["value"] for row in rounds}
    wanted = ("accuracy/test", "accuracy/majority/test", "rmse/test", "mae/test")
    measured = ", ".join(f"{name} {last[name]:.4f}" for name in wanted if name in last)
    text = f"it was trained {TASKS[task]} (task {task}), and not to rank what a user has not rated"
    return f"{text}; of its task the Run measured {measured}" if measured else text


def sample_of_run(path: Path) -> tuple[int, int, int] | None:
    """Returns of how many users' lists a Run has made a sample, of how many, by which seed; None of all.

    Raises:
        EvaluationError: the manifest cannot be read.
    """
    said = _facts(path).get("ranked")
    if not isinstance(said, dict):
        return None
    found = [said.get(key) for key in ("users", "of", "seed")]
    if not all(isinstance(value, int) for value in found):
        raise EvaluationError(
            "the Run's manifest does not say which users its lists are of",
            where=str(path / MANIFEST),
            expected="ranked: users, of, seed",
        )
    users, everybody, seed = (int(value) for value in found if value is not None)
    return (users, everybody, seed) if users < everybody else None


def rounds_of_run(path: Path) -> list[dict[str, Any]]:
    """Returns round, metric, value of each line of `ROUNDS`; one that a kill cut off is the last.

    Raises:
        EvaluationError: another line cannot be read.
    """
    file = path / ROUNDS
    if not file.is_file():
        return []
    found: list[dict[str, Any]] = []
    block = file.read_bytes()
    lines = block.splitlines()
    for number, line in enumerate(lines, 1):
        row: Any = None
        try:
            row = parse_json(line)
            found.append(
                {
                    "round": int(row["round"]),
                    "metric": str(row["metric"]),
                    "value": float(row["value"]),
                }
            )
        except (ValueError, KeyError, TypeError, OverflowError):
            if number == len(lines) and not block.endswith(b"\n"):
                break
            known = row if isinstance(row, dict) else {}
            raise EvaluationError(
                "a line of the Run's rounds cannot be read",
                where=f"{file}:{number}",
                expected='{"round": 3, "metric": "ndcg@10", "value": 0.04}',
                hint=nearest("metric", known) if "metric" not in known and known else "",
            ) from None
    return found


def _facts(path: Path) -> dict[str, Any]:
    """Returns the Run's manifest, empty where there is none."""
    manifest = path / MANIFEST
    if not manifest.is_file():
        return {}
    return read_json(manifest, "the Run's manifest", EvaluationError)


def _plan(facts: dict[str, Any]) -> dict[str, Any]:
    plan = facts.get("plan")
    return plan if isinstance(plan, dict) else {}
