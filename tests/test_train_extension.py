"""A Run that goes on to another end than it was to have: the bytes of one that had it from the beginning."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from built import write_built

from fedprep.dataset import Dataset
from fedprep.errors import FedprepError, OutputError
from fedtrain.cli import main
from fedtrain.extension import BEFORE, length_keys
from fedtrain.recommend import recommend
from fedtrain.run import Run, load, read_tensors
from fedtrain.settings import parse_plan
from fedtrain.train import train

NDCG = "ndcg@10/valid"
PLAN = {
    "algorithm": "fedper",
    "model": "two_tower",
    "task": "binary",
    "rounds": 4,
    "clients_per_round": 6,
    "eval_every": 2,
    "threads": 1,
    "two_tower": {"dim": 4, "hidden": 4, "image": False, "user_id": True},
    "stop": {"metric": NDCG},
}
SAME = (
    "rounds.jsonl", "events.jsonl", "model.safetensors", "recommendations.parquet",
    "checkpoint/last.safetensors", "best/last.safetensors",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Nobody waits for the disk (a kill loses nothing that the system has), and no curve is drawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda number: None)
        patch.setattr("fedtrain.curves.has_curves", lambda rounds: False)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    torch.set_num_threads(1)
    return Dataset.open(write_built(tmp_path_factory.mktemp("longer") / "data"))


@pytest.fixture(scope="module")
def whole(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Run that was to have four rounds from the beginning."""
    return trained(data, tmp_path_factory.mktemp("runs") / "whole").path


@pytest.fixture(scope="module")
def three(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of three, whose last round was ranked out of turn."""
    return trained(data, tmp_path_factory.mktemp("runs") / "three", rounds=3).path


@pytest.fixture
def short(three: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(three, tmp_path / "run"))


def trained(data: Dataset, out: Path, **changed: Any) -> Run:
    rest = {key: changed.pop(key) for key in ("go_on", "report", "seed") if key in changed}
    if "asked" in changed:
        rest["stop"] = changed.pop("asked")
    return train(data, parse_plan({**PLAN, **changed}), out, **rest)


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def assert_same_bytes(one: Path, other: Path) -> None:
    for name in SAME:
        assert (one / name).exists() == (other / name).exists(), name
        if (one / name).exists():
            assert (one / name).read_bytes() == (other / name).read_bytes(), name


# --- to more rounds ------------------------------------------------------------------------------------


def test_a_finished_run_goes_on_to_the_bytes_of_a_longer_one(
    data: Dataset, whole: Path, short: Path
) -> None:
    there = Run.open(short).rounds()
    assert there.filter(metric=NDCG)["round"].to_list() == [2, 3]
    on_test = there.filter(metric="ndcg@10/test")["value"][0]
    found = trained(data, short, go_on=True)
    assert_same_bytes(short, whole)
    assert not (short / BEFORE).exists()
    manifest = found.manifest
    assert (manifest["status"], manifest["rounds_done"]) == ("finished", 4)
    assert manifest["plan"]["rounds"] == 4
    (end,) = manifest["earlier_ends"]
    assert end["rounds"] == 3 and end["measures"]["ndcg@10/test"] == on_test
    assert {p.name for p in short.iterdir()} - {".lock"} == {p.name for p in whole.iterdir()} - {
        ".lock"
    }


def test_what_was_made_of_the_run_as_it_was_is_named(
    data: Dataset, short: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (short / "among-uniform-99-test-0.parquet").write_bytes(b"")
    (short / "report").mkdir()
    trained(data, short, go_on=True)
    (told,) = [r.getMessage() for r in caplog.records if r.name == "fedtrain.extension"]
    assert told.endswith("as it was after 3 rounds: among-uniform-99-test-0.parquet, report")


def test_while_it_goes_on_what_it_gave_before_is_a_folder_that_reads_like_a_run(
    data: Dataset, short: Path
) -> None:
    given = {name: (short / name).read_bytes() for name in SAME if "/" not in name}

    class Killed(BaseException):
        pass

    def killed(number: int, values: Any) -> None:
        raise Killed

    with pytest.raises(Killed):
        trained(data, short, go_on=True, report=killed)
    assert {name: (short / BEFORE / name).read_bytes() for name in given} == given
    before = Run.open(short / BEFORE)
    assert (before.manifest["status"], before.manifest["rounds_done"]) == ("finished", 3)
    assert not (short / "recommendations.parquet").exists()
    assert not (short / "model.safetensors").exists()


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_any_point_of_it_nothing_is_lost_and_it_goes_on_to_the_same_bytes(
    every: int, data: Dataset, whole: Path, short: Path, tmp_path: Path
) -> None:
    """What is on disk before each change is what a kill there leaves behind."""
    given = {name: (short / name).read_bytes() for name in SAME[2:4]}
    left: list[Path] = []
    with before_each_change(short, left, tmp_path / "left"):
        trained(data, short, go_on=True)
    assert_same_bytes(short, whole)
    assert len(left) > 30
    for place in left[::every]:
        found = Run.open(place)
        where = place if found.manifest["status"] == "finished" else place / BEFORE
        if found.manifest["rounds_done"] == 3 and "model.safetensors" in content(where):
            assert {name: (where / name).read_bytes() for name in given} == given
        trained(data, place, go_on=True)
        assert_same_bytes(place, whole)
        assert Run.open(place).manifest["status"] == "finished"


@pytest.mark.parametrize("rounds", [1, 3])
def test_the_best_state_may_be_that_of_a_last_round_ranked_out_of_turn(
    rounds: int, data: Dataset, tmp_path: Path
) -> None:
    """It is the checkpoint's, and not kept as the best: a longer Run would not have measured it."""
    found = trained(data, tmp_path / "run", rounds=rounds, seed=2)
    values = found.rounds().filter(metric=NDCG)["value"].to_list()
    assert values[-1] == max(values)
    kept = load(found, "best")
    assert kept is None if rounds == 1 else kept is not None and kept[0] == 2
    (best,) = [event for event in found.events() if event["event"] == "best"]
    assert best["best_round"] == rounds
    told = recommend(found.path, 0, k=1)
    assert (told["state"], told["round"]) == ("best", rounds)
    last = load(found)
    model, _ = read_tensors(found.path / "model.safetensors")
    assert last is not None
    assert all(torch.equal(value, last[1][f"value/{name}"]) for name, value in model.items())


@contextmanager
def before_each_change(folder: Path, left: list[Path], to: Path) -> Iterator[None]:
    """Copies a folder, inside, whenever one of its files is about to be opened, renamed or removed."""
    last: dict[str, bytes] = {}
    watching = True

    def note(event: str, arguments: Any) -> None:
        nonlocal last, watching
        if not watching or event not in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"):
            return
        if str(folder) not in str(arguments[0]):
            return
        watching = False  # what is copied is opened too
        now = content(folder)
        if now != last:
            left.append(to / str(len(left)))
            shutil.copytree(folder, left[-1])
        last, watching = now, True

    sys.addaudithook(note)  # for good: it is quiet from the end on
    try:
        yield
    finally:
        watching = False


# --- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"rounds": 2}, "3 rounds are done, and 2 are asked for"),
        ({"lr": 0.2}, "another plan: lr was 0.1, is 0.2"),
        ({"stop": {"metric": NDCG, "patience": 1}}, "would have ended"),
        ({"stop": {"metric": "loss/valid"}}, "another plan: stop.metric"),
    ],
)
def test_what_no_longer_run_would_have_done_is_refused_and_nothing_is_changed(
    changed: dict[str, Any], words: str, data: Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    # With min_delta every value after the first is idle, so patience would have ended it in round 2.
    stop = {"metric": NDCG, "min_delta": 1.0}
    trained(data, out, rounds=3, eval_every=1, stop=stop)
    before = content(out)
    changed = {"rounds": 4, "eval_every": 1, "stop": stop, **changed}
    if "patience" in changed["stop"]:
        changed["stop"] = {**stop, "patience": 1}
    with pytest.raises(FedprepError, match=words):
        trained(data, out, go_on=True, **changed)
    assert content(out) == before


@pytest.mark.parametrize(
    ("plan", "keys"),
    [
        ({"schedule": "cosine"}, ["schedule = cosine"]),
        ({"model": "mult_vae"}, ["mult_vae.annealing = 0.5"]),
        ({"model": "rating_vae", "task": "rating"}, ["rating_vae.annealing = 0.5"]),
        ({"model": "mult_vae", "mult_vae": {"annealing": 0.0}}, []),
        ({"schedule": "plateau", "warmup_rounds": 2}, []),
    ],
)
def test_keys_by_which_a_round_depends_on_how_many_there_are_are_known(
    plan: dict[str, Any], keys: list[str]
) -> None:
    assert length_keys(parse_plan(plan)) == keys


def test_where_each_round_depends_on_how_many_there_are_no_more_are_added(
    data: Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    trained(data, out, rounds=1, schedule="cosine")
    before = content(out)
    with pytest.raises(FedprepError, match="schedule = cosine each round depends") as caught:
        trained(data, out, rounds=2, schedule="cosine", go_on=True)
    assert "those done were of 1" in str(caught.value)
    assert content(out) == before


@pytest.mark.parametrize("how", ["gone", "damaged", "log"])
def test_a_checkpoint_that_has_gone_or_is_broken_is_refused_and_nothing_is_changed(
    how: str, data: Dataset, short: Path
) -> None:
    place = short / "checkpoint" / "last.safetensors"
    if how == "gone":
        place.unlink()
    elif how == "damaged":
        place.write_bytes(place.read_bytes()[:-1] + b"x")
    else:
        (short / "rounds.jsonl").write_text("")
    before = content(short)
    words = {"gone": "no checkpoint to go on from", "damaged": "damaged", "log": "held"}[how]
    with pytest.raises(FedprepError, match=words):
        trained(data, short, go_on=True)
    assert content(short) == before


def test_a_run_whose_first_checkpoint_found_no_room_begins_again(
    data: Dataset, three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round counts as done once what was due after it is on disk."""
    out = tmp_path / "run"

    def full(*given: Any, **rest: Any) -> None:
        raise OutputError("no space is left")

    with monkeypatch.context() as patch:
        patch.setattr("fedtrain.run.checkpoint.write_tensors", full)
        with pytest.raises(OutputError):
            trained(data, out, rounds=3)
    manifest = Run.open(out).manifest
    assert (manifest["status"], manifest["rounds_done"]) == ("failed", 0)
    trained(data, out, rounds=3, go_on=True)
    assert_same_bytes(out, three)


# --- to more patience, and to an earlier end -----------------------------------------------------------


def test_a_run_that_stopped_early_goes_on_with_more_patience_and_not_with_more_rounds(
    data: Dataset, tmp_path: Path
) -> None:
    def plan(patience: int, rounds: int = 4) -> dict[str, Any]:
        stop = {"metric": "lr", "patience": patience}  # it stays
        return {"rounds": rounds, "stop": stop}

    patient = trained(data, tmp_path / "patient", **plan(3))
    out = tmp_path / "run"
    found = trained(data, out, checkpoint_every=9, **plan(1))
    assert found.manifest["rounds_done"] == 2
    assert (load(found) or [0])[0] == 2
    before = content(out)
    with pytest.raises(FedprepError, match="stopped early, in round 2") as caught:
        trained(data, out, go_on=True, **plan(1, rounds=9))
    assert "stop.patience=2" in str(caught.value)
    assert content(out) == before
    again = trained(data, out, go_on=True, **plan(3))
    assert_same_bytes(out, patient.path)
    assert again.manifest["rounds_done"] == 4
    assert content(trained(data, out, go_on=True, **plan(3)).path) == content(out)


def test_a_run_killed_when_its_patience_had_ended_does_no_round_more(
    data: Dataset, tmp_path: Path
) -> None:
    stop = {"metric": "lr", "patience": 1}  # it stays
    patient = trained(data, tmp_path / "patient", stop=stop)
    out = tmp_path / "run"

    class Killed(BaseException):
        pass

    def killed(number: int, values: Any) -> None:
        if number == 2:
            raise Killed

    with pytest.raises(Killed):
        trained(data, out, stop=stop, report=killed)
    trained(data, out, stop=stop, go_on=True)
    assert_same_bytes(out, patient.path)


def test_an_interrupted_run_may_end_where_it_is(data: Dataset, three: Path, tmp_path: Path) -> None:
    """Asked to stop it saves its state, whatever the rounds from one checkpoint to the next."""
    out = tmp_path / "run"
    rounds = iter([False, False, True])
    found = trained(data, out, checkpoint_every=9, asked=lambda: next(rounds))
    assert (found.manifest["status"], found.manifest["rounds_done"]) == ("stopped", 3)
    assert (load(found) or [0])[0] == 3
    found = trained(data, out, rounds=3, go_on=True)
    assert found.manifest["status"] == "finished" and found.manifest["plan"]["rounds"] == 3
    assert_same_bytes(out, three)


# --- the command ---------------------------------------------------------------------------------------


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return int(exit_.value.code or 0)


def test_the_command_says_what_became_of_a_run(
    data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    options = ("--out", out, "--set", "threads=1", "--set", "eval_every=9")
    assert run("run", data.path, *options, "--rounds", "1") == 0
    assert run("run", data.path, *options, "--rounds", "2", "--resume", "--json") == 0
    told = capsys.readouterr()
    assert "was to have 1 rounds, and now 2" in told.err and "already" not in told.err
    assert json.loads(told.out[told.out.index("{\n") :])["rounds"] == 2
    assert run("run", data.path, *options, "--rounds", "1", "--resume") == 2
    assert "2 rounds are done, and 1 are asked for" in capsys.readouterr().err


@pytest.mark.parametrize("options", [(), ("--engine", "flower")])
def test_a_run_that_is_there_is_said_before_anything_slow_begins(
    options: tuple[str, ...],
    data: Dataset,
    short: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def slow(*given: Any, **rest: Any) -> Any:
        raise AssertionError("this takes seconds")

    monkeypatch.setattr("fedtrain.cli.make._judge", slow)
    monkeypatch.setattr("fedtrain.train.work_of", slow)
    assert run("run", data.path, "--out", short, *options) == 2
    assert "a Run is there already" in capsys.readouterr().err
    Run.open(short).update(status="stopped")
    with Run.open(short).lock():
        assert run("run", data.path, "--out", short, "--resume", *options) == 2
    assert "another process is training this Run" in capsys.readouterr().err
