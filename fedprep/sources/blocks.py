"""Text files of any size as blocks of whole lines, and a Parquet file that is written block by block.

A thread inflates the next block while the caller works on this one, so memory follows the block and
not the file. What a file is called says nothing: gzip is known by its first bytes.
"""

from __future__ import annotations

import codecs
import gzip
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from fedprep.errors import OutputError, SourceError
from fedprep.files import whole_file
from fedprep.schema import Progress, silent

__all__ = ["blocks_of_lines", "first_bytes", "parquet_writer"]

BLOCK_BYTES = 16 << 20
PIECE_BYTES = 1 << 20
LONGEST_LINE = 64 << 20  # a longer one is no line, and reading on would fill the memory

GZIP = b"\x1f\x8b"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
OTHER_FORMATS = {
    b"PK\x03\x04": "a zip archive",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"PAR1": "a Parquet file",
}
UTF16 = (b"\xff\xfe", b"\xfe\xff")


@contextmanager
def blocks_of_lines(
    path: Path, *, name: str, expected: str, progress: Progress = silent
) -> Iterator[Iterator[tuple[bytes, int]]]:
    """Gives blocks of whole lines, each with the number of its first line.

    Plain or gzip (several members too), told by content; UTF-16 with its mark comes as UTF-8. A byte order
    mark is skipped. The last
    line of the file may lack its end. The thread and the file are closed at the end of the `with`, and
    not by whoever collects a generator that was left half-way: it may be a thread that is just starting,
    and then joining another waits for ever.

    Args:
        path: the file.
        name: what it holds (`"reviews"`), for messages and progress.
        expected: the right format in words, for messages.
        progress: told the bytes of the file read so far.

    Raises:
        SourceError: a truncated or broken gzip, another format, or a line of more than 64 MB.
    """
    try:
        raw = path.open("rb")
    except OSError as error:
        raise SourceError(f"{name}: the file cannot be read: {error}", where=str(path)) from None
    with raw, ThreadPoolExecutor(max_workers=1) as inflater:
        yield _blocks(raw, inflater, path, name, expected, progress)


def _blocks(
    raw: BinaryIO,
    inflater: ThreadPoolExecutor,
    path: Path,
    name: str,
    expected: str,
    progress: Progress,
) -> Iterator[tuple[bytes, int]]:
    line = 1
    at = total = 0
    try:
        total = os.fstat(raw.fileno()).st_size
        stream = _text_of(raw, name, path, expected)
        ahead = inflater.submit(_next_block, stream)
        while block := ahead.result():
            at = raw.tell()
            ahead = inflater.submit(_next_block, stream)
            yield block.removeprefix(BYTE_ORDER_MARK) if line == 1 else block, line
            line += block.count(b"\n")
            progress(f"reading {name}", at, total)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        trouble = "cut short" if isinstance(error, EOFError) else f"broken ({error})"
        whole = _whole_lines(path)
        raise SourceError(
            f"{name}: the gzip file is {trouble}: {whole:,} whole lines can be read of it",
            where=f"{path}, after line {whole:,}",
            hint="it did not arrive whole: delete it and fetch it again",
        ) from None
    except _LineTooLong:
        raise SourceError(
            f"{name}: a line of more than {LONGEST_LINE >> 20} MB",
            where=f"{path}, after line {line - 1:,}",
            expected=expected,
        ) from None
    except UnicodeDecodeError:
        raise SourceError(
            f"{name}: the file begins as UTF-16 text does, and does not go on so",
            where=f"{path}, after line {line - 1:,}",
            expected=expected,
        ) from None
    except OSError as error:
        raise SourceError(f"{name}: the file cannot be read: {error}", where=str(path)) from None


def first_bytes(path: Path, n_bytes: int, *, name: str) -> bytes:
    """Returns the first bytes of a file, of its inflated content where it is gzip.

    Raises:
        SourceError: the file cannot be read.
    """
    try:
        with path.open("rb") as raw:
            head = raw.read(max(n_bytes, len(GZIP)))
            if not head.startswith(GZIP):
                return head[:n_bytes]
            raw.seek(0)
            return gzip.GzipFile(fileobj=raw).read(n_bytes)
    except (EOFError, OSError, zlib.error) as error:
        raise SourceError(f"{name}: the file cannot be read: {error}", where=str(path)) from None


@contextmanager
def parquet_writer(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Gives a writer of a Parquet file that is there only when it is whole.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        with (
            whole_file(path) as unfinished,
            pq.ParquetWriter(unfinished, schema, compression="lz4") as writer,
        ):
            yield writer
    except OSError as error:
        raise OutputError(f"cannot write staged rows: {error}", where=str(path)) from None


def _text_of(raw: BinaryIO, name: str, path: Path, expected: str) -> BinaryIO:
    """Returns the stream of plain bytes: inflated where it is gzip, UTF-8 where it is UTF-16."""
    head = raw.read(16)
    raw.seek(0)
    for magic, form in OTHER_FORMATS.items():
        if head.startswith(magic):
            raise SourceError(
                f"{name}: this is {form}", where=str(path), expected=f"{expected}; plain or gzip"
            )
    if head.startswith(UTF16):
        return cast(BinaryIO, codecs.EncodedFile(raw, "utf-8", "utf-16"))
    return cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if head.startswith(GZIP) else raw


def _whole_lines(path: Path) -> int:
    """Returns how many whole lines a gzip file gives before it breaks off."""
    n_lines = 0
    with suppress(EOFError, OSError, zlib.error), gzip.open(path) as stream:
        while piece := stream.read1(PIECE_BYTES):
            n_lines += piece.count(b"\n")
    return n_lines


class _LineTooLong(Exception):
    """A line has no end in sight."""


def _next_block(stream: BinaryIO) -> bytes:
    block = stream.read(BLOCK_BYTES)
    if block and not block.endswith(b"\n"):
        rest = stream.readline(LONGEST_LINE)
        if len(rest) == LONGEST_LINE and not rest.endswith(b"\n"):
            raise _LineTooLong
        block += rest
    return block
