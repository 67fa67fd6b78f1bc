"""The manifest: what a Dataset is and how it came to be; its id is a hash over the part that defines it.

The id must be equal for equal recipe and equal raw bytes, on any machine. So it covers what the tables
*contain* (`content`), not how a library version encodes them (`sha256`), and it leaves out

- times, durations and tool versions;
- how a raw file was had (download, mirror, by hand), as its bytes are named by their hash;
- `[validate]`, `[train]` and `[eval]` of the recipe, which change no row;
- the float values of embeddings, whose last bits follow the processor: the encoder with the hash of its
  weights, the texts and the hashes of the pictures that determine them are covered.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fedprep.errors import DatasetError, nearest
from fedprep.files import sha256_of, whole_file
from fedprep.schema import FORMAT

__all__ = [
    "KEYS",
    "MANIFEST",
    "content_hash",
    "describe_table",
    "manifest_id",
    "read_manifest",
    "tool_versions",
    "write_manifest",
]

MANIFEST = "manifest.json"

KEYS = (
    "format",
    "id",
    "name",
    "created",
    "recipe",
    "source",
    "facts",
    "classes",
    "split",
    "steps",
    "encoders",
    "partition",
    "tables",
    "seconds",
    "versions",
)
"""What every manifest holds."""

VOLATILE = ("id", "created", "seconds", "versions")
NOT_OF_THE_DATA = ("validate", "train", "eval")
EMBEDDINGS = "embeddings/"
PACKAGES = (
    "fedprep",
    "polars",
    "pyarrow",
    "numpy",
    "duckdb",
    "torch",
    "sentence-transformers",
    "timm",
    "pillow",
)


def manifest_id(manifest: dict[str, Any]) -> str:
    """Returns the Dataset's id: 64 hex digits, SHA-256 over the canonical JSON of what defines it."""
    kept = {key: value for key, value in manifest.items() if key not in VOLATILE}
    kept["recipe"] = {
        k: v for k, v in manifest.get("recipe", {}).items() if k not in NOT_OF_THE_DATA
    }
    source = dict(manifest.get("source", {}))
    source["files"] = [
        {k: f[k] for k in ("role", "name", "sha256")} for f in source.get("files", [])
    ]
    kept["source"] = {k: v for k, v in source.items() if k != "retrieved"}
    kept["tables"] = {
        name: {key: table[key] for key in _identity_of(name) if key in table}
        for name, table in manifest.get("tables", {}).items()
    }
    kept["encoders"] = {
        modality: {k: v for k, v in encoder.items() if k != "statistics"}
        for modality, encoder in manifest.get("encoders", {}).items()
    }
    text = json.dumps(
        kept, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _identity_of(table: str) -> tuple[str, ...]:
    return ("columns", "rows") if table.startswith(EMBEDDINGS) else ("columns", "rows", "content")


def write_manifest(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Writes `manifest.json` with its id into a folder and returns it."""
    manifest = {"format": FORMAT, "id": manifest_id({"format": FORMAT, **manifest}), **manifest}
    with whole_file(folder / MANIFEST) as path:
        text = json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False)
        path.write_text(text + "\n", encoding="utf-8")
    return manifest


SHOWN = 10
"""Folders that a hint names."""


def _folders_with_one(folder: Path) -> list[str]:
    """Returns the names of the folders in a folder that have a manifest."""
    return sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}"))


def read_manifest(folder: Path) -> dict[str, Any]:
    """Returns the manifest of a Dataset directory.

    Raises:
        DatasetError: there is none, it is no JSON, or a newer version wrote it.
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        beside = _folders_with_one(folder.parent)
        raise DatasetError(
            f"no Dataset at {folder}",
            hint=nearest(folder.name, beside)
            if beside
            else "`fedprep build RECIPE --out PATH` makes one",
        )
    if not path.is_file():
        inside = _folders_with_one(folder)
        raise DatasetError(
            f"{folder} is no Dataset: it has no {MANIFEST}",
            hint=f"in it are {', '.join(inside[:SHOWN])}"
            if inside
            else "`fedprep validate` takes a plain folder of Parquet files too",
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DatasetError("the manifest cannot be read", where=f"{path}: {error}") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        raise DatasetError(
            "the manifest names no format", where=str(path), expected=f'"format": {FORMAT}'
        )
    if manifest["format"] > FORMAT:
        raise DatasetError(
            f"the Dataset has format {manifest['format']}",
            where=str(path),
            expected=f"at most {FORMAT}, the newest that this version reads",
            hint="pip install --upgrade fedprep",
        )
    return manifest


def describe_table(path: Path, frame: pl.DataFrame) -> dict[str, Any]:
    """Returns the manifest's entry of a table: columns, rows, bytes, and both hashes.

    Args:
        path: the Parquet file that holds `frame`.
        frame: what the file holds.
    """
    return {
        "columns": {name: str(dtype) for name, dtype in frame.schema.items()},
        "rows": frame.height,
        "bytes": path.stat().st_size,
        "sha256": sha256_of(path),
        "content": content_hash(frame),
    }


def content_hash(frame: pl.DataFrame) -> str:
    """Returns the SHA-256 over names, types and values of a frame, whatever its encoding or chunks."""
    digest = hashlib.sha256()
    for column in frame.iter_columns():
        digest.update(f"{column.name}\0{column.dtype}\0{len(column)}\0".encode())
        _hash_values(digest, column.rechunk())
    return digest.hexdigest()


def _hash_values(digest: Any, column: pl.Series) -> None:
    digest.update(
        np.packbits(column.is_null().to_numpy()).tobytes() if column.null_count() else b"full"
    )
    if isinstance(column.dtype, pl.Enum | pl.Categorical):
        column = column.cast(pl.String)
    if isinstance(column.dtype, pl.List):
        digest.update(column.list.len().fill_null(0).to_numpy().tobytes())
        _hash_values(
            digest, column.drop_nulls().explode(empty_as_null=False, keep_nulls=False).rechunk()
        )
    elif isinstance(column.dtype, pl.Array):
        _hash_values(
            digest, column.drop_nulls().explode(empty_as_null=False, keep_nulls=False).rechunk()
        )
    elif column.dtype == pl.String:
        digest.update(column.str.len_bytes().fill_null(0).to_numpy().tobytes())
        for part in column.drop_nulls().to_frame().iter_slices(65_536):
            digest.update(part.to_series().str.join("")[0].encode())
    elif column.dtype == pl.Boolean:
        digest.update(np.packbits(column.fill_null(False).to_numpy()).tobytes())
    elif column.dtype.is_temporal():
        _hash_values(digest, column.to_physical())
    else:
        digest.update(np.ascontiguousarray(column.fill_null(0).to_numpy()).data)


def tool_versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that touch a Dataset, those installed."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
