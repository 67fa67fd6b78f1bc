"""Files that are whole or not there: hashes, and writing beside the name with a rename at the end."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["sha256_of", "whole_file"]


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
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
