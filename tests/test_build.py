"""From made-up raw files, in their official format, to a Dataset that keeps its contract."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from fedprep.build import Hands, build_dataset, repartition
from fedprep.dataset import Dataset
from fedprep.errors import OutputError, PartitionError, RecipeError
from fedprep.files import sha256_of
from fedprep.manifest import manifest_id
from fedprep.recipe import Recipe, change_partition, parse_recipe
from fedprep.schema import INDEX, ITEMS, SHARD, USERS

SMALL = {"n_users": 60, "n_items": 40, "n_interactions": 900, "images": 0.5, "image_size": 32}


def recipe(**tables: Any) -> Recipe:
    tree: dict[str, Any] = {
        "name": "small",
        "source": {
            "name": "synthetic",
            "edition": "2018",
            "category": "Gift_Cards",
            "synthetic": SMALL,
        },
        "embed": {"text": {"encoder": "hashing", "dim": 16}, "behavior": {"dim": 12}},
        "partition": {"method": "dirichlet", "on": "category", "n_clients": 5},
    }
    return parse_recipe({**tree, **tables})


def hashes(folder: Path) -> dict[str, str]:
    """The hash of every table of a Dataset: manifest, report and card hold times."""
    files = sorted(folder.rglob("*.parquet"))
    return {str(path.relative_to(folder)): sha256_of(path) for path in files}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("build")
    before = os.environ.get("FEDPREP_CACHE")
    os.environ["FEDPREP_CACHE"] = str(folder / "cache")
    try:
        return build_dataset(recipe(), folder / "small")
    finally:
        if before is not None:
            os.environ["FEDPREP_CACHE"] = before


def test_the_tables_have_the_columns_and_types_of_format_1(dataset: Dataset) -> None:
    tables = {"items": (dataset.items(), ITEMS), "users": (dataset.users(), USERS)}
    tables |= {"shards": (dataset.interactions(), SHARD), "index": (dataset.index.lazy(), INDEX)}
    for name, (table, fixed) in tables.items():
        schema = table.collect_schema()
        assert list(schema)[: len(fixed)] == list(fixed), name
        for column, dtype in fixed.items():
            assert dtype is None or schema[column] == dtype, f"{name}.{column}"
    assert dataset.embeddings("text").collect_schema()["embedding"] == pl.Array(pl.Float32, 16)
    assert dataset.users().collect_schema()["behavior"] == pl.Array(pl.Float32, 12)


def test_ids_are_dense_and_every_reference_holds(dataset: Dataset) -> None:
    rows = dataset.interactions().collect()
    items, users = dataset.items().collect(), dataset.users().collect()
    for column, table in (("item_id", items), ("user_id", users)):
        assert table[column].to_list() == list(range(table.height))
        assert rows[column].unique().sort().to_list() == table[column].to_list()
        assert table["source_id"].n_unique() == table.height
    assert dataset.client_ids().tolist() == list(range(5))
    assert rows["client_id"].unique().sort().to_list() == list(range(5))
    owner = dict(users.select("user_id", "client_id").iter_rows())
    assert all(
        owner[user] == client for user, client in rows.select("user_id", "client_id").iter_rows()
    )


def test_rows_are_sorted_and_the_index_leads_to_each_client(dataset: Dataset) -> None:
    rows = dataset.interactions().collect()
    assert rows.equals(rows.sort("client_id", "user_id", "timestamp", "item_id"))
    for client_id in dataset.client_ids().tolist():
        own = rows.filter(pl.col("client_id") == client_id)
        assert dataset.client(client_id).equals(own)
        entry = dataset.index.row(client_id, named=True)
        assert entry["n_rows"] == own.height
        assert entry["n_train"] == (own["split"] == "train").sum()
        assert entry["n_users"] == own["user_id"].n_unique()
        assert list(entry["label_counts"]) == [(own["label"] == label).sum() for label in (0, 1)]
    assert pl.concat([frame for _, frame in dataset.clients()]).equals(rows)


@pytest.mark.parametrize("split", [None, "train", "valid", "test"])
def test_all_rows_come_as_arrays_with_offsets_per_client(
    dataset: Dataset, split: str | None
) -> None:
    arrays = dataset.arrays(split)
    for client_id in arrays.client_id.tolist():
        own = dataset.client(client_id)
        own = own if split is None else own.filter(pl.col("split") == split)
        part = slice(arrays.offsets[client_id], arrays.offsets[client_id + 1])
        assert arrays.item_id[part].tolist() == own["item_id"].to_list()
        assert arrays.rating[part].dtype == np.float32
        assert arrays.timestamp[part].tolist() == own["timestamp"].to_list()


def test_embeddings_are_normalised_and_null_where_an_item_has_none(dataset: Dataset) -> None:
    items = dataset.items().collect()
    text = dataset.embeddings("text").collect()
    assert text["item_id"].to_list() == items["item_id"].to_list()
    assert (text["embedding"].is_null() == items["text"].is_null()).all()
    norms = np.linalg.norm(text["embedding"].drop_nulls().to_numpy(), axis=1)
    assert np.allclose(norms, 1.0, atol=1e-6)
    assert dataset.manifest["encoders"]["text"]["n_present"] == len(norms)


def test_the_manifest_accounts_for_every_row(dataset: Dataset) -> None:
    manifest = dataset.manifest
    facts = manifest["facts"]
    assert facts["n_interactions"] == dataset.interactions().collect().height == 900
    assert sum(facts["splits"].values()) == 900
    assert manifest["recipe"] == recipe().to_dict()
    for step in manifest["steps"]:
        assert step["rows_in"] - step["rows_out"] == step["dropped"]
    for name, table in manifest["tables"].items():
        assert table["sha256"] == sha256_of(dataset.path / name)
        assert table["bytes"] == (dataset.path / name).stat().st_size
    on_disk = {str(p.relative_to(dataset.path)) for p in dataset.path.rglob("*.parquet")}
    assert on_disk == set(manifest["tables"])


def test_no_path_of_the_machine_gets_into_the_manifest(dataset: Dataset) -> None:
    text = (dataset.path / "manifest.json").read_text()
    assert str(dataset.path.parent) not in text
    assert str(Path.home()) not in text


def test_two_builds_have_the_same_bytes_and_id_with_any_number_of_threads(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps(recipe().to_dict()))
    script = (
        "import json, sys; from pathlib import Path\n"
        "from fedprep.build import build_dataset; from fedprep.recipe import parse_recipe\n"
        "recipe = parse_recipe(json.loads(Path('r.json').read_text()))\n"
        "print(build_dataset(recipe, Path(sys.argv[1])).id)"
    )
    ids = []
    for threads in ("1", "2"):
        given = {
            **os.environ,
            "POLARS_MAX_THREADS": threads,
            "FEDPREP_CACHE": str(tmp_path / f"cache{threads}"),
        }
        done = subprocess.run(
            [sys.executable, "-c", script, f"out{threads}"],
            env=given,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        ids.append(done.stdout)
    assert ids[0] == ids[1]
    assert hashes(tmp_path / "out1") == hashes(tmp_path / "out2")


def test_another_seed_gives_another_id(tmp_path: Path, dataset: Dataset) -> None:
    assert build_dataset(recipe(seed=1), tmp_path / "other").id != dataset.id


def test_train_eval_and_validate_do_not_change_the_id(tmp_path: Path, dataset: Dataset) -> None:
    same = recipe(train={"rounds": 3}, eval={"k": [3]}, validate={"fail_on": "never"})
    assert build_dataset(same, tmp_path / "same").id == dataset.id


def test_an_existing_dataset_is_kept_without_force(dataset: Dataset) -> None:
    before = hashes(dataset.path)
    with pytest.raises(OutputError, match="--force"):
        build_dataset(recipe(seed=2), dataset.path)
    assert hashes(dataset.path) == before


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(PartitionError):
        build_dataset(recipe(partition={"method": "iid", "n_clients": 61}), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["cache"]


@pytest.mark.parametrize("method", ["by_user", "iid", "quantity", "by_time"])
def test_partitioned_again_a_dataset_is_the_one_that_such_a_build_gives(
    tmp_path: Path, dataset: Dataset, method: str
) -> None:
    settings = [f"partition.method={method}"]
    options = change_partition(dataset.manifest["recipe"], settings)
    again = repartition(dataset, tmp_path / "again", options)
    built = build_dataset(
        recipe(partition={**recipe().to_dict()["partition"], "method": method}), tmp_path / "built"
    )
    assert again.id == built.id
    assert hashes(again.path) == hashes(built.path)


def test_clusters_of_text_profiles_can_be_partitioned_again(
    tmp_path: Path, dataset: Dataset
) -> None:
    options = change_partition(dataset.manifest["recipe"], ["partition.method=by_cluster"])
    again = repartition(dataset, tmp_path / "again", options)
    built = build_dataset(
        recipe(partition={**recipe().to_dict()["partition"], "method": "by_cluster"}),
        tmp_path / "built",
    )
    assert again.interactions().collect().equals(built.interactions().collect())
    assert again.id == built.id


def test_a_picture_encoder_without_pictures_says_what_it_needs(tmp_path: Path) -> None:
    small = {**SMALL, "images": 0.0}
    source = {"name": "synthetic", "edition": "2018", "category": "Gift_Cards", "synthetic": small}
    with pytest.raises(RecipeError, match="none are named"):
        build_dataset(
            recipe(source=source, embed={"image": {"encoder": "efficientnet-lite0"}}),
            tmp_path / "out",
        )


def test_a_file_that_the_recipe_names_and_nobody_has_is_an_error(tmp_path: Path) -> None:
    embed = {"image": {"encoder": "efficientnet-lite0", "images": "posters.zip"}}
    with pytest.raises(RecipeError, match=r"posters\.zip"):
        build_dataset(recipe(embed=embed), tmp_path / "out")


@pytest.mark.parametrize("form", ["folder", "zip", "gztar"])
def test_the_table_of_items_is_found_where_the_rows_are(tmp_path: Path, form: str) -> None:
    raw = tmp_path / "raw"
    (raw / "a").mkdir(parents=True)
    (raw / "b" / "c").mkdir(parents=True)
    rows = "".join(f"u{n % 9},i{n % 7},{n % 5 + 1},{10**9 + n}\n" for n in range(99))
    (raw / "a" / "rows.csv").write_text("u,i,r,t\n" + rows)
    titles = "".join(f"i{n},thing {n}\n" for n in range(7))
    (raw / "b" / "c" / "things.csv").write_text("i,title\n" + titles)
    given = raw if form == "folder" else Path(shutil.make_archive(str(raw), form, raw))
    source = {
        "name": "table",
        "file": "rows.csv",
        "columns": {"user": "u", "item": "i", "rating": "r", "timestamp": "t"},
        "items": {"file": "things.csv", "columns": {"item": "i", "title": "title"}},
    }
    made = build_dataset(
        recipe(source=source, partition={"method": "by_user"}),
        tmp_path / "out",
        hands=Hands(given=given),
    )
    assert made.items().collect()["title"].null_count() == 0
    read = [step for step in made.manifest["steps"] if "lines" in step]
    assert [sum(step["lines"].values()) for step in read] == [100, 8]


def test_what_the_manifest_says_of_lines_and_unset_keys_is_not_of_the_id(dataset: Dataset) -> None:
    manifest = json.loads(json.dumps(dataset.manifest))
    assert "lines" in manifest["steps"][0]
    assert not {"quote", "decimal", "markup", "max_bad_share"} & {*manifest["recipe"]["source"]}
    for step in manifest["steps"]:
        step.pop("lines", None)
    assert manifest_id(manifest) == dataset.id


@pytest.mark.parametrize(
    ("name", "edition"), [("movielens", "100k"), ("amazon", "2023"), ("yelp", "")]
)
def test_any_family_can_be_made_up_for_its_own_recipe(
    tmp_path: Path, name: str, edition: str
) -> None:
    source = {"name": name, "edition": edition, "synthetic": SMALL}
    if name == "amazon":
        source["category"] = "All_Beauty"
    made = build_dataset(recipe(source=source), tmp_path / "out", hands=Hands(given="synthetic"))
    assert made.manifest["source"]["synthetic"]
    assert made.manifest["facts"]["n_interactions"] == 900


@pytest.mark.parametrize("text", ["No space left on device", "[errno 28] no space left on device"])
def test_a_full_disk_is_one_message_with_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, text)

    monkeypatch.setattr("fedprep.build.write.write_shards", full)
    with pytest.raises(OutputError, match=r"No space left .* MB are free"):
        build_dataset(recipe(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_build_ends_with_a_verdict_and_a_card(dataset: Dataset) -> None:
    verdict = dataset.report
    assert verdict is not None
    assert verdict["counts"]["fail"] == verdict["counts"]["error"] == 0
    assert verdict["subject"]["id"] == dataset.id
    for name in ("README.md", "croissant.json"):
        text = (dataset.path / name).read_text(encoding="utf-8")
        assert dataset.name in text
        assert str(dataset.path.parent) not in text
