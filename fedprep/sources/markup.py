"""Whole columns of scraped text made plain: HTML, entities, prices, lists inside of strings."""

from __future__ import annotations

import html
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

__all__ = [
    "ENTITY",
    "has_markup",
    "lists_without_markup",
    "plain_text",
    "price",
    "strings_of_json",
    "text_of_json",
    "without_markup",
]

# Only HTML's own elements: `<Untitled>` and `x <y` are text.
ELEMENTS = (
    "a|abbr|area|article|aside|audio|b|base|big|blockquote|body|br|button|canvas|caption|center|cite|"
    "code|col|colgroup|dd|del|div|dl|dt|em|embed|figcaption|figure|font|footer|form|h[1-6]|head|header|"
    "hr|html|i|iframe|img|input|ins|kbd|label|li|link|main|map|meta|nav|noscript|object|ol|option|p|"
    "param|pre|q|s|samp|script|section|select|small|source|span|strike|strong|style|sub|sup|svg|table|"
    "tbody|td|textarea|tfoot|th|thead|title|tr|tt|u|ul|var|video|wbr"
)
TAG = (
    rf"(?is)<(?:script|style)\b[^<>]*>.*?(?:</(?:script|style)\s*>|\z)"
    rf"|<!--.*?(?:-->|\z)"
    rf"""|</?(?:{ELEMENTS})(?:\s(?:"[^"]*"|'[^']*'|[^<>"'])*)?/?>"""
    rf"|</?(?:{ELEMENTS})\s[^<>]*>"
    rf"|<(?:{ELEMENTS})\s+[a-z-]+\s*=[^<>]*\z"  # cut off inside of a tag
)
SCRIPT = r"\.getTime\(\)"  # of the page itself: what the 2018 scraper kept where it found no title
SPACE = r"[\s\x00]{2,}|[^\S ]|\x00"  # all but a single blank
ENTITY = r"&(?:#[0-9]+|#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]*);"
PRICE = r"^(?:US)?\s?\$?\s?(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)$"
NO_PRICE = ("", "None", "null")

# DuckDB writes JSON without spaces; a text in square brackets is no list.
LIST = r'(?s)^\[(?:(?:["\[{\]]|null\b|true\b|false\b|-?\d).*)?\]$'
STRING = r'"(?:[^"\\]|\\.)*"'
BACKSLASH = "\x01"


def has_markup(texts: pl.Series) -> pl.Series:
    """Returns whether each text holds an HTML tag or a piece of script: Boolean, null for null."""
    return texts.str.contains(f"{TAG}|{SCRIPT}")


def plain_text(texts: pl.Series) -> pl.Series:
    """Returns the texts without tags, entities resolved, white space single; null where nothing is left.

    A text with a piece of script in it is a page's, not an item's: nothing is left of it.
    """
    plain = texts
    if plain.str.contains("[<&]").any():
        # Again behind the entities: descriptions were often escaped twice.
        plain = _without_tags(_without_entities(_without_tags(plain)))
    if plain.str.contains(SCRIPT).any():
        plain = plain.set(plain.str.contains(SCRIPT).fill_null(False), None)
    plain = plain.str.replace_all(SPACE, " ").str.strip_chars()
    return plain.set(plain == "", None)


def without_markup(texts: pl.Series) -> tuple[pl.Series, int]:
    """Returns `plain_text` of the texts that have markup, the others as they are, and how many had.

    `AT&T <3 you`, `a < b > c` and `<unk>` have none.
    """
    if not texts.str.contains("[<&]").any():
        return texts, 0
    plain = plain_text(texts)
    single = texts.str.replace_all(SPACE, " ").str.strip_chars()
    marked = (single != plain.fill_null("")).fill_null(False)
    return plain.zip_with(marked, texts), int(marked.sum())


def lists_without_markup(lists: pl.Series) -> pl.Series:
    """Returns `without_markup` of the texts in lists; those of which nothing is left are left out."""
    flat = lists.explode(empty_as_null=False, keep_nulls=False)
    plain, n_marked = without_markup(flat)
    if not n_marked:
        return lists
    return _listed(plain, lists.list.len().fill_null(0).to_numpy()).alias(lists.name)


def _without_tags(texts: pl.Series) -> pl.Series:
    return texts.str.replace_all(TAG, " ")


def _without_entities(texts: pl.Series) -> pl.Series:
    found = texts.str.extract_all(ENTITY).explode().drop_nulls().unique().sort().to_list()
    known = {entity: html.unescape(entity) for entity in found}
    known = {entity: text for entity, text in known.items() if text != entity}
    return texts.str.replace_many(known) if known else texts


def price(texts: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Returns the prices (Float32), and whether a price was there that is no single plain number.

    `"$1,250.00"` is 1250; a range, `"from 14.99"`, a dash or a style sheet is no price.
    """
    trimmed = texts.str.strip_chars()
    values = trimmed.str.extract(PRICE).str.replace_all(",", "", literal=True).cast(pl.Float32)
    absent = trimmed.is_null() | trimmed.is_in(NO_PRICE)
    return values, values.is_null() & ~absent


def text_of_json(values: pl.Series) -> pl.Series:
    """Returns each string as it is, and the strings of each JSON list joined by spaces."""
    lists = values.str.contains(LIST).fill_null(False)
    if not lists.any():
        return values
    joined = _unescaped(
        values.filter(lists).str.extract_all(STRING).list.eval(_unquoted()).list.join(" ")
    )
    return values.scatter(lists.arg_true(), joined)


def strings_of_json(
    values: pl.Series, plain: Callable[[pl.Series], pl.Series] = plain_text
) -> pl.Series:
    """Returns the strings of each JSON list (of lists), in order, as List(String); a string alone is one.

    Empty strings are left out; null where nothing is left. `plain` makes each of them plain.
    """
    lists = values.str.contains(LIST).fill_null(False)
    parts = pl.select(
        pl.when(lists)
        .then(values.str.extract_all(STRING).list.eval(_unquoted()))
        .otherwise(pl.concat_list(values))
    ).to_series()
    counts = parts.list.len().fill_null(0)
    flat = parts.explode(empty_as_null=False, keep_nulls=False)
    return _listed(plain(_unescaped(flat)), counts.to_numpy())


def _unquoted() -> pl.Expr:
    return pl.element().str.strip_prefix('"').str.strip_suffix('"')


def _unescaped(texts: pl.Series) -> pl.Series:
    """Returns the texts of JSON strings; control characters come out as spaces."""
    if not texts.str.contains("\\", literal=True).any():
        return texts
    return (
        texts.str.replace_all("\\\\", BACKSLASH, literal=True)
        .str.replace_all('\\"', '"', literal=True)
        .str.replace_all("\\/", "/", literal=True)
        .str.replace_all(r"\\[bfnrt]|\\u[0-9a-fA-F]{4}", " ")
        .str.replace_all(BACKSLASH, "\\", literal=True)
    )


def _listed(flat: pl.Series, counts: npt.NDArray[np.uint32]) -> pl.Series:
    """Returns lists of the given lengths without their nulls; null where a list is empty."""
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    array = pa.LargeListArray.from_arrays(
        pa.array(offsets), flat.to_arrow().cast(pa.large_string())
    )
    lists = pl.Series(pl.from_arrow(array)).list.drop_nulls()
    return lists.set(lists.list.len() == 0, None)
