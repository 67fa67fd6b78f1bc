"""The build: raw files to a Dataset, stage after stage, written whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from fedprep.behavior import behavior_features
from fedprep.build.finish import finish
from fedprep.build.log import SYNTHETIC, Hands, Log
from fedprep.build.raw import fetch_raw, read_raw, terms_of_manifest, terms_shown_first_time
from fedprep.build.tables import (
    dense_ids,
    filled_with_zeros,
    items_table,
    user_profiles,
    users_table,
)
from fedprep.build.write import write_clients, write_embeddings, write_whole_manifest
from fedprep.clean import class_values, clean
from fedprep.dataset import Dataset
from fedprep.embed import embed_images, embed_text, render_texts
from fedprep.embed.encoders import with_all_missing
from fedprep.errors import MissingExtraError
from fedprep.files import cache_folder, whole_folder
from fedprep.manifest import DATASET
from fedprep.recipe import Partition, Recipe, parse_recipe
from fedprep.schema import CLIENT_ID, ITEM_ID, SOURCE_ID, SPLIT, USER_ID, Step, silent
from fedprep.split import split

__all__ = [
    "SYNTHETIC",
    "Hands",
    "build_dataset",
    "fetch_raw",
    "repartition",
    "terms_of_manifest",
    "terms_shown_first_time",
]


def build_dataset(
    recipe: Recipe, out: str | Path, *, hands: Hands | None = None, force: bool = False
) -> Dataset:
    """Returns the Dataset that a recipe describes, built at `out`.

    Equal recipe and equal raw bytes give an equal id. A killed build leaves nothing at `out`; the
    next one starts over, but embeds nothing again.

    Args:
        recipe: what to build.
        out: the directory to be; its parent is made.
        hands: how to reach files and processors.
        force: replace the Dataset that is at `out`.

    Raises:
        FedprepError: anything that the user can mend; `out` is then as it was.
    """
    hands = hands or Hands()
    out = Path(out)
    with whole_folder(out, kind=DATASET, force=force) as folder:
        log = Log()
        work = folder / ".work"
        work.mkdir()
        raw, coded, pictures = read_raw(recipe, hands, work, log)
        with log.stage("clean"):
            rows, steps = clean(coded.interactions, recipe.clean, has_metadata=coded.has_metadata)
            log.entries["classes"] = class_values(rows, recipe.clean)
            log.steps += steps
        with log.stage("split"):
            rows, steps, log.entries["split"] = split(rows, recipe.split, seed=recipe.seed)
            log.steps += steps
        with log.stage("tables"):
            rows, user_keys = dense_ids(rows, USER_ID, coded.users)
            rows, item_keys = dense_ids(rows, ITEM_ID, coded.items)
            items = _with_texts(items_table(raw, item_keys), recipe.embed.text.template)
            users = users_table(raw, user_keys)
        del raw, coded
        shutil.rmtree(work)
        try:
            profiles = _embed(recipe, hands, rows, items, pictures, folder, log)
        except MissingExtraError as error:
            raise with_all_missing(error, recipe) from None
        users = _with_behaviour(recipe, rows, items, users, log)
        write_clients(recipe, rows, items, users, profiles, folder, log)
        write_whole_manifest(recipe, folder, log)
        finish(folder, out, progress=hands.progress)
    return Dataset.open(out)


def _with_texts(items: pl.DataFrame, template: str) -> pl.DataFrame:
    texts = render_texts(items, template).alias("text")
    first = (ITEM_ID, SOURCE_ID, "title")
    return items.select(*first, texts, pl.exclude(*first))


def _embed(
    recipe: Recipe,
    hands: Hands,
    rows: pl.DataFrame,
    items: pl.DataFrame,
    pictures: Path | None,
    folder: Path,
    log: Log,
) -> npt.NDArray[np.float32] | None:
    """Writes the embeddings of items; returns the users' profiles where the partition wants them."""
    train = rows.filter(pl.col(SPLIT) == "train")
    in_train = np.zeros(items.height, dtype=bool)
    in_train[train[ITEM_ID].to_numpy()] = True
    text, image = recipe.embed.text, recipe.embed.image
    reach: dict[str, Any] = {
        "cache": cache_folder() / "embeddings",
        "device": hands.device,
        "threads": hands.threads,
        "progress": hands.progress,
    }
    profiles = None
    with log.stage("embed"):
        if text.encoder != "none":
            embedded = embed_text(items["text"], text, engine=hands.engine, **reach)
            values = write_embeddings("text", embedded, text, in_train, folder, log)
            if recipe.partition.method == "by_cluster":
                profiles = user_profiles(train, values, rows[USER_ID].n_unique())
        if image.encoder != "none":
            embedded = embed_images(items, image, store=pictures, **reach)
            write_embeddings("image", embedded, image, in_train, folder, log)
    return profiles


def _with_behaviour(
    recipe: Recipe, rows: pl.DataFrame, items: pl.DataFrame, users: pl.DataFrame, log: Log
) -> pl.DataFrame:
    options = recipe.embed.behavior
    if options.dim == 0:
        return users
    with log.stage("embed"):
        features, facts = behavior_features(rows, items, users.height, options)
        log.entries.setdefault("encoders", {})["behavior"] = {
            "name": "train rows of the user",
            "dim": features.shape[1],
            "n_present": facts["users_with_train_rows"],
            "n_missing": facts["users_without_train_rows"],
            **facts,
        }
        column = pl.Series("behavior", features, dtype=pl.Array(pl.Float32, features.shape[1]))
        return users.select(USER_ID, SOURCE_ID, column, pl.exclude(USER_ID, SOURCE_ID))


def repartition(
    dataset: Dataset, out: str | Path, options: Partition, *, force: bool = False
) -> Dataset:
    """Returns a Dataset with the same rows and embeddings at other clients; nothing is embedded again.

    Its id is the one that a build of the changed recipe would give.

    Raises:
        PartitionError: such clients cannot be made. OutputError: `out` is taken.
    """
    recipe = parse_recipe(dataset.manifest["recipe"], where=str(dataset.path))
    recipe = msgspec.structs.replace(recipe, partition=options)
    out = Path(out)
    with whole_folder(out, kind=DATASET, force=force) as folder, dataset.blamed():
        log = _log_of(dataset)
        rows = dataset.interactions().drop(CLIENT_ID).collect()
        users = dataset.users().drop(CLIENT_ID).collect()
        profiles = None
        if dataset.modalities:
            shutil.copytree(dataset.path / "embeddings", folder / "embeddings")
        if options.method == "by_cluster" and "text" in dataset.modalities:
            values = filled_with_zeros(dataset.embeddings("text").collect()["embedding"])
            train = rows.filter(pl.col(SPLIT) == "train")
            profiles = user_profiles(train, values, users.height)
        write_clients(recipe, rows, dataset.items().collect(), users, profiles, folder, log)
        write_whole_manifest(recipe, folder, log)
        finish(folder, out, progress=silent)
    return Dataset.open(out)


def _log_of(dataset: Dataset) -> Log:
    """Returns what the manifest of a Dataset says of the stages before its partition."""
    manifest = dataset.manifest
    log = Log(seconds=dict(manifest["seconds"]))
    steps = (step for step in manifest["steps"] if step["stage"] != "partition")
    log.steps = [msgspec.convert(step, Step) for step in steps]
    log.entries = {key: manifest[key] for key in ("source", "classes", "split", "encoders")}
    log.entries["tables"] = {
        name: table for name, table in manifest["tables"].items() if name.startswith("embeddings/")
    }
    return log
