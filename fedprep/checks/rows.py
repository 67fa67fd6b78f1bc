"""Interactions of any size, read in blocks: memory follows the block and not the data.

Blocks of files are runs of whole row groups in the order of the files. Where the rows of a user lie in
several blocks (which is found out, not believed), `of_whole` takes those users out of the blocks and brings
their rows together. Rows without files come in blocks by a hash of the user.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from fedprep.decoding import Footer
from fedprep.frames import scan_parquet
from fedprep.schema import LABEL, SHARD, TIMESTAMP, USER_ID

__all__ = ["BLOCK_ROWS", "Block", "Rows"]

BLOCK_ROWS = 1_500_000
"""Rows of a block, about."""


@dataclass(frozen=True)
class Block:
    """Some rows; `first` is the number of the first among all, None where they are not in file order."""

    frame: pl.DataFrame
    first: int | None


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of one file."""

    path: Path
    begin: int
    n_rows: int


class Rows:
    """Interactions: a lazy frame, and the Parquet files behind it where it is the scan of some."""

    def __init__(
        self,
        frame: pl.LazyFrame,
        files: Mapping[Path, Footer] | None = None,
        *,
        foreign: bool = False,
        block_rows: int = 0,
    ) -> None:
        self.files = files or {}
        self._casts = _casts(frame.collect_schema()) if foreign else []
        self.frame = frame.with_columns(self._casts)
        self.block_rows = block_rows or BLOCK_ROWS

    @functools.cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns of `schema.SHARD` that are there."""
        there = self.frame.collect_schema().names()
        return tuple(name for name in SHARD if name in there)

    @functools.cached_property
    def n_rows(self) -> int:
        if self.files:
            return sum(footer.n_rows for footer in self.files.values())
        return int(self.frame.select(pl.len()).collect(engine="streaming").item())

    def blocks(self, columns: Sequence[str] = ()) -> Iterator[Block]:
        """Yields all rows: runs of row groups, or parts by a hash of the user.

        Args:
            columns: those that are wanted; empty for all.
        """
        if self.n_rows <= self.block_rows:
            yield Block(self._all.select(columns or pl.all()), 0 if self.files else None)
        elif self.files:
            first = 0
            for pieces in self._runs():
                frame = self._read(pieces, columns)
                yield Block(frame, first)
                first += frame.height
        else:
            yield from self._hashed(self.frame, USER_ID, self.n_rows, columns)

    def of_whole(
        self, key: str, crossing: pl.Series, n_crossing: int, *, columns: Sequence[str] = ()
    ) -> Iterator[Block]:
        """Yields all rows so that no user (or client) lies in two blocks.

        Args:
            key: `user_id` or `client_id`.
            crossing: those whose rows lie in several of `blocks`.
            n_crossing: how many rows they have together.
            columns: those that are wanted; empty for all.
        """
        if crossing.is_empty():
            yield from self.blocks(columns)
        elif 2 * n_crossing > self.n_rows:
            yield from self._hashed(self.frame, key, self.n_rows, columns)
        else:
            among = pl.col(key).is_in(crossing.implode()).fill_null(False)
            for block in self.blocks(columns):
                yield Block(block.frame.filter(~among), None)
            yield from self._hashed(self.frame.filter(among), key, n_crossing, columns)

    @functools.cached_property
    def _all(self) -> pl.DataFrame:
        return self.frame.select(self.columns).collect()

    def _hashed(
        self, frame: pl.LazyFrame, key: str, n_rows: int, columns: Sequence[str]
    ) -> Iterator[Block]:
        n_parts = -(-n_rows // self.block_rows)
        part = pl.col(key).hash(seed=0) % n_parts
        for k in range(n_parts):
            rows = frame.filter(part == k).select(columns or self.columns)
            yield Block(rows.collect(engine="streaming"), None)

    def _runs(self) -> Iterator[list[Piece]]:
        """Yields the pieces of each block: whole row groups, and slices of those larger than a block."""
        run: list[Piece] = []
        size = 0
        for path, footer in self.files.items():
            begin = 0
            for n_rows in footer.groups:
                for start in range(0, n_rows, self.block_rows):
                    length = min(self.block_rows, n_rows - start)
                    if size and size + length > self.block_rows:
                        yield run
                        run, size = [], 0
                    last = run[-1] if run else None
                    if last is not None and last.path == path:
                        run[-1] = Piece(path, last.begin, last.n_rows + length)
                    else:
                        run.append(Piece(path, begin + start, length))
                    size += length
                begin += n_rows
        if run:
            yield run

    def _read(self, pieces: list[Piece], columns: Sequence[str]) -> pl.DataFrame:
        wanted = columns or self.columns
        parts = [
            scan_parquet(piece.path)
            .slice(piece.begin, piece.n_rows)
            .with_columns(self._casts)
            .select(wanted)
            for piece in pieces
        ]
        return pl.concat(pl.collect_all(parts), rechunk=True)


def _casts(schema: Mapping[str, pl.DataType]) -> list[pl.Expr]:
    """Returns what foreign columns are read as: times as seconds, true and false as labels 1 and 0."""
    casts = []
    if isinstance(schema.get(TIMESTAMP), pl.Datetime | pl.Date):
        casts.append(pl.col(TIMESTAMP).dt.epoch("s"))
    if schema.get(LABEL) == pl.Boolean:
        casts.append(pl.col(LABEL).cast(pl.Int8))
    return casts
