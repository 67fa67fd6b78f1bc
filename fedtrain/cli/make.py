"""Commands that train: run and sweep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from fedprep.errors import DatasetError, TrainingError, typed
from fedprep.keys import LARGEST_SEED, MOST
from fedprep.terminal import interruptible, print_json, say, show
from fedtrain.cli.options import allow_invalid_option, data_option, json_option, what_argument
from fedtrain.cli.rounds import progress_of_rounds
from fedtrain.extras import need_trainer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fedprep.dataset import Dataset
    from fedtrain.plan import Plan
    from fedtrain.run import Run

__all__ = ["run", "sweep"]

TABLE_FLAGS = ("algorithm", "model", "task", "rounds", "clients_per_round")


@click.command()
@what_argument
@data_option
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of the Run; else runs/NAME-ALGORITHM-SEED.",
)
@click.option("--algorithm", help="Algorithm, such as fedavg (`fedtrain list algorithms`).")
@click.option("--model", help="Model, such as mf (`fedtrain list models`).")
@click.option(
    "--task", help="Task: implicit, binary, classes, rating, bpr, softmax or contrastive."
)
@click.option("--rounds", type=click.IntRange(1, MOST), help="Rounds; else the plan's, or 50.")
@click.option(
    "--clients-per-round",
    type=click.IntRange(0, MOST),
    help="Clients that train in a round; 0: all.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a key of [train], such as lr=0.3 or mf.dim=64; may be repeated.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, LARGEST_SEED),
    help="Seed of everything random; else the recipe's.",
)
@click.option(
    "--engine", type=click.Choice(["own", "flower"]), default="own", show_default=True,
    help="Engine: own, clients side by side in this process, or flower, Flower's simulation.",
)  # fmt: skip
@click.option(
    "--resume", is_flag=True,
    help="Go on with an interrupted Run, or with a finished one to more --rounds.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Replace the Run that is there.")
@allow_invalid_option
@click.option(
    "--verify", is_flag=True,
    help="Refuse files whose SHA-256 is not the manifest's, with --allow-invalid too.",
)  # fmt: skip
@json_option
def run(
    what: str,
    data: Path | None,
    out: Path | None,
    settings: tuple[str, ...],
    seed: int | None,
    engine: Literal["own", "flower"],
    resume: bool,
    force: bool,
    allow_invalid: bool,
    verify: bool,
    as_json: bool,
    **flags: Any,
) -> int:
    """Train on a Dataset, as its own recipe says or another one.

    DATASET is a folder, and the [train] of its own recipe the plan; of a RECIPE the Dataset is in
    datasets/NAME, or where --data says. Flags and --set lie over [train]. Exit code 1 where the run gives
    less than the recipe expects ([train.expected]).

    \b
    Examples:
      fedtrain run datasets/demo --out runs/demo
      fedtrain run datasets/demo --out runs/per --algorithm fedper --rounds 20 --set lr=0.003
      fedtrain run ml-1m-fedavg --data datasets/movielens-1m --seed 1
    """
    need_trainer()
    from fedprep.manifest import MANIFEST
    from fedtrain.run import Run
    from fedtrain.settings import laid_over, parse_plan
    from fedtrain.summary import summary, told

    if resume and force:
        raise TrainingError("--resume goes on with a Run and --force replaces it: one of the two")
    dataset, recipe = _found(what, data, verify, allow_invalid)
    named = {key: flags[key] for key in TABLE_FLAGS if flags[key] is not None}
    table, left = laid_over(recipe.get("train") or {}, settings, named, where=what)
    plan = parse_plan(table, where=what, settings=settings)
    if left:
        say(f"the recipe's {left}: left out, and derived anew")
    usual = int(recipe.get("seed") or 0)
    number = usual if seed is None else seed
    out = out or Path("runs") / f"{_name(dataset, recipe)}-{plan.algorithm}-{number}"
    Run.refuse_taken(out, force=force, go_on=resume)
    verdict = _judge(dataset, allow_invalid)
    train = _engine(engine)
    was = Run.open(out).manifest if resume and (out / MANIFEST).is_file() else None
    with progress_of_rounds(plan.rounds) as report, interruptible() as stop:
        done = train(
            dataset,
            plan,
            out,
            seed=number,
            recipe=recipe,
            go_on=resume,
            force=force,
            allow_invalid=allow_invalid,
            verdict=verdict,
            report=report,
            stop=stop,
        )
    if was is not None:
        _say_what_came_of(out, was, done.manifest)
    found = summary(done)
    if done.manifest["status"] == "finished":
        found |= _expected(plan, recipe, number, usual, found["measures"])
    if as_json:
        print_json(found)
    else:
        show(told(found))
        if found.get("expected"):
            from fedtrain.show import show_expectations

            show(show_expectations(found["expected"]))
    return _verdict(done, found, stop.code)


def _name(dataset: Dataset, recipe: Mapping[str, Any]) -> str:
    """Returns what a Run is called that was given no place."""
    from fedprep.files import checked_name

    name = str(recipe.get("name") or dataset.name)
    return checked_name(name, "the Dataset's name", where=f"{dataset.path}; --out chooses a place")


def _expected(
    plan: Plan, recipe: Mapping[str, Any], seed: int, usual_seed: int, measures: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns what the recipe expects beside what came out, where the run was as the recipe says."""
    from fedtrain.expectation import changed_keys, expectations
    from fedtrain.settings import parse_plan

    if not plan.expected:
        return {}
    as_told = parse_plan(recipe.get("train") or {})
    changed = changed_keys(plan.to_dict(), as_told.to_dict(), seed, usual_seed)
    if changed:
        say(f"not compared with what the recipe expects: {', '.join(changed)} are not as it says")
        return {}
    return {"expected": expectations(plan, measures)}


def _verdict(done: Run, found: Mapping[str, Any], stopped: int) -> int:
    """Returns the exit code of a run, and says why it is not 0. stopped: that of one that was stopped."""
    from fedtrain.compare import better

    if done.manifest["status"] == "stopped":
        say(f"stopped after round {found['rounds']}: the same command with --resume goes on")
        return stopped
    if 0 < found["rounds"] <= found["rounds_without_clients"]:
        say("error: nothing was trained: no round had a client that counts")
        return 1
    if not any(better(metric) != "neither" for metric in found["measures"]):
        say("error: the run measured nothing: it cannot be judged")
        return 1
    if found["stood_still"]:
        say(f"error: the loss did not move: {found['stood_still']}: other rates (fedtrain sweep)")
        return 1
    short = [row["metric"] for row in found.get("expected", ()) if not row["ok"]]
    if short:
        say(f"error: less than the recipe expects: {', '.join(short)}")
        return 1
    return 0


def _say_what_came_of(out: Path, was: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Says of a Run that was to go on where nothing was left to do, or where it has another end now."""
    if was == now:
        say(f"{out} has finished already: there is nothing to go on with")
    before, after = was["plan"].get("rounds"), now["plan"].get("rounds")
    if before != after:
        say(f"{out} was to have {before} rounds, and now {after}")


@click.command()
@what_argument
@data_option
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=A,B",
    help="The alternatives of a key of [train]; each --set is one more dimension.",
)  # fmt: skip
@click.option(
    "--configs", type=click.Path(path_type=Path), metavar="FILE",
    help="TOML with a table of keys of [train] for each setting, in place of --set.",
)  # fmt: skip
@click.option(
    "--random",
    "n_random",
    type=click.IntRange(1),
    help="So many settings, drawn from all combinations.",
)
@click.option(
    "--metric", help="Measure on valid to compare by, such as loss; else the task's usual one."
)
@click.option(
    "--seeds",
    default="0",
    show_default=True,
    help="Seeds, such as 0,1,2: each setting is run with each.",
)
@click.option(
    "--patience", type=click.IntRange(0, MOST), default=2, show_default=True,
    help="Measured rounds below the median of the others before a run is stopped; 0: never.",
)  # fmt: skip
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder of the sweep; else runs/NAME-sweep."
)
@allow_invalid_option
@json_option
def sweep(
    what: str,
    data: Path | None,
    settings: tuple[str, ...],
    configs: Path | None,
    n_random: int | None,
    metric: str | None,
    seeds: str,
    patience: int,
    out: Path | None,
    allow_invalid: bool,
    as_json: bool,
) -> int:
    """Train with several settings and say which is best.

    All combinations, or --random of them, each a Run in the sweep's folder; the same command goes on where
    it was interrupted. Bad ones are stopped early by the median rule.

    \b
    Examples:
      fedtrain sweep datasets/demo --set lr=0.001,0.002,0.005 --seeds 0,1,2
      fedtrain sweep datasets/demo --set lr=0.001,0.005 --set two_tower.dim=16,32 --random 3
      fedtrain sweep datasets/demo --configs settings.toml --seeds 0,1
    """
    need_trainer()
    from fedtrain.show import show_sweep
    from fedtrain.sweep import sweep as sweeping
    from fedtrain.sweep import usual_metric
    from fedtrain.trials import alternatives, named_trials, read_configs, trials_of

    dataset, recipe = _found(what, data, False, allow_invalid)
    table = dict(recipe.get("train") or {})
    if configs is not None:
        if settings or n_random is not None:
            raise TrainingError(
                "--configs names whole settings, --set and --random are a grid: one of the two"
            )
        trials = named_trials(table, read_configs(configs), _seeds(seeds), str(configs))
    else:
        trials = trials_of(
            table,
            alternatives(settings),
            _seeds(seeds),
            n_random=n_random,
            draw_seed=int(recipe.get("seed") or 0),
            where=what,
        )
    verdict = _judge(dataset, allow_invalid)
    out = out or Path("runs") / f"{_name(dataset, recipe)}-sweep"
    rounds = max(trial.plan.rounds for trial in trials)
    with progress_of_rounds(rounds) as report, interruptible() as stop:
        found = sweeping(
            dataset,
            trials,
            out,
            metric=metric or usual_metric(trials[0].plan.task),
            patience=patience,
            recipe=recipe,
            allow_invalid=allow_invalid,
            verdict=verdict,
            told=say,
            report=report,
            stop=stop,
        )
    if as_json:
        print_json(found)
    else:
        show(show_sweep(found))
    if found["n_done"] < found["n_trials"]:
        say(f"stopped with {found['n_done']} runs done: the same command goes on")
        return stop.code
    if found["best"] is None:
        say("error: no run has finished with a value: there is nothing to choose from")
        return 1
    return 0


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(word) for word in text.split(",")]
    except ValueError:
        seeds = [-1]
    if not 0 <= min(seeds) <= max(seeds) <= LARGEST_SEED:
        raise TrainingError(
            f"'{text}' are no seeds",
            where="--seeds",
            expected="whole numbers from 0, such as 0,1,2",
        )
    return list(dict.fromkeys(seeds))


def _found(
    what: str, data: Path | None, verify: bool, allow_invalid: bool
) -> tuple[Dataset, dict[str, Any]]:
    """Returns the Dataset and the recipe that a command names.

    Args:
        verify: refuse files that have changed even where `allow_invalid` trains on them.
    """
    from fedprep.dataset import Dataset
    from fedprep.manifest import MANIFEST
    from fedprep.recipe import load_recipe

    if (Path(what) / MANIFEST).is_file():
        dataset = Dataset.open(what, verify=verify, allow_changed=allow_invalid and not verify)
        recipe: dict[str, Any] = dict(dataset.manifest["recipe"])
        if data is not None:
            raise TrainingError(f"{what} is a Dataset itself", hint="leave --data out")
        return dataset, recipe
    if "/" in what and not what.endswith(".toml") and not Path(what).exists():
        raise DatasetError(f"nothing is at {what}", expected="the folder of a Dataset, or a recipe")
    if Path(what).is_dir():
        raise DatasetError(f"no Dataset is in {what}", hint="fedprep build RECIPE makes one")
    loaded = load_recipe(what)
    place = data or Path("datasets") / loaded.name
    try:
        changed = allow_invalid and not verify
        return Dataset.open(place, verify=verify, allow_changed=changed), loaded.to_dict()
    except DatasetError as error:
        raise DatasetError(
            f"no Dataset for the recipe '{what}' is in {place}",
            where=str(place),
            hint=f"{typed('fedprep', 'build', what)} makes it; --data names another place ({error.what})",
        ) from None


def _judge(dataset: Dataset, allow_invalid: bool) -> dict[str, Any] | None:
    """Validates a Dataset that has no verdict on its files: training on unknown data is what loses weeks."""
    if dataset.verdict is not None or allow_invalid:
        return None
    dataset.verify()
    from fedprep.gate import judge
    from fedtrain.setup import refuse_invalid

    say("this Dataset has no verdict on the files that it has now: validating it")
    verdict, _ = judge(dataset.path)
    refuse_invalid(verdict, str(dataset.path))
    return verdict


def _engine(name: str) -> Any:
    if name == "own":
        from fedtrain.train import train

        return train
    from fedtrain.flower import train_with_flower

    return train_with_flower
