"""What the first lines of a file tell."""

from __future__ import annotations

import pytest

from fedprep.sources.first_lines import likeness, looks_like_data, looks_like_header

NUMBERS = [["7", "20", "4.5"], ["8", "3", "1"], ["9", "3", "2"]]
TEXTS = [["u7", "i20"], ["u8", "i3"], ["u9", "i3"]]
NAMES = [["ann", "tea"], ["bob", "rum"], ["ann", "rum"]]
TIMES = [["a", "2014-02-28"], ["b", "2014-03-01"]]


@pytest.mark.parametrize("rows", [NUMBERS, TEXTS, NAMES, TIMES])
def test_a_first_row_like_the_others_is_data(rows):
    wanted = range(len(rows[0]))
    assert looks_like_data(rows, wanted)
    assert not looks_like_header(rows, wanted)


@pytest.mark.parametrize(
    ("names", "rows"),
    [
        (["user", "item", "rating"], NUMBERS),
        (["user_id", "item_id"], TEXTS),
        (["user", "item"], NAMES),
        (["who", "date"], TIMES),
        (["0", "1", "2"], NUMBERS),
        (["V1", "V2", "V3"], NUMBERS),
        (["_c0", "_c1"], TEXTS),
    ],
)
def test_names_over_data_are_no_data(names, rows):
    assert not looks_like_data([names, *rows], range(len(names)))


@pytest.mark.parametrize(
    ("names", "rows"), [(["user", "item", "rating"], NUMBERS), (["user", "item"], TEXTS)]
)
def test_text_over_numbers_is_a_header(names, rows):
    assert looks_like_header([names, *rows], range(len(names)))


@pytest.mark.parametrize("rating", ["", "NA", "nan", "NULL"])
def test_a_missing_value_in_the_first_row_makes_no_header(rating):
    assert not looks_like_header([["ann", "tea", rating], ["bob", "rum", "4"]], (0, 1, 2))


@pytest.mark.parametrize(
    ("lines", "separator", "key"),
    [
        (["a;b;c"] * 9, ",", 'separator = ";"'),
        (["a\tb\tc"] * 9, ",", r'separator = "\t"'),
        ([" ".join("1" * (3 + n)) for n in range(9)], " ", 'format = "sequences"'),
        (['{"u": 1, "i": 2}'] * 9, ",", 'format = "jsonl"'),
        (['a,"b,c'] * 9, ",", 'quote = "none"'),
    ],
)
def test_what_a_file_looks_like_names_the_key_that_reads_it(lines, separator, key):
    assert key in likeness(lines, separator, 3)[1]


def test_a_right_file_with_a_few_ragged_lines_looks_like_nothing_else():
    lines = ["i1,a thing,x"] * 20 + ["i2,a,b,c"] * 2
    assert likeness(lines, ",", 3) == ("", "")
