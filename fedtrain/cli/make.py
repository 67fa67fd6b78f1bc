"""Commands that train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from fedprep.errors import DatasetError, TrainingError
from fedtrain.cli.console import interruptible, print_json, progress_of_rounds, say, show

if TYPE_CHECKING:
    from fedprep.dataset import Dataset

__all__ = ["run"]

TABLE_FLAGS = ("algorithm", "model", "task", "rounds", "clients_per_round")


@click.command()
@click.argument("what", metavar="DATASET|RECIPE")
@click.option("--data", type=click.Path(path_type=Path), help="The Dataset, if WHAT is a recipe.")
@click.option("--out", type=click.Path(path_type=Path), help="The Run's folder; else runs/NAME.")
@click.option("--algorithm", help="`fedtrain list` has them all.")
@click.option("--model", help="`fedtrain list` has them all.")
@click.option("--task", help="implicit, binary, classes, rating, bpr, softmax, contrastive.")
@click.option("--rounds", type=click.IntRange(1))
@click.option("--clients-per-round", type=click.IntRange(0), help="0: all of them.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any key of [train].")
@click.option("--seed", type=click.IntRange(0), help="Of everything random; else the recipe's.")
@click.option(
    "--engine", type=click.Choice(["own", "flower"]), default="own", show_default=True,
    help="own: clients side by side in this process; flower: Flower's simulation.",
)  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with an interrupted Run.")
@click.option("--force", is_flag=True, help="Replace a Run that is there.")
@click.option("--allow-invalid", is_flag=True, help="Train on a Dataset that fails its checks.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on stdout.")
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
    as_json: bool,
    **flags: Any,
) -> int:
    """Train on a Dataset, as its own recipe says or another one.

    WHAT is the folder of a Dataset, whose recipe's [train] is the plan, or a recipe: then --data names the
    Dataset, else datasets/NAME of the recipe is taken.
    """
    from fedtrain.settings import parse_plan, with_settings
    from fedtrain.summary import summary, told

    dataset, recipe = _found(what, data)
    table = with_settings(dict(recipe.get("train") or {}), settings)
    table |= {key: flags[key] for key in TABLE_FLAGS if flags[key] is not None}
    plan = parse_plan(table, where=what)
    number = int(recipe.get("seed") or 0) if seed is None else seed
    out = out or Path("runs") / f"{recipe.get('name') or dataset.name}-{plan.algorithm}-{number}"
    _judge(dataset, allow_invalid)
    train = _engine(engine)
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
            report=report,
            stop=stop,
        )
    found = summary(done)
    if as_json:
        print_json(found)
    else:
        show(told(found))
    if not found["measures"]:
        say("error: the run measured nothing: it cannot be judged")
        return 1
    return 0


def _found(what: str, data: Path | None) -> tuple[Dataset, dict[str, Any]]:
    """Returns the Dataset and the recipe that a command names."""
    from fedprep.dataset import Dataset
    from fedprep.manifest import MANIFEST
    from fedprep.recipe import load_recipe

    if (Path(what) / MANIFEST).is_file():
        dataset = Dataset.open(what)
        recipe: dict[str, Any] = dict(dataset.manifest["recipe"])
        if data is not None:
            raise TrainingError(f"{what} is a Dataset itself", hint="leave --data out")
        return dataset, recipe
    if Path(what).is_dir():
        raise DatasetError(f"no Dataset is in {what}", hint="fedprep build RECIPE makes one")
    loaded = load_recipe(what)
    place = data or Path("datasets") / loaded.name
    try:
        return Dataset.open(place), loaded.to_dict()
    except DatasetError as error:
        raise DatasetError(
            f"no Dataset for the recipe '{what}' is in {place}",
            where=str(place),
            hint=f"fedprep build {what} makes it; --data names another place ({error.what})",
        ) from None


def _judge(dataset: Dataset, allow_invalid: bool) -> None:
    """Validates a Dataset that was never validated: training on unknown data is what loses weeks."""
    if dataset.report is not None or allow_invalid:
        return
    from fedprep.gate import judge
    from fedtrain.setup import refuse_invalid

    say("this Dataset has no verdict yet: validating it")
    verdict, _ = judge(dataset.path)
    refuse_invalid(verdict, str(dataset.path))


def _engine(name: str) -> Any:
    if name == "own":
        from fedtrain.train import train

        return train
    from fedtrain.flower import train_with_flower

    return train_with_flower
