"""Clients that the data itself names, or that follow its calendar: by_user, by_column, by_time."""

from __future__ import annotations

import numpy as np
import polars as pl

from fedprep.errors import PartitionError, RecipeError, nearest
from fedprep.partition.cut import cut
from fedprep.partition.grouping import best_of, count_pairs
from fedprep.partition.task import Assigned, Ints, Task
from fedprep.schema import CLIENT_ID, ITEM_ID, TIMESTAMP, USER_ID

__all__ = ["by_column", "by_time", "by_user"]

NO_VALUE = -1
OURS = (USER_ID, ITEM_ID, CLIENT_ID, "behavior")


def by_user(task: Task, rng: np.random.Generator) -> Assigned:
    """A client per user, in order of `user_id`: the natural partition of a recommender."""
    return Assigned(client=np.arange(len(task.units)), by_nature=True)


def by_time(task: Task, rng: np.random.Generator) -> Assigned:
    """Clients are consecutive periods with equal numbers of rows: tastes and items drift between them.

    A user belongs to the period of the median row (the earlier of two middle ones); ties follow
    `user_id`, those of single rows (user, item), and `borders_in_a_tie` counts the periods that begin
    inside one.
    """
    n_null = task.rows[TIMESTAMP].null_count()
    if n_null:
        raise PartitionError(
            f"{n_null:,} of {task.rows.height:,} rows have no timestamp",
            where="partition.method = by_time",
            hint="take another method, or name the column of times in source.columns",
        )
    time = np.empty(len(task.units), dtype=np.int64)
    if task.units.name == "rows":
        time[task.units.of_row] = task.rows[TIMESTAMP].to_numpy()
    else:
        middle = pl.col(TIMESTAMP).quantile(0.5, "lower").cast(pl.Int64)
        medians = task.rows.group_by(USER_ID).agg(middle).sort(USER_ID)
        time = medians[TIMESTAMP].to_numpy()
    order = np.argsort(time, kind="stable")
    client = np.empty(len(order), dtype=np.int64)
    client[order] = cut(task.units.size[order], np.ones(task.n_clients))
    ordered, owner = time[order], client[order]
    torn = (ordered[1:] == ordered[:-1]) & (owner[1:] != owner[:-1])
    return Assigned(client=client, facts={"borders_in_a_tie": int(np.count_nonzero(torn))})


def by_column(task: Task, rng: np.random.Generator) -> Assigned:
    """A client per value of a column of items or users, such as a city; in order of the values.

    With a column of users, a user's rows are where the user's value is. With a column of items and
    unit = "user", a user goes to the value that most of their rows have; of two equally frequent ones
    to that which more rows of all users have, then to the smaller. With unit = "interaction" a row goes
    to its item's value. What has no value (a user none of whose rows has one) forms the last client.
    """
    table, column = _find(task)
    codes, names = _values(task.users if table == "users" else task.items, table, column)
    if not names:
        raise PartitionError(
            f"the column '{column}' of {table} holds no value", where="partition.column"
        )
    client = _of_units(task, table, codes, len(names))
    n_without = int((client == NO_VALUE).sum())
    client[client == NO_VALUE] = len(names)
    used = np.bincount(client, minlength=len(names) + 1) > 0
    facts = {
        "column": column,
        "table": table,
        "without_value": n_without,
        "values_without_client": int((~used[:-1]).sum()),
    }
    kept = tuple(n for n, is_used in zip((*names, None), used, strict=True) if is_used)
    return Assigned(client=(np.cumsum(used) - 1)[client], facts=facts, by_nature=True, names=kept)


def _of_units(task: Task, table: str, codes: Ints, n_values: int) -> Ints:
    """Returns the value of each unit, `NO_VALUE` where it has none."""
    units = task.units
    if table == "users":
        return codes[units.user]
    of_row = codes[task.rows[ITEM_ID].to_numpy()]
    value = np.full(len(units), NO_VALUE)
    if units.name == "rows":
        value[units.of_row] = of_row
        return value
    known = of_row != NO_VALUE
    overall = np.bincount(of_row[known], minlength=n_values)
    owner, code, count = count_pairs(units.of_row[known], of_row[known], n_values)
    # most rows, then most rows of all users, then the first code
    owners, best = best_of(owner, count * (task.rows.height + 1) + overall[code])
    value[owners] = code[best]
    return value


def _find(task: Task) -> tuple[str, str]:
    """Returns the table that has the recipe's column (users before items), and the column."""
    column = task.options.column
    tables = {"users": task.users, "items": task.items}
    fit = {
        name: [c for c, dtype in frame.schema.items() if c not in OURS and not dtype.is_nested()]
        for name, frame in tables.items()
    }
    for name, columns in fit.items():
        if column in columns:
            return name, column
    known = "; ".join(f"{name}: {', '.join(columns)}" for name, columns in fit.items() if columns)
    every = [c for columns in fit.values() for c in columns]
    if not column:
        what, hint = "by_column needs to know which column", ""
    elif any(column in frame.columns for frame in tables.values()):
        what = f"the column '{column}' cannot be one value a client"
        hint = (
            'method = "dirichlet" or "pathological" with on = "category" takes lists of categories'
        )
        hint = hint if column == "categories" else ""
    else:
        what = f"no column of items or users is called '{column}'"
        hint = nearest(column, every) if every else "this source has no columns to partition by"
    raise RecipeError(what, where="partition.column", expected=known, hint=hint)


def _values(frame: pl.DataFrame, table: str, column: str) -> tuple[Ints, list[str]]:
    """Returns the number of each id's value in order of the values, and the values as text."""
    key = USER_ID if table == "users" else ITEM_ID
    values = frame[column]
    if isinstance(values.dtype, pl.Categorical | pl.Enum):
        values = values.cast(pl.String)
    if values.dtype.is_float():
        values = values.fill_nan(None)
    distinct = values.drop_nulls().unique().sort()
    numbers = pl.DataFrame({column: distinct, "code": np.arange(len(distinct))})
    code = values.to_frame().join(numbers, on=column, how="left", maintain_order="left")["code"]
    ids = frame[key].to_numpy()
    codes = np.full(int(ids.max()) + 1, NO_VALUE)
    codes[ids] = code.fill_null(NO_VALUE).to_numpy()
    return codes, distinct.cast(pl.String).to_list()
