"""An assessment as Markdown, for a pull request, a job's summary, or an appendix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fedeval.definitions import NOTATION, needs_notation
from fedeval.report import wording
from fedeval.report.wording import shown, systems_of, value

__all__ = ["markdown"]

Assessment = Mapping[str, Any]


def markdown(assessment: Assessment) -> str:
    """Returns Markdown: notices, protocol, tables with intervals, comparisons, counts."""
    return "\n\n".join(_parts(assessment)) + "\n"


def _parts(assessment: Assessment) -> Iterator[str]:
    protocol = assessment["protocol"]
    yield f"# Recommendations on {_literal(wording.named(assessment))}"
    for notice in assessment["notices"]:
        yield f"> {wording.LEVELS[notice['level']]} **{notice['level']}**: {_literal(notice['text'])}"
    yield f"Protocol {_code(protocol['id'])}: {_literal(protocol['text'])}"
    yield "\n".join(f"- {name}: {_literal(text)}" for name, text in assessment["facts"].items())
    for cut, metrics in wording.by_cutoff(assessment):
        yield f"## Results {cut}".rstrip()
        yield _results(assessment, metrics)
    yield _literal(wording.how_tested(assessment))
    if wording.sanity_text(assessment):
        yield _literal(wording.sanity_text(assessment))
    if assessment["comparisons"]:
        yield f"## Compared with {_literal(assessment['against'])}"
        yield _compared(assessment)
    for part in assessment["slices"]:
        yield f"## {_literal(part['title'])}"
        yield _sliced(part)
        yield _literal(part["explained"])
    if assessment["clients"].get("systems"):
        yield f"## Over clients: {_literal(assessment['clients']['title'])}"
        yield _clients(assessment)
    yield "## Counts"
    systems = systems_of(assessment)
    rows, nothing = wording.count_table(systems)
    head = ["", *(_literal(s["name"]) for s in systems)]
    yield _table(head, [[words, *numbers] for words, numbers in rows])
    if nothing:
        yield wording.none_of(nothing)
    yield "## Metrics"
    yield "\n".join(
        f"- **{_literal(m['title'])}**: {_literal(m['definition'])}" for m in assessment["metrics"]
    )
    if needs_notation(metric["definition"] for metric in assessment["metrics"]):
        yield _literal(NOTATION)


def _results(assessment: Assessment, metrics: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for system in systems_of(assessment):
        cells = []
        for metric in metrics:
            found = system["values"][metric["name"]]
            text = value(found["value"])
            if wording.is_best(assessment, system, metric):
                text = f"**{text}**"
            text += wording.mark(assessment, system["name"], metric["name"])
            between = wording.interval(found)
            cells.append(f"{text} [{between}]" if between else text)
        rows.append([_literal(system["name"]), system["kind"], *cells])
    return _table(["system", "kind", *(_literal(wording.column(m)) for m in metrics)], rows)


def _compared(assessment: Assessment) -> str:
    rows = [
        [
            _literal(row["a"]),
            _literal(wording.metric_of(assessment, row["metric"])["title"]),
            f"{wording.difference(row['difference'])} [{wording.interval(row)}]",
            wording.p_value(row["p_corrected"]),
            f"{row['wins']:,} / {row['ties']:,} / {row['losses']:,}",
            value(row["smallest_difference"]),
            wording.verdict(row),
        ]
        for row in assessment["comparisons"]
    ]
    head = ["system", "metric", "difference", "p (corrected)", "win / tie / loss"]
    return _table([*head, "smallest difference seen 8 times in 10", "verdict"], rows)


def _sliced(part: Mapping[str, Any]) -> str:
    head = ["slice", "users", *map(_literal, part["systems"])]
    rows = []
    for at, name in enumerate(part["names"]):
        cells = [line[at] for line in part["systems"].values()]
        texts = [f"{value(c['value'])} [{wording.interval(c)}]".replace(" []", "") for c in cells]
        rows.append([_literal(name), f"{part['n'][at]:,}", *texts])
    return _table(head, rows)


def _clients(assessment: Assessment) -> str:
    names = wording.CLIENT_STATISTICS
    rows = []
    for name, line in assessment["clients"]["systems"].items():
        found = [line["statistics"].get(key, {"value": None}) for key in names]
        texts = [f"{value(f['value'])} [{wording.interval(f)}]".replace(" []", "") for f in found]
        rows.append([_literal(name), f"{line['n_clients']:,}", *texts])
    return _table(["system", "clients", *names.values()], rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(columns) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (columns, rule, *rows))


_MARKS = str.maketrans({mark: f"&#{ord(mark)};" for mark in "&<>`*_[]|\\~#!$"})


def _literal(text: str) -> str:
    """Returns a text that Markdown shows as it is: each mark as its number."""
    return shown(text, longest=4_000).translate(_MARKS)


def _code(text: str) -> str:
    return f"<code>{_literal(text)}</code>"
