"""Random numbers by their address (seed, user, place), so that order, blocks and threads change none.

A `numpy.random.Generator` for each user would need a Python loop over users; SplitMix64 gives the same
independence for a whole block at once.

Reference: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014, figure 16.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["uniform", "words"]

Words = npt.NDArray[np.uint64]

GAMMA = np.uint64(0x9E3779B97F4A7C15)

BLOCK = 1 << 14
"""Words that are mixed at a time."""


def uniform(
    seed: int, user: npt.ArrayLike, place: npt.ArrayLike, *, bits: int = 53
) -> npt.NDArray[np.float64]:
    """Returns float64 in [0, 1), one for each (user, place), broadcast together.

    Args:
        seed: any integer; equal seeds give equal numbers.
        user: integers from 0: each has a stream of its own.
        place: integers from 0: which number of the stream.
        bits: how many bits are random; 24 makes the numbers exact in float32.
    """
    word = words(seed, user, place)
    word >>= np.uint64(64 - bits)
    found = word.astype(np.float64)
    found *= 2.0**-bits
    return found


def words(seed: int, user: npt.ArrayLike, place: npt.ArrayLike) -> Words:
    """Returns uint64, all 64 bits random, one for each (user, place); arguments as of `uniform`."""
    start = _mixed(_mixed(_words(seed % 2**64)) ^ _mixed(_words(user) + GAMMA))
    return _mixed(start + (_words(place) + np.uint64(1)) * GAMMA)


def _words(values: npt.ArrayLike) -> Words:
    # Arrays of one dimension at least: uint64 arrays wrap without a word, numpy's scalars warn.
    return np.atleast_1d(np.asarray(values)).astype(np.uint64)


def _mixed(word: Words) -> Words:
    """Returns the array that it was given, mixed in its place, as much at a time as a cache holds."""
    line = word.ravel(order="K")  # of an array just made: never a copy
    for start in range(0, len(line), BLOCK):
        part = line[start : start + BLOCK]
        shifted = part >> np.uint64(30)
        part ^= shifted
        part *= np.uint64(0xBF58476D1CE4E5B9)
        np.right_shift(part, np.uint64(27), out=shifted)
        part ^= shifted
        part *= np.uint64(0x94D049BB133111EB)
        np.right_shift(part, np.uint64(31), out=shifted)
        part ^= shifted
    return word
