"""The files of a Run that grow: a line of JSON for each thing measured, and no line is ever half there.

| file            | a line                                             | what                              |
| --------------- | -------------------------------------------------- | --------------------------------- |
| `rounds.jsonl`  | `{"round": 3, "metric": "ndcg@10", "value": 0.04}` | the same bytes for a recipe       |
| `timings.jsonl` | the same, for `seconds…` and `cpu_seconds…`        | what differs from run to run      |
| `events.jsonl`  | `{"round": 3, "event": "guard", "text": "…"}`      | what happened, in words           |

The lines of a round are appended by one write, so a reader sees them at once. A process that is killed in
it leaves a last line without an end: it is passed over by readers and cut off by the next writer.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from numbers import Integral
from pathlib import Path
from typing import Any

import polars as pl

from fedprep.decoding import DAMAGED, parse_json
from fedprep.errors import OutputError, TrainingError
from fedprep.files import whole_file

__all__ = [
    "EVENTS",
    "LOGS",
    "NONFINITE",
    "ROUNDS",
    "SCHEMA",
    "TIMINGS",
    "append",
    "cut",
    "n_lines",
    "parted",
    "read_events",
    "read_rounds",
    "read_values",
    "require_lines",
    "synced",
]

ROUNDS, TIMINGS, EVENTS = "rounds.jsonl", "timings.jsonl", "events.jsonl"
LOGS = (ROUNDS, TIMINGS, EVENTS)

SCHEMA = {"round": pl.Int32, "metric": pl.String, "value": pl.Float64}

NONFINITE = "/nonfinite"
"""JSON has no NaN and no infinity: such a value of `loss/train` is the line `loss/train/nonfinite` of 1."""

CLOCKS = ("seconds", "cpu_seconds")
Line = Mapping[str, Any]


def parted(round: int, values: Mapping[str, float | str]) -> dict[str, list[Line]]:
    """Returns the lines of a round by file: numbers, times, and texts as events."""
    lines: dict[str, list[Line]] = {name: [] for name in LOGS}
    for metric, value in values.items():
        if isinstance(value, str):
            lines[EVENTS].append({"round": round, "event": metric, "text": value})
            continue
        number = int(value) if isinstance(value, Integral) else float(value)
        if not math.isfinite(number):
            metric, number = metric + NONFINITE, 1
        file = TIMINGS if metric.partition("/")[0] in CLOCKS else ROUNDS
        lines[file].append({"round": round, "metric": metric, "value": number})
    return lines


def append(path: Path, lines: Iterable[Line]) -> None:
    """Appends lines by one write, after cutting off a last line that has no end.

    Raises:
        OutputError: the disk is full, or the file cannot be written; no part of the lines is kept.
    """
    block = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines).encode()
    if not block:
        return
    try:
        with path.open("ab+", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if size and (file.seek(size - 1), file.read(1))[1] != b"\n":
                size = len(_whole_lines(path.read_bytes()))
                file.truncate(size)
            if file.write(block) != len(block):
                file.truncate(size)
                raise OutputError("the disk is full", where=str(path))
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"a round's measures cannot be written: {error.strerror}",
            where=str(path),
            hint="free some space; --resume goes on from the last checkpoint",
        ) from None


def read_values(path: Path) -> pl.DataFrame:
    """Returns round (i32), metric (str), value (f64) of each whole line in order; no file: no row.

    Raises:
        TrainingError: a line is not of this form.
    """
    block = _whole_lines(path.read_bytes()) if path.is_file() else b""
    if not block:
        return pl.DataFrame(schema=SCHEMA)
    try:
        rows = pl.read_ndjson(block, schema=SCHEMA)
    except DAMAGED:
        rows = None
    if rows is None or rows.height != block.count(b"\n") or not _all_measures(rows):
        raise _no_measure(path, _first_bad(block) or 1)
    return rows


def _no_measure(path: Path, number: int) -> TrainingError:
    return TrainingError(
        "a line of the Run's measures cannot be read",
        where=f"{path}:{number}",
        expected='{"round": 3, "metric": "ndcg@10", "value": 0.04}',
        hint="take the line out of the file",
    )


def _all_measures(rows: pl.DataFrame) -> bool:
    whole = not sum(rows.null_count().row(0)) and rows["value"].is_finite().all()
    return bool(whole and (rows["round"] >= 0).all())


def read_rounds(folder: Path) -> pl.DataFrame:
    """Returns the measures and times of a Run's folder, in order of round (`SCHEMA`).

    Raises:
        TrainingError: a line is not of this form.
    """
    tables = [read_values(folder / name) for name in (ROUNDS, TIMINGS)]
    return pl.concat(tables).sort("round", maintain_order=True)


def read_events(folder: Path) -> list[dict[str, Any]]:
    """Returns what happened, in order: `round`, `event`, and what each tells besides.

    Raises:
        TrainingError: a line is no JSON object of these.
    """
    path = folder / EVENTS
    return _events_in(_whole_lines(path.read_bytes()) if path.is_file() else b"", path)


def _events_in(block: bytes, path: Path) -> list[dict[str, Any]]:
    found = []
    for number, line in enumerate(_lines(block), 1):
        try:
            event = parse_json(line)
        except ValueError:
            event = None
        known = isinstance(event, dict) and type(event.get("round")) is int
        if not known or not isinstance(event.get("event"), str):
            raise TrainingError(
                "a line of the Run's events cannot be read",
                where=f"{path}:{number}",
                expected='{"round": 3, "event": "guard", "text": "…"}',
                hint="take the line out of the file",
            )
        found.append(event)
    return found


def n_lines(path: Path) -> int:
    """Returns the number of whole lines; 0 where there is no file."""
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def require_lines(path: Path, n: int) -> None:
    """Refuses a file that holds fewer whole lines than `n`, or one among the first `n` that cannot be read.

    Raises:
        TrainingError: it does.
    """
    there = n_lines(path)
    if there < n:
        raise TrainingError(
            f"{path.name} holds {there:,} lines, and held {n:,} at the last checkpoint",
            where=str(path),
            expected="the file as the Run left it",
            hint="put the file back, or start the Run again with --force",
        )
    if n:
        first = b"".join(line + b"\n" for line in _lines(path.read_bytes())[:n])
        if path.name == EVENTS:
            _events_in(first, path)
        elif bad := _first_bad(first):  # without polars, whose threads a forked process has not
            raise _no_measure(path, bad)


def cut(path: Path, keep: int) -> None:
    """Leaves the first `keep` lines of a file; no file where that is none.

    Raises:
        TrainingError: the file holds fewer.
    """
    require_lines(path, keep)
    block = path.read_bytes() if path.is_file() else b""
    kept = b"".join(line + b"\n" for line in _lines(block)[:keep])
    if not kept:
        path.unlink(missing_ok=True)
    elif kept != block:
        with whole_file(path) as new:
            new.write_bytes(kept)


def synced(path: Path) -> None:
    """Waits until a file or folder is on the disk; one that is not there is passed over.

    Raises:
        OSError: the disk refuses a file's bytes. (That some file systems know no such wait for a folder is
            no error.)
    """
    if not path.exists():
        return
    folder = path.is_dir()
    try:
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
    except OSError:
        if not folder:
            raise


def _lines(block: bytes) -> list[bytes]:
    """Returns the whole lines of a block; a carriage return ends none."""
    return block.split(b"\n")[:-1]


def _whole_lines(block: bytes) -> bytes:
    return block[: block.rfind(b"\n") + 1]


def _first_bad(block: bytes) -> int:
    """Returns the number, from 1, of the first line that is no measure, 0 if there is none."""
    for number, line in enumerate(_lines(block), 1):
        try:
            row = parse_json(line)
            good = type(row["round"]) is int and 0 <= row["round"] < 2**31
            if not good or not isinstance(row["metric"], str):
                return number
            if type(row["value"]) not in (int, float):
                return number
        except (ValueError, KeyError, TypeError):
            return number
    return 0
