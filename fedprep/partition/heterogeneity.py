"""How unequal the clients of a partition are: labels, categories, sizes, items in common."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fedprep.partition.classes import item_categories
from fedprep.partition.divergence import jensen_shannon
from fedprep.partition.grouping import BLOCK, count_pairs, in_blocks
from fedprep.partition.task import Floats, Ints
from fedprep.schema import CLIENT_ID, ITEM_ID, LABEL, SPLIT, SPLIT_DTYPE, SPLITS, USER_ID

__all__ = ["gini", "heterogeneity"]

SMALL = (5, 10, 20)

Measures = dict[str, npt.NDArray[Any]]


def heterogeneity(
    rows: pl.DataFrame, items: pl.DataFrame, *, n_classes: int, min_rows: int, block: int = BLOCK
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Returns a table of clients and a summary of how they differ.

    The table has, in order of `client_id`: n_rows, n_train, n_valid, n_test, n_users, label_counts
    (array of int32), divergence and category_divergence (float32; the latter null for clients none of
    whose items has a category). All counts are over train, valid and test together.

    The summary:

    - n_clients, rows_per_client, users_per_client, items_per_client: quantiles;
    - label_divergence, category_divergence: Jensen–Shannon divergence, in bits (0 equal, 1 disjoint),
      of a client's distribution from that of all rows: median, p99, max over clients. A row counts for
      each category of its item; rows without one do not count; None where there are no categories;
    - size_gini: Gini coefficient of the clients' rows: 0 all equal, towards 1 one has everything;
    - clients_below: how many clients have fewer than 5, 10, 20 and `min_rows` rows;
    - item_overlap: of all (client, item) holdings, the chance that a second client, drawn at random,
      holds the item too. With c_i clients that hold item i it is sum c_i (c_i - 1) / ((n_clients - 1)
      sum c_i), exactly: shared items of two random clients, over items of a client. None for one client;
    - items_at_one_client: share of the items that one client alone holds;
    - class_shares of all rows, largest_class_share and smallest_class_share.

    Args:
        rows: `client_id` (dense from 0), `user_id`, `item_id`, `label` (0 to n_classes - 1), `split`, in
            any order; less memory and time when sorted by client.
        items: `item_id`, `categories`.
        min_rows: the rows that a client was to have.
        block: rows grouped at a time.
    """
    client = rows[CLIENT_ID].to_numpy().astype(np.int64)
    n_rows = np.bincount(client)
    labels = _counts(client, rows[LABEL], len(n_rows), n_classes)
    held = _holdings(rows, client, items, n_rows, block)
    owner, klass = np.nonzero(labels)
    pairs = (owner, klass, labels[owner, klass])
    held["divergence"] = jensen_shannon(*pairs, labels.sum(axis=0), len(n_rows))
    split = rows[SPLIT].cast(SPLIT_DTYPE).to_physical()
    splits = _counts(client, split, len(n_rows), len(SPLITS))
    return _table(n_rows, splits, labels, held), _summary(n_rows, labels, held, min_rows)


def _table(n_rows: Ints, splits: Ints, labels: Ints, held: Measures) -> pl.DataFrame:
    columns = {
        CLIENT_ID: np.arange(len(n_rows)),
        "n_rows": n_rows,
        **{f"n_{name}": splits[:, i] for i, name in enumerate(SPLITS)},
        "n_users": held["users"],
    }
    label_counts = pl.Series(labels.astype(np.int32), dtype=pl.Array(pl.Int32, labels.shape[1]))
    unlike = {name: held[name].astype(np.float32) for name in ("divergence", "category_divergence")}
    return (
        pl.DataFrame(columns)
        .cast(pl.Int32)
        .with_columns(label_counts=label_counts, **unlike)
        .with_columns(pl.col("category_divergence").fill_nan(None))
    )


def _summary(n_rows: Ints, labels: Ints, held: Measures, min_rows: int) -> dict[str, Any]:
    shares = [_rounded(share) for share in labels.sum(axis=0) / n_rows.sum()]
    holders = held["holders"]
    thresholds = sorted({*SMALL, min_rows} - {0})
    return {
        "n_clients": len(n_rows),
        "rows_per_client": _spread(n_rows),
        "users_per_client": _spread(held["users"]),
        "items_per_client": _spread(held["items"]),
        "label_divergence": _high_end(held["divergence"]),
        "category_divergence": _high_end(held["category_divergence"]),
        "size_gini": _rounded(gini(n_rows)),
        "min_rows": min_rows,
        "clients_below": {str(n): int((n_rows < n).sum()) for n in thresholds},
        "item_overlap": _overlap(holders, len(n_rows)),
        "items_at_one_client": _rounded((holders == 1).sum() / (holders > 0).sum()),
        "class_shares": shares,
        "largest_class_share": max(shares),
        "smallest_class_share": min(shares),
    }


def gini(sizes: Ints) -> float:
    """Returns the Gini coefficient of non-negative sizes: 0 where all are equal, below 1.

    G = 2 sum i x_(i) / (n sum x) - (n + 1) / n with x sorted upwards and i from 1.
    """
    ordered = np.sort(sizes)
    n, total = len(ordered), int(ordered.sum())
    rank = np.arange(1, n + 1)
    return float(2 * (rank * ordered).sum() / (n * total) - (n + 1) / n) if total else 0.0


def _holdings(
    rows: pl.DataFrame, client: Ints, items: pl.DataFrame, n_rows: Ints, block: int
) -> Measures:
    """Returns what needs distinct pairs: users and items of each client, clients of each item."""
    user = rows[USER_ID].to_numpy().astype(np.int64)
    item = rows[ITEM_ID].to_numpy().astype(np.int64)
    n_users, n_items = int(user.max()) + 1, int(item.max()) + 1
    n_clients = len(n_rows)
    categories = item_categories(items, n_items)
    whole = categories.totals(item)
    held: Measures = {
        "users": np.zeros(n_clients, dtype=np.int64),
        "items": np.zeros(n_clients, dtype=np.int64),
        "holders": np.zeros(n_items, dtype=np.int64),
        "category_divergence": np.full(n_clients, np.nan),
    }
    for first, last, part in in_blocks(client, n_rows, block):
        here, n_here = client[part] - first, last - first
        owner, _, _ = count_pairs(here, user[part], n_users)
        held["users"][first:last] = np.bincount(owner, minlength=n_here)
        owner, what, _ = count_pairs(here, item[part], n_items)
        held["items"][first:last] = np.bincount(owner, minlength=n_here)
        held["holders"] += np.bincount(what, minlength=n_items)
        if categories.names:
            row, klass = categories.of_rows(item[part])
            pairs = count_pairs(here[row], klass, len(whole))
            held["category_divergence"][first:last] = jensen_shannon(*pairs, whole, n_here)
    return held


def _counts(client: Ints, klass: pl.Series, n_clients: int, n_classes: int) -> Ints:
    """Returns how many rows of each class a client has: int64 (n_clients, n_classes)."""
    key = client * n_classes + klass.to_numpy().astype(np.int64)
    return np.bincount(key, minlength=n_clients * n_classes).reshape(n_clients, n_classes)


def _overlap(holders: Ints, n_clients: int) -> float | None:
    if n_clients < 2:
        return None
    return _rounded((holders * (holders - 1)).sum() / ((n_clients - 1) * holders.sum()))


def _spread(counts: Ints) -> dict[str, float]:
    marks = {"min": 0, "p1": 1, "p25": 25, "median": 50, "p75": 75, "p99": 99, "max": 100}
    values = np.percentile(counts, list(marks.values()))
    named = dict(zip(marks, (_rounded(value) for value in values), strict=True))
    return {"mean": _rounded(counts.mean()), **named}


def _high_end(values: Floats) -> dict[str, float] | None:
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    median, p99, most = np.percentile(known, [50, 99, 100])
    return {"median": _rounded(median), "p99": _rounded(p99), "max": _rounded(most)}


def _rounded(value: float | np.floating[Any]) -> float:
    """Returns the value to six digits: what lies beyond may differ between processors."""
    return round(float(value), 6)
