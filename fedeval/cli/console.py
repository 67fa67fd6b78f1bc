"""What the commands print with: results to stdout, progress and messages to stderr."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fedprep.schema import Progress

__all__ = ["progress_line", "say", "show", "warnings_to_stderr"]


@contextmanager
def warnings_to_stderr() -> Iterator[None]:
    """Warnings that functions log are lines on stderr, as long as a command runs."""
    logger, handler = logging.getLogger("fedeval"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("warning: %(message)s"))
    logger.addHandler(handler)
    propagate, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


@contextmanager
def progress_line() -> Iterator[Progress]:
    """Gives a `Progress` that says on stderr what is being done, and nothing where it is no terminal."""
    from fedprep.schema import silent

    screen = _console(stderr=True)
    if not screen.is_terminal:
        yield silent
        return
    with screen.status("") as status:

        def progress(task: str, done: int, total: int | None) -> None:
            status.update(f"{task}" + (f" ({done:,} of {total:,})" if total else ""))

        yield progress


def _console(*, stderr: bool = False) -> Any:
    from rich.console import Console

    # A pipe has no width: tables must not be folded for a program that reads them.
    wide = not (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, width=200 if wide else None, highlight=False)


def show(renderable: Any) -> None:
    _console().print(renderable)


def say(text: str) -> None:
    click.echo(text, err=True)
