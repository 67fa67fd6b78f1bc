"""A validation as machines read it: JSON, JUnit XML, a step summary in Markdown, workflow commands.

JSON is the truth; the others are made from it and hold the same counts.
"""

import json
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from fedprep.report.wording import (
    SYMBOLS,
    by_group,
    example_line,
    example_table,
    found,
    limits,
    named,
    of_status,
    severe,
    shown,
    summary,
    verdict_sentence,
)

__all__ = ["annotations", "junit", "markdown", "to_json"]

Check = Mapping[str, Any]
Validation = Mapping[str, Any]


def to_json(validation: Validation) -> str:
    """Returns the validation as JSON that every parser reads.

    Raises:
        ValueError: a number is NaN or infinite; it should stand there as a string.
    """
    return json.dumps(validation, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


# --- JUnit ---------------------------------------------------------------------------------------------


def junit(validation: Validation) -> str:
    """Returns JUnit XML: a test suite for each group, a test case for each check.

    fail is a failure, error an error, skipped is skipped with its reason. warn passes and says so in
    `system-out`; under strict it is a failure. XML forbids characters that `shown` writes as escapes.

    Reference: the schema of Jenkins' xUnit plugin (junit-10.xsd).
    """
    strict = bool(validation.get("strict"))
    root = ElementTree.Element("testsuites", name=f"fedprep validate {named(validation)}")
    total = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    for group, checks in by_group(validation["checks"]).items():
        tally = {
            "tests": len(checks),
            "failures": sum(severe(c, strict=strict) and c["status"] != "error" for c in checks),
            "errors": sum(c["status"] == "error" for c in checks),
            "skipped": sum(c["status"] == "skipped" for c in checks),
        }
        total = {key: total[key] + value for key, value in tally.items()}
        suite = ElementTree.SubElement(root, "testsuite", name=shown(group))
        suite.attrib |= {key: str(n) for key, n in tally.items()}
        suite.set("time", _seconds(sum(check["seconds"] for check in checks)))
        for check in checks:
            _case(suite, check, strict=strict)
    root.attrib |= {key: str(n) for key, n in total.items()}
    root.set("time", _seconds(validation["seconds"]))
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _case(suite: ElementTree.Element, check: Check, *, strict: bool) -> None:
    case = ElementTree.SubElement(
        suite, "testcase", name=shown(check["name"]), classname=shown(f"fedprep.{check['group']}"),
        time=_seconds(check["seconds"]),
    )  # fmt: skip
    status, head = check["status"], found(check)
    if status == "skipped":
        ElementTree.SubElement(case, "skipped", message=head)
    elif status == "error":
        ElementTree.SubElement(case, "error", message=head, type=status).text = _body(check)
    elif severe(check, strict=strict):
        ElementTree.SubElement(case, "failure", message=head, type=status).text = _body(check)
    elif status == "warn":
        ElementTree.SubElement(case, "system-out").text = f"warn: {head}\n{_body(check)}"


def _body(check: Check) -> str:
    """Returns what a person needs to act, a line each."""
    means, todo = (shown(check[key], longest=600) for key in ("means", "todo"))
    lines = [means]
    lines += [f"limits: {limits(check)}"] if check["limits"] else []
    lines += [f"example: {example_line(example)}" for example in check.get("examples") or []]
    return "\n".join([*lines, f"to do: {todo}"])


def _seconds(value: float) -> str:
    return f"{value:.3f}"


# --- GitHub --------------------------------------------------------------------------------------------


def annotations(validation: Validation) -> str:
    """Returns GitHub workflow commands, a line each: a notice with the counts, then `::error` and
    `::warning` for every check that asks for attention, the worst first.

    Reference: docs.github.com, "Workflow commands for GitHub Actions".
    """
    strict = bool(validation.get("strict"))
    title = f"fedprep validate {named(validation)}"
    lines = [_command("notice", title, f"{validation['verdict']}: {summary(validation)}")]
    for check in of_status(validation, "error", "fail", "warn"):
        level = "error" if severe(check, strict=strict) else "warning"
        lines.append(_command(level, check["name"], f"{found(check)}\n{_body(check)}"))
    return "\n".join(lines) + "\n"


def _command(level: str, title: str, message: str) -> str:
    message = message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    title = title.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return f"::{level} title={title.replace(':', '%3A').replace(',', '%2C')}::{message}"


def markdown(validation: Validation) -> str:
    """Returns Markdown for a job's summary page: what is wrong first, passes and skips folded away."""
    parts = [
        f"## {SYMBOLS[validation['verdict']]} fedprep validate: {_literal(named(validation))}",
        f"**{validation['verdict']}**: {summary(validation)}, in {validation['seconds']:.1f} s. "
        f"{verdict_sentence(validation)}",
    ]
    parts += [_section(check) for check in of_status(validation, "error", "fail", "warn")]
    passed, skipped = of_status(validation, "pass"), of_status(validation, "skipped")
    notes = of_status(validation, "note")
    if notes:
        rows = [[_code(c["name"]), c["group"], found(c), _literal(c["means"])] for c in notes]
        table = _table(["check", "group", "found", "why it is meant so"], rows)
        parts.append(_folded(f"{len(notes)} note", table))
    if passed:
        rows = [[_code(c["name"]), c["group"], found(c), limits(c)] for c in passed]
        table = _table(["check", "group", "found", "limits"], rows)
        parts.append(_folded(f"{len(passed)} pass", table))
    if skipped:
        rows = [[_code(c["name"]), c["group"], _literal(found(c))] for c in skipped]
        parts.append(_folded(f"{len(skipped)} skipped", _table(["check", "group", "why"], rows)))
    return "\n\n".join(parts) + "\n"


def _section(check: Check) -> str:
    status = check["status"]
    lines = [
        f"### {SYMBOLS[status]} {status}: {_code(check['name'])}",
        f"{_literal(found(check))}. {_literal(check['means'])}"
        + (f" Limits: {_code(limits(check))}." if check["limits"] else ""),
    ]
    columns, rows = example_table(check)
    if rows:
        lines.append(_table(list(map(_literal, columns)), [list(map(_literal, r)) for r in rows]))
    return "\n\n".join([*lines, f"**To do:** {_literal(check['todo'])}"])


def _table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"


_MARKS = str.maketrans({mark: f"&#{ord(mark)};" for mark in "&<>`*_[]|\\~@#!$"})


def _literal(text: str) -> str:
    """Returns a text that Markdown shows as it is: each mark as its number."""
    return shown(text, longest=600).translate(_MARKS)


def _code(text: str) -> str:
    return f"<code>{_literal(text)}</code>"
