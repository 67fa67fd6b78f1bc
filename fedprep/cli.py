"""The command `fedprep`: the only place that knows click, prints, and exits.

Exit codes: 0 fine, 1 the data are not good enough, 2 it could not be done (bad input, no file, no
space), 130 interrupted. Results go to stdout, progress and messages to stderr.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from fedprep.errors import FedprepError

if TYPE_CHECKING:
    from fedprep.build import Hands
    from fedprep.recipe import Recipe
    from fedprep.schema import Progress

__all__ = ["main"]

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; a `FedprepError` becomes its message and exit code 2."""
    try:
        code = command.main(args=arguments, prog_name="fedprep", standalone_mode=False)
    except FedprepError as error:
        _say(f"error: {error}")
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted: nothing is half-written, the same command goes on where it can")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)


@click.group(context_settings=SETTINGS)
@click.version_option(package_name="fedprep")
def command() -> None:
    """Raw MovieLens, Amazon or Yelp files (or your own tables) to a federated, multimodal Dataset."""


recipe_argument = click.argument("recipe", metavar="RECIPE|FILE.toml")
dataset_argument = click.argument("dataset", type=click.Path(path_type=Path))
out_option = click.option(
    "--out", type=click.Path(path_type=Path), help="Where to; datasets/NAME by default."
)
force_option = click.option(
    "--force", is_flag=True, help="Replace what is there, once the new one is whole."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a recipe key, such as partition.alpha=0.3.",
)
from_option = click.option(
    "--from", "given", metavar="PATH|synthetic",
    help="Take the raw files from a file or folder of yours, or make them up.",
)  # fmt: skip
unverified_option = click.option(
    "--allow-unverified",
    is_flag=True,
    help="Take raw files whose checksum is not the official one.",
)


@command.command()
@recipe_argument
@out_option
@from_option
@set_option
@click.option(
    "--clients",
    "n_clients",
    type=click.IntRange(1),
    help="Number of clients (partition.n_clients).",
)
@click.option("--seed", type=click.IntRange(0), help="Seed of everything random.")
@click.option(
    "--device", default="auto", show_default=True, help="Of the encoders: cpu, cuda, cuda:1, mps."
)
@click.option("--threads", type=click.IntRange(1), help="CPU threads of the encoders.")
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where texts are embedded: here, or on the workers of a Ray cluster.",
)
@unverified_option
@force_option
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
    as_json: bool,
) -> None:
    """Build a Dataset from raw files.

    Fetches, reads, cleans, splits, embeds, partitions, writes.
    """
    loaded = _recipe(recipe, settings, n_clients=n_clients, seed=seed)
    out = out or Path("datasets") / loaded.name
    from fedprep.build import build_dataset
    from fedprep.inspection import inspect_dataset

    _terms(loaded, given)
    with _progress() as progress:
        hands = _hands(given, allow_unverified, progress, device, threads, engine)
        dataset = build_dataset(loaded, out, hands=hands, force=force)
    facts = inspect_dataset(dataset)
    if as_json:
        _print_json(facts)
    else:
        from fedprep.show import show_built

        _print(show_built(facts))


@command.command()
@recipe_argument
@from_option
@set_option
@unverified_option
@json_option
def fetch(
    recipe: str, given: str | None, settings: tuple[str, ...], allow_unverified: bool, as_json: bool
) -> None:
    """Fetch and check raw files, build nothing."""
    loaded = _recipe(recipe, settings)
    from fedprep.build import fetch_raw

    _terms(loaded, given)
    with _progress() as progress:
        files = fetch_raw(loaded, _hands(given, allow_unverified, progress))
    if as_json:
        _print_json({role: {**vars(file), "path": str(file.path)} for role, file in files.items()})
    else:
        from fedprep.show import show_files

        _print(show_files(files))


LISTS = ("recipes", "sources", "partitions", "encoders", "exports", "faults")


@command.command("list")
@click.argument("what", type=click.Choice(LISTS), required=False)
@json_option
def list_(what: str | None, as_json: bool) -> None:
    """List what there is to choose from.

    Recipes, sources, partitions, encoders, exports and faults, one line each.
    """
    from fedprep.catalogue import catalogue
    from fedprep.show import show_list

    lists = {name: catalogue(name) for name in ([what] if what else LISTS)}
    if as_json:
        _print_json(lists)
    else:
        for name, lines in lists.items():
            _print(show_list(name.capitalize(), lines))


@command.command()
@dataset_argument
@click.option("--client", "client_id", type=int, help="Show one client.")
@json_option
def inspect(dataset: Path, client_id: int | None, as_json: bool) -> None:
    """Show the facts of a Dataset or a client."""
    from fedprep.dataset import Dataset
    from fedprep.inspection import inspect_client, inspect_dataset
    from fedprep.show import show_client, show_dataset

    opened = Dataset.open(dataset)
    show: Callable[[Any], Any]
    if client_id is None:
        facts, show = inspect_dataset(opened), show_dataset
    else:
        facts, show = inspect_client(opened, client_id), show_client
    if as_json:
        _print_json(facts)
    else:
        _print(show(facts))


@command.command()
@dataset_argument
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Where to.")
@set_option
@click.option(
    "--clients",
    "n_clients",
    type=click.IntRange(1),
    help="Number of clients (partition.n_clients).",
)
@click.option("--seed", type=click.IntRange(0), help="Seed of the partition.")
@force_option
@json_option
def partition(
    dataset: Path,
    out: Path,
    settings: tuple[str, ...],
    n_clients: int | None,
    seed: int | None,
    force: bool,
    as_json: bool,
) -> None:
    """Give the rows to other clients.

    Nothing is embedded anew; the id is that of a build with such a partition.
    """
    from fedprep.build import repartition
    from fedprep.dataset import Dataset
    from fedprep.inspection import inspect_dataset
    from fedprep.recipe import change_partition

    opened = Dataset.open(dataset)
    extra = [f"partition.n_clients={n_clients}"] if n_clients else []
    extra += [f"partition.seed={seed}"] if seed is not None else []
    options = change_partition(opened.manifest["recipe"], [*settings, *extra])
    facts = inspect_dataset(repartition(opened, out, options, force=force))
    if as_json:
        _print_json(facts)
    else:
        from fedprep.show import show_built

        _print(show_built(facts))


@command.command()
@dataset_argument
@click.argument("query")
@click.option(
    "--limit", type=click.IntRange(1), default=40, show_default=True, help="Rows to show."
)
@click.option("--csv", "as_csv", is_flag=True, help="Print all rows as CSV.")
@json_option
def sql(dataset: Path, query: str, limit: int, as_csv: bool, as_json: bool) -> None:
    """Run SQL over the tables.

    Tables: interactions, items, users, clients, embeddings_text, embeddings_image (DuckDB).
    """
    from fedprep.dataset import Dataset
    from fedprep.query import query as run
    from fedprep.show import show_frame

    rows = run(Dataset.open(dataset), query)
    if as_csv:
        sys.stdout.write(rows.write_csv())
    elif as_json:
        _print_json(rows.to_dicts())
    else:
        _print(show_frame(rows.head(limit).rows(), rows.columns, rows.height))


@command.command()
@dataset_argument
@click.option(
    "--to", "to", required=True, metavar="FORMAT", help="csv, recbole, hf or client-files."
)
@click.option("--out", type=click.Path(path_type=Path), help="Where to; DATASET-FORMAT by default.")
@force_option
def export(dataset: Path, to: str, out: Path | None, force: bool) -> None:
    """Write another tool's format."""
    from fedprep.dataset import Dataset
    from fedprep.export import export as run

    out = out or dataset.with_name(f"{dataset.absolute().name}-{to}")
    with _progress() as progress:
        files = run(Dataset.open(dataset), out, to=to, force=force, progress=progress)
    click.echo(f"{len(files):,} files in {out}")


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
        _console(stderr=True).print(show_terms(terms))


@contextmanager
def _progress() -> Iterator[Progress]:
    """Gives a `Progress` that draws bars on stderr, and nothing where stderr is no terminal."""
    from fedprep.schema import silent

    console = _console(stderr=True)
    if not console.is_terminal:
        yield silent
        return
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}{task.fields[of]}"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def progress(task: str, done: int, total: int | None) -> None:
            if task not in tasks:
                tasks[task] = bars.add_task(task, total=total, of="")
            of = "" if total is None else f" of {total:,}"
            bars.update(tasks[task], completed=done, total=total, of=of)

        yield progress


def _console(*, stderr: bool = False) -> Any:
    from rich.console import Console

    # A pipe has no width: tables must not be folded for a program that reads them.
    wide = not (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, width=200 if wide else None, highlight=False)


def _print(renderable: Any) -> None:
    _console().print(renderable)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def _say(text: str) -> None:
    click.echo(text, err=True)
