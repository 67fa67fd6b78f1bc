"""What the commands print with: results to stdout, progress and messages to stderr."""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

__all__ = ["interruptible", "print_json", "progress_of_rounds", "say", "show", "warnings_to_stderr"]

SHOWN = (
    ("loss", ("loss/train",)),
    ("valid", ("loss/valid",)),
    ("accuracy", ("accuracy/valid",)),
    ("rmse", ("rmse/valid", "rmse/unseen/valid")),
    ("ndcg@10", ("ndcg@10/valid",)),
    ("s/round", ("seconds",)),
)
"""What a line of progress says: the word, and the measures it may stand for."""


@contextmanager
def warnings_to_stderr() -> Iterator[None]:
    """Warnings that functions log are lines on stderr, as long as a command runs."""
    loggers = [logging.getLogger(name) for name in ("fedtrain", "fedeval", "fedprep")]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("warning: %(message)s"))
    before = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, propagate in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.propagate = propagate


@contextmanager
def progress_of_rounds(n_rounds: int) -> Iterator[Callable[[int, Mapping[str, float]], None]]:
    """Gives what is told each round's measures, and draws a bar with them; quiet without a terminal."""
    screen = _console(stderr=True)
    if not screen.is_terminal:
        yield lambda round_number, values: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("round"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[told]}"),
    )
    with Progress(*columns, console=screen, transient=True) as bars:
        task = bars.add_task("rounds", total=n_rounds, told="")
        known: dict[str, str] = {}

        def told(round_number: int, values: Mapping[str, float]) -> None:
            for word, names in SHOWN:
                for name in names:
                    if name in values:
                        known[word] = f"{word} {values[name]:.4g}"
            bars.update(task, completed=round_number, told="  ".join(known.values()))

        yield told


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Gives what says whether Ctrl-C was pressed; the second Ctrl-C interrupts at once."""
    pressed = False

    def note(number: int, frame: Any) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        say("stopping after this round; Ctrl-C again stops at once")

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:  # not the main thread: whoever runs it there decides
        yield lambda: False
        return
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _console(*, stderr: bool = False) -> Any:
    from rich.console import Console

    # A pipe has no width: tables must not be folded for a program that reads them.
    wide = not (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, width=200 if wide else None, highlight=False)


def show(renderable: Any) -> None:
    _console().print(renderable)


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def say(text: str) -> None:
    click.echo(text, err=True)
