"""A table of recommendations against the Dataset that it was made from: `user_id`, `item_id`, and where they
are there `rank` (1 is best) and `score` (the higher the better)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from fedprep.checks.check import Check
from fedprep.checks.limits import Limits, Value
from fedprep.checks.result import Validation
from fedprep.checks.run import run_checks
from fedprep.checks.tables import Tables
from fedprep.dataset import Dataset
from fedprep.schema import ITEM_ID, SPLIT, USER_ID, Progress, silent

__all__ = ["RECOMMENDATION_CHECKS", "validate_recommendations"]

RECS = "recommendations"
RANK = "rank"
SCORE = "score"
PAIR = (USER_ID, ITEM_ID)


def validate_recommendations(
    recommendations: pl.LazyFrame | pl.DataFrame,
    dataset: Dataset,
    limits: Mapping[str, Value] | Limits | None = None,
    *,
    only: Sequence[str] = (),
    strict: bool = False,
    name: str = "",
    progress: Progress = silent,
) -> Validation:
    """Returns what the checks of `RECOMMENDATION_CHECKS` find in a table of recommendations.

    Args:
        recommendations: `user_id`, `item_id`, whole numbers as in the Dataset; `rank` and `score` may lack,
            and the checks of them are then skipped. The order of the rows does not matter.
        dataset: what they were made from, and are to be new to.
        limits, only, strict: as for `validate`.
        name: what to call the table; empty for the name of the Dataset.

    Raises:
        DatasetError: a file of the Dataset cannot be read.
        RecipeError: an unknown check or limit (the nearest is named), or a limit of a wrong kind.
    """
    return run_checks(
        Tables.of_recommendations(recommendations.lazy(), dataset, name=name),
        RECOMMENDATION_CHECKS,
        {} if limits is None else limits,
        kind="recommendations",
        only=only,
        strict=strict,
        broken=_broken,
        progress=progress,
    )


def columns_are_there(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Columns that are missing or of another kind, and a table without a row."""
    schema = {"column": pl.String, "found": pl.String, "expected": pl.String}
    return pl.LazyFrame(list(_mismatches(tables)), schema=schema, orient="row")


def _mismatches(tables: Tables) -> Iterator[tuple[str, str, str]]:
    there = tables.columns(RECS)
    for column in (*PAIR, RANK, SCORE):
        found = there.get(column)
        if found is None and column in PAIR:
            yield column, "no such column", "whole numbers, as in the Dataset"
        elif found is not None and column != SCORE and not found.is_integer():
            yield column, str(found), "whole numbers"
        elif found is not None and not found.is_numeric():
            yield column, str(found), "numbers"
    if _recs(tables).head(1).collect().is_empty():
        yield "", "no row", "at least one"


def _broken(tables: Tables) -> dict[str, str]:
    wrong = list(_mismatches(tables))
    return {RECS: "the columns are not as they should be"} if wrong else {}


def recommended_users_exist(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Rows for users that the Dataset does not have; a missing user is one of them."""
    return _recs(tables).filter(_unknown(USER_ID, tables.ids("users"))).select(PAIR)


def recommended_items_exist(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Rows of items that the Dataset does not have; a missing item is one of them."""
    return _recs(tables).filter(_unknown(ITEM_ID, tables.ids("items"))).select(PAIR)


def recommendations_are_unique(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Pairs of user and item that are recommended more than once, each once."""
    counts = _recs(tables).select(PAIR).drop_nulls().group_by(PAIR).agg(rows=pl.len())
    return counts.filter(pl.col("rows") > 1).sort(PAIR)


def recommendations_are_new(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Rows of items that the user has in train."""
    assert tables.interactions is not None
    seen = tables.interactions.filter(pl.col(SPLIT) == "train").select(PAIR)
    recs = _recs(tables).select(PAIR).cast(_types(tables), strict=False)
    return recs.join(seen, on=PAIR, how="semi").sort(PAIR)


def scores_are_finite(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Rows whose score is NaN, infinite or missing."""
    finite = pl.col(SCORE).cast(pl.Float64).is_finite().fill_null(False)
    return _recs(tables).filter(~finite).select(*PAIR, SCORE)


def ranks_are_one_to_n(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Users whose ranks are not 1, 2 … up to the number of their rows."""
    rank = pl.col(RANK)
    users = _recs(tables).group_by(USER_ID).agg(
        rows=pl.len(),
        first=rank.min(),
        last=rank.max(),
        distinct=rank.drop_nulls().n_unique(),
    )  # fmt: skip
    runs = (pl.col("first") == 1) & (pl.col("last") == pl.col("rows"))
    runs &= pl.col("distinct") == pl.col("rows")
    return users.filter(~runs.fill_null(False)).sort(USER_ID)


def scores_follow_ranks(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Ranks with a higher score than the rank before them in the list of their user.

    Rows without a rank or a finite score are left out. Of several rows of one rank the highest score is
    compared with the lowest of the rank before.
    """
    score = pl.col(SCORE).cast(pl.Float64)
    rows = _recs(tables).filter(score.is_finite()).drop_nulls([USER_ID, RANK])
    ranks = rows.group_by(USER_ID, RANK).agg(score=score.max(), lowest=score.min())
    same_user = pl.col(USER_ID) == pl.col(USER_ID).shift(1)
    before = pl.when(same_user).then(pl.col("lowest").shift(1))
    ordered = ranks.sort(USER_ID, RANK).with_columns(score_before=before)
    return ordered.filter(pl.col(SCORE) > pl.col("score_before")).drop("lowest")


def lists_are_long_enough(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Users with fewer different items than the limit, or than the Dataset has, the shortest first."""
    enough = min(limits.min_list_length, len(tables.ids("items")))
    lengths = _recs(tables).group_by(USER_ID).agg(length=pl.col(ITEM_ID).n_unique())
    return lengths.filter(pl.col("length") < enough).sort("length", USER_ID)


def test_users_have_a_list(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Users who have a test row and no recommendation."""
    assert tables.interactions is not None
    tests = tables.interactions.filter(pl.col(SPLIT) == "test")
    users = tests.group_by(USER_ID).agg(test_rows=pl.len())
    listed = _recs(tables).select(PAIR).cast(_types(tables), strict=False).select(USER_ID).unique()
    return users.join(listed, on=USER_ID, how="anti").sort(USER_ID)


def _recs(tables: Tables) -> pl.LazyFrame:
    assert tables.recommendations is not None
    return tables.recommendations


def _types(tables: Tables) -> pl.Schema:
    """Returns the types of the Dataset's ids: those of recommendations may be wider."""
    there = tables.columns("interactions")
    return pl.Schema({column: there[column] for column in PAIR})


def _unknown(column: str, ids: pl.Series) -> pl.Expr:
    dense = len(ids) > 0 and ids[0] == 0 and ids[-1] == len(ids) - 1
    an_id = pl.col(column)
    known = an_id.is_between(0, len(ids) - 1) if dense else an_id.is_in(ids.implode())
    return ~known.fill_null(False)


RECOMMENDATION_CHECKS: dict[str, Check] = {
    check.name: check
    for check in (
        Check(
            name="columns_are_there",
            group="recommendations",
            unit="columns",
            of="columns of recommendations",
            function=columns_are_there,
            means="The table lacks a column, has one of another type, or has no row.",
            todo="Write user_id, item_id, rank and score, with the ids of the Dataset.",
        ),
        Check(
            name="scores_are_finite",
            group="recommendations",
            unit="rows",
            of=RECS,
            function=scores_are_finite,
            needs=("recommendations.score",),
            means="Scores are NaN, infinite or missing: no order holds among them.",
            todo="Look at the model: its loss or its embeddings are not finite.",
        ),
        Check(
            name="recommendations_are_unique",
            group="recommendations",
            unit="pairs",
            of=RECS,
            function=recommendations_are_unique,
            needs=(RECS,),
            means="Items stand several times in one list: a hit would be counted several times.",
            todo="Keep the best of each user and item, and fill the list up.",
        ),
        Check(
            name="recommended_users_exist",
            group="recommendations",
            unit="rows",
            of=RECS,
            function=recommended_users_exist,
            needs=(RECS, "users"),
            means="Rows are for users that the Dataset does not have: its ids are others.",
            todo="Use the ids of users.parquet, not those of the source.",
        ),
        Check(
            name="recommended_items_exist",
            group="recommendations",
            unit="rows",
            of=RECS,
            function=recommended_items_exist,
            needs=(RECS, "items"),
            means="Rows are of items that the Dataset does not have: its ids are others.",
            todo="Use the ids of items.parquet, not those of the source.",
        ),
        Check(
            name="recommendations_are_new",
            group="recommendations",
            unit="rows",
            of=RECS,
            function=recommendations_are_new,
            needs=(RECS, "interactions.split"),
            means="Items are recommended to users who have them in train: they take the place of hits.",
            todo="Exclude seen items before the lists are cut.",
        ),
        Check(
            name="ranks_are_one_to_n",
            group="recommendations",
            unit="users",
            of="recommended users",
            function=ranks_are_one_to_n,
            needs=("recommendations.rank",),
            means="Ranks are not 1, 2 … n: metrics by rank would be wrong.",
            todo="Number each list from 1, without gaps and repeats.",
        ),
        Check(
            name="scores_follow_ranks",
            group="recommendations",
            unit="ranks",
            of=RECS,
            function=scores_follow_ranks,
            needs=("recommendations.rank", "recommendations.score"),
            means="Scores rise where ranks do: the best are last, or rank and score are of two models.",
            todo="Rank by falling score.",
        ),
        Check(
            name="lists_are_long_enough",
            group="recommendations",
            unit="users",
            of="recommended users",
            function=lists_are_long_enough,
            needs=(RECS, "items"),
            severity="warn",
            limits=("min_list_length",),
            means="Lists are shorter than the cut-off of the metrics: places are left empty.",
            todo="Recommend at least as many items as the largest k.",
        ),
        Check(
            name="test_users_have_a_list",
            group="recommendations",
            unit="users",
            of="test users",
            function=test_users_have_a_list,
            needs=(RECS, "interactions.split"),
            severity="warn",
            means="Users with test rows have no list: they count as misses, or are silently left out.",
            todo="Recommend to every user with a test row.",
        ),
    )
}
"""Name → check of recommendations, in the order in which they run and are shown."""
