"""The command that looks: metrics."""

from __future__ import annotations

import click

from fedeval.cli.options import json_option
from fedprep.terminal import print_json, show

__all__ = ["metrics"]


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@json_option
def metrics(names: tuple[str, ...], as_json: bool) -> None:
    """List the metrics with their definitions; with names, tell all about these.

    \b
    Examples:
      fedeval metrics
      fedeval metrics ndcg hr
    """
    from fedeval.definitions import definitions
    from fedeval.show import show_metrics

    found = definitions(names)
    if as_json:
        print_json(found)
    else:
        show(show_metrics(found, whole=bool(names)))
