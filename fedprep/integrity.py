"""The files of a Dataset against its manifest: sizes, footers, the index; and, where asked, digests.

What is compared on opening costs no row: names and sizes, the footers of the tables, and the index, which
must lead to every row of the shards exactly once. `changed_files` reads every byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fedprep.decoding import Footer, read_footer, read_table
from fedprep.errors import DatasetError
from fedprep.files import sha256_of
from fedprep.manifest import EMBEDDINGS, MANIFEST, WHOLE, manifest_id, missing_keys
from fedprep.schema import CLIENT_ID, INDEX, ITEMS, SHARD, SPLITS, USERS, embedding_schema

__all__ = [
    "INDEX_FILE",
    "changed_files",
    "checked_index",
    "digests_of",
    "of_other_size",
    "shards_of",
    "tables_of",
]

INDEX_FILE = "clients/index.parquet"
NEEDED = ("items.parquet", "users.parquet", INDEX_FILE)
SHOWN = 3

_WIDTH = re.compile(r"shape=\((\d+),?\)")


def tables_of(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Returns the names of a Dataset's files, sorted: those that the manifest lists, and no others.

    Of a folder whose manifest has no list (which validation alone looks at) it is what lies there.
    """
    if "tables" in manifest:
        return sorted(manifest["tables"])
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet"))


def shards_of(names: Iterable[str]) -> list[str]:
    """Returns those of a Dataset's files that are shards, in order."""
    return sorted(name for name in names if name.startswith("clients/part-"))


def digests_of(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Returns the SHA-256 of each file by name, as a manifest says it."""
    return {name: table.get("sha256", "") for name, table in manifest.get("tables", {}).items()}


def of_other_size(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Returns the files that have another number of bytes than the manifest says; reads none."""
    tables = manifest["tables"]
    return [name for name in tables if (folder / name).stat().st_size != tables[name]["bytes"]]


def changed_files(folder: Path, manifest: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Returns (name, digest, digest said) of files whose SHA-256 is not the manifest's; reads all bytes."""
    found = []
    for name, table in manifest.get("tables", {}).items():
        path = folder / name
        digest = sha256_of(path) if path.is_file() else "no such file"
        if digest != table.get("sha256"):
            found.append((name, digest, str(table.get("sha256"))))
    return found


def checked_index(folder: Path, manifest: Mapping[str, Any]) -> pl.DataFrame:
    """Returns the index of clients, once manifest, footers and index are known to agree; reads no row.

    Raises:
        DatasetError: it names what contradicts what.
    """
    _refuse_manifest(folder, manifest)
    footers = {name: read_footer(folder / name) for name in manifest["tables"] if _is_known(name)}
    problems = [*_of_counts(manifest, footers), *_of_columns(manifest, footers)]
    if problems:
        raise _contradiction(folder, problems)
    index = read_table(folder / INDEX_FILE)
    problems = list(
        _of_index(index, [footers[name].groups for name in shards_of(manifest["tables"])], manifest)
    )
    if problems:
        raise _contradiction(folder / INDEX_FILE, problems)
    return index


def _is_known(name: str) -> bool:
    """Says whether a table is one that this version reads; others are kept and left alone."""
    return name in NEEDED or name.startswith(("clients/part-", EMBEDDINGS))


def _contradiction(place: Path, problems: Sequence[str]) -> DatasetError:
    more = len(problems) - SHOWN
    return DatasetError(
        "the Dataset contradicts itself: "
        + "; ".join(problems[:SHOWN])
        + (f"; and {more} more" if more > 0 else ""),
        where=str(place),
        hint=f"{WHOLE}; `fedprep validate` says what else is wrong",
    )


def _refuse_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Refuses a manifest that lacks keys, that was changed, or whose files lie elsewhere."""
    missing = list(missing_keys(manifest))
    if missing:
        raise DatasetError(
            f"the manifest lacks {', '.join(missing[:SHOWN])}"
            + (f" and {len(missing) - SHOWN} more keys" if len(missing) > SHOWN else ""),
            where=str(folder / MANIFEST),
            hint=f"{WHOLE}; `fedprep validate` says what else is wrong",
        )
    if manifest["id"] != manifest_id(dict(manifest)):
        raise DatasetError(
            "the manifest was changed after it was written: its id is not the hash of what it says",
            where=str(folder / MANIFEST),
            hint="build it again; do not edit manifest.json",
        )
    shards = shards_of(manifest["tables"])
    wanted = [
        *NEEDED,
        *(f"clients/part-{number:05d}.parquet" for number in range(len(shards) or 1)),
    ]
    lacking = [name for name in wanted if name not in manifest["tables"]]
    if lacking:
        raise DatasetError(
            f"the manifest names no {lacking[0]}", where=str(folder / MANIFEST), hint=WHOLE
        )
    root = folder.resolve()
    outside = [name for name in manifest["tables"] if not _lies_in(root, folder / name)]
    if outside:
        raise DatasetError(
            f"{outside[0]} is a link that leads out of the Dataset's folder",
            where=str(folder / outside[0]),
            hint="copy the file itself there",
        )


def _lies_in(root: Path, path: Path) -> bool:
    links = path.is_symlink() or path.parent.is_symlink()
    return not links or path.resolve().is_relative_to(root)


def _of_counts(manifest: Mapping[str, Any], footers: Mapping[str, Footer]) -> Iterator[str]:
    """Yields what tables and facts say of rows that the footers do not."""
    tables, facts = manifest["tables"], manifest["facts"]
    for name, footer in footers.items():
        if footer.n_rows != tables[name]["rows"]:
            yield f"{name} has {footer.n_rows:,} rows, and the manifest says {tables[name]['rows']:,}"
    said = {
        "items.parquet": facts["n_items"],
        "users.parquet": facts["n_users"],
        INDEX_FILE: facts["n_clients"],
        **dict.fromkeys((name for name in footers if _is_of_items(name)), facts["n_items"]),
    }
    for name, n_rows in said.items():
        if footers[name].n_rows != n_rows:
            yield f"{name} has {footers[name].n_rows:,} rows, and the facts say {n_rows:,}"
    n_rows = sum(footers[name].n_rows for name in shards_of(manifest["tables"]))
    if n_rows != facts["n_interactions"]:
        yield f"the shards have {n_rows:,} rows, and the facts say {facts['n_interactions']:,}"
    if manifest["partition"]["n_clients"] != facts["n_clients"]:
        yield "partition and facts say different numbers of clients"


def _is_of_items(name: str) -> bool:
    return name.startswith(EMBEDDINGS) and not name.startswith(f"{EMBEDDINGS}user-")


def _of_columns(manifest: Mapping[str, Any], footers: Mapping[str, Footer]) -> Iterator[str]:
    """Yields columns that are missing, of another type, or of another width than the manifest says."""
    for name, footer in footers.items():
        for column, dtype in _wanted(name, manifest, footer).items():
            there = footer.columns.get(column)
            if there is None:
                yield f"{name} has no column {column}"
            elif dtype is not None and there != dtype:
                yield f"{name} has {column} as {there}, not {dtype}"


def _wanted(
    name: str, manifest: Mapping[str, Any], footer: Footer
) -> Mapping[str, pl.DataType | None]:
    """Returns the columns that a file must have, and their types; None: any."""
    if name.startswith("clients/part-"):
        return SHARD
    said = manifest["tables"][name]["columns"]
    if name == INDEX_FILE:
        return {**INDEX, "label_counts": pl.Array(pl.Int32, len(manifest["classes"]))}
    if name == "items.parquet":
        return ITEMS
    if name == "users.parquet":
        width = _width_of(said.get("behavior", ""))
        others = {column: dtype for column, dtype in USERS.items() if column != "behavior"}
        return {**others, "behavior": pl.Array(pl.Float32, width)} if "behavior" in said else others
    if _is_of_items(name):
        return embedding_schema(_width_of(said.get("embedding", "")))
    return {}


def _width_of(dtype: str) -> int:
    """Returns the width of an array from its type as a manifest spells it, 0 where it is none."""
    found = _WIDTH.search(dtype)
    return int(found[1]) if found else 0


def _of_index(
    index: pl.DataFrame, groups: Sequence[Iterable[int]], manifest: Mapping[str, Any]
) -> Iterator[str]:
    """Yields what the index says that cannot be: of itself, of the shards, of the manifest."""
    counts = (
        "file",
        "row_group",
        "offset",
        "n_rows",
        "n_users",
        *(f"n_{split}" for split in SPLITS),
    )
    nulls = [name for name in (CLIENT_ID, *counts) if index[name].null_count()]
    if nulls:
        yield f"{nulls[0]} is null"
        return
    column = {name: index[name].to_numpy().astype(np.int64) for name in (CLIENT_ID, *counts)}
    n_rows = column["n_rows"]
    of_splits = np.stack([column[f"n_{split}"] for split in SPLITS])
    labels = index["label_counts"].arr.sum().fill_null(-1).to_numpy()
    wrong = {
        "client_id": column[CLIENT_ID] != np.arange(index.height),
        "n_rows": n_rows < 0,
        "n_users": (column["n_users"] < 0) | (column["n_users"] > n_rows),
        "n_train, n_valid, n_test": (of_splits.sum(axis=0) != n_rows) | (of_splits < 0).any(axis=0),
        "label_counts": labels != n_rows,
    }
    place = _places(column, [list(each) for each in groups])
    for name, mask in (wrong | place).items():
        if mask.any():
            client = int(np.flatnonzero(mask)[0])
            yield f"{name} of {int(mask.sum()):,} clients is not what it can be, of client {client} first"
    facts = manifest["facts"]
    for split in SPLITS:
        n = int(column[f"n_{split}"].sum())
        if n != facts["splits"].get(split, 0):
            yield f"its clients have {n:,} {split} rows, and the facts say {facts['splits'].get(split, 0):,}"


def _places(
    column: Mapping[str, npt.NDArray[np.int64]], groups: Sequence[Sequence[int]]
) -> dict[str, npt.NDArray[np.bool_]]:
    """Returns which clients lie where no rows are, or not behind the client before them."""
    file, row_group, offset, n_rows = (
        column[name] for name in ("file", "row_group", "offset", "n_rows")
    )
    n_groups = np.array([len(each) for each in groups])
    outside = (file < 0) | (file >= len(groups)) | (row_group < 0)
    outside |= row_group >= n_groups[file.clip(0, len(groups) - 1)]
    if outside.any():
        return {"file, row_group": outside}
    first = np.cumsum(n_groups) - n_groups
    group = first[file] + row_group
    rows_of = np.array([n for each in groups for n in each], dtype=np.int64)
    begin = np.cumsum(rows_of) - rows_of
    there = np.cumsum(n_rows) - n_rows  # clients lie one behind the other, in order
    misplaced = begin[group] + offset != there
    misplaced |= (offset < 0) | (offset + n_rows > rows_of[group])
    return {"offset": misplaced}
