"""Real raw files, where there are any, become the Datasets that they are known to be."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from fedprep.build import Hands, build_dataset
from fedprep.recipe import load_recipe, parse_recipe

pytestmark = pytest.mark.realdata

HASHED = ["embed.text.encoder=hashing", "embed.text.dim=32"]


@pytest.fixture(autouse=True)
def _searched(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDPREP_MIRROR", str(mirror))


def test_movielens_1m(tmp_path: Path) -> None:
    recipe = load_recipe("movielens-1m", HASHED)
    dataset = build_dataset(recipe, tmp_path / "a")
    facts = dataset.manifest["facts"]
    assert facts["n_interactions"] == 1_000_209
    assert facts["n_users"] == facts["n_clients"] == 6_040
    assert facts["n_items"] == 3_706
    assert facts["splits"] == {"train": 988_129, "valid": 6_040, "test": 6_040}
    assert [count for _, count in facts["ratings"]] == [56_174, 107_557, 261_197, 348_971, 226_310]
    (file,) = dataset.manifest["source"]["files"]
    assert file["verified"] == "official"
    assert build_dataset(recipe, tmp_path / "b").id == dataset.id


def test_movielens_1m_with_plots_as_texts(tmp_path: Path) -> None:
    items = {
        "file": "ml-1m_movies_extrainfos.dat.gz",
        "format": "csv",
        "separator": "::",
        "header": False,
        "columns": {"item": 0, "plot": 9},
        "missing": ["N/A"],
    }
    tree = {
        "name": "plots",
        "source": {"name": "movielens", "edition": "1m", "items": items},
        "embed": {"text": {"encoder": "hashing", "template": "{title}. {plot}"}},
    }
    dataset = build_dataset(parse_recipe(tree), tmp_path / "out")
    plots = dataset.items().collect()["plot"]
    assert len(plots) == 3_706
    assert 3_600 < plots.is_not_null().sum() < 3_706


@pytest.mark.slow
def test_movielens_1m_with_posters(tmp_path: Path) -> None:
    settings = ["embed.image.encoder=efficientnet-lite0", "embed.image.images=posters_dev.zip"]
    dataset = build_dataset(load_recipe("movielens-1m", [*HASHED, *settings]), tmp_path / "out")
    image = dataset.manifest["encoders"]["image"]
    assert image["n_present"] + image["n_missing"] == 3_706
    assert 100 < image["n_present"] <= 122


@pytest.mark.slow
def test_amazon_gift_cards_with_pictures(tmp_path: Path) -> None:
    settings = [
        "source.category=Gift_Cards",
        "embed.image.encoder=efficientnet-lite0",
        "embed.image.images=Gift_Cards_images.zip",
        "embed.image.size=96",
    ]
    dataset = build_dataset(load_recipe("amazon-2018", [*HASHED, *settings]), tmp_path / "out")
    facts, image = dataset.manifest["facts"], dataset.manifest["encoders"]["image"]
    assert (facts["n_interactions"], facts["n_users"], facts["n_items"]) == (2_965, 458, 148)
    assert (image["n_present"], image["n_missing"]) == (115, 33)
    vectors = dataset.embeddings("image").collect()["embedding"]
    assert vectors.null_count() == 33


def test_yelp_by_state(tmp_path: Path, mirror: Path) -> None:
    settings = ["clean.k_core=0", "partition.method=by_column", "partition.column=state"]
    dataset = build_dataset(
        load_recipe("yelp", [*HASHED, *settings]),
        tmp_path / "out",
        hands=Hands(given=mirror / "yelp"),
    )
    facts, partition = dataset.manifest["facts"], dataset.manifest["partition"]
    assert (facts["n_interactions"], facts["n_users"], facts["n_items"]) == (4_999, 4_843, 2_663)
    assert "PA" in partition["names"]
    known = dataset.items().collect()["title"].is_not_null().sum()
    assert known == 914
    users_of_clients = dataset.users().group_by("client_id").agg(pl.len()).collect()
    assert users_of_clients["len"].sum() == 4_843


def test_an_own_table(tmp_path: Path, mirror: Path) -> None:
    """The columns of Yelp's reviews, read as if they were somebody's own JSON lines."""
    columns = {"user": "user_id", "item": "business_id", "rating": "stars", "timestamp": "date"}
    tree = {
        "name": "mine",
        "source": {
            "name": "table",
            "file": "yelp_academic_dataset_review.json",
            "format": "jsonl",
            "columns": columns,
            "time_unit": "text",
        },
        "embed": {"text": {"encoder": "none"}},
    }
    dataset = build_dataset(parse_recipe(tree), tmp_path / "out")
    assert dataset.manifest["facts"]["n_interactions"] == 4_999
