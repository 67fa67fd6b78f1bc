"""Hashing features: the same bytes everywhere, words that matter, order that matters."""

from __future__ import annotations

import hashlib
import itertools
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedprep.embed import hashing
from fedprep.embed.hashing import hash_texts

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix(h: int) -> int:
    h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    h = (h ^ (h >> 27)) * 0x94D049BB133111EB & MASK
    return h ^ (h >> 31)


def reference(text: str, dim: int) -> NDArray[np.float32]:
    """The features as the module's docstring tells them, word by word."""
    words = []
    for word in "".join(c if c.isalnum() or c == "_" else " " for c in text.lower()).split():
        h = 0
        for place, byte in enumerate(word.encode()):
            h = (h + (byte + 1) * pow(GOLDEN, place + 1, 1 << 64)) & MASK
        words.append(mix(h))
    grams = words + [mix((a * GOLDEN + b) & MASK) for a, b in itertools.pairwise(words)]
    values = np.zeros(dim)
    for gram in dict.fromkeys(grams):
        weight = round((1 + math.log(grams.count(gram))) * 65536) / 65536
        values[gram % dim] += -weight if gram >> 63 else weight
    return values.astype(np.float32)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.text("aAbB1_é ,.!-日", max_size=20), min_size=1, max_size=8),
    st.integers(1, 40),
)
def test_the_features_are_those_of_the_plain_words(texts: list[str], dim: int) -> None:
    made = hash_texts(pl.Series(texts, dtype=pl.String), dim)
    assert np.array_equal(made, np.stack([reference(text, dim) for text in texts]))


def test_the_bytes_are_these_on_every_machine() -> None:
    made = hash_texts(
        pl.Series(["The Heat is on, the heat!", "Crème brûlée", "東京 物語 1953"]), 32
    )
    assert hashlib.sha256(made.tobytes()).hexdigest()[:16] == "3d165b1520857f41"


def test_texts_that_share_words_are_nearer_and_order_matters() -> None:
    base, alike, other, turned = hash_texts(
        pl.Series(["dark sea storm", "dark sea calm", "sunny meadow walk", "storm sea dark"]), 512
    )
    assert base @ alike > base @ other
    assert 0 < base @ turned < base @ base


def test_a_text_without_a_word_is_a_row_of_zeros() -> None:
    made = hash_texts(pl.Series(["?!", "", "ok"]), 16)
    assert (made != 0).any(axis=1).tolist() == [False, False, True]


def test_a_text_has_the_same_features_in_any_company(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = pl.Series([f"tale {i} of {i % 3} cities" for i in range(50)])
    whole = hash_texts(texts, 24)
    monkeypatch.setattr(hashing, "BLOCK", 9)
    parts = np.concatenate([hash_texts(texts.slice(low, 20), 24) for low in range(0, 50, 20)])
    assert np.array_equal(whole, parts)


def test_features_spread_over_all_dimensions_and_both_signs() -> None:
    made = hash_texts(pl.Series([f"word{i}" for i in range(6400)]), 64)
    used = (made != 0).sum(axis=0)
    assert used.min() > 60
    assert used.max() < 145
    assert 0.45 < (made.sum(axis=1) > 0).mean() < 0.55
