"""A Run that another program changed is refused, or goes on from what is whole; it is never half changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from built import write_built

from fedprep.dataset import Dataset
from fedprep.errors import FedprepError, TrainingError
from fedtrain.candidates import rank_candidates
from fedtrain.compare import compare
from fedtrain.recommend import recommend
from fedtrain.run import Run, read_tensors, write_tensors
from fedtrain.settings import parse_plan
from fedtrain.train import train

PLAN: dict[str, Any] = {
    "model": "mf", "task": "implicit", "algorithm": "scaffold", "rounds": 2, "threads": 1, "lr": 0.1,
    "clients_per_round": 4, "server_optimizer": "adam",
    "momentum": 0.5,  # nothing reads it: an event says so before the first round
}  # fmt: skip
LAST = "checkpoint/last.safetensors"
DEEP = "[" * 100_000 + "]" * 100_000

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_built(tmp_path_factory.mktemp("damaged") / "data")


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    return train(Dataset.open(data), parse_plan(PLAN), path).path


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def contents(run: Path) -> dict[str, bytes]:
    return {
        p.relative_to(run).as_posix(): p.read_bytes()
        for p in sorted(run.rglob("*"))
        if p.is_file() and p.name != ".lock"
    }


def go_on(data: Path, run: Path, rounds: int = 4) -> Run:
    return train(Dataset.open(data), parse_plan({**PLAN, "rounds": rounds}), run, go_on=True)


def refused(data: Path, run: Path, *, unread: bool = False) -> None:
    """Going on is refused and changes no byte; so is what reads the state, unless the damage is not read."""
    before = contents(run)
    with pytest.raises(TrainingError):
        go_on(data, run)
    assert contents(run) == before
    if not unread:
        with pytest.raises(FedprepError):
            recommend(run, 1, data=data)
        with pytest.raises(FedprepError):
            rank_candidates(run, "uniform:9", data=data)
    assert contents(run) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["plan"].update(rounds="x"),
        lambda m: m["plan"].update(rounds=-1),
        lambda m: m["plan"].update(stop=7),
        lambda m: m.update(seconds="x"),
        lambda m: m.update(seconds=-1.0),
        lambda m: m.update(dataset=7),
        lambda m: m["dataset"].pop("path"),
        lambda m: m.update(seed=1.5),
        lambda m: m.update(seed=2**70),
        lambda m: m.update(status="done"),
        lambda m: m.update(rounds_done="two"),
        lambda m: m.update(earlier_ends=[{"rounds": 1}]),
        lambda m: m.update(format=True),
        lambda m: m.update(recipe=[]),
        lambda m: m.pop("plan"),
    ],
)
def test_a_value_of_another_kind_in_the_manifest_is_refused_by_all_who_read_it(
    change: Callable[[Any], Any], data: Path, run: Path
) -> None:
    path = run / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    refused(data, run)
    with pytest.raises(TrainingError) as error:
        compare([run])
    assert str(path) in error.value.where


@pytest.mark.parametrize(
    "text", [DEEP, "[]", "null", '{"format": NaN}', '{"a": 1, "a": 2}', "\ufeff{}", "{"]
)
def test_a_manifest_that_is_none_is_refused_and_not_even_replaced(
    text: str, data: Path, run: Path
) -> None:
    (run / "manifest.json").write_text(text)
    refused(data, run)
    with pytest.raises(FedprepError):
        train(Dataset.open(data), parse_plan(PLAN), run, force=True)
    assert (run / "manifest.json").read_text() == text


@pytest.mark.parametrize("name", ["rounds.jsonl", "timings.jsonl", "events.jsonl"])
@pytest.mark.parametrize(
    "line",
    [
        DEEP, "[1]", "{}", "hello", '{"round": "x", "metric": "a", "value": 1}', '{"round": 1, "event": 5}',
        '{"round": 1, "metric": "a", "value": 1e999}', '{"round": -1, "metric": "a", "value": 1.0}',
        '{"round": 1.5, "event": "a"}',
    ],
)  # fmt: skip
def test_a_line_that_is_none_is_refused_where_it_was_written_before_the_checkpoint(
    name: str, line: str, data: Path, run: Path
) -> None:
    lines = (run / name).read_text().splitlines()
    (run / name).write_text("\n".join([line, *lines[1:]]) + "\n")
    refused(data, run, unread=True)


@pytest.mark.parametrize("name", ["rounds.jsonl", "events.jsonl"])
def test_a_line_behind_the_checkpoint_is_taken_away_and_the_run_goes_on(
    name: str, data: Path, trained: Path, run: Path
) -> None:
    path = run / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "status": "stopped"}))
    with (run / name).open("a") as file:
        file.write(DEEP + "\n")
    done = go_on(data, run, rounds=2)
    assert done.manifest["status"] == "finished"
    assert (run / "rounds.jsonl").read_bytes() == (trained / "rounds.jsonl").read_bytes()


def shared(tensors: Tensors, start: str) -> str:
    return next(name for name in sorted(tensors) if name.startswith(start))


def without(start: str) -> Callable[[Tensors], Any]:
    return lambda tensors: tensors.pop(shared(tensors, start))


def as_other(
    start: str, change: Callable[[torch.Tensor], torch.Tensor]
) -> Callable[[Tensors], Any]:
    def changed(tensors: Tensors) -> None:
        name = shared(tensors, start)
        tensors[name] = change(tensors[name])

    return changed


@pytest.mark.parametrize(
    "change",
    [
        without("value/"),
        without("client/users/"),
        without("extra/second/"),
        lambda tensors: tensors.clear(),
        lambda tensors: tensors.update({"x": torch.ones(3)}),
        lambda tensors: tensors.update({"value/x": torch.ones(3)}),
        lambda tensors: tensors.update({"client/rows/x:client": torch.ones(3)}),
        as_other("value/", lambda t: t[:1].clone()),
        as_other("value/item_f", lambda t: t.reshape(-1)),
        as_other("value/", lambda t: t.double()),
        as_other("client/users/", lambda t: t[:-1].clone()),
        as_other("extra/first/", lambda t: t.T.clone() if t.dim() > 1 else t[:1].clone()),
        as_other("extra/first/", lambda t: t.to(torch.int64)),
    ],
)
def test_a_checkpoint_of_other_tensors_is_refused_though_its_digest_is_right(
    change: Callable[[Tensors], Any], data: Path, run: Path
) -> None:
    tensors, header = read_tensors(run / LAST)
    change(tensors)
    write_tensors(run / LAST, tensors, header)
    refused(data, run)


@pytest.mark.parametrize(
    "change",
    [
        {"round": "x"}, {"round": -1}, {"round": 2**40}, {"state": 7}, {"state": {"lr_scale": "x"}},
        {"state": {"strange": 1}}, {"state": {"rollbacks": -1}}, {"lines": []},
        {"lines": {"rounds.jsonl": "x"}},
        {"lines": {"rounds.jsonl": 10**6}}, {"format": None}, {"format": 2},
    ],
)  # fmt: skip
def test_a_checkpoint_whose_header_says_what_it_cannot_is_refused(
    change: dict[str, Any], data: Path, run: Path
) -> None:
    tensors, header = read_tensors(run / LAST)
    write_tensors(run / LAST, tensors, {**header, **change})
    refused(data, run, unread="state" in change or "lines" in change)


def test_a_checkpoint_that_is_cut_or_another_file_is_refused(data: Path, run: Path) -> None:
    block = (run / LAST).read_bytes()
    for damaged in (b"", b"hello", block[:100], block[:-5], b"\xff" * 200, block[:8] + block[9:]):
        (run / LAST).write_bytes(damaged)
        refused(data, run)


def test_a_run_that_nobody_touched_goes_on(data: Path, run: Path) -> None:
    assert go_on(data, run).manifest["rounds_done"] == 4
