"""Limits of the checks: one frozen struct whose fields are the only names.

A limit that the recipe (`[validate] limits`) or the command line (`--limit name=value`) sets is a gate: the
checks that look at it then fail where they would only warn. `None` stands for what the data say of
themselves, and `resolved` fills it in.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from fedprep.errors import RecipeError, nearest

__all__ = ["Limits", "Value", "changed", "limits_from", "resolved"]

Value = float | int | bool

Count = Annotated[int, Meta(ge=0)]
Amount = Annotated[float, Meta(ge=0.0)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]

DAY = 86_400

SCALES = {
    "movielens": (0.5, 5.0),
    "amazon": (1.0, 5.0),
    "yelp": (1.0, 5.0),
    "synthetic": (0.5, 5.0),
}
"""The rating scales of the sources; other tables have the range that their manifest counts."""

UNKNOWN_SCALE = (0.0, 5.0)
"""Of tables that nobody has said anything about."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is still in order. Shares run from 0 to 1, divergences are Jensen–Shannon in bits, 0 to 1."""

    # interactions
    min_rating: float | None = (
        None  # None: the source's scale, or the range that the manifest counts
    )
    max_rating: float | None = None
    min_timestamp: int = 631_152_000  # seconds since 1970 UTC: 1990-01-01
    max_timestamp: int | None = None  # None: a day after the Dataset was made, or after now
    min_user_history: Count = 3  # rows of a user in train
    min_density: Share = 0.00001  # rows / (users × items)
    min_rows_per_user: Amount = 3.0  # in the mean
    min_rows_per_item: Amount = 3.0
    # clients
    min_client_rows: Count = 5
    min_split_rows: Count = 1  # of a client in each split
    max_class_share: Share = 0.95  # of all rows
    min_class_share: Share = 0.01
    max_client_class_share: Share = 0.95  # of the rows of one client
    min_client_class_share: Share = 0.0
    max_label_drift: Share = 0.5
    max_item_drift: Share = 0.65
    max_size_gini: Share = 0.8
    # items
    max_missing_text_share: Share = 0.0  # of all items
    max_markup_share: Share = 0.0  # of the items that have a text
    # embeddings
    max_norm_error: Amount = 0.001  # how far a vector of l2 may be from length 1
    max_norm_ratio: Amount = 10.0  # of a vector of any other normalisation to the median length
    max_duplicate_share: Share = 0.0  # of the vectors of a modality
    max_cosine: Annotated[float, Meta(ge=-1.0, le=1.0)] = 0.9999  # of two different vectors
    max_compared_items: Count = 10_000  # more are not compared each with each
    max_dead_share: Share = (
        0.03  # of the dimensions of a modality: networks cut at 0, and leave a few there
    )
    max_scale_ratio: Annotated[float, Meta(ge=1.0)] = 5.0  # between two modalities
    max_scale_error: Amount = 0.05  # of a statistic to the manifest's
    # splits
    max_later_train_share: Share = 0.0  # of train rows: those later than the first test row
    max_cold_share: Share = 0.0  # of test rows: those of items that train does not have
    max_tied_cut_share: Share = 0.5  # of users with a test row: those with train rows of its time
    max_feature_error: Amount = 0.001  # of a feature to the one computed again
    # recommendations
    min_list_length: Count = 10  # items recommended to a user


def limits_from(values: Mapping[str, Any]) -> Limits:
    """Returns the limits with these values in place of the defaults.

    Raises:
        RecipeError: no limit has that name (the nearest is named), or the value is none.
    """
    for name, value in values.items():
        if name not in Limits.__struct_fields__:
            raise RecipeError(
                f"no limit is called '{name}'", hint=nearest(name, Limits.__struct_fields__)
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise RecipeError(f"the limit {name} is {value}", expected="a finite number")
    try:
        return msgspec.convert(dict(values), Limits)
    except msgspec.ValidationError as error:
        what, _, at = str(error).partition(" - at `$.")
        raise RecipeError(f"the limit {at.rstrip('`')}: {what[:1].lower()}{what[1:]}") from None


def changed(limits: Limits) -> frozenset[str]:
    """Returns the names of the limits that are not at their default."""
    default = Limits()
    names = Limits.__struct_fields__
    return frozenset(name for name in names if getattr(limits, name) != getattr(default, name))


def resolved(limits: Limits, manifest: Mapping[str, Any] | None) -> Limits:
    """Returns the limits with a number in place of each None."""
    low, high = _scale(manifest or {})
    made = str((manifest or {}).get("created", ""))
    try:
        last = int(datetime.fromisoformat(made).timestamp()) + DAY
    except ValueError:
        last = int(time.time()) + DAY
    known = {"min_rating": low, "max_rating": high, "max_timestamp": last}
    empty = {name: value for name, value in known.items() if getattr(limits, name) is None}
    return msgspec.structs.replace(limits, **empty)


def _scale(manifest: Mapping[str, Any]) -> tuple[float, float]:
    source = manifest.get("source", {}).get("name", "")
    made = manifest.get("recipe", {}).get("clean", {}).get("duplicates") in ("sum", "count")
    if source in SCALES and not made:
        return SCALES[source]
    counted = [value for value, _ in manifest.get("facts", {}).get("ratings", [])]
    return (min(counted), max(counted)) if counted else UNKNOWN_SCALE
