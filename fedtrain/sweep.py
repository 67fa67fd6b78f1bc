"""A sweep: runs of one plan under several settings, the bad ones stopped early, the best one named.

Each setting is a Run of its own in the sweep's folder, so a sweep that was interrupted goes on: a Run that
has finished is not done again, one that was broken off goes on from its checkpoint. `sweep.json` is what was
found so far, written anew after each Run.

A run is stopped by the median stopping rule: where its best value so far is worse than the median, over the
finished runs, of the mean of their values up to the same round, `patience` measured rounds in a row. The
first quarter of a run's rounds does not count: larger rates begin badly there and end well.

Reference: Golovin, Solnik, Moitra, Kochanski, Karro, Sculley, Google Vizier: A Service for Black-Box
Optimization, KDD 2017, section 3.2.2.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedprep.dataset import Dataset
from fedprep.decoding import read_json
from fedprep.errors import RecipeError, TrainingError
from fedprep.files import whole_file
from fedtrain.compare import better
from fedtrain.facts import Facts, facts_of
from fedtrain.figures import n_without_clients
from fedtrain.measures import RANKING
from fedtrain.preflight import check_plan, filled
from fedtrain.run import Run, refuse_other
from fedtrain.stopping import history_of, require_metric
from fedtrain.train import Report, train
from fedtrain.trials import Trial

__all__ = ["results", "sweep", "usual_metric"]

RESULTS = "sweep.json"
FORMAT = 1
PRUNED = "stopped by the median rule"
LEAST_FINISHED = 3
"""Finished runs that there must be before one is stopped for being worse than they were."""
GRACE = 0.25
"""Share of a run's rounds in which it is never below the median."""

Curve = list[tuple[int, float]]
"""(round, value), in order of rounds."""


def usual_metric(task: str) -> str:
    """Returns the measure that runs of a task are compared by, where nobody names one."""
    known = {"binary": "accuracy/valid", "classes": "accuracy/valid", "rating": "rmse/valid"}
    return known.get(task, "ndcg@10/valid")


def sweep(
    dataset: Dataset,
    trials: Sequence[Trial],
    folder: str | Path,
    *,
    metric: str,
    patience: int = 2,
    recipe: Mapping[str, Any] | None = None,
    allow_invalid: bool = False,
    verdict: Mapping[str, Any] | None = None,
    told: Callable[[str], None] = lambda text: None,
    report: Report = lambda round_number, values: None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Returns what was found, as `sweep.json` has it; see `results`.

    Args:
        dataset: what is trained on.
        trials: of `trials_of`; one after another.
        folder: the sweep's; it may hold Runs of an earlier call.
        metric: what runs are compared by, such as `ndcg@10/valid`; without a split, on valid.
        patience: rounds measured in a row below the median, before a run is stopped; 0: none ever is.
            Those of the first quarter do not count.
        recipe, allow_invalid, verdict: as for `train`.
        told: what is said between runs.
        report: each round's measures.
        stop: asked after each round whether to end here; the same call goes on later.

    Raises:
        TrainingError, RecipeError: before the first run: the metric is no measure to choose by, a setting
            does not fit the Dataset, or the folder holds a sweep of another Dataset.
    """
    metric, folder = _metric(metric), Path(folder)
    _refuse_another(folder, dataset, trials, metric)
    facts = facts_of(dataset)
    for trial in trials:
        _fits(trial, dataset.id, facts, folder / trial.name)
    rows: list[dict[str, Any]] = []
    curves: list[Curve] = []
    for number, trial in enumerate(trials, 1):
        told(f"{number} of {len(trials)}: {trial.name}")
        one = _One(trial, folder / trial.name, metric, patience, curves, stop)
        rest = {"recipe": recipe, "allow_invalid": allow_invalid, "verdict": verdict}
        row = one.row() if one.is_done else one.go(dataset, report, rest)
        rows.append(row)
        if row["status"] == "finished":
            require_metric(history_of(Run.open(one.path).rounds()), metric, "--metric")
            curves.append(one.curve)
        found = results(dataset, metric, patience, trials, rows)
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(folder / RESULTS) as new:
            text = json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False)
            new.write_text(text + "\n", encoding="utf-8")
        if row["status"] == "interrupted":
            break
    return found


def results(
    dataset: Dataset,
    metric: str,
    patience: int,
    trials: Sequence[Trial],
    rows: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Returns what `sweep.json` holds.

    metric, better, rule: how runs were compared · n_trials, n_done: how many there are, and are done ·
    trials: a row each, in their order: name, config, settings, seed, status (`finished`, `stopped early`,
    `failed`, `interrupted`), `value`: of the model that the Run keeps, `best` and `best_round`, rounds,
    seconds, bytes, `why` · settings: a row each, the best first: config (its name, "" of a grid), settings,
    n (finished runs), mean, deviation over seeds, is_best · best: the first of them, None where no run has
    finished.
    """
    sign = -1.0 if better(metric) == "higher" else 1.0
    by_settings: dict[tuple[str, tuple[str, ...]], list[float]] = {}
    for row in rows:
        values = by_settings.setdefault((row.get("config", ""), tuple(row["settings"])), [])
        if row["status"] == "finished" and row["value"] is not None:
            values.append(row["value"])
    settings: list[dict[str, Any]] = [
        {
            "config": config,
            "settings": list(key),
            "n": len(values),
            "mean": statistics.fmean(values) if values else None,
            "deviation": statistics.stdev(values) if len(values) > 1 else None,
        }
        for (config, key), values in by_settings.items()
    ]
    # One that lost a seed to the median rule is no better than one that lost none.
    settings.sort(
        key=lambda row: (row["n"] == 0, -row["n"], sign * row["mean"] if row["n"] else 0.0)
    )
    for place, row in enumerate(settings):
        row["is_best"] = place == 0 and row["n"] > 0
    rule = f"median stopping rule (Golovin et al., KDD 2017), patience {patience}"
    return {
        "format": FORMAT,
        "dataset_id": dataset.id,
        "metric": metric,
        "better": better(metric),
        "rule": rule if patience else "none",
        "n_trials": len(trials),
        "n_done": sum(row["status"] != "interrupted" for row in rows),
        "trials": list(rows),
        "settings": settings,
        "best": settings[0] if settings and settings[0]["is_best"] else None,
    }


class _One:
    """One trial: whether it is done, how it is done, what it came to."""

    def __init__(
        self,
        trial: Trial,
        path: Path,
        metric: str,
        patience: int,
        finished: Sequence[Curve],
        stop: Callable[[], bool],
    ) -> None:
        self.trial, self.path, self.metric = trial, path, metric
        self.patience, self.finished, self.stop = patience, finished, stop
        self.sign = 1.0 if better(metric) == "higher" else -1.0
        self.curve: Curve = []
        self.pruned, self.interrupted, self.why = "", False, ""
        if self.is_there:
            run = Run.open(path)
            self.why = next(
                (str(e.get("why", PRUNED)) for e in run.events() if e["event"] == PRUNED), ""
            )

    @property
    def is_there(self) -> bool:
        return (self.path / "manifest.json").is_file()

    @property
    def is_done(self) -> bool:
        if not self.is_there:
            return False
        return Run.open(self.path).manifest["status"] == "finished" or bool(self.why)

    def go(
        self,
        dataset: Dataset,
        report: Report,
        rest: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Trains it, from where it was broken off, and returns its row. rest: more keywords of `train`."""

        def noted(round_number: int, values: Mapping[str, float]) -> None:
            report(round_number, values)
            if self.metric in values and round_number < self.trial.plan.rounds:
                self._judge(round_number, values[self.metric])

        def ends() -> bool:
            self.interrupted = self.stop()
            return self.interrupted or bool(self.pruned)

        self._read_curve()
        try:
            run = train(
                dataset,
                self.trial.plan,
                self.path,
                seed=self.trial.seed,
                go_on=True,
                report=noted,
                stop=ends,
                **rest,
            )
        except TrainingError as error:
            if not self.is_there or Run.open(self.path).manifest["status"] != "failed":
                raise
            self.why = error.what
            return self.row()
        if self.pruned and run.manifest["status"] == "stopped" and not self.interrupted:
            run.event(int(run.manifest["rounds_done"]), PRUNED, why=self.pruned)
            self.why = self.pruned
        return self.row()

    def row(self) -> dict[str, Any]:
        """Returns what it came to."""
        run = Run.open(self.path)
        rounds = run.rounds()
        self._read_curve()
        status = run.manifest["status"]
        if status == "stopped":
            status = "stopped early" if self.why else "interrupted"
        best = max(self.curve, key=lambda pair: self.sign * pair[1], default=None)
        last = self.curve[-1] if self.curve else None
        kept = best if self.trial.plan.stop.metric == self.metric else last
        if run.manifest["rounds_done"] and n_without_clients(rounds) >= run.manifest["rounds_done"]:
            self.why = "no round had a client that counts"
            status = "failed" if status == "finished" else status
        counts = status in ("finished", "stopped early")
        sums = {
            name: float(rounds.filter(metric=name)["value"].sum())
            for name in ("seconds", "bytes/up", "bytes/down")
        }
        return {
            "name": self.trial.name,
            "path": str(self.path),
            "config": self.trial.config,
            "settings": list(self.trial.settings),
            "seed": self.trial.seed,
            "status": status,
            "value": kept[1] if kept and counts else None,
            "best": best[1] if best else None,
            "best_round": best[0] if best else None,
            "rounds": run.manifest["rounds_done"],
            "seconds": sums["seconds"],
            "bytes": int(sums["bytes/up"] + sums["bytes/down"]),
            "why": self.why,
        }

    def _read_curve(self) -> None:
        if self.is_there:
            rows = Run.open(self.path).rounds().filter(metric=self.metric).sort("round")
            self.curve = list(zip(rows["round"].to_list(), rows["value"].to_list(), strict=True))

    def _judge(self, round_number: int, value: float) -> None:
        """Notes a value, and whether the run is to be stopped for it."""
        self.curve = [*((r, v) for r, v in self.curve if r < round_number), (round_number, value)]
        self.pruned = self._verdict()

    def _verdict(self) -> str:
        """Returns why the run is to be stopped by what its curve is by now, or nothing."""
        below, told = 0, ""
        for place, (number, _) in enumerate(self.curve):
            means = [self.sign * mean for mean in _means(self.finished, number)]
            if len(means) < LEAST_FINISHED or number < GRACE * self.trial.plan.rounds:
                continue
            best = max(self.sign * value for _, value in self.curve[: place + 1])
            median = statistics.median(means)
            below = below + 1 if best < median else 0
            told = (
                f"round {number}: its best {self.metric} is {self.sign * best:.4g}, "
                f"the median of {len(means)} finished runs is {self.sign * median:.4g}"
            )
        return told if self.patience and below >= self.patience else ""


def _means(curves: Iterable[Curve], round_number: int) -> Iterator[float]:
    """Yields the mean value of each curve up to a round, where it has any."""
    for curve in curves:
        values = [value for number, value in curve if number <= round_number]
        if values:
            yield statistics.fmean(values)


def _fits(trial: Trial, dataset_id: str, facts: Facts, path: Path) -> None:
    """Refuses a trial that its Dataset or its model cannot do, or whose folder holds another Run."""
    try:
        plan = filled(trial.plan, facts)
        check_plan(plan, facts)
        if (path / "manifest.json").is_file():
            refuse_other(Run.open(path), plan.to_dict(), dataset_id, seed=trial.seed)
    except (TrainingError, RecipeError) as error:
        settings = " ".join(f"--set {setting}" for setting in trial.settings)
        settings = f"[{trial.config}]" if trial.config else settings
        raise type(error)(
            error.what,
            where=", ".join(filter(None, [error.where, settings])),
            expected=error.expected,
            hint=error.hint,
        ) from None


def _metric(name: str) -> str:
    """Returns the measure that a name means: on valid where it names no split.

    Raises:
        TrainingError: neither more nor less of it is better, or it is measured on test.
    """
    if name.endswith("/test"):
        raise TrainingError(
            f"'{name}' would choose by the rows that judge the choice",
            where="--metric",
            hint=f"--metric {name.removesuffix('/test')}/valid",
        )
    full = name if name.endswith(("/valid", "/train")) else f"{name}/valid"
    if better(full) == "neither":
        raise TrainingError(
            f"'{name}' is no measure to choose by",
            where="--metric",
            expected="such as ndcg@10/valid, accuracy/valid, rmse/valid or loss/valid",
        )
    if "@" in full:
        require_metric({f"{ranked}/valid": () for ranked in RANKING}, full, "--metric")
    return full


def _refuse_another(folder: Path, dataset: Dataset, trials: Sequence[Trial], metric: str) -> None:
    if not trials:
        raise TrainingError("a sweep without a run", hint="--set lr=0.1,0.3")
    path = folder / RESULTS
    if path.is_file():
        there = read_json(path, "the sweep's results", TrainingError).get("dataset_id")
        if there != dataset.id:
            raise TrainingError(
                "the folder holds a sweep of another Dataset",
                where=str(path),
                hint="--out names another folder",
            )
    elif folder.is_dir() and any(folder.iterdir()):
        known = {trial.name for trial in trials}
        strange = [
            p.name
            for p in folder.iterdir()
            if p.name.lstrip(".").removesuffix(".lock") not in known
        ]
        if strange:
            raise TrainingError(
                f"something is there that is no sweep: {', '.join(sorted(strange)[:3])}",
                where=str(folder),
                hint="--out names another folder",
            )
