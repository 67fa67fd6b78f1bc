"""Arguments and options that several commands share, each spelled once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from fedprep.keys import MOST

__all__ = [
    "clients_option",
    "dataset_argument",
    "force_option",
    "from_option",
    "gate_option",
    "json_option",
    "out_option",
    "recipe_argument",
    "safe_cells_option",
    "set_option",
    "unverified_option",
    "verify_option",
]

F = TypeVar("F", bound=Callable[..., Any])

recipe_argument = click.argument("recipe", metavar="RECIPE|FILE.toml")
dataset_argument = click.argument("dataset", metavar="DATASET", type=click.Path(path_type=Path))
out_option = click.option(
    "--out", type=click.Path(path_type=Path), help="Folder of the Dataset; else datasets/NAME."
)
force_option = click.option(
    "--force", is_flag=True, help="Replace what is there, once the new one is whole."
)
safe_cells_option = click.option(
    "--safe-cells",
    is_flag=True,
    help="In CSV, put ' before texts that a spreadsheet would run as a formula.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a recipe key, such as partition.alpha=0.3; may be repeated.",
)
from_option = click.option(
    "--from", "given", metavar="PATH|synthetic",
    help="Take the raw files from a file or folder of yours, or have them made up.",
)  # fmt: skip
unverified_option = click.option(
    "--allow-unverified",
    is_flag=True,
    help="Take raw files whose checksum is not the official one.",
)
clients_option = click.option(
    "--clients",
    "n_clients",
    type=click.IntRange(1, MOST),
    help="Number of clients (partition.n_clients).",
)


def verify_option(default: bool) -> Callable[[F], F]:
    """Returns the option `--verify`, on or off where nothing is said."""
    return click.option(
        "--verify/--no-verify",
        default=default,
        show_default=True,
        help="Compare the SHA-256 of all files with the manifest's first.",
    )


gate_option = click.option(
    "--gate/--no-gate",
    default=True,
    show_default=True,
    help="Exit with 1, or with 0, where a check of the finished Dataset fails.",
)
