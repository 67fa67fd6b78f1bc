"""Files and folders that are whole or not there: written beside their name, renamed at the end."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedprep.errors import OutputError

__all__ = ["refusal", "sha256_of", "whole_file", "whole_folder", "written_file"]

REFUSED = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG,
    errno.EIO, errno.EMFILE, errno.ENFILE,
)  # fmt: skip
"""What a system answers to those who write: full, over quota, too large, read-only, not allowed, …"""

_WORDS = {os.strerror(number).lower(): number for number in REFUSED}
_IN_TEXT = re.compile(
    r"(?:os error|errno) (?P<number>\d+)|" + "|".join(map(re.escape, _WORDS)), re.IGNORECASE
)
WRITERS = (
    "polars",
    "pyarrow",
    "duckdb",
    "_duckdb",
    "torch",
    "safetensors",
    "safetensors_rust",
    "PIL",
)
"""Libraries that write files, and have errors of their own for what the system refuses."""


def refusal(error: BaseException) -> str | None:
    """Returns why the system refused to write, such as "No space left on device"; None for other errors.

    Whoever did the writing: the errors of polars, pyarrow, DuckDB, torch and safetensors say it in words.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return (error.strerror or os.strerror(error.errno)) if error.errno in REFUSED else None
    library = type(error).__module__.partition(".")[0] in WRITERS
    if library or isinstance(error, OSError | RuntimeError):
        for hit in _IN_TEXT.finditer(str(error)):
            number = int(hit["number"]) if hit["number"] else _WORDS[hit[0].lower()]
            if number in REFUSED:
                return os.strerror(number)
    return None


def sha256_of(path: Path) -> str:
    """Returns the lower-case hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a path to write to; on leaving without an error it becomes `path`, else it is removed.

    The temporary name is unique to the process, so two writers of one file cannot mix their bytes.
    A process killed in between leaves a `*.tmp` file and never a part of `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path = path.absolute()
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def written_file(path: Path) -> Iterator[Path]:
    """Gives what `whole_file` gives, for a file whose writing is all that can go wrong inside.

    Raises:
        OutputError: the system refuses: a full disk, a folder in its place, no permission.
    """
    try:
        with whole_file(path) as beside:
            yield beside
    except OutputError:
        raise
    except OSError as error:
        why = error.strerror or str(error)
        raise OutputError(f"{path} cannot be written: {why}") from None


@contextmanager
def whole_folder(out: Path, *, marker: str, force: bool = False) -> Iterator[Path]:
    """Gives a folder to fill; on leaving without an error it becomes `out`, else it is removed.

    One process at a time may do so for one `out`. What a killed process left is cleared away by the
    next one. With `force` the old folder stays in place until the new one is whole.

    Args:
        out: the folder to be.
        marker: a file that every folder of this kind holds; with `force`, a folder without it is not
            ours to replace.
        force: replace an `out` that is there.

    Raises:
        OutputError: `out` is there already, is something else, or another process is writing it.
    """
    from filelock import FileLock, Timeout

    out = out.absolute()
    building, old = (out.with_name(f".{out.name}.{word}") for word in ("building", "old"))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out.parent} cannot be made: {error.strerror}") from None
    lock = FileLock(out.with_name(f".{out.name}.lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise OutputError(
            f"another process is writing {out}", hint="wait for it, or choose another --out"
        ) from None
    except OSError as error:
        raise OutputError(f"{out.parent} cannot be written to: {error.strerror}") from None
    try:
        if old.exists() and not out.exists():
            old.rename(out)  # killed between the two renames below
        _refuse_what_is_there(out, marker, force)
        for stale in (building, old):
            shutil.rmtree(stale, ignore_errors=True)
        try:
            building.mkdir()
            yield building
            if out.exists():
                out.rename(old)
            building.rename(out)
        finally:
            shutil.rmtree(building, ignore_errors=True)
            if out.exists():
                shutil.rmtree(old, ignore_errors=True)
    finally:
        lock.release()
        # The lock file is removed only by its holder's successor: unlinking it here could let two in.


def _refuse_what_is_there(out: Path, marker: str, force: bool) -> None:
    if not out.exists():
        return
    if not force:
        raise OutputError(f"{out} exists", hint="--force replaces it, --out chooses another place")
    if not (out / marker).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(
            f"{out} exists and is no Dataset: it is not replaced", hint="choose another --out"
        )
