"""The part of a file that has arrived, which outlives the process that fetches it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from fedprep.fetch.checksums import Digest, Hasher
from fedprep.fetch.space import writing
from fedprep.files import whole_file
from fedprep.schema import Progress, silent

__all__ = ["Origin", "Part"]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a part comes from, and by what the server tells one version of a file from another."""

    url: str
    total: int = 0  # 0: unknown
    etag: str = ""
    modified: str = ""

    def agrees(self, other: Origin) -> bool:
        """Returns whether nothing says that the other is another version."""
        if self.url != other.url:
            return self.total == other.total
        pairs = (
            (self.total, other.total),
            (self.etag, other.etag),
            (self.modified, other.modified),
        )
        return all(mine == theirs for mine, theirs in pairs if mine and theirs)


class Part:
    """The part of a file that has arrived: `<name>.part`, its origin beside it, its running hash.

    A part outlives the process. It is continued from the URL it came from, if that URL named a
    version (ETag, Last-Modified) or a size; from another URL only where a checksum will judge the
    whole (`checked`). `resumed` says whether it was put together from more than one answer.
    """

    def __init__(
        self, path: Path, *, md5: bool, checked: bool, progress: Progress = silent
    ) -> None:
        self.path = path
        self.resumed = False
        self._origin_path = path.with_name(path.name + ".json")
        self._md5 = md5
        self._checked = checked
        self._hasher = Hasher(md5=md5)
        with writing(path.parent, path.name):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.origin = self._read_origin()
            if self.origin is None:
                self.forget()
            elif path.exists():
                self._hasher.read(path, progress)
                self.resumed = True

    @property
    def size(self) -> int:
        return self._hasher.n_bytes

    def digest(self) -> Digest:
        return self._hasher.digest()

    def forget(self) -> None:
        """Starts from nothing."""
        self.path.unlink(missing_ok=True)
        self._origin_path.unlink(missing_ok=True)
        self.origin = None
        self.resumed = False
        self._hasher = Hasher(md5=self._md5)

    def continues(self, url: str) -> bool:
        """Returns whether a URL may be asked for the rest."""
        if self.origin is None or self.size == 0:
            return False
        known = bool(self.origin.total or self.origin.etag or self.origin.modified)
        return known and (self._checked or self.origin.url == url)

    def begin(self, origin: Origin) -> None:
        """Starts anew from a URL. The old bytes go first: they never stand beside a new origin."""
        self.forget()
        with whole_file(self._origin_path) as beside:
            beside.write_text(json.dumps(asdict(origin)), encoding="utf-8")
        self.origin = origin

    def open(self) -> BinaryIO:
        """Returns the file, to append to."""
        return self.path.open("ab")

    def append(self, file: BinaryIO, chunk: bytes) -> None:
        file.write(chunk)
        self._hasher.update(chunk)

    def sync(self) -> None:
        """Sees to it that the bytes are on the disk."""
        with writing(self.path.parent, self.path.name), self.path.open("rb") as file:
            os.fsync(file.fileno())

    def _read_origin(self) -> Origin | None:
        try:
            return Origin(**json.loads(self._origin_path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
