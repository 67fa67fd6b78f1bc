"""Frames of other libraries as frames of polars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

__all__ = ["TAKEN", "as_frame"]

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
