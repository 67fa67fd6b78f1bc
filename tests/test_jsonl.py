"""JSON lines: what is read, what is dropped and counted, and which files are refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprep.errors import OutputError, SourceError
from fedprep.schema import Lines
from fedprep.sources import blocks
from fedprep.sources.jsonl import stage_jsonl

FIELDS = {"user": "u", "note": "text"}


def stage(tmp_path: Path, content: bytes, **options):
    path = tmp_path / "raw"
    path.write_bytes(content)
    options = {"max_bad_share": 1.0, **options}
    rows, step = stage_jsonl(
        path, options.pop("fields", FIELDS), tmp_path / "out", name="reviews", **options
    )
    return rows.collect(), step


def test_values_become_strings_and_nested_ones_json(tmp_path):
    lines = [
        {"u": "A", "text": "a \"quoted\" 'word'\n/"},
        {"u": 7, "text": [1, {"x": None}]},
        {"u": 4.0, "text": True},
        {"u": None, "other": 1},
        {"u": "", "text": "é😀"},
    ]
    rows, step = stage(tmp_path, "\n".join(json.dumps(x) for x in lines).encode())
    assert rows.schema == {"line": pl.UInt32, "user": pl.String, "note": pl.String}
    assert rows["line"].to_list() == [1, 2, 3, 4, 5]
    assert rows["user"].to_list() == ["A", "7", "4.0", None, ""]
    assert rows["note"].to_list() == [
        "a \"quoted\" 'word'\n/",
        '[1,{"x":null}]',
        "true",
        None,
        "é😀",
    ]
    assert (step.rows_in, step.rows_out, step.examples) == (5, 5, ())


def test_bad_lines_are_dropped_counted_and_the_first_three_named(tmp_path):
    bad = [
        b'{"u":"A"',
        b"[1,2]",
        b"null",
        b"{'u': 'A'}",
        b'{"u":"A"} x',
        b'{"u":"\\ud83d"}',
        b'{"u":"a\tb"}',
    ]
    content = b'{"u":"first"}\n' + b"\n".join(bad) + b'\n{"u":"last"}\n'
    rows, step = stage(tmp_path, content)
    assert rows["user"].to_list() == ["first", "A", "a\tb", "last"]  # two are Python dicts
    assert rows["line"].to_list() == [1, 5, 8, 9]
    assert (step.rows_in, step.dropped) == (9, 5)
    assert step.examples == ("line 2", "line 3", "line 4")
    assert step.lines == Lines(rows=4, dropped=5)
    assert step.name == "bad lines in reviews"


def test_blank_lines_crlf_and_a_byte_order_mark_are_no_bad_lines(tmp_path):
    rows, step = stage(tmp_path, b'\xef\xbb\xbf\r\n{"u":"A"}\r\n\r\n  \n \t{"u":"B"}')
    assert rows.select("line", "user").rows() == [(2, "A"), (5, "B")]
    assert (step.rows_in, step.rows_out, step.why) == (2, 2, "")


def test_bytes_that_are_no_utf8_are_replaced_and_counted(tmp_path):
    rows, step = stage(tmp_path, b'{"u":"caf\xe9"}\n{"u":"caf\xc3\xa9"}\n{"u":"\xff"}\n')
    assert rows["user"].to_list() == ["caf�", "café", "�"]
    assert step.dropped == 0
    assert step.why == "2 lines had bytes that are no UTF-8"


@pytest.mark.parametrize("block", [1, 20, 1 << 20])
def test_the_size_of_a_block_changes_nothing(tmp_path, monkeypatch, block):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", block)
    content = b"".join(
        b'{"u":"%d","text":"x"}\n' % i if i % 7 else b"broken\n\n" for i in range(50)
    )
    members = gzip.compress(content[:301]) + gzip.compress(content[301:])
    rows, step = stage(tmp_path, members, digests={"digest": ["u", "text"]})
    assert rows["user"].to_list() == [str(i) for i in range(50) if i % 7]
    assert rows["line"].to_list() == [i + 1 + (i + 6) // 7 for i in range(50) if i % 7]
    assert rows["digest"].n_unique() == rows.height
    assert (step.dropped, step.examples) == (8, ("line 1", "line 9", "line 17"))


def test_gzip_is_told_by_content_and_not_by_name(tmp_path):
    plain = tmp_path / "plain.jsonl.gz"
    plain.write_bytes(b'{"u":"A"}\n')
    packed = tmp_path / "packed.jsonl"
    packed.write_bytes(gzip.compress(b'{"u":"A"}\n'))
    one, _ = stage_jsonl(plain, FIELDS, tmp_path / "one", name="reviews")
    two, _ = stage_jsonl(packed, FIELDS, tmp_path / "two", name="reviews")
    assert one.collect().equals(two.collect())


def test_equal_values_have_equal_digests_and_others_do_not(tmp_path):
    lines = [
        {"u": "A", "text": "x"},
        {"u": "A", "text": "x", "more": 1},
        {"u": "A", "text": "y"},
        {"u": "A"},
    ]
    content = "\n".join(map(json.dumps, lines)).encode()
    rows, _ = stage(tmp_path, content, fields={}, digests={"digest": ["u", "text"]})
    first, second, third, fourth = rows["digest"]
    assert first == second
    assert len({first, third, fourth}) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no line"),
        (b"\n\n", "no line"),
        (b"<html>\n<body>\n", "none of the 2 lines"),
        (b"PK\x03\x04rest", "a zip archive"),
        (gzip.compress(b'{"u":"A"}\n' * 9999)[:-30], "cut short"),
        (gzip.compress(b'{"u":"A"}\n') + b"garbage after it", "broken"),
    ],
)
def test_a_file_that_is_no_json_lines_is_refused(tmp_path, content, message):
    with pytest.raises(SourceError, match=message):
        stage(tmp_path, content)
    assert not list((tmp_path / "out").rglob("*.parquet*"))


def test_a_line_without_end_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 10)
    monkeypatch.setattr(blocks, "LONGEST_LINE", 100)
    with pytest.raises(SourceError, match="a line of more than") as error:
        stage(tmp_path, b'{"u":"A"}\n' + b"x" * 1000)
    assert "after line 1" in error.value.where


def test_a_missing_file_and_an_unwritable_folder_are_told_apart(tmp_path):
    with pytest.raises(SourceError, match="cannot be read"):
        stage_jsonl(tmp_path / "none", FIELDS, tmp_path / "out", name="reviews")
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "raw").write_bytes(b'{"u":"A"}')
    with pytest.raises(OutputError):
        stage_jsonl(tmp_path / "raw", FIELDS, tmp_path / "file" / "out", name="reviews")


def test_progress_ends_at_the_size_of_the_file(tmp_path):
    seen = []
    stage(tmp_path, b'{"u":"A"}\n', progress=lambda *report: seen.append(report))
    assert seen[-1] == ("reading reviews", 10, 10)


def test_python_dicts_are_read_and_other_lines_counted(tmp_path):
    lines = [
        repr({"u": "it's", "text": 'a "b" \\ c\n'}),
        repr({"u": None, "text": [True, 1.5]}),
        '{"u": "json", "text": "a\\/b"}',
        "{'u': 'python', 'text': 'a\\/b'}",
        "{'u': ('tuple',), 'text': u'x'}",
        "{'u': __import__('os')}",
        "['no dict']",
        "{'u': 'cut",
    ]
    rows, step = stage(tmp_path, "\n".join(lines).encode(), literal=True)
    assert rows["line"].to_list() == [1, 2, 3, 4, 5]
    assert rows["user"].to_list() == ["it's", None, "json", "python", '["tuple"]']
    assert rows["note"].to_list() == ['a "b" \\ c\n', "[true,1.5]", "a/b", "a\\/b", "x"]
    assert (step.dropped, step.examples) == (3, ("line 6", "line 7", "line 8"))


AWKWARD = st.text(st.sampled_from("ab'\"\\/nxuN0{}[]:, é\n\t\r\x01\x04\x7f 😀"), max_size=10)
VALUES = st.recursive(
    AWKWARD | st.integers(-9, 9) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(AWKWARD, inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(AWKWARD, VALUES), min_size=1, max_size=20))
def test_a_python_dict_means_the_same_as_its_json(tmp_path_factory, pairs):
    folder = tmp_path_factory.mktemp("law")
    dicts = [{"u": text, "text": value} for text, value in pairs]
    (folder / "python").write_text("\n".join(map(repr, dicts)), encoding="utf-8", newline="")
    (folder / "json").write_text("\n".join(map(json.dumps, dicts)), encoding="utf-8", newline="")
    one, _ = stage_jsonl(folder / "python", FIELDS, folder / "one", name="meta", literal=True)
    two, _ = stage_jsonl(folder / "json", FIELDS, folder / "two", name="meta")
    assert one.collect().equals(two.collect())
