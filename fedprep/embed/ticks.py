"""Progress inside a chunk of embeddings, which may take a minute, and not only at its end."""

from __future__ import annotations

from dataclasses import dataclass

from fedprep.schema import Progress

__all__ = ["Ticks"]


@dataclass
class Ticks:
    """A `Progress` for `embed_contents`, and what its encoder tells of each batch inside a chunk.

    What is told at the end of a chunk is the truth; until then the batches are added to what was told
    before, so that no count is ever above it.
    """

    progress: Progress
    task: str = ""
    done: int = 0
    total: int | None = None

    def __call__(self, task: str, done: int, total: int | None) -> None:
        self.task, self.done, self.total = task, done, total
        self.progress(task, done, total)

    def tick(self, n: int) -> None:
        """Tells that `n` more contents of the chunk at hand are done."""
        self(self.task, self.done + n, self.total)
