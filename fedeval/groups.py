"""Who belongs together: tables of `user_id` (or `item_id`) and `group`, for slices and gaps.

`group` is an ordered enumeration, in the order in which a table should show it. A user (item) may stand
in several groups, as an item has several categories; then groups overlap and do not add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.per_user import GROUP, same_ids
from fedprep.errors import EvaluationError, nearest
from fedprep.schema import CLIENT_ID, ITEM_ID, USER_ID

__all__ = [
    "BINS",
    "NO_GROUP",
    "activity_groups",
    "client_size_groups",
    "cold_groups",
    "column_groups",
    "popularity_groups",
]

NO_GROUP = "(none)"
"""The group of those that a table gives none: null in a column, or not in the table."""

BINS = ("quantile", "log")

LOG_BASE = 4
"""Bins by logarithm: 1–3, 4–15, 16–63 …"""

Table = pl.DataFrame | pl.LazyFrame


def activity_groups(
    train: Table, users: pl.Series | None = None, *, n_groups: int = 4, bins: str = "quantile"
) -> pl.DataFrame:
    """Returns users by the number of their train rows, few to many: `user_id`, `group`.

    Labels are the numbers of rows, "20–43". With "quantile" the groups hold about as many users each,
    equal numbers never parted (so there may be fewer groups); with "log" their bounds are powers of
    4, the same for any data. Users without a train row are the group "0".

    Args:
        train: a row an interaction, with `user_id`.
        users: all users, so that those without a train row are there; None: those of `train`.
        n_groups: of "quantile".
        bins: "quantile" or "log".

    Raises:
        EvaluationError: a column is missing, or no such bins.
    """
    counts = _counts(train, USER_ID, users)
    return _by_number(counts, USER_ID, "n", n_groups, bins, counted=True)


def client_size_groups(
    train: Table, clients: Table, *, n_groups: int = 4, bins: str = "quantile"
) -> pl.DataFrame:
    """Returns users by the train rows of the client that they are at: `user_id`, `group`.

    Groups hold about as many *users* each with "quantile"; the rest is as for `activity_groups`.

    Args:
        train: a row an interaction, with `user_id`.
        clients: `user_id`, `client_id`.
        n_groups, bins: as for `activity_groups`.

    Raises:
        EvaluationError: a column is missing, or no such bins.
    """
    of_user = _columns(clients, USER_ID, CLIENT_ID).unique()
    counts = _counts(train, USER_ID, of_user[USER_ID])
    sizes = of_user.join(counts, on=USER_ID).group_by(CLIENT_ID).agg(pl.col("n").sum())
    rows = of_user.join(sizes, on=CLIENT_ID).sort(USER_ID)
    return _by_number(rows, USER_ID, "n", n_groups, bins, counted=True)


def popularity_groups(
    train: Table,
    items: pl.Series | None = None,
    *,
    head: float = 0.2,
    tail: float = 0.2,
    share_of: str = "interactions",
) -> pl.DataFrame:
    """Returns items by popularity: `item_id`, `group` of head, torso, tail, cold.

    Items stand in descending order of their train rows, equal ones in ascending order of id. Head are
    the first ones until they have the share `head` of all train rows, tail the last ones that have at
    most the share `tail`, torso those between; cold have no train row.

    Args:
        train: a row an interaction, with `item_id`.
        items: all items, so that cold ones are there; None: those of `train`.
        head, tail: shares from 0 to 1, at most 1 together.
        share_of: "interactions" as above, or "items": the share of the items themselves.

    Raises:
        EvaluationError: a column is missing, or shares that cannot be.

    Reference: Abdollahpouri, Burke, Mobasher, RecSys 2017 (short head and tail by shares of the ratings);
    Abdollahpouri, Mansoury, Burke, Mobasher, RMSE workshop at RecSys 2019 (20 % at either end).
    """
    if not (0.0 <= head <= 1.0 and 0.0 <= tail <= 1.0 and head + tail <= 1.0 + 1e-12):
        raise EvaluationError(
            f"head is {head} and tail is {tail}", expected="shares, at most 1 together"
        )
    if share_of not in ("interactions", "items"):
        raise EvaluationError(
            f"no share of '{share_of}'", hint=nearest(share_of, ["interactions", "items"])
        )
    counts = _counts(train, ITEM_ID, items).sort("n", ITEM_ID, descending=[True, False])
    n = counts["n"].to_numpy()
    weight = n.astype(np.float64) if share_of == "interactions" else (n > 0).astype(np.float64)
    total, before = float(weight.sum()), np.cumsum(weight) - weight
    rounding = 1e-9 * max(total, 1.0)
    group = np.where(before < head * total - rounding, 0, 1)
    group[before >= (1.0 - tail) * total - rounding] = 2
    group[n == 0] = 3
    return _labelled(counts[ITEM_ID], group, ["head", "torso", "tail", "cold"]).sort(ITEM_ID)


def cold_groups(train: Table, ids: pl.Series, *, key: str = USER_ID) -> pl.DataFrame:
    """Returns users (items) by whether they have a train row: `key`, `group` of warm, cold.

    Args:
        train: a row an interaction, with the column `key`.
        ids: all users (items).
        key: `user_id` or `item_id`.
    """
    counts = _counts(train, key, ids)
    return _labelled(counts[key], (counts["n"] == 0).to_numpy(), ["warm", "cold"])


def column_groups(
    table: Table, column: str, *, key: str = USER_ID, n_groups: int = 4, limit: int = 20
) -> pl.DataFrame:
    """Returns users (items) by a column of their table: `key`, `group`.

    Up to `limit` values are a group each, the largest first, numbers in their order; further values
    are together in the last, "others (n)". Numbers of more values are binned by quantiles. An
    element of a list counts by itself, so an item stands in each of its categories. Null and empty
    lists are `NO_GROUP`.

    Args:
        table: `key` and the column.
        column: any column of users or items.
        key: `user_id` or `item_id`.
        n_groups: bins of numbers.
        limit: groups at most, without others and none.

    Raises:
        EvaluationError: a column is missing, or holds structures or vectors.
    """
    found = _columns(table, *dict.fromkeys((key, column)))
    rows = found.select(pl.col(key), pl.col(column).alias(GROUP))
    listed = rows.schema[GROUP]
    if isinstance(listed, pl.List | pl.Array):
        if pl.Series(dtype=listed.inner).dtype.is_float():
            raise EvaluationError(
                f"'{column}' holds vectors: {listed}", expected="text, numbers, or lists of words"
            )
        rows = rows.explode(GROUP, empty_as_null=True, keep_nulls=True).unique(maintain_order=True)
    dtype = rows.schema[GROUP]
    if dtype.is_float():
        rows = rows.with_columns(pl.col(GROUP).fill_nan(None))
    if dtype.is_nested() or dtype == pl.Object:
        raise EvaluationError(
            f"'{column}' holds {dtype}", expected="text, numbers, or lists of them"
        )
    known, absent = rows.drop_nulls(GROUP), rows.filter(pl.col(GROUP).is_null())
    if dtype.is_numeric() and known[GROUP].n_unique() > limit:
        parts = [_by_number(known, key, GROUP, n_groups, "quantile")]
    else:
        parts = [_by_value(known, key, limit)]
    if absent.height:
        parts.append(_labelled(absent[key], np.zeros(absent.height, np.int64), [NO_GROUP]))
    return _stacked(parts).unique(maintain_order=True)


def _by_value(rows: pl.DataFrame, key: str, limit: int) -> pl.DataFrame:
    """Returns `key`, `group` by the values of the column `group`, those beyond the limit together."""
    sizes = rows[GROUP].value_counts()
    numbers = rows.schema[GROUP].is_numeric()
    sizes = sizes.sort(GROUP) if numbers else sizes.sort("count", GROUP, descending=[True, False])
    values = sizes[GROUP]
    at = rows[GROUP].replace_strict(values, pl.int_range(len(values), eager=True))
    labels = _texts(values[:limit])
    if len(values) > limit:
        labels = [*labels, f"others ({len(values) - limit:,})"]
    return _labelled(rows[key], np.minimum(at.to_numpy(), limit), labels)


def _counts(train: Table, key: str, ids: pl.Series | None) -> pl.DataFrame:
    """Returns `key` and `n`, the train rows of each id, in order of id; 0 for those without."""
    counts = _columns(train, key).group_by(key).agg(pl.len().cast(pl.Int64).alias("n"))
    if ids is not None:
        every = same_ids(ids.unique().alias(key).to_frame(), counts, key)
        counts = every.join(counts, on=key, how="full", coalesce=True).with_columns(
            pl.col("n").fill_null(0)
        )
    return counts.sort(key)


def _columns(table: Table, *names: str) -> pl.DataFrame:
    lazy = table.lazy()
    there = lazy.collect_schema().names()
    for name in names:
        if name not in there:
            raise EvaluationError(f"the table has no column '{name}'", hint=nearest(name, there))
    return lazy.select(names).collect()


def _by_number(
    rows: pl.DataFrame, key: str, column: str, n_groups: int, bins: str, *, counted: bool = False
) -> pl.DataFrame:
    """Returns `key`, `group` by bins of a column of numbers; where they count, 0 is a group of its own."""
    if bins not in BINS:
        raise EvaluationError(f"no bins are called '{bins}'", hint=nearest(bins, BINS))
    if n_groups < 1:
        raise EvaluationError(f"{n_groups} groups are asked for", expected="at least 1")
    values = rows[column].to_numpy()
    codes = np.zeros(values.size, np.int64)
    inside = values > 0 if counted else np.ones(values.size, bool)
    if bins == "log":
        bounds = LOG_BASE ** np.arange(1, 31)
        codes[inside] = 1 + np.searchsorted(bounds, values[inside], side="right")
    elif inside.any():
        at = np.arange(1, n_groups) / n_groups
        edges = np.unique(np.quantile(values[inside], at, method="inverted_cdf"))
        codes[inside] = 1 + np.searchsorted(edges, values[inside], side="left")
    used, codes = np.unique(codes, return_inverse=True)
    if bins == "log":
        spans = [(LOG_BASE ** (c - 1), LOG_BASE**c - 1) if c else (0, 0) for c in used.tolist()]
    else:
        spans = [(p.min().item(), p.max().item()) for p in _split(values, codes, used.size)]
    return _labelled(rows[key], codes, _span_labels(spans, counted=counted))


def _split(
    values: npt.NDArray[Any], codes: npt.NDArray[np.integer], n: int
) -> list[npt.NDArray[Any]]:
    """Returns the values of each code from 0 to n - 1."""
    ends = np.cumsum(np.bincount(codes, minlength=n))
    return np.split(values[np.argsort(codes, kind="stable")], ends[:-1])[:n]


def _span_labels(spans: Sequence[tuple[float, float]], *, counted: bool) -> list[str]:
    """Returns "20–43" and the like: counts with a separator of thousands, other numbers (years) without.

    Numbers with a fraction have four digits, or as many as it takes to tell the labels apart.
    """
    labels: list[str] = []
    for digits in (4, 8, 17):
        texts = [[_number(v, digits, "," if counted else "") for v in span] for span in spans]
        labels = [low if low == high else f"{low}–{high}" for low, high in texts]
        if len(set(labels)) == len(labels):
            break
    return labels


def _number(value: float, digits: int, thousands: str) -> str:
    return f"{value:{thousands}}" if isinstance(value, int) else f"{value:.{digits}g}"


def _texts(values: pl.Series) -> list[str]:
    """Returns the labels of values; an empty text is one too, and must be seen."""
    return [text or '""' for text in values.cast(pl.String).to_list()]


def _labelled(
    ids: pl.Series, codes: npt.NDArray[np.integer], labels: Sequence[str]
) -> pl.DataFrame:
    names = pl.Series(labels, dtype=pl.String)
    group = names.gather(pl.Series(codes.astype(np.uint32))).cast(pl.Enum(labels))
    return pl.DataFrame({ids.name: ids, GROUP: group})


def _stacked(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    texts = [part.with_columns(pl.col(GROUP).cast(pl.String)) for part in parts]
    kinds = [kind for part in parts if isinstance(kind := part.schema[GROUP], pl.Enum)]
    labels = dict.fromkeys(label for kind in kinds for label in kind.categories)
    return pl.concat(texts).with_columns(pl.col(GROUP).cast(pl.Enum(list(labels))))
