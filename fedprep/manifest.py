"""The manifest: what a Dataset is and how it came to be; its id is a hash over the part that defines it.

The id must be equal for equal recipe and equal raw bytes, on any machine. So it covers what the tables
*contain* (`content`), not how a library version encodes them (`sha256`), and it leaves out

- times, durations and tool versions;
- how a raw file was had (download, mirror, by hand), as its bytes are named by their hash;
- `[validate]`, `[train]` and `[eval]` of the recipe, which change no row;
- the counts of the lines of raw files, which follow from their bytes;
- the float values of embeddings, whose last bits follow the processor: the encoder with the hash of its
  weights, the texts and the hashes of the pictures that determine them are covered.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
import polars as pl
from msgspec import UNSET, Meta, Struct, UnsetType

from fedprep.decoding import read_json, typed
from fedprep.errors import DatasetError, nearest
from fedprep.files import Kind, sha256_of, whole_file
from fedprep.schema import FORMAT

__all__ = [
    "DATASET",
    "KEYS",
    "MANIFEST",
    "content_hash",
    "describe_table",
    "is_safe_name",
    "manifest_id",
    "missing_keys",
    "read_manifest",
    "tool_versions",
    "write_manifest",
]

MANIFEST = "manifest.json"

OF_A_DATASET = (
    MANIFEST, "report.json", "report.html", "README.md", "croissant.json", "items.parquet",
    "users.parquet", "clients/*.parquet", "embeddings/*.parquet",
)  # fmt: skip
"""What lies in the folder of a Dataset: its tables, and what commands write there."""

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


def _owns(folder: Path) -> tuple[str, ...] | None:
    """Returns the paths of a Dataset where a folder is one of ours, a damaged one too; else None."""
    try:
        manifest = read_json(folder / MANIFEST, "the manifest")
    except DatasetError:
        return None
    ours = (
        isinstance(manifest.get("format"), int)
        and re.fullmatch("[0-9a-f]{64}", str(manifest.get("id"))) is not None
        and isinstance(manifest.get("tables"), dict)
        and isinstance(manifest.get("recipe"), dict)
    )
    return OF_A_DATASET if ours else None


DATASET = Kind(name="Dataset", owns=_owns)

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


Count = Annotated[int, Meta(ge=0, le=2**53)]
Shares = dict[str, float | None]


class _Table(Struct):
    columns: dict[str, str] | UnsetType = UNSET
    rows: Count | UnsetType = UNSET
    bytes: Count | UnsetType = UNSET
    sha256: str | UnsetType = UNSET
    content: str | UnsetType = UNSET


class _RawFile(Struct):
    role: str
    name: str
    sha256: str
    url: str = ""
    how: str = ""
    n_bytes: Count = 0
    verified: str = ""


class _Source(Struct):
    name: str | UnsetType = UNSET
    synthetic: bool | UnsetType = UNSET
    licence: str | UnsetType = UNSET
    redistribution: bool | UnsetType = UNSET
    citation: str | UnsetType = UNSET
    homepage: str | UnsetType = UNSET
    retrieved: str | UnsetType = UNSET
    files: list[_RawFile] | UnsetType = UNSET
    facts: dict[str, Any] | UnsetType = UNSET


class _Facts(Struct):
    n_users: Count | UnsetType = UNSET
    n_items: Count | UnsetType = UNSET
    n_interactions: Count | UnsetType = UNSET
    n_clients: Count | UnsetType = UNSET
    density: float | UnsetType = UNSET
    time_range: tuple[int | None, int | None] | UnsetType = UNSET
    ratings: list[tuple[float, Count]] | UnsetType = UNSET
    labels: list[tuple[int, Count]] | UnsetType = UNSET
    splits: dict[str, Count] | UnsetType = UNSET


class _Cold(Struct):
    rule: str
    rows: dict[str, Count]
    items: dict[str, Count]


class _Leak(Struct):
    train_rows_after_first_test_row: float
    users_with_train_after_test: Count
    pairs_out_of_order: float


class _Split(Struct):
    method: str | UnsetType = UNSET
    rule: str | UnsetType = UNSET
    tie_rule: str | UnsetType = UNSET
    rows: dict[str, Count] | UnsetType = UNSET
    users: dict[str, Count] | UnsetType = UNSET
    items: dict[str, Count] | UnsetType = UNSET
    time: dict[str, tuple[int, int] | None] | UnsetType = UNSET
    cold: _Cold | UnsetType = UNSET
    leak: _Leak | UnsetType | None = UNSET
    users_cut_in_a_tie: Count | UnsetType = UNSET
    tied_rows: Count | UnsetType | None = UNSET


class _Step(Struct):
    stage: str
    name: str
    rows_in: Count
    rows_out: Count
    dropped: int = 0
    unit: str = "rows"
    why: str = ""
    examples: list[str] = []
    lines: dict[str, Count] = {}


class _Statistics(Struct):
    before: dict[str, float | None] | UnsetType = UNSET
    after: dict[str, float | None] | UnsetType = UNSET


class _Encoder(Struct):
    name: str | UnsetType = UNSET
    dim: Count | UnsetType = UNSET
    normalise: str | UnsetType = UNSET
    n_present: Count | UnsetType = UNSET
    n_missing: Count | UnsetType = UNSET
    statistics: _Statistics | UnsetType = UNSET


class _Heterogeneity(Struct):
    rows_per_client: dict[str, float]
    label_divergence: Shares | None
    category_divergence: Shares | None
    size_gini: float
    largest_class_share: float
    smallest_class_share: float


class _Partition(Struct):
    method: str | UnsetType = UNSET
    seed: int | UnsetType = UNSET
    n_clients: Count | UnsetType = UNSET
    unit: str | UnsetType = UNSET
    names: list[str | None] | UnsetType | None = UNSET
    heterogeneity: _Heterogeneity | UnsetType = UNSET


class _Recipe(Struct):
    """Its tables; what is in them is decoded by `recipe.parse_recipe`, and `[train]` by the trainer."""

    name: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    seed: int | UnsetType = UNSET
    source: dict[str, Any] | UnsetType = UNSET
    clean: dict[str, Any] | UnsetType = UNSET
    split: dict[str, Any] | UnsetType = UNSET
    embed: dict[str, dict[str, Any]] | UnsetType = UNSET
    partition: dict[str, Any] | UnsetType = UNSET
    validate: dict[str, Any] | UnsetType = UNSET
    train: dict[str, Any] | UnsetType = UNSET
    eval: dict[str, Any] | UnsetType = UNSET


class _Manifest(Struct):
    """The types of what a manifest says. Keys may be missing (`missing_keys`); others are kept unread."""

    format: Count
    id: str | UnsetType = UNSET
    name: Annotated[str, Meta(min_length=1)] | UnsetType = UNSET
    created: str | UnsetType = UNSET
    recipe: _Recipe | UnsetType = UNSET
    source: _Source | UnsetType = UNSET
    facts: _Facts | UnsetType = UNSET
    classes: list[float] | UnsetType = UNSET
    split: _Split | UnsetType = UNSET
    steps: list[_Step] | UnsetType = UNSET
    encoders: dict[str, _Encoder] | UnsetType = UNSET
    partition: _Partition | UnsetType = UNSET
    tables: dict[str, _Table] | UnsetType = UNSET
    seconds: dict[str, float] | UnsetType = UNSET
    versions: dict[str, str] | UnsetType = UNSET


OF_A_TABLE = ("columns", "rows", "bytes", "sha256", "content")
OF_ENTRIES: Mapping[str, tuple[str, ...]] = {
    "recipe": ("clean",),
    "source": ("name", "synthetic", "licence", "redistribution", "citation", "homepage", "files"),
    "facts": (
        "n_users", "n_items", "n_interactions", "n_clients", "density", "time_range", "ratings", "labels",
        "splits",
    ),
    "split": ("method", "rule", "rows", "users", "items", "time", "cold", "leak"),
    "partition": ("method", "seed", "n_clients", "unit", "heterogeneity"),
}  # fmt: skip
OF_A_RAW_FILE = ("role", "name", "sha256", "how", "n_bytes", "verified")
OF_A_STEP = ("stage", "name", "rows_in", "rows_out", "dropped", "unit", "why", "examples")
OF_AN_ENCODER = ("name", "dim", "normalise", "n_present", "n_missing", "statistics")


def missing_keys(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Yields the dotted keys that a manifest lacks: its own, those of its entries, tables and encoders."""
    yield from (key for key in KEYS if key not in manifest)
    for entry, wanted in OF_ENTRIES.items():
        if entry in manifest:
            yield from (f"{entry}.{key}" for key in wanted if key not in manifest[entry])
    of_lists = (
        ("source.files", manifest.get("source", {}).get("files", ()), OF_A_RAW_FILE),
        ("steps", manifest.get("steps", ()), OF_A_STEP),
    )
    for entry, listed, wanted in of_lists:
        for number, each in enumerate(listed):
            yield from (f"{entry}.{number}.{key}" for key in wanted if key not in each)
    for name, table in manifest.get("tables", {}).items():
        yield from (f"tables.{name}.{key}" for key in OF_A_TABLE if key not in table)
    if "encoders" in manifest:
        yield from _missing_of_encoders(manifest["encoders"], manifest.get("tables", {}))


def _missing_of_encoders(encoders: Mapping[str, Any], tables: Iterable[str]) -> Iterator[str]:
    """Yields the keys that encoders lack; that of users' behaviour, which has no table, has no statistics."""
    of_tables = [
        name.removeprefix(EMBEDDINGS).removesuffix(".parquet")
        for name in tables
        if name.startswith(EMBEDDINGS)
    ]
    for modality in dict.fromkeys((*of_tables, *encoders)):
        wanted = OF_AN_ENCODER if modality in of_tables else OF_AN_ENCODER[:-1]
        encoder = encoders.get(modality, {})
        yield from (f"encoders.{modality}.{key}" for key in wanted if key not in encoder)
        of = encoder.get("statistics", {}) if modality in of_tables else {"before": {}, "after": {}}
        lacking = (key for key in ("before", "after") if of and key not in of)
        yield from (f"encoders.{modality}.statistics.{key}" for key in lacking)


def is_safe_name(name: str) -> bool:
    """Says whether the name of a table is a plain path inside its folder."""
    parts = PurePosixPath(name).parts
    plain = bool(parts) and not name.startswith("/") and not {"..", "."} & {*parts}
    return plain and str(PurePosixPath(*parts)) == name and name.isprintable() and "\\" not in name


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
    if "steps" in kept:
        kept["steps"] = [{k: v for k, v in s.items() if k != "lines"} for s in kept["steps"]]
    kept["tables"] = {
        name: {key: table[key] for key in _identity_of(name) if key in table}
        for name, table in manifest.get("tables", {}).items()
    }
    # How many lines a file has is no part of what was made of them.
    kept["steps"] = [
        {k: v for k, v in step.items() if k != "lines"} for step in manifest.get("steps", [])
    ]
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


WHOLE = "copy the Dataset again from where it is whole, or build it again"

SHOWN = 10
"""Folders that a hint names."""


def _folders_with_one(folder: Path) -> list[str]:
    """Returns the names of the folders in a folder that have a manifest."""
    return sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}"))


def read_manifest(folder: Path) -> dict[str, Any]:
    """Returns the manifest of a Dataset directory.

    Raises:
        DatasetError: there is none, it is no JSON, a value is of another type than it must be, a table is
            called by a path that leads out of the folder, or a newer version wrote it.
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
    manifest = read_json(path, "the manifest", hint=WHOLE)
    if type(manifest.get("format")) is not int:
        raise DatasetError(
            "the manifest names no format", where=str(path), expected=f'"format": {FORMAT}'
        )
    if manifest["format"] > FORMAT:
        raise DatasetError(
            f"the Dataset has format {manifest['format']}",
            where=str(path),
            expected=f"at most {FORMAT}, the newest that this version reads",
            hint="a newer fedprep reads it: `git pull` in its checkout",
        )
    typed(manifest, _Manifest, str(path), "the manifest", hint=WHOLE)
    unsafe = [name for name in manifest.get("tables", {}) if not is_safe_name(name)]
    if unsafe:
        raise DatasetError(
            f"the manifest names a file that is no plain path inside its folder: {unsafe[0]!r}",
            where=str(path),
            hint=WHOLE,
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
