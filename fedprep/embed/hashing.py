"""Text features without a model: signed hashing of words and of neighbouring pairs of words.

A text is cut into lower-cased words (runs of letters, digits and `_`). Each distinct word and each
distinct pair of neighbours adds ±(1 + ln count) to one of `dim` features; a hash of its bytes chooses
the feature and the sign. There is no vocabulary, so new texts fit in; the same text gives the same
bytes on every machine.

Reference: Weinberger, Dasgupta, Langford, Smola, Attenberg, Feature Hashing for Large Scale Multitask
Learning, ICML 2009.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from fedprep.schema import Progress, silent

__all__ = ["REVISION", "hash_texts"]

REVISION = "words-1-2/1"
"""Changes whenever the same text would give other features."""

WORD = r"\w+"
BLOCK = 16_384

# Odd, so that multiplying loses no bit: the 64-bit golden ratio, and splitmix64's (Steele et al. 2014).
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)

# Weights are multiples of this, so their sums are exact: no order of adding and no last bit of a
# machine's logarithm can show.
_GRID = 2.0**16


def hash_texts(
    texts: pl.Series, dim: int, *, task: str = "hash texts", progress: Progress = silent
) -> NDArray[np.float32]:
    """Returns float32 (n, dim); a row of zeros where a text (String, no nulls) holds no word."""
    values = np.zeros((len(texts), dim), np.float32)
    progress(task, 0, len(texts))
    for low in range(0, len(texts), BLOCK):
        block = texts.slice(low, BLOCK)
        values[low : low + len(block)] = _features(block, dim)
        progress(task, low + len(block), len(texts))
    return values


def _features(texts: pl.Series, dim: int) -> NDArray[np.float64]:
    words = texts.str.to_lowercase().str.extract_all(WORD)
    n_words = words.list.len().to_numpy()
    row = np.repeat(np.arange(len(texts)), n_words)  # (n_words,)
    word = _hash_strings(words.filter(words.list.len() > 0).explode())  # (n_words,)
    follows = np.flatnonzero(row[1:] == row[:-1])
    pair = _mix(word[follows] * _GOLDEN + word[follows + 1])
    return _weighted(
        np.concatenate([row, row[follows]]), np.concatenate([word, pair]), len(texts), dim
    )


def _weighted(
    row: NDArray[np.int64], gram: NDArray[np.uint64], n_rows: int, dim: int
) -> NDArray[np.float64]:
    """Returns the sums of ±(1 + ln count) over the distinct grams of each row: (n_rows, dim)."""
    order = np.lexsort((gram, row))
    row, gram = row[order], gram[order]
    is_new = np.ones(len(row), bool)
    is_new[1:] = (row[1:] != row[:-1]) | (gram[1:] != gram[:-1])
    begins = np.flatnonzero(is_new)
    count = np.diff(begins, append=len(row))
    weight = np.round((1.0 + np.log(count)) * _GRID) / _GRID
    row, gram = row[begins], gram[begins]
    signed = np.where(gram >> np.uint64(63), -weight, weight)
    feature = (gram % np.uint64(dim)).astype(np.int64)
    sums: NDArray[np.float64] = np.zeros(n_rows * dim)
    np.add.at(sums, row * dim + feature, signed)
    return sums.reshape(n_rows, dim)


def _hash_strings(strings: pl.Series) -> NDArray[np.uint64]:
    """Returns 64-bit hashes of the strings' UTF-8 bytes: a polynomial modulo 2⁶⁴, mixed.

    sum over i of (byte_i + 1) · golden^(i + 1), which tells lengths apart as no term is zero.
    """
    array = strings.cast(pl.String).to_arrow().cast(pa.large_string())
    if len(array) == 0:
        return np.zeros(0, np.uint64)
    _, offset_bytes, data = array.buffers()
    offsets = np.frombuffer(offset_bytes, np.int64)[array.offset : array.offset + len(array) + 1]
    lengths = np.diff(offsets)
    first, last = int(offsets[0]), int(offsets[-1])
    byte = np.frombuffer(data, np.uint8)[first:last].astype(np.uint64)
    place = np.arange(last - first) - np.repeat(offsets[:-1] - first, lengths)
    powers = np.cumprod(np.full(int(lengths.max()), _GOLDEN, np.uint64))
    sums = np.add.reduceat((byte + np.uint64(1)) * powers[place], offsets[:-1] - first)
    return _mix(sums)


def _mix(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Returns the hashes with every bit depending on every bit (the finaliser of splitmix64)."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * _MIX_1
    hashes = (hashes ^ (hashes >> np.uint64(27))) * _MIX_2
    return hashes ^ (hashes >> np.uint64(31))
