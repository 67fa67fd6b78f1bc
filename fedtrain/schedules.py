"""Schedules: what the learning rates of a round are multiplied with.

`SCHEDULES[name](round, plan, history)` returns a factor in [`schedule_floor`, 1]; rounds count from 1.
`factor` is the one that a run asks: it adds the warm-up, which goes before any schedule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from fedtrain.stopping import History, improvements

if TYPE_CHECKING:
    from fedtrain.plan import Plan

__all__ = ["SCHEDULES", "factor"]

Schedule = Callable[[int, "Plan", History], float]


def constant(round: int, plan: Plan, history: History) -> float:
    """Returns 1."""
    return 1.0


def cosine(round: int, plan: Plan, history: History) -> float:
    """Returns half a wave from 1 in the first round after the warm-up down to the floor.

    Reference: Loshchilov, Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts, ICLR 2017,
    equation 5, without restarts.
    """
    passed = max(round - 1 - plan.warmup_rounds, 0) / max(plan.rounds - plan.warmup_rounds, 1)
    wave = (1 + math.cos(math.pi * min(passed, 1.0))) / 2
    return plan.schedule_floor + (1 - plan.schedule_floor) * wave


def plateau(round: int, plan: Plan, history: History) -> float:
    """Returns `schedule_factor` once for each `schedule_patience` values in a row without a better one.

    Only values of earlier rounds count.
    """
    earlier = [pair for pair in history.get(plan.schedule_metric, ()) if pair[0] < round]
    idle, reductions = 0, 0
    for _, _, better in improvements(earlier, plan.schedule_mode):
        idle = 0 if better else idle + 1
        if idle == plan.schedule_patience:
            idle, reductions = 0, reductions + 1
    return max(plan.schedule_factor**reductions, plan.schedule_floor)


SCHEDULES: Mapping[str, Schedule] = {
    "constant": constant,
    "warmup": constant,  # what is left of it after the warm-up
    "cosine": cosine,
    "plateau": plateau,
}
"""Each schedule by its name in a recipe."""


def factor(round: int, plan: Plan, history: History) -> float:
    """Returns what the client's learning rates are multiplied with in a round; rounds count from 1.

    In the first `warmup_rounds` it grows evenly, from 1 / (warmup_rounds + 1).

    Reference: Goyal et al., Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour, 2017, section 2.2.
    """
    assert round >= 1, "rounds count from 1"
    return warmup(round, plan.warmup_rounds) * SCHEDULES[plan.schedule](round, plan, history)


def warmup(round: int, rounds: int) -> float:
    """Returns the share of the learning rate that a warm-up of so many rounds gives."""
    return min(round / (rounds + 1), 1.0)
