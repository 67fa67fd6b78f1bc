"""Random numbers by their address: nothing but seed, user and place changes one."""

from __future__ import annotations

import numpy as np
import pytest

from fedeval import draws
from fedeval.draws import uniform, words

MASK = 2**64 - 1


def mixed(word: int) -> int:
    """SplitMix64's last steps (Steele, Lea, Flood 2014, figure 16), one word of Python at a time."""
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB & MASK
    return word ^ (word >> 31)


def test_a_word_is_that_of_whole_numbers_one_by_one() -> None:
    gamma = 0x9E3779B97F4A7C15
    for seed, user, place in ((0, 0, 0), (7, 3, 5), (2**63 + 1, 2**40, 2**33), (-1, 1, 0)):
        start = mixed(mixed(seed & MASK) ^ mixed(user + gamma & MASK))
        expected = mixed(start + (place + 1) * gamma & MASK)
        assert words(seed, user, place).tolist() == [expected]
        assert uniform(seed, user, place).tolist() == [(expected >> 11) / 2**53]
        assert uniform(seed, user, place, bits=24).tolist() == [(expected >> 40) / 2**24]


@pytest.mark.parametrize("block", [1, 7, 1 << 14])
def test_shape_layout_and_blocks_change_no_number(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    users, places = np.arange(6)[:, None], np.arange(11)[None, :]
    expected = words(5, users, places)
    monkeypatch.setattr(draws, "BLOCK", block)
    both = np.broadcast_to(users, (6, 11)), np.broadcast_to(places, (6, 11))
    assert np.array_equal(words(5, *both), expected)
    in_columns = [np.asfortranarray(array) for array in both]
    assert np.array_equal(words(5, *in_columns), expected)
    assert np.array_equal(words(5, both[0][::2, ::-1], both[1][::2, ::-1]), expected[::2, ::-1])
    assert np.array_equal(
        words(5, places.T, users.T + 0), words(5, np.arange(11)[:, None], users.T)
    )


def test_what_is_given_is_not_changed() -> None:
    users, places = np.arange(4, dtype=np.uint64), np.arange(4, dtype=np.uint64)
    words(1, users, places)
    assert users.tolist() == places.tolist() == [0, 1, 2, 3]
