"""The systems that are measured: tables of recommendations, and Runs with their manifest and rounds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedeval.setting import Setting
from fedeval.tables import Table, dataset_of_run, read_table
from fedprep.errors import EvaluationError, nearest

__all__ = ["ROUNDS", "System", "named_systems", "read_system"]

ROUNDS = "rounds.jsonl"
"""A Run's measures, a line per round and metric: `{"round": 3, "metric": "ndcg@10", "value": 0.04}`."""


@dataclass(frozen=True, eq=False, kw_only=True)
class System:
    """One system: its recommendations, and where they come from.

    kind: `system`, `baseline` or `sanity` · text: what it is, in words · rounds: round, metric, value
    of a Run, in order.
    """

    name: str
    recs: Table
    kind: str = "system"
    where: str = ""
    text: str = ""
    seconds: float | None = None
    rounds: Sequence[Mapping[str, Any]] = field(default=())


def named_systems(given: Sequence[str]) -> dict[str, str]:
    """Returns the path of each system by name: `NAME=PATH`, or a path that gives the name.

    Equal names get the folder before them, so that two Runs' tables can be told apart.

    Raises:
        EvaluationError: a name twice.
    """
    parts = [_parted(text) for text in given]
    plain = [name or _stem(path) for name, path in parts]
    names = [
        name or (_stem(path) if plain.count(_stem(path)) == 1 else path) for name, path in parts
    ]
    for name in names:
        if names.count(name) > 1:
            raise EvaluationError(
                f"two systems are called '{name}'", hint="name them: first=PATH second=PATH"
            )
    return {name: path for name, (_, path) in zip(names, parts, strict=True)}


def _parted(text: str) -> tuple[str, str]:
    name, sign, path = text.partition("=")
    return (name, path) if sign and not Path(text).exists() else ("", text)


def _stem(path: str) -> str:
    place = Path(path)
    if place.name == "recommendations.parquet" and place.absolute().parent.name:
        return place.absolute().parent.name
    return re.sub(r"(\.(gz|zst|parquet|csv|tsv|arrow|feather|ipc|txt|run))+$", "", place.absolute().name)


def read_system(
    name: str, source: Any, setting: Setting, columns: Mapping[str, str] | None = None
) -> System:
    """Returns a system from a Run's folder, a table's path, or a frame.

    Raises:
        EvaluationError: it cannot be read, or is a Run on another Dataset than the setting's.
    """
    run = Path(source) if isinstance(source, str | Path) else None
    if run is not None and run.is_file() and (run.parent / ROUNDS).is_file():
        run = run.parent
    if run is None or not run.is_dir():
        return System(
            name=name,
            recs=read_table(source, "recommendations", columns),
            where=str(run) if run else "",
        )
    _refuse_other_dataset(name, run, setting)
    return System(
        name=name,
        recs=read_table(run, "recommendations", columns),
        where=str(run),
        rounds=_rounds(run / ROUNDS),
    )


def _refuse_other_dataset(name: str, run: Path, setting: Setting) -> None:
    theirs = dataset_of_run(run)
    if setting.dataset is None or not theirs or theirs == setting.dataset.id:
        return
    raise EvaluationError(
        f"the Run '{name}' was made on another Dataset: its ids are not those of {setting.dataset.name}",
        where=f"{run}: {theirs[:12]}",
        expected=f"{setting.dataset.id[:12]} of {setting.dataset.path}",
        hint="give the Dataset that it was trained on with --data",
    )


def _rounds(path: Path) -> list[dict[str, Any]]:
    """Returns round, metric, value of each line; a line that was cut off by a kill is the last."""
    if not path.is_file():
        return []
    found: list[dict[str, Any]] = []
    lines = path.read_text("utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            found.append(
                {
                    "round": int(row["round"]),
                    "metric": str(row["metric"]),
                    "value": float(row["value"]),
                }
            )
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines) and isinstance(error, json.JSONDecodeError):
                break
            known = row if isinstance(row, dict) else {}
            raise EvaluationError(
                "a line of the Run's rounds cannot be read",
                where=f"{path}:{number}",
                expected='{"round": 3, "metric": "ndcg@10", "value": 0.04}',
                hint=nearest("metric", known) if "metric" not in known and known else "",
            ) from None
    return found
