"""A Run on disk: what was trained on what, each round's measures, checkpoints, the model.

```
runs/NAME/
  manifest.json            what it is: Dataset, recipe, plan, seed, versions, device, how it ended
  rounds.jsonl             a line a round and metric, at once; timings.jsonl, events.jsonl
  checkpoint/  best/       the state to go on from, and that of the best round
  model.safetensors        recommendations.parquet  curves.png  report/
  before/                  what it gave at an earlier end, only while it goes on to a later one
```
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta, Struct

from fedprep.decoding import read_json, typed
from fedprep.errors import OutputError, TrainingError
from fedprep.files import Kind, refuse_replacing, whole_file, whole_folder
from fedprep.manifest import MANIFEST, tool_versions
from fedtrain.run.rounds import EVENTS, append, parted, read_events, read_rounds

if TYPE_CHECKING:
    import polars as pl

__all__ = ["CURVES", "FORMAT", "MODEL", "RECOMMENDATIONS", "REPORT", "Run", "Status"]

FORMAT = 1
MODEL, RECOMMENDATIONS = "model.safetensors", "recommendations.parquet"
CURVES, REPORT = "curves.png", "report"
LOCK = ".lock"
OF_A_RUN = (
    MANIFEST, "rounds.jsonl", "timings.jsonl", "events.jsonl", "checkpoint/*", "best/*", MODEL,
    RECOMMENDATIONS, CURVES, f"{REPORT}/report.*", f"{REPORT}/candidates.parquet", "before/*",
    "among-*.parquet", "tensorboard/*", "wandb/*", LOCK, "*.tmp",
)  # fmt: skip
"""What lies in the folder of a Run: what it writes, and what commands write there."""
NEEDED = ("format", "dataset_id", "plan", "seed", "status", "rounds_done")
"""What every manifest says."""

AS_IT_WAS = "put the file back as the Run left it, or start the Run again with --force"

Status = Literal["running", "finished", "stopped", "failed"]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class _Stop(Struct, frozen=True):
    metric: str = ""
    patience: Count = 0
    min_delta: float = 0.0


class _Plan(Struct):
    """What is read of a plan by itself; before it is trained by, `settings.parse_plan` decodes all of it."""

    rounds: Count = 0
    checkpoint_every: Count = 1
    algorithm: str = ""
    model: str = ""
    task: str = ""
    eval_clients: Count = 0
    valid_clients: float = 0.0
    test_clients: float = 0.0
    stop: _Stop = _Stop()


class _OfDataset(Struct):
    path: str
    id: str = ""
    name: str = ""


class _End(Struct):
    rounds: Count
    seconds: float
    measures: dict[str, float]


class _Manifest(Struct):
    """The types of what a Run's manifest says; other keys are kept unread."""

    format: Count
    dataset_id: str
    plan: _Plan
    seed: Count
    status: Status
    rounds_done: Count
    name: str = ""
    started: str = ""
    seconds: Annotated[float, Meta(ge=0.0)] = 0.0
    dataset: _OfDataset | None = None
    validated: str | None = None
    recipe: dict[str, Any] = {}
    draws_negatives: bool = False
    device: str = ""
    reference: str = ""
    n_parameters: dict[str, Count] = {}
    versions: dict[str, str] = {}
    earlier_ends: list[_End] = []


class Run:
    """A training run on disk, in format 1. `Run.create` makes one, `Run.open` opens one.

    Reading needs no lock; who trains holds `lock()`.

    Example:
        >>> run = Run.open("runs/demo")  # doctest: +SKIP
        >>> run.rounds().filter(metric="ndcg@10/valid")  # doctest: +SKIP
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def create(cls, path: str | Path, manifest: Mapping[str, Any], force: bool = False) -> Run:
        """Returns a new Run, its folder written whole or not at all.

        Args:
            path: a folder that is not there yet, or is empty.
            manifest: at least `dataset_id`, `plan` and `seed`; `name`, `started`, `versions` are added.
            force: replace a Run that is there.

        Raises:
            TrainingError: something is there already, with `force` something else than a Run, or a Run
                that another process is training.
            OutputError: the folder cannot be written.
        """
        folder = Path(path)
        facts = {
            "format": FORMAT,
            "name": folder.absolute().name,
            "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "seconds": 0.0,
            "status": "running",
            "rounds_done": 0,
            "versions": manifest.get("versions") or tool_versions(),
            **manifest,
        }
        missing = [key for key in NEEDED if key not in facts]
        assert not missing, f"the manifest lacks {missing}"
        with _room_for(folder, force), whole_folder(folder, kind=RUN, force=force) as new:
            _write(new, facts)
        return cls(folder, facts)

    @staticmethod
    def refuse_taken(path: str | Path, *, force: bool = False, go_on: bool = False) -> None:
        """Refuses a place where no Run can begin, or none can go on; to be asked before anything slow.

        Args:
            path: the folder.
            force: a Run that is there is to be replaced.
            go_on: a Run that is there is to go on.

        Raises:
            TrainingError: something is there, or another process trains the Run.
            OutputError: the folder cannot be written to.
        """
        folder = Path(path)
        if _is_room(folder):
            return
        if force:
            refuse_replacing(folder, RUN, force=True)
        if not (go_on and (folder / MANIFEST).is_file()):
            _refuse_taken(folder, force)
        elif _read(folder)["status"] == "finished":
            return  # it may be read alone, even where nothing can be written
        with _alone(folder):
            pass

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Returns the Run in a folder.

        Raises:
            TrainingError: there is none, its manifest cannot be read, or a newer version wrote it.
        """
        folder = Path(path)
        return cls(folder, _read(folder))

    def __repr__(self) -> str:
        done, status = self.manifest["rounds_done"], self.manifest["status"]
        return f"<Run {self.name}: {done} rounds, {status}>"

    @property
    def name(self) -> str:
        return str(self.manifest.get("name") or self.path.absolute().name)

    @contextlib.contextmanager
    def lock(self) -> Iterator[Run]:
        """The Run is this process's own inside; what a killed one left half written is cleared away.

        The lock ends with the process, however that ends.

        Raises:
            TrainingError: another process has it.
        """
        with _alone(self.path):
            for stale in (*self.path.glob("*.tmp"), *self.path.glob("*/*.tmp")):
                stale.unlink(missing_ok=True)
            self.manifest = _read(self.path)
            yield self

    def update(self, *, status: Status | None = None, **changes: Any) -> None:
        """Sets keys of the manifest and writes it, whole."""
        given = {"status": status} if status else {}
        self.manifest = {**self.manifest, **given, **changes}
        _write(self.path, self.manifest)

    def log(self, round: int, values: Mapping[str, float | str]) -> None:
        """Appends the measures of a round: they are in the file when this returns.

        `seconds…` and `cpu_seconds…` go to `timings.jsonl`, texts to `events.jsonl`, all else to
        `rounds.jsonl`; a value that is not finite becomes the line `NAME/nonfinite` of 1.

        Raises:
            OutputError: the disk is full, or the file cannot be written.
        """
        for name, lines in parted(round, values).items():
            append(self.path / name, lines)

    def event(self, round: int, name: str, **facts: Any) -> None:
        """Appends what happened in a round to `events.jsonl`, with what JSON can hold of it."""
        append(self.path / EVENTS, [{"round": round, "event": name, **facts}])

    def rounds(self) -> pl.DataFrame:
        """Returns round (i32), metric (str), value (f64) of all that was measured, times too.

        Raises:
            TrainingError: a line cannot be read.
        """
        return read_rounds(self.path)

    def events(self) -> list[dict[str, Any]]:
        """Returns what happened, in order.

        Raises:
            TrainingError: a line cannot be read.
        """
        return read_events(self.path)


def _owns(folder: Path) -> tuple[str, ...] | None:
    try:
        _read(folder)
    except TrainingError:
        return None
    return OF_A_RUN


RUN = Kind(name="Run", owns=_owns)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise TrainingError(
            "another process is training this Run",
            where=str(folder),
            hint="wait for it, or train into another folder with --out",
        ) from None
    except OSError as error:
        raise OutputError(f"{folder} cannot be written to: {error.strerror}") from None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _room_for(folder: Path, force: bool) -> Iterator[None]:
    """The place is free inside, or holds a Run that nobody trains and that may be replaced."""
    if _is_room(folder):
        if folder.exists():
            folder.rmdir()
        yield
        return
    _refuse_taken(folder, force)
    with _alone(folder):
        yield


def _is_room(folder: Path) -> bool:
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def _refuse_taken(folder: Path, force: bool) -> None:
    try:
        _read(folder)
    except TrainingError:
        raise TrainingError(
            "something is there that is no Run: it is not replaced",
            where=str(folder),
            hint="choose another folder with --out",
        ) from None
    if not force:
        raise TrainingError(
            "a Run is there already",
            where=str(folder),
            hint="--resume continues it, --force replaces it, --out chooses another folder",
        )


def _read(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        what = "it has no manifest.json" if folder.is_dir() else "no such folder"
        raise TrainingError(
            f"no Run: {what}", where=str(folder), hint="`fedtrain run DATASET --out PATH` makes one"
        )
    facts = read_json(path, "the Run's manifest", TrainingError)
    if any(key not in facts for key in NEEDED):
        raise TrainingError(
            "the manifest is not that of a Run"
            + (": this is a Dataset" if "tables" in facts else ""),
            where=str(path),
            expected=", ".join(NEEDED),
        )
    if type(facts["format"]) is not int or facts["format"] > FORMAT:
        raise TrainingError(
            f"the Run has format {facts['format']}",
            where=str(path),
            expected=f"at most {FORMAT}, the newest that this version reads",
            hint="a newer fedprep reads it: `git pull` in its checkout",
        )
    typed(facts, _Manifest, str(path), "the Run's manifest", TrainingError, hint=AS_IT_WAS)
    return facts


def _write(folder: Path, facts: Mapping[str, Any]) -> None:
    text = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with whole_file(folder / MANIFEST) as path, path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
