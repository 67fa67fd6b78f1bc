"""The files in an archive (zip, tar, tar.gz), known by content and read under suspicion.

An archive is refused as a whole where a name is absolute, holds `..` or a drive letter, or stands there
twice (also in another case: one would overwrite the other on some disks), where it holds links, devices
or sparse files, or is encrypted. What comes out of a decompressor is counted while it comes: the sizes
that an archive states of itself are never trusted.

Reference: Fifield, "A better zip bomb", USENIX WOOT 2019 (deflate expands up to 1,032 times).
"""

from __future__ import annotations

import errno
import gzip
import re
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Protocol, Self, cast

from fedprep.errors import FedprepError, FetchError
from fedprep.fetch.checksums import CHUNK

__all__ = [
    "Budget",
    "Member",
    "Stream",
    "archive_kind",
    "damage_named",
    "tar_members",
    "zip_members",
]

HEAD = tarfile.BLOCKSIZE
GZ_HEAD = 64 << 10  # holds the first 512 bytes of any gz, names and comments in its header included
LONGEST_HEADER = 16 << 20  # bytes; a tar header's own size field would let one fill the memory

# What zipfile, tarfile and gzip raise on bytes that were tampered with; found by fuzzing.
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    struct.error,
    EOFError,
    ArithmeticError,
    LookupError,
    ValueError,
    RuntimeError,  # among them NotImplementedError: a compression that Python does not know
)


@dataclass
class Budget:
    """The bytes that may still come out of an archive's decompressors."""

    limit: int
    used: int = 0

    def take(self, n_bytes: int) -> None:
        """Counts bytes that came out.

        Raises:
            FetchError: they are more than may.
        """
        self.used += n_bytes
        if self.used > self.limit:
            raise FetchError(
                f"the archive expands to more than {self.limit:,} bytes and is refused as a bomb",
                hint="unpack it by hand if you trust it, and give its folder with --from PATH",
            )


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...

    def close(self) -> object: ...


class Stream:
    """A stream that is read ahead only, counted against a budget where it has one.

    tarfile wants `tell` and `seek`. It ends without a word at a header that is broken or cut off: the
    last block that it read (`last`) tells a true end, which is zeros, from those.
    """

    def __init__(self, file: Readable, budget: Budget | None = None) -> None:
        self._file = file
        self._budget = budget
        self._at = 0
        self._head = b""
        self.last = b""

    def peek(self, size: int) -> bytes:
        """Returns the next bytes without passing them."""
        self._head += self._take(size - len(self._head))
        return self._head[:size]

    def read(self, size: int = -1, /) -> bytes:
        if size > LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        size = size if size >= 0 else 1 << 62
        head, self._head = self._head[:size], self._head[size:]
        self.last = head + self._take(size - len(head))
        self._at += len(self.last)
        return self.last

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if whence != 0 or offset < self._at:
            raise tarfile.ReadError("its members overlap")
        while self._at < offset and self.read(min(offset - self._at, CHUNK)):
            pass
        return self._at

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _take(self, size: int) -> bytes:
        parts = []
        while size > 0 and (part := self._file.read(min(size, CHUNK))):
            parts.append(part)
            size -= len(part)
            if self._budget is not None:
                self._budget.take(len(part))
        return b"".join(parts)


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file in an archive. `open` gives its bytes until the next member is asked for."""

    path: PurePosixPath
    size: int  # as the archive states it
    open: Callable[[], Stream]


def kind_of(head: bytes) -> str:
    """Returns "zip", "tar", "gz" or "" by the first 512 bytes of a file."""
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if head.startswith(b"\x1f\x8b"):
        return "gz"
    try:  # the checksum in the header holds: also for tar files without the word "ustar"
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError):
        return ""
    return "tar"


def archive_kind(stream: Stream) -> str:
    """Returns "zip", "tar", "tar.gz" or "" by content; a single gz file is no archive.

    Of a gz stream the first bytes are passed: it has to be opened again.
    """
    kind = kind_of(stream.peek(HEAD))
    if kind != "gz":
        return kind
    try:
        inner = zlib.decompressobj(wbits=31).decompress(stream.peek(GZ_HEAD), HEAD)
    except zlib.error:
        return ""
    return "tar.gz" if kind_of(inner) == "tar" else ""


def tar_members(stream: Stream, budget: Budget, *, compressed: bool) -> Iterator[Member]:
    """Yields the files of a tar stream, in its order.

    Raises:
        FetchError: it holds what is refused.
        TarError, EOFError, zlib.error …: it is damaged (see `damage_named`).
    """
    if compressed:
        stream = Stream(gzip.GzipFile(fileobj=cast(IO[bytes], stream)), budget)
    names = _Names()
    with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r:") as archive:
        while (info := archive.next()) is not None:
            # Else all headers stay in memory.
            archive.members.clear()  # type: ignore[attr-defined]
            path = names.claim(info.name, folder=info.isdir())
            if info.isdir():
                continue
            if not info.isreg() or info.issparse():
                raise FetchError(
                    f"the archive holds a link, a device or a sparse file ({info.name!r})"
                    " and is refused"
                )
            file = archive.extractfile(info)
            assert file is not None  # regular files have bytes
            yield Member(path=path, size=info.size, open=partial(Stream, file))
        if len(stream.last) != HEAD or stream.last.strip(b"\0"):
            raise tarfile.ReadError("it ends without an end mark")
        while stream.read(CHUNK):  # the checksum of what is around it comes last
            pass


def zip_members(file: IO[bytes], budget: Budget) -> Iterator[Member]:
    """Yields the files of a zip file, in its order, after all their names were looked at.

    Raises:
        FetchError: it holds what is refused.
        BadZipFile, zlib.error …: it is damaged (see `damage_named`).
    """
    names = _Names()
    with zipfile.ZipFile(file) as archive:
        members = []
        for info in archive.infolist():
            path = names.claim(info.filename, folder=info.is_dir())
            _refuse_special(info)
            if not info.is_dir():
                members.append((path, info))
        for path, info in members:
            yield Member(path=path, size=info.file_size, open=partial(_open, archive, info, budget))


def _open(archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: Budget) -> Stream:
    return Stream(archive.open(info), budget)


def _refuse_special(info: zipfile.ZipInfo) -> None:
    if info.flag_bits & 0x1:
        raise FetchError(
            f"the archive is encrypted ({info.filename!r})",
            hint="unpack it by hand with its password, and give its folder with --from PATH",
        )
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise FetchError(f"the archive holds a link or a device ({info.filename!r}) and is refused")


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turns what goes wrong while an archive is read into a FetchError that names it."""
    try:
        yield
    except FedprepError as error:
        error.where = error.where or str(path)
        raise
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # a seek to where the file has no end
            raise FetchError(f"{path} cannot be read: {error.strerror}") from None
        raise _damaged(path, error) from None
    except _DAMAGED as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> FetchError:
    return FetchError(
        f"{path.name} is damaged or cut off: {error or type(error).__name__}",
        where=str(path),
        hint="delete it and fetch it again; if it unpacks elsewhere, give that folder with --from PATH",
    )


@dataclass
class _Names:
    """The names of an archive so far, folded as a disk without case folds them."""

    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)

    def claim(self, name: str, *, folder: bool) -> PurePosixPath:
        """Returns the path of a member inside its folder.

        Raises:
            FetchError: the name leaves the folder, or another member has it.
        """
        path = _inside(name)
        key = unicodedata.normalize("NFC", path.as_posix()).casefold()
        parents = [parent.as_posix() for parent in PurePosixPath(key).parents]
        taken = key in self.files or (not folder and (key == "." or key in self.folders))
        if taken or not self.files.isdisjoint(parents):
            raise FetchError(f"the archive has the name {name!r} twice and is refused")
        self.folders.update(parents)
        (self.folders if folder else self.files).add(key)
        return path


def _inside(name: str) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    outside = path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", str(path))
    if outside or any(ord(letter) < 32 for letter in name):
        raise FetchError(f"the archive would write outside its folder ({name!r}) and is refused")
    return path
