"""Per-user frames: `user_id`, then a float column a metric, NaN where it is undefined.

A frame may also have a `group` column; then a user has a row in each of their groups.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from fedprep.errors import EvaluationError, nearest
from fedprep.schema import CLIENT_ID, USER_ID

__all__ = ["GROUP", "key_of", "metrics_of", "paired_frame", "same_ids", "with_clients"]

GROUP = "group"


def metrics_of(per_user: pl.DataFrame, wanted: Sequence[str] | None = None) -> list[str]:
    """Returns the metrics of a per-user frame: its float columns, or those wanted.

    Raises:
        EvaluationError: no `user_id`, a user twice, no such metric, or none at all.
    """
    if USER_ID not in per_user.columns:
        raise EvaluationError(
            f"the table of values has no column '{USER_ID}'",
            hint=nearest(USER_ID, per_user.columns),
        )
    repeated = per_user.height - per_user.select(key_of(per_user)).n_unique()
    if repeated:
        raise EvaluationError(
            f"{repeated:,} rows repeat a user", expected="one row a user (and group)"
        )
    found = [name for name, dtype in per_user.schema.items() if dtype.is_float()]
    for name in wanted or ():
        if name not in found:
            raise EvaluationError(f"no metric '{name}' in the table", hint=nearest(name, found))
    if not found:
        raise EvaluationError(
            "the table has no metric", expected=f"'{USER_ID}' and a float column a metric"
        )
    return found if wanted is None else list(wanted)


def key_of(per_user: pl.DataFrame) -> list[str]:
    """Returns the columns that name a row: the user, and the group where there is one."""
    return [USER_ID, GROUP] if GROUP in per_user.columns else [USER_ID]


def paired_frame(
    a: pl.DataFrame,
    b: pl.DataFrame,
    metrics: Sequence[str],
    *,
    names: tuple[str, str] = ("A", "B"),
) -> tuple[pl.DataFrame, int, int]:
    """Returns the users that both systems have, and how many rows only a and only b has.

    Columns: `user_id` (and `group`), then `metric:a` and `metric:b` of each metric, in order of a.

    Raises:
        EvaluationError: a metric that one lacks, a user twice, ids of two kinds, or no user in common.
    """
    for frame in (a, b):
        metrics_of(frame, metrics)
    key = key_of(a)
    b = same_ids(b, a, USER_ID)
    if GROUP in key:
        b = b.with_columns(pl.col(GROUP).cast(a.schema[GROUP], strict=False))
    left = a.select(*key, *(pl.col(m).alias(f"{m}:a") for m in metrics))
    right = b.select(*key, *(pl.col(m).alias(f"{m}:b") for m in metrics))
    both = left.join(right, on=key, how="inner", maintain_order="left")
    if both.height == 0:
        raise EvaluationError(
            f"{names[0]} and {names[1]} have no user in common",
            where=f"{a.height:,} and {b.height:,} users",
            hint="were both scored against the same truth?",
        )
    return both, a.height - both.height, b.height - both.height


def with_clients(per_user: pl.DataFrame, clients: pl.DataFrame) -> pl.DataFrame:
    """Returns the frame with the `client_id` of every user.

    Args:
        per_user: with `user_id`.
        clients: `user_id`, `client_id`; other columns are passed over.

    Raises:
        EvaluationError: a column is missing, a user has no client, or two.
    """
    for column in (USER_ID, CLIENT_ID):
        if column not in clients.columns:
            raise EvaluationError(
                f"the table of clients has no column '{column}'",
                hint=nearest(column, clients.columns),
            )
    table = same_ids(clients.select(USER_ID, CLIENT_ID), per_user, USER_ID).unique()
    twice = table.height - table[USER_ID].n_unique()
    if twice:
        raise EvaluationError(
            f"{twice:,} users are at several clients", expected="one client a user"
        )
    joined = per_user.join(table, on=USER_ID, how="left", maintain_order="left")
    lost = joined.filter(pl.col(CLIENT_ID).is_null())
    if lost.height:
        raise EvaluationError(
            f"{lost.height:,} of {joined.height:,} rows are of users without a client",
            where=f"user {lost[USER_ID][0]}",
            hint="the table of clients is of another Dataset, or the rows of a user lie at several",
        )
    return joined


def same_ids(table: pl.DataFrame, like: pl.DataFrame, column: str) -> pl.DataFrame:
    """Returns the table with its ids of the other one's dtype, so that the two can be joined.

    Raises:
        EvaluationError: one has text and the other numbers.
    """
    ours, theirs = table.schema[column], like.schema[column]
    if ours == theirs:
        return table
    if ours.is_integer() and theirs.is_integer():
        # An id that does not fit the other's integers is none of the other's ids.
        return table.with_columns(pl.col(column).cast(theirs, strict=False)).drop_nulls(column)
    raise EvaluationError(
        f"'{column}' is {ours} in one table and {theirs} in the other",
        expected="the same ids in both",
        hint="cast one of them",
    )
