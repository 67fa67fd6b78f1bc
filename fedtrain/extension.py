"""Going on with a Run: as it was, or to another end than it was to have.

A Run that has finished goes on from its checkpoint when more rounds are asked for, or more patience. What
comes out has the bytes of a Run that was to have so many rounds from the beginning; a plan under which the
rounds that are done would have been others then is refused.

While it goes on, what the Run gave before is in its folder `before/`: killed, nothing is lost. It is removed
once the new end is whole; the measures of each earlier end stay in the manifest (`earlier_ends`).
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import polars as pl

from fedprep.errors import RecipeError, TrainingError
from fedprep.files import whole_folder
from fedprep.manifest import MANIFEST
from fedtrain.run import (
    MODEL,
    RECOMMENDATIONS,
    REPORT,
    Run,
    Saved,
    refuse_other,
    resume,
    saved_round,
)
from fedtrain.run.checkpoint import CHECKPOINT, FREE
from fedtrain.run.directory import RUN
from fedtrain.run.rounds import LOGS
from fedtrain.stopping import history_of, should_stop

if TYPE_CHECKING:
    from fedtrain.plan import Plan, Stop

__all__ = ["BEFORE", "ENDS", "OUTPUTS", "anything_left", "forget_before", "gone_on", "length_keys"]

log = logging.getLogger(__name__)

BEFORE = "before"
"""The folder of what a Run gave at its earlier end, while it goes on to a later one."""

ENDS = ("rounds", "stop.patience", "stop.min_delta")
"""Keys of a plan that say when a Run ends."""

OUTPUTS = (MODEL, RECOMMENDATIONS)


def anything_left(run: Run, plan: Plan, dataset_id: str, seed: int) -> bool:
    """Returns whether there is anything to do for a Run under this plan: it has not finished, or ends later.

    Raises:
        TrainingError, RecipeError: it was made on another Dataset, or with another plan or seed; it has
            done more than is asked for; or more would not give what a longer Run gives.
    """
    refuse_other(run, plan.to_dict(), dataset_id, seed=seed, free=(*FREE, *ENDS))
    finished, changed = run.manifest["status"] == "finished", _changed_ends(run, plan)
    if not changed:
        return not finished
    done = max(int(run.manifest["rounds_done"]), saved_round(run))
    if plan.rounds < done:
        raise TrainingError(
            f"{done:,} rounds are done, and {plan.rounds:,} are asked for",
            where=str(run.path),
            expected=f"at least {done:,}; the Run was to have {run.manifest['plan']['rounds']:,}",
            hint=f"--rounds {run.manifest['plan']['rounds']}, or another folder with --out",
        )
    _refuse_dependent(run, plan, changed)
    _refuse_early_end(run, plan, changed, done if finished else 0)
    return not finished or plan.rounds > done


def gone_on(
    run: Run, plan: Plan, fits: Callable[[Saved], None] = lambda saved: None
) -> Saved | None:
    """Returns what the last checkpoint has saved, None without one, and brings the Run back to it.

    Args:
        run: under its lock.
        fits: told what is saved before anything is changed; it refuses a state that is not of this work.

    The manifest says the plan from here on. It is changed, and so are the files, once all is known to be
    sound; call it under `Run.lock`.

    Raises:
        TrainingError: the checkpoint is broken or has gone, or a log has lost lines that were there.
        OutputError: what the Run gave before cannot be put aside.
    """
    _refuse_without_checkpoint(run)

    def put_aside(saved: Saved | None) -> None:
        if saved is not None:
            fits(saved)
        changes: dict[str, Any] = {"plan": plan.to_dict()}
        if run.manifest["status"] == "finished":
            _tell_of_tables(run)
            _keep_before(run)
            changes["earlier_ends"] = [*run.manifest.get("earlier_ends", ()), _end_of(run)]
        run.update(status="running", **changes)
        for name in OUTPUTS:
            (run.path / name).unlink(missing_ok=True)

    return resume(run, put_aside)


def forget_before(run: Run) -> None:
    """Removes what a Run gave at its earlier end: the later one is whole."""
    shutil.rmtree(run.path / BEFORE, ignore_errors=True)


def length_keys(plan: Plan) -> list[str]:
    """Returns the settings under which each round depends on how many there are to be."""
    from fedtrain.models import MODELS

    found = ["schedule = cosine"] if plan.schedule == "cosine" else []
    share = getattr(MODELS[plan.model](**plan.table(plan.model)), "annealing", 0.0)
    return [*found, f"{plan.model}.annealing = {share:g}"] if share else found


# --- what is refused -----------------------------------------------------------------------------------


def _changed_ends(run: Run, plan: Plan) -> list[str]:
    then, now = run.manifest["plan"], plan.to_dict()
    return [key for key in ENDS if _at(then, key) != _at(now, key)]


def _refuse_dependent(run: Run, plan: Plan, changed: list[str]) -> None:
    keys = length_keys(plan)
    if "rounds" in changed and keys:
        raise RecipeError(
            f"with {' and '.join(keys)} each round depends on how many there are to be: those done were of "
            f"{run.manifest['plan']['rounds']:,}, and would have been others of {plan.rounds:,}",
            where=str(run.path),
            hint=f"train {plan.rounds:,} rounds from the beginning, into another folder with --out",
        )


def _refuse_early_end(run: Run, plan: Plan, changed: list[str], finished_at: int) -> None:
    """Refuses what early stopping makes senseless. finished_at: the round, 0 for a Run that has not."""
    stop = plan.stop
    early = bool(finished_at) and finished_at < int(run.manifest["plan"]["rounds"])
    if early and changed == ["rounds"] and plan.rounds > finished_at:
        raise TrainingError(
            f"the Run stopped early, in round {finished_at:,}: of more rounds it would not do more",
            where=str(run.path),
            hint=f"--set stop.patience={2 * stop.patience} waits longer for a better {stop.metric}",
        )
    if changed != ["rounds"] and stop.metric:
        at = _stops_in(run, stop, saved_round(run))
        if at is not None:
            told = " and ".join(f"{key} = {_at(plan.to_dict(), key)}" for key in changed)
            raise TrainingError(
                f"with {told} the Run would have ended in round {at:,}, and more are done",
                where=str(run.path),
                hint="a larger stop.patience, or another folder with --out",
            )


def _stops_in(run: Run, stop: Stop, before: int) -> int | None:
    """Returns the first round before another in which patience ends, None where it does not."""
    rounds = run.rounds().filter(pl.col("metric") == stop.metric, pl.col("round") < before)
    values = history_of(rounds).get(stop.metric, ())
    ends = (
        values[n - 1][0]
        for n in range(1, len(values) + 1)
        if should_stop({stop.metric: values[:n]}, stop)
    )
    return next(ends, None)


def _refuse_without_checkpoint(run: Run) -> None:
    """Refuses to begin again, unasked, where a checkpoint was due and has been taken away."""
    if saved_round(run):
        return
    done = int(run.manifest["rounds_done"])
    due = int(run.manifest["plan"].get("checkpoint_every", 1))
    if run.manifest["status"] == "finished" or done >= due:
        raise TrainingError(
            f"the Run has no checkpoint to go on from, and {done:,} rounds are done",
            where=str(run.path / CHECKPOINT),
            hint="put the checkpoint back, or --force begins the Run again",
        )


# --- what was there ------------------------------------------------------------------------------------


def _tell_of_tables(run: Run) -> None:
    """Warns of what others made of the Run as it was: it is not made again."""
    made = sorted(path.name for path in (*run.path.glob("among-*"), *run.path.glob(REPORT)))
    if made:
        end = run.manifest["rounds_done"]
        log.warning("made of the Run as it was after %d rounds: %s", end, ", ".join(made))


def _keep_before(run: Run) -> None:
    """Keeps what a finished Run gave: a folder that is read like a Run, without its checkpoints."""
    with whole_folder(run.path / BEFORE, kind=RUN, force=True) as new:
        for name in (MANIFEST, *LOGS, *OUTPUTS):
            if (run.path / name).is_file():
                shutil.copyfile(run.path / name, new / name)


def _end_of(run: Run) -> dict[str, Any]:
    """Returns when a finished Run had ended, and what it had measured on test."""
    on_test = run.rounds().filter(pl.col("metric").str.contains("/test"))
    return {
        "rounds": run.manifest["rounds_done"],
        "seconds": run.manifest["seconds"],
        "measures": dict(zip(on_test["metric"], on_test["value"], strict=True)),
    }


def _at(plan: Mapping[str, Any], key: str) -> Any:
    found: Any = plan
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
