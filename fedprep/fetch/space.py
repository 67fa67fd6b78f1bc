"""Writing where the disk may be full or closed: one clear message in place of an errno."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedprep.errors import FedprepError, OutputError

__all__ = ["require_space", "writing"]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_HINT = "free some space, or let FEDPREP_CACHE name a folder on another disk"


@contextmanager
def writing(folder: Path, what: str) -> Iterator[None]:
    """Turns errors of the file system inside it into an OutputError.

    Args:
        folder: where is written, for the message.
        what: what is written, as in `"ml-1m.zip"`.

    Raises:
        OutputError: no space is left, or the folder cannot be written to.
    """
    try:
        yield
    except FedprepError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise OutputError(
                f"no space left for {what}: {_free(folder)} free", where=str(folder), hint=_HINT
            ) from None
        raise OutputError(
            f"{what} cannot be written: {error.strerror or error}",
            where=str(folder),
            hint="let FEDPREP_CACHE name a folder that can be written to",
        ) from None


def require_space(folder: Path, n_bytes: int, what: str) -> None:
    """Does nothing where a folder's disk has room for so many bytes.

    Raises:
        OutputError: it has not.
    """
    free = shutil.disk_usage(folder).free
    if n_bytes > free:
        raise OutputError(
            f"no space left for {what}: {n_bytes:,} bytes are needed, {free:,} are free",
            where=str(folder),
            hint=_HINT,
        )


def _free(folder: Path) -> str:
    try:
        return f"{shutil.disk_usage(folder).free:,} bytes"
    except OSError:
        return "an unknown number of bytes"
