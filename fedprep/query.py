"""SQL over a Dataset: its tables as DuckDB views, to be read and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from fedprep.dataset import Dataset
from fedprep.errors import DatasetError
from fedprep.frames import parquet_dataset
from fedprep.integrity import shards_of

if TYPE_CHECKING:
    import duckdb

__all__ = ["connect", "query"]

CLOSED: dict[str, str | bool | int | float | list[str]] = {
    "python_enable_replacements": False,
    "autoload_known_extensions": False,
    "autoinstall_known_extensions": False,
}
"""What a query never reaches, whatever files it may read: Python's objects, and code from elsewhere."""

_ODD = frozenset("*?[\\")
"""What DuckDB takes for a pattern in a path: such files are read by Arrow, which does not."""


def connect(dataset: Dataset, *, allow_files: bool = False) -> duckdb.DuckDBPyConnection:
    """Returns an in-memory DuckDB connection with a view for each table of the Dataset.

    Views: `interactions`, `items`, `users`, `clients` (the index), `embeddings_<modality>`. Files that the
    manifest does not list have none. Nothing else can be reached: no other file, no address, no extension, no
    Python object.

    Args:
        dataset: whose tables.
        allow_files: functions such as `read_csv` may read other files.
    """
    import duckdb

    views = {
        "interactions": shards_of(dataset.file_names),
        "items": ["items.parquet"],
        "users": ["users.parquet"],
        "clients": ["clients/index.parquet"],
        **{f"embeddings_{m}": [f"embeddings/{m}.parquet"] for m in dataset.modalities},
    }
    paths = {
        view: [dataset.path.absolute() / name for name in names] for view, names in views.items()
    }
    connection = duckdb.connect(config=CLOSED)
    for view, files in paths.items():
        if any(_ODD & set(str(path)) for path in files):
            connection.register(view, parquet_dataset(files))
            continue
        listed = ", ".join(_literal(str(path)) for path in files)
        connection.execute(
            f"create view {_name(view)} as select * from "
            f"read_parquet([{listed}], hive_partitioning = false, filename = false)"
        )
    if not allow_files:
        _shut(connection, (path for files in paths.values() for path in files))
    return connection


def _shut(connection: duckdb.DuckDBPyConnection, paths: Iterable[Path]) -> None:
    """Lets a connection read these files alone, for good."""
    allowed = ", ".join(_literal(str(path)) for path in paths)
    for setting in (
        f"allowed_paths = [{allowed}]",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"set {setting}")


def query(dataset: Dataset, sql: str, *, allow_files: bool = False) -> pl.DataFrame:
    """Returns the rows of one select statement over the Dataset's tables.

    Args:
        dataset: whose tables.
        sql: DuckDB's SQL; it may read and change nothing.
        allow_files: functions such as `read_csv` may read other files.

    Raises:
        DatasetError: the query cannot be run, DuckDB's own words say why; or it is no select statement.
    """
    import duckdb

    with connect(dataset, allow_files=allow_files) as connection:
        try:
            statements = connection.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise DatasetError(
                    "the query is more than one select statement"
                    if len(statements) > 1
                    else "the query is no select statement",
                    expected="one statement that reads: select …, with … select …",
                )
            result = connection.sql(sql)
            if result is None:
                raise DatasetError("the query gives no rows", expected="a select statement")
            rows: pl.DataFrame = result.pl()
        except duckdb.PermissionException as error:
            raise DatasetError(
                f"the query wants more than the Dataset's tables: {_first(error)}",
                hint="--allow-files lets it read other files",
            ) from None
        except duckdb.Error as error:
            views = "interactions, items, users, clients"
            raise DatasetError(
                f"the query cannot be run: {error}", hint=f"tables: {views}"
            ) from None
        return rows


def _first(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _literal(text: str) -> str:
    """Returns a text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def _name(text: str) -> str:
    """Returns the name of a view or column as SQL writes it."""
    return '"' + text.replace('"', '""') + '"'
