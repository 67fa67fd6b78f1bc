"""A trained Run, opened again: its Dataset, its plan, and its best or last state."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedprep.dataset import Dataset
from fedprep.errors import DatasetError, RecipeError, TrainingError
from fedtrain.algorithms import ALGORITHMS
from fedtrain.own_best import served
from fedtrain.run import BEST, Run, Saved, load
from fedtrain.run.checkpoint import CHECKPOINT
from fedtrain.settings import parse_plan
from fedtrain.setup import begin, work_of
from fedtrain.state import refuse_unfit, restored
from fedtrain.stopping import best_round, history_of

if TYPE_CHECKING:
    from fedtrain.algorithms import Server
    from fedtrain.clients import Clients
    from fedtrain.engine import Work
    from fedtrain.plan import Plan

__all__ = ["Reopened", "reopened"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Reopened:
    """A Run's state. kind: `best` or `checkpoint` · round: after which it was saved."""

    run: Run
    dataset: Dataset
    work: Work
    server: Server
    clients: Clients
    kind: str
    round: int


def reopened(path: str | Path, data: str | Path | None = None) -> Reopened:
    """Returns the best state of a Run where it has kept one, else its last checkpoint.

    Args:
        path: the Run's folder.
        data: the Dataset, where it is not where the Run was trained on it.

    Raises:
        TrainingError: another Dataset than the Run's, or no checkpoint.
        DatasetError: the Dataset is not there.
    """
    run = Run.open(path)
    dataset = _dataset_of(run, data)
    recorded: dict[str, Any] = dict(run.manifest["plan"])
    try:
        plan = parse_plan({**recorded, "threads": 0}, where=str(path))
    except RecipeError as error:
        raise TrainingError(
            f"the Run's plan is none of this version's: {error.what}",
            where=str(path),
            hint="open it with the version that its manifest names",
        ) from None
    kind, saved = _kept(run, plan)
    if saved is None:
        if run.manifest["rounds_done"]:
            raise TrainingError(
                "the Run has no checkpoint: it has been taken away", where=str(path)
            )
        raise TrainingError(
            "the Run has no checkpoint: nothing has been trained yet",
            where=str(run.path),
            hint="fedtrain run DATASET --out PATH --resume goes on with it",
        )
    work = work_of(dataset, plan, int(run.manifest["seed"]), recorded=True)
    server, clients = begin(work)
    refuse_unfit(saved[1], server, clients, str(run.path / kind))
    server = restored(saved[0], saved[1], clients, work.device)
    clients = served(clients, work.federation) if work.algorithm.own_best else clients
    return Reopened(
        run=run, dataset=dataset, work=work, server=server, clients=clients, kind=kind, round=saved[0]
    )  # fmt: skip


def _kept(run: Run, plan: Plan) -> tuple[str, Saved | None]:
    """Returns the best state and `best`, else the last one and `checkpoint`.

    The best round is the last one where that one's ranking came out of turn, after its checkpoint.
    """
    if ALGORITHMS[plan.algorithm](**plan.table(plan.algorithm)).own_best:
        return CHECKPOINT, load(run)  # each client's own best state is in it
    best = load(run, BEST) if plan.stop.metric else None
    number = best_round(history_of(run.rounds()), plan.stop) if plan.stop.metric else None
    if best is not None and best[0] == number:
        return BEST, best
    last = load(run)
    if last is not None and last[0] == number:
        return BEST, last
    return (BEST, best) if best is not None else (CHECKPOINT, last)


def _dataset_of(run: Run, data: str | Path | None) -> Dataset:
    place = data or (run.manifest.get("dataset") or {}).get("path")
    if place is None:
        raise TrainingError("the Run does not say where its Dataset is", hint="--data PATH")
    try:
        unsound = run.manifest.get("validated") not in ("pass", "warn")
        dataset = Dataset.open(place, verify=True, allow_changed=unsound)
    except DatasetError as error:
        raise DatasetError(
            f"the Dataset of the Run cannot be opened: {error.what}",
            where=error.where or str(place),
            hint="--data says where it is now",
        ) from None
    if dataset.id != run.manifest["dataset_id"]:
        raise TrainingError(
            f"the Run was trained on another Dataset: {run.manifest['dataset_id'][:12]}, "
            f"not {dataset.id[:12]}",
            where=str(place),
            hint="--data names the one that it was trained on",
        )
    return dataset
