"""A file or folder is whole or not there."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fedprep.errors import OutputError
from fedprep.files import sha256_of, whole_file, whole_folder, written_file


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
    assert list(path.parent.iterdir()) == []
    with whole_file(path) as beside:
        beside.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"


def test_what_the_system_refuses_is_said_and_what_went_wrong_inside_is_not_taken_for_it(
    tmp_path: Path,
) -> None:
    with (
        pytest.raises(OutputError, match="cannot be written: Is a directory"),
        written_file(tmp_path) as beside,
    ):
        beside.write_text("whole")
    assert not list(tmp_path.parent.glob("*.tmp"))
    with pytest.raises(ZeroDivisionError), written_file(tmp_path / "a") as beside:
        raise ZeroDivisionError
    with written_file(tmp_path / "a") as beside:
        beside.write_text("whole")
    assert (tmp_path / "a").read_text() == "whole"


def test_a_folder_appears_at_the_end_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ZeroDivisionError), whole_folder(out, marker="manifest.json") as folder:
        fill(folder)
        raise ZeroDivisionError
    assert not out.exists()
    with whole_folder(out, marker="manifest.json") as folder:
        fill(folder)
        assert not out.exists()
    assert (out / "manifest.json").read_text() == "whole"
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == ["out"]


def test_what_is_there_is_kept_without_force_and_until_the_new_one_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with whole_folder(out, marker="manifest.json") as folder:
        fill(folder, "old")
    with pytest.raises(OutputError, match="--force"), whole_folder(out, marker="manifest.json"):
        pass
    with (
        pytest.raises(ZeroDivisionError),
        whole_folder(out, marker="manifest.json", force=True) as folder,
    ):
        fill(folder, "half")
        raise ZeroDivisionError
    assert (out / "manifest.json").read_text() == "old"
    with whole_folder(out, marker="manifest.json", force=True) as folder:
        fill(folder, "new")
        assert (out / "manifest.json").read_text() == "old"
    assert (out / "manifest.json").read_text() == "new"


def test_force_never_replaces_somebody_elses_folder_or_file(tmp_path: Path) -> None:
    out = tmp_path / "photos"
    out.mkdir()
    (out / "holiday.jpg").write_text("dear")
    with (
        pytest.raises(OutputError, match="not replaced"),
        whole_folder(out, marker="manifest.json", force=True),
    ):
        pass
    assert (out / "holiday.jpg").read_text() == "dear"
    file = tmp_path / "file"
    file.write_text("dear")
    with (
        pytest.raises(OutputError, match="not replaced"),
        whole_folder(file, marker="manifest.json", force=True),
    ):
        pass
    assert file.read_text() == "dear"


def test_two_processes_cannot_write_one_folder_at_once(tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = (
        "import sys; from pathlib import Path; from fedprep.files import whole_folder\n"
        "with whole_folder(Path(sys.argv[1]), marker='manifest.json'): pass"
    )
    with whole_folder(out, marker="manifest.json") as folder:
        fill(folder)
        other = subprocess.run(
            [sys.executable, "-c", script, str(out)], capture_output=True, text=True
        )
        assert "another process is writing" in other.stderr
    assert (out / "manifest.json").is_file()


def test_what_a_killed_process_left_is_cleared_by_the_next(tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = (
        "import os, signal, sys; from pathlib import Path; from fedprep.files import whole_folder\n"
        "with whole_folder(Path(sys.argv[1]), marker='manifest.json') as f:\n"
        "    (f / 'half').write_text('x'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(out)], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert not out.exists()
    with whole_folder(out, marker="manifest.json") as folder:
        assert list(folder.iterdir()) == []
        fill(folder)
    assert (out / "manifest.json").is_file()


def test_a_replacement_killed_between_its_two_renames_loses_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with whole_folder(out, marker="manifest.json") as folder:
        fill(folder, "old")
    out.rename(tmp_path / ".out.old")  # where the kill leaves it
    with pytest.raises(ZeroDivisionError), whole_folder(out, marker="manifest.json", force=True):
        raise ZeroDivisionError
    assert (out / "manifest.json").read_text() == "old"


def test_a_parent_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(OutputError, match="cannot be made"),
        whole_folder(tmp_path / "file" / "out", marker="m"),
    ):
        pass
