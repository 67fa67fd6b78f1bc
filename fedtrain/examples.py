"""Examples of a chunk: what a local step draws from, as arrays with one line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fedtrain.chunks import local_rows
from fedtrain.negatives import draw_negatives

if TYPE_CHECKING:
    from fedtrain.chunks import Chunk
    from fedtrain.federation import Federation, Positives
    from fedtrain.tasks import Task

__all__ = ["EXAMPLES", "Drawing", "Examples", "item_rows"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Examples:
    """E examples of a chunk, in ascending order of client.

    client, slot: int64 (E,): places in the chunk · place: int64 (E,): the example's number at its client ·
    item: int64 (E, m): item ids, -1 where padded · target: float32 (E,) or (E, ·) ·
    given: bool (E, ·) or None: False where a sequence or a bag is padded.
    """

    client: Ints
    slot: Ints
    place: Ints
    item: Ints
    target: npt.NDArray[np.float32]
    given: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How examples are drawn: negatives and what they leave out, the stream, the longest history."""

    task: Task
    negatives: int
    excluded: Positives | None
    max_history: int
    seed: int
    round_number: int


def rows(federation: Federation, chunk: Chunk, drawing: Drawing) -> Examples:
    """Returns an example for each row: its item, and for implicit tasks n negatives after it."""
    train = federation.train
    item = train.item_id[chunk.row].astype(np.int64)[:, None]
    if drawing.task.implicit:
        item = np.concatenate([item, _negatives(federation, chunk, drawing, drawing.negatives)], 1)
    if drawing.task.target == "one":
        target = np.ones(len(item), np.float32)
    else:
        column = train.label if drawing.task.target == "label" else train.rating
        target = column[chunk.row].astype(np.float32)
    return Examples(chunk.row_client, chunk.row_slot, chunk.place, item, target)


def sequences(federation: Federation, chunk: Chunk, drawing: Drawing) -> Examples:
    """Returns an example for each user's history, in parts of at most `max_history` next items.

    Every row but a user's first is the next item of exactly one place. item (E, L·(2 + n)): L inputs,
    L next items, then n negatives of each.
    """
    n, most = drawing.negatives, drawing.max_history
    first = _first_of_slot(chunk)
    number = np.arange(len(chunk.row)) - first[chunk.row_slot]  # of a row in its user's history
    following = np.flatnonzero(number > 0)  # rows that are a next item
    part, column = np.divmod(number[following] - 1, most)
    new = np.ones(len(following), bool)
    slot = chunk.row_slot[following]
    new[1:] = (slot[1:] != slot[:-1]) | (part[1:] != part[:-1])
    line = np.cumsum(new) - 1
    length = int(column.max(initial=0)) + 1
    shape = (int(line[-1]) + 1 if len(line) else 0, length)
    ids = federation.train.item_id[chunk.row].astype(np.int64)
    inputs, targets = np.full((2, *shape), -1, np.int64)
    inputs[line, column] = ids[following - 1]
    targets[line, column] = ids[following]
    drawn = np.full((*shape, n), -1, np.int64)
    if n:
        drawn[line, column] = _negatives(federation, chunk, drawing, n)[following]
    item = np.concatenate([inputs, targets, drawn.reshape(shape[0], -1)], 1)
    given = np.zeros(shape, bool)
    given[line, column] = True
    heads = following[new]
    return _lines(chunk, heads, item, given.astype(np.float32), given)


def bags(federation: Federation, chunk: Chunk, drawing: Drawing) -> Examples:
    """Returns an example for each user: all rows, as items and ratings (or ones, for implicit tasks)."""
    train = federation.train
    first = _first_of_slot(chunk)
    column = np.arange(len(chunk.row)) - first[chunk.row_slot]
    heads = np.flatnonzero(column == 0)
    line = np.cumsum(column == 0) - 1
    shape = (len(heads), int(column.max(initial=0)) + 1)
    item = np.full(shape, -1, np.int64)
    item[line, column] = train.item_id[chunk.row]
    target = np.zeros(shape, np.float32)
    if drawing.task.implicit:
        target[line, column] = 1.0
    else:
        source = train.label if drawing.task.target == "label" else train.rating
        target[line, column] = source[chunk.row]
    return _lines(chunk, heads, item, target, item >= 0)


def graphs(federation: Federation, chunk: Chunk, drawing: Drawing) -> Examples:
    """Returns an example for each user: all rows, and for implicit tasks n negatives of each behind them."""
    found = bags(federation, chunk, drawing)
    if not drawing.task.implicit:
        return found
    drawn = np.full((*found.item.shape, drawing.negatives), -1, np.int64)
    drawn[found.item >= 0] = _negatives(federation, chunk, drawing, drawing.negatives)
    return replace(found, item=np.concatenate([found.item, drawn.reshape(len(drawn), -1)], 1))


EXAMPLES: Mapping[str, Callable[[Federation, Chunk, Drawing], Examples]] = {
    "rows": rows,
    "sequences": sequences,
    "bags": bags,
    "graphs": graphs,
}
"""How examples are made, by what a model's `examples` says."""


def item_rows(
    examples: Examples, n_clients: int, n_items: int, *, whole: bool = False
) -> tuple[Ints, Ints, Ints]:
    """Returns client and item of each row of items that the examples touch, and where each one's are.

    Args:
        whole: all rows of items, whether they are touched or not; of one client alone.

    Returns:
        int64 (T,), twice, in ascending order · int64 (E, m): the rows of the examples' items, T where padded.
    """
    item = examples.item
    if whole:
        assert n_clients == 1, "only one client's table is whole"
        rows = np.arange(n_items)
        return np.zeros_like(rows), rows, np.where(item >= 0, item, n_items).astype(np.int64)
    client = np.broadcast_to(examples.client[:, None], item.shape)
    known = item >= 0
    if known.all():
        return local_rows(client, item, n_clients, n_items)
    row_client, row_item, place = local_rows(client[known], item[known], n_clients, n_items)
    places = np.full(item.shape, len(row_item), np.int64)
    places[known] = place
    return row_client, row_item, places


def _negatives(federation: Federation, chunk: Chunk, drawing: Drawing, n: int) -> Ints:
    return draw_negatives(
        chunk.slots[chunk.row_slot],
        chunk.clients[chunk.row_client],
        chunk.place,
        n,
        federation.n_items,
        drawing.excluded,
        seed=drawing.seed,
        round_number=drawing.round_number,
    )


def _first_of_slot(chunk: Chunk) -> Ints:
    """Returns int64 (S,): where each slot's rows begin; rows are in ascending order of slot."""
    return np.searchsorted(chunk.row_slot, np.arange(len(chunk.slots)))


def _lines(
    chunk: Chunk,
    heads: Ints,
    item: Ints,
    target: npt.NDArray[np.float32],
    given: npt.NDArray[np.bool_],
) -> Examples:
    client = chunk.row_client[heads]
    return Examples(client, chunk.row_slot[heads], chunk.place[heads], item, target, given)
