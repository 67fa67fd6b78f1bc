"""report.html: one page that needs nothing but itself, for a person who has to decide."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from fedprep.report.pictures.picture import Picture
from fedprep.report.wording import (
    SYMBOLS,
    by_group,
    example_table,
    found,
    limits,
    named,
    of_status,
    shown,
    verdict_sentence,
)
from fedprep.schema import SPLITS

__all__ = ["page"]

Check = Mapping[str, Any]

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""The page's own promise to the browser: no network, no script."""


def page(
    validation: Mapping[str, Any], pictures: Mapping[str, Picture], facts: Mapping[str, Any]
) -> str:
    """Returns the report as one HTML page, below 2 MB whatever the size of the data.

    Args:
        validation: the JSON dict of a validation.
        pictures: what `draw` returned; empty for tables that are no Dataset.
        facts: the Dataset's manifest; empty likewise.
    """
    title = f"{named(validation)}: {validation['verdict']}"
    body = "\n".join(
        [
            _head(validation, facts),
            *_attention(validation),
            *_quiet(validation),
            *_pictures(validation, pictures),
            _foot(validation, facts),
        ]
    )
    style = files("fedprep.report").joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _head(validation: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    verdict, subject = validation["verdict"], validation["subject"]
    short = escape(str(subject.get("id") or "")[:12])
    lines = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{text}</dd></div>\n" for name, text in _facts(facts)
    )
    return (
        f"<header>\n<h1>{escape(shown(subject['name']))} <small>{short}</small></h1>\n"
        f'<p class="verdict {verdict}"><strong>{SYMBOLS[verdict]} {verdict}</strong> '
        f"{escape(verdict_sentence(validation))}</p>\n"
        + (f'<dl class="facts">\n{lines}</dl>\n' if lines else "")
        + "</header>"
    )


def _facts(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields the facts line by line: name, HTML. What a broken manifest lacks has no line."""
    for name, line in FACTS.items():
        try:
            text = line(manifest)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            continue
        if text:
            yield name, text


def _rows(manifest: Mapping[str, Any]) -> str:
    facts = manifest["facts"]
    return escape(
        f"{facts['n_interactions']:,}; {facts['n_users']:,} users, {facts['n_items']:,} items, "
        f"density {100 * facts['density']:.3g} %{_span(facts.get('time_range'))}"
    )


def _clients(manifest: Mapping[str, Any]) -> str:
    partition = manifest["partition"]
    text = f"{partition['n_clients']:,}, {shown(partition['method'])}"
    if "smallest" in partition:
        text += f", {partition['smallest']:,} to {partition['largest']:,} rows each"
    return escape(text)


def _split(manifest: Mapping[str, Any]) -> str:
    counts = manifest["facts"]["splits"]
    sizes = " · ".join(f"{name} {counts[name]:,}" for name in SPLITS if name in counts)
    return escape(f"{sizes}; {shown(manifest['split']['rule'], longest=300)}")


def _embeddings(manifest: Mapping[str, Any]) -> str:
    return escape("; ".join(_encoder(*pair) for pair in manifest["encoders"].items()))


def _span(times: Any) -> str:
    """Returns the days of first and last row; nothing where they are no time that a calendar knows."""
    try:
        first, last = (dt.datetime.fromtimestamp(t, dt.UTC).date() for t in times)
    except (TypeError, ValueError, OverflowError, OSError):
        return ""
    return f", {first} to {last}"


def _encoder(modality: str, encoder: Mapping[str, Any]) -> str:
    name = shown(encoder.get("name", "from train rows"))
    dim = encoder.get("dim", len(encoder.get("names", ())))
    missing = f", {encoder['n_missing']:,} missing" if encoder.get("n_missing") else ""
    return f"{modality}: {name}, {dim} dimensions, {encoder.get('normalise', '?')}{missing}"


def _source(manifest: Mapping[str, Any]) -> str:
    source = manifest["source"]
    home, name = str(source.get("homepage", "")), escape(shown(source["name"]))
    if home.startswith(("https://", "http://")):
        name = f'<a href="{escape(home)}">{name}</a>'
    made = ", made up" if source.get("synthetic") else ""
    return f"{name}{made}, licence: {escape(shown(source.get('licence') or 'not stated'))}"


FACTS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "rows": _rows,
    "clients": _clients,
    "split": _split,
    "embeddings": _embeddings,
    "source": _source,
}


def _attention(validation: Mapping[str, Any]) -> Iterator[str]:
    """Yields what failed, warned or could not run, each with all that a reader needs to act."""
    checks = of_status(validation, "error", "fail", "warn")
    if checks:
        yield '<section id="attention">\n<h2>What needs attention</h2>'
        yield from map(_card, checks)
        yield "</section>"


def _card(check: Check) -> str:
    status = check["status"]
    facts = [escape(found(check))]
    facts += [f"limit {escape(limits(check))}"] if check["limits"] else []
    return (
        f'<details class="check {status}" open>\n<summary><span class="status">{SYMBOLS[status]} '
        f"{status}</span> <code>{escape(check['name'])}</code> <small>{' · '.join(facts)}</small>"
        f"</summary>\n<p>{escape(check['means'])}</p>\n{_examples(check)}"
        f'<p class="todo"><strong>To do:</strong> {escape(check["todo"])}</p>\n</details>'
    )


def _examples(check: Check) -> str:
    columns, rows = example_table(check)
    return _table(columns, [list(map(escape, row)) for row in rows], "examples") if rows else ""


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], kind: str) -> str:
    """Returns a table; columns are plain texts, cells are HTML."""
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>\n" for row in rows)
    return (
        f'<div class="scroll"><table class="{kind}">\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}</tbody></table></div>\n"
    )


def _quiet(validation: Mapping[str, Any]) -> Iterator[str]:
    """Yields what passed and what was skipped, folded."""
    passed, skipped = of_status(validation, "pass"), of_status(validation, "skipped")
    notes = of_status(validation, "note")
    if not (passed or skipped or notes):
        return
    yield '<section id="checks">\n<h2>Checks that passed or were skipped</h2>'
    if notes:
        rows = [
            [
                escape(c["group"]),
                f"<code>{escape(c['name'])}</code>",
                escape(found(c)),
                escape(c["means"]),
            ]
            for c in notes
        ]
        table = _table(("group", "check", "found", "why it is meant so"), rows, "checks passed")
        yield _folded(f"{SYMBOLS['note']} {len(notes)} noted", table)
    if passed:
        rows = [
            [escape(group), f"<code>{escape(c['name'])}</code>", escape(found(c)), escape(limits(c)),
             escape(c["means"])]
            for group, checks in by_group(passed).items() for c in checks
        ]  # fmt: skip
        columns = ("group", "check", "found", "limit", "what it would mean")
        yield _folded(
            f"{SYMBOLS['pass']} {len(passed)} passed", _table(columns, rows, "checks passed")
        )
    if skipped:
        rows = [
            [escape(group), f"<code>{escape(c['name'])}</code>", escape(found(c))]
            for group, checks in by_group(skipped).items()
            for c in checks
        ]
        table = _table(("group", "check", "why"), rows, "checks")
        yield _folded(f"{SYMBOLS['skipped']} {len(skipped)} skipped", table)
    yield "</section>"


def _folded(title: str, body: str) -> str:
    return f"<details>\n<summary>{title}</summary>\n{body}</details>"


def _pictures(validation: Mapping[str, Any], pictures: Mapping[str, Picture]) -> Iterator[str]:
    if not pictures:
        return
    yield '<section id="pictures">\n<h2>Pictures</h2>\n<div class="grid">'
    yield from (_figure(picture, validation) for picture in pictures.values() if picture.image)
    yield "</div>"
    left_out = [picture for picture in pictures.values() if not picture.image]
    if left_out:
        lines = "".join(
            f"<li><strong>{escape(p.title)}</strong>: {escape(shown(p.reason, longest=300))}</li>\n"
            for p in left_out
        )
        yield f"<h3>Left out</h3>\n<ul>\n{lines}</ul>"
    yield "</section>"


def _figure(picture: Picture, validation: Mapping[str, Any]) -> str:
    data = base64.b64encode(picture.image).decode("ascii")
    return (
        f'<figure id="{escape(picture.name)}"{" class=wide" if picture.wide else ""}>\n'
        f"<h3>{escape(picture.title)}</h3>\n"
        f'<img src="data:{picture.media_type};base64,{data}" alt="{escape(picture.alt)}">\n'
        f'<figcaption><p class="measured">{escape(picture.measured)}</p>\n'
        f"<p>{escape(picture.look_for)}</p>\n{_judged(picture, validation)}</figcaption>\n</figure>"
    )


def _judged(picture: Picture, validation: Mapping[str, Any]) -> str:
    """Returns what the checks of a picture found, those that were run: its one and only verdict."""
    lines = [
        f'<span class="status {check["status"]}">{SYMBOLS[check["status"]]} {check["status"]}</span> '
        f"<code>{escape(check['name'])}</code>"
        + (f" {escape(found(check))}" if check["status"] != "pass" else "")
        + (f", limit {escape(limits(check))}" if check["limits"] else "")
        for check in validation["checks"]
        if check["name"] in picture.checks
    ]
    return f'<p class="judged">{"<br>".join(lines)}</p>' if lines else ""


def _foot(validation: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    parts = [
        f"{word} {shown(facts[key])}"
        for word, key in (("Dataset", "id"), ("built", "created"))
        if facts.get(key)
    ]
    parts.append(f"checked in {validation['seconds']:.1f} s by fedprep validate")
    source = facts.get("source")
    citation = source.get("citation") if isinstance(source, Mapping) else None
    cite = f"<p>Cite: {escape(shown(citation, longest=600))}</p>\n" if citation else ""
    return f"<footer>\n{cite}<p>{escape(' · '.join(parts))}</p>\n</footer>"
