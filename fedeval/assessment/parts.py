"""The parts of an assessment beyond the mean: intervals, tests, curves, coverage, the spread over clients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedeval.assessment.measured import Measured
from fedeval.assessment.scored import Scored
from fedeval.clients import client_summary, client_values
from fedeval.evaluation import evaluate
from fedeval.metrics import Ask
from fedeval.per_user import with_clients
from fedeval.statistics import compare_systems
from fedeval.statistics.comparison import UNDECIDED
from fedprep.schema import CLIENT_ID, USER_ID

__all__ = ["comparisons_of", "coverage_of", "curves_of", "intervals_of", "over_clients"]

NEITHER = "neither"

POINTS = 101
"""Points of the curve of values over clients."""


def intervals_of(
    measured: Measured, one: Scored, names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Returns value, low, high, n, n_undefined, reason of each metric that is made up of users' values."""
    per_user, clients = one.found.per_user, measured.clients
    ids = None if clients is None else with_clients(per_user, clients)[CLIENT_ID].to_numpy()
    found = {}
    for name in names:
        interval = one.found.interval(name, ids, **measured.draws)
        fields = interval.to_dict()
        found[name] = {k: fields[k] for k in ("value", "low", "high", "n", "n_undefined")}
        found[name]["reason"] = one.found.reasons.get(name) or interval.reason
    return found


def comparisons_of(measured: Measured, asks: Sequence[Ask], against: str) -> list[dict[str, Any]]:
    """Returns the paired comparisons of every other system with the reference.

    `better` is `NEITHER` where they differ in a metric of which neither more nor less is better.
    """
    names = [ask.text for ask in asks]
    if len(measured.rivals) < 2 or not names:
        return []
    neither = {ask.text for ask in asks if ask.metric.better == "neither"}
    table = compare_systems(
        {one.name: one.found.per_user.select(USER_ID, *names) for one in measured.rivals},
        names,
        against=against,
        clients=measured.clients,
        lower_is_better=[ask.text for ask in asks if ask.metric.better == "lower"],
        inference=measured.inference,
    )
    rows = table.to_dicts()
    for row in rows:
        if row["metric"] in neither and row["better"] != UNDECIDED:
            row["better"] = NEITHER
    return rows


def curves_of(measured: Measured, asks: Sequence[Ask]) -> dict[str, Any]:
    """Returns the headline metric over k, with intervals, of each system."""
    names = [ask.text for ask in asks]
    systems = {}
    for one in measured.rivals:
        # By itself, as the counts of the table are of the cut-offs that were asked for.
        curve = one
        if names:
            truth = measured.setting.truth
            found = evaluate(one.system.recs, truth, names, policy=one.found.policy)
            curve = Scored(system=one.system, found=found)
        points = intervals_of(measured, curve, names)
        systems[one.name] = [
            {key: points[name][key] for key in ("value", "low", "high")} for name in names
        ]
    return {"k": [ask.k for ask in asks], "systems": systems}


def coverage_of(measured: Measured, asks: Sequence[Ask]) -> dict[str, Any]:
    """Returns the share of the items of train that stand in anyone's first places, of each system."""
    if not asks:
        reason = "the truth is a file: nothing says which items there are"
        return {"k": None, "n_items": 0, "reason": reason, "systems": {}}
    systems = {one.name: one.found.mean[asks[0].text] for one in measured.rivals}
    n_items = int((measured.setting.train.item_counts > 0).sum())
    return {"k": asks[0].k, "n_items": n_items, "reason": "", "systems": systems}


def over_clients(measured: Measured) -> dict[str, Any]:
    """Returns how the headline is spread over clients: of each client the mean over its users.

    Each client counts once, whatever its size. `statistics` are those of `client_summary`, with
    intervals; `curve` has the quantiles from the lowest client to the highest.
    """
    metric, setting = measured.headline.text, measured.setting
    told: dict[str, Any] = {"metric": metric, "title": measured.title, "reason": "", "systems": {}}
    if setting.clients is None:
        told["reason"] = (
            "the truth is a file: nothing says which client a user is at"
            if setting.dataset is None
            else "the rows of a user lie at several clients"
        )
        return told
    if metric not in measured.rivals[0].found.per_user.columns:
        told["reason"] = f"{measured.title} is one value of all lists"
        return told
    for one in measured.rivals:
        per_user = one.found.per_user
        rows = client_summary(
            per_user, setting.clients, [metric],
            lower_is_better=[metric] * measured.lower_is_better, inference=measured.inference,
        ).to_dicts()  # fmt: skip
        values = np.sort(client_values(per_user, setting.clients, [metric])[metric].to_numpy())
        values = values[~np.isnan(values)]
        told["systems"][one.name] = {
            "n_clients": rows[0]["n_clients"],
            "statistics": {
                row["statistic"]: {key: row[key] for key in ("value", "low", "high")}
                for row in rows
            },
            "share_zero": float((values == 0).mean()) if values.size else None,
            "curve": np.quantile(values, np.linspace(0, 1, POINTS)).tolist() if values.size else [],
        }
        told |= {"n_clients": rows[0]["n_clients"], "n_users": rows[0]["n_users"]}
    return told
