"""The rounds of a run: on disk as they happen, broken off anywhere, and gone on with to the same bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from built import write_built

from fedprep.dataset import Dataset
from fedprep.errors import TrainingError
from fedtrain.cli import main
from fedtrain.measures import lists_of_all
from fedtrain.privacy import epsilon
from fedtrain.run import Run, load, read_tensors
from fedtrain.settings import parse_plan
from fedtrain.setup import begin, work_of
from fedtrain.state import tensors_of
from fedtrain.train import train

ROOT = Path(__file__).parent.parent
PLAN = {
    "algorithm": "fedper",
    "model": "two_tower",
    "task": "binary",
    "rounds": 5,
    "clients_per_round": 8,
    "eval_every": 2,
    "threads": 1,
    "two_tower": {"dim": 8, "hidden": 8, "item_id": True, "user_id": True, "dropout": 0.2},
    "faults": {"dropout": 0.2},
}
OPTIONS = [
    part
    for key, value in PLAN.items()
    for part in (
        [
            word
            for inner, number in value.items()
            for word in ("--set", f"{key}.{inner}={json.dumps(number)}")
        ]
        if isinstance(value, dict)
        else ("--set", f"{key}={json.dumps(value)}")
    )
]
SAME = (
    "rounds.jsonl", "events.jsonl", "model.safetensors", "recommendations.parquet",
    "checkpoint/last.safetensors",
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_built(tmp_path_factory.mktemp("loop") / "data")


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "plain"
    assert run("run", data, "--out", path, *OPTIONS) == 0
    return path


def run(*arguments: str | Path) -> int:
    """Runs a command line and returns its exit code."""
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return int(exit_.value.code or 0)


def assert_same_bytes(one: Path, other: Path) -> None:
    for name in SAME:
        assert (one / name).exists() == (other / name).exists(), name
        if (one / name).exists():
            assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert not list(one.rglob("*.tmp"))


KILLED = """
import os, signal, sys
import fedtrain.rounds, fedtrain.trainer
where, number, arguments = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
if where == "in the round":
    original = fedtrain.rounds.sent_by
    def sent_by(work, server, *rest):
        if server.round_number == number:
            die()
        return original(work, server, *rest)
    fedtrain.rounds.sent_by = sent_by
else:
    original = fedtrain.trainer.save
    def save(run, round, *rest, **more):
        if round == number:
            with (run.path / "rounds.jsonl").open("a") as file:
                file.write('{"round": 9, "met')
            die()
        return original(run, round, *rest, **more)
    fedtrain.trainer.save = save
from fedtrain.cli import main
from fedtrain.measures import lists_of_all
from fedtrain.privacy import epsilon
main(arguments)
"""


@pytest.mark.parametrize(
    ("where", "number"),
    [
        ("in the round", 3),
        pytest.param("before the checkpoint", 4, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_killed_goes_on_to_the_same_bytes(
    where: str,
    number: int,
    data: Path,
    undisturbed: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    arguments = ["run", str(data), "--out", str(out), *OPTIONS]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, where, str(number), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    found = Run.open(out)
    assert (found.manifest["status"], found.manifest["rounds_done"]) == ("running", number - 1)
    logged = found.rounds()["round"].max()
    assert logged == (number - 1 if where == "in the round" else number)
    assert run(*arguments) == 2
    assert "--resume continues it" in capsys.readouterr().err
    assert run(*arguments, "--resume") == 0
    assert_same_bytes(out, undisturbed)


def test_a_run_killed_before_its_first_checkpoint_begins_again(
    data: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """Another `checkpoint_every` changes no number: only the last checkpoint counts."""
    out = tmp_path / "run"

    class Killed(BaseException):
        pass

    def told(number: int, values: Mapping[str, float]) -> None:
        if number == 2:
            raise Killed

    dataset = Dataset.open(data)
    with pytest.raises(Killed):
        train(dataset, parse_plan({**PLAN, "checkpoint_every": 5}), out, report=told)
    assert load(Run.open(out)) is None
    train(dataset, parse_plan(PLAN), out, go_on=True)
    assert_same_bytes(out, undisturbed)


def test_ctrl_c_finishes_the_round_and_saves_and_resume_goes_on_to_the_same_bytes(
    data: Path,
    undisturbed: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import fedtrain.rounds

    original = fedtrain.rounds.sent_by
    pressed: list[int] = []

    def sent_by(work: Any, server: Any, *rest: Any) -> Any:
        if server.round_number == 2 and not pressed:
            pressed.append(2)
            os.kill(os.getpid(), signal.SIGINT)
        return original(work, server, *rest)

    monkeypatch.setattr(fedtrain.rounds, "sent_by", sent_by)
    out = tmp_path / "run"
    before = signal.getsignal(signal.SIGINT)
    assert run("run", data, "--out", out, *OPTIONS) == 130
    told = capsys.readouterr().err
    assert "stopping after this round" in told and "stopped after round 2" in told
    assert signal.getsignal(signal.SIGINT) == before
    found = Run.open(out)
    assert (found.manifest["status"], found.manifest["rounds_done"]) == ("stopped", 2)
    assert not (out / "model.safetensors").exists()
    assert run("run", data, "--out", out, *OPTIONS, "--resume") == 0
    assert_same_bytes(out, undisturbed)


def test_what_a_round_measured_is_on_disk_when_it_is_told(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    seen: list[int] = []

    def told(number: int, values: Mapping[str, float]) -> None:
        there = Run.open(out).rounds().filter(round=number)
        on_disk = dict(zip(there["metric"], there["value"], strict=True))
        assert {name: on_disk.get(name) for name in values} == pytest.approx(dict(values))
        seen.append(number)

    train(Dataset.open(data), parse_plan({**PLAN, "rounds": 3}), out, report=told)
    assert seen == [1, 2, 3, 3]  # once more for test
    rounds = Run.open(out).rounds()
    for name in ("loss/train", "loss/valid", "accuracy/valid", "grad_norm/p99", "seconds", "lr"):
        assert rounds.filter(metric=name)["round"].to_list() == [1, 2, 3], name
    assert rounds.filter(metric="ndcg@10/valid")["round"].to_list() == [2, 3]
    assert rounds.filter(metric="ndcg@10/test")["round"].to_list() == [3]


def ended(data: Path, out: Path, **changed: Any) -> Run:
    return train(Dataset.open(data), parse_plan({**PLAN, **changed}), out)


def test_the_best_round_is_kept_and_is_what_the_run_gives(data: Path, tmp_path: Path) -> None:
    """The learning rate stays: the first round is the best, and patience ends after two more."""
    stop = {"metric": "lr", "patience": 2}
    found = ended(data, tmp_path / "run", stop=stop, rounds=9)
    assert found.manifest["rounds_done"] == 3
    events = {event["event"]: event for event in found.events()}
    assert "lr is no better" in events["stopped early"]["reason"]
    assert events["best"]["best_round"] == 1
    best = load(found, "best")
    assert best is not None and best[0] == 1
    model, _ = read_tensors(found.path / "model.safetensors")
    held = {n.removeprefix("value/") for n in best[1] if n.startswith("value/")}
    assert model.keys() == held - set(found.manifest["personal"])
    assert all(torch.equal(value, best[1][f"value/{name}"]) for name, value in model.items())
    last = load(found)
    assert last is not None and last[0] == 3
    assert any(not torch.equal(value, last[1][f"value/{name}"]) for name, value in model.items())


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory")])
def test_no_memory_while_measuring_is_said_and_the_last_round_stays(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def ranking(*given: Any) -> Any:
        raise error

    monkeypatch.setattr("fedtrain.trainer.ranking", ranking)
    with pytest.raises(TrainingError, match="no memory for what is measured") as caught:
        ended(data, tmp_path / "run")
    assert "eval_clients" in str(caught.value)
    assert Run.open(tmp_path / "run").manifest["status"] == "failed"


@pytest.mark.parametrize(
    ("plan", "done"),
    [
        ({"stop": {"metric": "ndgc@10/valid"}}, 2),
        ({"schedule": "plateau", "schedule_metric": "ndgc@10/valid"}, 2),
        ({"stop": {"metric": "ndgc@10/valid"}, "rounds": 1}, 1),
    ],
    ids=["stop", "schedule", "ranked at the end alone"],
)
def test_a_metric_that_nothing_measures_ends_a_run_with_the_first_that_is_ranked(
    plan: dict[str, Any], done: int, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match="records no metric 'ndgc@10/valid'") as error:
        ended(data, tmp_path / "run", **plan)
    assert error.value.hint.startswith("did you mean 'ndcg@10/valid'")
    assert Run.open(tmp_path / "run").rounds()["round"].max() == done


@pytest.mark.parametrize(("per_round", "rate"), [(3, 3 / 9), (0, 1.0)])
def test_each_round_with_noise_says_what_it_has_cost_at_the_rate_of_those_that_may_train(
    per_round: int, rate: float, data: Path, tmp_path: Path
) -> None:
    """A quarter of the 12 clients never trains."""
    pytest.importorskip("opacus", reason="opacus is not installed")
    found = train(
        Dataset.open(data),
        parse_plan(
            {
                "task": "binary", "rounds": 3, "clients_per_round": per_round, "threads": 1,
                "weights": "uniform", "item_mean": "cohort", "valid_clients": 0.25,
                "privacy": {"clip": 1.0, "noise_multiplier": 2.0, "delta": 1e-3},
            }
        ),
        tmp_path / "run",
    )  # fmt: skip
    told = found.rounds().filter(metric="epsilon").sort("round")
    assert told["round"].to_list() == [1, 2, 3]
    expected = [epsilon(number, rate, 2.0, 1e-3, "rdp") for number in (1, 2, 3)]
    assert told["value"].to_list() == pytest.approx(expected)
    assert expected[0] < expected[1] < expected[2]


def test_an_error_of_our_own_is_not_taken_for_a_lack_of_memory(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: Any, **rest: Any) -> Any:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr("fedtrain.rounds.train_chunk", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        ended(data, tmp_path / "run")


def test_a_state_is_the_same_after_it_was_written_and_read(data: Path, undisturbed: Path) -> None:
    from fedtrain.setup import begin, work_of
    from fedtrain.state import restored

    saved = load(Run.open(undisturbed))
    assert saved is not None
    work = work_of(Dataset.open(data), parse_plan(PLAN), 0)
    _, clients = begin(work)
    server = restored(saved[0], saved[1], clients, work.device)
    again = tensors_of(server, clients)
    assert again.keys() == saved[1].keys()
    assert all(torch.equal(again[name], value) for name, value in saved[1].items())
    assert any(name.startswith("client/") for name in again)


def test_a_part_of_valid_may_be_ranked_and_all_of_test_is(data: Path, tmp_path: Path) -> None:
    assert run("run", data, "--out", tmp_path / "run", *OPTIONS, "--set", "eval_clients=3") == 0
    test = pl.read_parquet(tmp_path / "run" / "recommendations.parquet")["user_id"].n_unique()
    assert test == Dataset.open(data).interactions("test").collect()["user_id"].n_unique() > 3


def test_where_nothing_is_held_out_for_test_everybody_is_recommended_something(
    data: Path, tmp_path: Path
) -> None:
    dataset = Dataset.open(data)
    plan = parse_plan({"rounds": 1, "clients_per_round": 0, "lr": 1.0, "threads": 1})
    work = work_of(dataset, plan, 0)
    server, clients = begin(work)
    lists = lists_of_all(work, server, clients, dataset)
    rows = dataset.interactions().collect()
    assert set(lists["user_id"]) == set(rows["user_id"])
    seen = rows.filter(pl.col("split") != "test").select("user_id", "item_id")
    assert lists.join(seen, on=["user_id", "item_id"], how="semi").is_empty()


@pytest.mark.parametrize(
    ("model", "task"), [("mf", "implicit"), ("two_tower", "rating"), ("mult_vae", "implicit")]
)
def test_keys_that_are_free_change_nothing_that_is_learned(
    data: Path, tmp_path: Path, model: str, task: str
) -> None:
    table = {"model": model, "task": task, "rounds": 2, "optimizer": "adam", "eval_every": 2}
    found = {}
    for name, keys in {
        "plain": {"threads": 1},
        "free": {"threads": 2, "checkpoint_every": 2, "eval_every": 1, "device": "cpu"},
        "chunks": {"threads": 1, "chunk_rows": 50},
    }.items():
        run = train(Dataset.open(data), parse_plan({**table, **keys}), tmp_path / name)
        found[name] = run.path / "model.safetensors"
    torch.set_num_threads(1)
    assert found["free"].read_bytes() == found["plain"].read_bytes()
    one, other = (read_tensors(found[name])[0] for name in ("plain", "chunks"))
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-4)
