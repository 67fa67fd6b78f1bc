"""Lists of items, a line a user."""

from __future__ import annotations

import gzip

import pytest

from fedprep.errors import RecipeError, SourceError
from fedprep.schema import Lines
from fedprep.sources.sequences import FIRST_SECOND, stage_sequences

LISTS = "7 20 3 20\n\n8 4 \r\n9\n"


def stage(tmp_path, content, columns, separator=" "):
    path = tmp_path / "raw"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    frame, step = stage_sequences(
        path, columns, tmp_path / "out", name="lists", separator=separator
    )
    return frame.collect(), step


@pytest.mark.parametrize("pack", [str.encode, lambda text: gzip.compress(text.encode())])
def test_every_item_of_a_line_is_a_row_of_its_user(tmp_path, pack):
    frame, step = stage(tmp_path, pack(LISTS), {"user": 0, "item": 1})
    assert frame.rows() == [(1, "7", "20"), (1, "7", "3"), (1, "7", "20"), (3, "8", "4")]
    assert step.lines == Lines(rows=3, blank=1)


def test_the_place_in_a_line_may_be_the_time_and_its_number_the_user(tmp_path):
    columns = {"user": "line", "item": 1, "timestamp": "position"}
    frame, _ = stage(tmp_path, "2\t5\t6\n1\t5\n", columns, "\t")
    assert frame["user"].to_list() == ["0", "0", "1"]
    assert (frame["timestamp"] - FIRST_SECOND).to_list() == [0, 1, 0]


@pytest.mark.parametrize(
    "columns",
    [
        {"user": "u", "item": 1},
        {"user": 1, "item": 0},
        {"user": 0, "item": "i"},
        {"user": 0, "item": 1, "rating": 2},
        {"user": 0, "item": 1, "timestamp": 2},
    ],
)
def test_other_columns_are_refused(tmp_path, columns):
    with pytest.raises(RecipeError):
        stage(tmp_path, LISTS, columns)


def test_a_file_without_an_item_is_refused(tmp_path):
    with pytest.raises(SourceError, match="no line has an item"):
        stage(tmp_path, LISTS, {"user": 0, "item": 1}, ",")
