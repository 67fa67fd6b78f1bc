"""Clients on disk: Parquet shards that hold whole clients, and the index that finds them.

Rows are sorted by (client_id, user_id, timestamp, item_id). Up to `OWN_FILE` clients have a file each.
Beyond that a file holds many clients in row groups of about `GROUP_ROWS` rows. A client lies in one file
and in one row group, so reading it decodes one group and cuts out a slice.

Where things lie follows from the sizes of the clients alone (`_layout`), and a file needs only its own
rows: an out-of-core writer can hand over sorted parts one after the other.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from fedprep.schema import (
    CLIENT_ID,
    INDEX,
    ITEM_ID,
    LABEL,
    RATING,
    SHARD,
    SPLIT,
    TIMESTAMP,
    USER_ID,
    Progress,
    silent,
)

__all__ = ["write_shards"]

OWN_FILE = 256
"""Up to so many clients have a file of their own."""

GROUP_ROWS = 8_192
"""Rows of a group, about: a client is read by decoding its group. Larger clients are their own group."""

FILE_ROWS = 20 * GROUP_ROWS
"""Rows of a file, about."""

ORDER = (CLIENT_ID, USER_ID, TIMESTAMP, ITEM_ID)

# Measured on ml-1m and on 10 M rows of 100,000 clients against dictionaries, plain pages and byte
# streams: smallest and among the fastest to write and to read, and every Parquet reader knows it.
# Columns of few values are dictionary codes of a few bits: decompressing them costs more than it saves.
DICTIONARY = (RATING, LABEL, SPLIT)
WRITER: dict[str, Any] = {
    "compression": {c: "none" if c in DICTIONARY else "zstd" for c in SHARD},
    "use_dictionary": list(DICTIONARY),
    "column_encoding": {ITEM_ID: "DELTA_BINARY_PACKED"},
    "write_statistics": True,
}
LARGEST_GROUP = 1 << 26  # pyarrow cuts a table into groups of at most so many rows


def write_shards(
    rows: pl.DataFrame, folder: Path, *, per_client: pl.DataFrame, progress: Progress = silent
) -> pl.DataFrame:
    """Writes `part-00000.parquet` … and `index.parquet` into a folder; returns the index.

    The same rows give the same bytes, whatever their order and the number of threads.

    Args:
        rows: `schema.SHARD`, in any order; client ids dense from 0; a (user, item) pair once.
        per_client: the table of clients that `heterogeneity` returns, in order of `client_id`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    n_rows = per_client["n_rows"].to_numpy().astype(np.int64)
    counted = np.bincount(rows[CLIENT_ID].to_numpy(), minlength=len(n_rows))
    assert np.array_equal(counted, n_rows), "per_client must describe these rows"
    places = _layout(n_rows)
    _write_files(_sorted(rows), places, folder, progress)
    index = per_client.with_columns(
        **{
            name: pl.Series(places[name], dtype=pl.Int32)
            for name in ("file", "row_group", "offset")
        }
    ).select(*INDEX)
    pq.write_table(index.rechunk().to_arrow(), folder / "index.parquet", compression="zstd")
    return index


def _layout(n_rows: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.int64]]:
    """Returns where each client lies, int64 (n_clients,) each: `begin` is its first row of all rows,
    `file` and `row_group` number its place, `offset` is its first row inside the group.

    A group closes with the client that fills its stretch of `GROUP_ROWS` rows, a file likewise; clients
    larger than a group stand alone.
    """
    begin = np.cumsum(n_rows) - n_rows
    large = n_rows > GROUP_ROWS
    new_group = (
        _starts(begin // GROUP_ROWS) | large
    )  # after a large one a new stretch begins anyway
    if len(n_rows) <= OWN_FILE:
        new_file = new_group = np.ones(len(n_rows), dtype=bool)
    else:
        group_begin = begin[new_group]
        new_file = np.zeros(len(n_rows), dtype=bool)
        new_file[new_group] = _starts(group_begin // FILE_ROWS)
    new_group[0] = True
    group = np.cumsum(new_group) - 1
    file = np.cumsum(new_file) - 1
    return {
        "begin": begin,
        "file": file,
        "row_group": group - group[new_file][file],
        "offset": begin - begin[new_group][group],
    }


def _starts(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Returns where a run of equal numbers begins."""
    starts: npt.NDArray[np.bool_] = np.diff(numbers, prepend=-1) != 0
    return starts


def _write_files(
    rows: pl.DataFrame, places: dict[str, Any], folder: Path, progress: Progress
) -> None:
    files = places["file"]
    first = np.flatnonzero(_starts(files) | _starts(places["row_group"]))  # client of each group
    begin_of_group = places["begin"][first]
    of_files = np.split(begin_of_group, np.cumsum(np.bincount(files[first]))[:-1])
    begins = [int(groups[0]) for groups in of_files]
    for number, (groups, end) in enumerate(zip(of_files, [*begins[1:], rows.height], strict=True)):
        begin = begins[number]
        # polars keeps the categories of `split` in the field's metadata: it reads back as an enum
        part = rows.slice(begin, end - begin).to_arrow()
        path = folder / f"part-{number:05d}.parquet"
        with pq.ParquetWriter(path, part.schema, **WRITER) as writer:
            for here, after in itertools.pairwise([*groups.tolist(), end]):
                group = part.slice(here - begin, after - here)
                writer.write_table(group, row_group_size=LARGEST_GROUP)
        progress("shards", number + 1, len(of_files))


def _sorted(rows: pl.DataFrame) -> pl.DataFrame:
    """Returns the columns of `schema.SHARD` in `ORDER`; ties, if any, by rating, label and split."""
    rows = rows.select(pl.col(name).cast(dtype) for name, dtype in SHARD.items())
    key = _packed(rows)
    if key is not None:
        order = np.argsort(key)
        ordered = key[order]
        if (ordered[1:] != ordered[:-1]).all():
            return rows[order]
    return rows.sort(*ORDER, RATING, LABEL, SPLIT)


def _packed(rows: pl.DataFrame) -> npt.NDArray[np.int64] | None:
    """Returns `ORDER` as one number a row, None where 63 bits are too few or a value is null.

    Sorting one number takes a third of the time of sorting four columns.
    """
    if rows.select(pl.any_horizontal(pl.col(*ORDER).null_count() > 0)).item():
        return None
    columns = [rows[name].to_numpy().astype(np.int64) for name in ORDER]
    columns = _holders_first(columns[0], columns[1]) + columns[2:]
    key = np.zeros(rows.height, dtype=np.int64)
    bits = 0
    for values in columns:
        low = int(values.min())
        width = (int(values.max()) - low).bit_length()
        bits += width
        if bits > 63:
            return None
        key = (key << width) | (values - low)
    return key


def _holders_first(
    client: npt.NDArray[np.int64], user: npt.NDArray[np.int64]
) -> list[npt.NDArray[np.int64]]:
    """Returns [client, user], or where no user is at two clients the user's rank in that order alone."""
    client_of = np.zeros(int(user.max()) + 1, dtype=np.int64)
    client_of[user] = client
    if not np.array_equal(client_of[user], client):
        return [client, user]
    rank = np.empty(len(client_of), dtype=np.int64)
    rank[np.argsort(client_of, kind="stable")] = np.arange(len(client_of))
    return [rank[user]]
