"""Random numbers by their address (seed, user, place), so that order, blocks and threads change none.

A `numpy.random.Generator` for each user would need a Python loop over users; SplitMix64 gives the same
independence for a whole block at once.

Reference: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014, figure 16.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["uniform"]

Words = npt.NDArray[np.uint64]

GAMMA = np.uint64(0x9E3779B97F4A7C15)


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
    start = _mixed(_mixed(_words(seed % 2**64)) ^ _mixed(_words(user) + GAMMA))
    word = _mixed(start + (_words(place) + np.uint64(1)) * GAMMA)
    return (word >> np.uint64(64 - bits)).astype(np.float64) * np.float64(2.0**-bits)


def _words(values: npt.ArrayLike) -> Words:
    # Arrays of one dimension at least: uint64 arrays wrap without a word, numpy's scalars warn.
    return np.atleast_1d(np.asarray(values)).astype(np.uint64)


def _mixed(word: Words) -> Words:
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))
