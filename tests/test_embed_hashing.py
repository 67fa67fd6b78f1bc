"""Hashing features: the same bytes everywhere, words that matter, order that matters."""

from __future__ import annotations

import hashlib
import itertools
import math
import random
import re
import unicodedata

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedprep.embed import hashing
from fedprep.embed.hashing import PIECE, hash_texts

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix(h: int) -> int:
    h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    h = (h ^ (h >> 27)) * 0x94D049BB133111EB & MASK
    return h ^ (h >> 31)


def hashed(word: str) -> int:
    h = 0
    for place, byte in enumerate(word.encode()):
        h = (h + (byte + 1) * pow(GOLDEN, place + 1, 1 << 64)) & MASK
    return mix(h)


def reference(text: str, dim: int) -> NDArray[np.float32]:
    """The features as the module's docstring tells them, word by word and piece by piece."""
    text = unicodedata.normalize("NFKC", text).lower().replace("ß", "ss").replace("ς", "σ")
    words = re.findall(r"[\w\u0301]+|[^\w\s.,!?\u0301]+", text)
    grams = [hashed(word) for word in words]
    grams += [mix((a * GOLDEN + b) & MASK) for a, b in itertools.pairwise(grams)]
    values = np.zeros(dim)
    for gram in dict.fromkeys(grams):
        weight = round((1 + math.log(grams.count(gram))) * 65536) / 65536
        values[gram % dim] += -weight if gram >> 63 else weight
    pieces = []
    for word in words:
        spaced = [ord(letter) for letter in f" {word} "]
        for n in (2, 3):
            for low in range(len(spaced) - n + 1):
                h = 0
                for letter in spaced[low : low + n]:
                    h = (h * GOLDEN + letter) & MASK
                pieces.append(mix(h))
    marks = [hashed(run) for run in re.findall(r"[.,!?]+", text)]
    for gram, weight in [(p, PIECE) for p in pieces] + [(m, hashing.MARK) for m in marks]:
        values[gram % dim] += -weight if gram >> 63 else weight
    return values.astype(np.float32)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.text("aAbB1_éß ,.!日本ด\u0301😀+", max_size=20), min_size=1, max_size=8),
    st.integers(1, 40),
)
def test_the_features_are_those_of_the_plain_words(texts: list[str], dim: int) -> None:
    made = hash_texts(pl.Series(texts, dtype=pl.String), dim)
    assert np.array_equal(made, np.stack([reference(text, dim) for text in texts]))


def test_the_bytes_are_these_on_every_machine() -> None:
    made = hash_texts(
        pl.Series(["The Heat is on, the heat!", "Crème brûlée", "東京 物語 1953"]), 32
    )
    assert hashlib.sha256(made.tobytes()).hexdigest()[:16] == "b7eec53d35233d5b"


def test_texts_that_share_words_are_nearer_and_order_matters() -> None:
    base, alike, other, turned = hash_texts(
        pl.Series(["dark sea storm", "dark sea calm", "sunny meadow walk", "storm sea dark"]), 512
    )
    assert base @ alike > base @ other
    assert 0 < base @ turned < base @ base


def test_a_text_of_nothing_visible_is_a_row_of_zeros() -> None:
    made = hash_texts(pl.Series(["?!", "", "\u200b\ufeff", "ok", "😀", "❤️"]), 16)
    assert (made != 0).any(axis=1).tolist() == [True, False, False, True, True, True]


ALPHABETS = {
    "Chinese": "红楼梦西游记水浒传三国演义儒林外史聊斋志异",
    "Japanese": "あいうえおかきくけこさしすせそたちつてと",
    "Korean": "가나다라마바사아자차카타파하거너더러머버",
    "Thai": "กขคงจฉชซญดตถทนบปผพฟมยรลวสหอ",
    "Arabic": "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
    "Hebrew": "אבגדהוזחטיכלמנסעפצקרשת",
    "Hindi": "कखगघचछजझटठडढणतथदधनपफबभमयरलव",
    "Greek": "αβγδεζηθικλμνξοπρστυφχψω",
    "Latin": "abcdefghijklmnopqrstuvwxyz",
    "digits": "0123456789",
    "emoji": "😀😁😂🤣😃😄😅😆😉😊😋😎😍😘🥰",
    "mixed": "ab梦西😀कखก1ا가",
}


def unit(texts: list[str], dim: int) -> NDArray[np.float64]:
    made = hash_texts(pl.Series(texts), dim).astype(float)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


@pytest.mark.parametrize("script", ALPHABETS)
def test_titles_of_one_word_are_told_apart_and_related_ones_are_nearer_in_every_script(
    script: str,
) -> None:
    rng = random.Random(script)
    texts: list[str] = []
    while len(texts) < 60:
        begin = "".join(rng.choices(ALPHABETS[script], k=5))
        pair = [begin + end for end in rng.sample(ALPHABETS[script], 2)]
        texts += pair if not set(pair) & set(texts) else []
    for dim in (256, 16):
        made = unit(texts, dim)
        assert len(np.unique(made.round(5), axis=0)) == 60
    cosines = unit(texts, 256) @ unit(texts, 256).T
    pairs = np.arange(60) // 2
    related = cosines[(pairs[:, None] == pairs) & ~np.eye(60, dtype=bool)].mean()
    assert related > cosines[pairs[:, None] != pairs].mean() + 0.3


def test_one_text_in_two_spellings_of_unicode_has_one_vector() -> None:
    texts = ["Crème Straße", "CRE\u0300ME STRASSE", "Ｃｒè\u200bme strasse"]
    made = hash_texts(pl.Series(texts), 64)
    assert np.array_equal(made[0], made[1])
    assert np.array_equal(made[0], made[2])


def test_marks_alone_tell_titles_apart_and_weigh_little() -> None:
    made = unit(["What", "What?", "What!", "C", "C++", "C#", "!!!", "???"], 512)
    assert len(np.unique(made.round(6), axis=0)) == 8
    assert made[0] @ made[1] > 0.95


def test_a_very_long_word_is_one_text_like_others() -> None:
    made = hash_texts(pl.Series(["梦" * 100_000, "ok"]), 32)
    assert np.isfinite(made).all()
    assert (made != 0).any(axis=1).all()


def test_a_text_has_the_same_features_in_any_company(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = pl.Series([f"tale {i} of {i % 3} cities" for i in range(50)])
    whole = hash_texts(texts, 24)
    monkeypatch.setattr(hashing, "BLOCK", 9)
    parts = np.concatenate([hash_texts(texts.slice(low, 20), 24) for low in range(0, 50, 20)])
    assert np.array_equal(whole, parts)


def test_features_spread_over_all_dimensions_and_both_signs() -> None:
    made = hash_texts(pl.Series([chr(0x4E00 + i) for i in range(6400)]), 64)
    used = (made != 0).sum(axis=0)
    assert used.min() > 300  # 4 features a text: the word, and three pieces
    assert used.max() < 480
    assert 0.45 < (made.sum(axis=1) > 0).mean() < 0.55
