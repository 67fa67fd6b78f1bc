"""The files of a Dataset against its manifest: the same bytes and rows, and a manifest that is whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from fedprep.checks.check import Check, NotAsked
from fedprep.checks.limits import Limits
from fedprep.checks.tables import Tables
from fedprep.frames import parquet_file
from fedprep.integrity import changed_files
from fedprep.manifest import manifest_id, missing_keys

__all__ = ["CHECKS", "SAME_FILES"]

SAME_FILES = "files_match_hashes"


def files_match_hashes(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Files that are missing, that have other bytes than the manifest says, and Parquet files that it does
    not name: other programs that read the folder read them too."""
    folder, said = _folder(tables), _tables_of(tables)
    found = changed_files(folder, tables.manifest or {})
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet"))
    found += [(name, "a file", "none of that name") for name in names if name not in said]
    schema = {"file": pl.String, "found": pl.String, "said": pl.String}
    return pl.LazyFrame(found, schema=schema, orient="row")


def row_counts_match_manifest(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Files and facts that have another number of rows than the manifest says; -1 for a file that cannot be
    read."""
    folder, said = _folder(tables), _tables_of(tables)
    rows: dict[str, int | None] = {name: _rows_of(folder / name) for name in said}
    found = [(name, rows[name], table.get("rows")) for name, table in said.items()]
    facts = (tables.manifest or {}).get("facts", {})
    shards = sum(n or 0 for name, n in rows.items() if name.startswith("clients/part-"))
    there = {
        "n_users": rows.get("users.parquet"),
        "n_items": rows.get("items.parquet"),
        "n_clients": rows.get("clients/index.parquet"),
        "n_interactions": shards,
    }
    found += [(f"facts.{name}", n, facts[name]) for name, n in there.items() if name in facts]
    schema = {"of": pl.String, "found": pl.Int64, "said": pl.Int64}
    table = pl.LazyFrame(found, schema=schema, orient="row")
    return table.filter(pl.col("found").ne_missing(pl.col("said")))


def manifest_is_complete(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Keys that the manifest lacks: its own, those of its facts and tables, and encoders of embeddings."""
    return pl.LazyFrame(
        {"key": list(missing_keys(tables.manifest or {}))}, schema={"key": pl.String}
    )


def id_matches_manifest(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """The manifest's id, where it is not the hash over what it says."""
    assert tables.manifest is not None
    if "id" not in tables.manifest:
        raise NotAsked("the manifest has no id")
    true = manifest_id(dict(tables.manifest))
    table = pl.LazyFrame({"said": [str(tables.manifest["id"])], "found": [true]})
    return table.filter(pl.col("said") != pl.col("found"))


def _rows_of(path: Path) -> int:
    try:
        return int(parquet_file(path).metadata.num_rows)
    except (pa.ArrowException, OSError):
        return -1


def _folder(tables: Tables) -> Path:
    assert tables.folder is not None
    return tables.folder


def _tables_of(tables: Tables) -> Mapping[str, Any]:
    said: Mapping[str, Any] | None = (tables.manifest or {}).get("tables")
    if not said:
        raise NotAsked("the manifest names no table")
    return said


CHECKS = (
    Check(
        name=SAME_FILES,
        group="files",
        unit="files",
        of="files",
        function=files_match_hashes,
        needs=("manifest", "folder"),
        means="Files have other bytes than when the Dataset was written: cut off, damaged or edited.",
        todo="Copy the Dataset again from where it is whole, or build it again.",
    ),
    Check(
        name="row_counts_match_manifest",
        group="files",
        unit="counts",
        of="counts",
        function=row_counts_match_manifest,
        needs=("manifest", "folder"),
        means="Tables have another number of rows than the manifest says.",
        todo="Copy the Dataset again from where it is whole, or build it again.",
    ),
    Check(
        name="manifest_is_complete",
        group="files",
        unit="keys",
        of="manifest keys",
        function=manifest_is_complete,
        needs=("manifest",),
        means="The manifest lacks keys: what the data are, or how they came to be, cannot be told.",
        todo="Build again; do not edit manifest.json.",
    ),
    Check(
        name="id_matches_manifest",
        group="files",
        unit="ids",
        of="ids",
        function=id_matches_manifest,
        needs=("manifest",),
        means="The id is not that of what the manifest says: somebody has changed it afterwards.",
        todo="Build again; do not edit manifest.json.",
    ),
)
"""In order of running."""
