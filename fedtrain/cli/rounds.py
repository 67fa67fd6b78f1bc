"""The bar of a training: its rounds, and what they measured last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from fedprep.terminal import console

__all__ = ["progress_of_rounds"]

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
def progress_of_rounds(n_rounds: int) -> Iterator[Callable[[int, Mapping[str, float]], None]]:
    """Gives what is told each round's measures, and draws a bar with them; quiet without a terminal."""
    screen = console(stderr=True)
    if not screen.is_terminal:
        yield lambda round_number, values: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("round", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}", markup=False),
        TimeRemainingColumn(),
        TextColumn("{task.fields[told]}", markup=False),
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
