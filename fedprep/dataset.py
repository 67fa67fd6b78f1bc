"""A Dataset directory, opened: tables as lazy frames, clients one at a time, all rows as arrays."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq
from msgspec import Meta, Struct

from fedprep.decoding import DAMAGED, read_json, read_table, typed
from fedprep.errors import DatasetError, nearest
from fedprep.frames import parquet_file, scan_parquet
from fedprep.integrity import (
    INDEX_FILE,
    changed_files,
    checked_index,
    digests_of,
    of_other_size,
    shards_of,
    tables_of,
)
from fedprep.manifest import EMBEDDINGS, read_manifest
from fedprep.schema import CLIENT_ID, ITEM_ID, LABEL, RATING, SPLIT, SPLITS, TIMESTAMP, USER_ID

__all__ = ["REPORT", "ClientArrays", "Dataset"]

REPORT = "report.json"
"""The verdict of the validation at the end of the build."""

VALIDATE = "`fedprep validate DATASET` judges it anew; without the file it counts as not validated"

log = logging.getLogger(__name__)

OPEN_FILES = 64
"""Shard files kept open for reading single clients."""


@dataclass(frozen=True)
class ClientArrays:
    """Rows of all clients as flat arrays: client `i` (of `client_id[i]`) owns `offsets[i]:offsets[i + 1]`.

    client_id: int32 (n_clients,) · offsets: int64 (n_clients + 1,) · user_id, item_id: int32 (n_rows,) ·
    rating: float32 (n_rows,) · label: int8 (n_rows,) · timestamp: int64 (n_rows,), seconds.
    Inside a client the order is (user_id, timestamp, item_id).
    """

    client_id: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    user_id: npt.NDArray[np.int32]
    item_id: npt.NDArray[np.int32]
    rating: npt.NDArray[np.float32]
    label: npt.NDArray[np.int8]
    timestamp: npt.NDArray[np.int64]


class _Subject(Struct):
    kind: str
    id: str | None = None


class _Check(Struct):
    name: str
    status: Literal["pass", "note", "warn", "fail", "error", "skipped"]
    reason: str = ""


class _Verdict(Struct):
    format: Annotated[int, Meta(ge=1, le=1)]
    verdict: Literal["pass", "warn", "fail", "error"]
    subject: _Subject
    checks: list[_Check]
    strict: bool = False
    files: dict[str, str] = {}


class Dataset:
    """A federated data set on disk, in format 1. Open one with `Dataset.open(path)`.

    Example:
        >>> dataset = Dataset.open("datasets/demo")  # doctest: +SKIP
        >>> dataset.client(7)  # doctest: +SKIP
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        self._is_verified = False

    @classmethod
    def open(
        cls, path: str | Path, *, verify: bool = False, allow_changed: bool = False
    ) -> Dataset:
        """Returns the Dataset in a directory, whose files agree with its manifest and with each other.

        Compared are the manifest with its id, the sizes of all files, the footers of the tables, and the
        index of clients with the shards' row groups: no row is read.

        Args:
            verify: compare the SHA-256 of every file with the manifest's too, which reads every byte.
            allow_changed: files that have other bytes than the manifest says are read all the same, with a
                warning, where what they hold still has the rows, columns and widths that it says.

        Raises:
            DatasetError: no Dataset is there, a newer version wrote it, one of its files is missing, cannot
                be read, or contradicts the manifest or another file.
        """
        dataset = cls.unchecked(path)
        dataset.index = checked_index(dataset.path, dataset.manifest)
        changed = of_other_size(dataset.path, dataset.manifest)
        if verify and not changed:
            dataset.verify(allow_changed=allow_changed)
        elif changed:
            _refuse_changed(changed, dataset.path, allow_changed)
        return dataset

    @classmethod
    def unchecked(cls, path: str | Path) -> Dataset:
        """Returns the Dataset in a directory, its files compared with nothing: for validation, which does so.

        Raises:
            DatasetError: no Dataset is there, its manifest cannot be decoded, or one of its files is missing.
        """
        folder = Path(path)
        dataset = cls(folder, read_manifest(folder))
        missing = [
            name for name in dataset.manifest.get("tables", {}) if not (folder / name).is_file()
        ]
        if missing:
            raise DatasetError(
                f"{len(missing)} of the Dataset's files are missing: {', '.join(missing[:3])}",
                where=str(folder),
                hint="build it again, or copy it whole",
            )
        return dataset

    def verify(self, *, allow_changed: bool = False) -> None:
        """Compares the SHA-256 of every file with the manifest's; once for a Dataset that is open.

        Args:
            allow_changed: warn in place of the error.

        Raises:
            DatasetError: it names the files that have other bytes.
        """
        if not self._is_verified:
            changed = [name for name, *_ in changed_files(self.path, self.manifest)]
            if changed:
                _refuse_changed(changed, self.path, allow_changed)
        self._is_verified = True

    @contextlib.contextmanager
    def blamed(self) -> Iterator[None]:
        """What cannot be decoded inside is blamed on the files, where their bytes are not those written.

        Raises:
            DatasetError: a table could not be read, and it names the files that have other bytes.
        """
        try:
            yield
        except DAMAGED:
            self.verify()
            raise

    def __repr__(self) -> str:
        facts = self.manifest.get("facts", {})
        sizes = ", ".join(
            f"{facts[key]:,} {key.removeprefix('n_')}"
            for key in ("n_users", "n_items", "n_interactions", "n_clients")
            if key in facts
        )
        return f"<Dataset {self.name} {self.id[:12]}: {sizes}>"

    @property
    def id(self) -> str:
        """The 64 hex digits that equal data share."""
        return str(self.manifest["id"])

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def report(self) -> dict[str, Any] | None:
        """The verdict that the build ended with, None where there is none (`fedprep validate` makes one).

        Raises:
            DatasetError: `report.json` is no verdict.
        """
        path = self.path / REPORT
        if not path.is_file():
            return None
        verdict = read_json(path, "the verdict", hint=VALIDATE)
        typed(verdict, _Verdict, str(path), "the verdict", hint=VALIDATE)
        return verdict

    @property
    def verdict(self) -> dict[str, Any] | None:
        """The verdict in `report.json` where it judged the very files that the manifest names, else None.

        A verdict says the SHA-256 of each file that it judged (`files`); one of other files, or one that does
        not say, says nothing of these.
        """
        verdict = self.report
        judged = verdict and verdict.get("files")
        same = judged == digests_of(self.manifest)
        return verdict if verdict and same and verdict["subject"].get("id") == self.id else None

    @property
    def file_names(self) -> list[str]:
        """The names of its files, such as `items.parquet`: those that the manifest lists."""
        return tables_of(self.path, self.manifest)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The item embeddings that it holds, such as `("image", "text")`."""
        names = [name.removesuffix(".parquet") for name in self.file_names]
        found = (name.removeprefix(EMBEDDINGS) for name in names if name.startswith(EMBEDDINGS))
        return tuple(sorted(name for name in found if not name.startswith("user-")))

    # --- tables ------------------------------------------------------------------------------------

    def items(self) -> pl.LazyFrame:
        """Returns the items, a row each, in order of `item_id` (`schema.ITEMS` and the source's columns)."""
        return self._scan("items.parquet")

    def users(self) -> pl.LazyFrame:
        """Returns the users, a row each, in order of `user_id` (`schema.USERS` and the source's columns)."""
        return self._scan("users.parquet")

    def interactions(self, split: str | None = None) -> pl.LazyFrame:
        """Returns the rows of all clients, in order of (client_id, user_id, timestamp, item_id).

        Args:
            split: `"train"`, `"valid"` or `"test"`; None for all three.

        Raises:
            DatasetError: no split is called so.
        """
        rows = self._scan(*shards_of(self.file_names))
        if split is None:
            return rows
        if split not in SPLITS:
            raise DatasetError(f"no split is called '{split}'", hint=nearest(split, SPLITS))
        return rows.filter(pl.col(SPLIT) == split)

    def embeddings(self, modality: str) -> pl.LazyFrame:
        """Returns `item_id`, `embedding` (array of float32; null where the item has none), a row an item.

        Raises:
            DatasetError: the Dataset has no such modality.
        """
        if modality not in self.modalities:
            raise DatasetError(
                f"the Dataset has no {modality} embeddings",
                where=str(self.path),
                hint=f"it has: {', '.join(self.modalities) or 'none'}",
            )
        return self._scan(f"embeddings/{modality}.parquet")

    def _scan(self, *names: str) -> pl.LazyFrame:
        return scan_parquet([self.path / name for name in names])

    # --- clients -----------------------------------------------------------------------------------

    @functools.cached_property
    def index(self) -> pl.DataFrame:
        """Where each client lies and how large it is, in order of `client_id` (`schema.INDEX`)."""
        return read_table(self.path / INDEX_FILE)

    @functools.cached_property
    def _places(self) -> npt.NDArray[np.int64]:
        """int64 (n_clients, 4): file, row group, offset, rows. Ids are dense, so a row's number is its id."""
        return self.index.select("file", "row_group", "offset", "n_rows").cast(pl.Int64).to_numpy()

    @functools.cached_property
    def _shard(self) -> Any:
        @functools.lru_cache(maxsize=OPEN_FILES)
        def shard(number: int) -> pq.ParquetFile:
            return parquet_file(self.path / "clients" / f"part-{number:05d}.parquet")

        return shard

    def client_ids(self) -> npt.NDArray[np.int32]:
        """Returns int32 (n_clients,): 0, 1, 2 …"""
        return self.index[CLIENT_ID].to_numpy()

    def client(self, client_id: int) -> pl.DataFrame:
        """Returns the rows of one client (`schema.SHARD`), reading its row group alone.

        Raises:
            DatasetError: there is no such client.
        """
        if not 0 <= client_id < len(self._places):
            raise DatasetError(
                f"no client {client_id}",
                where=str(self.path),
                expected=f"0 to {len(self._places) - 1}",
            )
        file, row_group, offset, n_rows = self._places[client_id].tolist()
        with self.blamed():
            group = self._shard(file).read_row_group(row_group, use_threads=False)
        return _frame(group.slice(offset, n_rows))

    def clients(self) -> Iterator[tuple[int, pl.DataFrame]]:
        """Yields (client_id, rows) of every client in order; a row group is read once."""
        places = self._places
        group: pl.DataFrame | None = None
        here = (-1, -1)
        for client_id, (file, row_group, offset, n_rows) in enumerate(places.tolist()):
            if group is None or here != (file, row_group):
                here = (file, row_group)
                group = _frame(self._shard(file).read_row_group(row_group, use_threads=False))
            yield client_id, group.slice(offset, n_rows)

    def arrays(self, split: str | None = None) -> ClientArrays:
        """Returns the rows of all clients as flat arrays, for loaders that need no Python loop.

        Args:
            split: as for `interactions`.
        """
        columns = (USER_ID, ITEM_ID, RATING, LABEL, TIMESTAMP)
        rows = self.interactions(split).select(columns).collect()
        counts = self.index["n_rows" if split is None else f"n_{split}"].to_numpy()
        return ClientArrays(
            self.client_ids(),
            np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
            *(rows[column].to_numpy() for column in columns),
        )


def _refuse_changed(names: list[str], folder: Path, allowed: bool) -> None:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    what = f"files have other bytes than when the Dataset was written: {', '.join(names[:3])}{more}"
    if allowed:
        for name in names:
            read_table(folder / name)
        log.warning("%s (%s); they are read all the same", what, folder)
        return
    raise DatasetError(
        what,
        where=str(folder),
        hint="copy it again from where it is whole, or build it again; `fedprep validate` judges it as it is",
    )


def _frame(group: Any) -> pl.DataFrame:
    frame = pl.from_arrow(group)
    assert isinstance(frame, pl.DataFrame)
    return frame
