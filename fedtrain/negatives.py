"""Negatives: items that a user has not had in *train*, drawn at the client.

Never without the valid and test items: an item that is left out of the negatives is never pushed down, and
so gives itself away (`leaky`, which published tables rest on, exists here only to show what that does).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fedeval.draws import uniform
from fedprep.errors import TrainingError
from fedtrain.parameters import stream

if TYPE_CHECKING:
    from fedtrain.federation import Positives

__all__ = ["draw_negatives"]


def draw_negatives(
    slot: npt.NDArray[np.integer],
    client: npt.NDArray[np.integer],
    place: npt.NDArray[np.integer],
    n: int,
    n_items: int,
    positives: Positives | None,
    *,
    seed: int,
    round_number: int,
) -> npt.NDArray[np.int64]:
    """Returns int64 (m, n): n items for each row, uniform among those that the row's user has not.

    Args:
        slot: int (m,): the user at a client of each row.
        client: int (m,): the client, whose stream of random numbers is used.
        place: int (m,): the row's place in its client's rows, so that blocks of rows change nothing.
        n: negatives a row.
        n_items: how many items there are.
        positives: what is left out; None: nothing is.
        seed, round_number: the stream.

    Raises:
        TrainingError: a user has every item.
    """
    chance = uniform(
        stream(seed, "negatives", round_number), client[:, None], place[:, None] * n + np.arange(n)
    )
    if positives is None:
        return (chance * n_items).astype(np.int64)
    left = n_items - positives.counts[slot]
    if len(left) and left.min() < 1:
        full = np.unique(slot[left < 1])
        raise TrainingError(
            f"{len(full):,} users have every one of the {n_items:,} items: no negative is left",
            hint="task binary or rating, negative_pool = 'all', or drop these users when building",
        )
    slot = slot.astype(np.int64)
    number = (chance * left[:, None]).astype(np.int64)  # the how-manieth of the others
    # item_j - j others lie below a slot's j-th item: the r-th other is r + how many j have item_j - j <= r.
    below = np.searchsorted(positives.gaps, (slot * n_items)[:, None] + number, side="right")
    found: npt.NDArray[np.int64] = number + below - positives.offsets[slot][:, None]
    return found
