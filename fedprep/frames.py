"""Frames of polars, out of frames of other libraries and out of files.

A path is the file that is called so, whatever characters its name or folders have: `a[1]`, `x*`, `~`, `k=v`.
Readers of other libraries take such characters for patterns, home folders or partitions, so files are opened
here and nowhere else. Patterns are there where a recipe's key says pattern, and matched by names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

__all__ = [
    "TAKEN",
    "as_frame",
    "parquet_columns",
    "parquet_dataset",
    "parquet_file",
    "read_csv",
    "read_ipc_stream",
    "read_parquet",
    "scan_csv",
    "scan_ipc",
    "scan_parquet",
]

TAKEN = "a frame of polars or pandas, a table of Arrow, or a mapping of columns"


def as_frame(source: Any) -> pl.DataFrame | pl.LazyFrame:
    """Returns a frame's rows, without a copy where its library allows it.

    Args:
        source: a frame or lazy frame of polars, a frame of pandas (named levels of its index become
            columns), a mapping of columns, or whatever gives an Arrow stream (`__arrow_c_stream__`).

    Raises:
        TypeError: it is none of these, or a column holds values of several types.
    """
    if isinstance(source, pl.DataFrame | pl.LazyFrame):
        return source
    module = type(source).__module__.partition(".")[0]
    try:
        if isinstance(source, Mapping):
            return pl.DataFrame(dict(source))
        if module == "pandas" and hasattr(source, "columns"):
            names = [name for name in source.index.names if name is not None]
            levels = [name for name in names if name not in source.columns]
            source = source.reset_index(levels) if levels else source
            return pl.DataFrame(pl.from_pandas(source))
        if hasattr(source, "__arrow_c_stream__"):
            return pl.DataFrame(source)
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise TypeError(f"the {type(source).__name__} cannot be read as a table: {error}") from None
    raise TypeError(f"a value of type {type(source).__name__} is no table")


def scan_parquet(paths: Path | Sequence[Path], *, hive: bool = False) -> pl.LazyFrame:
    """Returns the rows of Parquet files, in their order.

    Args:
        paths: one or several; each is a file.
        hive: folders called `key=value` are columns.
    """
    several = [paths] if isinstance(paths, Path) else list(paths)
    return pl.scan_parquet(
        [path.absolute() for path in several], glob=False, hive_partitioning=hive
    )


def read_parquet(path: Path) -> pl.DataFrame:
    """Returns a whole Parquet file."""
    with path.open("rb") as file:
        return pl.read_parquet(file)


def parquet_columns(path: Path) -> dict[str, pl.DataType]:
    """Returns the columns of a Parquet file and their types, from its footer."""
    with path.open("rb") as file:
        return dict(pl.read_parquet_schema(file))


def parquet_file(path: Path) -> pq.ParquetFile:
    """Returns a Parquet file opened by Arrow: `.metadata`, `.read_row_group(number)`, `.read()`."""
    return pq.ParquetFile(path.absolute())


def parquet_dataset(paths: Sequence[Path]) -> Any:
    """Returns the rows of Parquet files as a dataset of Arrow, not yet read."""
    import pyarrow.dataset as ds
    from pyarrow.fs import LocalFileSystem

    files = [str(path.absolute()) for path in paths]
    return ds.dataset(files, format="parquet", filesystem=LocalFileSystem())


def scan_csv(path: Path, **options: Any) -> pl.LazyFrame:
    """Returns the rows of a text file; `options` are those of `polars.scan_csv`."""
    return pl.scan_csv(path.absolute(), glob=False, **options)


def read_csv(path: Path, **options: Any) -> pl.DataFrame:
    """Returns a whole text file; `options` are those of `polars.read_csv`."""
    return pl.read_csv(path.absolute(), glob=False, **options)


def scan_ipc(path: Path) -> pl.LazyFrame:
    """Returns the rows of an Arrow file."""
    return pl.scan_ipc(path.absolute(), glob=False)


def read_ipc_stream(path: Path) -> pl.DataFrame:
    """Returns the rows of an Arrow stream."""
    with path.open("rb") as file:
        return pl.read_ipc_stream(file)
