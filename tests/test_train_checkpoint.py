"""Checkpoints: what is saved comes back, in the same bytes; a kill at any point loses nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedprep.errors import OutputError, TrainingError
from fedtrain.run import Run, load, read_tensors, refuse_other, resume, save, write_tensors
from fedtrain.run import checkpoint as module
from fedtrain.run.checkpoint import BEST, CHECKPOINT, FILE
from fedtrain.run.rounds import ROUNDS, TIMINGS, n_lines

PLAN = {"lr": 0.1, "threads": 2, "mf": {"dim": 32}, "stop": {"metric": ""}}
FACTS: dict[str, Any] = {"dataset_id": "ab" * 32, "plan": PLAN, "seed": 3}
DTYPES = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32,
    torch.uint8, torch.bool,
)  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", FACTS)


def tensors(shift: float = 0.0) -> dict[str, torch.Tensor]:
    return {"item": torch.arange(12.0).reshape(4, 3) + shift, "step": torch.tensor(7)}


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(
        ours[name].dtype == theirs[name].dtype
        and ours[name].shape == theirs[name].shape
        and torch.equal(ours[name], theirs[name])
        for name in ours
    )


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    shapes=st.lists(
        st.tuples(st.lists(st.integers(0, 4), max_size=3), st.sampled_from(DTYPES)), max_size=5
    ),
    seed=st.integers(0, 2**31),
)
def test_tensors_of_any_dtype_and_shape_come_back_and_their_order_changes_no_byte(
    tmp_path: Path, shapes: list[tuple[list[int], torch.dtype]], seed: int
) -> None:
    torch.manual_seed(seed)
    given = {
        f"t{n}.weight": (torch.randn(shape) * 3).to(dtype)
        for n, (shape, dtype) in enumerate(shapes)
    }
    write_tensors(tmp_path / "a", given, {"round": 3})
    write_tensors(tmp_path / "b", dict(reversed(given.items())), {"round": 3})
    found, header = read_tensors(tmp_path / "a")
    assert same(found, given) and header == {"round": 3}
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_file_of_tensors_may_be_read_by_whom_the_users_other_files_may(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    write_tensors(tmp_path / "model", tensors())
    assert (tmp_path / "model").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_views_and_tensors_under_two_names_are_saved_as_they_look(tmp_path: Path) -> None:
    table = torch.arange(12.0).reshape(4, 3).requires_grad_()
    given = {"row": table[1], "turned": table.T, "table": table, "again": table}
    write_tensors(tmp_path / "a", given)
    assert same(read_tensors(tmp_path / "a")[0], given)


def test_a_checkpoint_gives_back_round_tensors_and_state(run: Run) -> None:
    assert load(run) is None and resume(run) is None
    state = {"best": {"round": 4, "value": 0.1 + 0.2}, "history": [1, 2.5e-300, None, True, "é"]}
    save(run, 5, tensors(), state)
    found = load(run)
    assert found is not None and load(run, BEST) is None
    assert found[0] == 5 and same(found[1], tensors()) and found[2] == state
    save(run, 6, tensors(1), {})
    again = load(run)
    assert again is not None and again[0] == 6 and same(again[1], tensors(1))


def test_what_is_loaded_is_the_readers_own(run: Run) -> None:
    save(run, 1, tensors(), {})
    found = load(run)
    assert found is not None
    found[1]["item"].add_(1)
    again = load(run)
    assert again is not None and same(again[1], tensors())


def test_the_best_stays_while_later_rounds_are_saved(run: Run) -> None:
    save(run, 1, tensors(1), {}, keep_best=True)
    save(run, 2, tensors(2), {})
    best, last = load(run, BEST), load(run)
    assert best is not None and last is not None and (best[0], last[0]) == (1, 2)
    assert same(best[1], tensors(1)) and same(last[1], tensors(2))


def test_the_best_is_on_disk_before_the_checkpoint_that_counts_on_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(run, 1, tensors(1), {}, keep_best=True)
    write = module.write_tensors

    def only_best(path: Path, *given: Any) -> None:
        if path.parent.name == CHECKPOINT:
            raise KeyboardInterrupt
        write(path, *given)

    monkeypatch.setattr(module, "write_tensors", only_best)
    with pytest.raises(KeyboardInterrupt):
        save(run, 2, tensors(2), {}, keep_best=True)
    best, last = load(run, BEST), load(run)
    assert best is not None and last is not None and (best[0], last[0]) == (2, 1)


def test_going_on_cuts_off_what_was_logged_after_the_checkpoint_even_in_its_own_round(
    run: Run,
) -> None:
    run.log(1, {"loss/train": 1.0, "seconds": 0.5})
    save(run, 1, tensors(), {})
    before = {p.name: p.read_bytes() for p in run.path.glob("*.jsonl")}
    run.log(1, {"ndcg@10/test": 0.04, "seconds/test": 2.0, "note": "late"})
    run.log(2, {"loss/train": 0.5})
    with (run.path / ROUNDS).open("a") as file:
        file.write('{"rou')
    assert load(run) is not None and n_lines(run.path / ROUNDS) == 3
    run.update(status="failed", rounds_done=2)
    assert resume(run) is not None
    manifest = Run.open(run.path).manifest
    assert (manifest["status"], manifest["rounds_done"]) == ("running", 1)
    assert {p.name: p.read_bytes() for p in run.path.glob("*.jsonl")} == before


def test_going_on_without_a_checkpoint_starts_with_empty_logs(run: Run) -> None:
    run.log(1, {"loss/train": 1.0, "seconds": 0.5})
    assert resume(run) is None
    assert run.rounds().is_empty() and not list(run.path.glob("*.jsonl"))


@pytest.mark.parametrize("name", [ROUNDS, TIMINGS])
def test_a_log_that_lost_lines_is_not_gone_on_with(run: Run, name: str) -> None:
    run.log(1, {"loss/train": 1.0, "seconds": 0.5})
    save(run, 1, tensors(), {})
    (run.path / name).unlink()
    with pytest.raises(TrainingError, match=f"{name} holds 0 lines, and held 1"):
        resume(run)


def test_equal_states_are_equal_bytes_whatever_the_clock_said(tmp_path: Path) -> None:
    blocks = []
    for name, seconds in (("a", 0.1), ("b", 12.25)):
        run = Run.create(tmp_path / name, FACTS)
        run.log(1, {"loss/train": 1.0, "seconds": seconds})
        state = {"x": 1, "y": 2} if name == "a" else {"y": 2, "x": 1}
        save(run, 1, tensors(), state)
        blocks.append((run.path / CHECKPOINT / FILE).read_bytes())
    assert blocks[0] == blocks[1]


# --- broken ones ---------------------------------------------------------------------------------------


def test_a_checkpoint_cut_off_anywhere_or_changed_in_any_byte_is_refused(run: Run) -> None:
    save(run, 1, tensors(), {"best": 1})
    path = run.path / CHECKPOINT / FILE
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(TrainingError, match="file of tensors"):
            load(run)
    for place in range(len(whole) - 56, len(whole), 5):
        changed = bytearray(whole)
        changed[place] ^= 1
        path.write_bytes(bytes(changed))
        with pytest.raises(TrainingError, match="file of tensors is damaged"):
            load(run)


def test_a_file_of_somebody_else_is_no_checkpoint(run: Run) -> None:
    from safetensors.torch import save_file

    path = run.path / CHECKPOINT / FILE
    path.parent.mkdir()
    save_file(tensors(), path)
    with pytest.raises(TrainingError, match="not one of fedtrain"):
        load(run)
    write_tensors(path, tensors())
    with pytest.raises(TrainingError, match="the checkpoint has no format"):
        load(run)
    write_tensors(path, tensors(), {"format": 2, "round": 1, "state": {}, "lines": {}})
    with pytest.raises(TrainingError, match="has format 2"):
        resume(run)
    with pytest.raises(TrainingError, match="cannot be read"):
        read_tensors(run.path / "nothing")


def test_tensors_that_cannot_be_written_are_said_and_leave_the_old_ones(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(run, 1, tensors(), {})

    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_tensors(run.path / CHECKPOINT / FILE, tensors(1))
    run.log(1, {"loss/train": 1.0})
    with pytest.raises(OutputError, match=r"measures cannot be written.*No space left"):
        save(run, 2, tensors(2), {})
    assert (found := load(run)) is not None and found[0] == 1
    assert [p.name for p in (run.path / CHECKPOINT).iterdir()] == [FILE]


# --- another plan --------------------------------------------------------------------------------------


def test_a_run_goes_on_with_its_own_plan_and_with_other_threads(run: Run) -> None:
    refuse_other(run, PLAN, FACTS["dataset_id"], seed=3)
    refuse_other(run, {**PLAN, "threads": 8, "chunk_rows": 10}, FACTS["dataset_id"])
    refuse_other(run, {**PLAN, "lr": 0.2}, FACTS["dataset_id"], free=("lr",))
    refuse_other(run, {**PLAN, "mf": {"dim": 64}}, FACTS["dataset_id"], free=("mf",))


def test_another_plan_is_refused_with_each_key_that_differs(run: Run) -> None:
    other = {"lr": 0.2, "threads": 2, "mf": {"dim": 32, "bias": True}, "stop": {"metric": ""}}
    with pytest.raises(TrainingError) as error:
        refuse_other(run, other, FACTS["dataset_id"], seed=4)
    assert error.value.what.endswith(
        "another plan: lr was 0.1, is 0.2; mf.bias was unset, is true; seed was 3, is 4"
    )


def test_another_dataset_is_refused(run: Run) -> None:
    with pytest.raises(TrainingError, match="another Dataset: abababababab…, not cdcdcdcdcdcd…"):
        refuse_other(run, PLAN, "cd" * 32)


# --- kill ----------------------------------------------------------------------------------------------

KILLED = '''
"""Trains a Run again and again, killed after the n-th call or return of a function; then to its end."""
import os, signal, sys
from pathlib import Path

import torch

from fedtrain.run import Run, load, resume, save, write_tensors

os.fsync = lambda number: None  # a kill loses nothing that the system has; this is not about power
FACTS = {"dataset_id": "ab", "plan": {}, "seed": 1, "versions": {"python": "3"}}


def train(folder):
    run = Run.open(folder) if folder.exists() else Run.create(folder, FACTS)
    with run.lock():
        saved = resume(run)
        done, state = (saved[0], saved[1]["w"]) if saved else (0, torch.arange(6.0))
        best = saved[2]["best"] if saved else 0
        for round in range(done + 1, 5):
            state = torch.sin(state * round)
            value = float(state.sum())
            run.log(round, {"loss/train": value, "clients": round, "note": f"round {round}"})
            improved = value > best
            best = max(best, value)
            save(run, round, {"w": state}, {"best": best}, keep_best=improved)
            run.update(rounds_done=round)
        run.log(4, {"ndcg@10/test": value if done < 4 else float(state.sum())})
        write_tensors(run.path / "model.safetensors", {"w": state})
        run.update(status="finished")


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*"))
            if p.is_file() and p.name not in ("manifest.json", ".lock")}


def killed_at(folder, place):
    child = os.fork()
    if child:
        return os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    seen = 0

    def count(frame, event, argument):
        nonlocal seen
        seen += 1
        if seen == place:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
    train(folder)
    sys.setprofile(None)
    Path("n_events").write_text(str(seen))
    os._exit(0)


train(Path("whole"))
wanted = content(Path("whole"))
assert not killed_at(Path("counted"), -1)
n_events = int(Path("n_events").read_text())
kills = twice = 0
for place in range(1, n_events, max(1, n_events // int(sys.argv[1]))):
    folder = Path(f"killed{place}")
    kills += killed_at(folder, place)
    if folder.exists():
        Run.open(folder).rounds()
        load(Run.open(folder))
        twice += killed_at(folder, max(1, place // 2))
    train(folder)
    assert content(folder) == wanted, (place, content(folder).keys() ^ wanted.keys())
    assert Run.open(folder).manifest["rounds_done"] == 4
print(kills, twice, n_events)
'''


def test_a_process_killed_at_any_point_leaves_a_run_that_goes_on_to_the_same_bytes(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, "40"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    kills, twice, n_events = map(int, done.stdout.split())
    assert kills >= 38 and twice >= 20 and n_events > 500
