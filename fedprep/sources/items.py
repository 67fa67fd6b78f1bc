"""An extra table of items, joined to a source: plots, pictures, better titles (`[source.items]`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from fedprep import recipe
from fedprep.errors import RecipeError, SourceError
from fedprep.schema import ITEM_ID, ITEMS, SOURCE_ID, RawTables, Step
from fedprep.sources.columns import WHOLE, in_type, shared_type
from fedprep.sources.delimited import Dialect
from fedprep.sources.lists import BRACKETS, NAME_KEYS, strings_of_lists
from fedprep.sources.markup import ENTITY, lists_without_markup, without_markup
from fedprep.sources.tabular import stage_tabular
from fedprep.sources.tidy import BLANKS, refuse_bad_lines, tidy_ids

__all__ = ["join_items", "plain_items"]

KEY = "item"
IMAGE = "image"
INTEGER = r"^-?(?:0|[1-9]\d*)$"
OURS = ("line", "text", ITEM_ID, SOURCE_ID)
"""Names that a column of items cannot have: the stages give them themselves."""


def join_items(
    raw: RawTables, path: Path, table: recipe.ItemsTable, *, markup: str = "clean"
) -> RawTables:
    """Returns the tables of a source with the columns of an extra table of items.

    A column that the source has too takes the extra value where there is one, in the source's type. An
    item that only the interactions know gets its row. Text is stripped and, unless `markup` is "keep",
    freed of tags and entities; an empty one, or one of `table.missing`, is null. Lists in text, JSON's or
    Python's, are lists for `categories`, the first address for `image`, and their texts joined for other
    columns. Other text for `categories` is split at `|` where the column has any, else at commas, else at
    `;`. The extra table is held in memory.

    The steps tell its bad lines, rows without a key, rows on items that the source does not know, repeated
    rows (the first one counts), and how many of the source's items it says nothing of.

    Args:
        raw: the source's tables; left as they are.
        path: the extra table: delimited text, JSON lines or Parquet.
        table: `[source.items]` of the recipe.
        markup: `source.markup`.

    Raises:
        RecipeError: a wrong column map or setting.
        SourceError: no such column, a file that cannot be read or has too many bad lines, or one that
            knows none of the items.
    """
    _check(table.columns)
    schema = raw.items.collect_schema()
    described = raw.items.select(KEY).collect(engine="streaming")[KEY]
    rated = raw.interactions.select(pl.col(KEY).unique()).collect(engine="streaming")[KEY]
    known = pl.concat([described, rated]).unique().sort()
    extra, steps = _read(path, table, known)
    extra, more = _without_markup(extra, markup, path)
    steps += more
    extra, more = _rows_that_count(extra, known, path)
    steps += more
    extra, more = _in_types(extra, schema, markup)
    steps += more
    shared = [name for name in extra.columns if name in schema and name != KEY]
    joined = raw.items.join(
        extra.lazy(), on=KEY, how="full", coalesce=True, suffix=" of the extra table"
    )
    better = {name: pl.coalesce(f"{name} of the extra table", name) for name in shared}
    items = joined.with_columns(**better).drop(f"{name} of the extra table" for name in shared)
    return replace(raw, items=items, steps=[*raw.steps, *steps])


def plain_items(raw: RawTables) -> RawTables:
    """Returns the tables of a source with the texts on its items freed of tags and entities.

    A step tells how many had any; where none had, the tables are handed back as they are.
    """
    items = raw.items.collect(engine="streaming")
    n_marked = 0
    for name, dtype in items.schema.items():
        if name in (KEY, IMAGE):
            continue
        if dtype == pl.String():
            plain, marked = without_markup(items[name])
            n_marked += marked
            items = items.with_columns(plain.alias(name))
        elif dtype == pl.List(pl.String):
            items = items.with_columns(lists_without_markup(items[name]))
    told = _told("markup in items", items, f"{n_marked:,} texts had HTML taken out")
    return replace(raw, items=items.lazy(), steps=[*raw.steps, *([told] if n_marked else [])])


def _check(columns: Mapping[str, str | int]) -> None:
    if KEY not in columns:
        raise RecipeError(
            "source.items.columns does not say which column is the item's id",
            expected='item = "…" in [source.items.columns]',
        )
    for name in columns:
        if name in OURS:
            raise RecipeError(
                f"a column of items cannot be called '{name}'",
                where="source.items.columns",
                hint=f'choose another name on the left, such as {name}_ = "{columns[name]}"',
            )


def _read(
    path: Path, table: recipe.ItemsTable, known: pl.Series
) -> tuple[pl.DataFrame, list[Step]]:
    """Returns the extra table with its key in the source's type, tidied, and what was dropped."""
    with TemporaryDirectory() as work:
        frame, bad_lines = stage_tabular(
            path,
            table.columns,
            Path(work),
            name=path.name,
            form=table.format,
            dialect=Dialect(
                separator=table.separator,
                header=table.header,
                encoding=table.encoding,
                quote=table.quote,
            ),
            max_bad_share=table.max_bad_share,
        )
        extra = frame.collect(engine="streaming")
    extra = extra.with_columns(pl.col(pl.Categorical, pl.Enum, pl.Null).cast(pl.String))
    written = extra[KEY]
    absent = pl.Series(["", *table.missing], dtype=pl.String)
    text = pl.col(pl.String).str.strip_chars(BLANKS)
    extra = extra.with_columns(pl.when(~text.is_in(absent.implode())).then(text))
    key_type = known.dtype
    shared = shared_type(KEY, [extra.schema[KEY]], [path])  # refuses what can be no id
    extra = extra.with_columns(in_type(KEY, extra.schema[KEY], key_type).alias(KEY))
    if key_type == pl.String():
        extra = extra.with_columns(tidy_ids(extra[KEY]))
        if shared == pl.String() and known.str.contains(INTEGER).all():
            extra = extra.with_columns(pl.col(KEY).str.replace(WHOLE, "$1"))
    kept = extra.filter(pl.col(KEY).is_not_null())
    why = (
        "no id"
        if key_type == pl.String()
        else "no id, or one that is no integer as the source's are"
    )
    no_id = _step(f"rows without an id in {path.name}", extra, kept, why)
    refuse_bad_lines(
        bad_lines.dropped + no_id.dropped,
        bad_lines.rows_in,
        table.max_bad_share,
        name=path.name,
        why="; ".join(filter(None, [bad_lines.why, no_id.why])),
        where=f"{path}, {', '.join((*bad_lines.examples, *no_id.examples))}",
    )
    steps = [bad_lines, no_id]
    if written.dtype == pl.String() and (n := (extra[KEY].cast(pl.String) != written).sum()):
        why = f"{n:,} ids: blanks cut, letters composed, 7.0 read as 7"
        steps.append(_told(f"ids tidied in {path.name}", extra, why))
    return kept, steps


def _without_markup(
    extra: pl.DataFrame, markup: str, path: Path
) -> tuple[pl.DataFrame, list[Step]]:
    """Returns the table with plain texts, and a step that tells how many had markup; none where none had."""
    if markup == "keep":
        return extra, []
    n_marked = 0
    for name, dtype in extra.schema.items():
        if name in (KEY, IMAGE) or dtype != pl.String():
            continue
        # Texts in lists are made plain when the list has been taken apart.
        lists = extra[name].str.contains(BRACKETS).fill_null(False)
        plain, marked = without_markup(extra[name].set(lists, None))
        n_marked += marked
        extra = extra.with_columns(plain.zip_with(~lists, extra[name]).alias(name))
    if not n_marked:
        return extra, []
    return extra, [_told(f"markup in {path.name}", extra, f"{n_marked:,} texts had HTML taken out")]


def _told(name: str, rows: pl.DataFrame, why: str) -> Step:
    """Returns a step that drops nothing and tells something."""
    return Step(stage="read", name=name, rows_in=rows.height, rows_out=rows.height, why=why)


def _rows_that_count(
    extra: pl.DataFrame, known: pl.Series, path: Path
) -> tuple[pl.DataFrame, list[Step]]:
    """Returns the first row on each known item, and steps that count the others."""
    on_known = extra.filter(pl.col(KEY).is_in(known.implode()))
    if on_known.is_empty():
        raise SourceError(
            f"{path.name} has rows on {extra.height:,} items, but on none of the source's {len(known):,}",
            where=str(path),
            hint="is `item` the right column, and is its id the source's own?",
        )
    first = on_known.filter(pl.col(KEY).is_first_distinct())
    silent = known.filter(~known.is_in(first[KEY].implode()))
    missing = Step(
        stage="read",
        name=f"items without a row in {path.name}",
        rows_in=len(known),
        rows_out=first.height,
        unit="items",
        why="kept as the source has them" if len(silent) else "",
        examples=tuple(f"item {item}" for item in silent.head(3).to_list()),
    )
    steps = [
        _step(
            f"rows on unknown items in {path.name}", extra, on_known, "the source has no such item"
        ),
        _step(f"repeated items in {path.name}", on_known, first, "the first row of an item counts"),
        missing,
    ]
    return first.drop("line"), steps


def _step(name: str, before: pl.DataFrame, after: pl.DataFrame, why: str) -> Step:
    dropped = before.filter(~pl.col("line").is_in(after["line"].implode()))["line"].head(3)
    return Step(
        stage="read",
        name=name,
        rows_in=before.height,
        rows_out=after.height,
        why=why if len(dropped) else "",
        examples=tuple(f"line {line}" for line in dropped.to_list()),
    )


def _in_types(
    extra: pl.DataFrame, schema: pl.Schema, markup: str
) -> tuple[pl.DataFrame, list[Step]]:
    """Returns the extra columns in the types of the source's, and steps for values that do not fit."""
    steps = []
    for name in extra.columns:
        wanted = schema.get(name, ITEMS.get(name))
        if wanted == pl.String() or wanted is None:
            extra = extra.with_columns(_texts(extra[name], markup))
        before = extra[name]
        if wanted == pl.List(pl.String) and isinstance(before.dtype, pl.List):
            extra = extra.with_columns(_listed_categories(before, markup))
            continue
        if name == KEY or wanted is None or before.dtype == wanted:
            continue
        if wanted == pl.List(pl.String) and before.dtype == pl.String():
            extra = extra.with_columns(_categories(before, markup))
            continue
        # A struct is not refused by `cast`, but handed back as it is.
        after = before if before.dtype.is_nested() else before.cast(wanted, strict=False)
        if after.dtype != wanted:
            raise SourceError(
                f"`{name}` of the extra items is {before.dtype}, and the source's is {wanted}",
                hint="give it another name, or leave it out of source.items.columns",
            )
        extra = extra.with_columns(after)
        n_before, n_after = before.count(), after.count()
        if n_after < n_before:
            steps.append(
                Step(
                    stage="read",
                    name=f"extra values of `{name}` that are not {wanted}",
                    rows_in=n_before,
                    rows_out=n_after,
                    unit="values",
                )
            )
    return extra, steps


def _texts(values: pl.Series, markup: str) -> pl.Series:
    """Returns texts with lists in them joined; of a picture's the first address; others as they are."""
    if values.dtype == pl.List(pl.String):
        return values if values.name != IMAGE else values.list.first()
    if values.dtype != pl.String() or not values.str.contains(r"^[\[({]").any():
        return values
    lists = strings_of_lists(values)
    plain = _plain_lists(lists, markup)
    joined = plain.list.first() if values.name == IMAGE else plain.list.join(" ")
    joined = joined.set(joined == "", None)
    return values.zip_with(lists.is_null(), joined).alias(values.name)


def _categories(text: pl.Series, markup: str) -> pl.Series:
    """Returns lists of categories from text such as `A|B`, `A, B`, `["A", "B"]`; null where empty."""
    lists = strings_of_lists(text)
    plain = text.set(lists.is_not_null(), None)
    without_entities = plain.str.replace_all(ENTITY, "")
    found = (s for s in "|,;" if without_entities.str.contains(s, literal=True).any())
    separator = next(found, ",")
    parts = plain.str.split(separator)
    both = pl.select(pl.when(lists.is_null()).then(parts).otherwise(lists)).to_series()
    return _distinct(_plain_lists(both, markup)).alias(text.name)


def _listed_categories(values: pl.Series, markup: str) -> pl.Series:
    """Returns lists of names from lists of texts, of numbers, or of objects with a name."""
    inner = values.dtype.inner  # type: ignore[attr-defined]
    if isinstance(inner, pl.Struct):
        key = next((k for k in NAME_KEYS if k in {field.name for field in inner.fields}), None)
        if key is None:
            raise SourceError(
                f"the objects in `{values.name}` have no name",
                expected=" or ".join(f"'{key}'" for key in NAME_KEYS),
            )
        values = values.list.eval(pl.element().struct.field(key))
    return _distinct(_plain_lists(values.cast(pl.List(pl.String)), markup)).alias(values.name)


def _plain_lists(lists: pl.Series, markup: str) -> pl.Series:
    return lists if markup == "keep" else lists_without_markup(lists)


def _distinct(lists: pl.Series) -> pl.Series:
    parts = lists.list.eval(pl.element().str.strip_chars(BLANKS))
    parts = parts.list.eval(pl.element().filter(pl.element() != ""))
    parts = parts.list.unique(maintain_order=True)
    return parts.set(parts.list.len() == 0, None)
