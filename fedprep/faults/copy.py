"""A Dataset copied to be damaged: tables read and written again, the manifest made to fit."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from fedprep.dataset import Dataset
from fedprep.errors import DatasetError
from fedprep.files import whole_folder
from fedprep.frames import parquet_file, read_parquet
from fedprep.manifest import DATASET, MANIFEST, describe_table, write_manifest
from fedprep.schema import LABEL, SPLIT, SPLITS, USER_ID

__all__ = ["INDEX_FILE", "ROW", "Copy", "Planted", "copied"]

INDEX_FILE = "clients/index.parquet"
ROW = "row"  # of `Copy.rows`: its number among the rows of all shards
MANY = 3  # rows, items, users or clients that a fault damages, where there are as many


@dataclass(frozen=True, kw_only=True)
class Planted:
    """What a fault has done: the check that must find it, the others that will, and how often.

    `first` are the first three culprits as plain values.
    """

    check: str
    unit: str
    count: int
    first: tuple[Any, ...] = ()
    also: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"first": list(self.first[:3]), "also": list(self.also)}


@dataclass
class Copy:
    """A copy of a Dataset in a folder, its manifest as plain values, and a random generator.

    Small Datasets only: tables are held as a whole.
    """

    folder: Path
    manifest: dict[str, Any]
    rng: np.random.Generator
    changed: set[str] = field(default_factory=set)

    def read(self, name: str) -> pl.DataFrame:
        """Returns a table by its path in the Dataset, such as `items.parquet`.

        Raises:
            DatasetError: the Dataset has no such table.
        """
        if name not in self.manifest["tables"]:
            raise DatasetError(f"the Dataset has no {name}: this fault cannot be planted into it")
        return read_parquet(self.folder / name)

    def write(self, name: str, frame: pl.DataFrame) -> None:
        """Writes a table back, in the row groups that it had where its rows are as many."""
        path = self.folder / name
        groups = _group_sizes(path)
        table = frame.to_arrow()
        with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
            if sum(groups) != table.num_rows:
                groups = [table.num_rows]
            begin = 0
            for n_rows in groups:
                writer.write_table(table.slice(begin, n_rows), row_group_size=max(1, n_rows))
                begin += n_rows
        self.changed.add(name)

    @property
    def shards(self) -> list[str]:
        """The paths of the shards, in order."""
        return sorted(name for name in self.manifest["tables"] if name.startswith("clients/part-"))

    def rows(self) -> pl.DataFrame:
        """Returns the rows of all shards with `row`, their number from 0, and `shard`, their file's."""
        frames = [
            self.read(name).with_columns(shard=pl.lit(number, pl.Int32))
            for number, name in enumerate(self.shards)
        ]
        return pl.concat(frames).with_row_index(ROW)

    def write_rows(self, rows: pl.DataFrame) -> None:
        """Writes back the shards that differ; index and facts are counted again."""
        for number, name in enumerate(self.shards):
            new = rows.filter(pl.col("shard") == number).drop(ROW, "shard")
            if not new.equals(self.read(name), null_equal=True):
                self.write(name, new)
        self._recount(rows)

    def _recount(self, rows: pl.DataFrame) -> None:
        """Counts the index and the manifest's facts anew: what lies at the place of each client."""
        index = self.read(INDEX_FILE)
        n_classes = index.schema["label_counts"].shape[0]  # type: ignore[attr-defined]
        places = index.sort("file", "row_group", "offset").select("client_id", "n_rows")
        slot = np.repeat(places["client_id"].to_numpy(), places["n_rows"].to_numpy())
        counts = (
            rows.with_columns(slot=pl.Series(slot, dtype=pl.Int32))
            .group_by("slot")
            .agg(
                *(
                    (pl.col(SPLIT) == name).sum().cast(pl.Int32).alias(f"n_{name}")
                    for name in SPLITS
                ),
                n_users=pl.col(USER_ID).n_unique().cast(pl.Int32),
                label_counts=pl.concat_list(
                    [(pl.col(LABEL) == k).sum().cast(pl.Int32) for k in range(n_classes)]
                ).list.to_array(n_classes),
            )
            .rename({"slot": "client_id"})
        )
        new = index.update(counts, on="client_id")
        if not new.equals(index):
            self.write(INDEX_FILE, new)
        facts = self.manifest["facts"]
        splits = rows[SPLIT].cast(pl.String).value_counts().sort(SPLIT)
        labels = rows[LABEL].value_counts().sort(LABEL)
        facts["splits"] = dict(splits.iter_rows())
        facts["labels"] = [list(pair) for pair in labels.iter_rows()]

    def some(self, candidates: Any, n: int = MANY) -> npt.NDArray[np.int64]:
        """Returns up to n of the candidates (numbers), chosen at random, in ascending order.

        Raises:
            DatasetError: there is none.
        """
        pool = np.unique(np.asarray(candidates, dtype=np.int64))
        if not len(pool):
            raise DatasetError("the Dataset has nothing into which this fault could be planted")
        return np.sort(self.rng.permutation(pool)[:n])

    def rewrite_manifest(self) -> None:
        """Describes the changed tables anew and gives the manifest its new id."""
        for name in sorted(self.changed):
            path = self.folder / name
            self.manifest["tables"][name] = describe_table(path, read_parquet(path))
        kept = {key: value for key, value in self.manifest.items() if key not in ("format", "id")}
        self.manifest = write_manifest(self.folder, kept)

    def overwrite_manifest(self, manifest: dict[str, Any]) -> None:
        """Writes a manifest as it is: for faults of the manifest itself."""
        text = json.dumps(manifest, indent=2, ensure_ascii=False)
        (self.folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def _group_sizes(path: Path) -> list[int]:
    metadata = parquet_file(path).metadata
    return [metadata.row_group(k).num_rows for k in range(metadata.num_row_groups)]


@contextmanager
def copied(dataset: Dataset, out: Path, rng: np.random.Generator) -> Iterator[Copy]:
    """Gives a copy of a Dataset to damage; on leaving it lies at `out`.

    Raises:
        OutputError: `out` exists.
    """
    with whole_folder(out, kind=DATASET) as folder:
        shutil.copytree(dataset.path, folder, dirs_exist_ok=True)
        for name in ("report.json", "report.html", "README.md", "croissant.json"):
            (folder / name).unlink(missing_ok=True)  # they speak of the Dataset without the fault
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        copy = Copy(folder=folder, manifest=manifest, rng=rng)
        yield copy
        if copy.changed:
            copy.rewrite_manifest()
