"""Steps that readers share: what is dropped is counted, and its first three lines named."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprep.errors import SourceError
from fedprep.sources.tidy import repeated, unusable, without_duplicates


def rows(**columns) -> pl.LazyFrame:
    frame = pl.DataFrame(columns)
    return frame.with_row_index("line", 1).cast({"line": pl.UInt32}).lazy()


def test_unusable_rows_are_dropped_and_null_is_no_yes():
    frame, step = unusable(
        rows(x=[1.0, None, 9.0, 2.0, -1.0]),
        pl.col("x").is_between(0, 5),
        "things",
        "out of range",
        max_bad_share=0.6,
    )
    assert frame.collect()["x"].to_list() == [1.0, 2.0]
    assert (step.rows_in, step.rows_out, step.name) == (5, 2, "unusable things")
    assert (step.why, step.examples) == ("out of range", ("line 2", "line 3", "line 5"))


def test_no_unusable_row_leaves_all_and_says_nothing():
    frame, step = unusable(rows(x=[1, 2]), pl.col("x") > 0, "things", "out of range")
    assert frame.collect().height == 2
    assert (step.dropped, step.why, step.examples) == (0, "", ())


def test_only_unusable_rows_are_an_error():
    with pytest.raises(SourceError, match="none of the 2 rows can be used: too small"):
        unusable(rows(x=[1, 2]), pl.col("x") > 5, "things", "too small")


def test_the_first_row_of_a_key_stays():
    frame, step = repeated(rows(key=["b", "a", "b", None, "b"], v=[1, 2, 3, 4, 5]), "key", "things")
    assert frame.collect()["v"].to_list() == [1, 2]
    assert (step.rows_in, step.rows_out) == (5, 2)
    assert step.examples == ("line 3", "line 4", "line 5")


def test_equal_digests_of_unequal_rows_are_no_duplicates():
    frame = rows(user=["a", "a", "b", "a"], digest=[7, 7, 7, 8]).cast({"digest": pl.UInt64})
    kept, step = without_duplicates(frame, ["user"], "things")
    assert kept.collect().rows() == [(1, "a"), (3, "b"), (4, "a")]
    assert (step.dropped, step.examples) == (1, ("line 2",))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), min_size=1, max_size=30))
def test_what_stays_is_what_a_set_would_keep(pairs):
    frame = rows(user=[u for u, _ in pairs], digest=[d for _, d in pairs]).cast(
        {"digest": pl.UInt64}
    )
    kept, step = without_duplicates(frame, ["user"], "things")
    assert kept.collect()["user"].to_list() == [u for u, _ in dict.fromkeys(pairs)]
    assert step.rows_out == len(set(pairs))
