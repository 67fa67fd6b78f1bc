"""Items and users: ids that number their rows, and texts that are there and plain."""

from __future__ import annotations

import polars as pl

from fedprep.checks.check import Check, NotAsked
from fedprep.checks.limits import Limits
from fedprep.checks.tables import Tables
from fedprep.schema import ITEM_ID, USER_ID

__all__ = ["CHECKS", "MARKUP"]

KEYS = {"items": ITEM_ID, "users": USER_ID}

# HTML's own elements, comments and entities: `<Untitled>`, `a <b and c> d` and "AT&T;" are text.
ELEMENTS = (
    "a|abbr|article|aside|audio|b|big|blockquote|body|br|button|center|cite|code|dd|del|div|dl|dt|em|embed|"
    "figure|font|footer|form|h[1-6]|head|header|hr|html|i|iframe|img|input|ins|label|li|link|main|meta|nav|"
    "noscript|object|ol|option|p|param|pre|q|s|script|section|select|small|span|strike|strong|style|sub|sup|"
    "svg|table|tbody|td|textarea|tfoot|th|thead|title|tr|tt|u|ul|video"
)
MARKUP = (
    rf"(?is)<(?:{ELEMENTS})(?:\s[^<>]*=[^<>]*)?\s*/?>|</(?:{ELEMENTS})\s*>"
    r"|<!--|<!doctype\b"
    r"|&(?:amp|lt|gt|quot|apos|nbsp|[lr][sd]quo|[mn]dash|hellip|reg|trade|copy|#\d{2,6}|#x[0-9a-f]{2,5});"
)
"""What a text has that is a piece of a web page."""


def ids_are_dense_and_unique(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Rows of items and users whose id is missing, or is that of a row before.

    Ids of a Dataset number its rows, 0, 1, 2 …: there an id that is not below the number of rows, or is
    lower than one before it, offends too.
    """
    found = []
    for table, key in KEYS.items():
        frame: pl.LazyFrame | None = getattr(tables, table)
        if frame is not None and key in tables.columns(table):
            dense = tables.manifest is not None and tables.columns(table)[key].is_integer()
            found.append(_wrong_ids(frame, key, dense=dense, table=table))
    if not found:
        raise NotAsked("there is neither a table of items nor one of users")
    return pl.concat(found)


def _wrong_ids(frame: pl.LazyFrame, key: str, *, dense: bool, table: str) -> pl.LazyFrame:
    an_id = pl.col(key)
    problems = {
        "missing": an_id.is_null(),
        "repeated": ~an_id.is_first_distinct(),
    }
    if dense:
        problems["not below the number of rows"] = ~an_id.is_between(0, pl.len() - 1)
        problems["out of order"] = an_id < an_id.cum_max().forward_fill().shift(1)
    problem = pl.coalesce(pl.when(holds).then(pl.lit(name)) for name, holds in problems.items())
    return (
        frame.select(key)
        .select(
            pl.lit(table).alias("table"),
            pl.int_range(pl.len(), dtype=pl.Int64).alias("row"),
            an_id.cast(pl.String).alias("id"),
            problem.alias("problem"),
        )
        .filter(pl.col("problem").is_not_null())
    )


def texts_are_present(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Items whose text is missing or blank."""
    assert tables.items is not None
    blank = pl.col("text").str.strip_chars().str.len_bytes() == 0
    return _share(tables.items, blank.fill_null(True), limits.max_missing_text_share, shown=False)


def texts_are_not_markup(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Items whose text has tags, comments or entities of HTML."""
    assert tables.items is not None
    texts = tables.items.filter(pl.col("text").is_not_null())
    return _share(texts, pl.col("text").str.contains(MARKUP), limits.max_markup_share, shown=True)


def _share(items: pl.LazyFrame, offends: pl.Expr, limit: float, *, shown: bool) -> pl.LazyFrame:
    """Returns the items that offend, or none of them where they are no more than a share of these items."""
    many = offends.sum() > limit * pl.len()
    text = [pl.col("text").str.slice(0, 120)] if shown else []
    title = ["title"] if "title" in items.collect_schema() and not shown else []
    return items.filter(offends & many).select(ITEM_ID, *title, *text)


CHECKS = (
    Check(
        name="ids_are_dense_and_unique",
        group="items",
        unit="rows",
        of="items and users",
        function=ids_are_dense_and_unique,
        means="Ids of items or users are missing, there twice, or not 0, 1, 2 …: look-ups find another row.",
        todo="Number the rows again, and the ids in all other tables with them: fedprep build does.",
    ),
    Check(
        name="texts_are_present",
        group="items",
        unit="items",
        of="table of items",
        function=texts_are_present,
        needs=("items.text",),
        severity="warn",
        limits=("max_missing_text_share",),
        means="Items have no text: they have no text embedding, and a model cannot know them by content.",
        todo="Bring metadata (source.items, another template), or set clean.metadata = \"drop\".",
    ),
    Check(
        name="texts_are_not_markup",
        group="items",
        unit="items",
        of="table of items",
        function=texts_are_not_markup,
        needs=("items.text",),
        severity="warn",
        limits=("max_markup_share",),
        means="Texts hold HTML: an encoder sees tags where it should see words.",
        todo="Strip tags and entities before the build, or take another column into the template.",
    ),
)  # fmt: skip
