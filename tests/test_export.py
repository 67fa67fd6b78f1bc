"""Other tools read what is exported, and it says the same as the Dataset."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest

from fedprep.build import build_dataset
from fedprep.checks import validate
from fedprep.dataset import Dataset
from fedprep.errors import FedprepError, OutputError
from fedprep.export import EXPORTS, export, safe
from fedprep.recipe import parse_recipe


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("export")
    size = {"n_users": 30, "n_items": 20, "n_interactions": 300, "images": 0.0}
    source = {"name": "synthetic", "edition": "2018", "category": "Gift_Cards", "synthetic": size}
    tree = {"name": "small", "source": source, "embed": {"text": {"encoder": "hashing", "dim": 8}}}
    before = os.environ.get("FEDPREP_CACHE")
    os.environ["FEDPREP_CACHE"] = str(folder / "cache")
    try:
        partition = {"method": "iid", "n_clients": 4}
        return build_dataset(parse_recipe({**tree, "partition": partition}), folder / "small")
    finally:
        if before is not None:
            os.environ["FEDPREP_CACHE"] = before


@pytest.mark.parametrize("to", ["hf", "client-files"])
def test_an_export_that_keeps_clients_and_splits_passes_the_checks_of_its_dataset(
    dataset: Dataset, tmp_path: Path, to: str
) -> None:
    export(dataset, tmp_path / "out", to=to)
    of_dataset, of_export = validate(dataset), validate(tmp_path / "out")
    worse = [
        result.name
        for result in of_export.results
        if result.status in ("fail", "error") and of_dataset[result.name].status != result.status
    ]
    assert worse == []
    ran = {result.name for result in of_export.results if result.status != "skipped"}
    expected = {"splits_do_not_overlap", "clients_have_enough_rows"}
    assert (
        expected | ({"embeddings_are_finite", "index_matches_shards"} if to == "hf" else set())
        <= ran
    )


def test_csv_holds_every_row_and_lists_as_text(dataset: Dataset, tmp_path: Path) -> None:
    export(dataset, tmp_path / "csv", to="csv")
    rows = pl.read_csv(tmp_path / "csv" / "interactions.csv")
    assert rows.height == 300
    assert rows["rating"].sum() == dataset.interactions().collect()["rating"].sum()
    items = pl.read_csv(tmp_path / "csv" / "items.csv")
    assert items["categories"][0] == "|".join(dataset.items().collect()["categories"][0])
    users = pl.read_csv(tmp_path / "csv" / "users.csv")
    assert len(users["behavior"][0].split("|")) == 32


def test_recbole_files_have_typed_headers_and_a_file_a_split(
    dataset: Dataset, tmp_path: Path
) -> None:
    export(dataset, tmp_path / "r", to="recbole")
    inter = pl.read_csv(tmp_path / "r" / "small.inter", separator="\t")
    assert inter.columns[:4] == [
        "user_id:token",
        "item_id:token",
        "rating:float",
        "timestamp:float",
    ]
    parts = [
        pl.read_csv(tmp_path / "r" / f"small.{s}.inter", separator="\t")
        for s in ("train", "valid", "test")
    ]
    assert sum(part.height for part in parts) == inter.height == 300
    lines = (tmp_path / "r" / "small.item").read_text().splitlines()
    assert lines[0].split("\t") == [
        "item_id:token",
        "title:token_seq",
        "text:token_seq",
        "categories:token_seq",
    ]
    assert len(lines) == 1 + dataset.items().collect().height
    assert all(line.count("\t") == 3 for line in lines)


def test_hf_is_a_folder_of_parquet_files_named_in_its_front_matter(
    dataset: Dataset, tmp_path: Path
) -> None:
    export(dataset, tmp_path / "hf", to="hf")
    card = (tmp_path / "hf" / "README.md").read_text()
    named = [
        line.split(": ")[1]
        for line in card.splitlines()
        if line.strip().startswith(("path:", "data_files: "))
    ]
    assert len(named) == 3 + 4
    for name in named:
        assert (tmp_path / "hf" / name).is_file()
    assert pl.read_parquet(tmp_path / "hf" / "data" / "test.parquet")[
        "split"
    ].unique().to_list() == ["test"]
    assert dataset.id in card


def test_a_client_folder_holds_its_own_rows_and_users_and_no_others(
    dataset: Dataset, tmp_path: Path
) -> None:
    export(dataset, tmp_path / "c", to="client-files")
    for client_id in range(4):
        place = tmp_path / "c" / f"client-{client_id:05d}"
        rows = pl.read_parquet(place / "interactions.parquet")
        assert rows.equals(dataset.client(client_id))
        users = pl.read_parquet(place / "users.parquet")
        assert set(users["user_id"]) == set(rows["user_id"])
        assert "source_id" not in users.columns
    items = pl.read_parquet(tmp_path / "c" / "items.parquet")
    assert items.height == dataset.items().collect().height
    assert items["text_embedding"].dtype == pl.Array(pl.Float32, 8)


@pytest.mark.parametrize("to", EXPORTS)
def test_an_export_replaces_only_an_export_and_only_with_force(
    dataset: Dataset, tmp_path: Path, to: str
) -> None:
    files = export(dataset, tmp_path / "out", to=to)
    assert all(path.is_file() for path in files)
    with pytest.raises(OutputError, match="--force"):
        export(dataset, tmp_path / "out", to=to)
    assert export(dataset, tmp_path / "out", to=to, force=True) == files


def test_an_unknown_format_names_the_nearest(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(FedprepError, match="did you mean 'csv'"):
        export(dataset, tmp_path / "out", to="cvs")


def test_safe_cells_hold_no_formula_and_numbers_stay_numbers() -> None:
    texts = ["=1+1", "+a", "-a", "@a", "\ta", "\ra", " =a", "＝a", "plain", "a=b", None]
    table = pl.LazyFrame({"title": texts, "n": [-1.5] * len(texts), "=odd": ["x"] * len(texts)})
    shown = safe(table).collect()
    assert shown.columns == ["title", "n", "'=odd"]
    assert [text for text in shown["title"] if text and text.startswith("'")] == [
        f"'{text}" for text in texts[:8]
    ]
    assert shown["title"].to_list()[8:] == texts[8:]
    assert shown["n"].to_list() == [-1.5] * len(texts)


def test_safe_cells_are_of_csv_and_of_every_table_of_it(dataset: Dataset, tmp_path: Path) -> None:
    items = dataset.path / "items.parquet"
    before = items.read_bytes()
    pl.read_parquet(items).with_columns(
        pl.lit("=HYPERLINK()").alias("title"), pl.lit(["@x", "y"]).alias("categories")
    ).write_parquet(items)
    try:
        export(dataset, tmp_path / "csv", to="csv", safe_cells=True)
    finally:
        items.write_bytes(before)
    shown = pl.read_csv(tmp_path / "csv" / "items.csv")
    assert set(shown["title"]) == {"'=HYPERLINK()"}
    assert set(shown["categories"]) == {"'@x|y"}
    with pytest.raises(FedprepError):
        export(dataset, tmp_path / "hf", to="hf", safe_cells=True)


@pytest.mark.parametrize(
    "change", ["photo.txt", "data/photo.txt", "items.csv.bak"], ids=lambda name: name
)
def test_force_replaces_an_export_and_nothing_that_lies_in_it(
    dataset: Dataset, tmp_path: Path, change: str
) -> None:
    out = tmp_path / "out"
    export(dataset, out, to="csv")
    export(dataset, out, to="hf", force=True)
    assert not (out / "items.csv").exists()
    (out / change).write_text("dear")
    with pytest.raises(OutputError):
        export(dataset, out, to="csv", force=True)
    assert (out / change).read_text() == "dear"
