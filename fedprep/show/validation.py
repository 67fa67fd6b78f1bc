"""The result of a validation: what is wrong first, with all that is needed to act; passes summarised."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedprep.show.layout import table_of

__all__ = ["show_validation"]

Check = Mapping[str, Any]

LOOKS = {
    "error": ("‼", "bold magenta"),
    "fail": ("✗", "bold red"),
    "warn": ("!", "bold yellow"),
    "note": ("·", "cyan"),
    "skipped": ("–", "dim"),
    "pass": ("✓", "green"),
}
"""Sign and style of each status, the worst first; the sign and the word tell it without colour."""

LONGEST = 120


def show_validation(validation: Mapping[str, Any]) -> RenderableType:
    """Returns the table of a validation, made from its JSON dict."""
    checks: Sequence[Check] = validation["checks"]
    table = table_of("", "check", "found")
    for status in ("error", "fail", "warn"):
        for check in checks:
            if check["status"] == status:
                _add_attention(table, check)
    for check in checks:
        if check["status"] == "note":
            text = Text.assemble(_found(check), (f": {_plain(check['means'])}", "dim"))
            table.add_row(_status("note"), check["name"], text)
    for status in ("pass", "skipped"):
        _add_quiet(table, [check for check in checks if check["status"] == status], status)
    return Group(_headline(validation), table)


def _headline(validation: Mapping[str, Any]) -> Text:
    subject, counts = validation["subject"], validation["counts"]
    sign, style = LOOKS[validation["verdict"]]
    tally = " · ".join(f"{counts[status]} {status}" for status in LOOKS if counts.get(status))
    strict = ", warnings count as failures" * bool(validation.get("strict") and counts.get("warn"))
    return Text.assemble(
        "\n", (_plain(subject["name"]), "bold"), f" {(subject.get('id') or '')[:12]}".rstrip(), "  ",
        (f"{sign} {validation['verdict']}{_of_those_asked(counts)}", style),
        f"  {tally or 'no checks'}{strict}",
        (f"  in {validation['seconds']:.1f} s", "dim"),
    )  # fmt: skip


def _of_those_asked(counts: Mapping[str, int]) -> str:
    """Returns of how many of the checks a verdict is, where some could not be asked."""
    asked, total = sum(counts.values()) - counts.get("skipped", 0), sum(counts.values())
    return f" of {asked} of {total} checks" if 0 < asked < total else ""


def _add_attention(table: Table, check: Check) -> None:
    """Adds a check that asks for attention: what it means, examples, what to do."""
    text = Text(_found(check))
    if check["limits"]:
        text.append(f"  ({_pairs(check['limits'], ' = ', ', ')})", "dim")
    text.append(f"\n{_plain(check['means'])}")
    for example in check.get("examples") or []:
        text.append(f"\n· {_pairs(example, ' ', ', ')}", "dim")
    text.append(f"\n→ {_plain(check['todo'])}\n")
    name = Text.assemble(check["name"], "\n", (check["group"], "dim"))
    table.add_row(_status(check["status"]), name, text)


def _add_quiet(table: Table, checks: Sequence[Check], status: str) -> None:
    """Adds a line for each group of the checks that passed, for each reason of those skipped."""
    for (group, reason), names in _together(checks):
        text = Text(", ".join(names), "dim")
        if reason:
            text = Text.assemble(f"{reason}: ", text)
        table.add_row(_status(status), Text(f"{group}: {len(names)}"), text)


def _together(checks: Sequence[Check]) -> Iterator[tuple[tuple[str, str], list[str]]]:
    found: dict[tuple[str, str], list[str]] = {}
    for check in checks:
        reason = _plain(check["reason"]) if check["status"] == "skipped" else ""
        found.setdefault((check["group"], reason), []).append(_named(check))
    yield from found.items()


def _named(check: Check) -> str:
    limits = _pairs(check["limits"], " = ", ", ")
    return f"{check['name']} ({limits})" if limits else str(check["name"])


def _status(status: str) -> Text:
    sign, style = LOOKS[status]
    return Text(f"{sign} {status}", style, no_wrap=True)


def _found(check: Check) -> str:
    if check["status"] == "error":
        return f"could not run: {_plain(check['reason'], longest=400)}"
    if check.get("reason"):
        return _plain(check["reason"], longest=400)
    total = f" of {check['denominator']:,}" if check.get("denominator") else ""
    return f"{check['count']:,}{total} {check['unit']}"


def _pairs(values: Mapping[str, Any], joint: str, end: str) -> str:
    return end.join(f"{_plain(name)}{joint}{_plain(value)}" for name, value in values.items())


def _plain(value: Any, *, longest: int = LONGEST) -> str:
    """Returns a value as one line that cannot steer a terminal, nor a runner that reads `::commands`."""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = text[: longest - 1] + "…" if len(text) > longest else text
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text.replace("::", ": :")
