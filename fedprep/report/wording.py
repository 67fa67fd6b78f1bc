"""The words that every form of a validation shares: order, counts, limits, examples.

All take the JSON dict of a validation, or one of its checks; nothing here knows how it came to be.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "STATUSES",
    "SYMBOLS",
    "by_group",
    "example_line",
    "example_table",
    "found",
    "limits",
    "named",
    "of_status",
    "severe",
    "shown",
    "summary",
    "verdict_sentence",
]

Check = Mapping[str, Any]
Validation = Mapping[str, Any]

STATUSES = ("error", "fail", "warn", "note", "skipped", "pass")
"""Worst first: the order in which checks are listed."""

SYMBOLS = {"error": "‼", "fail": "✗", "warn": "!", "note": "·", "skipped": "–", "pass": "✓"}
"""Told apart by shape, so that nothing hangs on a colour."""

LONGEST = 160
"""Characters of a value that are shown."""


def of_status(validation: Validation, *statuses: str) -> list[Check]:
    """Returns the checks of these statuses, worst first, then in the order in which they ran."""
    return [
        check
        for status in STATUSES
        if status in statuses
        for check in validation["checks"]
        if check["status"] == status
    ]


def by_group(checks: Sequence[Check]) -> dict[str, list[Check]]:
    """Returns the checks by group, groups in order of their first check."""
    groups: dict[str, list[Check]] = {}
    for check in checks:
        groups.setdefault(check["group"], []).append(check)
    return groups


def severe(check: Check, *, strict: bool) -> bool:
    """Says whether a check makes the exit status other than 0."""
    return check["status"] in ("fail", "error") or (strict and check["status"] == "warn")


def summary(validation: Validation) -> str:
    """Returns `"1 fail · 2 warn · 4 skipped · 30 pass"`; a status without checks is left out."""
    counts = validation["counts"]
    parts = [f"{counts[status]} {status}" for status in STATUSES if counts.get(status)]
    return " · ".join(parts) or "no checks"


def verdict_sentence(validation: Validation) -> str:
    """Returns one sentence: what the verdict rests on."""
    counts = {status: validation["counts"].get(status, 0) for status in STATUSES}
    ran = sum(counts.values()) - counts["skipped"]
    if not ran:
        return "No check could run: nothing is known of these data."
    words = {"error": "could not run", "fail": "failed", "warn": "warned"}
    parts = [f"{counts[status]} {word}" for status, word in words.items() if counts[status]]
    if counts["warn"] and validation.get("strict"):
        parts.append("which counts as failed (strict)")
    checks = f"{ran} check{'' if ran == 1 else 's'}"
    skipped = f"; {counts['skipped']} skipped" if counts["skipped"] else ""
    if not parts:
        asked = " that could be asked" if skipped else ""
        return f"{'All ' if ran > 1 else ''}{checks}{asked} passed{skipped}."
    return f"Of {checks} {', '.join(parts)}{skipped}."


def named(validation: Validation) -> str:
    """Returns the subject's name and the first digits of its id."""
    subject = validation["subject"]
    short = f" {subject['id'][:12]}" if subject.get("id") else ""
    return shown(subject["name"]) + short


def found(check: Check) -> str:
    """Returns `"7 of 1,000,209 rows (0.0007 %)"`; what stood in the way of one that did not run."""
    if check["status"] in ("skipped", "error") or check.get("reason"):
        return shown(check.get("reason") or "no reason given", longest=600)
    count, total = check["count"], check.get("denominator")
    if not total:
        return f"{count:,} {check['unit']}"
    share = f" ({_percent(count / total)})" if count else ""
    return f"{count:,} of {total:,} {check['unit']}{share}"


def _percent(share: float) -> str:
    if share < 1e-6:
        return "< 0.0001 %"
    if share < 0.1:
        return f"{100 * share:.2g} %"
    return f"{100 * share:.3g} %" if share < 0.999 or share >= 1 else "> 99.9 %"


def limits(check: Check) -> str:
    """Returns `"max_class_share = 0.95"`, or nothing where the check has no limit."""
    return ", ".join(f"{name} = {shown(value)}" for name, value in check["limits"].items())


def example_line(example: Mapping[str, Any]) -> str:
    """Returns `"client_id 3 · user_id 7 · rating NaN"`."""
    return " · ".join(f"{shown(name)} {shown(value)}" for name, value in example.items())


def example_table(check: Check) -> tuple[list[str], list[list[str]]]:
    """Returns the columns of a check's examples and a row of texts for each; empty where there are none."""
    examples = check.get("examples") or []
    columns = list(dict.fromkeys(name for example in examples for name in example))
    rows = [[shown(ex[name]) if name in ex else "" for name in columns] for ex in examples]
    return [shown(name) for name in columns], rows


def shown(value: Any, *, longest: int = LONGEST) -> str:
    """Returns a value as one line of printable characters: what a title hides cannot steer a terminal."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.7g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if not text.isprintable():
        text = "".join(c if c.isprintable() else _escaped(c) for c in text[: longest + 1])
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
