"""SQL over a Dataset: its tables as DuckDB views."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from fedprep.dataset import Dataset
from fedprep.errors import DatasetError

if TYPE_CHECKING:
    import duckdb

__all__ = ["connect", "query"]


def connect(dataset: Dataset) -> duckdb.DuckDBPyConnection:
    """Returns an in-memory DuckDB connection with a view for each table of the Dataset.

    Views: `interactions`, `items`, `users`, `clients` (the index), `embeddings_<modality>`.
    """
    import duckdb

    files = {
        "interactions": "clients/part-*.parquet",
        "items": "items.parquet",
        "users": "users.parquet",
        "clients": "clients/index.parquet",
        **{f"embeddings_{m}": f"embeddings/{m}.parquet" for m in dataset.modalities},
    }
    connection = duckdb.connect()
    folder = str(dataset.path.absolute()).replace("'", "''")
    for view, pattern in files.items():
        connection.execute(
            f"create view {view} as select * from read_parquet('{folder}/{pattern}')"
        )
    return connection


def query(dataset: Dataset, sql: str) -> pl.DataFrame:
    """Returns the rows of a query over the Dataset's tables.

    Raises:
        DatasetError: the query cannot be run; DuckDB's own words say why.
    """
    import duckdb

    with connect(dataset) as connection:
        try:
            result = connection.sql(sql)
        except duckdb.Error as error:
            views = "interactions, items, users, clients"
            raise DatasetError(
                f"the query cannot be run: {error}", hint=f"tables: {views}"
            ) from None
        if result is None:
            raise DatasetError("the query gives no rows", expected="a select statement")
        rows: pl.DataFrame = result.pl()
        return rows
