"""The parts of an assessment beyond the mean: intervals, tests, curves, slices, the spread over clients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from fedeval.assessment.scored import Scored
from fedeval.clients import client_summary, client_values
from fedeval.evaluation import evaluate
from fedeval.groups import activity_groups, column_groups, popularity_groups
from fedeval.metrics import Ask
from fedeval.per_user import with_clients
from fedeval.setting import Setting
from fedeval.slices import by_relevant_item, slice_metrics
from fedeval.statistics import Inference, compare_systems
from fedprep.errors import EvaluationError, nearest
from fedprep.schema import CLIENT_ID, ITEM_ID, USER_ID

__all__ = [
    "comparisons_of",
    "coverage_of",
    "curves_of",
    "intervals_of",
    "over_clients",
    "slices_of",
]

POINTS = 101
"""Points of the curve of values over clients."""


def intervals_of(
    one: Scored, names: Sequence[str], clients: pl.DataFrame | None, how: Inference
) -> dict[str, dict[str, Any]]:
    """Returns value, low, high, n, n_undefined, reason of each metric that a user has a value of."""
    per_user = one.found.per_user
    ids = None if clients is None else with_clients(per_user, clients)[CLIENT_ID].to_numpy()
    found = {}
    for name in names:
        if name not in per_user.columns:
            continue
        interval = one.found.interval(
            name,
            ids,
            level=how.level,
            method=how.interval,
            n_resamples=how.n_resamples,
            seed=how.seed,
        )
        fields = interval.to_dict()
        reason = one.found.reasons.get(name) or interval.reason
        found[name] = {k: fields[k] for k in ("value", "low", "high", "n", "n_undefined")}
        found[name]["reason"] = reason
    return found


def comparisons_of(
    scored: Sequence[Scored],
    names: Sequence[str],
    against: str,
    clients: pl.DataFrame | None,
    lower: Sequence[str],
    how: Inference,
) -> list[dict[str, Any]]:
    """Returns the paired comparisons of every other system with the reference."""
    if len(scored) < 2:
        return []
    systems = {one.name: one.found.per_user.select(USER_ID, *names) for one in scored}
    table = compare_systems(
        systems, names, against=against, clients=clients, lower_is_better=lower, inference=how
    )
    return table.to_dicts()


def curves_of(
    scored: Sequence[Scored],
    asks: Sequence[Ask],
    setting: Setting,
    clients: pl.DataFrame | None,
    how: Inference,
) -> dict[str, Any]:
    """Returns the headline metric over k, with intervals, of each system."""
    names = [ask.text for ask in asks]
    systems = {}
    for one in scored:
        # By itself, as the counts of the table are of the cut-offs that were asked for.
        curve = evaluate(one.system.recs, setting.truth, names, policy=one.found.policy)
        found = intervals_of(Scored(system=one.system, found=curve), names, clients, how)
        systems[one.name] = [
            {key: found[ask.text][key] for key in ("value", "low", "high")} for ask in asks
        ]
    return {"k": [ask.k for ask in asks], "systems": systems}


def coverage_of(scored: Sequence[Scored], asks: Sequence[Ask], setting: Setting) -> dict[str, Any]:
    """Returns the share of the items of train that stand in anyone's first places, of each system."""
    if not asks:
        reason = "the truth is a file: nothing says which items there are"
        return {"k": None, "n_items": 0, "reason": reason, "systems": {}}
    systems = {one.name: one.found.mean[asks[0].text] for one in scored}
    n_items = int((setting.train.item_counts > 0).sum())
    return {"k": asks[0].k, "n_items": n_items, "reason": "", "systems": systems}


def over_clients(
    scored: Sequence[Scored], metric: str, title: str, setting: Setting, lower: bool, how: Inference
) -> dict[str, Any]:
    """Returns how a metric is spread over clients: of each client the mean over its users.

    Each client counts once, whatever its size. `statistics` are those of `client_summary`, with
    intervals; `curve` has the quantiles from the lowest client to the highest.
    """
    clients = setting.clients
    if clients is None:
        reason = (
            "the truth is a file: nothing says which client a user is at"
            if setting.dataset is None
            else "the rows of a user lie at several clients"
        )
        return {"metric": metric, "title": title, "reason": reason, "systems": {}}
    systems = {}
    counts: dict[str, int] = {}
    for one in scored:
        per_user = one.found.per_user
        rows = client_summary(
            per_user, clients, [metric], lower_is_better=[metric] * lower, inference=how
        ).to_dicts()
        values = np.sort(client_values(per_user, clients, [metric])[metric].to_numpy())
        values = values[~np.isnan(values)]
        systems[one.name] = {
            "n_clients": rows[0]["n_clients"],
            "statistics": {
                row["statistic"]: {key: row[key] for key in ("value", "low", "high")}
                for row in rows
            },
            "share_zero": float((values == 0).mean()) if values.size else None,
            "curve": np.quantile(values, np.linspace(0, 1, POINTS)).tolist() if values.size else [],
        }
        counts = {"n_clients": rows[0]["n_clients"], "n_users": rows[0]["n_users"]}
    return {"metric": metric, "title": title, "reason": "", **counts, "systems": systems}


def slices_of(
    scored: Sequence[Scored],
    ask: Ask,
    title: str,
    setting: Setting,
    by: Sequence[str],
    clients: pl.DataFrame | None,
    how: Inference,
) -> list[dict[str, Any]]:
    """Returns the headline metric by activity, by popularity of the relevant item, and by columns.

    Args:
        by: columns of users, or of items, of the Dataset.

    Raises:
        EvaluationError: neither has such a column.
    """
    if setting.dataset is None:
        return []
    train = setting.train_frame
    users = setting.dataset.users().select(USER_ID).collect()[USER_ID]
    items = setting.dataset.items().select(ITEM_ID).collect()[ITEM_ID]
    parts = [
        _sliced(
            scored, ask, clients, how, activity_groups(train, users),
            by="activity", title=f"{title} by activity of the user",
            explained="Users by their number of train rows; as many users in each group, nearly.",
        ),
        _sliced_by_item(
            scored, ask, setting, clients, how, popularity_groups(train, items),
            by="popularity", title=f"{title} by popularity of the relevant item",
            explained="Head: the items with the first 20 % of the train rows; tail: those with the last "
            "20 %; torso: those between; cold: items without a train row. A group counts its own "
            "relevant items.",
        ),
    ]  # fmt: skip
    columns = [_by_column(scored, ask, title, setting, column, clients, how) for column in by]
    return [*parts, *columns]


def _by_column(
    scored: Sequence[Scored],
    ask: Ask,
    title: str,
    setting: Setting,
    column: str,
    clients: pl.DataFrame | None,
    how: Inference,
) -> dict[str, Any]:
    assert setting.dataset is not None
    users, items = setting.dataset.users(), setting.dataset.items()
    if column in users.collect_schema().names():
        return _sliced(
            scored, ask, clients, how, column_groups(users, column),
            by=column, title=f"{title} by {column} of the user", explained="",
        )  # fmt: skip
    if column in items.collect_schema().names():
        return _sliced_by_item(
            scored, ask, setting, clients, how, column_groups(items, column, key=ITEM_ID),
            by=column, title=f"{title} by {column} of the relevant item",
            explained="A group counts its own relevant items; an item may stand in several groups.",
        )  # fmt: skip
    known = [*users.collect_schema().names(), *items.collect_schema().names()]
    raise EvaluationError(
        f"neither users nor items have a column '{column}'",
        where=str(setting.dataset.path),
        hint=nearest(column, set(known)),
    )


def _sliced(
    scored: Sequence[Scored],
    ask: Ask,
    clients: pl.DataFrame | None,
    how: Inference,
    groups: pl.DataFrame,
    **words: str,
) -> dict[str, Any]:
    tables = {
        one.name: slice_metrics(
            one.found.per_user, groups, [ask.text], clients=clients, inference=how
        )
        for one in scored
    }
    return _part(tables, ask, words)


def _sliced_by_item(
    scored: Sequence[Scored],
    ask: Ask,
    setting: Setting,
    clients: pl.DataFrame | None,
    how: Inference,
    groups: pl.DataFrame,
    **words: str,
) -> dict[str, Any]:
    tables = {}
    for one in scored:
        recs, policy = one.system.recs, one.found.policy
        per_user = by_relevant_item(
            lambda truth, recs=recs, policy=policy: (
                evaluate(recs, truth, [ask.text], policy=policy).per_user
            ),  # type: ignore[misc]
            setting.truth,
            groups,
        )
        tables[one.name] = slice_metrics(per_user, None, [ask.text], clients=clients, inference=how)
    return _part(tables, ask, words)


def _part(tables: Mapping[str, pl.DataFrame], ask: Ask, words: Mapping[str, str]) -> dict[str, Any]:
    names = list(dict.fromkeys(g for table in tables.values() for g in table["group"].to_list()))
    systems: dict[str, list[dict[str, Any]]] = {}
    sizes: dict[str, int] = {}
    for name, table in tables.items():
        rows = {row["group"]: row for row in table.to_dicts()}
        sizes |= {group: int(row["n"]) for group, row in rows.items()}
        systems[name] = [
            {
                "value": rows[g]["mean"] if g in rows else None,
                "low": rows[g]["low"] if g in rows else None,
                "high": rows[g]["high"] if g in rows else None,
                "n": rows[g]["n"] if g in rows else 0,
            }
            for g in names
        ]
    return {
        **words,
        "metric": ask.text,
        "names": names,
        "n": [sizes[g] for g in names],
        "systems": systems,
    }
