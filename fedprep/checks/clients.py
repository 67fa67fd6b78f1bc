"""Clients: whose rows are whose, what the index says of them, how large and how unlike they are."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fedprep.checks.check import Check, NotAsked
from fedprep.checks.drift import divergence, gini
from fedprep.checks.index import index_matches_shards
from fedprep.checks.limits import Limits
from fedprep.checks.tables import Tables
from fedprep.frames import parquet_file, scan_parquet
from fedprep.schema import CLIENT_ID, ITEM_ID, LABEL, SPLITS, USER_ID

__all__ = ["CHECKS"]

HAVE_CLIENTS = "interactions.client_id"


def every_row_has_one_client(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Rows without a client."""
    assert tables.interactions is not None
    rows = tables.interactions.filter(pl.col(CLIENT_ID).is_null())
    return rows.select(CLIENT_ID, USER_ID, ITEM_ID)


def user_lives_in_one_client(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Users whose rows lie at several clients, or at another one than the table of users says."""
    _ask_of_users(tables)
    users = tables.totals.users.lazy().select(USER_ID, "client_low", "client_high")
    offends = pl.col("client_low") != pl.col("client_high")
    if tables.users is not None and CLIENT_ID in tables.columns("users"):
        home = tables.users.select(USER_ID, pl.col(CLIENT_ID).alias("in_table_of_users"))
        users = users.join(home.unique(USER_ID), on=USER_ID, how="left")
        known = pl.col(USER_ID).is_in(tables.ids("users").implode())
        offends |= known & pl.col("in_table_of_users").ne_missing(pl.col("client_low"))
    return users.filter(offends).sort(USER_ID)


def client_never_crosses_a_file(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Clients whose rows lie in several shards. Footers tell, where they show that no two files overlap."""
    shards = tables.files["interactions"]
    if _ranges_are_apart(shards):
        return pl.LazyFrame(schema={CLIENT_ID: pl.Int32, "files": pl.List(pl.String)})
    of_files = [
        scan_parquet(path).select(pl.col(CLIENT_ID).unique()).with_columns(files=pl.lit(path.name))
        for path in shards
    ]
    clients = pl.concat(of_files).drop_nulls().group_by(CLIENT_ID).agg(pl.col("files").sort())
    return clients.filter(pl.col("files").list.len() > 1).sort(CLIENT_ID)


def _ranges_are_apart(shards: tuple[Path, ...]) -> bool:
    """Returns whether the footers show that no client can be in two of the files."""
    ranges = []
    for path in shards:
        metadata = parquet_file(path).metadata
        column = metadata.schema.names.index(CLIENT_ID)
        groups = [metadata.row_group(k).column(column) for k in range(metadata.num_row_groups)]
        known = [g.statistics for g in groups if g.is_stats_set and g.statistics.has_min_max]
        if len(known) < len(groups) or not known:
            return False
        ranges.append((min(s.min for s in known), max(s.max for s in known)))
    ranges.sort()
    return all(before[1] < after[0] for before, after in itertools.pairwise(ranges))


def clients_have_enough_rows(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Clients with too few rows, the smallest first."""
    clients = tables.totals.clients.lazy().filter(pl.col("n_rows") < limits.min_client_rows)
    return clients.sort("n_rows", CLIENT_ID).select(CLIENT_ID, "n_rows", "n_users")


def clients_have_every_split(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Clients with too few rows of a split that others have."""
    clients = tables.totals.clients
    used = [f"n_{split}" for split in SPLITS if (clients[f"n_{split}"] > 0).any()]
    if len(used) < 2:
        raise NotAsked("all rows are in one split")
    offends = pl.any_horizontal(pl.col(used) < limits.min_split_rows)
    return clients.lazy().filter(offends).select(CLIENT_ID, *used)


def classes_are_balanced(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Classes that have too large or too small a share of all rows."""
    _ask_of_classes(tables)
    classes = pl.LazyFrame({LABEL: tables.classes}, schema={LABEL: pl.Int64})
    rows = tables.totals.labels.lazy().select(pl.col(LABEL).cast(pl.Int64), "n_rows")
    counts = (
        classes.join(rows, on=LABEL, how="left")
        .with_columns(pl.col("n_rows").fill_null(0))
        .collect()
    )
    n_rows = counts["n_rows"].to_numpy()
    # polars multiplies by the reciprocal: three of five would be more than 0.6
    counts = counts.with_columns(pl.Series("share", n_rows / max(n_rows.sum(), 1), pl.Float64))
    share = pl.col("share")
    outside = (share > limits.max_class_share) | (share < limits.min_class_share)
    return counts.lazy().filter(outside).sort(LABEL)


def classes_are_balanced_per_client(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Clients in whose rows a class has too large or too small a share."""
    counts = _class_counts(tables)
    n_rows = counts.sum(axis=1)
    largest, smallest = (
        values / np.maximum(n_rows, 1) for values in (counts.max(axis=1), counts.min(axis=1))
    )
    table = pl.LazyFrame(
        {
            CLIENT_ID: tables.totals.clients[CLIENT_ID],
            "n_rows": n_rows,
            "largest_class": np.array(tables.classes)[counts.argmax(axis=1)],
            "largest_share": largest,
            "smallest_share": smallest,
        }
    )
    large = pl.col("largest_share") > limits.max_client_class_share
    small = pl.col("smallest_share") < limits.min_client_class_share
    return table.filter((large | small) & (pl.col("n_rows") > 0))


def clients_hold_the_classes_asked_for(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Clients with rows of more labels than the k of a pathological partition, the most first."""
    asked = (tables.manifest or {}).get("recipe", {}).get("partition", {})
    if asked.get("method") != "pathological" or asked.get("on", "label") != "label":
        raise NotAsked("the partition does not deal out labels")
    n_labels = pl.Series("n_labels", (_class_counts(tables) > 0).sum(axis=1))
    clients = tables.totals.clients.select(CLIENT_ID, "n_rows").with_columns(n_labels)
    above = clients.lazy().filter(pl.col("n_labels") > int(asked.get("k", 2)))
    return above.sort("n_labels", CLIENT_ID, descending=[True, False])


def label_drift_is_bounded(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Clients whose labels are far from those of all rows, the farthest first."""
    counts = _class_counts(tables)
    clients = tables.totals.clients.select(CLIENT_ID, "n_rows")
    drift = pl.Series("drift", divergence(counts, counts.sum(axis=0))).fill_nan(None)
    return _farthest(clients.with_columns(drift), limits.max_label_drift)


def item_drift_is_bounded(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Clients the categories of whose items are far from those of all rows, the farthest first.

    Categories and not items: of thousands of items a client of a few dozen rows has nearly none, whatever
    its taste.
    """
    clients = tables.totals.clients.select(CLIENT_ID, "n_rows")
    drift = tables.category_drift
    if drift["drift"].null_count() == drift.height:
        raise NotAsked("no item has a category")
    return _farthest(clients.join(drift, on=CLIENT_ID), limits.max_item_drift)


def sizes_are_bounded(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """The Gini coefficient of the clients' rows, where it is too large."""
    n_rows = tables.totals.clients["n_rows"]
    table = pl.LazyFrame(
        {
            "gini": [gini(n_rows.to_numpy().astype(np.int64))],
            "n_clients": [len(n_rows)],
            "smallest": [n_rows.min()],
            "median": [n_rows.median()],
            "largest": [n_rows.max()],
        }
    )
    return table.filter(pl.col("gini") > limits.max_size_gini)


def _ask_of_users(tables: Tables) -> None:
    if (tables.manifest or {}).get("partition", {}).get("unit") == "interaction":
        raise NotAsked(
            'partition.unit is "interaction": rows of a user lie at several clients on purpose'
        )


def _ask_of_classes(tables: Tables) -> None:
    manifest = tables.manifest or {}
    if manifest.get("recipe", {}).get("clean", {}).get("label") == "implicit":
        raise NotAsked('clean.label is "implicit": there is one class')


def _class_counts(tables: Tables) -> npt.NDArray[np.int64]:
    """Returns rows of each class of each client: int64 (n_clients, n_classes)."""
    _ask_of_classes(tables)
    clients = tables.totals.clients
    columns = [f"label_{k}" for k in tables.classes]
    zeros = pl.lit(0, pl.Int64)
    return clients.select(
        pl.col(name).cast(pl.Int64) if name in clients.columns else zeros.alias(name)
        for name in columns
    ).to_numpy()


def _farthest(clients: pl.DataFrame, limit: float) -> pl.LazyFrame:
    far = clients.lazy().filter(pl.col("drift") > limit)
    return far.sort("drift", CLIENT_ID, descending=[True, False])


def _one_user(recipe: Mapping[str, Any]) -> str:
    by_user = recipe.get("partition", {}).get("method") == "by_user"
    return "a client is one user, and as one-sided as that user is" if by_user else ""


def _drawn_by_chance(recipe: Mapping[str, Any]) -> str:
    by_chance = recipe.get("split", {}).get("method") == "ratio" and _one_user(recipe)
    return "rows are drawn by chance, and a client of few rows may have none" if by_chance else ""


CHECKS = (
    Check(
        name="every_row_has_one_client",
        group="clients",
        unit="rows",
        of="interactions",
        function=every_row_has_one_client,
        needs=(HAVE_CLIENTS,),
        blocks="rows",
        means="Rows belong to no client: no round will ever see them.",
        todo="Partition again, or give these rows a client.",
    ),
    Check(
        name="user_lives_in_one_client",
        group="clients",
        unit="users",
        of="users",
        function=user_lives_in_one_client,
        needs=(HAVE_CLIENTS,),
        means="A user's rows lie at several clients: data leave the client that they belong to.",
        todo='Partition by user, or say partition.unit = "interaction" if it is meant.',
    ),
    Check(
        name="client_never_crosses_a_file",
        group="clients",
        unit="clients",
        of="clients",
        function=client_never_crosses_a_file,
        needs=(HAVE_CLIENTS, "folder", "manifest"),
        means="A client lies in several shards: whoever reads one through the index misses rows.",
        todo="Write the shards again: fedprep build, or fedprep.shards.write_shards.",
    ),
    Check(
        name="index_matches_shards",
        group="clients",
        unit="clients",
        of="clients",
        function=index_matches_shards,
        needs=(HAVE_CLIENTS, "index"),
        means="The index says something else of clients than their rows: sizes, splits, labels or places.",
        todo="Write the shards and the index again, together.",
    ),
    Check(
        name="clients_have_enough_rows",
        group="clients",
        unit="clients",
        of="clients",
        function=clients_have_enough_rows,
        needs=(HAVE_CLIENTS,),
        severity="warn",
        limits=("min_client_rows",),
        means="Clients have too few rows to train on.",
        todo="Set partition.min_rows or clean.user_core, or make fewer clients.",
    ),
    Check(
        name="clients_have_every_split",
        group="clients",
        unit="clients",
        of="clients",
        function=clients_have_every_split,
        needs=(HAVE_CLIENTS, "interactions.split"),
        severity="warn",
        by_design=_drawn_by_chance,
        limits=("min_split_rows",),
        means="Clients have no train, valid or test rows: they cannot train, or cannot be judged.",
        todo="Raise clean.user_core above split.n_valid + split.n_test, or make fewer clients.",
    ),
    Check(
        name="classes_are_balanced",
        group="clients",
        unit="classes",
        of="classes",
        function=classes_are_balanced,
        needs=("interactions.label",),
        severity="warn",
        limits=("max_class_share", "min_class_share"),
        means="One class is nearly all rows, or hardly any: a constant answer already looks accurate.",
        todo="Set clean.label or clean.threshold anew, weight the loss, and do not report accuracy.",
    ),
    Check(
        name="classes_are_balanced_per_client",
        group="clients",
        unit="clients",
        of="clients",
        function=classes_are_balanced_per_client,
        needs=("interactions.label", HAVE_CLIENTS),
        severity="warn",
        by_design=_one_user,
        limits=("max_client_class_share", "min_client_class_share"),
        means="Clients have rows of one class nearly alone: a model of their own learns a constant.",
        todo="Make fewer clients, raise partition.alpha, or use an algorithm for label skew.",
    ),
    Check(
        name="clients_hold_the_classes_asked_for",
        group="clients",
        unit="clients",
        of="clients",
        function=clients_hold_the_classes_asked_for,
        needs=(HAVE_CLIENTS, "interactions.label", "manifest"),
        severity="warn",
        means="Clients hold more labels than partition.k: users were moved whole, or min_rows filled up.",
        todo='Set partition.unit = "interaction" and a smaller min_rows, or take dirichlet.',
    ),
    Check(
        name="label_drift_is_bounded",
        group="clients",
        unit="clients",
        of="clients",
        function=label_drift_is_bounded,
        needs=("interactions.label", HAVE_CLIENTS),
        severity="warn",
        by_design=_one_user,
        limits=("max_label_drift",),
        means="The labels of clients are far from those of all rows (Jensen–Shannon, bits).",
        todo="Raise partition.alpha, or use an algorithm for label skew.",
    ),
    Check(
        name="item_drift_is_bounded",
        group="clients",
        unit="clients",
        of="clients",
        function=item_drift_is_bounded,
        needs=(HAVE_CLIENTS, "items.categories"),
        severity="warn",
        by_design=_one_user,
        limits=("max_item_drift",),
        means="The item categories of clients are far from those of all rows (Jensen–Shannon, bits).",
        todo="Make fewer clients, raise partition.alpha, or use an algorithm that personalises.",
    ),
    Check(
        name="sizes_are_bounded",
        group="clients",
        unit="partitions",
        of="partitions",
        function=sizes_are_bounded,
        needs=(HAVE_CLIENTS,),
        severity="warn",
        limits=("max_size_gini",),
        means="A few clients have nearly all rows (Gini): the mean over clients is theirs.",
        todo="Cap large clients, weight clients equally, or partition another way.",
    ),
)
"""In order of running: whose rows, where, how many, how unlike."""
