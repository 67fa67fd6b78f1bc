"""Which client holds which rows: eight ways to partition, and how unequal the clients then are.

A partition is one function from units (users, or rows) to clients, in the dictionary `PARTITIONS`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fedprep import recipe
from fedprep.errors import EmptyDataError, PartitionError, RecipeError
from fedprep.partition.clusters import by_cluster
from fedprep.partition.heterogeneity import heterogeneity
from fedprep.partition.label_skew import classes_held, dirichlet, pathological
from fedprep.partition.natural import by_column, by_time, by_user
from fedprep.partition.rebalance import rebalance
from fedprep.partition.sizes import iid, quantity
from fedprep.partition.task import Assigned, Ints, Method, Task, row_units, user_units
from fedprep.schema import Step

__all__ = ["PARTITIONS", "Partitioned", "heterogeneity", "partition"]

log = logging.getLogger(__name__)

PARTITIONS: dict[str, Method] = {
    "by_user": by_user,
    "iid": iid,
    "dirichlet": dirichlet,
    "quantity": quantity,
    "pathological": pathological,
    "by_column": by_column,
    "by_cluster": by_cluster,
    "by_time": by_time,
}

COUNTED_BY_DATA = ("by_user", "by_column")
"""Methods for which the data says how many clients there are."""

ALWAYS_WHOLE = ("by_user", "by_cluster")
"""Methods that keep users whole, whatever the unit."""

STREAM = 0x70617274
"""Keeps these random numbers apart from those that other stages draw from the same seed."""


@dataclass(frozen=True, kw_only=True)
class Partitioned:
    """The client of every row, in the order of the rows: int32 (n_rows,), dense from 0.

    facts: method, unit, seed, n_clients, min_rows, the method's own parameters, `moved` (units moved to
    reach min_rows), `smallest` and `largest` client in rows, `names` of the clients where they have any.
    """

    client_id: npt.NDArray[np.int32]
    steps: list[Step]
    facts: dict[str, Any]


def partition(
    interactions: pl.DataFrame,
    items: pl.DataFrame,
    users: pl.DataFrame,
    options: recipe.Partition,
    *,
    seed: int,
    profiles: npt.NDArray[np.float32] | None = None,
) -> Partitioned:
    """Returns the client of every row.

    Every client gets at least `min_rows` rows, and one. Equal rows, options and seed give equal clients,
    in whatever order the rows come.

    Args:
        interactions: `user_id`, `item_id`, `rating`, `label`, `timestamp`.
        items: `item_id`, `categories`, and the columns that by_column may name.
        users: `user_id`, and the columns that by_column may name.
        profiles: float32 (n_users, dim), for by_cluster.

    Raises:
        RecipeError: the options do not fit the method or the tables.
        PartitionError: these rows cannot make such clients.
        EmptyDataError: there is no row.
    """
    if interactions.is_empty():
        raise EmptyDataError("there is no row to give to clients")
    whole = options.unit == "user" or options.method in ALWAYS_WHOLE
    units = user_units(interactions) if whole else row_units(interactions)
    task = Task(
        rows=interactions,
        items=items,
        users=users,
        options=options,
        units=units,
        n_clients=_n_clients(options, len(units), interactions.height, units.name),
        profiles=profiles,
    )
    rng = np.random.default_rng([seed, STREAM])
    assigned = PARTITIONS[options.method](task, rng)
    return _finished(task, assigned, seed, rng)


def _n_clients(options: recipe.Partition, n_units: int, n_rows: int, unit: str) -> int:
    """Returns the number of clients to make, 0 where the data says it; refuses what cannot be."""
    wanted, method = options.n_clients, options.method
    if method in COUNTED_BY_DATA:
        if wanted is not None:
            log.warning("partition.n_clients = %d is not used by method = %s", wanted, method)
        return 0
    if wanted is None:
        raise RecipeError(
            f"method = {method} needs to know how many clients",
            where="partition.n_clients",
            expected=f"a number from 1 to {n_units:,}",
            hint="--set partition.n_clients=100",
        )
    if wanted > n_units:
        raise PartitionError(
            f"{wanted:,} clients are asked for, but there are only {n_units:,} {unit}",
            where="partition.n_clients",
            expected=f"1 to {n_units:,}: each client holds at least one of the {unit}",
        )
    if wanted * options.min_rows > n_rows:
        raise PartitionError(
            f"{wanted:,} clients of {options.min_rows:,} rows need {wanted * options.min_rows:,} rows, "
            f"but there are {n_rows:,}",
            where="partition.n_clients, partition.min_rows",
            expected=f"at most {n_rows // options.min_rows:,} clients",
        )
    return wanted


def _finished(task: Task, assigned: Assigned, seed: int, rng: np.random.Generator) -> Partitioned:
    """Returns the clients of the rows, after those that are too small were filled up."""
    options, units = task.options, task.units
    least = max(options.min_rows, 1)
    client, moved = assigned.client, 0
    if not assigned.by_nature:
        key = rng.permutation(len(units))
        client, moved = rebalance(client, units.size, task.n_clients, least, key)
    n_clients = task.n_clients or int(client.max()) + 1
    n_rows = np.bincount(client, weights=units.size, minlength=n_clients).astype(np.int64)
    _refuse_small(task, assigned, n_rows, least)
    held = {}
    if options.method == "pathological":
        held = classes_held(task.rows, task.items, client[units.of_row], options)
    facts = {
        "method": options.method,
        "unit": "user" if units.name == "users" else "interaction",
        "seed": seed,
        "n_clients": n_clients,
        "min_rows": options.min_rows,
        "clients_below_min_rows": 0,
        "moved": moved,
        "smallest": int(n_rows.min()),
        "largest": int(n_rows.max()),
        **assigned.facts,
        **held,
        **({"names": list(assigned.names)} if assigned.names else {}),
    }
    return Partitioned(
        client_id=client[units.of_row].astype(np.int32),
        steps=_steps(task, n_clients, moved, least),
        facts=facts,
    )


def _steps(task: Task, n_clients: int, moved: int, least: int) -> list[Step]:
    method, height, units = task.options.method, task.rows.height, task.units
    why = f"{n_clients:,} clients from {len(units):,} {units.name}"
    steps = [Step(stage="partition", name=method, rows_in=height, rows_out=height, why=why)]
    if moved:
        why = f"{moved:,} {units.name} moved from the largest clients, so that each has {least:,} rows"
        n = len(units)
        unit = units.name
        steps.append(
            Step(stage="partition", name="min_rows", rows_in=n, rows_out=n, unit=unit, why=why)
        )
    return steps


def _refuse_small(task: Task, assigned: Assigned, n_rows: Ints, least: int) -> None:
    small = np.flatnonzero(n_rows < least)
    if not len(small):
        return
    worst = small[np.argsort(n_rows[small], kind="stable")][:3]
    values = [f" ({assigned.names[c] or 'no value'})" if assigned.names else "" for c in worst]
    named = ", ".join(
        f"client {c}{value} with {n_rows[c]:,}" for c, value in zip(worst, values, strict=True)
    )
    hint = "a smaller partition.min_rows, or fewer clients"
    if task.options.method == "by_user":
        hint = (
            f"clean.user_core = {least} keeps only users with as many rows; or a smaller min_rows"
        )
    elif assigned.by_nature:
        hint = "a smaller partition.min_rows; clients of this method follow from the data"
    raise PartitionError(
        f"{len(small):,} of {len(n_rows):,} clients have fewer than {least:,} rows",
        where=f"{named}{', …' if len(small) > 3 else ''}",
        expected=f"partition.min_rows = {task.options.min_rows}",
        hint=hint,
    )
