"""Text features without a model: signed hashing of words, of pairs of words, and of pieces of words.

A text is brought to one Unicode form (NFKC, small letters, no invisible marks) and cut into words: runs of
letters, marks and digits, and runs of symbols such as emoji. Scripts without blanks, inflected words and
typing errors are told by the pieces: the two and three characters in a row inside a word, its ends marked by
blanks. Each distinct word and pair of neighbours adds ±(1 + ln count) to one of `dim` features, each piece
±`PIECE`, each run of punctuation ±`MARK`; a hash chooses the feature and the sign. There is no vocabulary, so
new texts fit in; the same text gives the same bytes on every machine.

References: Weinberger, Dasgupta, Langford, Smola, Attenberg, Feature Hashing for Large Scale Multitask
Learning, ICML 2009. Bojanowski, Grave, Joulin, Mikolov, Enriching Word Vectors with Subword Information,
TACL 2017 (pieces with marked ends).
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from fedprep.schema import Progress, silent

__all__ = ["REVISION", "hash_texts"]

REVISION = "words-1-2-pieces-2-3/2"
"""Changes whenever the same text would give other features."""

INVISIBLE = r"[\p{Cf}\x{FE00}-\x{FE0F}]"
WORD = r"\w+|[^\w\s\p{P}]+"
PUNCTUATION = r"[\p{P}--\w]+"
FOLDED = {"ß": "ss", "ς": "σ"}
"""What small letters leave different that readers take for the same."""

PIECE = 0.375
MARK = 0.125
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
    """Returns float32 (n, dim); a row of zeros where a text (String, no nulls) holds nothing visible."""
    values = np.zeros((len(texts), dim), np.float32)
    progress(task, 0, len(texts))
    for low in range(0, len(texts), BLOCK):
        block = texts.slice(low, BLOCK)
        values[low : low + len(block)] = _features(block, dim)
        progress(task, low + len(block), len(texts))
    return values


def _features(texts: pl.Series, dim: int) -> NDArray[np.float64]:
    texts = texts.str.normalize("NFKC").str.replace_all(INVISIBLE, "").str.to_lowercase()
    texts = texts.str.replace_many(FOLDED)
    words = texts.str.extract_all(WORD)
    row, word = _hashed(words)
    follows = np.flatnonzero(row[1:] == row[:-1])
    pair = _mix(word[follows] * _GOLDEN + word[follows + 1])
    sums = _weighted(
        np.concatenate([row, row[follows]]), np.concatenate([word, pair]), len(texts), dim
    )
    marks = _hashed(texts.str.extract_all(PUNCTUATION))
    for (row, gram), weight in ((_pieces(words), PIECE), (marks, MARK)):
        feature = row * dim + (gram % np.uint64(dim)).astype(np.int64)
        np.add.at(sums, feature, np.where(gram >> np.uint64(63), -weight, weight))
    return sums.reshape(len(texts), dim)


def _hashed(words: pl.Series) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Returns row and hash of each word of lists of words."""
    row = np.repeat(np.arange(len(words)), words.list.len().to_numpy())
    return row, _hash_strings(words.filter(words.list.len() > 0).explode())


def _pieces(words: pl.Series) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Returns row and hash of each two and three characters in a row of words with a blank at each end."""
    spaced = " " + words.list.join(" ") + " "
    row = np.repeat(np.arange(len(words)), spaced.str.len_chars().to_numpy())
    text = "".join(spaced.to_list())
    letter = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.uint64)
    is_blank = letter == ord(" ")
    two = letter[:-1] * _GOLDEN + letter[1:]
    three = two[:-1] * _GOLDEN + letter[2:]
    # A row begins and ends with a blank: what reaches into the next has two of them side by side.
    in_two = ~(is_blank[:-1] & is_blank[1:])
    in_three = ~is_blank[1:-1]
    return (
        np.concatenate([row[:-1][in_two], row[:-2][in_three]]),
        _mix(np.concatenate([two[in_two], three[in_three]])),
    )


def _weighted(
    row: NDArray[np.int64], gram: NDArray[np.uint64], n_rows: int, dim: int
) -> NDArray[np.float64]:
    """Returns the sums of ±(1 + ln count) over the distinct grams of each row: (n_rows · dim,)."""
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
    return sums


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
