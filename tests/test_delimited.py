"""Delimited text of any size."""

from __future__ import annotations

import gzip

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedprep.errors import RecipeError, SourceError
from fedprep.schema import Lines
from fedprep.sources import blocks
from fedprep.sources.delimited import Dialect, stage_delimited

RATINGS = {"user": 0, "item": 1, "rating": 2}
BOOKS = Dialect(separator=";", encoding="latin-1")


def stage(tmp_path, content, fields=None, *, dialect=None, dtypes=None, max_bad_share=1.0):
    path = tmp_path / "raw.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    fields = fields or RATINGS
    frame, step = stage_delimited(
        path,
        fields,
        tmp_path / "out",
        name="ratings",
        dialect=dialect,
        dtypes=dtypes,
        max_bad_share=max_bad_share,
    )
    assert step.lines.total == n_lines(path)
    return frame.collect(), step


def n_lines(path):
    raw = path.read_bytes()
    raw = gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw
    raw = raw if b"\n" in raw else raw.replace(b"\r", b"\n")
    return raw.count(b"\n") + (not raw.endswith(b"\n"))


def test_columns_are_found_by_name_or_number_and_come_in_our_order(tmp_path):
    fields = {"item": "movieId", "user": 0, "title": "name"}
    frame, _ = stage(tmp_path, 'userId, movieId ,name\n1,31,"Dune, part 2"\n2,7,\n', fields)
    assert frame.columns == ["line", "item", "user", "title"]
    assert frame.rows() == [(2, "31", "1", "Dune, part 2"), (3, "7", "2", None)]


def test_a_separator_of_several_characters_has_no_quotes(tmp_path):
    dialect = Dialect(separator="::", header=False)
    frame, step = stage(tmp_path, '1::"Rock" & Roll: A :Story::3\n2::x::y::z\n', dialect=dialect)
    assert frame.rows() == [(1, "1", '"Rock" & Roll: A :Story', "3")]
    assert (step.rows_in, step.rows_out, step.examples) == (2, 1, ("line 2",))
    assert step.why == "1 with other than 3 fields"


def test_a_separator_outside_ascii_is_one_too(tmp_path):
    frame, _ = stage(tmp_path, "1§2§3\n", dialect=Dialect(separator="§", header=False))
    assert frame.rows() == [(1, "1", "2", "3")]


def test_quotes_can_be_turned_off(tmp_path):
    dialect = Dialect(separator="|", header=False, quote="none")
    frame, _ = stage(tmp_path, '1|"Alien|3\n2|b"|4\n', dialect=dialect)
    assert frame["item"].to_list() == ['"Alien', 'b"']


def test_backslash_escaped_quotes_are_quotes(tmp_path):
    text = (
        '"ISBN";"Title";"Year"\r\n'
        '"01";"The \\"Big\\" \\"Book\\"";"1999"\r\n'
        '"02";"Say \\";\\" twice";"2000"\r\n'
        '"03";"ends in \\";"2001"\r\n'
        '"04";"doubled ""quote""";"a\\"\r\n'
        '05;\\"bare\\" 5\\";2002\r\n'
    )
    frame, step = stage(tmp_path, text.encode("latin-1"), dialect=BOOKS)
    assert frame["item"].to_list() == [
        'The "Big" "Book"',
        'Say ";" twice',
        "ends in \\",
        'doubled "quote"',
        '\\"bare\\" 5\\"',
    ]
    assert frame["rating"].to_list() == ["1999", "2000", "2001", "a\\", "2002"]
    assert step.dropped == 0


def test_crlf_byte_order_mark_and_a_missing_last_line_end_leave_no_trace(tmp_path):
    frame, _ = stage(tmp_path, "\ufeffa,b,c\r\n1,2,3\r\n\r\n4,5,6", {"user": "a", "rating": "c"})
    assert frame.rows() == [(2, "1", "3"), (4, "4", "6")]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "iso8859-15"])
def test_other_encodings_are_read_as_what_they_are(tmp_path, encoding):
    text = "1,Les Misérables,5\n2,Ärger,4\n"
    frame, _ = stage(
        tmp_path, text.encode(encoding), dialect=Dialect(header=False, encoding=encoding)
    )
    assert frame["item"].to_list() == ["Les Misérables", "Ärger"]


def test_gzip_is_known_by_its_content_and_not_by_its_name(tmp_path):
    frame, _ = stage(tmp_path, gzip.compress(b"a,b,c\n1,2,3\n"))
    assert frame.rows() == [(2, "1", "2", "3")]


def test_values_of_the_wrong_type_make_a_line_bad(tmp_path):
    text = "1,a,5\n2,b,five\n3,c, 4 \n4,d,\n5,e,NULL\nx,f,3\n7\n"
    frame, step = stage(
        tmp_path,
        text,
        dialect=Dialect(header=False),
        dtypes={"rating": pl.Float32(), "user": pl.Int64()},
    )
    assert frame.rows() == [(1, 1, "a", 5.0), (3, 3, "c", 4.0), (4, 4, "d", None)]
    assert frame.schema["rating"] == pl.Float32()
    assert (step.rows_in, step.rows_out) == (7, 3)
    assert step.examples == ("line 2", "line 5", "line 6")
    assert "2 with no number as rating" in step.why and "1 with no number as user" in step.why


def test_without_a_header_most_of_the_first_lines_say_how_many_fields_there_are(tmp_path):
    frame, step = stage(tmp_path, "a title line\n1,2,3\n4,5,6\n", dialect=Dialect(header=False))
    assert frame["line"].to_list() == [2, 3]
    assert step.examples == ("line 1",)


def test_few_lines_that_are_no_utf8_are_bad_lines(tmp_path):
    good = b"1,2,3\n" * 1500
    frame, step = stage(tmp_path, b"a,b,c\n" + good + b"1,\xe9,3\n" + good)
    assert frame.height == 3000
    assert (step.dropped, step.examples) == (1, ("line 1502",))
    assert step.why == "1 with bytes that are no UTF-8"


def test_a_file_in_another_encoding_is_refused_with_a_hint(tmp_path):
    with pytest.raises(SourceError, match="2 of its first 3 lines") as caught:
        stage(tmp_path, "a,b,c\n1,é,3\n2,è,4".encode("latin-1"))
    assert "line 2" in caught.value.where
    assert "latin-1" in caught.value.hint


def test_bytes_that_mean_nothing_in_the_encoding_are_named_with_their_line(tmp_path):
    with pytest.raises(SourceError, match="byte 0x81") as caught:
        stage(tmp_path, b"a,b,c\n1,2,3\n1,\x81,3\n", dialect=Dialect(encoding="cp1252"))
    assert caught.value.where.endswith("line 3")


DIRT = 'a,b,c\n1,"two\nlines, and\n\nmore",3\n\n4,5\n6,"7 ""x""",8\n9,"stray,1\n2,3,4\n5,"6"x,7\n'


def staged_in_blocks(tmp_path, text, n_bytes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_BYTES", n_bytes)
        return stage(tmp_path, text)


def test_dirt_costs_the_lines_it_is_on(tmp_path):
    frame, step = stage(tmp_path, DIRT, dialect=Dialect(quote="double"))
    assert frame["line"].to_list() == [2, 8, 10]
    assert step.examples == ("line 7", "line 9", "line 11")
    assert step.dropped == 3
    assert step.lines == Lines(rows=3, dropped=3, header=1, blank=1, inside=3)


def test_stray_quotes_cost_no_line(tmp_path):
    frame, step = stage(tmp_path, DIRT)
    assert frame["line"].to_list() == [2, 8, 9, 10, 11]
    assert frame["item"].to_list()[2:] == ['"stray', "3", '"6"x']
    assert (step.dropped, step.examples) == (1, ("line 7",))
    assert step.lines == Lines(rows=5, dropped=1, header=1, blank=1, inside=3)


@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(st.sampled_from('1,"\n'), max_size=40), st.integers(1, 60))
def test_the_size_of_a_block_changes_nothing(tmp_path, text, n_bytes):
    frame, step = stage(tmp_path, DIRT + text)
    frame_of_parts, step_of_parts = staged_in_blocks(tmp_path, DIRT + text, n_bytes)
    assert frame_of_parts.equals(frame)
    assert step_of_parts == step


def test_a_missing_column_is_named_with_the_nearest_ones(tmp_path):
    with pytest.raises(SourceError, match="no column is called 'userid'") as caught:
        stage(tmp_path, "userId,movieId,rating\n1,2,3\n", {"user": "userid"})
    assert "'userId'" in caught.value.hint


@pytest.mark.parametrize(
    ("fields", "dialect", "error", "words"),
    [
        ({"user": "a"}, Dialect(header=False), RecipeError, "no header"),
        ({"user": 3}, Dialect(), SourceError, "no column 3: the lines have 3 fields"),
        ({"user": -1}, Dialect(), SourceError, "no column -1"),
        ({"user": 0}, Dialect(separator=""), RecipeError, "cannot be a separator"),
        ({"user": 0}, Dialect(separator='"'), RecipeError, "cannot be a separator"),
        ({"user": 0}, Dialect(encoding="latin-one"), RecipeError, "no encoding is called"),
        ({"user": 0}, Dialect(encoding="utf-16"), RecipeError, "utf-16 cannot be read"),
        ({"user": 0, "item": "a"}, Dialect(), RecipeError, "`user` and `item` are both"),
        ({"user": "b"}, Dialect(), SourceError, "2 columns are called 'b'"),
    ],
)
def test_wrong_settings_are_refused(tmp_path, fields, dialect, error, words):
    with pytest.raises(error, match=words):
        stage(tmp_path, "a,b,b\n1,2,3\n", fields, dialect=dialect)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"a,b,c\n", "no line of data"),
        (b"a,b,c\n1,2\n3,4\n", "none of the 2 lines can be used: 2 with other than 3 fields"),
        (gzip.compress(b"a,b,c\n1,2,3\n" * 999)[:60], "cut short"),
        (b"PK\x03\x04", "a zip archive"),
        ("a,b,c\n1,2,3\n".encode("utf-16") + b"\x00\xd8\n\x00", "UTF-16"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path, content, words):
    with pytest.raises(SourceError, match=words):
        stage(tmp_path, content)
    assert not list((tmp_path / "out").glob("*"))


def test_progress_ends_at_the_size_of_the_file(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"1,2\n")
    seen = []
    stage_delimited(
        path,
        {"user": 0},
        tmp_path / "out",
        name="rows",
        dialect=Dialect(header=False),
        progress=lambda *told: seen.append(told),
    )
    assert seen[-1] == ("reading rows", 4, 4)
