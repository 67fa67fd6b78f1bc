"""The result of a validation: frozen values that become valid JSON, from which all else derives."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["FORMAT", "STATUSES", "Result", "Status", "Validation", "plain"]

FORMAT = 1

Status = Literal["pass", "note", "warn", "fail", "error", "skipped"]
STATUSES: tuple[Status, ...] = ("pass", "note", "warn", "fail", "error", "skipped")
WORST_FIRST: tuple[Status, ...] = ("error", "fail", "warn")


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one check found. `reason` says why it was skipped, or the error's words.

    A `note` is a finding that follows from how the Dataset was to be made: told, and no part of the verdict.
    """

    name: str
    group: str
    status: Status
    severity: Literal["fail", "warn", "note"]
    count: int
    unit: str
    denominator: int
    limits: Mapping[str, Any]
    means: str
    todo: str
    examples: tuple[Mapping[str, Any], ...] = ()
    seconds: float = 0.0
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, ready for JSON."""
        return {
            "name": self.name,
            "group": self.group,
            "status": self.status,
            "severity": self.severity,
            "count": self.count,
            "unit": self.unit,
            "denominator": self.denominator,
            "limits": plain(self.limits),
            "means": self.means,
            "todo": self.todo,
            "examples": [plain(example) for example in self.examples],
            "seconds": round(self.seconds, 4),
            "reason": self.reason,
        }


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The results of all checks, in the order in which they run.

    `files` are the SHA-256 of the files of a Dataset that were judged, by name: the verdict holds for no
    others. It is empty where files are not those of the manifest, or were not compared.

    Example:
        >>> validation = validate(Dataset.open("datasets/demo"))  # doctest: +SKIP
        >>> validation.verdict, validation["pairs_are_unique"].count  # doctest: +SKIP
        ('pass', 0)
    """

    kind: Literal["dataset", "tables", "recommendations"]
    subject: str
    id: str | None
    results: tuple[Result, ...]
    strict: bool = False
    seconds: float = 0.0
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def verdict(self) -> Status:
        """The worst status: error, fail, warn or pass. Where no check could run it is an error."""
        found = {result.status for result in self.results}
        worst = next((status for status in WORST_FIRST if status in found), None)
        if worst is not None:
            return worst
        return "pass" if "pass" in found else "error"

    @property
    def counts(self) -> dict[str, int]:
        """How many checks have each status."""
        found = [result.status for result in self.results]
        return {status: found.count(status) for status in STATUSES}

    def __getitem__(self, name: str) -> Result:
        return next(result for result in self.results if result.name == name)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, ready for JSON: NaN and the infinities are strings."""
        return {
            "format": FORMAT,
            "verdict": self.verdict,
            "subject": {"kind": self.kind, "name": self.subject, "id": self.id},
            "strict": self.strict,
            "counts": self.counts,
            "limits": plain({k: v for r in self.results for k, v in r.limits.items()}),
            "seconds": round(self.seconds, 3),
            "files": dict(self.files),
            "checks": [result.to_dict() for result in self.results],
        }


def plain(value: Any) -> Any:
    """Returns a value as JSON can hold it: NaN and the infinities as strings, times as ISO text."""
    if isinstance(value, float) and not math.isfinite(value):
        if math.isnan(value):
            return "NaN"
        return "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return str(value)
