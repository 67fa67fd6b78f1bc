"""Trees of plain values, compared key by key."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["differing", "differing_encoders", "without_lists"]

CLOSE = 1e-3
"""Statistics of embeddings this close, relatively, are equal: the processor decides their last digits."""


def differing(
    a: Mapping[str, Any], b: Mapping[str, Any], *, close: float = 0.0
) -> list[dict[str, Any]]:
    """Returns `{"key", "a", "b"}` for every leaf that differs; None stands for one that is not there.

    Args:
        close: relative difference up to which two floats are equal.
    """
    left, right = dict(_flat(a)), dict(_flat(b))
    return [
        {"key": key, "a": left.get(key), "b": right.get(key)}
        for key in [*left, *(key for key in right if key not in left)]
        if not _same(left.get(key), right.get(key), close)
    ]


def differing_encoders(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the keys that differ; of a modality that only one side has, its encoder's name alone."""
    one_sided = [
        {"key": key, **{side: of.get(key, {}).get("name") for side, of in (("a", a), ("b", b))}}
        for key in dict.fromkeys([*a, *b])
        if (key in a) != (key in b)
    ]
    left, right = ({key: of[key] for key in of if key in a and key in b} for of in (a, b))
    return one_sided + differing(left, right, close=CLOSE)


def _same(a: Any, b: Any, close: float) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_same(x, y, close) for x, y in zip(a, b, strict=True))
    if close and isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=close, abs_tol=close * 1e-3)
    return bool(a == b)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def without_lists(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a tree without its lists, which grow with clients and classes."""
    return {key: value for key, value in _flat(tree) if not isinstance(value, list)}
