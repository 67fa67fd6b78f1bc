"""What each client says: computed at one client, or for a simulation at all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.federated.fixed import exact_sums, whole_numbers
from fedeval.federated.sums import ClientSums
from fedeval.per_user import metrics_of, with_clients
from fedeval.tables import RANK
from fedprep.errors import EvaluationError
from fedprep.schema import CLIENT_ID, ITEM_ID

__all__ = ["Statements", "client_statements", "client_sums", "exposure"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Statements:
    """What leaves each of many clients, as arrays: row i is what client `client_id[i]` says.

    sums, squares: int64 (n_clients, n_metrics, 3), whole part and two limbs of 32 bits ·
    counts, undefined: int64 (n_clients, n_metrics), users with a value and without.
    """

    client_id: pl.Series
    metrics: tuple[str, ...]
    sums: Ints
    squares: Ints
    counts: Ints
    undefined: Ints

    def __len__(self) -> int:
        return len(self.client_id)

    def of(self, row: int) -> ClientSums:
        """Returns the statement in one row."""
        return self._sums_of(slice(row, row + 1))

    def total(self) -> ClientSums:
        """Returns all statements merged."""
        return self._sums_of(slice(None))

    def _sums_of(self, rows: slice) -> ClientSums:
        return ClientSums(
            self.metrics,
            whole_numbers(self.sums[rows].sum(axis=0)),
            whole_numbers(self.squares[rows].sum(axis=0)),
            tuple(self.counts[rows].sum(axis=0).tolist()),
            tuple(self.undefined[rows].sum(axis=0).tolist()),
            len(self.counts[rows]),
        )


def client_sums(
    per_user: pl.DataFrame, metrics: Sequence[str] | None = None, *, exposure: Ints | None = None
) -> ClientSums:
    """Returns what one client says: the sums over its own users.

    Args:
        per_user: `user_id`, a float column a metric, NaN where undefined: this client's users alone.
        metrics: columns; None: all.
        exposure: int64 (n_items,) from `exposure`, or None.

    Raises:
        EvaluationError: a column is missing, a user twice, or values too large to be added up.
    """
    wanted = metrics_of(per_user, metrics)
    everyone = np.zeros(min(per_user.height, 1), np.int64)
    said = Statements(pl.Series(), tuple(wanted), *_sums(per_user, wanted, everyone)).total()
    return replace(said, n_clients=1, exposure=exposure)


def client_statements(
    per_user: pl.DataFrame, clients: pl.DataFrame, metrics: Sequence[str] | None = None
) -> Statements:
    """Returns what every client would say, computed for all of them at once; in order of client.

    Args:
        per_user: `user_id`, a float column a metric, NaN where undefined.
        clients: `user_id`, `client_id`.
        metrics: columns; None: all.

    Raises:
        EvaluationError: a column is missing, a user without a client, or values too large to be added up.
    """
    wanted = metrics_of(per_user, metrics)
    rows = with_clients(per_user, clients).sort(CLIENT_ID)
    ids = rows[CLIENT_ID]
    starts = np.flatnonzero((ids != ids.shift()).fill_null(True).to_numpy())
    return Statements(ids.gather(starts), tuple(wanted), *_sums(rows, wanted, starts))


def exposure(recs: pl.DataFrame, n_items: int, *, k: int) -> Ints:
    """Returns how often each item stands among the first k of a list: int64 (n_items,).

    Histograms add up exactly, and catalogue coverage, Gini and entropy follow from the total.

    Args:
        recs: `item_id` from 0 to n_items - 1, `rank` from 1.
        n_items: items of the catalogue.
        k: cut-off.

    Raises:
        EvaluationError: an item outside the catalogue.
    """
    items = recs.filter(pl.col(RANK) <= k)[ITEM_ID].to_numpy()
    outside = int(((items < 0) | (items >= n_items)).sum())
    if outside:
        raise EvaluationError(
            f"{outside:,} recommended items are outside the catalogue",
            expected=f"item_id from 0 to {n_items - 1:,}",
        )
    return np.bincount(items, minlength=n_items).astype(np.int64)


def _sums(
    rows: pl.DataFrame, metrics: Sequence[str], starts: Ints
) -> tuple[Ints, Ints, Ints, Ints]:
    """Returns sums, squares, counts and undefined of each client, whose rows are together."""
    values = np.column_stack([rows[metric].cast(pl.Float64).to_numpy() for metric in metrics])
    bad = int(np.isinf(values).sum())
    if bad:
        raise EvaluationError(f"{bad:,} values are infinite", expected="finite numbers, or NaN")
    known = ~np.isnan(values)
    held = np.where(known, values, 0.0)
    counts, undefined = (
        np.add.reduceat(marks.astype(np.int64), starts, axis=0)
        if len(starts)
        else np.zeros((0, len(metrics)), np.int64)
        for marks in (known, ~known)
    )
    return exact_sums(held, starts), exact_sums(held**2, starts), counts, undefined
