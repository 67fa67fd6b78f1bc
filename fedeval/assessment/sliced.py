"""The headline metric by slice: activity of users, popularity of relevant items, columns by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from fedeval.assessment.measured import Measured
from fedeval.assessment.scored import Scored
from fedeval.evaluation import evaluate
from fedeval.groups import (
    activity_groups,
    client_size_groups,
    cold_groups,
    column_groups,
    popularity_groups,
)
from fedeval.setting import Setting
from fedeval.slices import by_relevant_item, slice_comparison, slice_metrics
from fedprep.errors import EvaluationError, nearest
from fedprep.schema import ITEM_ID, USER_ID

__all__ = ["refuse_no_column", "slices_of"]

POPULARITY = (
    "Head: the items with the first 20 % of the train rows; tail: those with the last 20 %; torso: those "
    "between; cold: items without a train row. A group counts its own relevant items."
)


COMPUTED = ("client_size", "cold_users")
"""Slices that are computed from train, and asked for as a column is."""


def slices_of(measured: Measured, by: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the slices: by activity, by popularity, and by each column named; none without a Dataset.

    Args:
        measured: whose headline metric is sliced; it has to be one of users' values.
        by: columns of the users, or else of the items, of the Dataset; or names in `COMPUTED`.
    """
    setting = measured.setting
    if setting.dataset is None or measured.headline.metric.kind != "accuracy":
        return []
    train = setting.train_frame
    users = setting.dataset.users().select(USER_ID).collect()[USER_ID]
    items = setting.dataset.items().select(ITEM_ID).collect()[ITEM_ID]
    return [
        _of_users(
            measured, activity_groups(train, users), by="activity", what="activity of the user",
            explained="Users by their number of train rows; as many users in each group, nearly.",
            unit="train rows of the user",
        ),
        _of_items(
            measured, popularity_groups(train, items), by="popularity",
            what="popularity of the relevant item", explained=POPULARITY,
        ),
        *(_by_column(measured, column) for column in by),
    ]  # fmt: skip


def refuse_no_column(column: str, setting: Setting) -> None:
    """Refuses a column to slice by that neither users nor items have, or that makes no groups.

    Raises:
        EvaluationError: as said, or there is no Dataset.
    """
    if setting.dataset is None:
        raise EvaluationError(
            f"nothing has a column '{column}' to slice by", hint="give the Dataset with --data"
        )
    tables = (setting.dataset.users(), setting.dataset.items())
    known = {name for table in tables for name in table.collect_schema().names()} | {*COMPUTED}
    if column == COMPUTED[0] and setting.clients is None:
        raise EvaluationError(
            "clients have no size here: the rows of a user lie at several clients"
        )
    if column not in known:
        raise EvaluationError(
            f"neither users nor items have a column '{column}'",
            where=str(setting.dataset.path),
            hint=nearest(column, known),
        )
    if column not in COMPUTED:
        of_users = column in tables[0].collect_schema().names()
        table, key = (tables[0], USER_ID) if of_users else (tables[1], ITEM_ID)
        column_groups(table, column, key=key)


def _by_column(measured: Measured, column: str) -> dict[str, Any]:
    setting, dataset = measured.setting, measured.setting.dataset
    assert dataset is not None
    if column in COMPUTED:
        if column == COMPUTED[0]:
            assert setting.clients is not None
            groups = client_size_groups(setting.train_frame, setting.clients)
            words = (
                "size of the user's client",
                "Users by the train rows of the client they are at.",
                "train rows of the client",
            )
        else:
            users = dataset.users().select(USER_ID).collect()[USER_ID]
            groups = cold_groups(setting.train_frame, users)
            words = "whether the user is cold", "Cold: users without a train row.", ""
        return _of_users(
            measured, groups, by=column, what=words[0], explained=words[1], unit=words[2]
        )
    if column in dataset.users().collect_schema().names():
        groups = column_groups(dataset.users(), column)
        return _of_users(measured, groups, by=column, what=f"{column} of the user", explained="")
    return _of_items(
        measured, column_groups(dataset.items(), column, key=ITEM_ID), by=column,
        what=f"{column} of the relevant item",
        explained="A group counts its own relevant items; an item may stand in several groups.",
    )  # fmt: skip


def _of_users(measured: Measured, groups: pl.DataFrame, **words: str) -> dict[str, Any]:
    frames = {one.name: one.found.per_user for one in measured.rivals}
    return _part(measured, frames, groups, words)


def _of_items(measured: Measured, groups: pl.DataFrame, **words: str) -> dict[str, Any]:
    metric = measured.headline.text

    def grouped(one: Scored) -> pl.DataFrame:
        def values(truth: pl.DataFrame) -> pl.DataFrame:
            return evaluate(one.system.recs, truth, [metric], policy=policy).per_user

        # A group may have no user in common with the lists: those users score 0, as they do in the whole.
        policy = replace(one.found.policy, no_common_user="zero")
        return by_relevant_item(values, measured.setting.truth, groups)

    return _part(measured, {one.name: grouped(one) for one in measured.rivals}, None, words)


def _part(
    measured: Measured,
    frames: Mapping[str, pl.DataFrame],
    groups: pl.DataFrame | None,
    words: Mapping[str, str],
) -> dict[str, Any]:
    """Returns a slice: its groups, and value and interval of each system in each of them.

    `unit` says what the names of groups count, where they are numbers.

    Of two systems, `comparisons` says where the first beats the second.
    """
    metric = measured.headline.text
    how: Any = {"clients": measured.clients, "inference": measured.inference}
    nothing = {"mean": None, "low": None, "high": None, "n": 0}
    tables = {
        name: {
            row["group"]: row for row in slice_metrics(frame, groups, [metric], **how).to_dicts()
        }
        for name, frame in frames.items()
    }
    names = list(dict.fromkeys(group for table in tables.values() for group in table))
    systems: dict[str, list[dict[str, Any]]] = {}
    sizes: dict[str, int] = {}
    for name, table in tables.items():
        sizes |= {group: int(row["n"]) for group, row in table.items()}
        found = [table.get(group, nothing) for group in names]
        systems[name] = [
            {"value": row["mean"], **{key: row[key] for key in ("low", "high", "n")}}
            for row in found
        ]
    return {
        "by": words["by"],
        "title": f"{measured.title} by {words['what']}",
        "explained": words["explained"],
        "unit": words.get("unit", ""),
        "metric": metric,
        "names": names,
        "n": [sizes[group] for group in names],
        "systems": systems,
        "comparisons": _compared(measured, frames, groups, how),
    }


def _compared(
    measured: Measured,
    frames: Mapping[str, pl.DataFrame],
    groups: pl.DataFrame | None,
    how: Mapping[str, Any],
) -> list[dict[str, Any]]:
    if len(frames) != 2:
        return []
    (first, a), (second, b) = frames.items()
    metric = measured.headline.text
    lower = [metric] if measured.lower_is_better else []
    table = slice_comparison(
        a, b, groups, [metric], names=(first, second), lower_is_better=lower, **how
    )
    return table.to_dicts()
