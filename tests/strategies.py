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

    Every row has a line of its own; rows come in any order.
    """
    rating = st.sampled_from(RATINGS)
    moment = st.integers(0, n_moments - 1).map(lambda n: 956_703_932 + 86_400 * n)
    row = st.tuples(
        st.integers(0, n_users - 1),
        st.integers(0, n_items - 1),
        st.none() | rating if null_ratings else rating,
        st.none() | moment if null_timestamps else moment,
    )
    rows = draw(
        st.lists(
            row,
            min_size=min_rows,
            max_size=max_rows,
            unique_by=(lambda r: r[:2]) if unique_pairs else None,
        )
    )
    lines = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).permutation(len(rows)) + 1
    return frame_of([(*values, int(line)) for values, line in zip(rows, lines, strict=True)])


@st.composite
def cleaned_frames(draw: st.DrawFn, **options: Any) -> pl.DataFrame:
    """Frames as `clean` leaves them: no pair twice, `label` in 0 and 1, sorted."""
    rows = draw(interaction_frames(unique_pairs=True, **options))
    label = (rows[schema.RATING] >= 4.0).cast(pl.Int8).alias(schema.LABEL)
    return rows.with_columns(label).sort(schema.USER_ID, schema.TIMESTAMP, schema.ITEM_ID)


@st.composite
def split_frames(draw: st.DrawFn, **options: Any) -> pl.DataFrame:
    """Frames as `split` leaves them, with parts by chance and train where chance leaves none."""
    rows = draw(cleaned_frames(**options))
    parts = draw(
        st.lists(st.sampled_from(schema.SPLITS), min_size=rows.height, max_size=rows.height)
    )
    if "train" not in parts:
        parts[0] = "train"
    return rows.with_columns(pl.Series(schema.SPLIT, parts, dtype=schema.SPLIT_DTYPE))


def frame_of(rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    """Returns a frame of `schema.INTERACTIONS` from rows of (user, item, rating, timestamp, line)."""
    return pl.DataFrame(rows, schema=schema.INTERACTIONS, orient="row")


def shuffled(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Returns the same rows in another order."""
    return rows[np.random.default_rng(seed).permutation(rows.height)]
