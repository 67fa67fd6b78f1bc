"""Interactions that are kept, and their labels.

The steps, in this order; each works on what the one before it left:

1. **ratings**: a row without a rating is dropped, unless `label = "implicit"`, which needs none. A rating
   that is NaN or infinite is none that anybody gave, and its row is dropped under any label.
2. **timestamps**: a row without one is dropped where other rows have one. Where no row has one, the
   source has no time, and all rows stay.
3. **rating range** (`min_rating` to `max_rating`, both included) and **date range** (`from_date` included,
   `to_date` excluded). What is unknown lies in no range.
4. **metadata**: with `metadata = "drop"`, rows of items that have none go.
5. **repeated (user, item)**: one row stays, the `first` or `last` by (timestamp, line), or the last with
   the `mean` of the ratings. A row that is out of range is no longer there to be somebody's last word.
6. **k-core**: users with fewer than k rows and items with fewer than k rows go, again and again, until
   none is left. `user_core` and `item_core`, where given, take the place of `k_core`.
7. **label**: `binary` is 1 from the threshold on, else 0; `classes` is the place of the rating among the
   sorted distinct ratings; `implicit` is 1 for every row.

Rows leave sorted by (user_id, timestamp, item_id), so equal rows give equal bytes in whatever order they
came.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from fedprep.clean.core import core_of, largest_core
from fedprep.clean.repeated import one_row_a_pair
from fedprep.clean.rules import range_of, refuse_contradictions, rules
from fedprep.errors import EmptyDataError, RecipeError
from fedprep.recipe import Clean
from fedprep.schema import ITEM_ID, LABEL, RATING, TIMESTAMP, USER_ID, Step

__all__ = ["MAX_CLASSES", "class_values", "clean", "core_of", "largest_core"]

MAX_CLASSES = 127
"""Most classes that `label = "classes"` makes; a label is an int8."""


def clean(
    interactions: pl.DataFrame, options: Clean, *, has_metadata: npt.NDArray[np.bool_] | None = None
) -> tuple[pl.DataFrame, list[Step]]:
    """Returns the rows that are kept, with `label` (int8), and what each step dropped.

    Args:
        interactions: columns of `schema.INTERACTIONS`; ratings and timestamps may be null.
        options: the recipe's `[clean]`.
        has_metadata: bool (n_items,), by item code; needed with `metadata = "drop"`.

    Raises:
        RecipeError: a bad date, a range that holds nothing, more than `MAX_CLASSES` classes.
        EmptyDataError: a step dropped every row; the message names it, and for a k-core the largest k
            at which something is left.
    """
    refuse_contradictions(options)
    if interactions.is_empty():
        raise EmptyDataError("the source holds no interaction", hint="is it the right raw file?")
    rows = interactions
    steps: list[Step] = []
    for rule in rules(options, has_metadata):
        keep = rows.select(rule.keep).to_series()
        steps.append(_step(rule.name, rows, keep, rule.why))
        if not keep.any():
            raise EmptyDataError(
                f"no row is left after '{rule.name}': in all {rows.height:,} rows, {rule.why}",
                where=rule.key,
                expected=range_of(rows, rule.column) if rule.column else "",
                hint=rule.hint,
            )
        rows = _filter(rows, keep)
    rows, keep, n_tied = one_row_a_pair(rows, options.duplicates)
    why = _STAYS[options.duplicates]
    if n_tied and options.duplicates != "count":
        why += f"; of {n_tied:,} of them rows are of one time, and their lines decide"
    steps.append(_step("repeated (user, item)", rows, keep, why))
    rows = _keep_core(_filter(rows, keep), options, steps)
    rows = _in_order(rows)
    return rows.with_columns(_label(rows[RATING], options).alias(LABEL)), steps


_STAYS = {
    "last": "of rows with the same user and item the last stays",
    "first": "of rows with the same user and item the first stays",
    **{
        name: f"of rows with the same user and item the last stays, with {what}"
        for name, what in (
            ("mean", "the mean of their ratings"),
            ("max", "the largest of their ratings"),
            ("min", "the smallest of their ratings"),
            ("sum", "the sum of their ratings"),
            ("count", "their number as its rating"),
        )
    },
}


def class_values(rows: pl.DataFrame, options: Clean) -> list[float]:
    """Returns what each label stands for, in order of labels; its length is the number of classes.

    `classes`: the distinct ratings. `binary` and `implicit`: 0 and 1. Rows of implicit data all have
    label 1; class 0 is that of the pairs nobody has seen, so a label is an index under every option.
    """
    if options.label == "classes":
        return [float(value) for value in np.unique(rows[RATING].to_numpy())]
    return [0.0, 1.0]


def _filter(rows: pl.DataFrame, keep: pl.Series) -> pl.DataFrame:
    """Returns the rows to keep, without a copy where that is all of them."""
    return rows if keep.all() else rows.filter(keep)


def _step(name: str, rows: pl.DataFrame, keep: pl.Series, why: str) -> Step:
    """Returns what a step drops, with the first three lines of it."""
    lines = rows["line"].filter(~keep)
    return Step(
        stage="clean",
        name=name,
        rows_in=rows.height,
        rows_out=rows.height - lines.len(),
        why=why,
        examples=tuple(f"line {line}" for line in lines.bottom_k(3).sort()),
    )


def _keep_core(rows: pl.DataFrame, options: Clean, steps: list[Step]) -> pl.DataFrame:
    user_core = options.user_core or options.k_core
    item_core = options.item_core or options.k_core
    if max(user_core, item_core) <= 1:
        return rows
    users, items = rows[USER_ID].to_numpy(), rows[ITEM_ID].to_numpy()
    keep = pl.Series(core_of(users, items, user_core, item_core))
    name = f"{user_core}-core" if user_core == item_core else f"({user_core}, {item_core})-core"
    why = f"{_lacking(user_core, item_core)}, until none is left"
    steps.append(_step(name, rows, keep, why))
    if keep.any():
        return _filter(rows, keep)
    k, n_left = largest_core(users, items, user_core, item_core)
    raise EmptyDataError(
        f"the {name} is empty: all {rows.height:,} rows go with {why}",
        where="clean.k_core, or clean.user_core and clean.item_core",
        expected=f"k = {k} is the largest that leaves something: {n_left:,} rows with "
        f"user_core = {min(k, user_core)} and item_core = {min(k, item_core)}",
        hint="ask for a smaller k, or bring more data",
    )


def _lacking(user_core: int, item_core: int) -> str:
    if item_core <= 1:
        return f"users with fewer than {user_core} rows"
    if user_core <= 1:
        return f"items with fewer than {item_core} rows"
    return f"users with fewer than {user_core} rows and items with fewer than {item_core}"


def _in_order(rows: pl.DataFrame) -> pl.DataFrame:
    """Returns the rows sorted by (user_id, timestamp, item_id); no pair may occur twice."""
    order = pl.Series(_order(rows))
    # Column by column: a gather across the many chunks of a file just read takes six times as long.
    return pl.DataFrame([column.rechunk().gather(order) for column in rows])


def _order(rows: pl.DataFrame) -> npt.NDArray[np.intp]:
    """Returns the positions of the rows in order.

    Two sorts of packed integers, the second of the tied rows only, take a quarter of the time of a sort
    by three columns.
    """
    times = rows[TIMESTAMP].fill_null(0).to_numpy()
    n_bits = (int(times.max()) - int(times.min())).bit_length()
    keys = rows[USER_ID].to_numpy().astype(np.int64)
    if int(keys.max()).bit_length() + n_bits > 63:
        # No clock has shown such times; what they are worth is their order.
        times = np.unique(times, return_inverse=True)[1]
        n_bits = times.size.bit_length()
    keys <<= n_bits
    keys += times - times.min()
    order = np.argsort(keys)
    keys = keys[order]
    same = keys[1:] == keys[:-1]
    tied = np.flatnonzero(np.append(same, False) | np.insert(same, 0, False))
    run = np.cumsum(~np.insert(same, 0, False), dtype=np.int32)[tied].astype(np.int64)
    items = rows[ITEM_ID].to_numpy()[order[tied]]
    order[tied] = order[tied[np.argsort(run << 32 | items)]]
    return order


def _label(ratings: pl.Series, options: Clean) -> pl.Series:
    """Returns int8 labels.

    Raises:
        RecipeError: there are more than `MAX_CLASSES` classes.
    """
    if options.label == "implicit":
        return pl.Series(np.ones(ratings.len(), dtype=np.int8))
    values = ratings.to_numpy()
    if options.label == "binary":
        return pl.Series((values >= np.float32(options.threshold)).astype(np.int8))
    classes = np.unique(values)
    if classes.size > MAX_CLASSES:
        raise RecipeError(
            f'clean.label = "classes" makes a class of each of {classes.size:,} distinct ratings, '
            f"{classes[0]:g} to {classes[-1]:g}",
            expected=f"at most {MAX_CLASSES} distinct ratings",
            hint=f'clean.duplicates = "{options.duplicates}" makes new ratings: take "last"'
            if options.duplicates in ("mean", "sum", "count")
            else 'set clean.label = "binary" and a threshold',
        )
    return pl.Series(np.searchsorted(classes, values).astype(np.int8))
