"""What users did, as vectors of one length, from train rows alone.

On the ground floor: the build writes these vectors, and the checks compute them again and compare.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fedprep.behavior.components import QUANTUM, Component, Sums, components, n_habits
from fedprep.behavior.groups import groups_of
from fedprep.behavior.rows import blocks, outline_of
from fedprep.recipe import EmbedBehavior

__all__ = ["LIMIT", "behavior_features"]

LIMIT = 10.0
"""Standardised values are cut here: one odd user must not blow up a gradient."""


def behavior_features(
    interactions: pl.DataFrame | Iterable[pl.DataFrame],
    items: pl.DataFrame,
    n_users: int,
    options: EmbedBehavior,
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Returns a vector of each user's train rows, float32 (n_users, dim), and facts about them.

    A pure function of the tables of a Dataset: the build's frames and the files read back give the
    same bytes, whatever the order of the rows. A user without train rows gets the mean of the others
    (zero once standardised), and so does a component that a user's rows cannot tell. Places for
    which there is no component are zero. `fedprep.behavior.components` says what each component is.

    Args:
        interactions: `user_id`, `item_id` (dense), `rating`, `label`, `timestamp` (seconds), `split`;
            ratings and times may be null. A frame, or frames that can be gone through twice: memory then
            follows the largest of them and the users, not the rows.
        items: `item_id`, `source_id`, `categories` (list of strings, may be null).
        n_users: users have the ids 0 to n_users - 1.
        options: `dim` and `normalise`: `standardize` brings each component to mean 0 and deviation 1
            over the users with train rows, then cuts it at ±`LIMIT`; `l2` gives each vector length
            1; `none` leaves the components as they are.

    Returns:
        The vectors, and facts: `names` of the components, their `mean` and `deviation` before they
        are normalised, `users_with_train_rows`, `users_without_train_rows`, `values_cut`, and `rms`
        (root mean square of the vectors of users with train rows).
    """
    frames = [interactions] if isinstance(interactions, pl.DataFrame) else interactions
    outline = outline_of(blocks(frames, n_users), items, n_users)
    groups = groups_of(outline, items, options.dim - n_habits(outline))
    sums = Sums(outline, groups, n_users)
    for block in blocks(frames, n_users):
        sums.add(block)
    with_rows = sums.rows > 0
    values = np.zeros((n_users, options.dim), np.float32)
    squares = np.zeros(n_users)  # of each vector's length, summed place by place
    names, means, deviations = [], [], []
    n_cut = 0
    for place, component in enumerate(itertools.islice(components(sums), options.dim)):
        column, mean, deviation = _complete(component, with_rows)
        if options.normalise == "standardize":
            column = (column - mean) / deviation if deviation else np.zeros(n_users)
            n_cut += int(np.count_nonzero(np.abs(column) > LIMIT))
            column = np.clip(column, -LIMIT, LIMIT)
        values[:, place] = column
        squares += values[:, place].astype(np.float64) ** 2
        names.append(component.name)
        means.append(mean)
        deviations.append(deviation)
    if options.normalise == "l2":
        length = np.sqrt(np.where(squares > 0, squares, 1.0))
        values /= length.astype(np.float32)[:, None]
        squares = (squares > 0).astype(np.float64)
    n_fit = int(with_rows.sum())
    facts = {
        "normalise": options.normalise,
        "names": names,
        "mean": means,
        "deviation": deviations,
        "users_with_train_rows": n_fit,
        "users_without_train_rows": n_users - n_fit,
        "values_cut": n_cut,
        "rms": float(np.sqrt(np.sum(squares[with_rows]) / max(n_fit * options.dim, 1))),
    }
    return values, facts


def _complete(
    component: Component, with_rows: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], float, float]:
    """Returns the component with its mean where it is unknown, the mean, and the deviation.

    Both are over the users with train rows, in whole quanta, so that no order of adding shows.
    """
    quanta = np.rint(component.values / QUANTUM).astype(np.int64)
    known = quanta[component.known]
    mean = round(int(known.sum()) / len(known)) if len(known) else 0
    quanta[~component.known] = mean
    square = float(np.sum((quanta[with_rows] - mean).astype(np.float64) ** 2))
    deviation = float(np.sqrt(square / max(int(with_rows.sum()), 1)))
    return quanta.astype(np.float64) * QUANTUM, mean * QUANTUM, deviation * QUANTUM
