"""What a file's bytes are, remembered while it is unchanged, and whether they are the official ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from fedprep.errors import FetchError
from fedprep.files import whole_file
from fedprep.schema import Candidate, Progress, silent

__all__ = [
    "CHUNK",
    "DIFFERS",
    "OFFICIAL",
    "UNKNOWN",
    "Digest",
    "Hasher",
    "digest_of",
    "got_and_expected",
    "judge",
    "read_record",
    "wants_md5",
    "write_record",
]

OFFICIAL = "official"
UNKNOWN = "no official checksum"
DIFFERS = "differs"

CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Digest:
    """What a file's bytes are. `md5` is empty where nobody asked for it."""

    n_bytes: int
    sha256: str
    md5: str = ""


class Hasher:
    """The running hash of a stream."""

    def __init__(self, *, md5: bool) -> None:
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 else None
        self.n_bytes = 0

    def update(self, chunk: bytes) -> None:
        self.n_bytes += len(chunk)
        self._sha256.update(chunk)
        if self._md5 is not None:
            self._md5.update(chunk)

    def digest(self) -> Digest:
        md5 = self._md5.hexdigest() if self._md5 is not None else ""
        return Digest(n_bytes=self.n_bytes, sha256=self._sha256.hexdigest(), md5=md5)

    def read(self, path: Path, progress: Progress = silent) -> None:
        """Takes in a whole file."""
        total = path.stat().st_size
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                self.update(chunk)
                progress(f"check {path.name}", self.n_bytes, total)


def wants_md5(candidates: Iterable[Candidate]) -> bool:
    """Returns whether an MD5 is needed to judge a file."""
    return any(c.md5 and not c.sha256 for c in candidates)


def judge(candidates: Iterable[Candidate], digest: Digest) -> tuple[Candidate, str]:
    """Returns the candidate that a file is taken for, and OFFICIAL, UNKNOWN or DIFFERS.

    SHA-256 decides where it is known, else MD5; a size alone can only refuse. Of several candidates
    the one that fits best is taken.
    """
    order = (OFFICIAL, UNKNOWN, DIFFERS)
    verdicts = [(candidate, _verdict(candidate, digest)) for candidate in candidates]
    return min(verdicts, key=lambda pair: order.index(pair[1]))


def _verdict(candidate: Candidate, digest: Digest) -> str:
    if candidate.sha256:
        return OFFICIAL if digest.sha256 == candidate.sha256.lower() else DIFFERS
    if candidate.md5:
        return OFFICIAL if digest.md5 == candidate.md5.lower() else DIFFERS
    if candidate.n_bytes and candidate.n_bytes != digest.n_bytes:
        return DIFFERS
    return UNKNOWN


def got_and_expected(candidate: Candidate, digest: Digest) -> tuple[str, str]:
    """Returns the two values that differ, as `"md5 c4d9…"` or `"5,917,549 bytes"`."""
    if candidate.sha256:
        return f"sha256 {digest.sha256}", f"sha256 {candidate.sha256}"
    if candidate.md5:
        return f"md5 {digest.md5}", f"md5 {candidate.md5}"
    return f"{digest.n_bytes:,} bytes", f"{candidate.n_bytes:,} bytes"


def digest_of(path: Path, *, md5: bool, progress: Progress = silent) -> Digest:
    """Returns the digest of a file's bytes, as they are now: size and time say nothing of them.

    Args:
        path: the file.
        md5: whether its MD5 is wanted too.
        progress: told while the file is read.

    Raises:
        FetchError: the file cannot be read.
    """
    hasher = Hasher(md5=md5)
    try:
        hasher.read(path, progress)
    except OSError as error:
        raise FetchError(f"{path} cannot be read: {error.strerror or error}") from None
    return hasher.digest()


def write_record(record: Path, digest: Digest, **more: str) -> None:
    """Writes down what a file's bytes were when it was fetched, and from where."""
    with whole_file(record) as beside:
        text = json.dumps({**asdict(digest), **more}, indent=1) + "\n"
        beside.write_text(text, encoding="utf-8")


def read_record(record: Path) -> tuple[Digest, dict[str, str]] | None:
    """Returns the digest and what else was written down of a file; None where there is no whole record."""
    try:
        entry = json.loads(record.read_text(encoding="utf-8"))
        digest = Digest(n_bytes=entry["n_bytes"], sha256=entry["sha256"], md5=entry["md5"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return digest, {k: v for k, v in entry.items() if isinstance(v, str)}
