"""The sheet of two Datasets side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from fedprep.show.layout import heading, moment, number, pairs, table_of

__all__ = ["show_diff"]

LISTS = {
    "recipe": "Recipe",
    "raw_files": "Raw files (SHA-256)",
    "split": "Split",
    "encoders": "Encoders",
    "partition": "Partition",
}
LONGEST = 100
"""Characters of a value that are shown."""
QUANTILES = ("p1", "p25", "p75", "p99")
"""Of the measures of clients these stand in the JSON alone."""


def show_diff(found: Mapping[str, Any]) -> RenderableType:
    """Returns the sheet of a comparison (`diff.diff`)."""
    parts: list[RenderableType] = [pairs(_who(found))]
    if not found["differs"]:
        return Group(*parts, Text("\nno difference", "bold"))
    for key, title in LISTS.items():
        if found[key]:
            parts += [heading(title), _keys(found[key])]
    parts += [heading("Facts"), _facts(found["facts"])]
    parts += [heading("Drift from a to b"), _drift(found["drift"])]
    parts += [Text("JS 0 equal, 1 nothing shared · PSI under 0.1 stable, over 0.25 shifted", "dim")]
    parts += [heading("Came and went"), pairs(_members(found))]
    return Group(*parts)


def _who(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for side in ("a", "b"):
        one = found[side]
        yield side, f"{one['name']}  {one['id'][:12]}  {one['path']}"


def _keys(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    table = table_of("key", "a", "b")
    for row in rows:
        if row.get("key", "").endswith(QUANTILES):
            continue
        table.add_row(row.get("key") or row["role"], _value(row["a"]), _value(row["b"]))
    return table


def _facts(facts: Sequence[Mapping[str, Any]]) -> RenderableType:
    table = table_of("", ">a", ">b", ">change")
    for fact in facts:
        key, a, b = fact["key"], fact["a"], fact["b"]
        dated = key.endswith("timestamp")
        shown = [moment(value) if dated else number(value) for value in (a, b)]
        change = "" if dated or not fact["differs"] or not a else f"{(b or 0) / a - 1:+.1%}"
        table.add_row(key.removeprefix("n_").replace("_", " "), *shown, change)
    return table


def _drift(drifts: Sequence[Mapping[str, Any]]) -> RenderableType:
    table = table_of("of", "counted in", ">bins", ">JS", ">PSI", "furthest apart", ">a", ">b")
    for one in drifts:
        if one["js"] is None:
            table.add_row(one["what"], one["unit"], "", "–", "–", one["why"], "", "")
            continue
        widest = one["widest"] or {"bin": "", "a": None, "b": None}
        shares = ["" if widest[side] is None else f"{widest[side]:.2%}" for side in ("a", "b")]
        measures = (f"{one['bins']:,}", number(one["js"]), number(one["psi"]))
        table.add_row(one["what"], one["unit"], *measures, _value(widest["bin"]), *shares)
    return table


def _members(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for table in ("items", "users"):
        of = found[table]
        yield table, f"{of['shared']:,} shared of {of['a']:,} and {of['b']:,}"
        for word in ("new", "gone"):
            if of[word]["count"]:
                yield "", _counted(of[word], word)
    files = found["files"]
    changes = [
        _counted(files[word], word) for word in ("changed", "new", "gone") if files[word]["count"]
    ]
    yield "files", " · ".join([f"{files['same']:,} the same", *changes])


def _counted(change: Mapping[str, Any], word: str) -> str:
    more = " …" if change["count"] > len(change["examples"]) else ""
    return f"{change['count']:,} {word}: {', '.join(map(str, change['examples']))}{more}"


def _value(value: Any) -> str:
    text = number(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
