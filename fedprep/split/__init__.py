"""Which rows are train, valid and test.

`leave_last_out` holds out the last rows of each user, `user_ratio` the latest share of each user's rows,
`global_time` all rows from one moment on, `ratio` a random share of all rows.

**Ties.** Many rows share user and timestamp (in ml-1m 774,028 of 1,000,209; 529,046 of them repeat the
moment of an earlier row), so "the last row" is no single row. Where a user's cut falls among such rows,
their order is drawn, by a hash of (seed, user_id, item_id). Order by item_id would hold out high ids, and
order by line whatever the raw file happens to be sorted by; a draw favours no item, and is the same in
whatever order the rows come. Under `global_time` rows of one timestamp are never parted.

**Leaks.** Only `global_time` has all of train before all of test. With the others a model that learns from
all users has seen what others did after the moment it is asked about; how much of that there is, is measured
for every split (`leak`).

Reference: Y. Ji, A. Sun, J. Zhang, C. Li, A Critical Study on Data Leakage in Recommender System Offline
Evaluation, ACM Transactions on Information Systems 41 (3), 2023, article 75.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fedprep.errors import EmptyDataError, RecipeError
from fedprep.recipe import Split
from fedprep.schema import ITEM_ID, SPLIT, SPLIT_DTYPE, SPLITS, TIMESTAMP, USER_ID, Step
from fedprep.split.leak import leak
from fedprep.split.methods import METHODS, TEST, TRAIN, VALID, Mask, Parts, Rows

__all__ = ["METHODS", "split"]

_log = logging.getLogger(__name__)
_PARTS = tuple(enumerate(SPLITS))


def split(
    interactions: pl.DataFrame, options: Split, *, seed: int
) -> tuple[pl.DataFrame, list[Step], dict[str, Any]]:
    """Returns the rows with `split`, what was dropped, and facts for the manifest.

    Args:
        interactions: columns of `schema.INTERACTIONS` and any more; no (user, item) twice. Timestamps
            may be null with `method = "ratio"` only.
        options: the recipe's `[split]`.
        seed: decides ties, and the rows of `ratio`.

    The rows come sorted by (user_id, timestamp, item_id). The facts are
        `method`, and `rule`: how it made the parts, in words;
        `rows`, `users`, `items` and `time` (first and last second) of each part;
        `users_without_test`, `users_without_train`;
        `tied_rows`: how many rows share user and timestamp with another; `repeated_moments`: how many
            of them are not the first of theirs;
        `cold`: rows and items of valid and of test that train has never seen, and what became of them;
        `leak`: see `leak.leak`;
        and the method's own: `tie_rule`, `users_cut_in_a_tie`, `users_kept_whole`; `valid_from`,
        `test_from` in seconds.

    Raises:
        RecipeError: shares that leave nothing for train, a bad date, no timestamps.
        EmptyDataError: a cut in time leaves a part without rows.
    """
    if interactions.is_empty():
        raise EmptyDataError("there is no row to split")
    n_timeless = interactions[TIMESTAMP].null_count()
    if n_timeless and options.method != "ratio":
        raise RecipeError(
            f"split.method = '{options.method}' needs timestamps, and {n_timeless:,} of "
            f"{interactions.height:,} rows have none",
            hint='set split.method = "ratio", which needs no time',
        )
    ordered = _in_order(interactions)
    rows = Rows(
        users=ordered[USER_ID].to_numpy(),
        items=ordered[ITEM_ID].to_numpy(),
        times=None if n_timeless else ordered[TIMESTAMP].to_numpy(),
        seed=seed,
    )
    parts, own_facts = METHODS[options.method](rows, options)
    is_cold = (parts != TRAIN) & ~np.isin(rows.items, rows.items[parts == TRAIN])
    ties = _tie_facts(rows)
    cold = {"rule": options.cold_items, **_cold_facts(rows.items, parts, is_cold)}
    steps = []
    if options.cold_items == "drop":
        keep = ~is_cold
        steps.append(_cold_step(ordered, pl.Series(keep)))
        ordered, rows, parts = ordered.filter(pl.Series(keep)), rows.where(keep), parts[keep]
    _warn_of_empty_parts(parts, options)
    facts = {
        "method": options.method,
        **own_facts,
        **_part_facts(rows, parts),
        **ties,
        "cold": cold,
        "leak": leak(rows, parts),
    }
    names = pl.Series(SPLIT, SPLITS, dtype=SPLIT_DTYPE)
    return ordered.with_columns(names.gather(parts)), steps, facts


def _in_order(interactions: pl.DataFrame) -> pl.DataFrame:
    """Returns the rows sorted by (user_id, timestamp, item_id), which is how `clean` leaves them."""
    users, items = interactions[USER_ID].to_numpy(), interactions[ITEM_ID].to_numpy()
    times = interactions[TIMESTAMP].fill_null(np.iinfo(np.int64).min).to_numpy()
    not_before = (times[1:] > times[:-1]) | ((times[1:] == times[:-1]) & (items[1:] >= items[:-1]))
    if np.all((users[1:] > users[:-1]) | ((users[1:] == users[:-1]) & not_before)):
        return interactions
    return interactions.sort(USER_ID, TIMESTAMP, ITEM_ID)


def _tie_facts(rows: Rows) -> dict[str, Any]:
    if rows.times is None:
        return {"tied_rows": None, "repeated_moments": None}
    tied = rows.as_before | np.append(rows.as_before[1:], False)
    return {
        "tied_rows": int(np.count_nonzero(tied)),
        "repeated_moments": int(np.count_nonzero(rows.as_before)),
    }


def _cold_step(rows: pl.DataFrame, keep: pl.Series) -> Step:
    lines = rows["line"].filter(~keep)
    return Step(
        stage="split",
        name="cold items",
        rows_in=rows.height,
        rows_out=rows.height - lines.len(),
        why="the row is held out, and no train row has its item",
        examples=tuple(f"line {line}" for line in lines.bottom_k(3).sort()),
    )


def _cold_facts(items: npt.NDArray[np.int32], parts: Parts, is_cold: Mask) -> dict[str, Any]:
    ours = {name: items[is_cold & (parts == part)] for part, name in _PARTS if part != TRAIN}
    return {
        "rows": {name: cold.size for name, cold in ours.items()},
        "items": {name: _n_distinct(cold) for name, cold in ours.items()},
    }


def _part_facts(rows: Rows, parts: Parts) -> dict[str, Any]:
    masks = {name: parts == part for part, name in _PARTS}
    n_users = {name: _n_distinct(rows.users[mask]) for name, mask in masks.items()}
    n_users_in_all = _n_distinct(rows.users)
    return {
        "rows": {name: int(np.count_nonzero(mask)) for name, mask in masks.items()},
        "users": n_users,
        "items": {name: _n_distinct(rows.items[mask]) for name, mask in masks.items()},
        "time": {name: _time_range(rows, mask) for name, mask in masks.items()},
        "users_without_train": n_users_in_all - n_users["train"],
        "users_without_test": n_users_in_all - n_users["test"],
    }


def _n_distinct(codes: npt.NDArray[np.int32]) -> int:
    seen = np.zeros(int(codes.max(initial=-1)) + 1, dtype=np.bool_)
    seen[codes] = True
    return int(np.count_nonzero(seen))


def _time_range(rows: Rows, mask: Mask) -> list[int] | None:
    if rows.times is None or not mask.any():
        return None
    times = rows.times[mask]
    return [int(times.min()), int(times.max())]


def _warn_of_empty_parts(parts: Parts, options: Split) -> None:
    counts = options.method == "leave_last_out"
    wanted = {
        VALID: options.n_valid if counts else options.valid,
        TEST: options.n_test if counts else options.test,
    }
    for part, asked in wanted.items():
        if asked and not np.any(parts == part):
            _log.warning(
                "no row became %s, though split.method = '%s' asks for %g: users or rows are too few",
                SPLITS[part],
                options.method,
                asked,
            )
