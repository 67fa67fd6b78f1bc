"""Lost clients and stragglers: by seed, round and client alone."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from fedprep.errors import TrainingError
from fedtrain.stragglers import lost, work

LAW = settings(deadline=None, max_examples=40)
CLIENTS = np.arange(20_000)
SEEDS = st.integers(0, 2**40)


@LAW
@given(SEEDS, st.integers(0, 1000), st.floats(0, 1))
def test_who_is_lost_does_not_depend_on_the_cohort(seed: int, round: int, share: float) -> None:
    some = np.array([7, 3, 11_111, 500])
    whole = lost(CLIENTS, round, seed, share)
    assert lost(some, round, seed, share).tolist() == whole[some].tolist()
    parts = work(CLIENTS, round, seed, share, 0.25)
    assert work(some, round, seed, share, 0.25).tolist() == parts[some].tolist()


@LAW
@given(SEEDS, st.floats(0, 1), st.floats(0, 1))
def test_a_client_lost_at_a_share_stays_lost_at_a_larger_one(
    seed: int, one: float, other: float
) -> None:
    few, many = (lost(CLIENTS[:500], 1, seed, share) for share in sorted((one, other)))
    assert not (few & ~many).any()


def test_the_shares_are_those_asked_for() -> None:
    assert abs(lost(CLIENTS, 3, 1, 0.3).mean() - 0.3) < 0.02
    assert not lost(CLIENTS, 3, 1, 0.0).any()
    assert lost(CLIENTS, 3, 1, 1.0).all()
    parts = work(CLIENTS, 3, 1, 0.3, 0.5)
    assert abs((parts < 1).mean() - 0.3) < 0.02
    slow = parts[parts < 1]
    assert slow.min() >= 0.5
    assert abs(slow.mean() - 0.75) < 0.01
    assert (work(CLIENTS, 3, 1, 0.0, 0.5) == 1).all()


def test_rounds_and_seeds_and_the_two_kinds_are_independent() -> None:
    base = lost(CLIENTS, 3, 1, 0.5)
    slow = work(CLIENTS, 3, 1, 0.5, 0.5) < 1
    for other in (lost(CLIENTS, 4, 1, 0.5), lost(CLIENTS, 3, 2, 0.5), slow):
        assert abs((base == other).mean() - 0.5) < 0.02


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_what_is_no_share_is_refused_by_its_key(share: float) -> None:
    with pytest.raises(TrainingError, match="dropout is"):
        lost(CLIENTS, 0, 0, share)
    with pytest.raises(TrainingError, match="stragglers is"):
        work(CLIENTS, 0, 0, share, 0.5)
    with pytest.raises(TrainingError, match="straggler_work is"):
        work(CLIENTS, 0, 0, 0.5, share)
