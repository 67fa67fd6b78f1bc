"""Metadata of Amazon's products, three editions of it: one row a product, texts made plain.

2014: Python dicts. 2018: JSON, of which two releases lie about (`image`; `imageURL` and
`imageURLHighRes`), with pieces of HTML and CSS where the scraper failed. 2023: JSON, pictures as objects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import polars as pl

from fedprep.schema import Progress, Step
from fedprep.sources.jsonl import stage_jsonl
from fedprep.sources.markup import has_markup, plain_text, price, strings_of_json, text_of_json
from fedprep.sources.tidy import BAD_SHARE, repeated, tidy_ids

__all__ = ["no_items", "read_items"]

KEYS: Mapping[str, Mapping[str, str]] = {
    "2014": {
        "item": "asin",
        "title": "title",
        "description": "description",
        "brand": "brand",
        "price": "price",
        "categories": "categories",
        "image": "imUrl",
    },
    "2018": {
        "item": "asin",
        "title": "title",
        "description": "description",
        "features": "feature",
        "brand": "brand",
        "price": "price",
        "categories": "category",
        "image": "imageURLHighRes",
        "small_image": "imageURL",
        "old_image": "image",
    },
    "2023": {
        "item": "parent_asin",
        "title": "title",
        "description": "description",
        "features": "features",
        "brand": "store",
        "price": "price",
        "categories": "categories",
        "main_category": "main_category",
        "image": "images",
    },
}
TEXTS = ("title", "description", "features", "brand")
IMAGES = ("image", "small_image", "old_image")  # the best one first

URL = r'(https?://[^"\\\s]+)'
MAIN_PICTURE = r'(\{[^{}]*"variant":"MAIN"[^{}]*\})'


def read_items(
    path: Path,
    edition: str,
    out: Path,
    progress: Progress,
    max_bad_share: float = BAD_SHARE,
    markup: str = "clean",
) -> tuple[pl.LazyFrame, list[Step]]:
    """Returns the products, each once, and what was dropped or lost on the way.

    Columns: `item`, `title`, `categories`, `image` (a URL), `description`, `features` (not in 2014),
    `brand`, `price` f32.

    Raises:
        SourceError: the file is not of the edition's format.
    """
    rows, bad = stage_jsonl(
        path,
        KEYS[edition],
        out,
        name="metadata",
        literal=edition == "2014",
        transform=partial(_plain, plain=_as_written if markup == "keep" else plain_text),
        max_bad_share=max_bad_share,
        progress=progress,
    )
    rows, twice = repeated(rows, "item", "metadata")
    lost = [
        _lost(rows, "titles", "title", "title_markup", "were HTML or script, and no text was left"),
        _lost(rows, "prices", "price", "price_unread", "were no single number"),
    ]
    return rows.drop("line", "title_markup", "price_unread"), [bad, twice, *lost]


def no_items(edition: str) -> pl.LazyFrame:
    """Returns no product, with the columns of `read_items`."""
    texts = [name for name in TEXTS[1:] if name in KEYS[edition]]
    return pl.LazyFrame(
        schema={
            "item": pl.String(),
            "title": pl.String(),
            "categories": pl.List(pl.String()),
            "image": pl.String(),
            **dict.fromkeys(texts, pl.String()),
            "price": pl.Float32(),
        }
    )


def _as_written(texts: pl.Series) -> pl.Series:
    """Returns the texts with what they have of tags and entities; null in place of an empty one."""
    return texts.set(texts == "", None)


def _plain(rows: pl.DataFrame, *, plain: Callable[[pl.Series], pl.Series]) -> pl.DataFrame:
    """Returns the rows of a block with plain texts, numbers and lists, and what they came from."""
    texts = {name: text_of_json(rows[name]) for name in TEXTS if name in rows.columns}
    prices, unread = price(text_of_json(rows["price"]))
    columns = {
        "line": rows["line"],
        "item": tidy_ids(rows["item"]),
        "title": plain(texts["title"]),
        "categories": _categories(rows, plain),
        "image": _image(rows),
        **{name: plain(text) for name, text in texts.items() if name != "title"},
        "price": prices,
        "title_markup": has_markup(texts["title"]).fill_null(False),
        "price_unread": unread,
    }
    return pl.DataFrame(columns)


def _categories(rows: pl.DataFrame, plain: Callable[[pl.Series], pl.Series]) -> pl.Series:
    """Returns the distinct categories of each product, in order: the root first."""
    named = strings_of_json(rows["categories"], plain).list.unique(maintain_order=True)
    if "main_category" not in rows.columns:
        return named
    main = strings_of_json(rows["main_category"], plain)
    return named.zip_with(named.is_not_null(), main)


def _image(rows: pl.DataFrame) -> pl.Series:
    """Returns the address of each product's main picture, or of its first; the largest there is of it."""
    best = pl.col("image").str.extract(MAIN_PICTURE).fill_null(pl.col("image"))
    rows = rows.with_columns(image=best)
    sizes = [pl.col("image").str.extract(f'"{size}":"{URL}"') for size in ("hi_res", "large")]
    plain = [pl.col(name).str.extract(URL) for name in IMAGES if name in rows.columns]
    return rows.select(image=pl.coalesce(*sizes, *plain))["image"]


def _lost(rows: pl.LazyFrame, name: str, column: str, mark: str, why: str) -> Step:
    """Returns a step that counts the values that were there and could not be kept."""
    gone = pl.col(mark) & pl.col(column).is_null()
    counts = rows.select(
        kept=pl.col(column).count(),
        marked=pl.col(mark).sum(),
        gone=gone.sum(),
        first=pl.col("item").filter(gone).head(3).implode(),
    ).collect(engine="streaming")
    kept, marked, n_gone, first = counts.row(0)
    reasons = [f"{n_gone:,} {why}: null"] if n_gone else []
    reasons += [f"{marked - n_gone:,} had HTML taken out"] if marked > n_gone else []
    return Step(
        stage="read",
        name=f"unreadable {name}",
        rows_in=kept + n_gone,
        rows_out=kept,
        unit=name,
        why="; ".join(reasons),
        examples=tuple(f"item {item}" for item in first),
    )
