"""Source ids as the three families write them: distinct for distinct numbers, and fixed by the seed."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

__all__ = ["amazon_items", "amazon_users", "movie_numbers", "yelp_names"]

UPPER = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

Words = npt.NDArray[np.uint64]


def amazon_items(numbers: npt.NDArray[np.int64], seed: int) -> pl.Series:
    """Returns `B0` and 8 letters or digits, such as B0C4XK19ZQ."""
    return _fixed(b"B0", _digits(_scatter_41_bits(numbers, seed), UPPER, 8))


def amazon_users(numbers: npt.NDArray[np.int64], seed: int, *, long: bool) -> pl.Series:
    """Returns `A` and 13 letters or digits, or (edition 2023) `AE` and 26."""
    words = _scatter(numbers, seed, b"user")
    if not long:
        return _fixed(b"A", _digits(words, UPPER, 13))
    more = _digits(_scatter(numbers, seed, b"more"), UPPER, 13)
    return _fixed(b"AE", np.concatenate([_digits(words, UPPER, 13), more], axis=1))


def yelp_names(numbers: npt.NDArray[np.int64], seed: int, kind: str) -> pl.Series:
    """Returns 22 characters of URL-safe base 64, different for each kind (`"user"`, `"review"` …)."""
    first = _digits(_scatter(numbers, seed, kind.encode()), BASE64, 11)
    second = _digits(_scatter(numbers, seed, b"second " + kind.encode()), BASE64, 11)
    return _fixed(b"", np.concatenate([first, second], axis=1))


def movie_numbers(rng: np.random.Generator, n: int, *, gaps: bool) -> npt.NDArray[np.int64]:
    """Returns movie ids, ascending from 1, with some numbers left out where the edition does."""
    steps = (
        1 + (rng.random(n) < 0.1) * rng.integers(1, 4, n) if gaps else np.ones(n, dtype=np.int64)
    )
    steps[:1] = 1
    return np.cumsum(steps)


def _scatter(numbers: npt.NDArray[np.int64], seed: int, kind: bytes) -> Words:
    """Returns one 64-bit word for each number: a bijection (splitmix64), so none comes twice."""
    salt = (zlib.crc32(kind) << 32) + seed * 0x9E3779B97F4A7C15
    x = numbers.astype(np.uint64) + np.uint64(salt % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    scattered: Words = x ^ (x >> np.uint64(31))
    return scattered


def _scatter_41_bits(numbers: npt.NDArray[np.int64], seed: int) -> Words:
    """The same within 41 bits, which eight base-36 digits can hold."""
    mask = np.uint64(2**41 - 1)
    x = (numbers.astype(np.uint64) + np.uint64((seed + 1) * 0x1D8E4E27C47 % 2**41)) & mask
    for factor in (0x9E3779B97F5, 0x94D049BB133):
        x = (x * np.uint64(factor % 2**41)) & mask
        x ^= x >> np.uint64(21)
    return x


def _digits(words: Words, alphabet: bytes, width: int) -> npt.NDArray[np.uint8]:
    letters = np.frombuffer(alphabet, dtype=np.uint8)
    table = np.empty((len(words), width), dtype=np.uint8)  # (n, width) ASCII codes
    for column in range(width - 1, -1, -1):
        words, digit = np.divmod(words, np.uint64(len(alphabet)))
        table[:, column] = letters[digit.astype(np.int64)]
    return table


def _fixed(prefix: bytes, table: npt.NDArray[np.uint8]) -> pl.Series:
    """Returns the rows of a table of ASCII codes as strings, each after the prefix."""
    head = np.broadcast_to(np.frombuffer(prefix, dtype=np.uint8), (len(table), len(prefix)))
    whole = np.ascontiguousarray(np.concatenate([head, table], axis=1))
    offsets = np.arange(len(whole) + 1, dtype=np.int64) * whole.shape[1]
    array = pa.LargeStringArray.from_buffers(
        len(whole), pa.py_buffer(offsets), pa.py_buffer(whole.tobytes())
    )
    return pl.Series(array)
