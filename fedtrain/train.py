"""Training: a Dataset and a plan to a Run on disk."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedprep.dataset import Dataset
from fedprep.errors import OutputError, TrainingError
from fedprep.manifest import MANIFEST
from fedtrain.engine import Work
from fedtrain.extension import anything_left, gone_on
from fedtrain.facts import facts_of
from fedtrain.keeping import refuse_too_much
from fedtrain.loggers import require_loggers
from fedtrain.memory import is_out_of_memory
from fedtrain.preflight import filled
from fedtrain.rounds import do_round
from fedtrain.run import Run
from fedtrain.samplers import load_trace, refuse_unreachable
from fedtrain.setup import refuse_invalid, work_of
from fedtrain.trainer import DoRound, Report, Trainer, silent

if TYPE_CHECKING:
    from fedtrain.plan import Plan

__all__ = ["Report", "train"]


def train(
    dataset: Dataset,
    plan: Plan,
    path: str | Path,
    *,
    seed: int = 0,
    recipe: Mapping[str, Any] | None = None,
    go_on: bool = False,
    force: bool = False,
    allow_invalid: bool = False,
    verdict: Mapping[str, Any] | None = None,
    report: Report = silent,
    stop: Callable[[], bool] = lambda: False,
    do_round: DoRound = do_round,
) -> Run:
    """Returns the Run, done: its folder holds measures, model, recommendations and curves.

    Args:
        dataset: what is trained on.
        plan: how.
        path: the Run's folder.
        seed: of everything random.
        recipe: the whole recipe, for the manifest.
        go_on: take up a Run that was interrupted, from its last checkpoint; begin it if there is none. One
            that has finished stays as it is, unless the plan has more rounds or more patience.
        force: replace a Run that is there.
        allow_invalid: train on a Dataset that fails its validation, or whose files have changed since it was
            written; the manifest says so.
        verdict: of the Dataset's validation, where the Dataset holds none on the files that it has now.
        report: told each round's measures.
        stop: asked after each round whether to end here; the Run can go on later.
        do_round: what does a round: the own engine, or another that keeps to its word.

    Raises:
        TrainingError: the plan does not fit, the Dataset is not valid, or numbers went wrong.
        DatasetError: its files are not those that it was written with.
    """
    folder = Path(path)
    Run.refuse_taken(folder, force=force, go_on=go_on)
    dataset.verify(allow_changed=allow_invalid)
    verdict = dataset.verdict or verdict
    if not allow_invalid:
        refuse_invalid(verdict, str(dataset.path))
    plan = filled(plan, facts_of(dataset))
    there = Run.open(folder) if go_on and (folder / MANIFEST).is_file() else None
    if there is not None and not anything_left(there, plan, dataset.id, seed):
        return there
    work = work_of(dataset, plan, seed)
    refuse_too_much(work)
    require_loggers(plan.loggers.names)
    if plan.trace:
        trace = load_trace(plan.trace, work.federation.n_clients)
        refuse_unreachable(trace, work.may_train, plan.rounds, work.least_clients)
    facts = _manifest(dataset, work, recipe, verdict)
    run = there or Run.create(folder, facts, force=force)
    with run.lock():
        trainer = Trainer(dataset, work, run, do_round)
        saved = gone_on(run, plan, trainer.refuse_unfit)
        try:
            trainer.go(saved, report, stop)
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            with contextlib.suppress(OutputError):  # the disk is full: that is what is told
                run.update(status="stopped" if interrupted else "failed")
            if is_out_of_memory(error):
                raise TrainingError(
                    "no memory for what is measured or saved after a round",
                    where=f"round {trainer.done}",
                    hint="--set eval_clients=1000 ranks for some clients alone",
                ) from None
            raise
    return run


def _manifest(
    dataset: Dataset,
    work: Work,
    recipe: Mapping[str, Any] | None,
    verdict: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Returns what a new Run says of itself."""
    return {
        "dataset": {"path": str(dataset.path), "id": dataset.id, "name": dataset.name},
        "dataset_id": dataset.id,
        "validated": None if verdict is None else verdict.get("verdict"),
        "recipe": dict(recipe or {}),
        "plan": work.plan.to_dict(),
        "draws_negatives": work.task.implicit,
        "seed": work.seed,
        "device": str(work.device),
        "reference": work.algorithm.reference,
        "n_parameters": n_parameters(work),
    }


def n_parameters(work: Work) -> dict[str, int]:
    """Returns how many numbers the server holds, and how many each user or client keeps."""
    federation, private = work.federation, work.private
    sent = kept = 0
    for name, parameter in work.parameters.items():
        size = math.prod(parameter.shape) * (federation.n_items if parameter.scope == "item" else 1)
        kept, sent = (kept + size, sent) if name in private else (kept, sent + size)
    return {"shared": sent, "private": kept}
