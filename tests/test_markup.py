"""Scraped text made plain: what is taken out, what is kept, what is refused."""

from __future__ import annotations

import html
import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprep.sources.markup import has_markup, plain_text, price, strings_of_json, text_of_json


def texts(*values: str | None) -> pl.Series:
    return pl.Series("texts", values, dtype=pl.String)


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        ("plain  text\n here", "plain text here"),
        ("a <b>bold</b> word<br/>and<BR >more", "a bold word and more"),
        ('<span class="a-size-medium">Kettle &amp; cup</span>', "Kettle & cup"),
        ('<a href="x>y">link</a>', "link"),
        ('<p title=5">odd quote</p>', "odd quote"),
        ("<style type='text/css'>.a{b:c}</style>left", "left"),
        ("<script>if (a<b) c()</script>left", "left"),
        ("<!-- no --> comment", "comment"),
        ("&lt;br&gt;twice &#34;escaped&#x22; &nbsp;", 'twice "escaped"'),
        ("AT&amp;amp;T", "AT&amp;T"),
    ],
)
def test_markup_is_taken_out(raw, plain):
    assert plain_text(texts(raw, "beside")).to_list() == [plain, "beside"]


@pytest.mark.parametrize(
    "raw",
    ["", "  \n", "<br/>", '<span class="a-size-medium a-color-secondary"', "<div><p></p></div>",
     "var aPageStart = (new Date()).getTime();", "<style>.a{}", "<!-- open"],
)  # fmt: skip
def test_where_nothing_is_left_it_is_null(raw):
    assert plain_text(texts(raw, "beside")).to_list() == [None, "beside"]


@pytest.mark.parametrize(
    "raw",
    [
        "x < y and z > w",
        "I <3 tea",
        "<Untitled>",
        "R&D; or R&D",
        "5' 11\" <tall>",
        "function (10 min)",
    ],
)
def test_what_only_looks_like_markup_is_kept(raw):
    assert plain_text(texts(raw)).to_list() == [raw]
    assert has_markup(texts(raw)).to_list() == [False]


def test_markup_is_seen_and_null_stays_null():
    assert has_markup(texts("<b>x</b>", "x", None, "(new Date()).getTime()")).to_list() == [
        True,
        False,
        None,
        True,
    ]
    assert plain_text(texts(None, None)).to_list() == [None, None]
    assert plain_text(texts()).len() == 0


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=10))
def test_escaped_text_comes_back_as_it_was(values):
    words = [" ".join(value.replace("<", "").replace("&", "").split("\0")) for value in values]
    escaped = texts(*(html.escape(f"R&D {word}") for word in words))
    spaced = plain_text(texts(*(f"R&D {word}" for word in words)))
    assert plain_text(escaped).to_list() == spaced.to_list()
    assert spaced.null_count() == 0


@pytest.mark.parametrize(
    ("raw", "value"),
    [("$29.99", 29.99), ("$1,250.00", 1250.0), ("12.5", 12.5), (" $ 5 ", 5.0), ("US$3", 3.0), ("0.0", 0.0),
     ("1,234,567.8", 1234567.8)],
)  # fmt: skip
def test_single_numbers_are_prices(raw, value):
    values, unread = price(texts(raw))
    assert values.to_list() == [pytest.approx(value)]
    assert unread.to_list() == [False]


@pytest.mark.parametrize(
    "raw", ["from 14.99", "—", "$1.00 - $2.00", ".a-box{color:#fff}", "1,2", "12,50 €", "NaN"]
)
def test_what_is_no_single_number_is_unread(raw):
    values, unread = price(texts(raw))
    assert (values.to_list(), unread.to_list()) == ([None], [True])


def test_no_price_is_not_an_unread_one():
    values, unread = price(texts(None, "", " \n ", "None"))
    assert values.null_count() == 4
    assert not unread.any()


def test_lists_and_strings_in_one_column_are_both_read():
    column = texts(
        '["a","b &amp; c"]',
        '[["a","b"],["a","c"]]',
        "a, b",
        "[]",
        None,
        '[null,"x",3]',
        "[Import] x",
    )
    assert strings_of_json(column).to_list() == [
        ["a", "b & c"], ["a", "b", "a", "c"], ["a, b"], None, None, ["x"], ["[Import] x"],
    ]  # fmt: skip
    assert text_of_json(column).to_list() == [
        "a b &amp; c", "a b a c", "a, b", "", None, "x", "[Import] x",
    ]  # fmt: skip


LISTS = st.lists(st.text(st.sampled_from("ab\"\\/[]{},'é\n\t "), max_size=8), max_size=4)


@settings(deadline=None)
@given(st.lists(LISTS, min_size=1, max_size=6))
def test_strings_of_a_list_come_back_as_they_were(lists):
    column = texts(
        *(json.dumps(values, separators=(",", ":"), ensure_ascii=False) for values in lists)
    )
    expected = [[" ".join(value.split()) for value in values] for values in lists]
    expected = [[value for value in values if value] or None for values in expected]
    assert strings_of_json(column).to_list() == expected
