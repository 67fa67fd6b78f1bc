"""Lists inside of texts: JSON's, Python's, NumPy's, and lists of objects that have a name."""

from __future__ import annotations

import polars as pl

from fedprep.errors import SourceError
from fedprep.sources.literals import json_of_literals

__all__ = ["BRACKETS", "NAME_KEYS", "strings_of_lists"]

NAME_KEYS = (
    "name",
    "title",
    "label",
    "value",
    "category",
    "genre",
    "tag",
    "url",
    "hi_res",
    "large",
)
"""What the text of an object is called, the best first."""

BRACKETS = r"(?s)^\s*(?:\[.*\]|\(.*\)|\{.*\})\s*$"
NUMPY = r"""(['"])\s+(u?['"])"""
"""Two texts without a comma between them: how NumPy prints an array."""


def strings_of_lists(texts: pl.Series) -> pl.Series:
    """Returns the texts in each list, as List(String), in order; null where a text is no list.

    `["A", "B"]`, `['A', "it's"]`, `('A',)`, `{'A', 'B'}`, `['A' 'B']`, `[["A"], ["B"]]`, and
    `[{"id": 18, "name": "Drama"}]`, of which the names are taken. `[]` is an empty list. Text in
    brackets that can be read in none of these ways is no list.

    Raises:
        SourceError: objects without a name.
    """
    import duckdb

    lines = texts.to_frame("text").with_row_index("line")
    lines = lines.filter(pl.col("text").str.contains(BRACKETS))
    if lines.is_empty():
        return pl.Series(texts.name, [None] * len(texts), dtype=pl.List(pl.String))
    written = lines.with_columns(
        pl.col("text")
        .str.strip_chars()
        .str.replace(r"(?s)^\((.*?),?\s*\)$", "[$1]")  # a tuple
        .str.replace(r"""(?s)^\{(\s*u?['"][^:]*)\}$""", "[$1]")  # a set
    )
    texts_of = written.with_columns(pl.col("text").str.replace_all(NUMPY, "$1, $2"))
    known = pl.concat(
        [
            frame.with_columns(order=pl.lit(order))
            for order, frame in enumerate(
                (written, texts_of, json_of_literals(written), json_of_literals(texts_of))
            )
        ]
    ).select("line", "text", "order")
    connection = duckdb.connect(config={"threads": 1})
    connection.register("known", known.to_arrow())
    name = ", ".join(f"json_extract_string(x, '$.{key}')" for key in NAME_KEYS)
    found = connection.sql(
        f"""
        WITH valid AS (
            SELECT line, text, row_number() OVER (PARTITION BY line ORDER BY "order") AS n
            FROM known WHERE json_valid(text)
        ), parts AS (
            SELECT line, CASE json_type(text) WHEN 'OBJECT' THEN [text::JSON]
                ELSE json_extract(text, '$[*]') END AS part FROM valid WHERE n = 1
        ), flat AS (
            SELECT line, flatten([CASE json_type(x) WHEN 'ARRAY' THEN json_extract(x, '$[*]')
                ELSE [x] END for x in part]) AS part FROM parts
        )
        SELECT line,
            [CASE json_type(x) WHEN 'OBJECT' THEN coalesce({name})
                ELSE json_extract_string(x, '$') END for x in part] AS names,
            len([1 for x in part if json_type(x) = 'OBJECT' AND coalesce({name}) IS NULL]) AS nameless
        FROM flat ORDER BY line
        """
    )
    table = pl.DataFrame(pl.from_arrow(found.to_arrow_table()))
    if table["nameless"].sum():
        first = texts[table.filter(pl.col("nameless") > 0)["line"][0]]
        raise SourceError(
            f"`{texts.name}` has objects without a name, such as {first[:80]}",
            expected=" or ".join(f"'{key}'" for key in NAME_KEYS),
        )
    names = table.select(
        pl.col("line").cast(pl.UInt32), pl.col("names").cast(pl.List(pl.String)).list.drop_nulls()
    )
    every = pl.int_range(len(texts), dtype=pl.UInt32, eager=True).alias("line").to_frame()
    return every.join(names, on="line", how="left", maintain_order="left")["names"].alias(
        texts.name
    )
