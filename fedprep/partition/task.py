"""What a partition method is given, and what it gives back.

A method never sees rows: it hands *units* to clients, and a unit is a user with all rows, or one row.
Units are numbered in an order that the rows' own order cannot change, so the random numbers of unit 7
are those of the same user or row in every run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fedprep.recipe import Partition
from fedprep.schema import ITEM_ID, LABEL, RATING, TIMESTAMP, USER_ID

__all__ = ["Assigned", "Floats", "Ints", "Method", "Task", "Units", "row_units", "user_units"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Units:
    """What goes to a client as a whole.

    name: `"users"` or `"rows"` · of_row: int64 (n_rows,), the unit of each row · size: int64 (n_units,),
    rows of each unit · user: int64 (n_units,), the user of each unit.
    """

    name: str
    of_row: Ints
    size: Ints
    user: Ints

    def __len__(self) -> int:
        return len(self.size)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One partition to be made. `n_clients` is 0 where the data says how many there are."""

    rows: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    options: Partition
    units: Units
    n_clients: int
    profiles: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, kw_only=True)
class Assigned:
    """A client for every unit: int64 (n_units,).

    `by_nature`: the clients follow from the data (a user, a city), so none may be filled up from others.
    `names` says what each client is, where it is something; None for the client of units without a value.
    """

    client: Ints
    facts: dict[str, Any] = field(default_factory=dict)
    by_nature: bool = False
    names: tuple[str | None, ...] = ()


Method = Callable[[Task, np.random.Generator], Assigned]
"""A partition method. Its docstring's first line is what `fedprep list` shows."""


def user_units(rows: pl.DataFrame) -> Units:
    """Returns a unit for each user that has a row, in order of `user_id`."""
    user = rows[USER_ID].to_numpy().astype(np.int64)
    counts = np.bincount(user)
    present = np.flatnonzero(counts)
    of_row = user if len(present) == len(counts) else (np.cumsum(counts > 0) - 1)[user]
    return Units(name="users", of_row=of_row, size=counts[present], user=present)


def row_units(rows: pl.DataFrame) -> Units:
    """Returns a unit for each row, in order of (user, item), then of the rest where a pair repeats."""
    user = rows[USER_ID].to_numpy().astype(np.int64)
    item = rows[ITEM_ID].to_numpy().astype(np.int64)
    pair = user * (int(item.max()) + 1) + item
    order = np.argsort(pair)
    if (np.diff(pair[order]) == 0).any():
        keys = (USER_ID, ITEM_ID, TIMESTAMP, RATING, LABEL)
        order = rows.select(pl.arg_sort_by(*keys)).to_series().to_numpy().astype(np.int64)
    of_row = np.empty(len(order), dtype=np.int64)
    of_row[order] = np.arange(len(order))
    ones = np.ones(len(order), dtype=np.int64)
    return Units(name="rows", of_row=of_row, size=ones, user=user[order])
