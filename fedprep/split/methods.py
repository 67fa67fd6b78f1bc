"""The methods: each says of every row whether it is train, valid or test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fedprep.errors import EmptyDataError, RecipeError
from fedprep.recipe import Split, date_of, seconds_of

__all__ = ["METHODS", "TEST", "TRAIN", "VALID", "Mask", "Parts", "Rows"]

TRAIN, VALID, TEST = 0, 1, 2  # places in schema.SPLITS

Parts = npt.NDArray[np.int8]  # (n_rows,), of TRAIN, VALID, TEST
Longs = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

TIE_RULE = "rows of one user and timestamp are ordered by a hash of (seed, user_id, item_id)"


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Columns of the interactions, each (n_rows,), sorted by (user, time)."""

    users: npt.NDArray[np.int32]
    items: npt.NDArray[np.int32]
    times: Longs | None  # None where rows have no time
    seed: int

    @cached_property
    def as_before(self) -> Mask:
        """Bool (n_rows,): the row has the user and the timestamp of the row before it."""
        assert self.times is not None
        same = (self.users[1:] == self.users[:-1]) & (self.times[1:] == self.times[:-1])
        return np.insert(same, 0, False)

    def where(self, keep: Mask) -> Rows:
        """Returns the rows to keep."""
        return Rows(
            users=self.users[keep],
            items=self.items[keep],
            times=None if self.times is None else self.times[keep],
            seed=self.seed,
        )

    def draws(self, rows: Longs | slice) -> npt.NDArray[np.uint64]:
        """Returns a number for each of these rows: all 64 bits random, no two equal.

        It hangs on the seed and the row's own ids alone, so neither the order of the rows nor what other
        rows there are can change it. (The two ids fill 64 bits, and the mixing is one-to-one.)

        Reference: G. Steele, D. Lea, C. Flood, Fast splittable pseudorandom number generators, OOPSLA
        2014: the finaliser of SplitMix64.
        """
        mixed = self.users[rows].astype(np.uint64) << np.uint64(32)
        mixed |= self.items[rows].astype(np.uint64)
        # generate_state, unlike the methods of a Generator, is the same in every version of numpy.
        for key in np.random.SeedSequence([self.seed, *b"split"]).generate_state(2, np.uint64):
            mixed ^= key
            mixed ^= mixed >> np.uint64(30)
            mixed *= np.uint64(0xBF58476D1CE4E5B9)
            mixed ^= mixed >> np.uint64(27)
            mixed *= np.uint64(0x94D049BB133111EB)
            mixed ^= mixed >> np.uint64(31)
        return mixed


def leave_last_out(rows: Rows, options: Split) -> tuple[Parts, dict[str, Any]]:
    """Returns the last `n_test` rows of each user as test, the `n_valid` before them as valid.

    A user with fewer than `n_valid + n_test + 1` rows stays in train as a whole.
    """
    sizes = _sizes(rows.users)
    n_held = options.n_valid + options.n_test
    enough = sizes > n_held
    most = rows.users.size  # a recipe may ask for more than an array can count
    n_valid = np.where(enough, min(options.n_valid, most), 0)
    n_test = np.where(enough, min(options.n_test, most), 0)
    parts, facts = _hold_out_last(rows, sizes, n_valid, n_test)
    rule = (
        f"of each user the last {options.n_test} are test, the {options.n_valid} before them valid; "
        f"users with fewer than {n_held + 1} rows stay in train"
    )
    return parts, {"rule": rule, **facts}


def user_ratio(rows: Rows, options: Split) -> tuple[Parts, dict[str, Any]]:
    """Returns the latest share of each user's rows as test, the share before it as valid.

    A share is rounded half up to rows; a user's first row always stays in train.
    """
    sizes = _sizes(rows.users)
    n_valid, n_test = _rows_of_shares(sizes, options.valid, options.test)
    parts, facts = _hold_out_last(rows, sizes, n_valid, n_test)
    rule = (
        f"of each user the latest {options.test:g} of the rows are test, the {options.valid:g} before them "
        "valid, rounded half up; a user's first row stays in train"
    )
    return parts, {"rule": rule, **facts}


def global_time(rows: Rows, options: Split) -> tuple[Parts, dict[str, Any]]:
    """Returns the rows from one moment on as test, and those from an earlier one on as valid.

    A date of the recipe takes the place of its share. A share is met as nearly as may be without parting
    rows of one timestamp: of two moments equally near, by the earlier.

    Raises:
        EmptyDataError: train, or a part that was asked for, would hold no row.
    """
    assert rows.times is not None
    valid_date, test_date = options.valid_from, options.test_from
    n_valid, n_test = _rows_of_shares(
        np.array([rows.times.size]),
        0.0 if valid_date else options.valid,
        0.0 if test_date else options.test,
    )
    times = np.sort(rows.times)
    test_from = _cut(times, int(n_test[0]), test_date, part="test")
    before = times if test_from is None else times[: np.searchsorted(times, test_from)]
    valid_from = _cut(before, int(n_valid[0]), valid_date, part="valid")
    parts = np.zeros(times.size, dtype=np.int8)
    if valid_from is not None:
        parts[rows.times >= valid_from] = VALID
    if test_from is not None:
        parts[rows.times >= test_from] = TEST
    rule = ", ".join(
        f"rows from {date_of(moment)} on are {part}"
        for part, moment in (("test", test_from), ("valid", valid_from))
        if moment is not None
    )
    return parts, {"rule": rule, "valid_from": valid_from, "test_from": test_from}


def ratio(rows: Rows, options: Split) -> tuple[Parts, dict[str, Any]]:
    """Returns a random share of all rows as test, another as valid: those with the smallest draws.

    Shares are rounded half up to rows; one row at least stays in train.
    """
    n_valid, n_test = _rows_of_shares(np.array([rows.users.size]), options.valid, options.test)
    draws = rows.draws(slice(None))
    parts = np.zeros(draws.size, dtype=np.int8)
    for part, n_rows in ((VALID, int(n_valid[0] + n_test[0])), (TEST, int(n_test[0]))):
        if n_rows:
            parts[draws <= np.partition(draws, n_rows - 1)[n_rows - 1]] = part
    rule = (
        f"{options.test:g} of all rows are test and {options.valid:g} valid, drawn by a hash of "
        "(seed, user_id, item_id)"
    )
    return parts, {"rule": rule}


METHODS: dict[str, Callable[[Rows, Split], tuple[Parts, dict[str, Any]]]] = {
    "leave_last_out": leave_last_out,
    "global_time": global_time,
    "user_ratio": user_ratio,
    "ratio": ratio,
}


def _sizes(users: npt.NDArray[np.int32]) -> Longs:
    """Returns how many rows each user has, in order of users."""
    starts = np.flatnonzero(np.diff(users, prepend=-1))
    return np.diff(starts, append=users.size)


def _rows_of_shares(sizes: Longs, valid: float, test: float) -> tuple[Longs, Longs]:
    """Returns how many of `sizes` rows are valid, and test: rounded half up, one row left at least.

    Raises:
        RecipeError: the shares leave nothing for train.
    """
    if valid + test >= 1:
        raise RecipeError(
            f"split.valid = {valid:g} and split.test = {test:g} leave no row for train",
            expected="shares of rows that sum to less than 1",
        )
    # 0.29 * 50 is 14.499999999999998 in binary: the tiny term makes it the half that it is.
    n_test = np.minimum(np.floor(test * sizes + 0.5 + 1e-9).astype(np.int64), sizes - 1)
    n_valid = np.minimum(np.floor(valid * sizes + 0.5 + 1e-9).astype(np.int64), sizes - 1 - n_test)
    return n_valid, n_test


def _hold_out_last(
    rows: Rows, sizes: Longs, n_valid: Longs, n_test: Longs
) -> tuple[Parts, dict[str, Any]]:
    """Returns the parts when each user's last rows are held out, ties by draw.

    Args:
        sizes, n_valid, n_test: rows of each user, (n_users,), in order of users.
    """
    ends = np.cumsum(sizes)
    parts = np.zeros(rows.users.size, dtype=np.int8)
    parts[_last(ends, n_valid + n_test)] = VALID
    parts[_last(ends, n_test)] = TEST
    torn = rows.as_before & (np.diff(parts, prepend=TRAIN) != 0)  # a cut falls into a tie here
    if torn.any():
        run = np.cumsum(~rows.as_before, dtype=np.int32) - 1
        in_torn_run = np.zeros(run[-1] + 1, dtype=np.bool_)
        in_torn_run[run[torn]] = True
        tied = np.flatnonzero(in_torn_run[run])
        order = np.lexsort((rows.draws(tied), run[tied]))
        parts[tied[order]] = parts[tied]
    facts = {
        "tie_rule": TIE_RULE,
        "users_cut_in_a_tie": int(np.unique(rows.users[torn]).size),
        "users_kept_whole": int(np.count_nonzero(n_valid + n_test == 0)),
    }
    return parts, facts


def _last(ends: Longs, counts: Longs) -> Longs:
    """Returns the positions of the last `counts` rows before each of `ends`."""
    positions: Longs = np.arange(counts.sum()) + np.repeat(ends - np.cumsum(counts), counts)
    return positions


def _cut(times: Longs, n_held: int, date: str, *, part: str) -> int | None:
    """Returns the moment from which rows are held out, or None where none are to be.

    Args:
        times: sorted, of the rows that may be held out.
        n_held: about so many rows.
        date: or from here on.
        part: valid or test.
    """
    if date:
        moment = seconds_of(date, key=f"split.{part}_from")
        if not 0 < np.searchsorted(times, moment) < times.size:
            raise EmptyDataError(
                f"split.{part}_from = {date} parts nothing: the rows it could part are from "
                f"{date_of(int(times[0]))} to {date_of(int(times[-1]))}",
                hint="choose a moment after the first and not after the last of them",
            )
        return moment
    if n_held == 0:
        return None
    if n_held >= times.size:
        raise EmptyDataError(
            f"split.{part} asks for {n_held:,} rows, and only {times.size:,} are before the later parts",
            hint=f"ask for a smaller share in split.{part}",
        )
    wanted = times.size - n_held
    around = (np.searchsorted(times, times[wanted]), np.searchsorted(times, times[wanted], "right"))
    possible = [cut for cut in around if 0 < cut < times.size]
    if not possible:
        raise EmptyDataError(
            f"no moment parts {part} from train: all {times.size:,} rows are of {date_of(int(times[0]))}",
            where="split.method = 'global_time', which never parts rows of one timestamp",
            hint=f"take another split.method, or set split.{part} = 0",
        )
    return int(times[min(possible, key=lambda cut: abs(cut - wanted))])
