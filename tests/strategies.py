"""Hypothesis strategies that several test files share: small, valid, unfriendly tables."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import polars as pl

from fedprep import schema

RATINGS = (0.5, 1.0, 2.0, 3.0, 3.5, 4.0, 5.0)


@st.composite
def interaction_frames(
    draw: st.DrawFn,
    *,
    min_rows: int = 1,
    max_rows: int = 60,
    n_users: int = 6,
    n_items: int = 8,
    n_moments: int = 12,
    unique_pairs: bool = False,
    null_ratings: bool = False,
    null_timestamps: bool = False,
) -> pl.DataFrame:
    """Frames of `schema.INTERACTIONS`: few users, items and moments, so that ties and repeats abound.

    Low codes have more rows than high ones. Every row has a line of its own; rows come in any order.
    Hypothesis chooses sizes and a seed, and a generator the rows: chosen value by value, most frames
    would be nearly empty.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_users, n_items, n_moments = (
        draw(st.sampled_from(range(1, n + 1))) for n in (n_users, n_items, n_moments)
    )
    popularity = np.outer(1 / np.arange(1, n_users + 1), 1 / np.arange(1, n_items + 1)).ravel()
    most = min(max_rows, popularity.size) if unique_pairs else max_rows
    n_rows = draw(st.sampled_from(range(min(min_rows, most), most + 1)))
    pairs = rng.choice(
        popularity.size, size=n_rows, replace=not unique_pairs, p=popularity / popularity.sum()
    )
    rows = pl.DataFrame(
        {
            schema.USER_ID: pairs // n_items,
            schema.ITEM_ID: pairs % n_items,
            schema.RATING: rng.choice(RATINGS, n_rows),
            schema.TIMESTAMP: 956_703_932 + 86_400 * rng.integers(0, n_moments, n_rows),
            "line": rng.permutation(n_rows) + 1,
        },
        schema_overrides=schema.INTERACTIONS,
    )
    for column, nullable in ((schema.RATING, null_ratings), (schema.TIMESTAMP, null_timestamps)):
        if nullable:
            missing = rng.random(n_rows) < draw(st.sampled_from([0.0, 0.3, 1.0]))
            rows = rows.with_columns(pl.when(~pl.Series(missing)).then(pl.col(column)))
    return rows


@st.composite
def cleaned_frames(draw: st.DrawFn, **options: Any) -> pl.DataFrame:
    """Frames as `clean` leaves them: no pair twice, `label` in 0 and 1, sorted."""
    rows = draw(interaction_frames(unique_pairs=True, **options))
    label = (rows[schema.RATING] >= 4.0).cast(pl.Int8).alias(schema.LABEL)
    return rows.with_columns(label).sort(schema.USER_ID, schema.TIMESTAMP, schema.ITEM_ID)


@st.composite
def split_frames(draw: st.DrawFn, **options: Any) -> pl.DataFrame:
    """Frames as `split` leaves them, the parts by chance, and one row of train at least."""
    rows = draw(cleaned_frames(**options))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    parts = rng.choice(schema.SPLITS, rows.height, p=(0.6, 0.2, 0.2))
    parts[rng.integers(rows.height)] = "train"
    return rows.with_columns(pl.Series(schema.SPLIT, parts, dtype=schema.SPLIT_DTYPE))


def frame_of(rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    """Returns a frame of `schema.INTERACTIONS` from rows of (user, item, rating, timestamp, line)."""
    return pl.DataFrame(rows, schema=schema.INTERACTIONS, orient="row")


def shuffled(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Returns the same rows in another order."""
    return rows[np.random.default_rng(seed).permutation(rows.height)]
