"""A file or folder is whole or not there."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from fedprep.errors import OutputError
from fedprep.files import Kind, alone, cache_folder, sha256_of, whole_file, whole_folder


def owns(folder: Path) -> tuple[str, ...] | None:
    return ("manifest.json", "clients/*") if (folder / "manifest.json").is_file() else None


KIND = Kind(name="thing", owns=owns)


def fill(folder: Path, text: str = "whole") -> None:
    (folder / "manifest.json").write_text(text)


def test_the_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert (
        sha256_of(tmp_path / "a")
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_a_file_appears_at_the_end_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    with pytest.raises(ZeroDivisionError), whole_file(path) as beside:
        beside.write_text("half")
        raise ZeroDivisionError
    assert not path.parent.exists()
    with whole_file(path) as beside:
        beside.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"


def test_what_the_system_refuses_is_said_and_what_went_wrong_inside_is_not_taken_for_it(
    tmp_path: Path,
) -> None:
    with (
        pytest.raises(OutputError, match="cannot be written: Is a directory"),
        whole_file(tmp_path) as beside,
    ):
        beside.write_text("whole")
    assert not list(tmp_path.parent.glob("*.tmp"))
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "a") as beside:
        raise ZeroDivisionError
    with whole_file(tmp_path / "a") as beside:
        beside.write_text("whole")
    assert (tmp_path / "a").read_text() == "whole"


def test_a_folder_appears_at_the_end_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ZeroDivisionError), whole_folder(out, kind=KIND) as folder:
        fill(folder)
        raise ZeroDivisionError
    assert not out.exists()
    with whole_folder(out, kind=KIND) as folder:
        fill(folder)
        assert not out.exists()
    assert (out / "manifest.json").read_text() == "whole"
    assert there(tmp_path) == ["out"]


def test_what_is_there_is_kept_without_force_and_until_the_new_one_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with whole_folder(out, kind=KIND) as folder:
        fill(folder, "old")
    with pytest.raises(OutputError, match="--force"), whole_folder(out, kind=KIND):
        pass
    with (
        pytest.raises(ZeroDivisionError),
        whole_folder(out, kind=KIND, force=True) as folder,
    ):
        fill(folder, "half")
        raise ZeroDivisionError
    assert (out / "manifest.json").read_text() == "old"
    with whole_folder(out, kind=KIND, force=True) as folder:
        fill(folder, "new")
        assert (out / "manifest.json").read_text() == "old"
    assert (out / "manifest.json").read_text() == "new"


def there(folder: Path) -> list[str]:
    """Returns what lies in a folder, but the cache of the test."""
    return sorted(path.name for path in folder.iterdir() if path.name != "cache")


def refuse(out: Path) -> str:
    with pytest.raises(OutputError) as error, whole_folder(out, kind=KIND, force=True) as folder:
        fill(folder)
    return str(error.value)


def test_force_never_replaces_what_is_not_wholly_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, ours, home = tmp_path / "photos", tmp_path / "ours", tmp_path / "home"
    for folder in (photos, ours, home):
        folder.mkdir()
        (folder / "holiday.jpg").write_text("dear")
    for folder in (ours, home):
        fill(folder)
    assert "it is no thing" in refuse(photos)
    assert "holiday.jpg" in refuse(ours)
    (ours / "holiday.jpg").rename(tmp_path / "holiday.jpg")
    assert "it is a file" in refuse(tmp_path / "holiday.jpg")
    (tmp_path / "link").symlink_to(ours)
    assert "it is a link" in refuse(tmp_path / "link")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert "it is a link" in refuse(tmp_path / "dangling")
    (home / "holiday.jpg").unlink()
    monkeypatch.setenv("HOME", str(home / "me"))
    assert "home folder" in refuse(home)
    assert "no place" in refuse(Path("/"))
    monkeypatch.chdir(ours)
    assert "you are in it" in refuse(Path())
    (ours / "clients").symlink_to(photos)
    monkeypatch.chdir(tmp_path)
    assert "clients" in refuse(ours)
    assert there(tmp_path) == [
        "dangling", "holiday.jpg", "home", "link", "ours", "photos"
    ]  # fmt: skip
    assert (photos / "holiday.jpg").read_text() == (tmp_path / "holiday.jpg").read_text() == "dear"


def test_what_comes_into_the_folder_while_the_new_one_is_made_is_not_deleted(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    with whole_folder(out, kind=KIND) as folder:
        fill(folder)
    with (
        pytest.raises(OutputError, match=r"notes\.txt"),
        whole_folder(out, kind=KIND, force=True) as folder,
    ):
        fill(folder)
        (out / "notes.txt").write_text("dear")
    assert (out / "notes.txt").read_text() == "dear"


@pytest.mark.parametrize("name", [".out.building", ".out.old", ".out.lock"])
def test_somebody_elses_folder_of_the_name_of_ours_stays(tmp_path: Path, name: str) -> None:
    theirs = tmp_path / name
    theirs.mkdir()
    (theirs / "holiday.jpg").write_text("dear")
    if name == ".out.building":
        assert "in the way" in refuse(tmp_path / "out")
    else:
        with whole_folder(tmp_path / "out", kind=KIND) as folder:
            fill(folder)
    assert (theirs / "holiday.jpg").read_text() == "dear"


def test_nothing_lies_beside_what_was_written_or_broken_off(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "out", kind=KIND) as folder:
        fill(folder)
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "half", kind=KIND):
        raise KeyboardInterrupt
    assert there(tmp_path) == ["out"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        pl.exceptions.ComputeError("parquet: underlying IO error: No space left on device"),
        RuntimeError("IO Error: Could not write: Disk quota exceeded"),
    ],
)
def test_a_full_disk_is_one_message_whoever_writes(tmp_path: Path, error: Exception) -> None:
    with (
        pytest.raises(OutputError, match="out cannot be written: "),
        whole_folder(tmp_path / "out", kind=KIND),
    ):
        raise error
    with pytest.raises(OutputError, match="a cannot be written: "), whole_file(tmp_path / "a"):
        raise error
    assert there(tmp_path) == []


def test_a_file_elsewhere_that_cannot_be_read_is_not_taken_for_the_one_that_is_written(
    tmp_path: Path,
) -> None:
    with pytest.raises(FileNotFoundError), whole_folder(tmp_path / "out", kind=KIND):
        (tmp_path / "rows.csv").read_text()


WAITS = """
import logging, sys, time
from pathlib import Path
from fedprep.files import alone
logging.basicConfig(level=logging.INFO, format="%(message)s")
print("ready", flush=True)
with alone(Path(sys.argv[1]), what="the thing"):
    print("in", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def waiting(path: Path, seconds: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITS, str(path), str(seconds)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_who_waits_says_for_what_and_a_dead_holder_blocks_nobody(tmp_path: Path) -> None:
    path = tmp_path / "entry"
    holder = waiting(path, 60)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "in\n"
    broken_off, second = waiting(path, 0), waiting(path, 0)
    assert broken_off.stderr is not None
    assert second.stderr is not None
    assert "the thing" in broken_off.stderr.readline()
    assert "the thing" in second.stderr.readline()
    broken_off.send_signal(signal.SIGINT)
    assert broken_off.wait(10) != 0
    holder.kill()
    assert second.wait(10) == 0
    for process in (holder, broken_off, second):
        process.communicate()
    assert there(tmp_path) == []


def test_locks_need_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("FEDPREP_CACHE", str(tmp_path / "file" / "cache"))
    with alone(tmp_path / "entry"):
        pass


def test_without_a_home_the_place_of_the_cache_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FEDPREP_CACHE", "~nobody-of-that-name/cache")
    with pytest.raises(OutputError, match="no home folder"):
        cache_folder()


def test_two_processes_cannot_write_one_folder_at_once(tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = (
        "import sys; from pathlib import Path; from fedprep.files import Kind, whole_folder\n"
        "with whole_folder(Path(sys.argv[1]), kind=Kind(name='thing', owns=lambda folder: None)): pass"
    )
    with whole_folder(out, kind=KIND) as folder:
        fill(folder)
        other = subprocess.run(
            [sys.executable, "-c", script, str(out)], capture_output=True, text=True
        )
        assert "another process is writing" in other.stderr
    assert (out / "manifest.json").is_file()


def test_what_a_killed_process_left_is_cleared_by_the_next(tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = (
        "import os, signal, sys; from pathlib import Path; from fedprep.files import Kind, whole_folder\n"
        "with whole_folder(Path(sys.argv[1]), kind=Kind(name='thing', owns=lambda folder: None)) as f:\n"
        "    (f / 'half').write_text('x'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(out)], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert not out.exists()
    with whole_folder(out, kind=KIND) as folder:
        assert list(folder.iterdir()) == []
        fill(folder)
    assert (out / "manifest.json").is_file()


def test_a_replacement_killed_between_its_two_renames_loses_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with whole_folder(out, kind=KIND) as folder:
        fill(folder, "old")
    site = tmp_path / ".out.building"  # where the kill leaves it
    site.mkdir()
    (site / ".fedprep").write_text("unfinished")
    out.rename(site / ".old")
    with pytest.raises(ZeroDivisionError), whole_folder(out, kind=KIND, force=True):
        raise ZeroDivisionError
    assert (out / "manifest.json").read_text() == "old"
    assert there(tmp_path) == ["out"]


def test_a_parent_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(OutputError, match="cannot be written"),
        whole_folder(tmp_path / "file" / "out", kind=KIND),
    ):
        pass
