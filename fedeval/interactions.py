"""Who had what: the rows of one or more splits as arrays, user by user."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from fedprep.dataset import Dataset
from fedprep.errors import EvaluationError, nearest
from fedprep.schema import CLIENT_ID, ITEM_ID, LABEL, RATING, TIMESTAMP, USER_ID

__all__ = ["NO_CLIENT", "Interactions", "interactions_from", "interactions_of", "joined"]

logger = logging.getLogger(__name__)

NO_CLIENT = -1
"""The client of a user who has none, or whose rows lie at several."""

COLUMNS: dict[str, pl.DataType] = {
    USER_ID: pl.Int32(),
    ITEM_ID: pl.Int32(),
    RATING: pl.Float32(),
    LABEL: pl.Int8(),
    TIMESTAMP: pl.Int64(),
}


@dataclass(frozen=True, eq=False, kw_only=True)
class Interactions:
    """Rows by user: user `u` owns the rows `offsets[u]:offsets[u + 1]`, in ascending order of item.

    offsets: int64 (n_users + 1,) · item_id: int32 (n_rows,), no item twice at a user ·
    rating: float32 (n_rows,), NaN where there is none · label: int8 (n_rows,) ·
    timestamp: int64 (n_rows,), seconds · client_id: int32 (n_users,), `NO_CLIENT` where there is none.
    """

    n_users: int
    n_items: int
    offsets: npt.NDArray[np.int64]
    item_id: npt.NDArray[np.int32]
    rating: npt.NDArray[np.float32]
    label: npt.NDArray[np.int8]
    timestamp: npt.NDArray[np.int64]
    client_id: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.item_id)

    def __repr__(self) -> str:
        return f"<{len(self):,} interactions of {self.n_users:,} users, {self.n_items:,} items>"

    @functools.cached_property
    def user_id(self) -> npt.NDArray[np.int32]:
        """int32 (n_rows,): the user of each row."""
        return np.repeat(np.arange(self.n_users, dtype=np.int32), self.user_counts)

    @functools.cached_property
    def user_counts(self) -> npt.NDArray[np.int64]:
        """int64 (n_users,): rows of each user."""
        return np.diff(self.offsets)

    @functools.cached_property
    def item_counts(self) -> npt.NDArray[np.int64]:
        """int64 (n_items,): rows of each item, its popularity."""
        return np.bincount(self.item_id, minlength=self.n_items)

    @functools.cached_property
    def _pairs(self) -> npt.NDArray[np.int64]:
        return self.user_id.astype(np.int64) * self.n_items + self.item_id

    def rows_of(
        self, users: npt.NDArray[np.integer]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Returns int64 (m,), twice, for all rows of these users: the place in `users`, and the row."""
        counts = self.user_counts[users]
        place = np.repeat(np.arange(len(users)), counts)
        row = np.repeat(self.offsets[users] - np.cumsum(counts) + counts, counts)
        row += np.arange(len(row))
        return place, row

    def holds(
        self, users: npt.NDArray[np.integer], items: npt.NDArray[np.integer]
    ) -> npt.NDArray[np.bool_]:
        """Returns bool (m,): whether each (user, item) is among the rows."""
        if not len(self):
            return np.zeros(len(users), bool)
        pairs = users.astype(np.int64) * self.n_items + items
        at = np.minimum(np.searchsorted(self._pairs, pairs), len(self) - 1)
        found: npt.NDArray[np.bool_] = self._pairs[at] == pairs
        return found

    def only(self, rows: npt.NDArray[np.bool_]) -> Interactions:
        """Returns the rows where bool (n_rows,) is true, such as `train.only(train.label > 0)`."""
        kept = np.concatenate([[0], np.cumsum(rows)])
        return Interactions(
            n_users=self.n_users,
            n_items=self.n_items,
            offsets=kept[self.offsets],
            item_id=self.item_id[rows],
            rating=self.rating[rows],
            label=self.label[rows],
            timestamp=self.timestamp[rows],
            client_id=self.client_id,
        )

    def frame(self) -> pl.DataFrame:
        """Returns the rows as a frame: user_id, item_id, rating, label, timestamp."""
        return pl.DataFrame({name: getattr(self, name) for name in COLUMNS})


def interactions_of(dataset: Dataset, *splits: str) -> Interactions:
    """Returns the rows of these splits of a Dataset: `"train"`; `"train", "valid"` are seen at test time."""
    parts = [dataset.arrays(split) for split in splits]
    rows = [np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS]
    clients = dataset.users().select(CLIENT_ID).collect()[CLIENT_ID]
    return _sorted(
        dict(zip(COLUMNS, rows, strict=True)),
        n_users=len(clients),
        n_items=int(dataset.items().select(pl.len()).collect().item()),
        client_id=clients.fill_null(NO_CLIENT).to_numpy().astype(np.int32),
    )


def interactions_from(
    frame: pl.DataFrame,
    *,
    n_users: int | None = None,
    n_items: int | None = None,
    client_id: npt.ArrayLike | None = None,
) -> Interactions:
    """Returns the rows of a frame with `user_id` and `item_id`, dense integers from 0.

    `rating`, `label` (absent: 1) and `timestamp` (absent: 0) may follow. Of a pair that stands there
    twice the latest row is kept, of equal times the last one; how many were dropped is logged.

    Args:
        n_users, n_items: how many there are; None: one more than the largest id.
        client_id: the client of each user; None: the frame's `client_id`, else each user alone.

    Raises:
        EvaluationError: a column is missing, or ids are no dense integers.
    """
    users, items = (_ids(frame, name) for name in (USER_ID, ITEM_ID))
    sizes = [
        _size(name, ids, given)
        for name, ids, given in (("n_users", users, n_users), ("n_items", items, n_items))
    ]
    rows = {
        USER_ID: users,
        ITEM_ID: items,
        RATING: _values(frame, RATING, np.nan),
        LABEL: _values(frame, LABEL, 1),
        TIMESTAMP: _values(frame, TIMESTAMP, 0),
    }
    clients = _clients(frame, users, sizes[0], client_id)
    return _sorted(rows, n_users=sizes[0], n_items=sizes[1], client_id=clients)


def joined(*parts: Interactions) -> Interactions:
    """Returns the rows of several, such as train and valid; of a pair in more than one, the latest.

    Raises:
        EvaluationError: they are not of equally many users and items.
    """
    sizes = {(part.n_users, part.n_items) for part in parts}
    if len(sizes) != 1:
        raise EvaluationError(
            "interactions of different sizes cannot be joined",
            where=" and ".join(f"{users} users × {items} items" for users, items in sorted(sizes)),
            hint="give n_users and n_items where they are made",
        )
    n_users, n_items = sizes.pop()
    rows = {name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS}
    return _sorted(
        rows, n_users=n_users, n_items=n_items, client_id=parts[0].client_id, overlap=True
    )


def _sorted(
    rows: dict[str, npt.NDArray[np.generic]],
    *,
    n_users: int,
    n_items: int,
    client_id: npt.NDArray[np.int32],
    overlap: bool = False,
) -> Interactions:
    pair = rows[USER_ID].astype(np.int64) * n_items + rows[ITEM_ID].astype(np.int64)
    order = np.lexsort((rows[TIMESTAMP], pair))
    pair = pair[order]
    last = np.ones(len(pair), bool)
    last[:-1] = pair[1:] != pair[:-1]
    if not (overlap or last.all()):
        logger.warning("%d repeated (user, item) rows: the latest is kept", np.sum(~last))
    order = order[last]
    counts = np.bincount(rows[USER_ID][order].astype(np.int64), minlength=n_users)
    return Interactions(
        n_users=n_users,
        n_items=n_items,
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        item_id=rows[ITEM_ID][order].astype(np.int32),
        rating=rows[RATING][order].astype(np.float32),
        label=rows[LABEL][order].astype(np.int8),
        timestamp=rows[TIMESTAMP][order].astype(np.int64),
        client_id=client_id,
    )


def _ids(frame: pl.DataFrame, name: str) -> npt.NDArray[np.int64]:
    if name not in frame.columns:
        raise EvaluationError(
            f"the frame of interactions has no column '{name}'", hint=nearest(name, frame.columns)
        )
    column = frame[name]
    if not column.dtype.is_integer() or column.null_count() or (column < 0).any():
        raise EvaluationError(
            f"'{name}' of the interactions must be integers from 0",
            where=f"{column.dtype}, {column.null_count()} nulls",
            hint="number them densely, or build a Dataset with fedprep",
        )
    return column.cast(pl.Int64).to_numpy()


def _size(name: str, ids: npt.NDArray[np.int64], given: int | None) -> int:
    least = int(ids.max()) + 1 if len(ids) else 0
    if given is not None and given < least:
        raise EvaluationError(f"{name} is {given}, but the largest id is {least - 1}")
    return least if given is None else given


def _values(frame: pl.DataFrame, name: str, default: float) -> npt.NDArray[np.generic]:
    if name not in frame.columns:
        return np.full(frame.height, default)
    return frame[name].cast(COLUMNS[name]).fill_null(default).to_numpy()


def _clients(
    frame: pl.DataFrame,
    users: npt.NDArray[np.int64],
    n_users: int,
    given: npt.ArrayLike | None,
) -> npt.NDArray[np.int32]:
    if given is not None:
        clients = np.asarray(given).astype(np.int32)
        if clients.shape != (n_users,):
            raise EvaluationError(
                f"client_id has shape {clients.shape}", expected=f"({n_users},): one for each user"
            )
        return clients
    if CLIENT_ID not in frame.columns:
        return np.arange(n_users, dtype=np.int32)
    held = frame[CLIENT_ID].cast(pl.Int32).fill_null(NO_CLIENT).to_numpy()
    clients = np.full(n_users, NO_CLIENT, np.int32)
    clients[users] = held
    clients[users[clients[users] != held]] = NO_CLIENT
    return clients
