"""croissant.json: valid in the eyes of mlcroissant, true to the files, and data load through it."""

from __future__ import annotations

import importlib
import itertools
import math
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from cards import card_of, small_dataset

from fedprep.card.fields import MEANINGS, record_set
from fedprep.dataset import Dataset
from fedprep.files import sha256_of
from fedprep.schema import INDEX, ITEMS, SHARD, USERS

CARDS = Path(__file__).parent.parent / "data_cards"

# What mlcroissant and the packages below it warn of is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A small shop with a card beside it, where three items have no text embedding."""
    dataset = small_dataset(
        tmp_path_factory.mktemp("croissant"), source=WITHOUT_TEXTS, embed=EMBEDDED
    )
    card_of(dataset, dataset.path)
    return dataset


WITHOUT_TEXTS = {
    "name": "synthetic", "edition": "2018", "category": "Gift_Cards",
    "synthetic": {"n_users": 30, "n_items": 20, "n_interactions": 300, "images": 0.0,
                  "faults": ["empty_texts"]},
}  # fmt: skip
EMBEDDED = {
    "text": {"encoder": "hashing", "dim": 8, "template": "{description}"},
    "behavior": {"dim": 4},
}


@pytest.fixture(scope="module")
def tree(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return card_of(dataset, tmp_path_factory.mktemp("tree"))[1]


def opened(path: Path) -> Any:
    """The description as mlcroissant reads it; imported here, as that takes a second."""
    return importlib.import_module("mlcroissant").Dataset(str(path))


def tables(dataset: Dataset) -> dict[str, pl.LazyFrame]:
    return {
        "items": dataset.items(),
        "users": dataset.users(),
        "interactions": dataset.interactions(),
        "clients": dataset.index.lazy(),
        "embeddings-text": dataset.embeddings("text"),
    }


def test_the_validator_passes_without_a_word_of_warning(dataset: Dataset) -> None:
    script = Path(sys.executable).parent / "mlcroissant"
    command = [str(script), "validate", "--jsonld", str(dataset.path / "croissant.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Done." in done.stderr
    assert not any(word in done.stderr.lower() for word in ("warning", "error"))


@pytest.mark.parametrize("name", sorted(path.name for path in CARDS.iterdir() if path.is_dir()))
def test_committed_descriptions_are_valid_without_a_warning(name: str) -> None:
    issues = opened(CARDS / name / "croissant.json").metadata.ctx.issues
    assert not issues.errors and not issues.warnings


def test_it_conforms_to_the_versions_it_names(tree: dict[str, Any]) -> None:
    assert tree["conformsTo"] == [
        "http://mlcommons.org/croissant/1.1",
        "http://mlcommons.org/croissant/RAI/1.0",
    ]
    required = {
        "name",
        "description",
        "license",
        "url",
        "creator",
        "datePublished",
        "citeAs",
        "version",
    }
    assert required <= tree.keys()
    assert all(tree[key] for key in required)


def test_the_responsible_ai_properties_are_filled(tree: dict[str, Any]) -> None:
    told = {
        "dataCollection", "dataCollectionType", "dataCollectionMissingData", "dataCollectionRawData",
        "dataCollectionTimeframe", "dataPreprocessingProtocol", "dataAnnotationProtocol", "dataBiases",
        "dataLimitations", "dataUseCases", "dataSocialImpact", "personalSensitiveInformation",
        "dataReleaseMaintenancePlan",
    }  # fmt: skip
    assert all(tree[f"rai:{key}"] for key in told)
    assert "text embedding" in tree["rai:dataCollectionMissingData"]


def test_every_file_is_there_with_its_own_hash(dataset: Dataset, tree: dict[str, Any]) -> None:
    files = {f["@id"]: f for f in tree["distribution"] if f["@type"] == "cr:FileObject"}
    for name, file in files.items():
        assert sha256_of(dataset.path / name) == file["sha256"]
        assert file["contentSize"] == f"{(dataset.path / name).stat().st_size} B"
    (shards,) = (f for f in tree["distribution"] if f["@type"] == "cr:FileSet")
    for name in dataset.manifest["tables"]:
        assert (name in files) != fnmatch(name, shards["includes"])
    assert "manifest.json" in files


def test_every_column_is_a_field_with_its_shape(dataset: Dataset, tree: dict[str, Any]) -> None:
    sets = {one["@id"]: one for one in tree["recordSet"]}
    for name, table in tables(dataset).items():
        fields = {field["name"]: field for field in sets[name]["field"]}
        schema = table.collect_schema()
        assert list(fields) == schema.names()
        for column, dtype in schema.items():
            shape = {"Array": ",".join(map(str, getattr(dtype, "shape", ()))), "List": "-1"}
            assert fields[column].get("arrayShape") == shape.get(dtype.base_type().__name__)
            assert fields[column].get("isArray", False) == ("arrayShape" in fields[column])
    embedding = next(f for f in sets["embeddings-text"]["field"] if f["name"] == "embedding")
    assert (embedding["dataType"], embedding["arrayShape"]) == ("sc:Float", "8")


def test_every_fixed_column_has_a_meaning() -> None:
    fixed = [*ITEMS, *USERS, *SHARD, *INDEX, "embedding"]
    assert set(fixed) <= set(MEANINGS)


def test_types_of_a_source_s_own_columns_are_croissant_s() -> None:
    columns = {
        "item_id": "Int32", "year": "UInt16", "price": "Float64", "open": "Boolean",
        "day": "Date", "when": "Datetime(time_unit='us', time_zone=None)", "tags": "List(String)",
        "grid": "Array(Int32, shape=(2, 3))", "kind": "Categorical",
    }  # fmt: skip
    fields = {f["name"]: f for f in record_set("items", columns, file="items.parquet")["field"]}
    types = {name: field["dataType"] for name, field in fields.items()}
    assert types == {
        "item_id": "sc:Integer", "year": "sc:Integer", "price": "sc:Float", "open": "sc:Boolean",
        "day": "sc:Date", "when": "sc:DateTime", "tags": "sc:Text", "grid": "sc:Integer", "kind": "sc:Text",
    }  # fmt: skip
    assert fields["grid"]["arrayShape"] == "2,3"


@pytest.mark.parametrize("name", ["items", "users", "interactions", "clients", "embeddings-text"])
def test_records_load_through_it_and_are_the_rows(dataset: Dataset, name: str) -> None:
    records = opened(dataset.path / "croissant.json").records(name)
    wanted = tables(dataset)[name].head(3).collect().to_dicts()
    loaded = list(itertools.islice(records, 3))
    assert len(loaded) == 3
    for record, row in zip(loaded, wanted, strict=True):
        assert {key.partition("/")[2]: plain(value) for key, value in record.items()} == row


def plain(value: Any) -> Any:
    """A value as polars gives it: mlcroissant keeps texts as bytes."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def test_an_item_without_an_embedding_loads_as_none(dataset: Dataset) -> None:
    missing = dataset.embeddings("text").filter(pl.col("embedding").is_null()).collect()
    assert missing.height
    records = opened(dataset.path / "croissant.json").records("embeddings-text")
    empty = [
        r["embeddings-text/item_id"] for r in records if r["embeddings-text/embedding"] is None
    ]
    assert empty == missing["item_id"].to_list()


def test_all_rows_of_all_shards_load_with_their_split(dataset: Dataset) -> None:
    records = opened(dataset.path / "croissant.json").records("interactions")
    splits = [record["interactions/split"].decode() for record in records]
    assert splits == dataset.interactions().collect()["split"].cast(pl.String).to_list()


def test_the_splits_have_the_meanings_of_croissant(dataset: Dataset, tree: dict[str, Any]) -> None:
    splits = next(one for one in tree["recordSet"] if one.get("dataType") == "cr:Split")
    assert {row["splits/name"]: row["splits/url"] for row in splits["data"]} == {
        "train": "cr:TrainingSplit", "valid": "cr:ValidationSplit", "test": "cr:TestSplit",
    }  # fmt: skip
    rows = next(one for one in tree["recordSet"] if one["@id"] == "interactions")
    field = next(f for f in rows["field"] if f["name"] == "split")
    assert field["references"] == {"field": {"@id": "splits/name"}}


def test_a_changed_file_is_refused_when_it_is_loaded(dataset: Dataset, tmp_path: Path) -> None:
    shutil.copytree(dataset.path, tmp_path / "copy")
    items = tmp_path / "copy" / "items.parquet"
    pl.read_parquet(items).with_columns(title=pl.lit("x")).write_parquet(items)
    with pytest.raises(Exception, match=r"items\.parquet") as error:
        list(opened(tmp_path / "copy" / "croissant.json").records("items"))
    assert "not identical" in str(error.value.__cause__)
