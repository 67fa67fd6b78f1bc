"""What the commands print with: results to stdout, progress and messages to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fedprep.schema import Progress

__all__ = ["console", "print_json", "progress_bars", "say", "show"]


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Gives a `Progress` that draws bars on stderr, and nothing where stderr is no terminal."""
    from fedprep.schema import silent

    screen = console(stderr=True)
    if not screen.is_terminal:
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
    with Bars(*columns, console=screen, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def progress(task: str, done: int, total: int | None) -> None:
            if task not in tasks:
                tasks[task] = bars.add_task(task, total=total, of="")
            of = "" if total is None else f" of {total:,}"
            bars.update(tasks[task], completed=done, total=total, of=of)

        yield progress


def console(*, stderr: bool = False) -> Any:
    from rich.console import Console

    # A pipe has no width: tables must not be folded for a program that reads them.
    wide = not (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, width=200 if wide else None, highlight=False)


def show(renderable: Any) -> None:
    console().print(renderable)


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def say(text: str) -> None:
    click.echo(text, err=True)
