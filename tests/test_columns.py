"""Columns of a user's own files in types that all files share."""

from __future__ import annotations

import math
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprep.errors import SourceError
from fedprep.sources.columns import in_type, plain_integers, shared_type

A, B = Path("a"), Path("b")


def converted(name, values, dtype, *more):
    """Returns a column in the type that it and others of the types `more` share."""
    frame = pl.DataFrame({name: values}, schema={name: dtype})
    wanted = shared_type(name, [dtype, *more], [A] * (1 + len(more)))
    return frame.select(in_type(name, dtype, wanted)).to_series()


@pytest.mark.parametrize(
    ("name", "found", "shared"),
    [
        ("user", [pl.Int32(), pl.UInt8()], pl.Int64()),
        ("user", [pl.Int64(), pl.String()], pl.String()),
        ("item", [pl.UInt64()], pl.String()),
        ("item", [pl.Float64(), pl.Categorical()], pl.String()),
        ("rating", [pl.Int8(), pl.String(), pl.Boolean()], pl.Float32()),
        ("timestamp", [pl.Int64(), pl.Float32()], pl.Float64()),
        ("timestamp", [pl.Int64(), pl.String()], pl.String()),
        ("timestamp", [pl.Date(), pl.Datetime("ns", "Europe/Berlin")], pl.Int64()),
    ],
)
def test_files_share_a_type(name, found, shared):
    assert shared_type(name, found, [A] * len(found)) == shared


@pytest.mark.parametrize(
    ("name", "found", "culprit"),
    [
        ("timestamp", [pl.Int64(), pl.Date()], "b"),
        ("rating", [pl.Date()], "a"),
        ("user", [pl.Int64(), pl.Struct({"a": pl.Int8()})], "b"),
        ("timestamp", [pl.Duration()], "a"),
    ],
)
def test_values_that_share_no_type_are_refused(name, found, culprit):
    with pytest.raises(SourceError, match=f"`{name}` cannot be read") as caught:
        shared_type(name, found, [A, B][: len(found)])
    assert caught.value.where == culprit


def test_ids_of_floats_are_integers_that_met_a_null():
    values = [1.0, None, math.nan, math.inf, 2.5]
    assert converted("user", values, pl.Float64()).to_list() == ["1", None, None, None, "2.5"]


def test_a_rating_that_is_no_number_is_nan_and_one_that_is_not_given_null():
    ratings = converted("rating", [" 4 ", "x", "", None], pl.String()).to_list()
    assert (ratings[0], ratings[2:]) == (4.0, [None, None])
    assert math.isnan(ratings[1])


def test_times_of_a_zone_become_utc_seconds():
    times = (
        pl.Series(["1970-01-01 01:00:00"]).str.to_datetime().dt.replace_time_zone("Europe/Berlin")
    )
    assert converted("timestamp", times, times.dtype).to_list() == [0]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=6))
def test_plain_integers_are_told_whether_they_are_numbers_or_text(values):
    frame = pl.LazyFrame({"user": [str(value) for value in values], "item": values})
    assert plain_integers(frame, ("user", "item"))


@pytest.mark.parametrize(
    "text", ["007", "+1", " 1", "1.0", "1e3", "", "0034545104", str(2**63), "x", "-0"]
)
def test_a_text_that_would_not_come_back_the_same_is_no_plain_integer(text):
    assert not plain_integers(pl.LazyFrame({"user": ["1", text]}), ("user",))
