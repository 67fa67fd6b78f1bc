"""Faults of the manifest, the index and the files as such; hashes are left as they were."""

from __future__ import annotations

import copy as copying
from collections.abc import Callable
from typing import Any

import polars as pl

from fedprep.faults.copy import INDEX_FILE, Copy, Planted
from fedprep.schema import CLIENT_ID, FORMAT

__all__ = ["CANNOT_BE_OPENED", "FAULTS"]

CANNOT_BE_OPENED = "cannot be opened"
"""Stands in place of a check: there is nothing that could be checked."""


ID = ("id_matches_manifest",)
"""The id is a hash over the manifest: whoever edits it changes the id that it ought to have."""


def lying_index(copy: Copy) -> Planted:
    """The index says of three clients that they have a train row more."""
    index = copy.read(INDEX_FILE)
    chosen = copy.some(index[CLIENT_ID])
    more = pl.col(CLIENT_ID).is_in(chosen.tolist()).cast(pl.Int32)
    copy.write(INDEX_FILE, index.with_columns(pl.col("n_rows", "n_train") + more))
    first = tuple(chosen.tolist())
    return Planted(check="index_matches_shards", unit="clients", count=len(chosen), first=first)


def wrong_hash(copy: Copy) -> Planted:
    """The manifest has another hash for the table of items."""
    manifest = copying.deepcopy(copy.manifest)
    table = manifest["tables"]["items.parquet"]
    table["sha256"] = "0" * len(table["sha256"])
    copy.overwrite_manifest(manifest)
    return _of_file("files_match_hashes", "items.parquet")


def flipped_bit(copy: Copy) -> Planted:
    """One bit in the middle of a shard has turned over."""
    name = copy.shards[0]
    path = copy.folder / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return _of_file("files_match_hashes", name)


def corrupt_shard(copy: Copy) -> Planted:
    """The last shard ends in its middle."""
    name = copy.shards[-1]
    path = copy.folder / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return _of_file(CANNOT_BE_OPENED, name)


def missing_file(copy: Copy) -> Planted:
    """The last shard is gone."""
    name = copy.shards[-1]
    (copy.folder / name).unlink()
    return _of_file(CANNOT_BE_OPENED, name)


def wrong_row_count(copy: Copy) -> Planted:
    """The manifest says that the table of users has a row more."""
    manifest = copying.deepcopy(copy.manifest)
    manifest["tables"]["users.parquet"]["rows"] += 1
    copy.overwrite_manifest(manifest)
    return Planted(
        check="row_counts_match_manifest", unit="counts", count=1, first=("users.parquet",), also=ID
    )


def wrong_split_sizes(copy: Copy) -> Planted:
    """The manifest says that a row of test is in train."""
    manifest = copying.deepcopy(copy.manifest)
    splits = manifest["facts"]["splits"]
    splits["train"] += 1
    splits["test"] -= 1
    copy.overwrite_manifest(manifest)
    first = ("train", "test")
    check = "split_sizes_match_manifest"
    return Planted(check=check, unit="splits", count=2, first=first, also=ID)


def incomplete_manifest(copy: Copy) -> Planted:
    """The manifest has no facts and no encoders."""
    gone = ("facts", "encoders")
    copy.overwrite_manifest({k: v for k, v in copy.manifest.items() if k not in gone})
    also = ("split_sizes_match_manifest", "scale_matches_manifest", *ID)
    return Planted(check="manifest_is_complete", unit="keys", count=2, first=gone, also=also)


def edited_manifest(copy: Copy) -> Planted:
    """The manifest has another name in it than when its id was made."""
    copy.overwrite_manifest({**copy.manifest, "name": f"{copy.manifest['name']}, edited"})
    return Planted(check="id_matches_manifest", unit="ids", count=1, first=("id",))


def newer_format(copy: Copy) -> Planted:
    """The manifest is of a format that this version does not know."""
    newer: dict[str, Any] = {**copy.manifest, "format": FORMAT + 1}
    copy.overwrite_manifest(newer)
    return _of_file(CANNOT_BE_OPENED, "manifest.json")


def _of_file(check: str, name: str) -> Planted:
    return Planted(check=check, unit="files", count=1, first=(name,))


FAULTS: dict[str, Callable[[Copy], Planted]] = {
    function.__name__: function
    for function in (
        lying_index,
        wrong_hash,
        flipped_bit,
        corrupt_shard,
        missing_file,
        wrong_row_count,
        wrong_split_sizes,
        incomplete_manifest,
        edited_manifest,
        newer_format,
    )
}
