"""One text an item, from a template over its columns."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from typing import NamedTuple

import polars as pl

from fedprep.errors import RecipeError, nearest

__all__ = ["render_texts"]

PAIRS = {"(": ")", "[": "]", "{": "}", '"': '"', "'": "'", "“": "”", "«": "»"}

ELEMENTS = ", "
"""Stands between the elements of a list column."""


class Literal(NamedTuple):
    """What stands between two fields: `)` closes around the first, `By (` leads to the second."""

    closing: str
    separator: str
    label: str


class Template(NamedTuple):
    """`literals[i]` stands before `fields[i]`; the last literal ends the text."""

    fields: tuple[str, ...]
    literals: tuple[str, ...]


def render_texts(items: pl.DataFrame, template: str) -> pl.Series:
    """Returns the template filled for each item: String (n,), null where nothing is left.

    `{title}` is the column `title`; `{{` and `}}` are braces. The elements of a list column are joined
    by `", "`. A value that is null, blank, or an empty list vanishes, and with it

    - its label: the words before it, back to the field before, as in `"by {director}"`;
    - brackets or quotes that close around it alone;
    - one of the two separators beside it: the longer stays;
    - the separator at an end of the text, but not a mark that ends the template.

    With `"{title} ({year}). By {director}."`, an item without a year is `"Heat. By Mann."`, without a
    director `"Heat (1995)."`, without both `"Heat."`, without any of the three null.

    Raises:
        RecipeError: the template cannot be read, names no column or an unknown one.
    """
    parsed = _parse(template, items)
    values = {field: _as_text(items[field]) for field in dict.fromkeys(parsed.fields)}
    frame = pl.DataFrame(values, schema=dict.fromkeys(values, pl.String))
    # One expression for each set of columns that are missing together somewhere: few, of few columns.
    kinds = frame.select(pl.all().is_null()).unique(maintain_order=True)
    text = pl.lit(None, pl.String)
    for kind in kinds.iter_rows(named=True):
        left = tuple(field for field in parsed.fields if not kind[field])
        if left:
            same = pl.all_horizontal(
                pl.col(f).is_null() if none else pl.col(f).is_not_null() for f, none in kind.items()
            )
            text = pl.when(same).then(_filled(_without(parsed, kind))).otherwise(text)
    return frame.with_columns(text.alias("text"))["text"]


def _parse(template: str, items: pl.DataFrame) -> Template:
    where = f"embed.text.template = {template!r}"
    try:
        pieces = list(string.Formatter().parse(template))
    except ValueError as error:
        raise RecipeError(f"the template cannot be read: {error}", where=where) from None
    fields: list[str] = []
    literals = [""]
    for literal, field, spec, conversion in pieces:
        literals[-1] += literal
        if field is None:
            continue
        if spec or conversion:
            raise RecipeError(
                f"the field {{{field}}} has a format", where=where, expected=f"{{{field}}} alone"
            )
        _require_column(field, items, where)
        fields.append(field)
        literals.append("")
    if not fields:
        raise RecipeError("the template names no column", where=where, expected='such as "{title}"')
    return Template(tuple(fields), tuple(literals))


def _require_column(field: str, items: pl.DataFrame, where: str) -> None:
    if field not in items.columns:
        raise RecipeError(
            f"the items have no column '{field}'", where=where, hint=nearest(field, items.columns)
        )
    dtype = items.schema[field]
    inner = dtype.inner if isinstance(dtype, pl.List | pl.Array) else dtype
    if inner.is_nested() or inner in (pl.Binary, pl.Object):
        raise RecipeError(
            f"the column '{field}' holds no text",
            where=where,
            expected=f"text or a list of texts, not {dtype}",
        )


def _as_text(column: pl.Series) -> pl.Series:
    """Returns a column as String, null where it is null, blank or an empty list."""
    if isinstance(column.dtype, pl.List | pl.Array):
        lists = column.cast(pl.List(pl.String))
        parts = pl.element().str.strip_chars()
        column = lists.list.eval(parts.filter(parts != "")).list.join(ELEMENTS)
    text = column.cast(pl.String).str.strip_chars()
    return text.set(text == "", None)


def _without(template: Template, missing: Mapping[str, bool]) -> Template:
    """Returns the template without the fields that are missing; at least one is not."""
    fields: list[str] = []
    literals: list[str] = []
    before = Literal("", "", template.literals[0])
    for field, text in zip(template.fields, template.literals[1:], strict=True):
        after = _cut(text)
        if missing[field]:
            before = _joined(before, after)
        else:
            literals.append("".join(before) if fields else before.label)
            fields.append(field)
            before = after
    if missing[template.fields[-1]]:
        mark = _cut(template.literals[-1])
        literals.append(before.closing + ("" if mark.label else mark.separator.rstrip()))
    else:
        literals.append(template.literals[-1])
    return Template(tuple(fields), tuple(literals))


def _cut(text: str) -> Literal:
    """Returns the parts of a literal: the label begins with the first letter, digit or opening mark."""
    closing = text[: _span(text, lambda char: char in PAIRS.values())]
    rest = text[len(closing) :]
    separator = rest[: _span(rest, lambda char: not char.isalnum() and char not in PAIRS)]
    return Literal(closing, separator, rest[len(separator) :])


def _span(text: str, holds: Callable[[str], bool]) -> int:
    return next((i for i, char in enumerate(text) if not holds(char)), len(text))


def _joined(before: Literal, after: Literal) -> Literal:
    """Returns what stands in place of a literal, a missing value and a literal.

    Marks that close around the missing value alone go with it; one whose partner is elsewhere stays.
    """
    opened, closed = _opening(before.label), after.closing
    while opened and closed[:1] == PAIRS[opened[-1]]:
        opened, closed = opened[:-1], closed[1:]
    separator = max(before.separator, after.separator, key=lambda s: (len(s.strip()), len(s)))
    return Literal(before.closing + closed, separator, opened + after.label)


def _opening(label: str) -> str:
    """Returns the marks at either end of a label: `([` of `"(by ["`, nothing of `"director's "`."""
    text = label.strip()
    first = _span(text, lambda char: char in PAIRS)
    last = _span(text[first:][::-1], lambda char: char in PAIRS)
    return text[:first] + text[len(text) - last :]


def _filled(template: Template) -> pl.Expr:
    pieces: list[pl.Expr] = []
    for literal, field in zip(template.literals, [*template.fields, None], strict=True):
        pieces += [pl.lit(literal)] if literal else []
        pieces += [pl.col(field)] if field is not None else []
    return pl.concat_str(pieces)
