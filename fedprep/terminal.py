"""How the three commands end and print: exit codes, signals, what is shown of data, progress.

| what happens | exit code | on stderr |
| --- | --- | --- |
| bad input (`FedprepError`, click), a system that refuses (full disk), no memory | 2 | what, where, hint |
| a fault of the program | 70 | one line, and the file that holds the details; `--debug`: the traceback |
| Ctrl-C, SIGHUP, SIGTERM | 130, 129, 143 | how to go on |
| the reader of a pipe is gone | 0 | nothing |

Results go to stdout, progress and messages to stderr. Texts out of data never reach the terminal as they are:
control and bidirectional characters are shown as `\\x1b`, `\\u202e`, and markup is not interpreted. What a
terminal's encoding does not have is replaced.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import json
import logging
import os
import re
import shlex
import signal
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import click

from fedprep.errors import FedprepError, OutputError
from fedprep.files import refusal

if TYPE_CHECKING:
    from rich.console import Console

    from fedprep.schema import Progress

__all__ = [
    "Commands",
    "Interruption",
    "console",
    "echo",
    "escaped",
    "interruptible",
    "json_text",
    "print_json",
    "print_table",
    "progress_bars",
    "progress_line",
    "run_command",
    "say",
    "show",
]

BAD_INPUT, FAULT = 2, 70
LOGGERS = ("fedprep", "fedeval", "fedtrain")
SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)

# --- text out of data ------------------------------------------------------------------------------------

_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb"
    "\ud800-\udfff]"
)
"""Control characters but line feed and tab, direction marks, overrides and isolates, line separators."""

_PLAIN = str.maketrans("–—−‐‑‘’“”…·•×÷→←≤≥", "-----''\"\"..*x/><<>")
"""What stands for a sign of ours where the terminal has ASCII alone, one character each."""


def escaped(text: str) -> str:
    r"""Returns a text with its control and direction characters spelled out; line feed and tab stay.

    Example:
        >>> print(escaped("pine \x1b[2J \u202eevil"))
        pine \x1b[2J \u202eevil
    """
    return _UNSAFE.sub(_spelled, text)


def json_text(text: str) -> str:
    """Returns JSON that means the same, and holds no control or direction character."""
    return _UNSAFE.sub(lambda hit: f"\\u{ord(hit[0]):04x}", text)


def _spelled(hit: re.Match[str]) -> str:
    code = ord(hit[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file's name that is no text
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """Stands in for what an encoding lacks: as wide as the character was, so that columns stay."""
    assert isinstance(error, UnicodeEncodeError)
    found = []
    for character in error.object[error.start : error.end]:
        plain = character.translate(_PLAIN)
        wide = unicodedata.east_asian_width(character) in "WF"
        found.append(plain if plain.isascii() else "??" if wide else "?")
    return "".join(found), error.end


codecs.register_error("shown", _replaced)


@contextlib.contextmanager
def _any_encoding() -> Iterator[None]:
    """Inside, stdout and stderr replace what their encoding lacks."""
    streams = [s for s in (sys.stdout, sys.stderr) if isinstance(s, io.TextIOWrapper)]
    before = [stream.errors for stream in streams]
    for stream in streams:
        stream.reconfigure(errors="shown")
    try:
        yield
    finally:
        for stream, errors in zip(streams, before, strict=True):
            with contextlib.suppress(OSError, ValueError):  # closed, or its disk is full
                stream.reconfigure(errors=errors)


# --- printing --------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """Prints a message to stderr."""
    _write(sys.stderr, escaped(text))


def echo(text: str) -> None:
    """Prints a line of a result to stdout."""
    with _printing():
        _write(sys.stdout, escaped(text))


def show(renderable: Any) -> None:
    """Prints a table or sheet to stdout."""
    with _printing():
        console().print(renderable)


def print_json(value: Any) -> None:
    """Prints JSON to stdout: of a value, or the JSON text that it is."""
    text = value if isinstance(value, str) else json.dumps(
        value, indent=2, ensure_ascii=False, default=str
    )  # fmt: skip
    with _printing():
        _write(sys.stdout, json_text(text.removesuffix("\n")))


def print_table(csv: str) -> None:
    """Prints CSV to stdout: to a program as it is, to a terminal escaped."""
    with _printing():
        sys.stdout.write(escaped(csv) if sys.stdout.isatty() else csv)
        sys.stdout.flush()


def _write(stream: TextIO, text: str) -> None:
    stream.write(f"{text}\n")
    stream.flush()


@contextlib.contextmanager
def _printing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"the output cannot be printed: {error.strerror or error}") from error


def console(*, stderr: bool = False) -> Console:
    """Returns what prints tables: as wide as the terminal, markup and emoji codes are plain text."""
    from rich.console import Console
    from rich.text import Text

    def safe(text: Text) -> Text:
        plain = escaped(text.plain)
        if plain == text.plain:
            return text
        return Text(
            plain,
            style=text.style,
            justify=text.justify,
            overflow=text.overflow,
            no_wrap=text.no_wrap,
            end=text.end,
        )

    class Screen(Console):
        def render(self, renderable: Any, options: Any = None) -> Any:
            return super().render(
                safe(renderable) if isinstance(renderable, Text) else renderable, options
            )

        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(escaped(text), **options)

        def on_broken_pipe(self) -> NoReturn:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    # A pipe has no width: tables must not be folded for a program that reads them.
    wide = not (sys.stderr if stderr else sys.stdout).isatty()
    return Screen(
        stderr=stderr, width=200 if wide else None, highlight=False, markup=False, emoji=False
    )


@contextlib.contextmanager
def progress_bars() -> Iterator[Progress]:
    """Gives a `Progress` that draws bars on stderr, and nothing where stderr is no terminal."""
    from fedprep.schema import silent

    screen = console(stderr=True)
    if not screen.is_terminal:
        yield silent
        return
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:,.0f}{task.fields[of]}", markup=False),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=screen, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def progress(task: str, done: int, total: int | None) -> None:
            if task not in tasks:
                tasks[task] = bars.add_task(task, total=total, of="")
            of = "" if total is None else f" of {total:,}"
            bars.update(tasks[task], completed=done, total=total, of=of)

        yield progress


@contextlib.contextmanager
def progress_line() -> Iterator[Progress]:
    """Gives a `Progress` that says on stderr what is being done, and nothing where it is no terminal."""
    from fedprep.schema import silent

    screen = console(stderr=True)
    if not screen.is_terminal:
        yield silent
        return
    from rich.text import Text

    spinner = "dots" if screen.encoding.startswith("utf") else "line"
    with screen.status("", spinner=spinner) as status:

        def progress(task: str, done: int, total: int | None) -> None:
            status.update(Text(f"{task}" + (f" ({done:,} of {total:,})" if total else "")))

        yield progress


class _Lines(logging.Handler):
    """Prints what functions log: warnings as such, what is worth knowing as a plain line."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError, ValueError):  # stderr is gone
            text = record.getMessage()
            say(f"warning: {text}" if record.levelno >= logging.WARNING else text)


@contextlib.contextmanager
def _logs_to_stderr() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in LOGGERS]
    handler = _Lines()
    before = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    waits = logging.getLogger("fedprep.files")
    level = waits.level
    waits.setLevel(logging.INFO)
    try:
        yield
    finally:
        waits.setLevel(level)
        for logger, propagate in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.propagate = propagate


# --- signals ---------------------------------------------------------------------------------------------


class _Ended(KeyboardInterrupt):
    """SIGTERM or SIGHUP: what cleans up after Ctrl-C cleans up after these."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise _Ended(number)


@contextlib.contextmanager
def _handled(
    handler: Callable[[int, FrameType | None], Any], numbers: Sequence[int]
) -> Iterator[None]:
    """Inside, signals go to the handler; one that is ignored (as under nohup) stays so."""
    before: dict[int, Any] = {}
    try:
        for number in numbers:
            if signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
    except ValueError:  # not the main thread: whoever runs it there decides
        pass
    try:
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)


class Interruption:
    """Whether a signal has asked a loop to end after its round; calling it returns that."""

    number = 0

    def __call__(self) -> bool:
        return self.number != 0

    @property
    def code(self) -> int:
        """The exit code of a command that ended so."""
        return 128 + (self.number or signal.SIGINT)


@contextlib.contextmanager
def interruptible() -> Iterator[Interruption]:
    """Gives what says whether Ctrl-C was pressed or SIGTERM came; the second one interrupts at once."""
    asked = Interruption()

    def note(number: int, frame: FrameType | None) -> None:
        if asked():
            raise _Ended(number)
        asked.number = number
        say("stopping after this round; Ctrl-C again stops at once")

    with _handled(note, SIGNALS):
        yield asked


# --- the end of a command --------------------------------------------------------------------------------


class Commands(click.Group):
    """A group of commands that have the option `--debug`, each and all together."""

    debug = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.params.append(self._debug_option())

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        cmd.params.append(self._debug_option())
        super().add_command(cmd, name)

    def _debug_option(self) -> click.Option:
        def note(context: click.Context, parameter: click.Parameter, value: bool) -> None:
            self.debug = self.debug or value

        return click.Option(
            ["--debug"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=note,
            help="Print the traceback of an error.",
        )


def run_command(
    command: Commands, name: str, arguments: Sequence[str] | None, *, stopped: str
) -> NoReturn:
    """Runs a command line and exits with its code; see the table of this module.

    Args:
        command: the commands.
        name: what it is called.
        arguments: those of the process where None.
        stopped: what is said where Ctrl-C or a signal has ended it.
    """
    command.debug = _asked_for_debug()
    streams = (sys.stdout, sys.stderr)
    with _any_encoding(), _handled(_end, SIGNALS[1:]), _logs_to_stderr():
        try:
            result = command.main(args=arguments, prog_name=name, standalone_mode=False)
            code = result if isinstance(result, int) else 0
            with _printing():
                sys.stdout.flush()
        except BaseException as error:
            if streams != (sys.stdout, sys.stderr):  # click has put others in: a pipe was closed
                sys.stdout, sys.stderr = streams
                _close_quietly()
                code = 0
            else:
                code = _code_of(error, name, stopped, debug=command.debug)
    sys.exit(code)


def _asked_for_debug() -> bool:
    return os.environ.get("FEDPREP_DEBUG", "").lower() not in ("", "0", "false", "no")


def _code_of(error: BaseException, name: str, stopped: str, *, debug: bool) -> int:
    """Returns the exit code of what ended a command, and says why."""
    if isinstance(error, click.Abort) and error.__cause__ is not None:
        error = error.__cause__  # click makes an Abort of Ctrl-C, and of any EOFError too
    if isinstance(error, BrokenPipeError):
        _close_quietly()
        return 0
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(bool(error.code))
    try:
        return _told(error, name, stopped, debug=debug)
    except OSError:  # stderr cannot be written to: the code alone is left to say it
        return FAULT if _of_ours(error) else BAD_INPUT
    finally:
        _close_quietly()


def _told(error: BaseException, name: str, stopped: str, *, debug: bool) -> int:
    if isinstance(error, KeyboardInterrupt | click.Abort):
        number = error.number if isinstance(error, _Ended) else signal.SIGINT
        word = "interrupted" if number == signal.SIGINT else f"stopped by {_name_of(number)}"
        say(f"{word}: {stopped}")
        return 128 + number
    if isinstance(error, click.ClickException):
        text = io.StringIO()
        error.show(text)
        say(text.getvalue().rstrip("\n"))
        return BAD_INPUT
    known = error if isinstance(error, FedprepError) else _refused(error)
    if known is not None:
        say(f"error: {known}")
        if debug:
            say(_traceback(error))
        return BAD_INPUT
    say(f"error: {_fault(error, name, debug=debug)}")
    return FAULT


def _of_ours(error: BaseException) -> bool:
    usual = (FedprepError, click.ClickException, KeyboardInterrupt, click.Abort)
    return not isinstance(error, usual) and _refused(error) is None


def _name_of(number: int) -> str:
    return signal.Signals(number).name


def _refused(error: BaseException) -> FedprepError | None:
    """Returns what the system refused, as an error to read; None for a fault of the program."""
    if isinstance(error, MemoryError):
        return FedprepError(
            "there is not enough memory" + (f": {error}" if str(error) else ""),
            hint="a smaller input or batch, or a machine with more memory",
        )
    if isinstance(error, UnicodeEncodeError) and (
        not error.encoding.startswith("utf") or _UNSAFE.search(error.object[error.start])
    ):
        return FedprepError(
            f"the encoding of this terminal or system ({error.encoding}) lacks a character of"
            f" '{error.object[:60]!s}'",
            hint="export PYTHONUTF8=1, or a UTF-8 locale",
        )
    why = refusal(error)
    if why is None and isinstance(error, OSError) and error.errno is not None:
        why = error.strerror or str(error)
        if error.errno == errno.ENOENT and not _folder_is_there():
            return OutputError(
                "the current folder is gone", hint="change to another folder, and run it again"
            )
    if why is None:
        return None
    place = getattr(error, "filename", None)
    return OutputError(
        f"the system refuses: {why}",
        where=os.fsdecode(place) if isinstance(place, str | bytes) else str(place or ""),
        hint="the place may be full, gone or closed to you; --debug tells where it happened",
    )


def _folder_is_there() -> bool:
    try:
        os.getcwd()  # noqa: PTH109
    except OSError:
        return False
    return True


def _fault(error: BaseException, name: str, *, debug: bool) -> FedprepError:
    """Returns what is said of a fault of the program; the details are written to a file, or printed."""
    what = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
    details = _details(error, name)
    if debug:
        say(details)
        where, hint = "above", "send what stands above to the developers of the program"
    else:
        try:
            place = _written(details, name)
            where, hint = (
                f"the details are in {place}",
                "send that file to the developers of the program",
            )
        except OSError as refused:
            where = f"the details could not be written: {refused.strerror or refused}"
            hint = f"{name} --debug prints them: send them to the developers of the program"
    return FedprepError(
        f"this is a fault of the program, not of your data: {what}", where=where, hint=hint
    )


def _written(details: str, name: str) -> str:
    import tempfile

    handle, place = tempfile.mkstemp(prefix=f"{name}-fault-", suffix=".txt")
    with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:  # noqa: PTH123
        file.write(details)
    return place


def _details(error: BaseException, name: str) -> str:
    import platform
    from importlib import metadata

    def version(package: str) -> str:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return "not installed"

    packages = (
        "fedprep",
        "click",
        "duckdb",
        "msgspec",
        "numpy",
        "polars",
        "pyarrow",
        "rich",
        "torch",
    )
    return "\n".join(
        [
            f"command: {shlex.join([name, *sys.argv[1:]])}",
            f"python {platform.python_version()} on {platform.platform()}",
            *(f"{package} {version(package)}" for package in packages),
            "",
            _traceback(error),
        ]
    )


def _traceback(error: BaseException) -> str:
    import traceback

    return "".join(traceback.format_exception(error)).rstrip("\n")


def _close_quietly() -> None:
    """Sends what stdout and stderr cannot take nowhere: the interpreter would fail to flush it at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
