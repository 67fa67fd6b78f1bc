"""A small Dataset as the build makes it, texts and pictures embedded: any fault can be planted in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl

from fedprep.build import build_dataset
from fedprep.manifest import describe_table, read_manifest, write_manifest
from fedprep.recipe import parse_recipe
from fedprep.schema import embedding_schema

N_USERS, N_ITEMS, IMAGE_DIM = 70, 50, 24
WITHOUT_PICTURE = (3, 8, 21, 22)


def write_built(folder: Path) -> Path:
    """Writes a Dataset of synthetic rows: 12 clients of whole users, hashed texts, pictures made up here."""
    recipe = parse_recipe(
        {
            "name": "built",
            "source": {
                "name": "synthetic",
                "edition": "2018",
                "category": "Gift_Cards",
                "synthetic": {
                    "n_users": N_USERS, "n_items": N_ITEMS, "n_interactions": 1_200, "images": 0.0
                },
            },
            "embed": {
                "text": {
                    "encoder": "hashing", "dim": 48, "template": "{title}. {categories}. {description}"
                },
                "behavior": {"dim": 24},
            },
            "partition": {"method": "dirichlet", "on": "category", "n_clients": 12, "alpha": 5.0},
        }
    )  # fmt: skip
    with own_cache(folder.parent):
        build_dataset(recipe, folder)
    add_pictures(folder)
    return folder


@contextmanager
def own_cache(folder: Path) -> Iterator[None]:
    """Keeps the build away from the user's cache, where no fixture of a test does so."""
    before = os.environ.get("FEDPREP_CACHE")
    os.environ["FEDPREP_CACHE"] = str(folder / "cache")
    try:
        yield
    finally:
        if before is None:
            del os.environ["FEDPREP_CACHE"]
        else:
            os.environ["FEDPREP_CACHE"] = before


def add_pictures(folder: Path) -> None:
    """Adds unit vectors as embeddings of pictures, null for a few items, and tells the manifest."""
    manifest = read_manifest(folder)
    n_items = manifest["facts"]["n_items"]
    values = np.random.default_rng(1).normal(size=(n_items, IMAGE_DIM)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    frame = pl.DataFrame(
        {"item_id": np.arange(n_items, dtype=np.int32), "embedding": values},
        schema=embedding_schema(IMAGE_DIM),
    ).with_columns(
        pl.when(~pl.col("item_id").is_in(WITHOUT_PICTURE)).then("embedding").alias("embedding")
    )
    path = folder / "embeddings" / "image.parquet"
    frame.write_parquet(path)
    there = np.setdiff1d(np.arange(n_items), WITHOUT_PICTURE)
    measured = {
        "n_present": len(there),
        "n_zero": 0,
        "norm_min": 1.0,
        "norm_median": 1.0,
        "norm_max": 1.0,
        "rms": IMAGE_DIM**-0.5,
        "mean_abs": float(np.abs(values[there]).mean()),
    }
    manifest["encoders"]["image"] = {
        "name": "made up",
        "dim": IMAGE_DIM,
        "normalise": "l2",
        "n_present": len(there),
        "n_missing": len(WITHOUT_PICTURE),
        "statistics": {"before": measured, "after": measured},
    }
    manifest["tables"]["embeddings/image.parquet"] = describe_table(path, frame)
    write_manifest(folder, {k: v for k, v in manifest.items() if k not in ("format", "id")})
