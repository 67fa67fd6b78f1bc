"""Commands that make Datasets: build, fetch, partition."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from fedprep.cli.options import (
    clients_option,
    dataset_argument,
    force_option,
    from_option,
    gate_option,
    json_option,
    out_option,
    recipe_argument,
    set_option,
    unverified_option,
    verify_option,
)
from fedprep.keys import LARGEST_SEED, MOST
from fedprep.terminal import console, print_json, progress_bars, show

if TYPE_CHECKING:
    from fedprep.build import Hands
    from fedprep.dataset import Dataset
    from fedprep.recipe import Recipe
    from fedprep.schema import Progress

__all__ = ["build", "fetch", "partition"]


@click.command()
@recipe_argument
@out_option
@from_option
@set_option
@clients_option
@click.option(
    "--seed",
    type=click.IntRange(0, LARGEST_SEED),
    help="Seed of everything random; else the recipe's.",
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    help="Device of the encoders: auto, cpu, cuda, cuda:1, mps.",
)
@click.option(
    "--threads", type=click.IntRange(1, MOST), help="CPU threads of the encoders; else one a core."
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where texts are embedded: here, or on the workers of a Ray cluster.",
)
@unverified_option
@force_option
@gate_option
@json_option
def build(
    recipe: str,
    out: Path | None,
    given: str | None,
    settings: tuple[str, ...],
    n_clients: int | None,
    seed: int | None,
    device: str,
    threads: int | None,
    engine: Literal["local", "ray"],
    allow_unverified: bool,
    force: bool,
    gate: bool,
    as_json: bool,
) -> int:
    """Build a Dataset from raw files.

    RECIPE is a name of `fedprep list recipes` or a TOML file of yours. Raw files are fetched (or taken from
    FEDPREP_MIRROR or --from), read, cleaned, split, embedded and partitioned; the Dataset is then checked.
    A build that was interrupted embeds nothing twice.

    \b
    Examples:
      fedprep build demo
      fedprep build demo --clients 20 --set partition.alpha=0.1 --out datasets/demo-20
      fedprep build books.toml --from folder/of/tables --out datasets/books
    """
    loaded = _recipe(recipe, settings, n_clients=n_clients, seed=seed)
    out = out or Path("datasets") / loaded.name
    from fedprep.build import build_dataset

    _terms(loaded, given)
    with progress_bars() as progress:
        hands = _hands(given, allow_unverified, progress, device, threads, engine)
        dataset = build_dataset(loaded, out, hands=hands, force=force)
    return _tell(dataset, as_json, gate=gate)


@click.command()
@recipe_argument
@from_option
@set_option
@unverified_option
@json_option
def fetch(
    recipe: str, given: str | None, settings: tuple[str, ...], allow_unverified: bool, as_json: bool
) -> None:
    """Fetch and check raw files, build nothing.

    \b
    Examples:
      fedprep fetch movielens-1m
      fedprep fetch amazon --set source.category=Video_Games --json
    """
    loaded = _recipe(recipe, settings)
    from fedprep.build import fetch_raw

    _terms(loaded, given)
    with progress_bars() as progress:
        files = fetch_raw(loaded, _hands(given, allow_unverified, progress))
    if as_json:
        print_json({role: {**vars(file), "path": str(file.path)} for role, file in files.items()})
    else:
        from fedprep.show import show_files

        show(show_files(files))


@click.command()
@dataset_argument
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder of the new Dataset."
)
@set_option
@clients_option
@click.option(
    "--seed", type=click.IntRange(0, LARGEST_SEED), help="Seed of the partition; else the recipe's."
)
@force_option
@gate_option
@verify_option(True)
@json_option
def partition(
    dataset: Path,
    out: Path,
    settings: tuple[str, ...],
    n_clients: int | None,
    seed: int | None,
    force: bool,
    gate: bool,
    verify: bool,
    as_json: bool,
) -> int:
    """Give the rows to other clients.

    Nothing is embedded anew; the id is that of a build with such a partition.
    `fedprep list partitions` names the methods.

    \b
    Examples:
      fedprep partition datasets/demo --out datasets/demo-skewed --set partition.alpha=0.05
      fedprep partition datasets/demo --out datasets/demo-iid --clients 20 --set partition.method=iid
    """
    from fedprep.build import repartition
    from fedprep.dataset import Dataset
    from fedprep.recipe import change_partition

    opened = Dataset.open(dataset, verify=verify)
    extra = [f"partition.n_clients={n_clients}"] if n_clients else []
    extra += [f"partition.seed={seed}"] if seed is not None else []
    options = change_partition(opened.manifest["recipe"], [*settings, *extra])
    return _tell(repartition(opened, out, options, force=force), as_json, gate=gate)


def _tell(dataset: Dataset, as_json: bool, *, gate: bool) -> int:
    """Prints what was made and how it was judged; returns the exit code."""
    from fedprep.gate import exit_code
    from fedprep.inspection import inspect_dataset
    from fedprep.show import show_built, show_validation

    facts, verdict = inspect_dataset(dataset), dataset.report
    if as_json:
        print_json({**facts, "report": verdict})
    else:
        show(show_built(facts))
        if verdict is not None:
            show(show_validation(verdict))
    return exit_code(verdict, dataset) if gate and verdict is not None else 0


def _recipe(
    name: str, settings: Sequence[str], *, n_clients: int | None = None, seed: int | None = None
) -> Recipe:
    from fedprep.recipe import load_recipe

    extra = [f"partition.n_clients={n_clients}"] if n_clients else []
    extra += [f"seed={seed}"] if seed is not None else []
    return load_recipe(name, [*settings, *extra])


def _hands(
    given: str | None,
    allow_unverified: bool,
    progress: Progress,
    device: str = "auto",
    threads: int | None = None,
    engine: Literal["local", "ray"] = "local",
) -> Hands:
    from fedprep.build import Hands

    return Hands(
        given=given,
        allow_unverified=allow_unverified,
        device=device,
        threads=threads,
        engine=engine,
        progress=progress,
    )


def _terms(recipe: Recipe, given: str | None) -> None:
    """Shows a source's licence and citation, once a user and source."""
    from fedprep.build import SYNTHETIC, terms_shown_first_time
    from fedprep.show import show_terms

    if given != SYNTHETIC and (terms := terms_shown_first_time(recipe)) is not None:
        console(stderr=True).print(show_terms(terms))
