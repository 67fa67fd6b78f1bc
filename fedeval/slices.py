"""Metrics by group of users or of items, with intervals, and where one system beats another.

Slices work on per-user frames (`user_id`, a float column a metric) and a table of groups
(`fedeval.groups`). Undefined values are left out and counted; so are users that have no value or group.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import polars as pl

from fedeval.groups import NO_GROUP
from fedeval.per_user import GROUP, key_of, metrics_of, paired_frame, same_ids, with_clients
from fedeval.statistics.bootstrap import bootstrap_interval
from fedeval.statistics.comparison import COMPARISON, Inference, compare_values, decided
from fedeval.statistics.repeats import repeated_metrics
from fedeval.tables import RANK
from fedprep.errors import EvaluationError, nearest
from fedprep.schema import CLIENT_ID, ITEM_ID, USER_ID

__all__ = ["by_relevant_item", "recommended_shares", "slice_comparison", "slice_metrics"]

SLICE: dict[str, pl.DataType] = {
    "metric": pl.String(),
    "group": pl.String(),
    "mean": pl.Float64(),
    "low": pl.Float64(),
    "high": pl.Float64(),
    "standard_error": pl.Float64(),
    "n": pl.Int64(),
    "n_undefined": pl.Int64(),
    "n_units": pl.Int64(),
    "n_absent": pl.Int64(),
    "reason": pl.String(),
}


def slice_metrics(
    per_user: pl.DataFrame,
    groups: pl.DataFrame | None = None,
    metrics: Sequence[str] | None = None,
    *,
    clients: pl.DataFrame | None = None,
    inference: Inference | None = None,
) -> pl.DataFrame:
    """Returns a row per metric and group: mean over the group's users with its bootstrap interval.

    Columns: `metric`, `group`, `mean`, `low`, `high`, `standard_error`, `n` (users with a value),
    `n_undefined`, `n_units` (users or clients drawn), `n_absent` (users of the group without a row in
    `per_user`, such as users without truth), `reason`. Groups come in the order of their enumeration,
    users in no group last, as "(none)". Intervals are of each group by itself.

    Args:
        per_user: `user_id`, a float column a metric; or with `group`, from `by_relevant_item`.
        groups: `user_id`, `group`; None where `per_user` has the groups.
        metrics: columns; None: all.
        clients: `user_id`, `client_id`: whole clients are drawn; None: users are.
        inference: how; None: the defaults.

    Raises:
        EvaluationError: a column is missing, a user twice, or a user without a client.
    """
    how = inference or Inference()
    wanted = metrics_of(per_user, metrics)
    absent = _absent(per_user, groups)
    grouped = _grouped(per_user if clients is None else with_clients(per_user, clients), groups)
    rows: list[dict[str, Any]] = []
    for group, part in _parts(grouped):
        ids = part[CLIENT_ID].to_numpy() if clients is not None else None
        for metric in wanted:
            interval = bootstrap_interval(
                part[metric].to_numpy(),
                ids,
                level=how.level,
                method=how.interval,
                n_resamples=how.n_resamples,
                seed=how.seed,
            )
            fields = interval.to_dict() | {"mean": interval.value, "n_absent": absent.get(group, 0)}
            fields |= {"metric": metric, "group": group}
            rows.append({name: fields[name] for name in SLICE})
    return _by_metric(pl.DataFrame(rows, schema=SLICE), wanted)


def slice_comparison(
    a: pl.DataFrame,
    b: pl.DataFrame,
    groups: pl.DataFrame | None = None,
    metrics: Sequence[str] | None = None,
    *,
    names: tuple[str, str] = ("A", "B"),
    clients: pl.DataFrame | None = None,
    lower_is_better: Collection[str] = (),
    inference: Inference | None = None,
) -> pl.DataFrame:
    """Returns where a beats b: a row per metric and group, with the paired difference.

    Columns: `metric`, `group`, `a`, `b`, those of `statistics.comparison.COMPARISON`, `p_corrected` (the
    family is the whole table: all groups and metrics) and `better`: a name, or "undecided". Users that
    only one system has are left out.

    That a difference is found in one group and not in another does not say that the groups differ
    (Gelman and Stern, The American Statistician 60 (4), 2006): `clients.group_gaps` of the differences
    tests that.

    Args:
        a, b: per-user frames of the two systems; both with `group` where `groups` is None.
        groups: `user_id`, `group`.
        metrics: columns; None: all of a.
        names: of the systems.
        clients: `user_id`, `client_id`: whole clients are drawn and flipped; None: users are.
        lower_is_better: metrics of which less is better.
        inference: how; None: the defaults.

    Raises:
        EvaluationError: as for `slice_metrics`; a metric that b lacks, or no user in common.
    """
    how = inference or Inference()
    wanted = metrics_of(a, metrics)
    both, _, _ = paired_frame(a, b, wanted, names=names)
    if clients is not None:
        both = with_clients(both, clients)
    rows: list[dict[str, Any]] = []
    for group, part in _parts(_grouped(both, groups)):
        ids = part[CLIENT_ID].to_numpy() if clients is not None else None
        for metric in wanted:
            fields = compare_values(
                part[f"{metric}:a"].to_numpy(),
                part[f"{metric}:b"].to_numpy(),
                ids,
                lower_is_better=metric in lower_is_better,
                inference=how,
            )
            rows.append({"metric": metric, "group": group, "a": names[0], "b": names[1], **fields})
    same = dict.fromkeys(wanted, "") | repeated_metrics((a, b), wanted)
    table = _by_metric(pl.DataFrame(rows, schema_overrides=COMPARISON), wanted)
    table = table.with_columns(same_as=pl.col("metric").replace_strict(same))
    return decided(table, how, lower_is_better=lower_is_better)


def by_relevant_item(
    score: Callable[[pl.DataFrame], pl.DataFrame], truth: pl.DataFrame, item_groups: pl.DataFrame
) -> pl.DataFrame:
    """Returns a per-user frame with `group`: each group's metrics count its relevant items alone.

    The truth is cut down to the relevant items of one group after the other, the lists stay as they are;
    an item of another group in a list is a miss. So recall@k of "tail" is the share of the relevant tail
    items found. A user has a row in each group of which an item is relevant to them. With one relevant
    item a user it is that item's group. Items in no group are "(none)".

    Args:
        score: truth → per-user frame, such as `lambda t: evaluate(recs, t, ["recall@10"]).per_user`.
        truth: `user_id`, `item_id`, and `relevance` where there is one.
        item_groups: `item_id`, `group`.

    Raises:
        EvaluationError: a column is missing, or what `score` raises.
    """
    _needs(truth, USER_ID, ITEM_ID)
    marked, labels = _of_items(truth, item_groups)
    frames = []
    for label in labels:
        part = marked.filter(pl.col(GROUP) == label).select(truth.columns)
        if part.height:
            frames.append(score(part).with_columns(pl.lit(label, pl.Enum(labels)).alias(GROUP)))
    if not frames:
        raise EvaluationError("the truth has no row")
    return pl.concat(frames)


def recommended_shares(recs: pl.DataFrame, item_groups: pl.DataFrame, *, k: int) -> pl.DataFrame:
    """Returns what is recommended, by group of items: `user_id`, `group`, `share@k`, for `slice_metrics`.

    A row for every user with a list and every group, 0 where the group has no place. The share is of the
    places filled among the first k; shares of overlapping groups (categories) add up to more than 1.

    Args:
        recs: `user_id`, `item_id`, `rank` from 1.
        item_groups: `item_id`, `group`.
        k: cut-off.

    Raises:
        EvaluationError: a column is missing.
    """
    _needs(recs, USER_ID, ITEM_ID, RANK)
    top = recs.lazy().filter(pl.col(RANK) <= k).select(USER_ID, ITEM_ID).collect()
    places = top.group_by(USER_ID).agg(pl.len().alias("places")).sort(USER_ID)
    marked, labels = _of_items(top, item_groups)
    counts = marked.group_by(USER_ID, GROUP).agg(pl.len().alias("hits"))
    kinds = pl.DataFrame({GROUP: pl.Series(labels, dtype=pl.Enum(labels))})
    every = places.join(kinds, how="cross").join(
        counts, on=[USER_ID, GROUP], how="left", maintain_order="left"
    )
    share = pl.col("hits").fill_null(0) / pl.col("places")
    return every.select(USER_ID, GROUP, share.alias(f"share@{k}"))


def _of_items(rows: pl.DataFrame, item_groups: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Returns rows with the group of their item (as often as it has one), and the groups in order."""
    _needs(item_groups, ITEM_ID, GROUP)
    table = same_ids(item_groups.select(ITEM_ID, GROUP), rows, ITEM_ID).unique()
    labels = _labels(table)
    marked = rows.join(
        table.with_columns(pl.col(GROUP).cast(pl.String)),
        on=ITEM_ID,
        how="left",
        maintain_order="left",
    )
    if NO_GROUP not in labels and marked[GROUP].null_count():
        labels = [*labels, NO_GROUP]
    return marked.with_columns(pl.col(GROUP).fill_null(NO_GROUP).cast(pl.Enum(labels))), labels


def _grouped(per_user: pl.DataFrame, groups: pl.DataFrame | None) -> pl.DataFrame:
    if groups is None:
        if GROUP not in per_user.columns:
            raise EvaluationError(
                f"the table of values has no column '{GROUP}'", hint="give the groups of the users"
            )
        return per_user.with_columns(pl.col(GROUP).cast(pl.Enum(_labels(per_user))))
    if GROUP in per_user.columns:
        raise EvaluationError("the values are grouped already, and groups of users are given")
    _needs(groups, USER_ID, GROUP)
    table = same_ids(groups.select(USER_ID, GROUP), per_user, USER_ID).unique()
    labels = _labels(table)
    names = table.with_columns(pl.col(GROUP).cast(pl.String))
    joined = per_user.join(names, on=USER_ID, how="left", maintain_order="left")
    kind = pl.Enum(list(dict.fromkeys([*labels, NO_GROUP])))
    return joined.with_columns(pl.col(GROUP).fill_null(NO_GROUP).cast(kind))


def _parts(grouped: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yields the groups that have a row, in the order of their enumeration."""
    parts = grouped.partition_by(GROUP, as_dict=True)
    for label in _labels(grouped):
        if (label,) in parts:
            yield label, parts[(label,)]


def _labels(table: pl.DataFrame) -> list[str]:
    """Returns the groups in order: of an enumeration its own, else sorted."""
    kind = table.schema[GROUP]
    if isinstance(kind, pl.Enum):
        return kind.categories.to_list()
    return sorted(table[GROUP].drop_nulls().cast(pl.String).unique().to_list())


def _absent(per_user: pl.DataFrame, groups: pl.DataFrame | None) -> dict[str, int]:
    """Returns how many users of each group have no row of values."""
    if groups is None:
        return {}
    _needs(groups, USER_ID, GROUP)
    table = same_ids(groups.select(USER_ID, GROUP), per_user, USER_ID).unique()
    lost = table.join(per_user.select(key_of(per_user)), on=USER_ID, how="anti")
    counts = lost.group_by(pl.col(GROUP).cast(pl.String)).len()
    return dict(counts.iter_rows())


def _by_metric(table: pl.DataFrame, metrics: Sequence[str]) -> pl.DataFrame:
    order = {name: at for at, name in enumerate(metrics)}
    return table.sort(
        pl.col("metric").replace_strict(order, return_dtype=pl.Int64), maintain_order=True
    )


def _needs(table: pl.DataFrame, *columns: str) -> None:
    for column in columns:
        if column not in table.columns:
            raise EvaluationError(
                f"the table has no column '{column}'", hint=nearest(column, table.columns)
            )
