"""One file of a user's own, of any format."""

from __future__ import annotations

import gzip

import polars as pl
import pytest

from fedprep.errors import SourceError
from fedprep.sources.tabular import file_format, stage_tabular

CSV = b"a,b\n1,x\n2,\n"
JSON = b'{"a": 1, "b": "x"}\n\n{"a": 2, "b": ""}\n'


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (CSV, "csv"),
        (gzip.compress(CSV), "csv"),
        (JSON, "jsonl"),
        (b"\xef\xbb\xbf\n  " + JSON, "jsonl"),
        (gzip.compress(JSON), "jsonl"),
        (b"PAR1...", "parquet"),
        (b"", "csv"),
    ],
)
def test_the_format_is_told_by_the_first_bytes(tmp_path, content, form):
    path = tmp_path / "file.parquet.csv"
    path.write_bytes(content)
    assert file_format(path, name="file") == form


def test_all_formats_give_the_same_columns_and_their_own_lines(tmp_path):
    for number, content in enumerate((CSV, JSON)):
        (tmp_path / f"{number}").write_bytes(content)
    pl.DataFrame({"b": ["x", None], "a": ["1", "2"]}).write_parquet(tmp_path / "2")
    for number, lines in enumerate(([2, 3], [1, 3], [1, 2])):
        path = tmp_path / f"{number}"
        frame, step = stage_tabular(
            path, {"y": "b", "x": "a"}, tmp_path / f"out{number}", name="it"
        )
        rows = frame.collect()
        assert rows.columns == ["line", "y", "x"]
        assert rows.rows() == [(lines[0], "x", "1"), (lines[1], None, "2")]
        assert rows.schema["line"] == pl.UInt32
        assert (step.name, step.rows_in, step.rows_out) == ("bad lines in it", 2, 2)


def test_a_format_that_is_named_is_believed(tmp_path):
    (tmp_path / "a").write_bytes(JSON)
    with pytest.raises(SourceError, match="no column is called 'a'"):
        stage_tabular(tmp_path / "a", {"x": "a"}, tmp_path, name="it", form="csv")


def test_columns_of_parquet_may_be_numbers(tmp_path):
    pl.DataFrame({"b": [1], "a": [2]}).write_parquet(tmp_path / "a")
    frame, _ = stage_tabular(tmp_path / "a", {"x": 1, "y": 0}, tmp_path, name="it")
    assert frame.collect().rows() == [(1, 2, 1)]
    with pytest.raises(SourceError, match="no column 2: the table has 2"):
        stage_tabular(tmp_path / "a", {"x": 2}, tmp_path, name="it")
