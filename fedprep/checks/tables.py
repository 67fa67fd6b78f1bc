"""The tables that checks look at, wherever they come from: a Dataset, foreign Parquet files, frames."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from fedprep.checks.client_files import client_rows
from fedprep.checks.drift import category_drift
from fedprep.checks.rows import Rows
from fedprep.checks.totals import Totals
from fedprep.checks.vectors import Vectors, vectors_of
from fedprep.dataset import Dataset
from fedprep.decoding import Footer, read_footer
from fedprep.errors import DatasetError
from fedprep.frames import TAKEN, as_frame, scan_parquet
from fedprep.integrity import shards_of
from fedprep.manifest import KEYS, MANIFEST
from fedprep.schema import CLIENT_ID, ITEM_ID, LABEL, SPLIT, USER_ID

__all__ = ["SIZES", "Tables"]

Frame = pl.LazyFrame | pl.DataFrame

EMBEDDINGS = "embeddings"

HOLDS = "the columns user_id and item_id, or one of them"
"""What tells a table that can be checked."""


@dataclass(frozen=True, kw_only=True)
class Tables:
    """What there is to be checked; None or empty where it is not there.

    interactions: the rows, all of them or those of one block.
    totals: counts over all rows, the same in every block.
    files: the Parquet files of each table, by the names `interactions`, `items`, `users`, `index`,
        `embeddings/text` …; empty for frames.
    footers: of all these files.
    folder: the directory of a Dataset or of foreign files.
    unknown: foreign Parquet files that are no table known here.
    """

    interactions: pl.LazyFrame | None = None
    items: pl.LazyFrame | None = None
    users: pl.LazyFrame | None = None
    index: pl.LazyFrame | None = None
    embeddings: Mapping[str, pl.LazyFrame] = field(default_factory=dict)
    recommendations: pl.LazyFrame | None = None
    manifest: Mapping[str, Any] | None = None
    folder: Path | None = None
    files: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    footers: Mapping[Path, Footer] = field(default_factory=dict)
    unknown: tuple[Path, ...] = ()
    name: str = "tables"
    whole: Whole | None = None

    # --- where they come from ------------------------------------------------------------------------

    @classmethod
    def of(cls, source: Any) -> Tables:
        """Returns the tables of a Dataset, a path (of a Dataset, a folder, a Parquet file) or a frame.

        A frame is told by its columns, as a file is.

        Raises:
            DatasetError: nothing there can be checked.
            TypeError: it is nothing of this kind; the message names what is taken.
        """
        if isinstance(source, Tables):
            return source
        if isinstance(source, Dataset):
            return cls.of_dataset(source)
        if isinstance(source, str | Path):
            path = Path(source)
            return cls.of_folder(path) if path.is_dir() else cls.of_file(path)
        try:
            frame = as_frame(source).lazy()
        except TypeError as error:
            raise TypeError(f"{error}; taken are {TAKEN}, a Dataset, or a path") from None
        table = _named_by(frame.collect_schema().names())
        if not table:
            raise DatasetError(
                "the frame is no table that can be checked",
                where=f"columns {', '.join(frame.collect_schema().names()[:10])}",
                expected=HOLDS,
            )
        if table == EMBEDDINGS:
            return cls.of_frames(embeddings={"items": frame})
        named: dict[str, Any] = {table: frame}
        return cls.of_frames(**named)

    @classmethod
    def of_dataset(cls, dataset: Dataset) -> Tables:
        """Returns the tables of a Dataset: those that its manifest lists, else those of its folder.

        Raises:
            DatasetError: the footer of one of its files cannot be read.
        """
        shards = tuple(dataset.path / name for name in shards_of(dataset.file_names))
        files = {
            "interactions": shards,
            "items": (dataset.path / "items.parquet",),
            "users": (dataset.path / "users.parquet",),
            "index": (dataset.path / "clients" / "index.parquet",),
        }
        for modality in dataset.modalities:
            files[f"embeddings/{modality}"] = (dataset.path / "embeddings" / f"{modality}.parquet",)
        return cls._of_files(
            {name: paths for name, paths in files.items() if all(p.is_file() for p in paths)},
            manifest=dataset.manifest,
            folder=dataset.path,
            name=dataset.name,
        )

    @classmethod
    def of_folder(cls, path: str | Path) -> Tables:
        """Returns the tables of a folder: a Dataset, or Parquet files told apart by their columns.

        Raises:
            DatasetError: nothing there can be checked, or a file cannot be read.
        """
        folder = Path(path)
        if (folder / MANIFEST).is_file():
            return cls.of_dataset(Dataset.unchecked(folder))
        if not folder.is_dir():
            raise DatasetError(f"no folder at {folder}")
        return cls._of_foreign(sorted(folder.rglob("*.parquet")), folder)

    @classmethod
    def of_clients(cls, path: str | Path, *, client_from: str = "", split_from: str = "") -> Tables:
        """Returns the interactions of a client folder of others; see `client_files.client_rows`.

        Raises:
            DatasetError: it is no folder, or a file does not say what it should.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise DatasetError(f"no folder at {folder}")
        rows = client_rows(folder, client_from=client_from, split_from=split_from)
        return replace(cls.of_frames(interactions=rows), name=folder.absolute().name)

    @classmethod
    def of_file(cls, path: str | Path) -> Tables:
        """Returns the table in one Parquet file.

        Raises:
            DatasetError: it is none of the tables that are known here, or cannot be read.
        """
        file = Path(path)
        if not file.is_file():
            raise DatasetError(f"no file at {file}")
        return cls._of_foreign([file], file.parent)

    @classmethod
    def of_frames(
        cls,
        *,
        interactions: Frame | None = None,
        items: Frame | None = None,
        users: Frame | None = None,
        index: Frame | None = None,
        embeddings: Mapping[str, Frame] | None = None,
        manifest: Mapping[str, Any] | None = None,
    ) -> Tables:
        """Returns tables of frames in memory or lazy ones."""
        rows = None if interactions is None else interactions.lazy()
        tables = cls(
            interactions=rows,
            items=None if items is None else items.lazy(),
            users=None if users is None else users.lazy(),
            index=None if index is None else index.lazy(),
            embeddings={name: frame.lazy() for name, frame in (embeddings or {}).items()},
            manifest=manifest,
        )
        return tables._with_whole()

    @classmethod
    def of_recommendations(
        cls, recommendations: pl.LazyFrame, dataset: Dataset, *, name: str = ""
    ) -> Tables:
        """Returns the tables of a Dataset and recommendations that were made from it."""
        tables = cls.of_dataset(dataset)
        return replace(tables, recommendations=recommendations, name=name or dataset.name)

    @classmethod
    def _of_foreign(cls, paths: list[Path], folder: Path) -> Tables:
        files: dict[str, tuple[Path, ...]] = {}
        unknown: list[Path] = []
        for path in paths:
            table = _told_apart(path)
            if table:
                files[table] = (*files.get(table, ()), path)
            else:
                unknown.append(path)
        if not files:
            raise DatasetError(
                f"{folder} holds no table that can be checked",
                expected=f"Parquet files with {HOLDS}",
                hint="rename the columns, or build a Dataset from a recipe with source.name = 'table'",
            )
        return cls._of_files(files, folder=folder, name=folder.name, unknown=tuple(unknown))

    @classmethod
    def _of_files(cls, files: Mapping[str, tuple[Path, ...]], **about: Any) -> Tables:
        footers = {path: read_footer(path) for paths in files.values() for path in paths}
        frames = {name: scan_parquet(paths) for name, paths in files.items()}
        named: dict[str, Any] = {k: v for k, v in frames.items() if "/" not in k}
        tables = cls(
            **named,
            embeddings={k.partition("/")[2]: v for k, v in frames.items() if "/" in k},
            files=files,
            footers=footers,
            **about,
        )
        return tables._with_whole()

    def _with_whole(self) -> Tables:
        if self.interactions is None:
            return replace(self, whole=Whole(None, self.items, self.users))
        shards = {path: self.footers[path] for path in self.files.get("interactions", ())}
        rows = Rows(self.interactions, shards, foreign=self.manifest is None)
        whole = Whole(rows, self.items, self.users)
        return replace(self, interactions=rows.frame, whole=whole)

    # --- what checks ask -----------------------------------------------------------------------------

    @property
    def rows(self) -> Rows:
        """All interactions, to be read in blocks."""
        assert self.whole is not None and self.whole.rows is not None, "needs interactions"
        return self.whole.rows

    @property
    def totals(self) -> Totals:
        """Counts over all interactions."""
        assert self.whole is not None
        return self.whole.totals

    @property
    def classes(self) -> list[int]:
        """The labels that there are: those of the manifest's classes, else those of the rows."""
        named = (self.manifest or {}).get("classes")
        return list(range(len(named))) if named else self.totals.labels[LABEL].to_list()

    @property
    def category_drift(self) -> pl.DataFrame:
        """`client_id`, `drift`: see `drift.category_drift`. Needs interactions and items."""
        assert self.whole is not None
        return self.whole.category_drift

    @property
    def modalities(self) -> tuple[str, ...]:
        """The item embeddings that there are, and `behavior` where users have it."""
        has_behavior = self.users is not None and "behavior" in self.columns("users")
        return (*sorted(self.embeddings), *(("behavior",) if has_behavior else ()))

    def vectors(self, modality: str) -> Vectors:
        """Returns what is known of the vectors of `text`, `image` … of items, or `behavior` of users."""
        assert self.whole is not None
        if modality == "behavior":
            assert self.users is not None
            return self.whole.vectors(modality, self.users, USER_ID, modality)
        return self.whole.vectors(modality, self.embeddings[modality], ITEM_ID, "embedding")

    def ids(self, table: str) -> pl.Series:
        """Returns the distinct ids of the table `items` or `users`, sorted, without null."""
        assert self.whole is not None
        return self.whole.item_ids if table == "items" else self.whole.user_ids

    def block(self, frame: pl.DataFrame) -> Tables:
        """Returns the same tables with these interactions alone."""
        return replace(self, interactions=frame.lazy())

    def columns(self, table: str) -> dict[str, pl.DataType]:
        """Returns the columns of a table that is there, and their types."""
        assert self.whole is not None
        return self.whole.columns(table, getattr(self, table))

    def lacks(self, need: str) -> str:
        """Returns why a check that needs this cannot be asked, or nothing.

        Args:
            need: a table (`items`), a column (`interactions.rating`), `embeddings`, `manifest`, `folder`.
        """
        table, _, column = need.partition(".")
        value = getattr(self, table)
        if value is None or (table == "embeddings" and not value):
            return (
                f"there is no {table}" if table in ("manifest", "folder") else f"no {table} table"
            )
        if column and column not in self.columns(table):
            said = {CLIENT_ID: "--client-from", SPLIT: "--split-from"}.get(column, "")
            hint = f" ({said} says where it is told)" if said and self.manifest is None else ""
            return f"{table} have no column {column}{hint}"
        return ""


class Whole:
    """What is counted once over whole tables and shared by all blocks."""

    def __init__(
        self, rows: Rows | None, items: pl.LazyFrame | None, users: pl.LazyFrame | None
    ) -> None:
        self.rows = rows
        self._items, self._users = items, users
        self._columns: dict[str, dict[str, pl.DataType]] = {}
        self._vectors: dict[str, Vectors] = {}

    @functools.cached_property
    def totals(self) -> Totals:
        assert self.rows is not None, "needs interactions"
        return Totals(self.rows)

    @functools.cached_property
    def category_drift(self) -> pl.DataFrame:
        assert self.rows is not None and self._items is not None
        return category_drift(self.rows, self.totals, self._items)

    @functools.cached_property
    def item_ids(self) -> pl.Series:
        assert self._items is not None
        return _ids(self._items, ITEM_ID)

    @functools.cached_property
    def user_ids(self) -> pl.Series:
        assert self._users is not None
        return _ids(self._users, USER_ID)

    def vectors(self, modality: str, frame: pl.LazyFrame, key: str, column: str) -> Vectors:
        if modality not in self._vectors:
            self._vectors[modality] = vectors_of(frame, key, column)
        return self._vectors[modality]

    def columns(self, table: str, frame: pl.LazyFrame) -> dict[str, pl.DataType]:
        if table not in self._columns:
            self._columns[table] = dict(frame.collect_schema())
        return self._columns[table]


def _ids(frame: pl.LazyFrame, column: str) -> pl.Series:
    ids = frame.select(pl.col(column).drop_nulls().unique()).collect(engine="streaming")
    return ids[column].sort()


def _told_apart(path: Path) -> str:
    """Returns the name of the table that a foreign Parquet file holds, empty where it is none."""
    table = _named_by(read_footer(path).columns)
    return f"{table}/{path.stem}" if table == EMBEDDINGS else table


def _named_by(columns: Collection[str]) -> str:
    """Returns what a table with these columns is, empty where it is none."""
    if CLIENT_ID in columns and "n_rows" in columns:
        return "index"
    if USER_ID in columns and ITEM_ID in columns:
        return "interactions"
    if ITEM_ID in columns:
        return EMBEDDINGS if "embedding" in columns else "items"
    return "users" if USER_ID in columns else ""


def _height(table: str) -> Callable[[Tables], int]:
    def height(tables: Tables) -> int:
        frame = getattr(tables, table)
        return int(frame.select(pl.len()).collect(engine="streaming").item())

    return height


def _n_users(frame: pl.LazyFrame | None, among: pl.Expr | bool = True) -> int:
    assert frame is not None
    users = frame.filter(among).select(pl.col(USER_ID).n_unique())
    return int(users.collect(engine="streaming").item())


def _in_split(tables: Tables, split: str) -> int:
    rows = tables.totals.splits.filter(pl.col(SPLIT) == split)["n_rows"]
    return int(rows.sum())


def _n_columns(tables: Tables) -> int:
    frames = (tables.interactions, tables.items, tables.users, tables.index)
    there = [frame for frame in (*frames, *tables.embeddings.values()) if frame is not None]
    in_files = sum(len(footer.columns) for footer in tables.footers.values())
    return in_files or sum(len(frame.collect_schema()) for frame in there)


SIZES: dict[str, Callable[[Tables], int]] = {
    "interactions": lambda tables: tables.rows.n_rows,
    "clients": lambda tables: tables.totals.clients.height,
    "users": lambda tables: tables.totals.users.height,
    "measures": lambda tables: 3,
    "partitions": lambda tables: 1,
    "classes": lambda tables: len(tables.classes),
    "table of items": _height("items"),
    "table of users": _height("users"),
    "table of clients": _height("index"),
    "items and users": lambda tables: sum(
        _height(table)(tables) for table in ("items", "users") if getattr(tables, table) is not None
    ),
    "modalities": lambda tables: len(tables.modalities),
    "embeddings": lambda tables: sum(tables.vectors(m).n_present for m in tables.embeddings),
    "dimensions": lambda tables: sum(tables.vectors(m).dim for m in tables.embeddings),
    "splits": lambda tables: tables.totals.splits.height,
    "train rows": lambda tables: _in_split(tables, "train"),
    "test rows": lambda tables: _in_split(tables, "test"),
    "manifest keys": lambda tables: len(KEYS),
    "ids": lambda tables: 1,
    "counts": lambda tables: len((tables.manifest or {}).get("tables", {})) + 4,
    "recommendations": _height("recommendations"),
    "recommended users": lambda tables: _n_users(tables.recommendations),
    "test users": lambda tables: _n_users(tables.interactions, pl.col(SPLIT) == "test"),
    "columns of recommendations": lambda tables: len(tables.columns("recommendations")),
    "columns": _n_columns,
    "files": lambda tables: (
        sum(len(paths) for paths in tables.files.values()) + len(tables.unknown)
    ),
}
"""What there is of a check's subject in all: the denominator of its count."""
