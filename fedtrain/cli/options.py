"""Arguments and options that several commands share, each spelled once."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["allow_invalid_option", "data_option", "json_option", "run_argument", "what_argument"]

what_argument = click.argument("what", metavar="DATASET|RECIPE")
run_argument = click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
data_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder of the Dataset; else where the Run had it, or datasets/NAME of the recipe.",
)
allow_invalid_option = click.option(
    "--allow-invalid",
    is_flag=True,
    help="Train on a Dataset that fails its checks, or was changed.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
