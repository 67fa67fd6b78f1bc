"""What a recipe says a run should give, beside what it gave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fedtrain.compare import better
from fedtrain.run.checkpoint import FREE

if TYPE_CHECKING:
    from fedtrain.plan import Plan

__all__ = ["changed_keys", "expectations"]


def expectations(plan: Plan, measures: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """Returns a row for each measure that the plan expects.

    metric, expected, tolerance · got: its last value, None where it was never measured · within: whether it
    is as near as the tolerance · ok: within, or beyond it on the better side.

    Args:
        plan: whose `expected` says what should come out.
        measures: the last `value` of each measure, as `summary` has them.
    """
    rows = []
    for metric, expected in plan.expected.items():
        got = measures[metric]["value"] if metric in measures else None
        off = None if got is None else got - expected.value
        within = off is not None and abs(off) <= expected.tolerance
        gain = {"higher": 1.0, "lower": -1.0, "neither": 0.0}[better(metric)]
        rows.append(
            {
                "metric": metric,
                "expected": expected.value,
                "tolerance": expected.tolerance,
                "got": got,
                "within": within,
                "ok": within or (off is not None and gain * off > 0),
            }
        )
    return rows


def changed_keys(
    now: Mapping[str, Any], recipe: Mapping[str, Any], seed: int, usual_seed: int
) -> list[str]:
    """Returns the keys of a plan that are not as its recipe has them, `seed` among them; sorted.

    Keys that change no number of a Run are not looked at.
    """
    keys = {key for key in now.keys() | recipe.keys() if now.get(key) != recipe.get(key)}
    return sorted((keys - set(FREE)) | ({"seed"} if seed != usual_seed else set()))
