"""What the terminal shows of an assessment: notices first, the table, comparisons, counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedeval.definitions import NOTATION
from fedeval.fitting import FittingTable
from fedeval.report import wording
from fedeval.report.wording import plural, shown, systems_of, value

__all__ = ["show_assessment", "show_comparison", "show_metrics"]

Assessment = Mapping[str, Any]

LOOKS = {"red": "bold red", "warn": "bold yellow", "note": "dim"}


def show_assessment(assessment: Assessment) -> RenderableType:
    """Returns the sheet of an assessment, or of a score."""
    parts: list[RenderableType] = [_head(assessment), *_notices(assessment)]
    for _, metrics in wording.by_cutoff(assessment):
        parts.append(_results(assessment, metrics))
    if assessment["comparisons"]:
        parts.append(Text(wording.how_tested(assessment), "dim"))
    if wording.sanity_text(assessment):
        parts.append(Text(wording.sanity_text(assessment), "dim"))
    parts += [_heading("Counts"), _counts(assessment)]
    return Group(*parts)


def show_comparison(assessment: Assessment) -> RenderableType:
    """Returns the sheet of two systems: paired differences, and where one beats the other."""
    first = assessment["comparisons"][0]
    parts: list[RenderableType] = [
        _head(assessment),
        *_notices(assessment),
        _heading(f"{shown(first['a'])} − {shown(first['b'])}, of {plural(first['n'], 'user')}"),
        _compared(assessment),
        Text(wording.how_tested(assessment, marks=False), "dim"),
    ]
    for part in assessment["slices"]:
        parts += [_heading(part["title"]), _sliced(part)]
    parts += [_heading("Counts"), _counts(assessment)]
    return Group(*parts)


def show_metrics(metrics: Mapping[str, Mapping[str, Any]], *, whole: bool) -> RenderableType:
    """Returns the metrics with their definitions; `whole`: all that is said of each."""
    if whole:
        parts: list[RenderableType] = []
        for name, metric in metrics.items():
            parts += [_heading(f"{name}: {metric['title']}"), Text(metric["text"])]
            parts += [Text(f"  {line}", "dim") for line in _equals(metric["equals"])]
        return Group(*parts)
    table = _table("metric", "", "definition")
    for name, metric in metrics.items():
        cut = "@k" if metric["cut"] else ""
        table.add_row(f"{name}{cut}", metric["title"], metric["definition"])
    return Group(table, Text(NOTATION, "dim"))


def _equals(presets: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yields how to give what each other library gives."""
    for preset, found in presets.items():
        options = ", ".join(f"{key}={way}" for key, way in found["policy"].items())
        yield f"{preset} ({found['version']}): its {found['name']} is {found['ours']} under {options}"


def _head(assessment: Assessment) -> Text:
    protocol = assessment["protocol"]
    text = Text.assemble(
        "\n", (wording.named(assessment), "bold"), "  ", (shown(protocol["id"]), "bold"), "\n",
        shown(protocol["text"], longest=900),
    )  # fmt: skip
    for name, line in assessment["facts"].items():
        text.append(f"\n{name:<10}", "dim").append(shown(line, longest=400))
    return text


def _notices(assessment: Assessment) -> Iterator[Text]:
    for notice in assessment["notices"]:
        sign = wording.LEVELS[notice["level"]]
        yield Text.assemble(
            (f"{sign} {notice['level']}  ", LOOKS[notice["level"]]),
            shown(notice["text"], longest=900),
        )


def _results(assessment: Assessment, metrics: Sequence[Mapping[str, Any]]) -> FittingTable:
    table = FittingTable("", *(f">{wording.column(m)}" for m in metrics))
    for kind in wording.KINDS:
        group = systems_of(assessment, kind)
        for system in group:
            cells = [_cell(assessment, system, metric) for metric in metrics]
            table.add_row(Text(shown(system["name"]), "dim" * (kind == "sanity")), *cells)
        if group:
            table.add_section()
    return table


def _cell(assessment: Assessment, system: Mapping[str, Any], metric: Mapping[str, Any]) -> Text:
    found = system["values"][metric["name"]]
    best = wording.is_best(assessment, system, metric)
    text = Text(value(found["value"]), "bold" if best else "")
    text.append(wording.mark(assessment, system["name"], metric["name"]) or " ")
    between = wording.interval(found)
    return text.append(f" {between}", "dim") if between else text


def _compared(assessment: Assessment) -> FittingTable:
    table = FittingTable(
        "metric", ">A", ">B", ">difference", "interval", ">p", ">corrected", ">win / tie / loss",
        ">could have seen", "better",
    )  # fmt: skip
    for row in assessment["comparisons"]:
        decided = row["better"] in (row["a"], row["b"])
        word = shown(row["better"]) if row["better"] != "neither" else f"A {wording.verdict(row)}"
        table.add_row(
            wording.metric_of(assessment, row["metric"])["title"],
            value(row["mean_a"]),
            value(row["mean_b"]),
            wording.difference(row["difference"]),
            wording.interval(row),
            wording.p_value(row["p"]),
            wording.p_value(row["p_corrected"]),
            f"{row['wins']:,} / {row['ties']:,} / {row['losses']:,}",
            value(row["smallest_difference"]),
            Text(word, "bold" if decided else "dim"),
        )
    return table


def _sliced(part: Mapping[str, Any]) -> FittingTable:
    pairs = {row["group"]: row for row in part["comparisons"]}
    more = (">difference", "interval", ">corrected p", "better") if pairs else ()
    table = FittingTable("", ">users", *(f">{shown(name)}" for name in part["systems"]), *more)
    for at, name in enumerate(part["names"]):
        cells: list[Any] = [
            Text(value(line[at]["value"])).append(f" {wording.interval(line[at])}", "dim")
            for line in part["systems"].values()
        ]
        if name in pairs:
            row = pairs[name]
            cells += [wording.difference(row["difference"]), wording.interval(row)]
            cells += [wording.p_value(row["p_corrected"]), Text(shown(row["better"]))]
        table.add_row(shown(name), f"{part['n'][at]:,}", *cells)
    return table


def _counts(assessment: Assessment) -> Group:
    systems = systems_of(assessment)
    rows, nothing = wording.count_table(systems)
    table = FittingTable("", *(f">{shown(system['name'])}" for system in systems))
    for words, numbers in rows:
        table.add_row(words, *numbers)
    return Group(table, Text(wording.none_of(nothing), "dim"))


def _heading(text: str) -> Text:
    return Text(f"\n{shown(text, longest=200)}", "bold")


def _table(*columns: str) -> Table:
    """Returns an empty table; a column named ">x" is flush right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for column in columns:
        right = column.startswith(">")
        table.add_column(column.removeprefix(">"), justify="right" if right else "left")
    return table
