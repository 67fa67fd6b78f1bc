"""Names and shapes, spelled once: the columns on disk, and the values that stages hand on.

Ids of a Dataset are dense, start at 0 and are int32; time is int64 **seconds** since 1970 UTC;
floats on disk are float32. Frames between stages use the same names (`INTERACTIONS`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import polars as pl

__all__ = [
    "CLIENT_ID",
    "FORMAT",
    "INDEX",
    "INTERACTIONS",
    "ITEMS",
    "ITEM_ID",
    "LABEL",
    "RATING",
    "SHARD",
    "SOURCE_ID",
    "SPLIT",
    "SPLITS",
    "TIMESTAMP",
    "USERS",
    "USER_ID",
    "Candidate",
    "Lines",
    "Progress",
    "RawFile",
    "RawTables",
    "Step",
    "embedding_schema",
    "silent",
]

FORMAT = 1
"""Version of the Dataset directory that this package writes, and the newest that it reads."""

USER_ID = "user_id"
ITEM_ID = "item_id"
CLIENT_ID = "client_id"
SOURCE_ID = "source_id"
RATING = "rating"
LABEL = "label"
TIMESTAMP = "timestamp"
SPLIT = "split"

SPLITS = ("train", "valid", "test")
SPLIT_DTYPE = pl.Enum(SPLITS)

# What a source gives and `clean` and `split` work on. `user_id` and `item_id` are codes (positions
# in the sorted distinct source ids) until the build makes them dense again at the end; `line` is
# the 1-based line of the raw file, so that a dropped row can be named.
INTERACTIONS: dict[str, pl.DataType] = {
    USER_ID: pl.Int32(),
    ITEM_ID: pl.Int32(),
    RATING: pl.Float32(),
    TIMESTAMP: pl.Int64(),
    "line": pl.UInt32(),
}

# The files of a Dataset. More columns of the source may follow the fixed ones in items and users.
ITEMS: dict[str, pl.DataType] = {
    ITEM_ID: pl.Int32(),
    SOURCE_ID: pl.String(),
    "title": pl.String(),
    "text": pl.String(),
    "categories": pl.List(pl.String()),
    "image": pl.String(),
}
USERS: dict[str, pl.DataType | None] = {
    USER_ID: pl.Int32(),
    SOURCE_ID: pl.String(),
    CLIENT_ID: pl.Int32(),  # null where the rows of one user lie at several clients (unit = interaction)
    "behavior": None,  # fixed_size_list<f32>[d]: d is the recipe's embed.behavior.dim
}
SHARD: dict[str, pl.DataType] = {
    CLIENT_ID: pl.Int32(),
    USER_ID: pl.Int32(),
    ITEM_ID: pl.Int32(),
    RATING: pl.Float32(),
    LABEL: pl.Int8(),
    TIMESTAMP: pl.Int64(),
    SPLIT: SPLIT_DTYPE,
}
INDEX: dict[str, pl.DataType | None] = {
    CLIENT_ID: pl.Int32(),
    "file": pl.Int32(),  # the number in part-00000.parquet
    "row_group": pl.Int32(),
    "offset": pl.Int32(),  # first row of the client inside its row group
    "n_rows": pl.Int32(),
    "n_train": pl.Int32(),
    "n_valid": pl.Int32(),
    "n_test": pl.Int32(),
    "n_users": pl.Int32(),
    "label_counts": None,  # fixed_size_list<i32>[n_classes], train, valid and test together
    "divergence": pl.Float32(),  # Jensen–Shannon (base 2, 0..1) of the client's labels to all rows'
    "category_divergence": pl.Float32(),  # the same of item categories; null without categories
}


def embedding_schema(dim: int) -> dict[str, pl.DataType]:
    """Returns the columns of `embeddings/<modality>.parquet`: one row an item, null where it has none."""
    return {ITEM_ID: pl.Int32(), "embedding": pl.Array(pl.Float32(), dim)}


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One file that can fill a role: its official name, where it lies, and what its bytes must be.

    `urls` are tried in order. `md5` or `sha256` is empty where none is known; `n_bytes` 0 likewise.
    """

    name: str
    urls: tuple[str, ...] = ()
    n_bytes: int = 0
    sha256: str = ""
    md5: str = ""


@dataclass(frozen=True, kw_only=True)
class RawFile:
    """A role that a source wants filled (`"ratings"`, `"meta"`), by the first candidate that can be had.

    `members` are the paths wanted from an archive (empty: all of it); after fetching, a role that is
    an archive is a folder and any other a file. `optional` roles may stay unfilled, `beside` ones where
    the user has other roles' files by hand or in a mirror. `form` is the page on which the file must be
    asked for by hand; it then has no URL.
    """

    role: str
    candidates: tuple[Candidate, ...]
    members: tuple[str, ...] = ()
    optional: bool = False
    beside: bool = False
    form: str = ""


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Where the lines of a text file went. Every one is in one of the counts."""

    rows: int = 0  # records; one that runs over several lines counts once
    dropped: int = 0
    header: int = 0
    blank: int = 0
    inside: int = 0  # lines that go on with a record, behind the one that it starts on

    @property
    def total(self) -> int:
        """How many lines the file has."""
        return self.rows + self.dropped + self.header + self.blank + self.inside

    def __add__(self, other: Lines) -> Lines:
        return Lines(**{name: getattr(self, name) + getattr(other, name) for name in vars(self)})


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one step read and dropped; the manifest lists them in order.

    `examples` are the first three culprits, as `"line 17"` or `"user A3X"` — enough to look them up.
    """

    stage: str  # read, clean, split, embed, partition
    name: str  # "bad lines", "repeated (user, item)", "5-core"
    rows_in: int
    rows_out: int
    unit: str = "rows"  # rows, users, items, images
    why: str = ""
    examples: tuple[str, ...] = ()
    lines: Lines | None = None  # of a text file that was read

    @property
    def dropped(self) -> int:
        return self.rows_in - self.rows_out


@dataclass(frozen=True, kw_only=True)
class RawTables:
    """What a source's reader gives.

    interactions: `user`, `item` (both String or both Int64), `rating` f32, `timestamp` i64 seconds
        (rating and timestamp null where the source has none), `line` u32.
    items: `item` (unique, the dtype of interactions' `item`), `title` String, `categories`
        List(String), `image` String (a path inside the picture store, or a URL), then the source's
        own columns (`description`, `brand`, `year` …). Null where missing, never an empty string.
    users: `user` (unique) and the source's own columns; may have no row.
    """

    interactions: pl.LazyFrame
    items: pl.LazyFrame
    users: pl.LazyFrame
    steps: list[Step] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


Progress = Callable[[str, int, int | None], None]
"""`progress(task, done, total)`: called as often as convenient; `total` None while unknown."""


def silent(task: str, done: int, total: int | None) -> None:
    """A `Progress` that shows nothing."""
