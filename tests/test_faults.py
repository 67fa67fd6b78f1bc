"""Faults planted into finished Datasets: exactly as many as told, there and nowhere else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from fedprep import recipe
from fedprep.dataset import Dataset
from fedprep.errors import DatasetError, OutputError, RecipeError
from fedprep.faults import FAULTS, plant
from fedprep.files import sha256_of
from fedprep.manifest import describe_table, manifest_id, write_manifest
from fedprep.partition import heterogeneity
from fedprep.schema import SHARD, SPLIT_DTYPE, embedding_schema
from fedprep.shards import write_shards
from fedprep.sources.synthetic.laws import law_of
from fedprep.sources.synthetic.rows import row_blocks
from fedprep.sources.synthetic.truth import plant_truth

N_USERS, N_ITEMS, N_CLIENTS = 60, 40, 12


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Dataset without a fault: 12 clients, text for all items, pictures for most."""
    folder = tmp_path_factory.mktemp("dataset") / "whole"
    size = recipe.Synthetic(n_users=N_USERS, n_items=N_ITEMS, n_interactions=800)
    drawn = pl.concat(row_blocks(plant_truth(size, law_of("amazon", "2018"), seed=1)))
    rows = drawn.rename({"user": "user_id", "item": "item_id"}).sort(
        "user_id", "timestamp", "item_id"
    )
    last = pl.int_range(pl.len(), dtype=pl.Int32).reverse().over("user_id")
    split = pl.when(last == 0).then(pl.lit("test")).when(last == 1).then(pl.lit("valid"))
    rows = rows.with_columns(
        client_id=pl.col("user_id") % N_CLIENTS,
        label=(pl.col("rating") >= 4).cast(pl.Int8),
        split=split.otherwise(pl.lit("train")).cast(SPLIT_DTYPE),
    ).select(*SHARD)
    rng = np.random.default_rng(0)
    items = pl.DataFrame(
        {
            "item_id": np.arange(N_ITEMS, dtype=np.int32),
            "text": [f"text {k}" for k in range(N_ITEMS)],
            "categories": [[f"topic {k % 4}"] for k in range(N_ITEMS)],
        }
    )
    users = pl.DataFrame(
        {
            "user_id": np.arange(N_USERS, dtype=np.int32),
            "behavior": pl.Series(rng.random((N_USERS, 4)), dtype=pl.Array(pl.Float32, 4)),
        }
    )
    per_client, _ = heterogeneity(rows, items, n_classes=2, min_rows=1)
    write_shards(rows, folder / "clients", per_client=per_client)
    tables = {"items.parquet": items, "users.parquet": users}
    for modality, dim, missing in (("text", 16, ()), ("image", 8, (3, 5, 7))):
        values = rng.normal(size=(N_ITEMS, dim)).astype(np.float32)
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        frame = pl.DataFrame(
            {"item_id": items["item_id"], "embedding": values}, schema=embedding_schema(dim)
        )
        null = pl.col("item_id").is_in(missing)
        embedding = pl.when(null).then(None).otherwise("embedding").alias("embedding")
        tables[f"embeddings/{modality}.parquet"] = frame.with_columns(embedding)
    (folder / "embeddings").mkdir()
    for name, frame in tables.items():
        frame.write_parquet(folder / name)
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.parquet"))]
    described = {n: describe_table(folder / n, pl.read_parquet(folder / n)) for n in names}
    splits = dict(rows["split"].cast(pl.String).value_counts().sort("split").iter_rows())
    labels = [list(pair) for pair in rows["label"].value_counts().sort("label").iter_rows()]
    facts = {"n_interactions": rows.height, "splits": splits, "labels": labels}
    write_manifest(
        folder,
        {"name": "whole", "recipe": {}, "source": {}, "facts": facts, "classes": [0.0, 1.0]}
        | {"encoders": {}, "tables": described},
    )
    return folder


def rows_of(folder: Path) -> pl.DataFrame:
    return Dataset.unchecked(folder).interactions().collect()


def rows_where(condition: pl.Expr) -> Callable[[Path], int]:
    return lambda folder: rows_of(folder).filter(condition).height


def embeddings_where(condition: Callable[[list[float]], bool]) -> Callable[[Path], int]:
    def count(folder: Path) -> int:
        column = pl.read_parquet(folder / "embeddings" / "text.parquet")["embedding"]
        return sum(condition(np.array(value)) for value in column.to_list() if value is not None)

    return count


def items_where(condition: pl.Expr) -> Callable[[Path], int]:
    return lambda folder: pl.read_parquet(folder / "items.parquet").filter(condition).height


def pairs_in_two_splits(folder: Path) -> int:
    pairs = rows_of(folder).group_by("user_id", "item_id").agg(pl.col("split").n_unique())
    return pairs.filter(pl.col("split") > 1).height


def pairs_twice(folder: Path) -> int:
    return int(rows_of(folder).group_by("user_id", "item_id").len()["len"].gt(1).sum())


def train_rows_after_test(folder: Path) -> int:
    last = pl.col("timestamp").filter(pl.col("split") == "test").max().over("user_id")
    return (
        rows_of(folder).filter((pl.col("split") == "train") & (pl.col("timestamp") > last)).height
    )


def rows_of_unknown_test_items(folder: Path) -> int:
    rows = rows_of(folder)
    known = rows.filter(pl.col("split") == "train")["item_id"].unique()
    return rows.filter(
        (pl.col("split") == "test") & ~pl.col("item_id").is_in(known.implode())
    ).height


def users_in_two_clients(folder: Path) -> int:
    return (
        rows_of(folder)
        .group_by("user_id")
        .agg(pl.col("client_id").n_unique())
        .filter(pl.col("client_id") > 1)
        .height
    )


def clients_in_two_files(folder: Path) -> int:
    seen: dict[int, int] = {}
    for path in (folder / "clients").glob("part-*.parquet"):
        for client in pl.read_parquet(path)["client_id"].unique():
            seen[client] = seen.get(client, 0) + 1
    return sum(n > 1 for n in seen.values())


def clients_without_test(folder: Path) -> int:
    return (
        rows_of(folder)
        .group_by("client_id")
        .agg((pl.col("split") == "test").any())
        .filter(~pl.col("split"))
        .height
    )


def clients_of_one_class(folder: Path) -> int:
    return (
        rows_of(folder)
        .group_by("client_id")
        .agg(pl.col("label").n_unique())
        .filter(pl.col("label") == 1)
        .height
    )


def shards_of_another_schema(folder: Path) -> int:
    schemas = [pl.read_parquet_schema(path) for path in (folder / "clients").glob("part-*.parquet")]
    return sum(schema != SHARD for schema in schemas)


def clients_that_the_index_miscounts(folder: Path) -> int:
    index = pl.read_parquet(folder / "clients" / "index.parquet")
    truth = (
        pl.concat([pl.read_parquet(path) for path in (folder / "clients").glob("part-*.parquet")])
        .group_by("client_id")
        .agg(n_rows=pl.len(), n_train=(pl.col("split") == "train").sum())
    )
    both = index.join(truth, on="client_id", suffix="_true")
    wrong = (pl.col("n_rows") != pl.col("n_rows_true")) | (
        pl.col("n_train") != pl.col("n_train_true")
    )
    return both.filter(wrong).height


def files_of_another_hash(folder: Path) -> int:
    tables = json.loads((folder / "manifest.json").read_text())["tables"]
    return sum(
        not (folder / name).exists() or sha256_of(folder / name) != table["sha256"]
        for name, table in tables.items()
    )


def files_of_another_length(folder: Path) -> int:
    tables = json.loads((folder / "manifest.json").read_text())["tables"]
    return sum(pq.read_metadata(folder / n).num_rows != t["rows"] for n, t in tables.items())


def splits_of_another_size(folder: Path) -> int:
    facts = json.loads((folder / "manifest.json").read_text())["facts"]
    counts = dict(rows_of(folder)["split"].cast(pl.String).value_counts().iter_rows())
    return sum(facts["splits"][name] != counts[name] for name in counts)


def keys_missing(folder: Path) -> int:
    manifest = json.loads((folder / "manifest.json").read_text())
    return sum(key not in manifest for key in ("facts", "encoders", "tables", "recipe", "source"))


def ids_that_are_not_the_manifests(folder: Path) -> int:
    manifest = json.loads((folder / "manifest.json").read_text())
    return int(manifest["id"] != manifest_id(manifest))


def items_without_a_row_of_embeddings(folder: Path) -> int:
    rows = pl.read_parquet(folder / "embeddings" / "text.parquet")
    return len(set(range(N_ITEMS)) - set(rows["item_id"].to_list()))


def equal_embeddings(folder: Path) -> int:
    column = pl.read_parquet(folder / "embeddings" / "text.parquet")["embedding"].to_list()
    texts = [tuple(value) for value in column]
    return sum(texts.count(text) > 1 for text in texts)


def nearly_equal_embeddings(folder: Path) -> int:
    values = np.array(
        pl.read_parquet(folder / "embeddings" / "text.parquet")["embedding"].to_list()
    )
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    near = (unit @ unit.T > 0.99999) & ~np.eye(len(unit), dtype=bool)
    assert equal_embeddings(folder) == 0
    return int(near.any(axis=1).sum())


def dead_dimensions(folder: Path) -> int:
    values = np.array(
        pl.read_parquet(folder / "embeddings" / "text.parquet")["embedding"].to_list()
    )
    return int((values == 0).all(axis=0).sum())


def modalities_of_another_scale(folder: Path) -> int:
    norms = []
    for modality in ("text", "image"):
        column = pl.read_parquet(folder / "embeddings" / f"{modality}.parquet")["embedding"]
        norms.append(np.linalg.norm(column.drop_nulls().to_numpy(), axis=1).mean())
    return int(np.allclose(max(norms) / min(norms), 10.0, rtol=1e-4))


def missing_pictures_with_zeros(folder: Path) -> int:
    column = pl.read_parquet(folder / "embeddings" / "image.parquet")["embedding"].to_list()
    return sum(value is not None and not np.any(value) for value in column)


def features_changed(whole: Path) -> Callable[[Path], int]:
    def count(folder: Path) -> int:
        old, new = (
            pl.read_parquet(f / "users.parquet")["behavior"].to_numpy() for f in (whole, folder)
        )
        return int((old != new).any(axis=1).sum())

    return count


FOUND: dict[str, Callable[[Path], int]] = {
    "null_ratings": rows_where(pl.col("rating").is_null()),
    "nan_ratings": rows_where(pl.col("rating").is_nan()),
    "infinite_ratings": rows_where(pl.col("rating").is_infinite()),
    "ratings_out_of_range": rows_where(~pl.col("rating").is_between(1, 5)),
    "wrong_labels": rows_where(pl.col("label") != (pl.col("rating") >= 4).cast(pl.Int8)),
    "millisecond_timestamps": rows_where(pl.col("timestamp") > 10**11),
    "future_timestamps": rows_where(pl.col("timestamp") > 2 * 10**9),
    "dangling_items": rows_where(pl.col("item_id") >= N_ITEMS),
    "dangling_users": rows_where(pl.col("user_id") >= N_USERS),
    "rows_without_client": rows_where(pl.col("client_id").is_null()),
    "repeated_pairs": pairs_twice,
    "overlapping_splits": pairs_in_two_splits,
    "train_after_test": train_rows_after_test,
    "unknown_test_items": rows_of_unknown_test_items,
    "user_in_two_clients": users_in_two_clients,
    "client_in_two_files": clients_in_two_files,
    "clients_without_test": clients_without_test,
    "clients_of_one_class": clients_of_one_class,
    "wrong_dtype": shards_of_another_schema,
    "missing_column": shards_of_another_schema,
    "repeated_item_ids": lambda folder: (
        N_ITEMS - pl.read_parquet(folder / "items.parquet")["item_id"].n_unique()
    ),
    "null_texts": items_where(pl.col("text").is_null()),
    "markup_in_texts": items_where(pl.col("text").str.contains("<span")),
    "nan_embeddings": embeddings_where(lambda value: bool(np.isnan(value).any())),
    "infinite_embeddings": embeddings_where(lambda value: bool(np.isinf(value).any())),
    "zero_embeddings": embeddings_where(lambda value: not np.any(value)),
    "constant_embeddings": embeddings_where(lambda value: len(np.unique(value)) == 1),
    "duplicate_embeddings": equal_embeddings,
    "near_duplicate_embeddings": nearly_equal_embeddings,
    "dead_dimensions": dead_dimensions,
    "modality_ten_times_too_large": modalities_of_another_scale,
    "zeros_for_missing": missing_pictures_with_zeros,
    "embeddings_without_rows": items_without_a_row_of_embeddings,
    "lying_index": clients_that_the_index_miscounts,
    "wrong_hash": files_of_another_hash,
    "flipped_bit": files_of_another_hash,
    "corrupt_shard": files_of_another_hash,
    "missing_file": files_of_another_hash,
    "wrong_row_count": files_of_another_length,
    "wrong_split_sizes": splits_of_another_size,
    "incomplete_manifest": keys_missing,
    "edited_manifest": ids_that_are_not_the_manifests,
    "newer_format": lambda folder: json.loads((folder / "manifest.json").read_text())["format"] - 1,
}
"""Fault → brute force that counts it, and finds nothing in the Dataset without a fault."""

OF_FILES = ("wrong_hash", "flipped_bit", "corrupt_shard", "missing_file")
BY_NATURE_NOT_AS_INDEXED = (
    "lying_index",
    "client_in_two_files",
    "rows_without_client",
    "wrong_dtype",
    "missing_column",
    "corrupt_shard",
    "missing_file",
)
SEED = 5


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_fault_is_planted_exactly_as_told(whole: Path, tmp_path: Path, fault: str) -> None:
    before = digests(whole)
    planted = plant(whole, tmp_path / "damaged", fault, seed=SEED)
    find = {
        **FOUND,
        "leaking_features": features_changed(whole),
        "nan_features": features_changed(whole),
    }[fault]
    assert find(whole) == 0
    assert find(tmp_path / "damaged") == planted["count"] > 0
    assert len(planted["first"]) == min(3, planted["count"])
    assert planted["fault"] == fault and planted["check"]
    assert json.loads(json.dumps(planted)) == planted
    assert digests(whole) == before
    if fault not in OF_FILES:
        assert files_of_another_hash(tmp_path / "damaged") == 0
    if fault not in BY_NATURE_NOT_AS_INDEXED:
        assert clients_that_the_index_miscounts(tmp_path / "damaged") == 0


@pytest.mark.parametrize("fault", ["repeated_pairs", "user_in_two_clients", "dead_dimensions"])
def test_equal_seeds_plant_the_same_and_others_another(
    whole: Path, tmp_path: Path, fault: str
) -> None:
    told = [plant(whole, tmp_path / str(k), fault, seed=seed) for k, seed in enumerate((1, 1, 2))]
    assert told[0] == told[1] != told[2]
    assert digests(tmp_path / "0") == digests(tmp_path / "1") != digests(tmp_path / "2")


def test_only_the_damaged_tables_change(whole: Path, tmp_path: Path) -> None:
    plant(whole, tmp_path / "damaged", "nan_embeddings", seed=SEED)
    before, after = digests(whole), digests(tmp_path / "damaged")
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"embeddings/text.parquet", "manifest.json"}


def test_rows_that_are_set_do_not_move_the_row_groups(whole: Path, tmp_path: Path) -> None:
    plant(whole, tmp_path / "damaged", "nan_ratings", seed=SEED)
    one, two = Dataset.unchecked(whole), Dataset.unchecked(tmp_path / "damaged")
    for client in one.client_ids().tolist():
        expected, found = one.client(client).drop("rating"), two.client(client).drop("rating")
        assert expected.equals(found)


@pytest.mark.parametrize("fault", ["missing_file", "newer_format"])
def test_a_dataset_that_cannot_be_opened_says_so(whole: Path, tmp_path: Path, fault: str) -> None:
    plant(whole, tmp_path / "damaged", fault)
    with pytest.raises(DatasetError):
        Dataset.unchecked(tmp_path / "damaged")


def test_what_cannot_be_planted_is_refused(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="nan_ratings"):
        plant(whole, tmp_path / "damaged", "nan_rating")
    with pytest.raises(DatasetError):
        plant(tmp_path, tmp_path / "damaged", "nan_ratings")
    plant(whole, tmp_path / "once", "zeros_for_missing")
    with pytest.raises(DatasetError, match="every item has"):
        plant(tmp_path / "once", tmp_path / "twice", "zeros_for_missing")
    assert not (tmp_path / "twice").exists()
    with pytest.raises(OutputError):
        plant(whole, tmp_path / "once", "nan_ratings")


def test_every_fault_has_a_test_a_line_of_words_and_one_of_documentation() -> None:
    page = Path(__file__).parent.parent / "docs" / "synthetic.md"
    documented = page.read_text(encoding="utf-8")
    for name, function in FAULTS.items():
        line = (function.__doc__ or "").partition("\n")[0]
        assert 0 < len(line) < 100, name
        assert f"| `{name}` | {line} |" in documented, f"{name} is not documented"
    assert set(FOUND) | {"leaking_features", "nan_features"} == set(FAULTS)
