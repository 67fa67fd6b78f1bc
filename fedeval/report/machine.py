"""An assessment as JSON: the truth that every other form is made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fedeval.plain import plain

__all__ = ["to_json"]


def to_json(assessment: Mapping[str, Any]) -> str:
    """Returns the assessment as JSON that every parser reads: an undefined number is null."""
    return json.dumps(plain(assessment), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
