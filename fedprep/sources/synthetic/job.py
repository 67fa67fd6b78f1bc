"""One order of raw files: the truth, the names, the faults, and what is counted while writing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fedprep.schema import Progress
from fedprep.sources.synthetic.faults import HOLES, Fault, Plant
from fedprep.sources.synthetic.lines import Form, LineFile
from fedprep.sources.synthetic.rows import row_blocks
from fedprep.sources.synthetic.truth import Truth, generator
from fedprep.sources.synthetic.words import item_words

__all__ = ["Job", "Tally"]

CUT = 48  # characters left of a bad line


@dataclass
class Tally:
    """Counts and sums of stars per item and user, of clean rows; and where faults lie.

    `places`: fault → rows or items → count and the first three places.
    """

    item_rows: npt.NDArray[np.int64]
    item_stars: npt.NDArray[np.float64]
    user_rows: npt.NDArray[np.int64]
    user_stars: npt.NDArray[np.float64]
    top_rows: int = 0
    n_lines: dict[str, int] = field(default_factory=dict)
    places: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, rows: pl.DataFrame) -> None:
        stars = rows["rating"].to_numpy()
        self.top_rows += int((stars == 5.0).sum())
        for ids, counts, sums in (
            (rows["item"].to_numpy(), self.item_rows, self.item_stars),
            (rows["user"].to_numpy(), self.user_rows, self.user_stars),
        ):
            low, high = int(ids.min()), int(ids.max()) + 1
            counts[low:high] += np.bincount(ids - low, minlength=high - low)
            sums[low:high] += np.bincount(ids - low, stars, high - low)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a family's writer needs. Ids are the String ids of users and items, by number."""

    folder: Path
    edition: str
    category: str
    truth: Truth
    form: Form
    faults: dict[str, Fault]
    user_ids: pl.Series
    item_ids: pl.Series
    tally: Tally
    progress: Progress

    def blocks(self) -> Iterator[pl.DataFrame]:
        """Gives the rows with their faults: `rows.row_blocks` and `mark`, `hole`, `broken`."""
        done = 0
        for clean in row_blocks(self.truth):
            self.tally.add(clean)
            rows = clean.with_columns(
                mark=pl.lit(0, pl.UInt32), hole=pl.lit(0, pl.Int32), broken=pl.lit(False)
            )
            for bit, (name, fault) in enumerate(self.faults.items()):
                if fault.rows is not None:
                    rows = fault.rows(rows, self._plant(bit, name, done))
            yield rows
            done += clean.height
            self.progress("synthetic rows", done, self.truth.size.n_interactions)

    def items(self) -> pl.DataFrame:
        """Returns the items with their faults, in item order, duplicates last; after all rows are drawn.

        Columns: those of `words.item_words`, `id`, `n_rows`, `stars` (mean, null where unrated),
        `price` (one in four is null) and `listed`, `swapped`, `mark`.
        """
        rows, stars = self.tally.item_rows, self.tally.item_stars
        frame = item_words(self.truth).with_columns(
            id=self.item_ids,
            n_rows=pl.Series(rows),
            stars=pl.Series(stars / np.maximum(rows, 1)),
            price=pl.when(pl.col("noise") % 4 != 0).then(_dollars(pl.col("cents"))),
            listed=pl.lit(True),
            swapped=pl.lit(False),
            mark=pl.lit(0, pl.UInt32),
        )
        for bit, (name, fault) in enumerate(self.faults.items()):
            if fault.items is not None:
                frame = fault.items(frame, self._plant(bit, name, 0))
                found = frame.filter(pl.col("mark") == 1 << bit)["id"]
                self.note(name, "items", len(found), found.head(3).to_list())
        return frame

    def emptied(self, fields: pl.DataFrame, nothing: str) -> pl.DataFrame:
        """Returns the fields of rows as text, a planted hole written as `nothing`."""
        if "null_fields" not in self.faults:
            return fields
        holes = {
            name: pl.when(pl.col("hole") == number).then(pl.lit(nothing)).otherwise(name)
            for number, name in enumerate(HOLES)
            if number > 0
        }
        return fields.with_columns(**holes)

    def broken_off(self, line: pl.Expr) -> pl.Expr:
        """Returns lines of JSON, the bad ones cut off in the middle."""
        if "bad_json_lines" not in self.faults:
            return line
        return pl.when("broken").then(line.str.slice(0, CUT)).otherwise(line)

    def _plant(self, bit: int, name: str, block: int) -> Plant:
        rng = generator(self.truth.seed, f"fault {name}", block)
        return Plant(rng=rng, bit=bit, law=self.truth.law)

    def note(self, fault: str, unit: str, count: int, first: list[Any]) -> None:
        """Writes down how many rows, items, pictures or files carry a fault, and the first of them."""
        self.tally.places.setdefault(fault, {})[unit] = {"count": count, "first": first}

    def note_rows(self, file: LineFile) -> None:
        """Writes down where the faults lie in the finished file of rows."""
        for bit, name in enumerate(self.faults):
            if bit in file.places:
                self.note(name, "rows", *file.places[bit])


def _dollars(cents: pl.Expr) -> pl.Expr:
    """Returns `$1,250.00` of 125000."""
    whole, rest = cents // 100, (cents % 100).cast(pl.String).str.zfill(2)
    thousands = pl.when(whole >= 1000).then(
        pl.format("{},{}", whole // 1000, (whole % 1000).cast(pl.String).str.zfill(3))
    )
    return pl.format("${}.{}", thousands.otherwise(whole.cast(pl.String)), rest)
