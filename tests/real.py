"""Real raw files read straight, without fedprep's own readers."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fedprep.schema import INTERACTIONS


def raw_file(mirror: Path, name: str) -> Path:
    """Returns the raw file of that official name; skips where there is none."""
    path = next(iter(sorted(mirror.rglob(name))), None)
    if path is None:
        pytest.skip(f"needs {name} in the folder that FEDPREP_MIRROR names")
    return path


def movielens_1m(mirror: Path) -> pl.DataFrame:
    """Returns the ratings of ml-1m as a frame of `schema.INTERACTIONS`; skips where they are not."""
    with zipfile.ZipFile(raw_file(mirror, "ml-1m.zip")) as members:
        numbers = members.read("ml-1m/ratings.dat").replace(b"::", b",")
    columns = ["user_id", "item_id", "rating", "timestamp"]
    rows = pl.read_csv(io.BytesIO(numbers), has_header=False, new_columns=columns)
    codes = [np.unique(rows[key].to_numpy(), return_inverse=True)[1] for key in columns[:2]]
    return rows.with_columns(
        pl.Series("user_id", codes[0]),
        pl.Series("item_id", codes[1]),
        pl.int_range(1, pl.len() + 1).alias("line"),
    ).cast(dict(INTERACTIONS))
