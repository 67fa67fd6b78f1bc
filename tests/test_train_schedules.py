"""Schedules of the learning rates, number by number."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedtrain.plan import Plan
from fedtrain.schedules import SCHEDULES, factor
from fedtrain.stopping import History


def factors(plan: Plan, history: History | None = None) -> list[float]:
    return [factor(round, plan, history or {}) for round in range(1, plan.rounds + 1)]


def losses(*values: float) -> History:
    return {"loss/valid": list(enumerate(values, start=1))}


def test_constant_is_one() -> None:
    assert factors(Plan(rounds=3)) == [1.0, 1.0, 1.0]


def test_cosine_is_half_a_wave() -> None:
    found = factors(Plan(rounds=4, schedule="cosine"))
    assert found == pytest.approx([1.0, 0.8535533906, 0.5, 0.1464466094])


def test_cosine_ends_above_its_floor() -> None:
    found = factors(Plan(rounds=4, schedule="cosine", schedule_floor=0.2))
    assert found == pytest.approx([1.0, 0.8828427125, 0.6, 0.3171572875])


@pytest.mark.parametrize("schedule", ["constant", "warmup"])
def test_a_warm_up_grows_evenly_to_one(schedule: str) -> None:
    found = factors(Plan(rounds=5, schedule=schedule, warmup_rounds=3))  # type: ignore[arg-type]
    assert found == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_cosine_starts_after_the_warm_up() -> None:
    found = factors(Plan(rounds=5, schedule="cosine", warmup_rounds=1))
    assert found == pytest.approx([0.5, 1.0, 0.8535533906, 0.5, 0.1464466094])


def test_plateau_halves_after_so_many_values_without_a_better_one() -> None:
    plan = Plan(rounds=8, schedule="plateau", schedule_patience=2)
    found = factors(plan, losses(1.0, 0.9, 0.95, 0.9, 0.91, 0.92, 0.8, 0.7))
    assert found == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25]


def test_a_wave_begins_where_the_warm_up_ends() -> None:
    plan = Plan(rounds=7, schedule="cosine", warmup_rounds=3, schedule_floor=0.2)
    wave = [1.0, 0.2 + 0.8 * (1 + 0.5**0.5) / 2, 0.6, 0.2 + 0.8 * (1 - 0.5**0.5) / 2]
    assert factors(plan) == pytest.approx([0.25, 0.5, 0.75, *wave])


def test_plateau_does_not_fall_below_its_floor() -> None:
    plan = Plan(rounds=6, schedule="plateau", schedule_patience=1, schedule_floor=0.2)
    assert factors(plan, losses(*[1.0] * 6)) == [1.0, 1.0, 0.5, 0.25, 0.2, 0.2]


def test_plateau_watches_the_metric_that_is_named_in_its_direction() -> None:
    plan = Plan(
        rounds=4, schedule="plateau", schedule_patience=1, schedule_metric="ndcg@10/valid",
        schedule_mode="max", schedule_factor=0.1,
    )  # fmt: skip
    history = {"ndcg@10/valid": [(1, 0.1), (2, 0.2), (3, 0.15)], **losses(3.0, 3.0, 3.0)}
    assert factors(plan, history) == pytest.approx([1.0, 1.0, 1.0, 0.1])


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(
    rounds=st.integers(2, 30),
    warmup=st.integers(0, 29),
    floor=st.floats(0, 1),
    values=st.lists(st.floats(-5, 5), max_size=30),
)
@settings(deadline=None, max_examples=50)
def test_after_the_warm_up_factors_never_rise_and_stay_between_floor_and_one(
    schedule: str, rounds: int, warmup: int, floor: float, values: list[float]
) -> None:
    warmup = min(warmup, rounds - 1)
    plan = Plan(
        rounds=rounds, schedule=schedule, warmup_rounds=warmup, schedule_floor=floor,  # type: ignore[arg-type]
    )  # fmt: skip
    found = factors(plan, losses(*values))
    after = found[warmup:]
    assert after == sorted(after, reverse=True)
    assert all(floor - 1e-12 <= value <= 1 for value in after)
    assert all(0 < value < 1 or floor == 0 for value in found[:warmup])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_round_is_scheduled_by_earlier_rounds_alone(schedule: str) -> None:
    plan = Plan(rounds=9, schedule=schedule, schedule_patience=1)  # type: ignore[arg-type]
    short, long = losses(1.0, 1.0, 1.0), losses(*[1.0] * 9)
    assert factor(4, plan, short) == factor(4, plan, long)
