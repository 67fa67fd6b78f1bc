"""Files and folders that are whole or not there: written beside their name, renamed at the end."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from fedprep.errors import FedprepError, OutputError, RecipeError

if TYPE_CHECKING:
    from fedprep.schema import Progress

__all__ = [
    "Kind",
    "alone",
    "cache_folder",
    "checked_name",
    "refusal",
    "refusals_named",
    "refuse_replacing",
    "sha256_of",
    "whole_file",
    "whole_folder",
]

REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.ENAMETOOLONG, errno.EIO)
"""What a system answers to those who write: full, over quota, too large, read-only, …"""

CLOSED = (
    errno.EACCES,
    errno.EPERM,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.EBUSY,
)
"""What it answers to those who open, write or rename, where the place is closed, gone or taken."""

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
    "pyo3_runtime",
)
"""Libraries that write files, and have errors of their own for what the system refuses."""

MARKER = ".fedprep"
LITTER = (".DS_Store", "Thumbs.db", "desktop.ini")
"""What systems leave in every folder."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of folder that we write, and how it is told from other people's.

    name: what it is called, as "Dataset".
    owns: the paths that are ours in a folder, as patterns (`*` matches "/" too); None where the folder is
        none of this kind.
    """

    name: str
    owns: Callable[[Path], Collection[str] | None]


def refusal(error: BaseException) -> str | None:
    """Returns why the system refused to write, such as "No space left on device"; None for other errors.

    Whoever did the writing: the errors of polars, pyarrow, DuckDB, torch and safetensors say it in words.
    """
    if isinstance(error, FedprepError):
        return None
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno) if error.errno in REFUSED else None
    if isinstance(error, OSError | RuntimeError) or type(error).__module__.startswith(WRITERS):
        for hit in _IN_TEXT.finditer(str(error)):
            number = int(hit["number"]) if hit["number"] else _WORDS[hit[0].lower()]
            if number in REFUSED:
                return os.strerror(number)
    return None


@contextmanager
def refusals_named(place: Path) -> Iterator[None]:
    """Turns what the system refuses to who writes inside into one message that names the place.

    An error of a file elsewhere, such as one that is read, passes as it is.

    Raises:
        OutputError: a full disk, a folder in its place, no permission.
    """
    try:
        yield
    except Exception as error:
        why = refusal(error)
        if isinstance(error, OSError) and not isinstance(error, FedprepError) and why is None:
            here = error.filename is None or _is_of(os.fsdecode(error.filename), place)
            why = error.strerror if here and error.errno in CLOSED else None
        if why is None:
            raise
        if why == os.strerror(errno.ENOSPC):
            why = f"{why}, {_free(place)} MB are free"
            hint = (
                "free some space, or choose another place (FEDPREP_CACHE names that of the cache)"
            )
        else:
            hint = ""
        raise OutputError(f"{place} cannot be written: {why}", hint=hint) from error


def _absolute(path: str | Path) -> Path:
    """Returns a path without "..", whose links are not resolved."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _is_of(name: str, place: Path) -> bool:
    """Returns whether a path is of a place: it, below it, one of its folders, or what is to become it."""
    path, place = str(_absolute(name)), _absolute(place)
    beginnings = (str(place), str(place.parent / f".{place.name}."))
    return path.startswith(beginnings) or place.is_relative_to(path)


def _free(place: Path) -> str:
    there = next((folder for folder in place.absolute().parents if folder.exists()), Path("/"))
    return f"{shutil.disk_usage(there).free / 1e6:,.0f}"


def cache_folder() -> Path:
    """Returns the folder of everything fetched: FEDPREP_CACHE, else the user's own cache folder.

    It need not exist yet.

    Raises:
        OutputError: neither is known.
    """
    from platformdirs import user_cache_path

    named = os.environ.get("FEDPREP_CACHE")
    try:
        if named:
            literal = Path(named)
            return (literal if literal.is_dir() else literal.expanduser()).absolute()
        folder = user_cache_path("fedprep", appauthor=False)
    except RuntimeError:
        folder = Path("~")
    if folder.parts[:1] == ("~",):
        raise OutputError(
            "no home folder is known, so there is no place for the cache",
            hint="FEDPREP_CACHE names a folder for it",
        )
    return folder.absolute()


@contextmanager
def alone(
    path: Path, *, what: str = "", wait: bool = True, progress: Progress | None = None
) -> Iterator[None]:
    """Lets one process at a time pass for a path; the lock of a killed process is free.

    The locks lie in the cache, by the path, and nothing lies beside `path`.

    Args:
        path: what is written inside.
        what: how it is called to those who wait.
        wait: until the other process is through; else it is an error.
        progress: told that it waits.

    Raises:
        OutputError: another process is writing it, where that is not waited for.
    """
    from filelock import FileLock, Timeout

    key = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:32]
    lock = FileLock(_locks() / f"{key}.lock")
    try:
        lock.acquire(timeout=1.0 if wait else 0.0)
    except Timeout:
        if not wait:
            raise OutputError(
                f"another process is writing {path}", hint="wait for it, or choose another --out"
            ) from None
        logger.info("waiting for another process that writes %s", what or path)
        if progress is not None:
            progress(f"wait for {path.name}", 0, None)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _locks() -> Path:
    """Returns the folder of locks: in the cache, or among the temporary files where that is closed."""
    user = os.getuid() if hasattr(os, "getuid") else "all"
    for place in ("cache", tempfile.gettempdir()):
        with suppress(OSError):  # no cache, or a closed one: not every command needs it
            at = (
                cache_folder() / "locks"
                if place == "cache"
                else Path(place, f"fedprep-locks-{user}")
            )
            at.mkdir(parents=True, exist_ok=True)
            if os.access(at, os.W_OK):
                return at
    raise OutputError(
        "there is no folder to keep locks in", hint="FEDPREP_CACHE names one that can be written to"
    )


def sha256_of(path: Path) -> str:
    """Returns the lower-case hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a path to write to; on leaving without an error it becomes `path`, else it is removed.

    The temporary name is unique, so two writers of one file cannot mix their bytes.
    A process killed in between leaves a `*.tmp` file and never a part of `path`.

    Raises:
        OutputError: the system refuses: a full disk, a folder in its place, no permission.
    """
    path = path.absolute()
    if not path.name:
        raise OutputError(f"{path} cannot be written: {os.strerror(errno.EISDIR)}")
    beside = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    made = not path.parent.exists()
    with refusals_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield beside
            beside.replace(path)
        finally:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
                if made:
                    path.parent.rmdir()  # where it is empty


@contextmanager
def whole_folder(out: Path, *, kind: Kind, force: bool = False) -> Iterator[Path]:
    """Gives a folder to fill; on leaving without an error it becomes `out`, else it is removed.

    It is filled in the folder `.NAME.building` beside `out`. One process at a time may do so for one
    `out`. What a killed process left is cleared away by the next one. With `force` the old folder stays
    in place until the new one is whole.

    Args:
        out: the folder to be.
        kind: of what is written; with `force`, a folder of another kind, or one that holds more than
            ours, is not replaced.
        force: replace an `out` that is there.

    Raises:
        OutputError: `out` is there already, is something else, another process is writing it, or the
            system refuses.
    """
    out = _absolute(out)
    if not out.name:
        raise OutputError(f"{out} is no place for a {kind.name}", hint="choose another --out")
    with alone(out, wait=False), refusals_named(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        site = out.with_name(f".{out.name}.building")
        building, old = site / out.name, site / ".old"
        if os.path.lexists(site) and not _is_site(site):
            raise OutputError(
                f"{site} is in the way, and not of ours: it is not removed", hint="move it away"
            )
        if old.exists() and not os.path.lexists(out):
            old.rename(out)  # killed between the two renames below
        refuse_replacing(out, kind, force=force)
        shutil.rmtree(site, ignore_errors=True)
        try:
            site.mkdir()
            (site / MARKER).write_text(f"unfinished, to become {out.name}\n", encoding="utf-8")
            building.mkdir()
            yield building
            refuse_replacing(out, kind, force=force)  # it may have changed meanwhile
            if out.exists():
                out.rename(old)
            building.rename(out)
        finally:
            if old.exists() and not os.path.lexists(out):
                old.rename(out)
            shutil.rmtree(site, ignore_errors=True)


def _is_site(site: Path) -> bool:
    """Returns whether a folder is one that we fill, or an empty one."""
    if site.is_symlink() or not site.is_dir():
        return False
    return (site / MARKER).is_file() or not any(site.iterdir())


def refuse_replacing(out: Path, kind: Kind, *, force: bool) -> None:
    """Refuses a place that is taken, with `force` one that is not recognisably and wholly ours.

    Raises:
        OutputError: it says what is there.
    """
    if not os.path.lexists(out):
        return
    if not force:
        raise OutputError(f"{out} exists", hint="--force replaces it, --out chooses another place")
    why = _not_ours(out, kind)
    if why:
        raise OutputError(
            f"{out} is not replaced: {why}", hint="move that away, or choose another --out"
        )


def _not_ours(out: Path, kind: Kind) -> str:
    """Returns why a place may not be replaced, "" where it may."""
    if out.is_symlink():
        return f"it is a link to {out.readlink()}"
    if not out.is_dir():
        return "it is a file"
    near = [Path.cwd()]
    with suppress(RuntimeError):
        near.append(Path.home())
    if any(place.resolve().is_relative_to(out.resolve()) for place in near):
        return "you are in it, or it holds your home folder"
    files = [Path(at, name) for at, folders, files in os.walk(out) for name in files
             + [name for name in folders if Path(at, name).is_symlink()]]  # fmt: skip
    if not files:
        return ""
    owned = kind.owns(out)
    if owned is None:
        return f"it is no {kind.name}"
    names = (file.relative_to(out).as_posix() for file in files if file.name not in LITTER)
    foreign = sorted(name for name in names if not any(fnmatchcase(name, own) for own in owned))
    if foreign:
        more = f" and {len(foreign) - 3:,} more" if len(foreign) > 3 else ""
        return f"it holds what is not of the {kind.name}: {', '.join(foreign[:3])}{more}"
    return ""


_NAME = re.compile(r"[^\W][\w.\-]*")
_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
LONGEST_NAME = 255
"""Bytes of a file's name that every file system takes."""


def checked_name(name: str, what: str, *, where: str = "") -> str:
    """Returns a name that others chose, if it can be the name of a file or folder anywhere, and no path.

    Letters and digits of any script, `-`, `_` and `.`, the first a letter, a digit or `_`; no device of
    Windows.

    Args:
        name: such as the `name` of a recipe.
        what: what it is the name of, for the message: `name`, `source.category` …
        where: the recipe or file that says it.

    Raises:
        RecipeError: it is no such name.
    """
    fits = len(name.encode("utf-8", "surrogatepass")) <= LONGEST_NAME and not name.endswith(".")
    if _NAME.fullmatch(name) and fits and not _DEVICES.fullmatch(name):
        return name
    shown = name if len(name) <= 60 else f"{name[:59]}…"
    raise RecipeError(
        f"{what}: {shown!r} is no name",
        where=where,
        expected=f"letters, digits, '-', '_' and '.', no folders, at most {LONGEST_NAME} bytes",
        key=what,
    )
