"""The command that ranks candidates."""

from __future__ import annotations

from pathlib import Path

import click

from fedprep.keys import LARGEST_SEED
from fedprep.terminal import print_json, show
from fedtrain.cli.options import data_option, json_option, run_argument
from fedtrain.extras import need_trainer

__all__ = ["rank"]


@click.command()
@run_argument
@click.option(
    "--candidates", default="uniform:99", show_default=True, metavar="uniform:N|popularity:N|FILE",
    help="What each user's items are ranked among.",
)  # fmt: skip
@click.option(
    "--split", type=click.Choice(["test", "valid"]), default="test", show_default=True,
    help="Split whose rows are the relevant ones.",
)  # fmt: skip
@click.option(
    "--seed",
    type=click.IntRange(0, LARGEST_SEED),
    default=0,
    show_default=True,
    help="Seed of the candidates' draw.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="File to write to; else one in the Run."
)
@data_option
@json_option
def rank(
    run: Path,
    candidates: str,
    split: str,
    seed: int,
    out: Path | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Score candidates with a trained RUN, such as 99 beside each test item.

    For protocols that rank sampled items; `fedeval report` measures the file that comes out.

    \b
    Examples:
      fedtrain rank runs/demo --candidates uniform:99
      fedeval report runs/demo/among-uniform-99-test-0.parquet --data datasets/demo --candidates uniform:99
    """
    need_trainer()
    from fedtrain.candidates import rank_candidates

    place = rank_candidates(run, candidates, data=data, split=split, seed=seed, out=out)
    if as_json:
        print_json({"run": str(run), "candidates": candidates, "file": str(place)})
    else:
        show(str(place))
