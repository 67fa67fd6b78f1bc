"""Python dict literals, one a line, as JSON: the form of Amazon's 2014 metadata.

`repr` of a dict differs from JSON in its quotes and escapes. Most lines are turned into JSON by whole-
column replacements; what is then no JSON is left to `ast.literal_eval`, a line at a time.
"""

from __future__ import annotations

import ast
import json
import warnings

import polars as pl

__all__ = ["eval_literals", "json_of_literals"]

# Control characters never stand raw in a literal or in JSON, so they can stand for what is set aside.
BACKSLASH, SINGLE, DOUBLE, END, START = "\x01", "\x02", "\x03", "\x04", "\x05"

# Not touched: set-aside characters, and `\/`, which is one character in JSON and two in Python.
UNSAFE = r"[\x01-\x05]|\\/"
CONSTANTS = {"True": "true", "False": "false", "None": "null"}


def json_of_literals(lines: pl.DataFrame) -> pl.DataFrame:
    """Returns the lines with `text` as JSON wherever a rewriting of quotes and escapes makes it so.

    A rewritten line that is valid JSON means what Python would read. Others may come out as anything
    that is no JSON (numbers as keys, tuples): leave those to `eval_literals`. Lines that are
    JSON already stay as they are in meaning.
    """
    text = pl.col("text")
    aside = (
        text.str.replace_all("\\\\", BACKSLASH, literal=True)
        .str.replace_all("\\'", SINGLE, literal=True)
        .str.replace_all('\\"', DOUBLE, literal=True)
    )
    # Now a quote begins or ends a string, or stands inside one of the other quotes.
    plain = pl.col("aside").str.replace_all("'", '"', literal=True)
    mixed = (
        pl.col("aside")
        .str.replace_all(r"""u?'([^']*)'|u?"([^"]*)\"""", f"{START}$1$2{END}")
        .str.replace_all('"', '\\"', literal=True)
    )
    for python, json_ in CONSTANTS.items():  # as values of keys: a string's end is before the colon
        mixed = mixed.str.replace_all(rf"({END}\s*:\s*){python}\b", f"${{1}}{json_}")
    mixed = mixed.str.replace_all(f"[{START}{END}]", '"')
    back = (
        pl.col("aside")
        .str.replace_all(r"\\x([0-9a-fA-F]{2})", r"\u00$1")
        .str.replace_all(DOUBLE, '\\"', literal=True)
        .str.replace_all(SINGLE, "'", literal=True)
        .str.replace_all(BACKSLASH, "\\\\", literal=True)
    )
    unsafe = text.str.contains(UNSAFE)
    safe = lines.filter(~unsafe).with_columns(aside=aside)
    is_mixed = pl.col("aside").str.contains(r"""["]|u'|:\s*(?:True|False|None)\b""")
    parts = [
        safe.filter(~is_mixed).with_columns(aside=plain),
        safe.filter(is_mixed).with_columns(aside=mixed),
    ]
    rewritten = pl.concat(parts).select("line", text=back)
    return pl.concat([rewritten, lines.filter(unsafe)]).sort("line")


def eval_literals(lines: pl.DataFrame) -> pl.DataFrame:
    """Returns the lines with `text` as JSON, read by Python; those that are no dict are left out."""
    texts = [_json_of(text) for text in lines["text"].to_list()]
    return lines.with_columns(pl.Series("text", texts, dtype=pl.String)).filter(
        pl.col("text").is_not_null()
    )


def _json_of(text: str) -> str | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # Python 3.12: "\/" is no escape
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.11: the same
        try:
            value = ast.literal_eval(text)
            return json.dumps(value) if isinstance(value, dict) else None
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return None
