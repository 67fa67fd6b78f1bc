"""Commands that look: list, predict, compare."""

from __future__ import annotations

import math
from pathlib import Path

import click

from fedprep.errors import TrainingError
from fedprep.terminal import print_json, say, show
from fedtrain.cli.options import data_option, json_option, run_argument
from fedtrain.extras import need_trainer

__all__ = ["compare", "list_", "predict"]

LISTS = (
    "algorithms", "models", "tasks", "samplers", "schedules", "server-optimizers", "compressions",
    "recipes",
)  # fmt: skip


@click.command("list")
@click.argument("what", metavar="[LIST]", type=click.Choice(LISTS), required=False)
@json_option
def list_(what: str | None, as_json: bool) -> None:
    """List what there is to choose from.

    LIST is algorithms, models, tasks, samplers, schedules, server-optimizers, compressions or recipes; else
    all of them are told. One line each, and the paper.

    \b
    Examples:
      fedtrain list algorithms
    """
    from fedtrain.catalogue import catalogue
    from fedtrain.show import show_list

    lists = {name: catalogue(name) for name in ([what] if what else LISTS)}
    if as_json:
        print_json(lists)
        return
    for name, entries in lists.items():
        show(show_list(name.capitalize().replace("-", " "), entries))


@click.command()
@run_argument
@click.option(
    "--client",
    "client_id",
    type=int,
    required=True,
    help="Client whose users are served, by its number.",
)
@click.option(
    "--user", "user_id", type=int, help="One of its users, by its number; else all of them."
)
@click.option(
    "-k", "k", type=click.IntRange(1), default=10, show_default=True, help="Items for each user."
)
@data_option
@json_option
def predict(
    run: Path, client_id: int, user_id: int | None, k: int, data: Path | None, as_json: bool
) -> None:
    """Recommend to the users of a client, from a trained RUN.

    The best state is used where the run has kept one, else its last checkpoint. What users have had is
    left out.

    \b
    Examples:
      fedtrain predict runs/demo --client 7 -k 5
    """
    need_trainer()
    from fedtrain.recommend import recommend
    from fedtrain.show import show_recommendations

    found = recommend(run, client_id, user_id=user_id, k=k, data=data)
    if as_json:
        print_json(found)
    else:
        show(show_recommendations(found))


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--target", "targets", multiple=True, metavar="METRIC=VALUE",
    help="Value to reach, such as ndcg@10=0.04: rounds, bytes and seconds to it; may be repeated.",
)  # fmt: skip
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="File for the curves of all on one picture, a PNG.",
)
@json_option
def compare(
    runs: tuple[Path, ...], targets: tuple[str, ...], out: Path | None, as_json: bool
) -> None:
    """Compare Runs: best and last values, rounds, bytes, seconds, and what a target cost.

    \b
    Examples:
      fedtrain compare runs/demo runs/avg --target accuracy=0.7 --out curves.png
    """
    from fedtrain.compare import compare as compared
    from fedtrain.compare import unlike
    from fedtrain.show import show_comparison

    rows = compared(runs, dict(_target(text) for text in targets))
    for what in unlike(rows):
        say(f"warning: the Runs are of different {what}: their numbers cannot be compared")
    if out is not None:
        from fedtrain.curves import draw_curves

        draw_curves(runs, out)
        say(f"the curves are in {out}")
    if as_json:
        print_json(rows)
    else:
        show(show_comparison(rows))


def _target(text: str) -> tuple[str, float]:
    name, _, words = text.partition("=")
    try:
        value = float(words)
    except ValueError:
        value = math.nan
    if not (name.strip() and math.isfinite(value)):
        raise TrainingError(
            f"'{text}' is no target",
            where="--target",
            expected="METRIC=VALUE, such as ndcg@10=0.04",
        )
    return name.strip(), value
