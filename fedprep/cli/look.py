"""Commands that look: list, inspect, sql, export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fedprep.cli.options import (
    dataset_argument,
    force_option,
    json_option,
    safe_cells_option,
    verify_option,
)
from fedprep.terminal import echo, print_json, print_table, progress_bars, show

__all__ = ["export", "inspect", "list_", "sql"]

LISTS = ("recipes", "sources", "partitions", "encoders", "exports", "faults")


@click.command("list")
@click.argument("what", type=click.Choice(LISTS), required=False)
@json_option
def list_(what: str | None, as_json: bool) -> None:
    """List what there is to choose from.

    Recipes, sources, partitions, encoders, exports and faults, one line each.

    \b
    Examples:
      fedprep list recipes
    """
    from fedprep.catalogue import catalogue
    from fedprep.show import show_list

    lists = {name: catalogue(name) for name in ([what] if what else LISTS)}
    if as_json:
        print_json(lists)
    else:
        for name, lines in lists.items():
            show(show_list(name.capitalize(), lines))


@click.command()
@dataset_argument
@click.option(
    "--client", "client_id", type=int, help="Show this client, by its number, and its last rows."
)
@verify_option(False)
@json_option
def inspect(dataset: Path, client_id: int | None, verify: bool, as_json: bool) -> None:
    """Show the facts of a Dataset or a client.

    Rows, what each step dropped and why, embeddings, how unequal the clients are.

    \b
    Examples:
      fedprep inspect datasets/demo
      fedprep inspect datasets/demo --client 7
    """
    from fedprep.dataset import Dataset
    from fedprep.inspection import inspect_client, inspect_dataset
    from fedprep.show import show_client, show_dataset

    opened = Dataset.open(dataset, verify=verify)
    sheet: Callable[[Any], Any]
    if client_id is None:
        facts, sheet = inspect_dataset(opened), show_dataset
    else:
        facts, sheet = inspect_client(opened, client_id), show_client
    if as_json:
        print_json(facts)
    else:
        show(sheet(facts))


@click.command()
@dataset_argument
@click.argument("query")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=40,
    show_default=True,
    help="Rows to show, of the table alone: --csv and --json print all.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print all rows as CSV.")
@safe_cells_option
@click.option(
    "--allow-files", is_flag=True, help="Let functions such as read_csv read other files."
)
@verify_option(False)
@json_option
def sql(
    dataset: Path,
    query: str,
    limit: int,
    as_csv: bool,
    safe_cells: bool,
    allow_files: bool,
    verify: bool,
    as_json: bool,
) -> None:
    """Run SQL over the tables.

    Tables: interactions, items, users, clients, embeddings_text, embeddings_image. The
    SQL is DuckDB's, one select statement: nothing is written, no other file read.

    \b
    Examples:
      fedprep sql datasets/demo "select split, count(*), avg(rating) from interactions group by split"
    """
    from fedprep.dataset import Dataset
    from fedprep.export import flat, safe
    from fedprep.query import query as run
    from fedprep.show import show_frame

    query.encode()  # bytes of the command line that are no text are refused here
    rows = run(Dataset.open(dataset, verify=verify), query, allow_files=allow_files)
    if as_csv:
        table = flat(rows.lazy())
        print_table((safe(table) if safe_cells else table).collect().write_csv())
    elif as_json:
        print_json(rows.to_dicts())
    else:
        show(show_frame(rows.head(limit).rows(), rows.columns, rows.height))


@click.command()
@dataset_argument
@click.option(
    "--to",
    "to",
    required=True,
    metavar="FORMAT",
    help="Format: csv, recbole, hf or client-files (`fedprep list exports`).",
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder to write to; else DATASET-FORMAT."
)
@safe_cells_option
@force_option
@verify_option(True)
def export(
    dataset: Path, to: str, out: Path | None, safe_cells: bool, force: bool, verify: bool
) -> None:
    """Write another tool's format.

    \b
    Examples:
      fedprep export datasets/demo --to recbole
      fedprep export datasets/demo --to client-files --out shards
    """
    from fedprep.dataset import Dataset
    from fedprep.export import export as run

    with progress_bars() as progress:
        opened = Dataset.open(dataset, verify=verify)
        named = dataset if dataset.name not in ("", "..") else dataset.resolve()
        out = out or named.with_name(f"{named.name}-{to}")
        files = run(opened, out, to=to, force=force, safe_cells=safe_cells, progress=progress)
    echo(f"{len(files):,} files in {out}")
