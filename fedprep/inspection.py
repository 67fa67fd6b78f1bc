"""What a person wants to know of a Dataset, as plain values: facts, funnel, embeddings, clients."""

from __future__ import annotations

from typing import Any

import polars as pl

from fedprep.dataset import Dataset
from fedprep.schema import CLIENT_ID, ITEM_ID, SPLIT, USER_ID

__all__ = ["inspect_client", "inspect_dataset"]

SHOWN_CLIENTS = 5
SHOWN_ROWS = 20


def inspect_dataset(dataset: Dataset) -> dict[str, Any]:
    """Returns the facts of a Dataset, ready for JSON; reads the manifest and the index alone."""
    manifest = dataset.manifest
    index = dataset.index
    shown = index.drop("file", "row_group", "offset")
    if names := manifest["partition"].get("names"):
        shown = shown.with_columns(pl.Series("name", names, dtype=pl.String))
    largest = shown.sort(["n_rows", CLIENT_ID], descending=[True, False])
    return {
        "name": dataset.name,
        "id": dataset.id,
        "path": str(dataset.path),
        "created": manifest["created"],
        "n_bytes": sum(table["bytes"] for table in manifest["tables"].values()),
        "n_files": len(manifest["tables"]) + 1,
        "source": manifest["source"],
        "facts": manifest["facts"],
        "split": manifest["split"],
        "steps": manifest["steps"],
        "encoders": manifest["encoders"],
        "partition": manifest["partition"],
        "clients": {
            "largest": largest.head(SHOWN_CLIENTS).to_dicts(),
            "smallest": largest.tail(SHOWN_CLIENTS).to_dicts()
            if index.height > SHOWN_CLIENTS
            else [],
        },
        "seconds": manifest["seconds"],
    }


def inspect_client(dataset: Dataset, client_id: int) -> dict[str, Any]:
    """Returns the facts of one client and its last rows with the items' titles, ready for JSON.

    Raises:
        DatasetError: there is no such client.
    """
    rows = dataset.client(client_id)
    wanted = rows[ITEM_ID].unique().implode()
    with dataset.blamed():
        titles = (
            dataset.items().filter(pl.col(ITEM_ID).is_in(wanted)).select(ITEM_ID, "title").collect()
        )
    named = rows.with_columns(pl.col(SPLIT).cast(pl.String)).join(
        titles, on=ITEM_ID, how="left", maintain_order="left"
    )
    return {
        "name": dataset.name,
        "id": dataset.id,
        **dataset.index.row(client_id, named=True),
        "users": rows[USER_ID].unique().sort().head(SHOWN_ROWS).to_list(),
        "time_range": [rows["timestamp"].min(), rows["timestamp"].max()],
        "last_rows": named.drop(CLIENT_ID).tail(SHOWN_ROWS).to_dicts(),
    }
