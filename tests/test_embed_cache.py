"""The embedding cache: what is kept, what is made again, and what a killed writer leaves."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedprep.embed.cache import (
    EmbeddingCache,
    content_keys,
    embed_contents,
    encoder_folder,
)
from fedprep.errors import OutputError


def vectors_of(contents: list[bytes]) -> NDArray[np.float32]:
    """A stand-in encoder: three numbers that depend on the content alone."""
    rows = [[len(c), sum(c) % 251, c.count(b"a")] for c in contents]
    return np.array(rows, np.float32).reshape(len(contents), 3)


class Encoder:
    """Counts what it is asked to encode."""

    def __init__(self, contents: list[bytes], fail_after: int | None = None) -> None:
        self.contents = contents
        self.encoded: list[bytes] = []
        self.calls = 0
        self.fail_after = fail_after

    def __call__(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        if self.fail_after is not None and self.calls >= self.fail_after:
            raise KeyboardInterrupt
        self.calls += 1
        asked = [self.contents[p] for p in positions]
        self.encoded += asked
        return vectors_of(asked)


def run(contents: list[bytes], folder: Path, chunk: int = 3) -> tuple[NDArray[np.float32], Encoder]:
    encoder = Encoder(contents)
    sizes = np.array([len(c) for c in contents], np.int64)
    cache = EmbeddingCache(folder)
    values = embed_contents(content_keys(contents), sizes, encoder, cache=cache, chunk=chunk)
    return values, encoder


@settings(deadline=None, max_examples=40)
@given(
    before=st.lists(st.binary(max_size=4), max_size=12),
    contents=st.lists(st.binary(max_size=4), min_size=1, max_size=25),
    chunk=st.integers(1, 7),
)
def test_each_row_gets_its_own_vector_and_only_what_is_missing_is_encoded_once(
    before: list[bytes],
    contents: list[bytes],
    chunk: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    run(before, folder, chunk)
    values, encoder = run(contents, folder, chunk)
    assert np.array_equal(values, vectors_of(contents))
    assert sorted(encoder.encoded) == sorted(set(contents) - set(before))
    again, second = run(contents, folder, chunk)
    assert np.array_equal(again, values)
    assert second.encoded == []


def test_an_interrupted_run_keeps_its_finished_chunks_and_resumes_after_them(
    tmp_path: Path,
) -> None:
    contents = [bytes([65 + i]) * (i + 1) for i in range(10)]
    sizes = np.array([len(c) for c in contents])
    stopped = Encoder(contents, fail_after=2)
    with pytest.raises(KeyboardInterrupt):
        embed_contents(
            content_keys(contents), sizes, stopped, cache=EmbeddingCache(tmp_path), chunk=3
        )
    values, resumed = run(contents, tmp_path)
    assert len(stopped.encoded) == 6
    assert sorted(stopped.encoded + resumed.encoded) == sorted(contents)
    assert np.array_equal(values, vectors_of(contents))


def test_the_largest_contents_come_first_whatever_the_order_of_the_rows(tmp_path: Path) -> None:
    contents = [b"aa", b"a", b"aaaa", b"aaa"]
    _, one = run(contents, tmp_path / "one", chunk=2)
    _, other = run(contents[::-1], tmp_path / "other", chunk=2)
    assert one.encoded == other.encoded == [b"aaaa", b"aaa", b"aa", b"a"]
    names = [sorted(p.name for p in (tmp_path / f).iterdir()) for f in ("one", "other")]
    assert names[0] == names[1]


def test_a_damaged_chunk_is_removed_and_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    contents = [bytes([65 + i]) for i in range(6)]
    run(contents, tmp_path, chunk=3)
    cut, flipped = sorted(tmp_path.glob("*.npz"))
    cut.write_bytes(cut.read_bytes()[:100])
    data = bytearray(flipped.read_bytes())
    at = data.index(vectors_of(contents)[:1].tobytes()[:4])
    data[at] ^= 0xFF
    flipped.write_bytes(bytes(data))
    with caplog.at_level(logging.WARNING):
        values, encoder = run(contents, tmp_path, chunk=3)
    assert np.array_equal(values, vectors_of(contents))
    assert len(encoder.encoded) == 6
    assert caplog.text.count("is damaged and made again") == 2


def test_keys_that_end_in_zero_bytes_stay_apart() -> None:
    cache_keys = np.array([b"\x01" + b"\x00" * 31, b"\x01" + b"\x00" * 30 + b"\x02"], "S32")
    assert len(np.unique(cache_keys)) == 2


def test_a_key_that_ends_in_a_zero_byte_is_found_again(tmp_path: Path) -> None:
    keys = np.array([b"k" * 31 + b"\x00", b"k" * 32], "S32")
    EmbeddingCache(tmp_path).put(keys, np.array([[1.0], [2.0]], np.float32))
    values, found = EmbeddingCache(tmp_path).get(keys[::-1])
    assert found.all()
    assert values.tolist() == [[2.0], [1.0]]


def test_content_that_cannot_be_embedded_is_cached_as_such(tmp_path: Path) -> None:
    keys = content_keys([b"broken"])
    sizes = np.array([6])
    nan = np.full((1, 2), np.nan, np.float32)
    embed_contents(keys, sizes, lambda _: nan, cache=EmbeddingCache(tmp_path))

    def never(_: NDArray[np.int64]) -> NDArray[np.float32]:
        raise AssertionError("encoded again")

    values = embed_contents(keys, sizes, never, cache=EmbeddingCache(tmp_path))
    assert np.isnan(values).all()
    assert values.shape == (1, 2)


def test_no_rows_give_no_vectors_and_no_files(tmp_path: Path) -> None:
    values, encoder = run([], tmp_path / "new")
    assert values.shape == (0, 0)
    assert encoder.calls == 0
    assert not (tmp_path / "new").exists()


def test_what_a_killed_writer_left_is_removed_after_a_day(tmp_path: Path) -> None:
    old, fresh = tmp_path / "a.npz.1.tmp", tmp_path / "b.npz.2.tmp"
    old.write_bytes(b"half")
    fresh.write_bytes(b"half")
    two_days_ago = time.time() - 2 * 86_400
    os.utime(old, (two_days_ago, two_days_ago))
    EmbeddingCache(tmp_path)
    assert not old.exists()
    assert fresh.exists()


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(OutputError, match="cannot be kept in the cache") as caught:
        EmbeddingCache(blocked / "below").put(content_keys([b"x"]), np.zeros((1, 2), np.float32))
    assert "FEDPREP_CACHE" in str(caught.value)


def test_encoders_that_differ_in_anything_have_folders_of_their_own(tmp_path: Path) -> None:
    one = {"name": "a", "revision": "1", "dim": 3}
    assert encoder_folder(tmp_path, one) == encoder_folder(tmp_path, dict(reversed(one.items())))
    assert encoder_folder(tmp_path, one) != encoder_folder(tmp_path, {**one, "revision": "2"})


def test_progress_counts_the_distinct_contents_to_the_end(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    contents = [b"a", b"b", b"a", b"c"]
    embed_contents(
        content_keys(contents),
        np.ones(4, np.int64),
        Encoder(contents),
        cache=EmbeddingCache(tmp_path),
        chunk=2,
        task="text",
        progress=lambda *call: seen.append(call),
    )
    assert seen == [("text", 0, 3), ("text", 2, 3), ("text", 3, 3)]


def test_chunks_are_bounded_by_the_sum_of_sizes_too(tmp_path: Path) -> None:
    contents = [bytes([65 + i]) * size for i, size in enumerate([90, 60, 50, 40, 3, 2, 1])]
    encoder = Encoder(contents)
    done: list[int] = []
    embed_contents(
        content_keys(contents),
        np.array([len(c) for c in contents]),
        encoder,
        cache=EmbeddingCache(tmp_path),
        chunk=4,
        chunk_size=100,
        progress=lambda _, n, __: done.append(n),
    )
    # A small content counts as a fourth of a chunk; chunks begin where 0, 100, 200 … are passed.
    assert done == [0, 2, 3, 7]
