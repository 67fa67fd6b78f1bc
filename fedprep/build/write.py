"""From tables to the files of a Dataset: embeddings, users, items, client shards, manifest."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fedprep.build.log import Log
from fedprep.build.tables import facts_of, user_clients
from fedprep.embed import Embedded, normalise
from fedprep.frames import read_parquet
from fedprep.manifest import describe_table, tool_versions, write_manifest
from fedprep.partition import heterogeneity, partition
from fedprep.recipe import EmbedImage, EmbedText, Recipe
from fedprep.schema import CLIENT_ID, ITEM_ID, SOURCE_ID, USER_ID, Step, embedding_schema
from fedprep.shards import write_shards

__all__ = ["EMBEDDING_ROWS", "write_clients", "write_embeddings", "write_whole_manifest"]

EMBEDDING_ROWS = 8_192
"""Rows in a row group of an embeddings file: a reader of some items does not load them all."""


def write_embeddings(
    modality: str,
    embedded: Embedded,
    options: EmbedText | EmbedImage,
    in_train: npt.NDArray[np.bool_],
    folder: Path,
    log: Log,
) -> npt.NDArray[np.float32]:
    """Normalises and writes one modality; returns the values, float32 (n_items, dim), zero where absent."""
    values, present, statistics = normalise(
        embedded.values,
        embedded.present,
        options.normalise,
        fit=in_train,
        dim=options.whiten_dim,
    )
    schema = embedding_schema(values.shape[1])
    missing = pl.Series(~present)
    frame = pl.DataFrame(
        {ITEM_ID: np.arange(len(values), dtype=np.int32), "embedding": values}, schema=schema
    ).with_columns(pl.when(missing).then(None).otherwise("embedding").alias("embedding"))
    path = folder / "embeddings" / f"{modality}.parquet"
    path.parent.mkdir(exist_ok=True)
    frame.write_parquet(path, compression="zstd", row_group_size=EMBEDDING_ROWS)
    log.entries.setdefault("tables", {})[f"embeddings/{modality}.parquet"] = describe_table(
        path, frame
    )
    log.entries.setdefault("encoders", {})[modality] = {
        **embedded.encoder,
        "normalise": options.normalise,
        "n_present": int(present.sum()),
        "n_missing": int((~present).sum()),
        "statistics": statistics,
    }
    log.steps += embedded.steps
    return values


def write_clients(
    recipe: Recipe,
    rows: pl.DataFrame,
    items: pl.DataFrame,
    users: pl.DataFrame,
    profiles: npt.NDArray[np.float32] | None,
    folder: Path,
    log: Log,
) -> None:
    """Gives every row a client and writes `items`, `users`, the shards and their index.

    Args:
        rows: `user_id`, `item_id`, `rating`, `label`, `timestamp`, `split`.
        items: `schema.ITEMS` and more. users: `user_id`, `source_id`, `behavior` and more.
        profiles: float32 (n_users, dim), for the partition by cluster.
    """
    options = recipe.partition
    seed = recipe.seed if options.seed is None else options.seed
    n_classes = len(log.entries["classes"])
    with log.stage("partition"):
        parts = partition(rows, items, users, options, seed=seed, profiles=profiles)
        rows = rows.with_columns(pl.Series(CLIENT_ID, parts.client_id))
        per_client, summary = heterogeneity(
            rows, items, n_classes=n_classes, min_rows=options.min_rows
        )
    log.steps += parts.steps
    log.entries["partition"] = {
        "method": options.method,
        "seed": seed,
        "n_clients": per_client.height,
        **parts.facts,
        "heterogeneity": summary,
    }
    with log.stage("write"):
        users = users.with_columns(user_clients(rows)).select(
            USER_ID, SOURCE_ID, CLIENT_ID, pl.exclude(USER_ID, SOURCE_ID, CLIENT_ID)
        )
        for name, frame in (("items", items), ("users", users)):
            path = folder / f"{name}.parquet"
            frame.write_parquet(path, compression="zstd")
            log.entries.setdefault("tables", {})[path.name] = describe_table(path, frame)
        index = write_shards(rows, folder / "clients", per_client=per_client)
        _describe_shards(folder, index, log)
    log.entries["facts"] = facts_of(rows)


def _describe_shards(folder: Path, index: pl.DataFrame, log: Log) -> None:
    described = log.entries["tables"]
    path = folder / "clients" / "index.parquet"
    described["clients/index.parquet"] = describe_table(path, index)
    for path in sorted((folder / "clients").glob("part-*.parquet")):
        described[f"clients/{path.name}"] = describe_table(path, read_parquet(path))


def _described(step: Step) -> dict[str, Any]:
    described = {**asdict(step), "dropped": step.dropped}
    if step.lines is None:
        del described["lines"]
    return described


def write_whole_manifest(recipe: Recipe, folder: Path, log: Log) -> dict[str, Any]:
    """Writes the manifest last: a folder without it is no Dataset."""
    entries = dict(log.entries)
    return write_manifest(
        folder,
        {
            "name": recipe.name,
            "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "recipe": recipe.to_dict(),
            **{key: entries[key] for key in ("source", "facts", "classes", "split")},
            "steps": [_described(step) for step in log.steps],
            "encoders": entries.get("encoders", {}),
            "partition": entries["partition"],
            "tables": dict(sorted(entries["tables"].items())),
            "seconds": log.seconds,
            "versions": tool_versions(),
        },
    )
