"""Faults that can be planted into raw files, each with exactly known counts and places.

A fault acts at one or two stages: on the law before anything is drawn, on rows, on the table of items,
on the form of the files, on the finished file of rows, or on the pictures. Rows and items that carry
one fault are left alone by the others, so counts hold in any combination.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fedprep.errors import RecipeError, nearest
from fedprep.sources.synthetic.laws import Law
from fedprep.sources.synthetic.lines import Form
from fedprep.sources.synthetic.words import ACCENTS

__all__ = ["FAULTS", "HOLES", "Fault", "Plant", "chosen_faults"]

ROW_SHARE = 0.02  # of a block's rows, three at least
ITEM_SHARE = 0.05  # of the items, three at least
ORIGINAL = 1 << 31  # the bit in `mark` of a row or item that was copied
CENTURY = 36_525 * 86_400
HOLES = ("", "user", "rating", "timestamp")
"""What the column `hole` of rows stands for: the field that is null."""

MARKUP = '<span class="a-size-medium a-color-secondary"'
STYLE_SHEET = ".a-box-inner{background-color:#fff}\n#price { color: #b12704 }\n   "


@dataclass(frozen=True, kw_only=True)
class Plant:
    """What a fault may use: its own random generator, its bit in the column `mark`, the edition's law."""

    rng: np.random.Generator
    bit: int
    law: Law

    def some(self, frame: pl.DataFrame, share: float, where: pl.Expr | None = None) -> pl.Series:
        """Returns a Boolean series, true for a share of the frame's clean rows (three at least)."""
        eligible = frame.select(
            (pl.col("mark") == 0) & (True if where is None else where)
        ).to_series()
        at = np.flatnonzero(eligible.fill_null(False).to_numpy())
        picked = np.zeros(frame.height, dtype=np.bool_)
        picked[self.rng.permutation(at)[: max(3, round(share * frame.height))]] = True
        return pl.Series("picked", picked)

    def marked(self, frame: pl.DataFrame, picked: pl.Series, **changes: Any) -> pl.DataFrame:
        """Returns the frame with columns changed and the mark set where picked."""
        changes["mark"] = pl.col("mark") | pl.lit(1 << self.bit, dtype=pl.UInt32)
        new = {name: pl.when(picked).then(value).otherwise(name) for name, value in changes.items()}
        types = {name: frame.schema[name] for name in new}
        return frame.with_columns(**new).cast(types)  # type: ignore[arg-type]

    def copied(self, frame: pl.DataFrame, picked: pl.Series, **changes: Any) -> pl.DataFrame:
        """Returns the frame with changed and marked copies of the picked rows added.

        The originals are set apart too: another fault there would undo this one.
        """
        copies = frame.filter(picked)
        taken = pl.col("mark") | pl.lit(ORIGINAL, dtype=pl.UInt32)
        frame = frame.with_columns(mark=pl.when(picked).then(taken).otherwise("mark"))
        return pl.concat(
            [frame, self.marked(copies, pl.repeat(True, copies.height, eager=True), **changes)]
        )


OfFrame = Callable[[pl.DataFrame, Plant], pl.DataFrame]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One kind of dirt: a line of words, the functions that plant it, and where it can occur.

    `editions` empty: all of these families. `picture` is the damage done to some pictures.
    """

    doc: str
    law: Callable[[Law], Law] | None = None
    rows: OfFrame | None = None
    items: OfFrame | None = None
    form: Callable[[Form], Form] | None = None
    file: Callable[[Path], None] | None = None
    picture: str = ""
    families: tuple[str, ...] = ("movielens", "amazon", "yelp")
    editions: tuple[str, ...] = ()


def chosen_faults(names: Iterable[str], family: str, edition: str) -> dict[str, Fault]:
    """Returns the faults of those names, in order, each once.

    Raises:
        RecipeError: a name is unknown, or its fault cannot be in files of this family or edition.
    """
    chosen = {}
    for name in dict.fromkeys(names):
        if name not in FAULTS:
            raise RecipeError(
                f"no fault is called '{name}'",
                where="source.synthetic.faults",
                hint=nearest(name, FAULTS),
            )
        fault = FAULTS[name]
        if family not in fault.families or (fault.editions and edition not in fault.editions):
            raise RecipeError(
                f"the fault '{name}' cannot be in files of {family} {edition}".rstrip(),
                where="source.synthetic.faults",
                expected=" | ".join(fault.families) + (" " + " ".join(fault.editions)).rstrip(),
            )
        chosen[name] = fault
    return chosen


# Rows --------------------------------------------------------------------------------------------


def _bad_lines(rows: pl.DataFrame, plant: Plant) -> pl.DataFrame:
    return plant.copied(rows, plant.some(rows, ROW_SHARE), broken=True)


def _duplicate_rows(rows: pl.DataFrame, plant: Plant) -> pl.DataFrame:
    return plant.copied(rows, plant.some(rows, ROW_SHARE))


def _repeated_pairs(rows: pl.DataFrame, plant: Plant) -> pl.DataFrame:
    month = 30 * 86_400 * (1000 if plant.law.grain == 0 else 1)
    other = pl.when(pl.col("rating") > 3).then(pl.col("rating") - 1).otherwise(pl.col("rating") + 1)
    again = {"row": -1 - pl.col("row"), "timestamp": pl.col("timestamp") + month, "rating": other}
    return plant.copied(rows, plant.some(rows, ROW_SHARE), **again)


def _null_fields_of_rows(rows: pl.DataFrame, plant: Plant) -> pl.DataFrame:
    picked = plant.some(rows, ROW_SHARE)
    return plant.marked(rows, picked, hole=1 + picked.cast(pl.Int32).cum_sum() % (len(HOLES) - 1))


def _zero_ratings(rows: pl.DataFrame, plant: Plant) -> pl.DataFrame:
    return plant.marked(rows, plant.some(rows, ROW_SHARE), rating=0.0)


def _millisecond_timestamps(rows: pl.DataFrame, plant: Plant) -> pl.DataFrame:
    return plant.marked(rows, plant.some(rows, ROW_SHARE), timestamp=pl.col("timestamp") * 1000)


def _future_timestamps(rows: pl.DataFrame, plant: Plant) -> pl.DataFrame:
    century = CENTURY * (1000 if plant.law.grain == 0 else 1)
    return plant.marked(rows, plant.some(rows, ROW_SHARE), timestamp=pl.col("timestamp") + century)


def _tie_timestamps(rows: pl.DataFrame, plant: Plant) -> pl.DataFrame:
    counts = rows["user"].value_counts(sort=False).filter(pl.col("count") > 1)["user"].sort()
    tied = plant.rng.permutation(counts.to_numpy())[: max(3, len(counts) // 10)]
    picked = rows.select((pl.col("mark") == 0) & pl.col("user").is_in(tied.tolist())).to_series()
    return plant.marked(rows, picked, timestamp=pl.col("timestamp").min().over("user"))


# Items -------------------------------------------------------------------------------------------


def _html_titles(items: pl.DataFrame, plant: Plant) -> pl.DataFrame:
    return plant.marked(items, plant.some(items, ITEM_SHARE), title=pl.lit(MARKUP))


def _html_prices(items: pl.DataFrame, plant: Plant) -> pl.DataFrame:
    return plant.marked(items, plant.some(items, ITEM_SHARE), price=pl.lit(STYLE_SHEET))


def _missing_metadata(items: pl.DataFrame, plant: Plant) -> pl.DataFrame:
    rated = plant.some(items, ITEM_SHARE, pl.col("n_rows") > 0)
    return plant.marked(items, rated, listed=False)


def _duplicate_metadata(items: pl.DataFrame, plant: Plant) -> pl.DataFrame:
    return plant.copied(items, plant.some(items, ITEM_SHARE))


def _null_fields_of_items(items: pl.DataFrame, plant: Plant) -> pl.DataFrame:
    return plant.marked(items, plant.some(items, ITEM_SHARE), title=None)


def _empty_texts(items: pl.DataFrame, plant: Plant) -> pl.DataFrame:
    nothing = pl.lit("")
    changes = {"title": nothing, "description": nothing, "feature": nothing, "maker": nothing}
    return plant.marked(items, plant.some(items, ITEM_SHARE), theme=None, **changes)


def _string_or_list(items: pl.DataFrame, plant: Plant) -> pl.DataFrame:
    return plant.marked(items, plant.some(items, ITEM_SHARE), swapped=True)


def _accented_titles(items: pl.DataFrame, plant: Plant) -> pl.DataFrame:
    plain = pl.col("title").str.len_bytes() == pl.col("title").str.len_chars()
    title = pl.format(ACCENTS[0] + " {}", "title")
    items = plant.marked(items, plant.some(items, ITEM_SHARE, plain), title=title)
    return plant.marked(items, items.select(~plain & (pl.col("mark") == 0)).to_series())


# Files -------------------------------------------------------------------------------------------


def _cut_short(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size * 6 // 10)


def _form(**changes: Any) -> Callable[[Form], Form]:
    return lambda form: dataclasses.replace(form, **changes)


def _law(**changes: Any) -> Callable[[Law], Law]:
    return lambda law: dataclasses.replace(law, **changes)


JSON = ("amazon", "yelp")
AMAZON = ("amazon",)

FAULTS: dict[str, Fault] = {
    "bad_json_lines": Fault(doc="lines cut off in the middle", rows=_bad_lines, families=JSON),
    "truncated_gz": Fault(doc="the file of rows ends too early", file=_cut_short, families=AMAZON),
    "not_gzip": Fault(doc="`.gz` that is plain text", form=_form(compress=False), families=AMAZON),
    "duplicate_rows": Fault(doc="rows that come twice, letter by letter", rows=_duplicate_rows),
    "repeated_pairs": Fault(
        doc="users who rate an item again, later and otherwise", rows=_repeated_pairs
    ),
    "html_titles": Fault(
        doc="titles that are a piece of HTML and no text", items=_html_titles, families=AMAZON
    ),
    "html_prices": Fault(
        doc="prices that are style sheets",
        items=_html_prices,
        families=AMAZON,
        editions=("2018", "2023"),
    ),
    "missing_metadata": Fault(doc="rated items that no list describes", items=_missing_metadata),
    "null_fields": Fault(
        doc="rows without user, rating or time, items without title",
        rows=_null_fields_of_rows,
        items=_null_fields_of_items,
    ),
    "crlf": Fault(doc="line ends of Windows", form=_form(newline="\r\n")),
    "latin1": Fault(
        doc="accented titles in ISO-8859-1", form=_form(encoding="latin-1"), items=_accented_titles
    ),
    "string_or_list_fields": Fault(
        doc="a list where the others have a string, a string where they have a list",
        items=_string_or_list,
        families=JSON,
    ),
    "zero_ratings": Fault(doc="ratings of 0 stars", rows=_zero_ratings),
    "missing_images": Fault(doc="pictures that are named but not there", picture="missing"),
    "corrupt_images": Fault(doc="pictures cut off in the middle", picture="corrupt"),
    "huge_image": Fault(doc="one picture 50,000 pixels wide", picture="huge"),
    "image_that_is_text": Fault(doc="an error page in place of a picture", picture="text"),
    "millisecond_timestamps": Fault(
        doc="times a thousand times too large",
        rows=_millisecond_timestamps,
        families=("movielens", "amazon"),
    ),
    "future_timestamps": Fault(doc="times a century ahead", rows=_future_timestamps),
    "duplicate_metadata": Fault(doc="items described twice", items=_duplicate_metadata),
    "empty_texts": Fault(doc="items whose every text is empty", items=_empty_texts),
    "tie_timestamps": Fault(doc="users all of whose rows have one time", rows=_tie_timestamps),
    "tiny_clients": Fault(doc="half of the users have a single row", law=_law(lonely_users=0.5)),
    "extreme_imbalance": Fault(
        doc="995 ratings in 1,000 are the highest", law=_law(top_share=0.995)
    ),
    "one_hit_items": Fault(doc="three items in ten have a single row", law=_law(one_hit_items=0.3)),
}
"""Name → what it does. `source.synthetic.faults` takes the names."""
