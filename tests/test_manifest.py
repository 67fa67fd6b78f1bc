"""The id names what a Dataset is: it moves with the content and with nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprep.errors import DatasetError
from fedprep.manifest import (
    content_hash,
    describe_table,
    manifest_id,
    read_manifest,
    tool_versions,
    write_manifest,
)

FRAME = pl.DataFrame(
    {
        "i": pl.Series([1, None, 3], dtype=pl.Int32),
        "f": pl.Series([1.5, float("nan"), None], dtype=pl.Float32),
        "s": ["x", None, "zé"],
        "l": [["a"], None, []],
        "a": pl.Series([[1.0, 2.0], None, [3.0, 4.0]], dtype=pl.Array(pl.Float32, 2)),
        "e": pl.Series(["train", "test", "test"], dtype=pl.Enum(["train", "test"])),
        "b": [True, None, False],
    }
)

MANIFEST: dict[str, Any] = {
    "format": 1,
    "name": "x",
    "created": "2026-01-01T00:00:00+00:00",
    "seconds": {"read": 1.0},
    "versions": {"polars": "1"},
    "recipe": {"seed": 0, "train": {"rounds": 5}, "validate": {}, "eval": {}},
    "source": {
        "retrieved": "2026",
        "files": [{"role": "r", "name": "f", "sha256": "1", "how": "mirror"}],
    },
    "tables": {
        "items.parquet": {"columns": {}, "rows": 1, "bytes": 9, "sha256": "a", "content": "b"},
        "embeddings/text.parquet": {"columns": {}, "rows": 1, "sha256": "a", "content": "b"},
    },
    "encoders": {"text": {"name": "m", "statistics": {"before": {}, "after": {"rms": 0.1}}}},
}


def changed(*path: str, to: Any) -> dict[str, Any]:
    copy = json.loads(json.dumps(MANIFEST))
    place = copy
    for key in path[:-1]:
        place = place[int(key)] if isinstance(place, list) else place[key]
    place[path[-1]] = to
    return copy


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("created",), "2027"),
        (("seconds",), {}),
        (("versions",), {}),
        (("recipe", "train"), {}),
        (("source", "retrieved"), "2027"),
        (("source", "files", "0", "how"), "download"),
        (("tables", "items.parquet", "sha256"), "encoded otherwise"),
        (("tables", "embeddings/text.parquet", "content"), "another processor"),
        (("encoders", "text", "statistics"), {}),
    ],
)
def test_the_id_does_not_follow_times_versions_or_the_way_of_a_file(
    path: tuple[str, ...], value: Any
) -> None:
    assert manifest_id(changed(*path, to=value)) == manifest_id(MANIFEST)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("name",), "y"),
        (("recipe", "seed"), 1),
        (("source", "files", "0", "sha256"), "2"),
        (("tables", "items.parquet", "content"), "c"),
        (("tables", "embeddings/text.parquet", "rows"), 2),
        (("encoders", "text", "name"), "n"),
    ],
)
def test_the_id_follows_recipe_raw_bytes_content_and_encoder(
    path: tuple[str, ...], value: Any
) -> None:
    assert manifest_id(changed(*path, to=value)) != manifest_id(MANIFEST)


def test_the_content_hash_is_that_of_the_values_however_they_are_chunked_or_encoded(
    tmp_path: Path,
) -> None:
    chunked = pl.concat([FRAME[:1], FRAME[1:]], rechunk=False)
    FRAME.write_parquet(tmp_path / "a.parquet", compression="snappy")
    assert content_hash(chunked) == content_hash(FRAME)
    assert content_hash(pl.read_parquet(tmp_path / "a.parquet")) == content_hash(FRAME)


@pytest.mark.parametrize("column", FRAME.columns)
def test_the_content_hash_sees_a_change_of_any_column(column: str) -> None:
    turned = FRAME.with_columns(pl.col(column).reverse())
    nulled = FRAME.with_columns(pl.when(pl.int_range(pl.len()) > 0).then(column).alias(column))
    hashes = {
        content_hash(FRAME),
        content_hash(turned),
        content_hash(nulled),
        content_hash(FRAME.drop(column)),
    }
    assert len(hashes) == 4


@given(st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=5), st.integers(0, 5))
def test_texts_cut_elsewhere_hash_otherwise(texts: list[str | None], cut: int) -> None:
    whole = pl.DataFrame({"s": pl.Series(texts, dtype=pl.String)})
    parts = pl.concat([whole[:cut], whole[cut:]], rechunk=False)
    assert content_hash(parts) == content_hash(whole)
    moved = pl.DataFrame({"s": pl.Series([*texts, ""], dtype=pl.String)})
    assert content_hash(moved) != content_hash(whole)


def test_a_table_is_described_with_both_hashes(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    FRAME.write_parquet(path)
    entry = describe_table(path, FRAME)
    assert entry["rows"] == 3
    assert entry["bytes"] == path.stat().st_size
    assert entry["columns"]["f"] == "Float32"
    assert entry["content"] != entry["sha256"]


def test_a_manifest_is_written_with_its_id_and_read_back(tmp_path: Path) -> None:
    body = {key: value for key, value in MANIFEST.items() if key != "format"}
    written = write_manifest(tmp_path, body)
    assert read_manifest(tmp_path) == written
    assert written["id"] == manifest_id(MANIFEST)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"format": 99}', "format 99"),
        ("{}", "names no format"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DatasetError, match=words):
        read_manifest(tmp_path)


def test_a_folder_without_a_manifest_and_no_folder_at_all_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is no Dataset"):
        read_manifest(tmp_path)
    with pytest.raises(DatasetError, match="no Dataset at"):
        read_manifest(tmp_path / "none")


def test_versions_name_the_tools_that_are_installed() -> None:
    assert {"python", "polars", "pyarrow", "numpy"} <= tool_versions().keys()


def test_a_folder_that_is_no_dataset_tells_of_those_beside_and_in_it(tmp_path: Path) -> None:
    for name in ("books", "books-8"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text("{}")
    with pytest.raises(DatasetError, match="did you mean 'books'"):
        read_manifest(tmp_path / "bookz")
    with pytest.raises(DatasetError, match="in it are books, books-8"):
        read_manifest(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="takes a plain folder"):
        read_manifest(tmp_path / "empty")
    with pytest.raises(DatasetError, match="fedprep build RECIPE"):
        read_manifest(tmp_path / "empty" / "one")
