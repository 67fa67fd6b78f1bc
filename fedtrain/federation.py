"""What a trainer reads of a Dataset: the rows of all clients as arrays, and the frozen features."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fedprep.dataset import Dataset
from fedprep.errors import TrainingError
from fedprep.schema import (
    CLIENT_ID,
    ITEM_ID,
    LABEL,
    RATING,
    SPLIT,
    SPLITS,
    TIMESTAMP,
    USER_ID,
)

if TYPE_CHECKING:
    from fedtrain.batch import Features

__all__ = ["Federation", "Rows", "features_of", "federation_of", "pooled"]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of one split: client `c` owns `offsets[c]:offsets[c + 1]`, in order of (slot, timestamp, item).

    offsets: int64 (n_clients + 1,) · slot: int32 (n_rows,), which user at which client ·
    item_id: int32 · rating: float32 · label: int8 · timestamp: int64, seconds.
    """

    offsets: npt.NDArray[np.int64]
    slot: npt.NDArray[np.int32]
    item_id: npt.NDArray[np.int32]
    rating: npt.NDArray[np.float32]
    label: npt.NDArray[np.int8]
    timestamp: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.item_id)

    @functools.cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """int64 (n_clients,): rows of each client."""
        return np.diff(self.offsets)

    def of(
        self, clients: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Returns int64 (m,), twice, for all rows of these clients: the place in `clients`, and the row."""
        return ranges(self.offsets, clients)


def ranges(
    offsets: npt.NDArray[np.int64], which: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Returns int64 (m,), twice: for all members of these ranges the place in `which`, and the member."""
    counts = offsets[which + 1] - offsets[which]
    place = np.repeat(np.arange(len(which)), counts)
    member = np.repeat(offsets[which] - np.cumsum(counts) + counts, counts)
    member += np.arange(len(member))
    return place, member


@dataclass(frozen=True, kw_only=True)
class Federation:
    """The clients' rows. A *slot* is a user at a client: its private values lie there.

    slot_user: int32 (n_slots,): the user · slot_offsets: int64 (n_clients + 1,): a client's slots ·
    splits: the rows of train, valid and test · host: the client at which its users are at home, wherever
    else they have rows; None: nobody's home depends on who asks.
    """

    n_users: int
    n_items: int
    n_clients: int
    slot_user: npt.NDArray[np.int32]
    slot_offsets: npt.NDArray[np.int64]
    splits: Mapping[str, Rows]
    host: int | None = None

    @property
    def train(self) -> Rows:
        return self.splits["train"]

    @property
    def n_slots(self) -> int:
        return len(self.slot_user)

    @functools.cached_property
    def slot_client(self) -> npt.NDArray[np.int64]:
        """int64 (n_slots,): the client of each slot."""
        return np.repeat(np.arange(self.n_clients), np.diff(self.slot_offsets))

    @functools.cached_property
    def slot_rows(self) -> npt.NDArray[np.int64]:
        """int64 (n_slots,): train rows of each slot."""
        return np.bincount(self.train.slot, minlength=self.n_slots)

    @functools.cached_property
    def home(self) -> npt.NDArray[np.int64]:
        """int64 (n_users,): a user's slot; -1 without any.

        Of several it is the one at the host, else the one with most train rows.
        """
        # The first slot of equals comes last.
        order = np.lexsort((-np.arange(self.n_slots), self.slot_rows))
        home = np.full(self.n_users, -1, np.int64)
        home[self.slot_user[order]] = order
        if self.host is not None:
            here = np.arange(self.slot_offsets[self.host], self.slot_offsets[self.host + 1])
            home[self.slot_user[here]] = here
        return home

    @functools.cached_property
    def positives(self) -> Positives:
        """Each slot's train items in ascending order."""
        return positives_of(self.n_slots, self.n_items, [self.train])


@dataclass(frozen=True)
class Positives:
    """Sorted items of each slot, for drawing among the others.

    offsets: int64 (n_slots + 1,) · item_id: int32, ascending and distinct in a slot ·
    gaps: int64, slot * n_items + (item - place in the slot): how many others are below, as one sorted key.
    """

    offsets: npt.NDArray[np.int64]
    item_id: npt.NDArray[np.int32]
    gaps: npt.NDArray[np.int64]

    @functools.cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        return np.diff(self.offsets)


def positives_of(n_slots: int, n_items: int, parts: list[Rows]) -> Positives:
    """Returns the distinct items of each slot in these splits."""
    keys = np.concatenate([part.slot.astype(np.int64) * n_items + part.item_id for part in parts])
    keys.sort()
    keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])] if len(keys) else keys
    slot, item = np.divmod(keys, n_items)
    offsets = np.searchsorted(slot, np.arange(n_slots + 1))
    place = np.arange(len(keys)) - offsets[slot]
    return Positives(offsets, item.astype(np.int32), keys - place)


def federation_of(dataset: Dataset) -> Federation:
    """Returns the rows of a Dataset, client by client.

    Raises:
        TrainingError: no client has a train row, or rows name what there is not.
    """
    columns = [CLIENT_ID, USER_ID, ITEM_ID, RATING, LABEL, TIMESTAMP, SPLIT]
    rows = dataset.interactions().select(columns).collect()
    _refuse_strange(rows, dataset)
    client, user = rows[CLIENT_ID].to_numpy(), rows[USER_ID].to_numpy()
    new = np.ones(len(rows), bool)
    new[1:] = (client[1:] != client[:-1]) | (user[1:] != user[:-1])
    slot = np.cumsum(new, dtype=np.int32) - np.int32(1)
    n_clients = len(dataset.client_ids())
    facts = dataset.manifest["facts"]
    splits = {}
    for name in SPLITS:
        mask = (rows[SPLIT] == name).to_numpy()
        splits[name] = Rows(
            offsets=np.searchsorted(client[mask], np.arange(n_clients + 1)).astype(np.int64),
            slot=slot[mask],
            **{
                column: rows[column].to_numpy()[mask]
                for column in (ITEM_ID, RATING, LABEL, TIMESTAMP)
            },
        )
    if not len(splits["train"]):
        raise TrainingError(
            "no client has a train row",
            where=str(dataset.path),
            hint="change the recipe's [split], or build with more data",
        )
    return Federation(
        n_users=int(facts["n_users"]),
        n_items=int(facts["n_items"]),
        n_clients=n_clients,
        slot_user=user[new].astype(np.int32),
        slot_offsets=np.searchsorted(client[new], np.arange(n_clients + 1)).astype(np.int64),
        splits=splits,
    )


def _refuse_strange(rows: pl.DataFrame, dataset: Dataset) -> None:
    """Refuses rows of users, items or clients that there are not, or of no split."""
    facts = dataset.manifest["facts"]
    sizes = {USER_ID: "n_users", ITEM_ID: "n_items", CLIENT_ID: "n_clients"}
    strange = {
        column: int((~rows[column].is_between(0, int(facts[size]) - 1).fill_null(False)).sum())
        for column, size in sizes.items()
    }
    strange[SPLIT] = rows[SPLIT].null_count()
    told = [f"{column} of {n:,}" for column, n in strange.items() if n]
    if told:
        raise TrainingError(
            f"rows name users, items, clients or splits that there are not: {', '.join(told)}",
            where=str(dataset.path),
            expected=", ".join(f"{c} from 0 to {int(facts[s]) - 1:,}" for c, s in sizes.items()),
            hint="`fedprep validate` says which rows; build the Dataset again",
        )
    if (np.diff(rows[CLIENT_ID].to_numpy()) < 0).any():
        raise TrainingError(
            "the rows are not in order of their clients",
            where=str(dataset.path),
            hint="`fedprep validate` says what else is wrong; build the Dataset again",
        )


def pooled(federation: Federation) -> Federation:
    """Returns all rows at one client, for the centralised control; a user of several clients has one slot.

    Slots are in order of the users' first ones: where each user is at one client, rows stay where they are.
    """
    _, first, of_slot = np.unique(federation.slot_user, return_index=True, return_inverse=True)
    kept = np.sort(first)
    slot_of = np.searchsorted(kept, first)[of_slot].astype(np.int32)

    def at_one(rows: Rows) -> Rows:
        slot = slot_of[rows.slot]
        order = np.lexsort((rows.item_id, rows.timestamp, slot))
        return Rows(
            offsets=np.array([0, len(rows)]),
            slot=slot[order],
            item_id=rows.item_id[order],
            rating=rows.rating[order],
            label=rows.label[order],
            timestamp=rows.timestamp[order],
        )

    return replace(
        federation,
        n_clients=1,
        slot_user=federation.slot_user[kept],
        slot_offsets=np.array([0, len(kept)]),
        splits={name: at_one(rows) for name, rows in federation.splits.items()},
    )


def features_of(
    dataset: Dataset, modalities: list[str], behavior: bool, device: Any = "cpu"
) -> Features:
    """Returns the Dataset's embeddings as tensors, rows in order of item id; a missing one is 0 and marked.

    Raises:
        DatasetError: the Dataset has no such modality.
    """
    import torch

    from fedtrain.batch import Features

    items, has = {}, {}
    for modality in modalities:
        column = dataset.embeddings(modality).select("embedding").collect()["embedding"]
        items[modality], has[modality] = (
            torch.from_numpy(array).to(device) for array in _matrix(column)
        )
    users = None
    if behavior:
        column = dataset.users().select("behavior").collect()["behavior"]
        users = torch.from_numpy(_matrix(column)[0]).to(device)
    return Features(items, has, users)


def _matrix(column: pl.Series) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    has = column.is_not_null().to_numpy()
    dim = (
        column.dtype.shape[0] if isinstance(column.dtype, pl.Array) else len(column.drop_nulls()[0])
    )
    values = np.zeros((len(column), dim), np.float32)
    values[has] = column.drop_nulls().to_numpy().reshape(-1, dim)
    return values, has
