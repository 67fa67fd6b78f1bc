"""Templates over items: what is written, what vanishes with a missing value, what is refused."""

from __future__ import annotations

import datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprep.embed import render_texts
from fedprep.errors import RecipeError

FILM: dict[str, Any] = {
    "title": "Heat",
    "year": 1995,
    "director": "Mann",
    "categories": ["Crime", "Drama"],
}


def render(template: str, *without: str) -> str | None:
    """Renders one film without some of its values."""
    frame = pl.DataFrame([FILM]).with_columns(
        pl.lit(None).cast(pl.DataFrame([FILM]).schema[name]).alias(name) for name in without
    )
    text: str | None = render_texts(frame, template)[0]
    return text


@pytest.mark.parametrize(
    ("template", "without", "text"),
    [
        ("{title}. {categories}", (), "Heat. Crime, Drama"),
        ("{title}. {categories}", ("categories",), "Heat"),
        ("{title}. {categories}", ("title",), "Crime, Drama"),
        ("{title}. {categories}", ("title", "categories"), None),
        ("{title}. {categories}.", ("categories",), "Heat."),
        ("{title} ({year}). By {director}.", (), "Heat (1995). By Mann."),
        ("{title} ({year}). By {director}.", ("year",), "Heat. By Mann."),
        ("{title} ({year}). By {director}.", ("director",), "Heat (1995)."),
        ("{title} ({year}). By {director}.", ("year", "director"), "Heat."),
        ("{title} ({year}). By {director}.", ("title",), "(1995). By Mann."),
        ("{title} (by {director})", ("director",), "Heat"),
        ("({title}, {year})", ("year",), "(Heat)"),
        ("({title}, {year})", ("title",), "(1995)"),
        ("Title: {title}; genres: {categories}", ("title",), "genres: Crime, Drama"),
        ("Title: {title}; genres: {categories}", ("categories",), "Title: Heat"),
        ("the director's {director}, {year}", ("director",), "1995"),
        ("{title}, {year}. {director}", ("year",), "Heat, Mann"),
        ("“{title}” was made for {year} dollars", ("year",), "“Heat”"),
        ("{{{title}}} {year}", ("title",), "1995"),
        ("{title} {title}", (), "Heat Heat"),
    ],
)
def test_a_missing_value_takes_its_label_and_marks_with_it(
    template: str, without: tuple[str, ...], text: str | None
) -> None:
    assert render(template, *without) == text


def test_blank_texts_empty_lists_and_blank_elements_are_missing() -> None:
    items = pl.DataFrame(
        {"title": ["A", " ", "C ", None], "categories": [["x", " ", None, " y"], [], [""], None]}
    )
    assert render_texts(items, "{title}: {categories}").to_list() == ["A: x, y", None, "C", None]


def test_numbers_and_dates_are_written_plainly() -> None:
    items = pl.DataFrame({"n": [3], "x": [0.5], "day": [datetime.date(2020, 1, 2)]})
    assert render_texts(items, "{n} {x} {day}").to_list() == ["3 0.5 2020-01-02"]


def test_items_without_any_value_give_nulls() -> None:
    items = pl.DataFrame({"title": [None, None, ""]})
    assert render_texts(items, "{title}.").to_list() == [None, None, None]


def test_no_items_give_no_texts() -> None:
    items = pl.DataFrame(schema={"title": pl.String})
    texts = render_texts(items, "{title}")
    assert (texts.dtype, len(texts)) == (pl.String, 0)


@pytest.mark.parametrize(
    ("template", "what", "hint"),
    [
        ("{titel}", "no column 'titel'", "did you mean 'title'"),
        ("{}", "no column ''", "known: "),
        ("all the same", "names no column", "{title}"),
        ("{title", "cannot be read", "{title"),
        ("{title:>10}", "has a format", "{title} alone"),
        ("{year!r}", "has a format", "{year} alone"),
        ("{cast}", "holds no text", "Struct"),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused(template: str, what: str, hint: str) -> None:
    items = pl.DataFrame([FILM]).with_columns(cast=pl.struct("title"))
    with pytest.raises(RecipeError, match=what) as caught:
        render_texts(items, template)
    assert hint in str(caught.value)
    assert "embed.text.template" in str(caught.value)


value = st.one_of(st.none(), st.text("ab .,()", max_size=4))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(value, value, value), max_size=8))
def test_what_is_there_is_written_as_it_is_and_nothing_dangles(
    rows: list[tuple[str | None, str | None, str | None]],
) -> None:
    columns = {name: [row[i] for row in rows] for i, name in enumerate("xyz")}
    items = pl.DataFrame(columns, schema=dict.fromkeys("xyz", pl.String))
    for row, text in zip(rows, render_texts(items, "{x} - {y} - {z}"), strict=True):
        left = [cell.strip() for cell in row if cell and cell.strip()]
        assert text == (" - ".join(left) or None)
