"""How the commands end and print: codes, signals, hostile texts, terminals of every encoding."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
from rich.table import Table
from rich.text import Text

from fedprep import terminal
from fedprep.errors import FedprepError
from fedprep.files import refusal

HOSTILE = "pine \x1b[2J\x07\x9b31m \u202eevil\u2066 \u2028[red]x[/red] :smile:"
RAW = "\x1b\x07\x9b\u202e\u2066\u2028"


def group(body: Any) -> terminal.Commands:
    @click.group(cls=terminal.Commands)
    def command() -> None:
        pass

    @command.command("go")
    def go() -> Any:
        return body()

    return command


def code_of(body: Any, *arguments: str) -> Any:
    with pytest.raises(SystemExit) as ended:
        terminal.run_command(group(body), "tool", ["go", *arguments], stopped="go on")
    return ended.value.code


def raising(error: BaseException) -> Any:
    def body() -> None:
        raise error

    return body


def test_a_result_is_the_exit_code() -> None:
    assert code_of(lambda: 1) == 1
    assert code_of(lambda: None) == 0


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (FedprepError("no such thing", hint="look"), 2, "hint: look"),
        (click.UsageError("what?"), 2, "what?"),
        (OSError(errno.ENOSPC, "No space left on device", "here.csv"), 2, "here.csv"),
        (PermissionError(errno.EACCES, "Permission denied", "here.csv"), 2, "Permission denied"),
        (MemoryError(), 2, "memory"),
        (UnicodeEncodeError("ascii", "snow \u2603", 5, 6, "no"), 2, "PYTHONUTF8"),
        (UnicodeEncodeError("utf-8", "snow \udcff", 5, 6, "no"), 2, "PYTHONUTF8"),
        (KeyboardInterrupt(), 130, "go on"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 0, ""),
        (ZeroDivisionError("by nothing"), 70, "fault of the program"),
        (OSError("no number"), 70, "fault of the program"),
        (EOFError("marshal data too short"), 70, "fault of the program"),
    ],
)
def test_every_end_has_its_code_and_its_line(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code_of(raising(error)) == code
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told
    assert bool(told) == bool(said)


def test_the_details_of_a_fault_are_in_a_file_or_with_debug_on_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert code_of(raising(ZeroDivisionError("by nothing"))) == 70
    (file,) = tmp_path.iterdir()
    assert str(file) in capsys.readouterr().err
    details = file.read_text(encoding="utf-8")
    assert "ZeroDivisionError: by nothing" in details
    assert "polars" in details
    assert code_of(raising(ZeroDivisionError("by nothing")), "--debug") == 70
    assert "Traceback (most recent call last)" in capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setenv("FEDPREP_DEBUG", "1")
    assert code_of(raising(FedprepError("bad input"))) == 2
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_details_that_cannot_be_written_are_said_to_be_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    assert code_of(raising(ZeroDivisionError("by nothing"))) == 70
    assert "could not be written" in capsys.readouterr().err


def test_what_the_system_refuses_is_known_whoever_wrote() -> None:
    import polars as pl

    def told(text: str) -> str | None:
        return refusal(pl.exceptions.ComputeError(text))

    full = os.strerror(errno.ENOSPC)
    assert refusal(OSError(errno.ENOSPC, "full")) == full
    assert told("parquet: underlying IO error: No space left on device (os error 28)") == full
    assert told("IO error: Disk quota exceeded") == os.strerror(errno.EDQUOT)
    assert told("could not append value") is None
    assert refusal(ValueError("No space left on device")) is None
    assert refusal(FileNotFoundError(errno.ENOENT, "no such file")) is None


def test_texts_out_of_data_are_shown_escaped_in_tables_messages_and_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = Table(HOSTILE)
    table.add_row(HOSTILE)
    table.add_row(Text(HOSTILE, "bold"))
    for printed in (table, HOSTILE, Text(HOSTILE)):
        terminal.show(printed)
    terminal.echo(HOSTILE)
    terminal.say(HOSTILE)
    terminal.print_json({HOSTILE: HOSTILE})
    told = capsys.readouterr()
    assert not set(told.out + told.err) & set(RAW)
    assert told.out.count("[red]x[/red] :smile:") == 8  # no markup, no emoji
    assert told.out.count("\\x1b[2J") == 6
    assert json.loads(told.out[told.out.index("{") :]) == {HOSTILE: HOSTILE}


def test_columns_stay_in_line_beside_an_escaped_cell(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("a", "b")
    table.add_row("x\x1b[2Jy\u202e", "end")
    table.add_row("plain", "end")
    terminal.show(table)
    lines = [line for line in capsys.readouterr().out.splitlines() if "end" in line]
    assert len({line.index("end") for line in lines}) == 1


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_what_an_encoding_lacks_is_replaced_as_wide_as_it_was(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    screens = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n") for _ in "oe"]
    monkeypatch.setattr("sys.stdout", screens[0])
    monkeypatch.setattr("sys.stderr", screens[1])

    def body() -> None:
        terminal.show(Table("红楼梦 ☃ – …"))
        terminal.echo("红楼梦 ☃ – \udcff")
        raise FedprepError("红楼梦")

    assert code_of(body) == 2
    screens[0].flush()
    out = screens[0].buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert "?????? ?" in out
    assert "\\xff" in out
    assert screens[0].errors == "strict"


WAITS = (
    "import sys, time\nfrom fedprep.cli import command, main\n"
    "@command.command('wait')\ndef wait():\n"
    "    try:\n        print('ready', flush=True); time.sleep(30)\n"
    "    finally:\n        print('cleaned', flush=True)\n"
    "main(['wait'])"
)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_a_signal_cleans_up_says_how_to_go_on_and_has_its_code(number: int, code: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert out == "cleaned\n"
    assert len(err.strip().splitlines()) == 1
    assert "the same command goes on" in err


def test_a_hangup_that_is_ignored_stays_so() -> None:
    script = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + WAITS.replace(
        "30", "0.5"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        assert process.wait(20) == 0


def test_a_loop_is_asked_to_end_once_and_interrupted_by_the_second_signal() -> None:
    with terminal.interruptible() as stop:
        assert not stop()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)
        assert stop()
        assert stop.code == 143
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)


def command_line(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    script = f"from fedprep.cli import main; main({list(words)!r})"
    return subprocess.run(
        [sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, timeout=60, **options
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_standard_output_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = command_line("list", "recipes", "--json", stdout=full)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert os.strerror(errno.ENOSPC) in done.stderr


def test_a_closed_pipe_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        for words in (("list",), ("list", "--json"), ("--help",)):
            done = command_line(*words, stdout=write)
            assert (done.returncode, done.stderr) == (0, "")
    finally:
        os.close(write)
