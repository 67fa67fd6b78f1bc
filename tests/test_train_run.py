"""The Run directory: made whole or not at all, measures that are never lost, one trainer at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedeval.runs import dataset_of_run
from fedeval.systems import read_system
from fedprep.errors import OutputError, TrainingError
from fedtrain.run import RECOMMENDATIONS, Run
from fedtrain.run.rounds import EVENTS, ROUNDS, TIMINGS, append, cut, n_lines, read_values

FACTS: dict[str, Any] = {"dataset_id": "ab" * 32, "plan": {"lr": 0.1}, "seed": 3}
same_folder = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_new_run_says_what_it_is_and_opens_again(tmp_path: Path) -> None:
    made = Run.create(tmp_path / "runs" / "first", FACTS)
    found = Run.open(made.path)
    assert found.manifest == made.manifest
    assert (found.name, found.manifest["status"], found.manifest["rounds_done"]) == (
        "first",
        "running",
        0,
    )
    assert {"python", "fedprep"} <= set(found.manifest["versions"])
    assert "fedprep" in found.manifest["versions"] and found.rounds().is_empty()
    assert dataset_of_run(made.path) == FACTS["dataset_id"]
    assert repr(found) == "<Run first: 0 rounds, running>"


def test_an_empty_folder_is_room_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert Run.create(tmp_path / "run", FACTS).path == tmp_path / "run"


def test_a_run_is_replaced_only_by_force(tmp_path: Path) -> None:
    old = Run.create(tmp_path / "run", FACTS)
    old.log(1, {"loss/train": 1.0})
    with pytest.raises(TrainingError, match="Run is there already") as error:
        Run.create(tmp_path / "run", {**FACTS, "seed": 4})
    assert "--resume" in error.value.hint
    assert Run.open(tmp_path / "run").rounds().height == 1
    new = Run.create(tmp_path / "run", {**FACTS, "seed": 4}, force=True)
    assert (new.rounds().height, Run.open(new.path).manifest["seed"]) == (0, 4)


def other_folder(path: Path) -> None:
    path.mkdir()
    (path / "thesis.txt").write_text("years of work")


def a_dataset(path: Path) -> None:
    path.mkdir()
    (path / "manifest.json").write_text('{"format": 1, "id": "1", "tables": {}}')


def a_file(path: Path) -> None:
    path.write_text("years of work")


@pytest.mark.parametrize("write", [other_folder, a_dataset, a_file])
@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_run_is_never_replaced(
    tmp_path: Path, write: Callable[[Path], None], force: bool
) -> None:
    write(tmp_path / "there")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(TrainingError, match="no Run: it is not replaced"):
        Run.create(tmp_path / "there", FACTS, force=force)
    assert {p: p.read_bytes() for p in before} == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "it has no manifest.json"),
        ('{"format": 1, "dat', "cannot be read"),
        ("[1]", "cannot be read"),
        ('{"format": 1, "id": "1", "tables": {}}', "this is a Dataset"),
        (
            json.dumps({**FACTS, "format": 2, "status": "running", "rounds_done": 0}),
            "the Run has format 2",
        ),
        (
            json.dumps({**FACTS, "format": 1, "status": "running", "rounds_done": "two"}),
            "rounds_done",
        ),
        (
            json.dumps({**FACTS, "format": 1, "status": "running", "rounds_done": 2, "plan": []}),
            "plan",
        ),
    ],
)
def test_opening_what_is_no_run_says_why(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(TrainingError, match=message):
        Run.open(tmp_path)
    with pytest.raises(TrainingError, match="no such folder"):
        Run.open(tmp_path / "nowhere")


def test_what_changes_in_a_manifest_is_on_disk(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", FACTS)
    run.update(rounds_done=7, seconds=1.5)
    run.update(status="finished")
    found = Run.open(run.path).manifest
    assert (found["rounds_done"], found["seconds"], found["status"]) == (7, 1.5, "finished")
    assert found["dataset_id"] == FACTS["dataset_id"]


# --- what is logged ------------------------------------------------------------------------------------


def test_measures_times_and_texts_go_to_the_files_that_they_belong_to(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", FACTS)
    values = {"loss/train": 0.25, "bytes/up": np.int64(2**53 + 1), "seconds/train": 1.5}
    run.log(1, {**values, "cpu_seconds": 3, "guard": "NaN in mf.item"})
    run.event(2, "rollback", client=17, tensor="item")
    assert (run.path / ROUNDS).read_text() == (
        '{"round": 1, "metric": "loss/train", "value": 0.25}\n'
        '{"round": 1, "metric": "bytes/up", "value": 9007199254740993}\n'
    )
    assert [line["metric"] for line in lines_of(run.path / TIMINGS)] == [
        "seconds/train",
        "cpu_seconds",
    ]
    assert run.events() == [
        {"round": 1, "event": "guard", "text": "NaN in mf.item"},
        {"round": 2, "event": "rollback", "client": 17, "tensor": "item"},
    ]
    found = run.rounds()
    assert found.schema == pl.Schema({"round": pl.Int32, "metric": pl.String, "value": pl.Float64})
    assert set(found["metric"]) == {"loss/train", "bytes/up", "seconds/train", "cpu_seconds"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float32("nan")])
def test_a_value_that_is_not_finite_leaves_a_line_that_any_reader_takes(
    tmp_path: Path, value: float
) -> None:
    run = Run.create(tmp_path / "run", FACTS)
    run.log(4, {"loss/train": value})
    assert lines_of(run.path / ROUNDS) == [
        {"round": 4, "metric": "loss/train/nonfinite", "value": 1}
    ]


def test_fedeval_reads_the_rounds_of_a_run(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {**FACTS, "negative_pool": "train"})
    run.log(1, {"ndcg@10/valid": 0.04, "clients": 12, "loss/train": float("nan"), "seconds": 9.0})
    with (run.path / ROUNDS).open("a") as file:
        file.write('{"round": 2, "met')
    lists = pl.DataFrame({"user_id": [0], "item_id": [1], "rank": [1], "score": [0.5]})
    lists.write_parquet(run.path / RECOMMENDATIONS)
    setting: Any = SimpleNamespace(dataset=None, candidates=None)
    system = read_system("mf", run.path, setting)
    assert system.negative_pool == "train"
    assert system.rounds == [
        {"round": 1, "metric": "ndcg@10/valid", "value": 0.04},
        {"round": 1, "metric": "clients", "value": 12.0},
        {"round": 1, "metric": "loss/train/nonfinite", "value": 1.0},
    ]


@same_folder
@given(
    rows=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=6),
    share=st.floats(0, 1),
)
def test_a_file_cut_anywhere_reads_as_its_whole_lines_and_is_mended_by_the_next_write(
    tmp_path: Path, rows: list[float], share: float
) -> None:
    path = tmp_path / ROUNDS
    path.unlink(missing_ok=True)
    append(path, [{"round": 1, "metric": f"m{n}", "value": v} for n, v in enumerate(rows)])
    assert read_values(path)["value"].to_list() == rows
    whole = path.read_bytes()
    torn = whole[: int(share * len(whole))]
    path.write_bytes(torn)
    n_whole = torn.count(b"\n")
    assert read_values(path)["value"].to_list() == rows[:n_whole]
    append(path, [{"round": 2, "metric": "later", "value": 1}])
    assert read_values(path)["value"].to_list() == [*rows[:n_whole], 1.0]
    assert path.read_bytes().startswith(whole[: whole[: len(torn)].rfind(b"\n") + 1])


def test_the_lines_of_a_round_are_one_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks: list[bytes] = []

    class Counted:
        def __init__(self, *given: Any, **more: Any) -> None:
            pass

        def __enter__(self) -> Counted:
            return self

        def __exit__(self, *given: object) -> None:
            pass

        def seek(self, *given: int) -> int:
            return 0

        def write(self, block: bytes) -> int:
            blocks.append(block)
            return len(block)

    monkeypatch.setattr(Path, "open", Counted)
    append(tmp_path / ROUNDS, [{"round": 1, "metric": str(n), "value": n} for n in range(30)])
    assert len(blocks) == 1 and blocks[0].count(b"\n") == 30


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    (tmp_path / ROUNDS).symlink_to("/dev/full")
    with pytest.raises(OutputError, match="measures cannot be written: No space left"):
        append(tmp_path / ROUNDS, [{"round": 1, "metric": "m", "value": 1}])


@pytest.mark.parametrize(
    "line",
    ["{", "[1]", "", '{"round": 1, "metric": "m"}', '{"round": "1", "metric": "m", "value": 1}',
     '{"round": 1, "metric": "m", "value": null}'],
)  # fmt: skip
def test_a_line_that_is_no_measure_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / ROUNDS
    good = '{"round": 1, "metric": "m", "value": 1}\n'
    path.write_text(good + line + "\n" + good)
    with pytest.raises(TrainingError) as error:
        read_values(path)
    assert error.value.where == f"{path}:2"


def test_a_log_is_cut_to_its_first_lines_and_never_made_longer(tmp_path: Path) -> None:
    path = tmp_path / ROUNDS
    append(path, [{"round": n, "metric": "m", "value": n} for n in range(5)])
    cut(path, 2)
    assert [row["round"] for row in lines_of(path)] == [0, 1]
    with pytest.raises(TrainingError, match="holds 2 lines, and held 3"):
        cut(path, 3)
    cut(path, 0)
    assert not path.exists() and n_lines(path) == 0
    cut(tmp_path / EVENTS, 0)


def test_a_cut_that_does_not_come_to_its_end_leaves_the_log_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ROUNDS
    append(path, [{"round": n, "metric": "m", "value": n} for n in range(5)])
    before = path.read_bytes()

    def half(self: Path, block: bytes) -> int:
        with self.open("wb") as file:
            file.write(block[:3])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(KeyboardInterrupt):
        cut(path, 2)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


# --- who may write -------------------------------------------------------------------------------------


def test_one_process_at_a_time_trains_in_a_run(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", FACTS)
    with run.lock():
        with (
            pytest.raises(TrainingError, match="another process is training"),
            Run.open(run.path).lock(),
        ):
            pass
        with pytest.raises(TrainingError, match="another process is training"):
            Run.create(run.path, FACTS, force=True)
        assert Run.open(run.path).manifest == run.manifest
    with Run.open(run.path).lock():
        pass


def test_the_lock_sees_what_was_written_since_and_clears_what_a_kill_left(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", FACTS)
    Run.open(run.path).update(rounds_done=5)
    (run.path / "checkpoint").mkdir()
    stale = [run.path / "manifest.json.1.tmp", run.path / "checkpoint" / "last.safetensors.1.tmp"]
    for path in stale:
        path.write_text("half")
    with run.lock():
        assert run.manifest["rounds_done"] == 5
        assert not any(path.exists() for path in stale)
