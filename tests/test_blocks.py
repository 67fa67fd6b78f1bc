"""Text files as blocks of whole lines."""

from __future__ import annotations

import gzip
import random
import threading
import zlib

import pyarrow as pa
import pytest

from fedprep.errors import SourceError
from fedprep.sources import blocks
from fedprep.sources.blocks import blocks_of_lines, first_bytes, parquet_writer


def in_two_members(content):
    return gzip.compress(content[:5]) + gzip.compress(content[5:])


@pytest.mark.parametrize("pack", [bytes, gzip.compress, in_two_members])
def test_blocks_are_whole_lines_with_their_numbers(tmp_path, monkeypatch, pack):
    path = tmp_path / "file"
    path.write_bytes(pack(b"ab\ncd\nefgh\nij"))
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 4)
    with blocks_of_lines(path, name="file", expected="lines") as found:
        parts = list(found)
    assert parts == [(b"ab\ncd\n", 1), (b"efgh\n", 3), (b"ij", 4)]


def test_whoever_stops_half_way_leaves_no_thread_for_the_garbage_collector(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"ab\ncd\nefgh\nij")
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 4)
    before = threading.active_count()
    with pytest.raises(KeyError) as held, blocks_of_lines(path, name="a", expected="b") as found:
        next(found)
        assert threading.active_count() == before + 1
        raise KeyError
    assert threading.active_count() == before
    assert held.tb is not None and found.gi_frame is not None  # both still refer to what they used


def test_the_first_bytes_are_those_of_the_content(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(b"PAR1 and more"))
    assert first_bytes(path, 4, name="file") == b"PAR1"
    path.write_bytes(b"x")
    assert first_bytes(path, 4, name="file") == b"x"


@pytest.mark.parametrize("content", [gzip.compress(b"a" * 99)[:12], b"\x1f\x8bnonsense"])
def test_the_first_bytes_of_a_broken_gzip_are_an_error(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(SourceError, match="cannot be read"):
        first_bytes(path, 64, name="file")


def test_a_missing_file_is_an_error(tmp_path):
    nothing = blocks_of_lines(tmp_path / "none", name="file", expected="lines")
    with pytest.raises(SourceError, match="cannot be read"), nothing:
        pass
    with pytest.raises(SourceError, match="cannot be read"):
        first_bytes(tmp_path / "none", 4, name="file")


def test_a_writer_that_is_broken_off_leaves_no_file(tmp_path):
    with (
        pytest.raises(KeyError),
        parquet_writer(tmp_path / "rows.parquet", pa.schema({"a": pa.int8()})),
    ):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[: int(len(packed) * 0.6)],
        lambda packed: packed[:-8] + bytes(4) + packed[-4:],
        lambda packed: packed + b"garbage",
    ],
    ids=["cut", "checksum", "garbage behind it"],
)
def test_a_broken_gzip_says_how_many_whole_lines_can_be_read(tmp_path, damage):
    rng = random.Random(4)
    content = "".join(f"{rng.random()}\n" for _ in range(5000)).encode()
    path = tmp_path / "rows.gz"
    path.write_bytes(damage(gzip.compress(content)))
    inflated = zlib.decompressobj(-15).decompress(path.read_bytes()[10:])  # behind gzip's header
    n_lines = inflated.count(b"\n")
    assert n_lines > 1000
    with (
        pytest.raises(SourceError) as caught,
        blocks_of_lines(path, name="rows", expected="lines") as found,
    ):
        list(found)
    assert caught.value.where.endswith(f"after line {n_lines:,}")
