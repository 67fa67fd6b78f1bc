"""Safe unpacking: the wanted files of an archive into a folder, bounded, all of them or none."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from fedprep.errors import FetchError
from fedprep.fetch.checksums import CHUNK
from fedprep.fetch.members import (
    Budget,
    Member,
    Stream,
    archive_kind,
    damage_named,
    tar_members,
    zip_members,
)
from fedprep.fetch.places import ends_as
from fedprep.fetch.space import require_space, writing
from fedprep.schema import Progress, silent

__all__ = ["MAX_BYTES", "MAX_RATIO", "is_archive", "unpack"]

MAX_BYTES = 64 << 30
MAX_RATIO = 100.0  # real ones: ml-25m.zip 4.4, ml-1m.zip 4.2, JSON lines about 10
SMALL = 64 << 20  # bytes that any archive may expand to: a ratio says nothing about tiny files
MAX_DEPTH = 3  # an archive in an archive in an archive


def is_archive(path: Path) -> bool:
    """Returns whether a file is a zip, tar or tar.gz, by its content; a single gz file is none.

    Raises:
        FetchError: the file cannot be read.
    """
    if not path.is_file():
        return False
    with damage_named(path), Stream(path.open("rb")) as stream:
        return archive_kind(stream) != ""


def unpack(
    archive: Path,
    folder: Path,
    *,
    members: Sequence[str] = (),
    max_ratio: float = MAX_RATIO,
    max_bytes: int = MAX_BYTES,
    progress: Progress = silent,
) -> list[Path]:
    """Returns the files unpacked into a folder, sorted. Where this fails, nothing arrives there.

    Args:
        archive: zip or tar, plain or gz, by content.
        folder: made if need be; files of the same name in it are replaced.
        members: what is wanted, as the end of a path inside the archive (`"ratings.dat"`,
            `"photos/*.jpg"`); none: everything. Archives inside the archive are then searched too, and
            unpacked into a folder of their name.
        max_ratio: how many times its own size an archive may expand to (64 MiB are always allowed).
        max_bytes: how many bytes it may expand to.
        progress: told `"unpack <name>"`, the position in the archive, its size.

    Raises:
        FetchError: the archive is damaged, is none, or holds what is refused.
        OutputError: the disk is full or cannot be written to.
    """
    with writing(folder.parent, archive.name):
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(".tmp", f".{folder.name}.", folder.parent))
        staging = beside / folder.name
        staging.mkdir()
    try:
        with damage_named(archive), archive.open("rb") as file:
            size = archive.stat().st_size
            limit = min(max_bytes, max(SMALL, int(max_ratio * size)))
            job = _Job(archive.name, file, size, staging, tuple(members), Budget(limit), progress)
            job.unpack_file(file, PurePosixPath(), depth=1)
            progress(f"unpack {archive.name}", size, size)
        with writing(folder, archive.name):
            _move(staging, folder, job.written)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return sorted(folder / path for path in job.written)


def _move(staging: Path, folder: Path, paths: Sequence[PurePosixPath]) -> None:
    if not folder.exists():
        staging.rename(folder)
        return
    for path in paths:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        (staging / path).replace(target)


@dataclass
class _Job:
    """One archive on its way into a staging folder."""

    name: str
    file: IO[bytes]
    size: int
    staging: Path
    wanted: tuple[str, ...]
    budget: Budget
    progress: Progress
    written: list[PurePosixPath] = field(default_factory=list)

    def unpack_file(self, file: IO[bytes], below: PurePosixPath, *, depth: int) -> None:
        """Writes the wanted members of an archive that is a file.

        Raises:
            FetchError: it is no archive of a known kind, or expands to too much.
        """
        kind = archive_kind(Stream(file))
        file.seek(0)
        if kind == "zip":
            self._require_space(zip_members(file, self.budget))
            self._take(zip_members(file, self.budget), below, depth=depth)
        elif kind:
            members = tar_members(Stream(file), self.budget, compressed=kind == "tar.gz")
            self._take(members, below, depth=depth)
        else:
            raise FetchError(
                f"{self.name} is no archive: it begins with {file.read(24)!r}",
                expected="a zip, tar or tar.gz file",
            )

    def _take(self, members: Iterator[Member], below: PurePosixPath, *, depth: int) -> None:
        for member in members:
            path = below / member.path
            if self._wants(member):
                with member.open() as source:
                    self._write(source, path)
                self.written.append(path)
            elif depth < MAX_DEPTH:
                with member.open() as source:
                    self._look_inside(source, path, depth=depth + 1)

    def _look_inside(self, source: Stream, path: PurePosixPath, *, depth: int) -> None:
        """Writes the wanted members of a member that is an archive itself."""
        kind = archive_kind(source)
        if kind in ("tar", "tar.gz"):
            members = tar_members(source, self.budget, compressed=kind == "tar.gz")
            self._take(members, path, depth=depth)
        elif kind == "zip":  # is read from its end: it has to be a file
            spool = PurePosixPath(f".inner-{depth}")
            self._write(source, spool)
            with (self.staging / spool).open("rb") as file:
                self.unpack_file(file, path, depth=depth)
            (self.staging / spool).unlink()

    def _wants(self, member: Member) -> bool:
        return not self.wanted or any(ends_as(member.path, wanted) for wanted in self.wanted)

    def _require_space(self, members: Iterator[Member]) -> None:
        """Refuses early what would not fit; a size beyond the budget is left for it to name."""
        stated = sum(member.size for member in members if self._wants(member))
        if stated <= self.budget.limit:
            require_space(self.staging, stated, f"the contents of {self.name}")

    def _write(self, source: Stream, path: PurePosixPath) -> None:
        target, what = self.staging / path, f"the contents of {self.name}"
        with writing(self.staging, what):
            target.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: closing has then nothing left to write, and no error of its own.
            file = target.open("wb", buffering=0)
        with file:
            while chunk := source.read(CHUNK):
                with writing(self.staging, what):
                    rest = memoryview(chunk)
                    while rest:
                        rest = rest[file.write(rest) :]
                self.progress(f"unpack {self.name}", min(self.file.tell(), self.size), self.size)
