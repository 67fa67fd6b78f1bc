"""What was asked for: tables read and checked, ids made small, users given rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from fedeval.catalogue import CATEGORIES, EMBEDDING
from fedeval.hits import Truth, relevance_column, truth_of
from fedeval.ids import Codes, Names, codes_of, small_ids
from fedeval.metrics import Ask
from fedeval.opening import role_name
from fedeval.policy import Policy
from fedeval.sources import order_of
from fedeval.tables import SCORE, Table, read_table, with_ids_like
from fedprep.errors import EvaluationError
from fedprep.schema import ITEM_ID, RATING, USER_ID

__all__ = ["Request", "request_of"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Request:
    """Tables with small integers for ids, the users as rows, and the metrics by kind.

    recs, truth, train, items: the tables. told: the truth, by its own ids. names: what users and items
    stand for. dtype: of the truth's `user_id`. users: all that have a row. relevant: their relevant
    items. key: the column that orders lists, `rank` or `score`.
    """

    asks: Sequence[Ask]
    policy: Policy
    recs: Table
    truth: Table
    train: Table | None
    items: Table | None
    told: pl.DataFrame
    names: dict[str, Names]
    dtype: pl.DataType
    users: Codes
    relevant: Truth
    key: str

    def of_kind(self, *kinds: str) -> list[Ask]:
        """Returns the metrics asked for of these kinds."""
        return [ask for ask in self.asks if ask.metric.kind in kinds]


def request_of(
    recs: Any,
    truth: Any,
    asks: Sequence[Ask],
    policy: Policy,
    *,
    train: Any = None,
    items: Any = None,
    columns: Mapping[str, str] | None = None,
    truth_columns: Mapping[str, str] | None = None,
) -> Request:
    """Returns a request, checked. Arguments as for `evaluate`.

    Raises:
        EvaluationError: a table cannot be used, or a metric needs one that is not there.
    """
    read = read_table(recs, "recommendations", columns)
    key = order_of(read, policy)
    if read.trec and policy.order == "auto" and policy.ties == "item_id":
        policy = replace(policy, ties="text_descending")  # as trec_eval has it
    told = _in_memory(read_table(truth, "truth", truth_columns))
    trained = None if train is None else read_table(train, "train")
    listed = None if items is None else read_table(items, "items")
    _refuse_what_lacks(asks, policy, read, trained, listed)
    for table in (trained, listed):
        if table is not None:
            _refuse_missing_ids(table)
    read = with_ids_like(read, told)
    told = with_ids_like(told, read)
    by_own_ids = told.whole()
    others = [with_ids_like(t, told) for t in (trained, listed) if t is not None]
    dtype = told.schema[USER_ID]
    every_user = policy.users == "list" or any(a.metric.kind == "exposure" for a in asks)
    small, names = small_ids([told, read, *others], every_user=every_user)
    told, read = small[:2]
    rest = iter(small[2:])
    trained = None if trained is None else next(rest)
    listed = None if listed is None else next(rest)
    rows = told.whole()
    columns_of_users = [rows[USER_ID]]
    if every_user:
        columns_of_users.append(read.distinct(USER_ID).drop_nulls())
    users = codes_of(*columns_of_users)
    graded = relevance_column(rows.columns, policy)
    relevance = None if graded is None else rows[graded].cast(pl.Float64).to_numpy()
    relevant = truth_of(
        users.find(rows[USER_ID]),
        rows[ITEM_ID].to_numpy().astype(np.int32),
        relevance,
        len(users),
        policy,
    )
    if graded == RATING:  # a threshold, and no gain
        relevant = replace(relevant, gain=None)
    return Request(
        asks=asks, policy=policy, recs=read, truth=told, train=trained, items=listed, names=names,
        dtype=dtype, users=users, relevant=relevant, key=key, told=by_own_ids,
    )  # fmt: skip


def _in_memory(truth: Table) -> Table:
    try:
        rows = truth.whole()
    except pl.exceptions.PolarsError as error:
        raise EvaluationError(f"the truth cannot be read: {error}", where=truth.where) from None
    for name, column in zip(rows.columns, rows.iter_columns(), strict=True):
        missing = column.null_count()
        if column.dtype.is_float():
            missing += int((~column.is_finite()).sum())
        if missing:
            raise EvaluationError(
                f"'{name}' of the truth is missing, or not of its type, in {missing:,} of"
                f" {rows.height:,} rows",
                where=truth.where,
                expected="a value in every row" + ", none infinite" * column.dtype.is_float(),
            )
    return replace(truth, rows=rows)


def _refuse_missing_ids(table: Table) -> None:
    ids = [name for name in (USER_ID, ITEM_ID) if name in table]
    nulls = table.rows.lazy().select(pl.col(ids).null_count())
    for name, missing in nulls.collect(engine="streaming").row(0, named=True).items():
        if missing:
            raise EvaluationError(
                f"'{name}' of the {role_name(table.role)} is missing, or not of its type, in {missing:,}"
                " rows",
                where=table.where,
                expected="a value in every row",
            )


def _refuse_what_lacks(
    asks: Sequence[Ask], policy: Policy, recs: Table, train: Table | None, items: Table | None
) -> None:
    there = {
        "score": SCORE in recs,
        "train": train is not None,
        "items": items is not None,
        "embedding": items is not None and EMBEDDING in items,
        "categories": items is not None and CATEGORIES in items,
    }
    hints = {
        "score": "the recommendations need a column 'score'",
        "train": "it needs the training rows: train= in Python, --data on the command line",
        "items": "it needs the items: items= in Python, --data on the command line",
        "embedding": "it needs items with a column 'embedding': items= in Python, --data on the command line",
        "categories": "it needs items with a column 'categories': items= in Python, --data on the command"
        " line",
    }
    for ask in asks:
        for need in ask.metric.needs:
            if not there[need]:
                raise EvaluationError(f"{ask.text} cannot be computed", hint=hints[need])
    if policy.unlisted == "tied" and not there["items"]:
        raise EvaluationError("unlisted='tied' needs all items", hint=hints["items"])
