"""Checks of files: bytes, rows, keys and id against the manifest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fedprep.checks import CHECKS, Result, Tables, validate
from fedprep.dataset import Dataset
from fedprep.manifest import KEYS, manifest_id, write_manifest
from tests.built import write_built
from tests.checked import interactions, items, result_of

OF_FILES = [
    "files_match_hashes",
    "row_counts_match_manifest",
    "manifest_is_complete",
    "id_matches_manifest",
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_built(tmp_path_factory.mktemp("files") / "built")


@pytest.fixture
def copied(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "copied"))


def tables_of(folder: Path) -> Tables:
    """Manifest and folder alone, whatever has become of the files."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return Tables(manifest=manifest, folder=folder, name="damaged")


def found(check: str, folder: Path) -> list[dict[str, Any]]:
    return CHECKS[check].function(tables_of(folder), None).collect().to_dicts()  # type: ignore[arg-type]


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def asked(check: str, folder: Path) -> Result:
    return validate(Dataset.unchecked(folder), only=[check])[check]


@pytest.mark.parametrize("check", OF_FILES)
def test_a_dataset_as_it_was_built_passes(check: str, built: Path) -> None:
    result = asked(check, built)
    assert (result.status, result.count) == ("pass", 0)
    assert result.denominator > 0


# -- bytes -----------------------------------------------------------------------------------------


def test_a_byte_that_differs_names_the_file(copied: Path) -> None:
    path = copied / "users.parquet"
    frame = pl.read_parquet(path)
    frame.write_parquet(path, compression="uncompressed")
    result = asked("files_match_hashes", copied)
    assert (result.status, result.count) == ("fail", 1)
    example = result.examples[0]
    assert example["file"] == "users.parquet"
    assert len(example["found"]) == len(example["said"]) == 64


def test_a_file_cut_off_and_a_file_that_is_gone_are_named(copied: Path) -> None:
    path = copied / "items.parquet"
    path.write_bytes(path.read_bytes()[:100])
    (copied / "clients" / "part-00003.parquet").unlink()
    rows = found("files_match_hashes", copied)
    assert [row["file"] for row in rows] == ["clients/part-00003.parquet", "items.parquet"]
    assert rows[0]["found"] == "no such file"
    counts = found("row_counts_match_manifest", copied)
    unreadable = {row["of"] for row in counts if row["found"] == -1}
    assert {"clients/part-00003.parquet", "items.parquet"} <= unreadable


def test_a_shard_that_the_manifest_does_not_name_is_named(copied: Path) -> None:
    shutil.copy(
        copied / "clients" / "part-00000.parquet", copied / "clients" / "part-99999.parquet"
    )
    result = asked("files_match_hashes", copied)
    assert (result.status, result.count) == ("fail", 1)
    assert result.examples[0]["file"] == "clients/part-99999.parquet"


def test_cards_and_reports_beside_the_tables_are_no_fault(copied: Path) -> None:
    for name in ("README.md", "report.json", "croissant.json", "report.html"):
        (copied / name).write_text("of us", encoding="utf-8")
    assert asked("files_match_hashes", copied).status == "pass"


# -- rows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "of", "by"),
    [
        (lambda m: m["tables"]["items.parquet"].update(rows=7), "items.parquet", 7),
        (
            lambda m: m["tables"]["clients/part-00001.parquet"].pop("rows"),
            "clients/part-00001.parquet",
            None,
        ),
        (lambda m: m["facts"].update(n_users=3), "facts.n_users", 3),
        (lambda m: m["facts"].update(n_items=3), "facts.n_items", 3),
        (lambda m: m["facts"].update(n_clients=3), "facts.n_clients", 3),
        (lambda m: m["facts"].update(n_interactions=3), "facts.n_interactions", 3),
    ],
)
def test_another_number_of_rows_is_named(
    change: Callable[[dict[str, Any]], object], of: str, by: int | None, copied: Path
) -> None:
    edit(copied, change)
    result = asked("row_counts_match_manifest", copied)
    assert (result.status, result.count) == ("fail", 1)
    assert (result.examples[0]["of"], result.examples[0]["said"]) == (of, by)
    assert result.examples[0]["found"] > 3


# -- the manifest ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key", [key for key in KEYS if key not in ("format", "id", "name", "tables")]
)
def test_a_key_that_the_manifest_lacks_is_named(key: str, copied: Path) -> None:
    edit(copied, lambda manifest: manifest.pop(key))
    result = asked("manifest_is_complete", copied)
    assert (result.status, result.count, result.denominator) == ("fail", 1, len(KEYS))
    assert result.examples[0]["key"] == key


@pytest.mark.parametrize(
    ("path", "key"),
    [
        (("facts", "ratings"), "facts.ratings"),
        (("tables", "items.parquet", "content"), "tables.items.parquet.content"),
        (("encoders", "text", "normalise"), "encoders.text.normalise"),
        (("encoders", "image", "statistics"), "encoders.image.statistics"),
    ],
)
def test_a_key_that_lacks_further_down_is_named(
    path: tuple[str, ...], key: str, copied: Path
) -> None:
    def pop(manifest: dict[str, Any]) -> None:
        for step in path[:-1]:
            manifest = manifest[step]
        del manifest[path[-1]]

    edit(copied, pop)
    result = asked("manifest_is_complete", copied)
    assert [example["key"] for example in result.examples] == [key]


def test_embeddings_without_their_encoder_are_told(copied: Path) -> None:
    edit(copied, lambda manifest: manifest["encoders"].pop("image"))
    result = asked("manifest_is_complete", copied)
    assert result.count == 6
    assert result.examples[0]["key"] == "encoders.image.name"


def test_an_id_that_is_not_the_hash_of_the_manifest_is_told(copied: Path) -> None:
    edit(copied, lambda manifest: manifest["recipe"].update(seed=99))
    result = asked("id_matches_manifest", copied)
    assert (result.status, result.count) == ("fail", 1)
    manifest = Dataset.unchecked(copied).manifest
    assert result.examples[0] == {"said": manifest["id"], "found": manifest_id(manifest)}
    edit(copied, lambda manifest: manifest.update(created="long ago", seconds={}, versions={}))
    kept = {
        k: v for k, v in Dataset.unchecked(copied).manifest.items() if k not in ("id", "format")
    }
    write_manifest(copied, kept)
    assert asked("id_matches_manifest", copied).status == "pass"


def test_times_and_versions_are_no_part_of_the_id(copied: Path) -> None:
    edit(copied, lambda manifest: manifest.update(created="long ago", seconds={}, versions={}))
    assert asked("id_matches_manifest", copied).status == "pass"


def test_tables_without_a_manifest_are_not_asked_for_one() -> None:
    tables = Tables.of_frames(interactions=interactions(), items=items())
    for check in OF_FILES:
        result = result_of(check, tables)
        assert (result.status, result.reason) == ("skipped", "there is no manifest")


def test_a_manifest_that_names_no_table_is_not_asked_for_files(tmp_path: Path) -> None:
    tables = Tables.of_frames(items=pl.DataFrame({"item_id": [0]}), manifest={"name": "x"})
    assert result_of("files_match_hashes", tables).reason == "there is no folder"
    assert result_of("manifest_is_complete", tables).count == len(KEYS) - 1
    assert result_of("id_matches_manifest", tables).reason == "the manifest has no id"


def test_every_check_of_files_has_a_test_here() -> None:
    names = [check.name for check in CHECKS.values() if check.group == "files"]
    assert set(OF_FILES) <= set(names)
