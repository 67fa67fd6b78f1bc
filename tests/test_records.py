"""Records out of a block of delimited text."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprep.sources.records import LONGEST_RECORD, Layout, parse_records

FIELD = st.text(st.sampled_from('ab,;"\n\\ é☃\t1'), max_size=6)


def layout(n_fields, *, separator=",", quotes=True, wanted=None, strict=False):
    return Layout(
        strict=strict,
        n_fields=n_fields,
        wanted=tuple(range(n_fields)) if wanted is None else wanted,
        separator=separator,
        quotes=quotes,
    )


def read(text, n_fields=3, first_line=1, last=True, **kind):
    records = parse_records(text.encode(), first_line, layout(n_fields, **kind), last=last)
    bad = np.concatenate([records.bad, records.bad_quotes])
    return records.frame.rows(), records.lines.tolist(), sorted(bad.tolist())


def test_plain_records_have_the_numbers_of_their_lines():
    assert read("a,b,c\n1,2,3\n", first_line=7) == ([("a", "b", "c"), ("1", "2", "3")], [7, 8], [])


def test_an_empty_field_is_null_quoted_or_not():
    assert read(',"",x\n') == ([(None, None, "x")], [1], [])


def test_a_line_with_another_number_of_fields_is_bad():
    assert read("a,b,c\n1,2\n3,4,5,6\n7,8,9\n") == (
        [("a", "b", "c"), ("7", "8", "9")],
        [1, 4],
        [2, 3],
    )


def test_blank_lines_are_passed_over_and_counted_as_lines():
    assert read("\na,b,c\n\n\n1,2,3\n\n") == ([("a", "b", "c"), ("1", "2", "3")], [2, 5], [])


def test_a_record_of_empty_fields_is_no_blank_line():
    assert read("a,b,c\n,,\n\n") == ([("a", "b", "c"), (None, None, None)], [1, 2], [])


def test_blank_lines_do_not_become_records_of_a_single_field():
    assert read("a\n\nb\n", n_fields=1) == ([("a",), ("b",)], [1, 3], [])


def test_a_quoted_field_may_hold_separators_quotes_and_line_ends():
    text = '1,"x, ""y""\n\nz",3\n4,5,6\n'
    assert read(text) == ([("1", 'x, "y"\n\nz', "3"), ("4", "5", "6")], [1, 4], [])


def test_a_quote_inside_a_plain_field_is_a_character():
    assert read('1,5" nail,2\n3,a "b" c,4\n')[0] == [("1", '5" nail', "2"), ("3", 'a "b" c', "4")]


def test_with_quotes_always_meant_one_that_is_never_closed_costs_its_own_line_only():
    text = 'a,b,"c\n1,2,3\n4,5\n6,7,8\n'
    assert read(text, strict=True) == ([("1", "2", "3"), ("6", "7", "8")], [2, 4], [1, 3])


def test_with_quotes_always_meant_two_stray_ones_cost_their_own_lines_only():
    text = 'a,"b,c\n1,2,3\n4,5,"6\n7,8,9\n'
    assert read(text, strict=True) == ([("1", "2", "3"), ("7", "8", "9")], [2, 4], [1, 3])


def test_the_inside_of_a_text_with_stray_quotes_does_not_pass_for_records():
    text = '1,"a ""b"" "c"\nd, "e" f\nlast",2\n3,x,4\n'
    assert read(text) == ([("3", "x", "4")], [4], [1, 2, 3])


def test_lines_joined_by_stray_quotes_never_pass_for_a_record():
    # Arrow alone reads two fields here: 'Pan\n2' and 'Ian'.
    assert read('1\t"Pan\n2\t"Ian\n3\tc\n', n_fields=2, separator="\t", strict=True) == (
        [("3", "c")],
        [3],
        [1, 2],
    )


def test_a_record_over_several_lines_with_too_many_fields_is_one_bad_record():
    assert read('1,"a\nb",2,3\n4,5,6\n') == ([("4", "5", "6")], [3], [1])


def test_without_quotes_a_quote_is_a_character():
    text = 'a\x1f"b\n"c"\x1fd\n'
    assert read(text, n_fields=2, separator="\x1f", quotes=False)[0] == [("a", '"b'), ('"c"', "d")]


def test_wanted_fields_come_in_the_order_wanted():
    assert read("a,b,c\n", wanted=(2, 0)) == ([("c", "a")], [1], [])


def test_an_open_quote_in_a_field_that_is_not_wanted_is_seen():
    text = 'x,y,z\n,,"open\n'
    assert read(text, wanted=(0, 1), strict=True) == ([("x", "y")], [1], [2])
    assert read(text, wanted=(0, 1)) == ([("x", "y"), (None, None)], [1, 2], [])


def test_an_open_record_comes_back_as_the_rest():
    records = parse_records(b'1,2\n3,"a\n4,5\n', 1, layout(2), last=False)
    assert records.frame.rows() == [("1", "2")]
    assert (records.rest, records.bad.tolist()) == (b'3,"a\n4,5\n', [])


def test_a_quote_open_for_too_long_is_no_record_that_goes_on():
    text = '1,"a\n' + "2,b\n" * (LONGEST_RECORD // 4)
    records = parse_records(text.encode(), 1, layout(2, strict=True), last=False)
    assert (records.rest, records.bad_quotes.tolist()) == (b"", [1])
    assert records.frame.height == LONGEST_RECORD // 4
    assert (np.diff(records.lines.astype(int)) == 1).all()


def test_an_empty_block_has_no_record():
    assert read("") == ([], [], [])


@settings(deadline=None, max_examples=80)
@given(
    st.integers(1, 4).flatmap(lambda n: st.lists(st.tuples(*[FIELD] * n), min_size=1, max_size=8)),
    st.sampled_from(",;\t"),
    st.booleans(),
)
def test_what_a_csv_writer_writes_is_read_back_with_its_lines(rows, separator, quote_all):
    out = io.StringIO()
    quoting = csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL
    writer = csv.writer(out, delimiter=separator, quoting=quoting, lineterminator="\n")
    lines = []
    for row in rows:
        lines.append(out.getvalue().count("\n") + 1)
        writer.writerow(row)
    expected = [tuple(value or None for value in row) for row in rows]
    got = read(out.getvalue(), n_fields=len(rows[0]), separator=separator, strict=True)
    assert got == (expected, lines, [])


@settings(deadline=None, max_examples=80)
@given(st.text(st.sampled_from('a,"\n'), max_size=40), st.integers(1, 3), st.booleans())
def test_every_line_of_any_text_is_in_one_record_or_bad_or_blank(text, n_fields, strict):
    text += "\n"
    rows, lines, bad = read(text, n_fields, strict=strict)
    assert len(rows) == len(lines)
    assert sorted({*lines, *bad}) == sorted(lines + bad)
    inside = sum((value or "").count("\n") for row in rows for value in row)
    blank = sum(line == "" for line in text.split("\n")[:-1])
    assert len(lines) + len(bad) + inside <= text.count("\n")
    if '"' not in text:
        assert len(lines) + len(bad) + blank == text.count("\n")


STRAY = "".join(f"i{n}\t{chr(34) * (n == 3)}thing {n}{chr(34) * (n == 40)}\tx\n" for n in range(60))


@pytest.mark.parametrize("separator", ["\t", ",", ";"])
def test_a_quote_that_would_swallow_records_is_a_character(separator):
    records = parse_records(
        STRAY.replace("\t", separator).encode(), 1, layout(3, separator=separator)
    )
    assert records.lines.tolist() == list(range(1, 61))
    assert records.frame["1"][3] == '"thing 3'
    assert records.frame["1"][40] == 'thing 40"'
    assert (records.n_stray, records.n_inside, len(records.bad_quotes)) == (2, 0, 0)


@pytest.mark.parametrize("before", ["", '1,"b\nc, d",e\n\n'])
def test_a_field_that_goes_on_behind_its_quotes_keeps_them(before):
    text = before + '2,"Weird" tale,x\n3,"plain",y\n4,"Weird, but" true,z\n'
    rows, lines, bad = read(text)
    assert rows[-3:] == [
        ("2", '"Weird" tale', "x"),
        ("3", "plain", "y"),
        ("4", "Weird, but true", "z"),
    ]
    assert bad == []
    assert len(lines) == 3 + bool(before)


@pytest.mark.parametrize(
    "text",
    [
        '1,"first\nsecond",x\n2,b,y\n',
        '"first\nsecond",1,x\n2,b,y\n',
        '1,x,"first\nsecond\n\nand so on"\n2,b,y\n',
        '1,"a comma, two, \nand more, here, too",x\n2,b,y\n',
    ],
)
def test_a_field_of_several_lines_that_is_meant_stays_one(text):
    rows, _, bad = read(text)
    assert len(rows) == 2
    assert bad == []
    assert any("\n" in (value or "") for value in rows[0])
