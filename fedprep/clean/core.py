"""The k-core of a table of users and items.

Reference: S. B. Seidman, Network structure and minimum degree, Social Networks 5 (1983); with a bound for
each side of a two-mode network, M. Cerinšek, V. Batagelj, Generalized two-mode cores, Social Networks 42
(2015).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["core_of", "largest_core"]

SWEEPS = 8  # passes over all rows, before only the neighbours of what went are looked at

Codes = npt.NDArray[np.int32]
Indices = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]


def core_of(users: Codes, items: Codes, user_core: int, item_core: int) -> Mask:
    """Returns bool (n_rows,): the most rows in which every user has `user_core` and every item `item_core`.

    Which rows those are does not depend on the order in which the others go. Real data are nearly there
    after a few sweeps over all rows; a long chain, where each sweep takes one row off its end, is then
    followed link by link, so the work grows with the rows and not with their square.

    Args:
        users: int32 (n_rows,), codes from 0.
        items: int32 (n_rows,), codes from 0; no (user, item) twice.
    """
    n_rows = users.size
    rows = np.arange(n_rows)
    n_of_user, n_of_item = np.bincount(users), np.bincount(items)
    for _ in range(SWEEPS):
        weak = (n_of_user < user_core)[users] | (n_of_item < item_core)[items]
        if not weak.any():
            break
        n_of_user -= np.bincount(users[weak], minlength=n_of_user.size)
        n_of_item -= np.bincount(items[weak], minlength=n_of_item.size)
        stay = ~weak
        rows, users, items = rows[stay], users[stay], items[stay]
    else:
        rows = rows[_peel(users, items, user_core, item_core)]
    in_core = np.zeros(n_rows, dtype=np.bool_)
    in_core[rows] = True
    return in_core


def largest_core(users: Codes, items: Codes, user_core: int, item_core: int) -> tuple[int, int]:
    """Returns the largest k at which something is left, and how many rows that is.

    At k users need `min(k, user_core)` rows and items `min(k, item_core)`. Found by halving: the core at
    a larger k lies inside the one at a smaller.

    Args:
        users: as in `core_of`, at least one row.
    """
    # Above the busiest user and the busiest item no bound can be met.
    busiest = max(int(np.bincount(users).max()), int(np.bincount(items).max()))
    filled, empty = 1, min(max(user_core, item_core), busiest + 1)
    while empty - filled > 1:
        k = (filled + empty) // 2
        in_core = core_of(users, items, min(k, user_core), min(k, item_core))
        if in_core.any():
            filled, users, items = k, users[in_core], items[in_core]
        else:
            empty = k
    return filled, users.size


class _Side:
    """Users, or items, while rows go."""

    def __init__(self, codes: Codes, bound: int) -> None:
        self.codes = codes
        self.bound = bound
        self.n_rows = np.bincount(codes)  # by code, of the rows still there
        self._order = np.argsort(codes)
        self._ends = np.cumsum(self.n_rows)
        self._starts = self._ends - self.n_rows
        self.weak = np.flatnonzero(self.n_rows < bound)

    def rows_of(self, codes: Indices) -> Indices:
        """Returns the positions of all rows of these codes, gone or not."""
        starts, ends = self._starts[codes], self._ends[codes]
        sizes = ends - starts
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        positions: Indices = self._order[np.repeat(starts, sizes) + within]
        return positions

    def lose(self, rows: Indices) -> None:
        """Takes rows away, and adds the codes with too few left to the weak ones."""
        touched, n_lost = np.unique(self.codes[rows], return_counts=True)
        self.n_rows[touched] -= n_lost
        self.weak = np.union1d(self.weak, touched[self.n_rows[touched] < self.bound])


def _peel(users: Codes, items: Codes, user_core: int, item_core: int) -> Mask:
    """Returns what `core_of` does; each row is looked at twice at most, when it or its neighbour goes."""
    here = np.ones(users.size, dtype=np.bool_)
    side, other = _Side(users, user_core), _Side(items, item_core)
    while side.weak.size or other.weak.size:
        going = side.rows_of(side.weak)
        going = going[here[going]]
        here[going] = False
        side.weak = side.weak[:0]
        other.lose(going)
        side, other = other, side
    return here
