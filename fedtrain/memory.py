"""No memory left: how many rows may train side by side on this machine, found by trying."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from fedprep.errors import TrainingError
from fedtrain.chunks import chunks_of
from fedtrain.engine import train_chunk
from fedtrain.rounds import most_clients

if TYPE_CHECKING:
    from fedtrain.algorithms import Server
    from fedtrain.chunks import Chunk
    from fedtrain.clients import Clients
    from fedtrain.engine import Work

__all__ = ["is_out_of_memory", "no_memory"]

Ints = npt.NDArray[np.int64]

WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory", "alloc_cpu")
"""How torch says it on the CPU, where it raises a plain RuntimeError."""


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error says that memory has run out, of the machine or of the device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in WORDS)


def no_memory(work: Work, server: Server, clients: Clients, cohort: Ints) -> TrainingError:
    """Returns the error to raise after a round ran out of memory: it says which `chunk_rows` fits.

    The fullest chunk of the round is trained again, ever smaller, until one fits.
    """
    rows = work.federation.train.counts[cohort]
    largest = int(rows.max(initial=0))
    where = f"a round of {len(cohort):,} clients with {int(rows.sum()):,} rows"
    asked = work.plan.chunk_rows
    most = asked // 2
    while most:
        chunks = chunks_of(work.federation, cohort, most, most_clients(work, server))
        fullest = max(chunks, key=lambda chunk: len(chunk.row))
        if _fits(work, server, clients, fullest):
            return TrainingError(
                f"no memory for chunk_rows = {asked:,}: {most:,} fits",
                where=where,
                hint=f"--resume --set chunk_rows={most}: the same run, but for float rounding",
            )
        most = most // 2 if len(fullest.clients) > 1 else 0
    return TrainingError(
        f"no memory for the {largest:,} rows of the largest client alone",
        where=where,
        hint="a smaller batch_size, model or number of negatives, or a [partition] into more clients",
    )


def _fits(work: Work, server: Server, clients: Clients, chunk: Chunk) -> bool:
    """Trains a chunk and forgets it."""
    try:
        train_chunk(work, server, clients, chunk)
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            return False
        raise
    return True
