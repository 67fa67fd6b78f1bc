"""Faults in the rows of clients: values, pairs, clients, splits, time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from fedprep.errors import DatasetError
from fedprep.faults.copy import ROW, Copy, Planted
from fedprep.schema import CLIENT_ID, ITEM_ID, LABEL, RATING, SPLIT, TIMESTAMP, USER_ID

__all__ = ["FAULTS"]

KEY = (CLIENT_ID, USER_ID, ITEM_ID)
DAY = 86_400

FEATURES = ("features_come_from_train",)
"""Whoever changes train rows makes the users' behaviour another one than theirs gives."""


def null_ratings(copy: Copy) -> Planted:
    """Three rows have no rating."""
    return _changed(copy, "no_missing_values", {RATING: None}, also=FEATURES)


def nan_ratings(copy: Copy) -> Planted:
    """Three ratings are NaN."""
    return _changed(copy, "ratings_are_finite", {RATING: float("nan")}, also=FEATURES)


def infinite_ratings(copy: Copy) -> Planted:
    """Three ratings are infinite."""
    return _changed(copy, "ratings_are_finite", {RATING: float("inf")}, also=FEATURES)


def ratings_out_of_range(copy: Copy) -> Planted:
    """Three ratings of the highest label are 99."""
    top = pl.col(LABEL) == pl.col(LABEL).max()
    also = ("labels_match_ratings", *FEATURES)
    return _changed(copy, "ratings_are_in_range", {RATING: 99.0}, among=top, also=also)


def wrong_labels(copy: Copy) -> Planted:
    """Three rows have the label of another class."""
    other = (pl.col(LABEL) + 1) % max(2, len(copy.manifest["classes"]))
    return _changed(copy, "labels_match_ratings", {LABEL: other}, also=FEATURES)


def millisecond_timestamps(copy: Copy) -> Planted:
    """Three times are in milliseconds."""
    also = ("train_precedes_test", "train_precedes_test_globally", *FEATURES)
    later = {TIMESTAMP: pl.col(TIMESTAMP) * 1000}
    return _changed(copy, "timestamps_are_plausible", later, also=also)


def future_timestamps(copy: Copy) -> Planted:
    """Three test rows lie a century ahead."""
    later = {TIMESTAMP: pl.col(TIMESTAMP) + 36_525 * DAY}
    return _changed(copy, "timestamps_are_plausible", later, among=pl.col(SPLIT) == "test")


def dangling_items(copy: Copy) -> Planted:
    """Three rows name items that the table of items does not have."""
    beyond = copy.read("items.parquet").height
    also = ("test_items_are_known", *FEATURES)
    return _changed(copy, "items_exist", {ITEM_ID: beyond + pl.col(ROW) % 3}, also=also)


def dangling_users(copy: Copy) -> Planted:
    """Three rows name users that the table of users does not have."""
    beyond = copy.read("users.parquet").height
    also = ("users_have_enough_history", "user_lives_in_one_client", *FEATURES)
    return _changed(copy, "users_exist", {USER_ID: beyond + pl.col(ROW) % 3}, also=also)


def rows_without_client(copy: Copy) -> Planted:
    """Three rows have no client."""
    also = ("index_matches_shards",)
    return _changed(copy, "every_row_has_one_client", {CLIENT_ID: None}, also=also)


def repeated_pairs(copy: Copy) -> Planted:
    """Three users rate one item twice, both in train."""
    rows = copy.rows()
    train = rows.filter(pl.col(SPLIT) == "train")
    first_two = train.group_by(USER_ID).agg(
        pl.col(ROW).sort().head(2), pl.col(ITEM_ID).sort_by(ROW).first()
    )
    first_two = first_two.filter(pl.col(ROW).list.len() == 2).sort(USER_ID)
    picked = first_two.filter(pl.col(USER_ID).is_in(copy.some(first_two[USER_ID]).tolist()))
    second = picked[ROW].list.get(1)
    _set(copy, rows, second, ITEM_ID, picked[ITEM_ID])
    return _planted("pairs_are_unique", "pairs", picked.select(USER_ID, ITEM_ID), FEATURES)


def overlapping_splits(copy: Copy) -> Planted:
    """Three test rows repeat an item that their user has in train."""
    rows = copy.rows()
    train = rows.filter(pl.col(SPLIT) == "train").group_by(USER_ID).agg(pl.col(ITEM_ID).min())
    test = rows.filter(pl.col(SPLIT) == "test").group_by(USER_ID).agg(pl.col(ROW).min())
    both = test.join(train, on=USER_ID).sort(USER_ID)
    picked = both.filter(pl.col(USER_ID).is_in(copy.some(both[USER_ID]).tolist()))
    _set(copy, rows, picked[ROW], ITEM_ID, picked[ITEM_ID])
    also = ("pairs_are_unique",)
    return _planted("splits_do_not_overlap", "pairs", picked.select(USER_ID, ITEM_ID), also)


def train_after_test(copy: Copy) -> Planted:
    """Three users have a train row that is a day later than their last test row."""
    rows = copy.rows()
    test = rows.filter(pl.col(SPLIT) == "test").group_by(USER_ID).agg(pl.col(TIMESTAMP).max() + DAY)
    train = rows.filter(pl.col(SPLIT) == "train").group_by(USER_ID).agg(pl.col(ROW).max())
    both = test.join(train, on=USER_ID).sort(USER_ID)
    picked = both.filter(pl.col(USER_ID).is_in(copy.some(both[USER_ID]).tolist()))
    _set(copy, rows, picked[ROW], TIMESTAMP, picked[TIMESTAMP])
    also = ("train_precedes_test_globally", *FEATURES)
    return _planted("train_precedes_test", "rows", picked.select(USER_ID, ROW), also)


def unknown_test_items(copy: Copy) -> Planted:
    """An item stands in test rows alone: its train rows have changed places with test rows."""
    rows = copy.rows()
    in_train = rows.filter(pl.col(SPLIT) == "train")
    rarest = in_train.group_by(ITEM_ID).len().sort("len", ITEM_ID)[ITEM_ID][0]
    pairs = set(rows.select(USER_ID, ITEM_ID).iter_rows())
    item = rows[ITEM_ID].to_numpy().copy()
    user, split = rows[USER_ID].to_numpy(), rows[SPLIT].cast(pl.String).to_numpy()
    waiting = np.flatnonzero((split == "test") & (item != rarest))
    for row in np.flatnonzero((split == "train") & (item == rarest)).tolist():
        for other in waiting.tolist():
            given, taken = (user[row], item[other]), (user[other], rarest)
            if given not in pairs and taken not in pairs:
                break
        else:
            raise DatasetError("the Dataset has no test rows to which an item could be moved")
        pairs |= {given, taken}
        item[row], item[other] = item[other], rarest
        waiting = waiting[waiting != other]
    copy.write_rows(rows.with_columns(pl.Series(ITEM_ID, item)))
    found = rows.filter(pl.Series((item == rarest) & (split == "test"))).select(USER_ID, ROW)
    also = FEATURES
    return _planted("test_items_are_known", "rows", found, also)


def user_in_two_clients(copy: Copy) -> Planted:
    """Three users have a row at a second client, in place of a row of that client's user."""
    rows = copy.rows()
    home = rows.group_by(USER_ID).agg(
        pl.col(CLIENT_ID).n_unique(), pl.col(CLIENT_ID).first().alias("at")
    )
    single = home.filter(pl.col(CLIENT_ID) == 1).sort(USER_ID)
    guests = single.filter(pl.col(USER_ID).is_in(copy.some(single[USER_ID]).tolist()))
    spare = (pl.len().over(USER_ID) > 2) & (pl.col(SPLIT) == "train")
    spare &= ~pl.col(USER_ID).is_in(guests[USER_ID].to_list())
    picked, taken = [], set(rows.select(USER_ID, ITEM_ID).iter_rows())
    hosts = rows.filter(spare).unique(CLIENT_ID, keep="first", maintain_order=True)
    for guest, at in guests.select(USER_ID, "at").iter_rows():
        free = (
            row for row in hosts.select(ROW, CLIENT_ID, ITEM_ID).iter_rows() if row[0] not in picked
        )
        place = next(
            (r for r, client, item in free if client != at and (guest, item) not in taken), None
        )
        if place is None:
            raise DatasetError("the Dataset has no second client that could take a user's row")
        picked.append(place)
    _set(copy, rows, pl.Series(picked), USER_ID, guests[USER_ID])
    also = ("train_precedes_test", *FEATURES)
    return _planted("user_lives_in_one_client", "users", guests.select(USER_ID), also)


def client_in_two_files(copy: Copy) -> Planted:
    """The first row of the second shard belongs to a client of the first shard."""
    rows = copy.rows()
    if rows["shard"].n_unique() < 2:
        raise DatasetError("the Dataset has one shard: no client can lie in two")
    stray = rows.filter(pl.col("shard") == 1).head(1)
    client = rows.filter(pl.col("shard") == 0)[CLIENT_ID][0]
    _set(copy, rows, stray[ROW], CLIENT_ID, pl.Series([client]))
    found = pl.DataFrame({CLIENT_ID: [client]})
    also = ("index_matches_shards", "user_lives_in_one_client")
    return _planted("client_never_crosses_a_file", "clients", found, also)


def clients_without_test(copy: Copy) -> Planted:
    """Three clients have no test row: theirs are called train."""
    rows = copy.rows()
    clients = copy.some(rows.filter(pl.col(SPLIT) == "test")[CLIENT_ID])
    moved = pl.col(CLIENT_ID).is_in(clients.tolist()) & (pl.col(SPLIT) == "test")
    train = pl.lit("train", dtype=rows.schema[SPLIT])
    copy.write_rows(rows.with_columns(pl.when(moved).then(train).otherwise(SPLIT).alias(SPLIT)))
    also = FEATURES
    found = pl.DataFrame({CLIENT_ID: clients})
    return _planted("clients_have_every_split", "clients", found, also)


def clients_of_one_class(copy: Copy) -> Planted:
    """Three clients have the highest rating in every row."""
    rows = copy.rows()
    two = rows.group_by(CLIENT_ID).agg(pl.col(LABEL).n_unique()).filter(pl.col(LABEL) > 1)
    clients = copy.some(two[CLIENT_ID])
    here = pl.col(CLIENT_ID).is_in(clients.tolist())
    top = {name: pl.when(here).then(pl.col(name).max()).otherwise(name) for name in (RATING, LABEL)}
    copy.write_rows(rows.with_columns(**top))
    found = pl.DataFrame({CLIENT_ID: clients})
    also = FEATURES
    return _planted("classes_are_balanced_per_client", "clients", found, also)


def wrong_dtype(copy: Copy) -> Planted:
    """One shard has ratings of 64 bits."""
    name = copy.shards[0]
    copy.write(name, copy.read(name).with_columns(pl.col(RATING).cast(pl.Float64)))
    return Planted(check="schema_matches", unit="columns", count=1, first=(RATING,))


def missing_column(copy: Copy) -> Planted:
    """One shard has no labels."""
    name = copy.shards[0]
    copy.write(name, copy.read(name).drop(LABEL))
    return Planted(check="schema_matches", unit="columns", count=1, first=(LABEL,))


def _changed(
    copy: Copy,
    check: str,
    values: dict[str, Any],
    *,
    among: pl.Expr | None = None,
    also: tuple[str, ...] = (),
) -> Planted:
    """Gives three rows, of those named by `among`, other values."""
    rows = copy.rows()
    candidates = rows if among is None else rows.filter(among)
    picked = rows[ROW].is_in(copy.some(candidates[ROW]).tolist())
    new = {
        name: pl.when(picked).then(value).otherwise(name).cast(rows.schema[name])
        for name, value in values.items()
    }
    copy.write_rows(rows.with_columns(**new))
    return _planted(check, "rows", rows.filter(picked).select(*KEY), also)


def _set(copy: Copy, rows: pl.DataFrame, at: pl.Series, column: str, values: pl.Series) -> None:
    """Writes the rows back with one column set at some row numbers."""
    column_of = rows[column].to_numpy().copy()
    column_of[at.to_numpy()] = values.to_numpy()
    copy.write_rows(rows.with_columns(pl.Series(column, column_of, dtype=rows.schema[column])))


def _planted(check: str, unit: str, found: pl.DataFrame, also: tuple[str, ...] = ()) -> Planted:
    first = tuple(found.head(3).iter_rows(named=True))
    return Planted(check=check, unit=unit, count=found.height, first=first, also=also)


FAULTS: dict[str, Callable[[Copy], Planted]] = {
    function.__name__: function
    for function in (
        null_ratings,
        nan_ratings,
        infinite_ratings,
        ratings_out_of_range,
        wrong_labels,
        millisecond_timestamps,
        future_timestamps,
        dangling_items,
        dangling_users,
        rows_without_client,
        repeated_pairs,
        overlapping_splits,
        train_after_test,
        unknown_test_items,
        user_in_two_clients,
        client_in_two_files,
        clients_without_test,
        clients_of_one_class,
        wrong_dtype,
        missing_column,
    )
}
