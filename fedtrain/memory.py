"""No memory left: how many rows may train side by side on this machine, found by trying."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from fedprep.errors import TrainingError
from fedtrain.chunks import chunk_of
from fedtrain.engine import train_chunk

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

    The cohort's largest clients are trained again in ever smaller chunks, until one fits.
    """
    rows = work.federation.train.counts[cohort]
    largest = cohort[np.lexsort((cohort, -rows))]
    sizes = np.cumsum(np.sort(rows)[::-1])
    where = f"a round of {len(cohort):,} clients with {int(sizes[-1]) if len(sizes) else 0:,} rows"
    asked = work.plan.chunk_rows
    most = asked // 2
    while most >= 1:
        n_clients = max(1, int(np.searchsorted(sizes, most, side="right")))
        if _fits(work, server, clients, chunk_of(work.federation, largest[:n_clients])):
            return TrainingError(
                f"no memory for chunk_rows = {asked:,}: {most:,} fits",
                where=where,
                hint=f"--resume --set chunk_rows={most}: no number of the run depends on it",
            )
        if n_clients == 1:
            break
        most //= 2
    return TrainingError(
        f"no memory for the {int(sizes[0]) if len(sizes) else 0:,} rows of the largest client alone",
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
