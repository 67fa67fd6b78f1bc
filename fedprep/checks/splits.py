"""Train, valid and test: apart, in the order of time, of items that train knows, as large as was said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from fedprep.checks.check import Check, NotAsked
from fedprep.checks.interactions import pairs_are_unique
from fedprep.checks.limits import Limits
from fedprep.checks.tables import Tables
from fedprep.schema import CLIENT_ID, ITEM_ID, SPLIT, SPLIT_DTYPE, SPLITS, TIMESTAMP, USER_ID

__all__ = ["CHECKS"]

IS_TRAIN = pl.col(SPLIT) == "train"
IS_TEST = pl.col(SPLIT) == "test"
PAIR = (USER_ID, ITEM_ID)


def splits_are_known(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Rows whose split is none of train, valid and test; one that is missing is another check's."""
    assert tables.interactions is not None
    rows = tables.interactions.select(*_who(tables), SPLIT)
    if tables.columns("interactions")[SPLIT] == SPLIT_DTYPE:
        return rows.clear()
    return rows.filter(~pl.col(SPLIT).cast(pl.String).is_in(SPLITS))


def splits_do_not_overlap(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Pairs of user and item that are in more than one split, each once."""
    assert tables.interactions is not None
    twice = pairs_are_unique(tables, limits).collect()
    if twice.is_empty():
        return twice.lazy()
    rows = tables.interactions.select(*PAIR, SPLIT).drop_nulls()
    splits = rows.join(twice.lazy(), on=PAIR, how="semi").unique()
    return splits.group_by(PAIR).len().filter(pl.col("len") > 1).select(PAIR).sort(PAIR)


def train_precedes_test(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Train rows that are later than the first test row of their user. Rows without a time are left out."""
    _ask_of_time(tables)
    assert tables.interactions is not None
    rows = tables.interactions.select(*_who(tables), TIMESTAMP, SPLIT).collect()
    first = rows.filter(IS_TEST).group_by(USER_ID).agg(first_test=pl.col(TIMESTAMP).min())
    earliest = pl.lit(first["first_test"].min(), first["first_test"].dtype)
    late = rows.lazy().filter(IS_TRAIN & (pl.col(TIMESTAMP) > earliest))
    both = late.join(first.lazy(), on=USER_ID, how="inner", maintain_order="left")
    return both.filter(pl.col(TIMESTAMP) > pl.col("first_test")).drop(SPLIT)


def train_precedes_test_globally(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Train rows that are later than the first test row of anybody: what a model that learns from all users
    has seen of the time that it is tested on.

    Reference: Y. Ji, A. Sun, J. Zhang, C. Li, A Critical Study on Data Leakage in Recommender System Offline
    Evaluation, ACM Transactions on Information Systems 41 (3), 2023, article 75.
    """
    _ask_of_time(tables)
    assert tables.interactions is not None
    splits = tables.totals.splits.filter(IS_TEST)
    if splits.is_empty() or splits["time_first"][0] is None:
        raise NotAsked("there is no test row with a time")
    first = splits["time_first"][0]
    late = tables.interactions.filter(IS_TRAIN & (pl.col(TIMESTAMP) > first))
    late = late.select(*_who(tables), TIMESTAMP, pl.lit(first).alias("first_test"))
    return _beyond(late, limits.max_later_train_share * _rows_in(tables, IS_TRAIN))


def test_rows_are_told_from_train_by_time(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Users whose first row of test, or of valid, has the time of a row that is held out later or not at
    all: which of them is held out was drawn, and no order of time says it."""
    _ask_of_time(tables)
    assert tables.interactions is not None
    split, time = pl.col(SPLIT).cast(pl.String), pl.col(TIMESTAMP)
    times = tables.interactions.group_by(USER_ID).agg(
        train=time.filter(split == "train").max(),
        valid_first=time.filter(split == "valid").min(),
        valid_last=time.filter(split == "valid").max(),
        test=time.filter(split == "test").min(),
    )
    before = pl.max_horizontal("train", "valid_last")
    tied = (pl.col("test") == before) | (pl.col("valid_first") == pl.col("train"))
    users = times.with_columns(tied=tied.fill_null(False)).collect(engine="streaming")
    held = users.filter(pl.col("test").is_not_null() | pl.col("valid_first").is_not_null()).height
    found = users.filter("tied").select(USER_ID, "test").sort(USER_ID)
    return _beyond(found.lazy(), limits.max_tied_cut_share * held)


def test_items_are_known(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Test rows whose item has no train row."""
    assert tables.interactions is not None
    unseen = tables.totals.items.filter(pl.col("n_train") == 0)[ITEM_ID]
    rows = tables.interactions.filter(IS_TEST & pl.col(ITEM_ID).is_in(unseen.implode()))
    rows = rows.select(_who(tables))
    return _beyond(rows, limits.max_cold_share * _rows_in(tables, IS_TEST))


def split_sizes_match_manifest(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Splits that have another number of rows than the manifest says."""
    assert tables.manifest is not None
    said = tables.manifest.get("facts", {}).get("splits")
    if said is None:
        raise NotAsked("the manifest has no facts.splits")
    found = tables.totals.splits.select(pl.col(SPLIT).cast(pl.String), found="n_rows")
    table = pl.DataFrame(
        list(said.items()), schema={SPLIT: pl.String, "said": pl.Int64}, orient="row"
    )
    both = table.join(found, on=SPLIT, how="full", coalesce=True, maintain_order="left_right")
    differs = pl.col("found").fill_null(0) != pl.col("said").fill_null(0)
    return both.lazy().filter(differs).select(SPLIT, "found", "said")


def _who(tables: Tables) -> list[str]:
    there = tables.columns("interactions")
    return [name for name in (CLIENT_ID, USER_ID, ITEM_ID) if name in there]


def _rows_in(tables: Tables, split: pl.Expr) -> int:
    return int(tables.totals.splits.filter(split)["n_rows"].sum())


def _beyond(rows: pl.LazyFrame, n: float) -> pl.LazyFrame:
    """Returns the rows, or none where they are no more than n."""
    if n == 0:
        return rows
    n_rows = rows.select(pl.len()).collect(engine="streaming").item()
    return rows if n_rows > n else rows.clear()


def _ask_of_time(tables: Tables) -> None:
    manifest: Any = tables.manifest or {}
    if manifest.get("recipe", {}).get("split", {}).get("method") == "ratio":
        raise NotAsked('split.method is "ratio": it parts rows by chance, whatever their time')


def _split_by_user(recipe: Mapping[str, Any]) -> str:
    method = recipe.get("split", {}).get("method")
    if method not in ("leave_last_out", "user_ratio"):
        return ""
    return f"{method} holds out each user's own last rows; others' later ones stay in train"


CHECKS = (
    Check(
        name="splits_are_known",
        group="splits",
        unit="rows",
        of="interactions",
        function=splits_are_known,
        needs=("interactions.split",),
        blocks="rows",
        means="Rows have a split that is none of train, valid and test: nothing learns or tests on them.",
        todo="Call the splits train, valid and test.",
    ),
    Check(
        name="splits_do_not_overlap",
        group="splits",
        unit="pairs",
        of="interactions",
        function=splits_do_not_overlap,
        needs=("interactions.split",),
        blocks="users",
        means="A user has the same item in train and held out: the answer was learned by heart.",
        todo="Set clean.duplicates, and split again.",
    ),
    Check(
        name="train_precedes_test",
        group="splits",
        unit="rows",
        of="train rows",
        function=train_precedes_test,
        needs=("interactions.split", "interactions.timestamp"),
        blocks="users",
        means="Users have train rows later than what they are tested on: the future is learned from.",
        todo="Split again: leave_last_out, user_ratio and global_time keep the order of each user.",
    ),
    Check(
        name="train_precedes_test_globally",
        group="splits",
        unit="rows",
        of="train rows",
        function=train_precedes_test_globally,
        needs=("interactions.split", "interactions.timestamp"),
        severity="warn",
        by_design=_split_by_user,
        limits=("max_later_train_share",),
        means="Train has rows of the time that is tested on: others' future leaks into what is learned.",
        todo="Set split.method = \"global_time\" where that matters, and say how large the leak is.",
    ),
    Check(
        name="test_rows_are_told_from_train_by_time",
        group="splits",
        unit="users",
        of="users",
        function=test_rows_are_told_from_train_by_time,
        needs=("interactions.split", "interactions.timestamp"),
        severity="warn",
        limits=("max_tied_cut_share",),
        means="Most users' held-out rows share their time with rows before them: a draw chose which.",
        todo="Get finer times, set split.method = \"global_time\", or say that ties are drawn.",
    ),
    Check(
        name="test_items_are_known",
        group="splits",
        unit="rows",
        of="test rows",
        function=test_items_are_known,
        needs=("interactions.split",),
        severity="warn",
        limits=("max_cold_share",),
        means="Test rows are on items that train does not have: a model by ids can only miss them.",
        todo="Set split.cold_items = \"drop\", or report cold items apart.",
    ),
    Check(
        name="split_sizes_match_manifest",
        group="splits",
        unit="splits",
        of="splits",
        function=split_sizes_match_manifest,
        needs=("interactions.split", "manifest"),
        means="Splits are not as large as when the Dataset was written: rows were changed afterwards.",
        todo="Build again, or copy the Dataset again from where it is whole.",
    ),
)  # fmt: skip
