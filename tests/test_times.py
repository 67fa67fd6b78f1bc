"""Times as sources write them."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprep.sources.times import TIME_UNITS, seconds_of_numbers, seconds_of_text


def seconds(*texts):
    frame = pl.DataFrame({"t": texts}, schema={"t": pl.String}).lazy()
    return frame.select(seconds_of_text(pl.col("t"))).collect()["t"].to_list()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01", 0),
        ("1970/1/2", 86_400),
        ("1970-01-01 00:01", 60),
        ("1970-01-01 00:00:09", 9),
        ("1970-01-01T00:00:09.999Z", 9),
        ("1970-01-01 03:00:00+02:00", 3600),
        ("1970-01-01T00:00:00-0130", 5400),
        (" 1970-01-01 UTC ", 0),
        ("1969-12-31 23:59:59", -1),
        ("2000-02-29", 951_782_400),
    ],
)
def test_iso_texts_become_seconds(text, expected):
    assert seconds(text) == [expected]


@pytest.mark.parametrize(
    "text",
    ["2014-02-30", "2014-13-01", "1970-01-01 24:00", "1970-01-01 00:60", "20140228", "today", ""],
)
def test_what_is_no_time_is_null(text):
    assert seconds(text, "1970-01-01", None) == [None, 0, None]


def test_no_text_at_all_is_no_time():
    assert seconds() == []
    assert seconds(None) == [None]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.datetimes(min_value=dt.datetime(1600, 1, 1)), max_size=5))
def test_every_form_of_a_time_gives_the_same_seconds(times):
    expected = [
        int((t.replace(microsecond=0) - dt.datetime(1970, 1, 1)).total_seconds()) for t in times
    ]
    assert seconds(*[t.strftime("%4Y-%m-%d %H:%M:%S") for t in times]) == expected
    assert seconds(*[t.isoformat() for t in times]) == expected


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 9 * 10**9), st.sampled_from(sorted(TIME_UNITS)))
def test_numbers_are_rounded_down_to_seconds(second, unit):
    factor = TIME_UNITS[unit]
    numbers = pl.Series([second * factor, second * factor + factor // 2], dtype=pl.Int64)
    assert (
        pl.select(seconds_of_numbers(pl.lit(numbers), unit)).to_series().to_list() == [second] * 2
    )


def test_numbers_that_are_not_finite_are_null():
    numbers = pl.Series([float("nan"), float("inf"), None, 5.9])
    assert pl.select(seconds_of_numbers(pl.lit(numbers), "s")).to_series().to_list() == [
        None,
        None,
        None,
        5,
    ]
