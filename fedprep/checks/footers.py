"""Footers of Parquet files: columns and row groups, without a single row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from fedprep.errors import DatasetError

__all__ = ["Footer", "read_footer"]

DAMAGED = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""What polars raises at damaged files: some make it panic, which is no `Exception`."""


@dataclass(frozen=True)
class Footer:
    """The columns of a file and the rows of each of its row groups."""

    columns: Mapping[str, pl.DataType]
    groups: tuple[int, ...]

    @property
    def n_rows(self) -> int:
        return sum(self.groups)


def read_footer(path: Path) -> Footer:
    """Returns the footer of a Parquet file.

    Raises:
        DatasetError: it is no Parquet file, or a broken one.
    """
    try:
        metadata = pq.read_metadata(path)
        columns = pl.read_parquet_schema(path)
    except (pa.ArrowException, OSError, *DAMAGED) as error:
        raise DatasetError(
            f"{path.name} cannot be read as Parquet",
            where=f"{path}: {str(error).strip().splitlines()[0]}",
            hint="it is cut off or damaged: copy or build it again",
        ) from None
    groups = tuple(metadata.row_group(k).num_rows for k in range(metadata.num_row_groups))
    return Footer(columns, groups)
