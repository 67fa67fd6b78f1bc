"""Runs compared: what each reached and what it took, in hand-sized numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedprep.errors import TrainingError
from fedtrain.compare import UNLIKE, better, compare, unlike
from fedtrain.run import Run
from fedtrain.run.rounds import ROUNDS, TIMINGS

PLAN = {"algorithm": "fedprox", "model": "mf", "task": "implicit"}


def run_of(path: Path, *rounds: Mapping[str, float]) -> Path:
    run = Run.create(path, {"dataset_id": "1", "plan": PLAN, "seed": 3})
    for number, values in enumerate(rounds, 1):
        run.log(number, values)
    return path


def cost(ndcg: float | None, loss: float) -> dict[str, float]:
    values = {"loss/valid": loss, "bytes/up": 100, "bytes/down": 300, "seconds": 0.5, "clients": 9}
    return values if ndcg is None else {**values, "ndcg@10/valid": ndcg}


def test_a_run_is_told_with_its_best_and_last_values_and_its_costs(tmp_path: Path) -> None:
    path = run_of(
        tmp_path / "a", cost(0.01, 0.9), cost(0.05, 0.4), cost(0.05, 0.4), cost(0.02, 0.6)
    )
    (row,) = compare([path])
    assert {k: row[k] for k in ("run", "algorithm", "model", "task", "seed", "status")} == {
        "run": "a", "algorithm": "fedprox", "model": "mf", "task": "implicit", "seed": 3,
        "status": "running",
    }  # fmt: skip
    assert (row["rounds"], row["bytes_up"], row["bytes_down"], row["seconds"]) == (4, 400, 1200, 2)
    assert row["best"] == {
        "loss/valid": {"value": 0.4, "round": 2},
        "ndcg@10/valid": {"value": 0.05, "round": 2},
    }
    assert row["final"]["loss/valid"] == 0.6 and row["final"]["clients"] == 9
    assert row["to_target"] == {}


def test_the_way_to_a_target_is_counted_up_to_the_first_round_that_reached_it(
    tmp_path: Path,
) -> None:
    quick = run_of(tmp_path / "quick", cost(0.04, 0.9), cost(None, 0.5))
    slow = run_of(
        tmp_path / "slow", cost(0.01, 0.9), cost(None, 0.5), cost(0.06, 0.4), cost(0.01, 1)
    )
    never = run_of(tmp_path / "never", cost(0.01, 0.9))
    rows = compare([quick, slow, never], {"ndcg@10": 0.04})
    assert [row["to_target"]["ndcg@10/valid"] for row in rows] == [
        {"target": 0.04, "rounds": 1, "bytes": 400, "seconds": 0.5},
        {"target": 0.04, "rounds": 3, "bytes": 1200, "seconds": 1.5},
        {"target": 0.04, "rounds": None, "bytes": None, "seconds": None},
    ]


def test_a_loss_reaches_its_target_from_above(tmp_path: Path) -> None:
    path = run_of(tmp_path / "a", cost(None, 0.9), cost(None, 0.5), cost(None, 0.4))
    (row,) = compare([path], {"loss/valid": 0.5})
    assert row["to_target"]["loss/valid"]["rounds"] == 2


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=8), goal=st.floats(0, 1))
def test_a_target_is_reached_exactly_where_the_best_value_reaches_it(
    tmp_path: Path, values: list[float], goal: float
) -> None:
    Run.create(tmp_path / "a", {"dataset_id": "1", "plan": {}, "seed": 0}, force=True)
    run = Run.open(tmp_path / "a")
    for number, value in enumerate(values, 1):
        run.log(number, {"ndcg@10/valid": value})
    (row,) = compare([run.path], {"ndcg@10/valid": goal})
    first = next((n for n, value in enumerate(values, 1) if value >= goal), None)
    best = row["best"]["ndcg@10/valid"]
    assert row["to_target"]["ndcg@10/valid"]["rounds"] == first
    assert best == {"value": max(values), "round": values.index(max(values)) + 1}
    assert (first is None) == (best["value"] < goal)


def test_what_was_not_measured_is_none_and_never_zero(tmp_path: Path) -> None:
    path = run_of(tmp_path / "a", {"ndcg@10/valid": 0.1})
    empty = run_of(tmp_path / "empty")
    rows = compare([path, empty], {"ndcg@10": 0.1})
    assert [(r["bytes_up"], r["bytes_down"], r["seconds"]) for r in rows] == [(None,) * 3] * 2
    assert rows[0]["to_target"]["ndcg@10/valid"] == {
        "target": 0.1, "rounds": 1, "bytes": None, "seconds": None,
    }  # fmt: skip
    assert rows[1]["rounds"] == 0 and rows[1]["best"] == {}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"plan": {**PLAN, "task": "rating"}}, "tasks"),
        ({"plan": {**PLAN, "eval_clients": 500}}, "eval_clients"),
        ({"plan": {**PLAN, "test_clients": 0.1}}, "test_clients"),
        ({"dataset_id": "2"}, "Datasets"),
        ({"plan": {**PLAN, "rounds": 9, "lr": 0.3}, "seed": 4}, ""),
    ],
)
def test_runs_whose_numbers_cannot_be_compared_are_known(
    changed: dict[str, Any], words: str, tmp_path: Path
) -> None:
    one = run_of(tmp_path / "one", cost(0.01, 0.9))
    other = Run.create(tmp_path / "other", {"dataset_id": "1", "plan": PLAN, "seed": 3, **changed})
    found = unlike(compare([one, other.path]))
    assert len(found) == bool(words) and all(words in what for what in found)
    assert unlike(compare([one, one])) == []
    assert all(words in UNLIKE.values() for words in found)


def test_runs_of_one_name_are_told_by_their_places(tmp_path: Path) -> None:
    places = [run_of(tmp_path / name / "run", cost(0.01, 0.9)) for name in "ab"]
    other = run_of(tmp_path / "other", cost(0.01, 0.9))
    assert [row["run"] for row in compare([*places, other])] == [*map(str, places), "other"]


def test_only_the_files_are_read(tmp_path: Path) -> None:
    path = run_of(tmp_path / "a", cost(0.01, 0.9))
    before = compare([path])
    names = {"manifest.json", ROUNDS, TIMINGS}
    assert {p.name for p in path.iterdir()} == names
    (tmp_path / "copy").mkdir()
    for name in names:
        (tmp_path / "copy" / name).write_bytes((path / name).read_bytes())
    assert compare([tmp_path / "copy"])[0] == {**before[0], "path": str(tmp_path / "copy")}


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("ndgc@10", "no Run has measured 'ndgc@10'.*\n.*\n.*did you mean 'ndcg@10/valid'"),
        ("clients", "neither more nor less is better of 'clients'"),
    ],
)
def test_a_target_that_cannot_be_reached_by_anyone_is_refused(
    tmp_path: Path, target: str, message: str
) -> None:
    path = run_of(tmp_path / "a", cost(0.01, 0.9))
    with pytest.raises(TrainingError, match=message):
        compare([path], {target: 1.0})


@pytest.mark.parametrize(
    ("metric", "way"),
    [("ndcg@10/valid", "higher"), ("accuracy/class_0/valid", "higher"), ("loss/train", "lower"),
     ("rmse/test", "lower"), ("accuracy/majority", "neither"), ("lr", "neither"),
     ("loss/train/nonfinite", "neither"), ("grad_norm/p99", "neither")],
)  # fmt: skip
def test_measures_have_the_direction_that_a_reader_expects(metric: str, way: str) -> None:
    assert better(metric) == way
