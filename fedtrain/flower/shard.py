"""A Dataset as one node sees it: the rows and users of its own client, and the items that all know of.

A shard comes from a folder that `fedprep export --to client-files` wrote for one client (`client-00007`, with
`items.parquet` beside it or in it), or, in a simulation, from the Dataset itself. Both give the same tables.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fedprep.dataset import Dataset
from fedprep.errors import DatasetError
from fedprep.frames import scan_parquet
from fedprep.schema import CLIENT_ID, ITEM_ID, USER_ID
from fedtrain.federation import Federation, federation_of

__all__ = ["Shard", "exported", "federation_of_shard", "shard_of_dataset"]

INTERACTIONS, USERS, ITEMS = "interactions.parquet", "users.parquet", "items.parquet"
SUFFIX = "_embedding"
"""The end of an exported item column that holds a modality, such as `text_embedding`."""


class Shard(Dataset):
    """A Dataset that holds one client's rows and users; items and their embeddings are those of all.

    Ids are the whole Dataset's. `manifest` has the `facts` that the server tells: how many users, items and
    clients there are in all.
    """

    def __init__(
        self,
        path: Path,
        facts: Mapping[str, Any],
        tables: Mapping[str, pl.LazyFrame],
        vectors: Mapping[str, pl.LazyFrame],
    ) -> None:
        super().__init__(path, {"facts": dict(facts)})
        self.tables = tables
        self.vectors = vectors

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(sorted(self.vectors))

    @functools.cached_property
    def rows(self) -> pl.DataFrame:
        """The client's rows (`schema.SHARD`)."""
        return self.tables[INTERACTIONS].collect()

    @property
    def client_id(self) -> int:
        """Whose rows these are.

        Raises:
            DatasetError: rows of none, or of several clients.
        """
        found = self.rows[CLIENT_ID].unique().to_list()
        if len(found) != 1:
            raise DatasetError(
                f"the shard holds rows of {len(found)} clients",
                where=str(self.path),
                expected="one client's, as `fedprep export --to client-files` writes them",
            )
        return int(found[0])

    @property
    def n_users(self) -> int:
        """How many users the client has."""
        return self.rows[USER_ID].n_unique()

    def client_ids(self) -> npt.NDArray[np.int32]:
        return np.arange(int(self.manifest["facts"]["n_clients"]), dtype=np.int32)

    def interactions(self, split: str | None = None) -> pl.LazyFrame:
        rows = self.rows.lazy()
        return rows if split is None else rows.filter(pl.col("split") == split)

    def items(self) -> pl.LazyFrame:
        return self.tables[ITEMS]

    def users(self) -> pl.LazyFrame:
        """Returns a row for every user id up to the client's last; null where it is another client's."""
        own = self.tables[USERS].drop("source_id", strict=False).collect()
        last = int(own[USER_ID].max() or 0)  # type: ignore[arg-type]
        every = pl.DataFrame({USER_ID: np.arange(last + 1, dtype=np.int32)})
        return every.join(own, on=USER_ID, how="left", maintain_order="left").lazy()

    def embeddings(self, modality: str) -> pl.LazyFrame:
        if modality not in self.vectors:
            raise DatasetError(
                f"the shard has no {modality} embeddings",
                where=str(self.path),
                hint=f"it has: {', '.join(self.modalities) or 'none'}",
            )
        return self.vectors[modality]


def exported(folder: Path, facts: Mapping[str, Any]) -> Shard:
    """Returns the shard in a folder that `fedprep export --to client-files` wrote for a client.

    Raises:
        DatasetError: a file of it is missing.
    """
    near = [folder / ITEMS, folder.parent / ITEMS]
    items = next((path for path in near if path.is_file()), near[0])
    paths = {INTERACTIONS: folder / INTERACTIONS, USERS: folder / USERS, ITEMS: items}
    missing = [str(path) for path in paths.values() if not path.is_file()]
    if missing:
        raise DatasetError(
            f"no exported shard is here: {missing[0]} is missing",
            where=str(folder),
            hint="fedprep export DATASET --to client-files; items.parquet lies beside the clients",
        )
    tables = {name: scan_parquet(path) for name, path in paths.items()}
    columns = tables[ITEMS].collect_schema().names()
    vectors = {
        name.removesuffix(SUFFIX): tables[ITEMS].select(ITEM_ID, embedding=name)
        for name in columns
        if name.endswith(SUFFIX)
    }
    return Shard(folder, facts, tables, vectors)


def shard_of_dataset(dataset: Dataset, client_id: int) -> Shard:
    """Returns what one client of a Dataset sees, for a simulation on one machine."""
    rows = dataset.client(client_id)
    tables = {
        INTERACTIONS: rows.lazy(),
        USERS: dataset.users().filter(pl.col(USER_ID).is_in(rows[USER_ID].unique().implode())),
        ITEMS: dataset.items(),
    }
    vectors = {name: dataset.embeddings(name) for name in dataset.modalities}
    return Shard(dataset.path, dataset.manifest["facts"], tables, vectors)


def federation_of_shard(shard: Shard, first_slot: int) -> Federation:
    """Returns the rows of a shard, its client and its slots under the numbers that they have in all.

    Args:
        first_slot: how many slots the clients before this one have.

    Raises:
        TrainingError: the client has no train row.
    """
    own = federation_of(shard)
    client = shard.client_id
    others = np.full(first_slot, -1, np.int32)
    offsets = own.slot_offsets.copy()
    offsets[client:] += first_slot
    return replace(
        own,
        slot_user=np.concatenate([others, own.slot_user]),
        slot_offsets=offsets,
        splits={
            name: replace(rows, slot=(rows.slot + first_slot).astype(np.int32))
            for name, rows in own.splits.items()
        },
    )
