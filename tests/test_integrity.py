"""What has been on another disk is compared before it is used: manifest, footers, index, digests, verdict."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from built import write_built

from fedeval.setting import setting_of
from fedprep.checks import validate
from fedprep.cli import main as fedprep
from fedprep.dataset import Dataset
from fedprep.decoding import parse_json, read_footer
from fedprep.errors import DatasetError
from fedprep.manifest import describe_table, is_safe_name, manifest_id


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_built(tmp_path_factory.mktemp("integrity") / "data")


@pytest.fixture
def data(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "data"))


def edit(folder: Path, change: Callable[[Any], Any], *, with_id: bool = False) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    if with_id:
        manifest["id"] = manifest_id(manifest)
    path.write_text(json.dumps(manifest))


def rewrite(folder: Path, name: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    """Writes a table anew, and into the manifest what it is: as if the Dataset had been made so."""
    frame = change(pl.read_parquet(folder / name))
    frame.write_parquet(folder / name)
    entry = describe_table(folder / name, frame)
    edit(folder, lambda m: m["tables"].update({name: entry}), with_id=True)


def refused(folder: Path, words: str, **options: bool) -> None:
    with pytest.raises(DatasetError, match=words) as error:
        Dataset.open(folder, **options)
    assert str(folder) in error.value.where


# --- JSON ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": NaN}', b'{"a": -Infinity}', b'{"a": 1e400}', b'{"a": 1, "a": 2}', b'{"a": "\\ud800"}',
        b"\xff",
        b"[" * 100_000 + b"]" * 100_000, b"[" * 200 + b"]" * 200, b'{"a": ' + b"9" * 5_000 + b"}", b"{", b"",
    ],
)  # fmt: skip
def test_json_with_a_surprise_in_it_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


def test_plain_json_is_what_it_was() -> None:
    value = {"a": [1, 2.5, None, True, "é", "\U0001f600"], "b": {"c": {}}}
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize(
    "name",
    ["../x.parquet", "/etc/x", "a/../../x", "./a", "a//b", "", "a\\b", "a\n", "embeddings/../../x"],
)
def test_a_table_is_called_by_a_plain_path_inside_the_folder(name: str, data: Path) -> None:
    assert not is_safe_name(name)
    edit(data, lambda m: m["tables"].update({name: m["tables"]["items.parquet"]}), with_id=True)
    refused(data, "no plain path")


# --- manifest, footers, index --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(tables=[1]),
        lambda m: m.update(facts="many"),
        lambda m: m.pop("facts"),
        lambda m: m.update(partition=None),
        lambda m: m["facts"].update(n_users="x"),
        lambda m: m["facts"].update(n_users=-1),
        lambda m: m["tables"]["items.parquet"].update(rows=1.5),
        lambda m: m["encoders"].update(text=7),
        lambda m: m["recipe"].update(clean=[]),
        lambda m: m["tables"].pop("users.parquet"),
        lambda m: m["tables"].pop("clients/part-00000.parquet"),
        lambda m: m["facts"].update(n_interactions=m["facts"]["n_interactions"] + 1),
        lambda m: m["facts"]["splits"].update(train=1),
        lambda m: m["classes"].append(7.0),
        lambda m: m["tables"]["items.parquet"].update(rows=3),
        lambda m: m["tables"]["embeddings/text.parquet"]["columns"].update(
            embedding="Array(Float32, shape=(3,))"
        ),
    ],
)
def test_a_manifest_that_says_what_cannot_be_is_refused_though_its_id_is_right(
    change: Callable[[Any], Any], data: Path
) -> None:
    edit(data, change)
    with contextlib.suppress(AttributeError, KeyError, TypeError):
        edit(data, lambda m: None, with_id=True)
    refused(data, "manifest|contradicts")


def test_a_manifest_that_was_edited_by_hand_has_not_the_id_of_what_it_says(data: Path) -> None:
    edit(data, lambda m: m["recipe"].update(seed=99))
    refused(data, "changed after it was written")


ODD: dict[str, tuple[str, Callable[[pl.DataFrame], pl.DataFrame]]] = {
    "offsets": ("clients/index.parquet", lambda t: t.with_columns(pl.col("offset") + 7)),
    "a client less": ("clients/index.parquet", lambda t: t.head(t.height - 1)),
    "clients in another order": ("clients/index.parquet", lambda t: t.reverse()),
    "a negative place": (
        "clients/index.parquet",
        lambda t: t.with_columns(row_group=pl.lit(-1, pl.Int32)),
    ),
    "more rows": ("clients/index.parquet", lambda t: t.with_columns(pl.col("n_rows") + 1)),
    "a train row for a test row": (
        "clients/index.parquet",
        lambda t: t.with_columns(pl.col("n_train") + 1, pl.col("n_test") - 1),
    ),
    "a null": ("clients/index.parquet", lambda t: t.with_columns(n_rows=pl.lit(None, pl.Int32))),
    "no item_id": ("items.parquet", lambda t: t.drop("item_id")),
    "ids as text": ("items.parquet", lambda t: t.with_columns(pl.col("item_id").cast(pl.String))),
    "users twice": ("users.parquet", lambda t: pl.concat([t, t])),
    "ratings as text": (
        "clients/part-00000.parquet",
        lambda t: t.with_columns(pl.col("rating").cast(pl.String)),
    ),
    "a row less": ("clients/part-00000.parquet", lambda t: t.head(t.height - 1)),
    "no row": ("clients/part-00000.parquet", lambda t: t.clear()),
    "doubles": (
        "embeddings/text.parquet",
        lambda t: t.with_columns(pl.col("embedding").cast(pl.Array(pl.Float64, 48))),
    ),
    "an item less": ("embeddings/text.parquet", lambda t: t.head(t.height - 1)),
}


@pytest.mark.parametrize("how", ODD)
def test_tables_that_contradict_each_other_are_refused_though_the_manifest_tells_them(
    how: str, data: Path
) -> None:
    rewrite(data, *ODD[how])
    refused(data, "contradicts|cannot be read")
    refused(data, "contradicts|cannot be read", allow_changed=True)


@pytest.mark.parametrize(
    "name", ["items.parquet", "clients/index.parquet", "embeddings/text.parquet"]
)
def test_a_file_that_is_cut_or_text_is_refused_and_named(name: str, data: Path) -> None:
    block = (data / name).read_bytes()
    for damaged in (b"hello", b"", block[: len(block) // 2], b"PAR1" + block[4:-9] + b"PAR1"):
        (data / name).write_bytes(damaged)
        with pytest.raises(DatasetError, match=Path(name).name):
            Dataset.open(data)


def test_a_link_that_leads_out_of_the_folder_is_refused(data: Path, tmp_path: Path) -> None:
    (data / "items.parquet").rename(tmp_path / "elsewhere.parquet")
    (data / "items.parquet").symlink_to(tmp_path / "elsewhere.parquet")
    refused(data, "link that leads out")


def test_files_that_the_manifest_does_not_list_are_not_read(data: Path) -> None:
    n_rows = Dataset.open(data).interactions().collect().height
    for name in ("clients/part-00000.parquet", "embeddings/text.parquet"):
        shutil.copy(data / name, (data / name).with_name("part-99999.parquet"))
    dataset = Dataset.open(data)
    assert dataset.interactions().collect().height == n_rows
    assert dataset.modalities == ("image", "text")


def test_a_dataset_as_it_was_built_opens_and_so_does_one_moved_elsewhere(
    built: Path, data: Path
) -> None:
    assert Dataset.open(built, verify=True).id == Dataset.open(data, verify=True).id


# --- digests and verdicts ------------------------------------------------------------------------------


def same_size(folder: Path) -> None:
    """Turns a bit in the middle of a file over: its size and its footer stay."""
    path = folder / "embeddings" / "text.parquet"
    block = bytearray(path.read_bytes())
    block[len(block) // 3] ^= 1
    path.write_bytes(block)


def test_other_bytes_of_the_same_size_are_seen_by_their_digest(data: Path) -> None:
    same_size(data)
    assert Dataset.open(data).name == "built"
    refused(data, "other bytes", verify=True)
    assert Dataset.open(data, verify=True, allow_changed=True).name == "built"


@pytest.mark.parametrize(
    "line",
    [
        ("export", "DATA", "--to", "csv", "--out", "made"),
        ("partition", "DATA", "--out", "made", "--set", "partition.method=iid", "--clients", "3"),
        ("card", "DATA", "--out", "made"),
        ("inspect", "DATA", "--verify"),
        ("sql", "DATA", "select 1", "--verify"),
        ("diff", "DATA", "DATA", "--verify"),
    ],
)
def test_what_changed_is_not_exported_partitioned_described_or_shown(
    line: tuple[str, ...], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same_size(data)
    with pytest.raises(SystemExit) as end:
        fedprep([str(data) if word == "DATA" else word for word in line])
    assert end.value.code == 2
    assert "embeddings/text.parquet" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


def test_what_changed_is_not_reported_on(data: Path) -> None:
    same_size(data)
    with pytest.raises(DatasetError, match="other bytes"):
        setting_of(data)
    with pytest.raises(DatasetError, match="other bytes"):
        setting_of(Dataset.open(data))


def test_a_verdict_says_which_files_it_judged_and_holds_for_no_others(
    data: Path, tmp_path: Path
) -> None:
    dataset = Dataset.open(data)
    assert dataset.report is not None and dataset.verdict is None  # pictures came after the build
    found = validate(dataset)
    said = {name: table["sha256"] for name, table in dataset.manifest["tables"].items()}
    assert found.files == said
    (data / "report.json").write_text(json.dumps(found.to_dict()))
    assert Dataset.open(data).verdict is not None
    rewrite(data, "embeddings/text.parquet", lambda t: t.with_columns(pl.col("embedding").shift(1)))
    changed = Dataset.open(data, verify=True)
    assert changed.report is not None and changed.verdict is None


def test_a_verdict_on_files_that_are_not_those_of_the_manifest_names_none(data: Path) -> None:
    same_size(data)
    assert not validate(Dataset.open(data)).files


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"format": 1}', '{"format": 1, "verdict": "fine"}', "[" * 99_999]
)
def test_a_verdict_that_is_none_is_refused(text: str, data: Path) -> None:
    (data / "report.json").write_text(text)
    with pytest.raises(DatasetError, match="verdict"):
        assert Dataset.open(data).verdict


def test_a_footer_that_cannot_be_read_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1nothingPAR1")
    with pytest.raises(DatasetError, match=r"x\.parquet"):
        read_footer(tmp_path / "x.parquet")
