"""Cohorts: the right number of different clients, by their address alone, as likely as they should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprep.errors import TrainingError
from fedtrain.samplers import SAMPLERS, SamplerOptions, Trace, held_out, load_trace

ANY = SamplerOptions()


def always(n_clients: int) -> Trace:
    """A trace in which all can be reached at any time."""
    return Trace(np.arange(n_clients), np.zeros(n_clients, np.int64), np.full(n_clients, 10**6))


def draw(name: str, n_rows: list[int], size: int, round: int = 1, seed: int = 0) -> list[int]:
    options = SamplerOptions(trace=always(len(n_rows)))
    cohort: list[int] = SAMPLERS[name](np.array(n_rows), size, round, seed, options).tolist()
    return cohort


def shares(name: str, n_rows: list[int], size: int, rounds: int) -> npt.NDArray[np.float64]:
    """How often each client was drawn, over rounds."""
    drawn = [client for round in range(rounds) for client in draw(name, n_rows, size, round)]
    return np.bincount(drawn, minlength=len(n_rows)) / rounds


# --- laws of all of them --------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLERS)
@given(
    n_rows=st.lists(st.integers(0, 9), min_size=1, max_size=60),
    size=st.integers(0, 70),
    round=st.integers(1, 10**6),
    seed=st.integers(0, 2**63),
)
@settings(deadline=None, max_examples=60)
def test_a_cohort_is_different_clients_with_rows_in_order(
    name: str, n_rows: list[int], size: int, round: int, seed: int
) -> None:
    options = SamplerOptions(trace=always(len(n_rows)))
    cohort = SAMPLERS[name](np.array(n_rows), size, round, seed, options)
    able = np.flatnonzero(np.array(n_rows) > 0)
    assert cohort.dtype == np.int64
    assert np.all(np.diff(cohort) > 0)
    assert np.isin(cohort, able).all()
    if name != "poisson":
        assert len(cohort) == (min(size, len(able)) if size else len(able))
    elif size == 0 or size >= len(able):
        assert cohort.tolist() == able.tolist()
    again = SAMPLERS[name](np.array(n_rows), size, round, seed, options)
    assert again.tolist() == cohort.tolist()


@pytest.mark.parametrize("name", SAMPLERS)
def test_clients_that_may_not_train_are_never_drawn(name: str) -> None:
    may = np.arange(100) % 3 == 0
    options = SamplerOptions(may, always(100))
    for round in range(20):
        assert may[SAMPLERS[name](np.full(100, 5), 10, round, 0, options)].all()
    assert (
        SAMPLERS[name](np.full(100, 5), 0, 1, 0, options).tolist() == np.flatnonzero(may).tolist()
    )


@pytest.mark.parametrize("name", SAMPLERS)
def test_rounds_and_seeds_draw_different_cohorts(name: str) -> None:
    n_rows = [5] * 100
    assert draw(name, n_rows, 30, 1) != draw(name, n_rows, 30, 2)
    assert draw(name, n_rows, 30, 1, seed=0) != draw(name, n_rows, 30, 1, seed=1)


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "by_size"])
def test_all_clients_are_equally_likely(name: str) -> None:
    # 3,000 rounds of 4 in 10: the share's deviation is sqrt(0.24 / 3000) < 0.009.
    assert shares(name, [1, 50] * 5, 4, 3000) == pytest.approx(np.full(10, 0.4), abs=0.045)


@pytest.mark.parametrize("name", ["uniform", "by_size", "trace", "poisson"])
@given(size=st.integers(1, 39), round=st.integers(1, 1000))
@settings(deadline=None, max_examples=40)
def test_a_larger_cohort_holds_the_smaller_one(name: str, size: int, round: int) -> None:
    n_rows = list(range(1, 41))
    assert set(draw(name, n_rows, size, round)) <= set(draw(name, n_rows, size + 1, round))


# --- each of them ---------------------------------------------------------------------------------


def test_uniform_draws_every_pair_equally_often() -> None:
    pairs = [tuple(draw("uniform", [1] * 5, 2, round)) for round in range(4000)]
    counts = np.unique(pairs, axis=0, return_counts=True)[1]
    assert len(counts) == 10
    # Chi-squared with 9 degrees of freedom: above 33.7 once in ten thousand times.
    assert ((counts - 400) ** 2 / 400).sum() < 33.7


def test_by_size_draws_one_client_in_proportion_to_its_rows() -> None:
    assert shares("by_size", [1, 2, 3, 4], 1, 4000) == pytest.approx(
        [0.1, 0.2, 0.3, 0.4], abs=0.035
    )


def test_by_size_draws_the_second_from_what_the_first_left() -> None:
    # Client 0 comes first, or second after either of the others: 1/2 + 2 · 1/4 · 2/3.
    expected = [1 / 2 + 2 * (1 / 4) * (2 / 3)]
    expected += [(2 - expected[0]) / 2] * 2
    assert shares("by_size", [2, 1, 1], 2, 4000) == pytest.approx(expected, abs=0.035)


@given(n=st.integers(2, 40), size=st.integers(1, 40), start=st.integers(0, 1000))
@settings(deadline=None, max_examples=60)
def test_cyclic_gives_each_its_turn_before_any_has_two(n: int, size: int, start: int) -> None:
    size = min(size, n)
    turns = np.zeros(n, np.int64)
    for round in range(start, start + 3 * n):
        turns[draw("cyclic", [1] * n, size, round)] += 1
        assert turns.max() - turns.min() <= 1


def test_cyclic_has_a_random_order() -> None:
    assert draw("cyclic", [1] * 100, 50, 0) != list(range(50))


def test_a_trace_says_from_which_round_to_which_a_client_is_there() -> None:
    trace = Trace(np.array([0, 2, 0]), np.array([1, 2, 5]), np.array([2, 3, 5]))
    there = [
        SAMPLERS["trace"](np.ones(4, np.int64), 0, round, 0, SamplerOptions(None, trace)).tolist()
        for round in range(1, 7)
    ]
    assert there == [[0], [0, 2], [2], [], [0], []]


def test_poisson_cohorts_vary_in_size_as_binomial_numbers_do() -> None:
    sizes = np.array([len(draw("poisson", [1] * 100, 20, round)) for round in range(2000)])
    assert sizes.mean() == pytest.approx(20, abs=0.4)
    assert sizes.var() == pytest.approx(100 * 0.2 * 0.8, rel=0.15)


def test_a_small_cohort_is_found_among_very_many_and_a_large_one_misses_few() -> None:
    n_rows = np.ones(200_000, np.int64)
    for size in (3, 199_998):
        assert len(np.unique(SAMPLERS["uniform"](n_rows, size, 1, 0, ANY))) == size


# --- clients that are held out --------------------------------------------------------------------


@given(
    n_rows=st.lists(st.integers(0, 3), max_size=50),
    valid=st.floats(0, 0.5),
    test=st.floats(0, 0.49),
    seed=st.integers(0, 100),
)
@settings(deadline=None, max_examples=60)
def test_held_out_clients_are_so_many_and_apart(
    n_rows: list[int], valid: float, test: float, seed: int
) -> None:
    counts = np.array(n_rows, np.int64)
    for_valid, for_test = held_out(counts, valid, test, seed)
    n_able = int((counts > 0).sum())
    assert not (for_valid & for_test).any()
    assert not (for_valid | for_test)[counts == 0].any()
    assert for_valid.sum() == round(valid * n_able)
    assert for_test.sum() == min(round(test * n_able), n_able - for_valid.sum())


def test_held_out_clients_follow_the_seed() -> None:
    n_rows = np.ones(100, np.int64)
    first, again, other = (held_out(n_rows, 0.2, 0.2, seed)[1].tolist() for seed in (0, 0, 1))
    assert first == again != other


# --- trace files ----------------------------------------------------------------------------------

ROWS = {"client_id": [0, 2], "start": [1, 2], "end": [3, 2]}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_trace_is_read_from_either_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"trace.{suffix}"
    frame = pl.DataFrame({"note": ["a", "b"], **ROWS})
    frame.write_csv(path) if suffix == "csv" else frame.write_parquet(path)
    trace = load_trace(path, 3)
    assert (trace.client_id.tolist(), trace.start.tolist(), trace.end.tolist()) == (
        [0, 2], [1, 2], [3, 2],
    )  # fmt: skip
    assert trace.client_id.dtype == np.int64


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, ["cannot be read"]),
        ("", ["cannot be read"]),
        ("client_id,start\n0,1\n", ["cannot be read", "end"]),
        ("client_id,start,end\n0,1,soon\n", ["column end is String"]),
        ("client_id,start,end\n0,1,2.5\n", ["column end is Float64"]),
        ("client_id,start,end\n0,1,2\n1,,2\n", ["empty value", "1 of 2", "row 2"]),
        ("client_id,start,end\n0,1,2\n3,1,2\n", ["no client of the 3", "row 2"]),
        ("client_id,start,end\n-1,1,2\n", ["no client of the 3", "row 1"]),
        ("client_id,start,end\n0,3,2\n", ["ends before it starts", "row 1"]),
    ],
)
def test_a_bad_trace_is_refused_with_its_row(
    tmp_path: Path, text: str | None, words: list[str]
) -> None:
    path = tmp_path / "trace.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(TrainingError) as caught:
        load_trace(path, 3)
    assert all(word in str(caught.value) for word in [*words, "trace.csv"]), caught.value
