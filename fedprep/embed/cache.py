"""Finished embeddings on disk, by encoder and by the hash of what was embedded.

One folder holds one encoder's embeddings (`encoder_folder`): chunk files of a few thousand rows, each
an uncompressed `.npz` of `keys` (S32: SHA-256 digests) and `values` (float32). A chunk is written
beside its name and renamed, so it is whole or not there; its members carry checksums, and a damaged
chunk is removed and made again. Several processes may read and write one folder at once.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedprep.errors import OutputError
from fedprep.files import whole_file
from fedprep.schema import Progress, silent

__all__ = ["CHUNK", "EmbeddingCache", "content_keys", "embed_contents", "encoder_folder"]

CHUNK = 2048
"""Distinct contents in a chunk, at most: what a killed run loses."""

Keys = NDArray[np.bytes_]
Values = NDArray[np.float32]
Positions = NDArray[np.int64]
Encode = Callable[[Positions], Values]

_KEY = np.dtype("S32")
_STALE_SECONDS = 86_400.0

logger = logging.getLogger(__name__)


def content_keys(contents: Iterable[bytes]) -> Keys:
    """Returns the SHA-256 digests of the contents: S32 (n,)."""
    return np.frombuffer(b"".join(hashlib.sha256(content).digest() for content in contents), _KEY)


def encoder_folder(root: Path, encoder: Mapping[str, Any]) -> Path:
    """Returns the folder below `root` that holds the embeddings of this encoder and no other.

    Args:
        root: the folder of all encoders.
        encoder: everything that fixes the output, as plain values; equal values give an equal folder.
    """
    text = json.dumps(encoder, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return root / hashlib.sha256(text.encode()).hexdigest()[:32]


class EmbeddingCache:
    """The embeddings in one folder, found by key; what is put is there for the next process.

    Args:
        folder: made when something is put.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: list[Path] = []
        self._keys: Keys = np.zeros(0, _KEY)  # sorted
        self._file_of: NDArray[np.int32] = np.zeros(0, np.int32)
        self._row_of: NDArray[np.int32] = np.zeros(0, np.int32)
        self._read_index()

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, keys: Keys) -> tuple[Values, NDArray[np.bool_]]:
        """Returns what is cached: values float32 (n, dim), zero where not found; found bool (n,).

        Each file is read once, whatever the order of the keys. dim is 0 where nothing is found.
        """
        found, at = self._find(keys)
        values = np.zeros((len(keys), 0), np.float32)
        hits = np.flatnonzero(found)
        hits = hits[np.argsort(self._file_of[at[hits]], kind="stable")]
        numbers, starts = np.unique(self._file_of[at[hits]], return_index=True)
        for number, low, high in zip(numbers, starts, [*starts[1:], len(hits)], strict=False):
            rows = hits[low:high]
            chunk = _read(self._files[number], "values")
            if chunk is None:
                found[rows] = False
                continue
            if values.shape[1] == 0:
                values = np.zeros((len(keys), chunk.shape[1]), np.float32)
            values[rows] = chunk[self._row_of[at[rows]]]
        return values, found

    def put(self, keys: Keys, values: Values) -> None:
        """Writes one chunk: keys S32 (n,), values float32 (n, dim).

        Raises:
            OutputError: the folder cannot be written, or the disk is full.
        """
        if len(keys) == 0:
            return
        path = self.folder / f"{hashlib.sha256(keys.tobytes()).hexdigest()[:32]}.npz"
        try:
            with whole_file(path) as beside, beside.open("wb") as file:
                np.savez(file, keys=keys.astype(_KEY), values=values.astype(np.float32))
        except OSError as error:
            raise OutputError(
                f"an embedding cannot be kept in the cache: {error.strerror or error}",
                where=str(self.folder),
                hint="free some space, or name another folder with FEDPREP_CACHE",
            ) from error

    def _find(self, keys: Keys) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Returns whether each key is indexed, and its position in the index (0 where it is not)."""
        if len(self) == 0:
            return np.zeros(len(keys), bool), np.zeros(len(keys), np.int64)
        at = np.minimum(np.searchsorted(self._keys, keys), len(self) - 1)
        found = self._keys[at] == keys
        return found, np.where(found, at, 0)

    def _read_index(self) -> None:
        _remove_stale(self.folder)
        parts: list[Keys] = []
        for path in sorted(self.folder.glob("*.npz")):
            keys = _read(path, "keys")
            if keys is None:
                continue
            self._files.append(path)
            parts.append(keys)
        if not parts:
            return
        sizes = [len(part) for part in parts]
        # `unique` names the first of equal keys: the same file in every process.
        self._keys, first = np.unique(np.concatenate(parts), return_index=True)
        self._file_of = np.repeat(np.arange(len(parts), dtype=np.int32), sizes)[first]
        self._row_of = np.concatenate([np.arange(n, dtype=np.int32) for n in sizes])[first]


def embed_contents(
    keys: Keys,
    sizes: NDArray[np.integer[Any]],
    encode: Encode,
    *,
    cache: EmbeddingCache,
    chunk: int = CHUNK,
    chunk_size: int = 0,
    each: Callable[[Encode, Iterable[Positions]], Iterable[Values]] = map,
    task: str = "embed",
    progress: Progress = silent,
) -> Values:
    """Returns one embedding a row, float32 (n, dim), encoding only what the cache does not hold.

    The distinct contents, largest first and then by key, are cut into chunks: the cuts depend on the
    contents alone, so a killed run resumes at the chunk it was in. Each chunk is encoded as far as it
    is not cached, kept, and reported. dim is 0 where there is no row.

    Args:
        keys: S32 (n,), `content_keys`; equal keys are encoded once.
        sizes: int (n,), of the contents: neighbours in a chunk are then of like size.
        encode: gives float32 (m, dim) for m positions in `keys`. A row of NaN marks content that
            cannot be embedded; it is cached as such, and the caller must look for it.
        chunk: contents in a chunk, at most.
        each: gives `encode(positions)` for each chunk's positions, in order, as `map` does: elsewhere,
            say, or some at a time.
        chunk_size: a chunk's sizes sum to about this at most; 0 for no such bound.
        task: the words that `progress` is called with.

    Raises:
        OutputError: the cache cannot be written.
    """
    values, found = cache.get(keys)
    distinct, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.lexsort((distinct, -sizes[first].astype(np.int64)))  # (n_distinct,)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    rank = rank[inverse]  # (n,) place of each row's content in the order of the work
    rows_by_rank = np.argsort(rank, kind="stable")
    starts = np.searchsorted(rank[rows_by_rank], np.arange(len(order) + 1))
    cuts = _cuts(sizes[first[order]], chunk, chunk_size)
    chunks = [first[order[low:high]] for low, high in itertools.pairwise(cuts)]
    made_of = iter(each(encode, [c[~found[c]] for c in chunks if not found[c].all()]))
    progress(task, 0, len(order))
    for low, positions in zip(cuts.tolist(), chunks, strict=False):
        high = low + len(positions)
        missing = ~found[positions]
        if missing.any():
            made = next(made_of)
            cache.put(keys[positions[missing]], made)
            if values.shape[1] == 0:
                values = np.zeros((len(keys), made.shape[1]), np.float32)
            made_row = np.cumsum(missing) - 1
            rows = rows_by_rank[starts[low] : starts[high]]
            rows = rows[~found[rows]]
            values[rows] = made[made_row[rank[rows] - low]]
        progress(task, high, len(order))
    return values


def _cuts(sizes: NDArray[np.integer[Any]], chunk: int, chunk_size: int) -> NDArray[np.int64]:
    """Returns where chunks begin, and the end: at most `chunk` contents and about `chunk_size` of size.

    A content counts as its size, and as a `chunk`-th of a chunk at least.
    """
    whole = chunk_size or chunk
    cost = np.maximum(sizes.astype(np.int64) if chunk_size else 0, -(-whole // chunk))
    cost = np.broadcast_to(cost, len(sizes))
    number = (np.cumsum(cost) - cost) // whole
    begins = np.flatnonzero(np.diff(number, prepend=-1))
    return np.append(begins, len(sizes))


def _read(path: Path, name: str) -> NDArray[Any] | None:
    """Returns one member of a chunk, or None where it cannot be read; a damaged chunk is removed."""
    try:
        # Opened here: np.load leaves a file that it opened itself open where the zip is damaged.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as chunk:
            member: NDArray[Any] = chunk[name]
    except OSError:
        return None  # gone, or not ours to read
    except (EOFError, KeyError, ValueError, zipfile.BadZipFile):
        logger.warning("a chunk of the embedding cache is damaged and made again: %s", path)
        path.unlink(missing_ok=True)
        return None
    return member


def _remove_stale(folder: Path) -> None:
    """Removes what killed writers left a day ago or longer."""
    for path in folder.glob("*.tmp"):
        try:
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            continue
