"""report.html: one page that needs nothing but itself, for a person who was not there."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from fedeval.definitions import NOTATION, needs_notation
from fedeval.report import wording
from fedeval.report.pictures.canvas import Picture
from fedeval.report.wording import metric_of, shown, systems_of, value

__all__ = ["page"]

Assessment = Mapping[str, Any]

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""The page's own promise to the browser: no network, no script."""

SCROLL = '<div class="scroll" tabindex="0">'
"""Around what may be wider than the page: keys scroll it too."""

GROUPS = {
    "baseline": "baselines, fitted here by the same protocol",
    "sanity": "sanity rows: they know nothing and must stand at chance",
}


def page(
    assessment: Assessment, pictures: Mapping[str, Picture], *, title: str | None = None
) -> str:
    """Returns the report as one HTML page, below 2 MB whatever the size of the data.

    Args:
        assessment: the JSON dict.
        pictures: what `draw` returned.
        title: the heading; None: what was measured on.
    """
    heading = shown(title or f"Recommendations on {assessment['subject']['name']}", longest=160)
    body = "\n".join(
        [
            *_head(assessment, heading),
            *_results(assessment),
            *_comparisons(assessment),
            *_pictures(pictures),
            *_tables(assessment),
            *_counts(assessment),
            *_definitions(assessment),
            _foot(assessment),
        ]
    )
    style = files("fedeval.report").joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(heading)}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _head(assessment: Assessment, heading: str) -> Iterator[str]:
    protocol = assessment["protocol"]
    short = escape(str(assessment["subject"].get("id") or "")[:12])
    yield f"<header>\n<h1>{escape(heading)} <small>{short}</small></h1>"
    yield f'<p class="answer">{escape(wording.answer(assessment))}</p>'
    for notice in assessment["notices"]:
        sign = wording.LEVELS[notice["level"]]
        yield (
            f'<p class="notice {notice["level"]}"><strong>{sign}</strong>'
            f"{_unparted(escape(shown(notice['text'], longest=900)))}</p>"
        )
    lines = {
        "protocol": f"<code>{escape(protocol['id'])}</code> {escape(shown(protocol['text'], longest=900))}",
        **{name: escape(shown(text, longest=600)) for name, text in assessment["facts"].items()},
    }
    rows = "".join(f"<div><dt>{escape(k)}</dt><dd>{v}</dd></div>\n" for k, v in lines.items())
    yield f'<dl class="facts">\n{rows}</dl>\n</header>'


def _unparted(text: str) -> str:
    """Returns a text in which no line ends between a number and its percent sign."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def _results(assessment: Assessment) -> Iterator[str]:
    yield '<section id="results">\n<h2>Results</h2>'
    first, *others = wording.by_cutoff(assessment)
    yield _result_table(assessment, *first)
    yield f'<p class="under">{escape(wording.how_tested(assessment))}</p>'
    if wording.sanity_text(assessment):
        yield f'<p class="under">{escape(wording.sanity_text(assessment))}</p>'
    for cut, metrics in others:
        table = _result_table(assessment, cut, metrics)
        yield f"<details><summary>The same {escape(cut)}</summary>\n{table}</details>"
    yield "</section>"


def _result_table(assessment: Assessment, cut: str, metrics: Sequence[Mapping[str, Any]]) -> str:
    head = "".join(
        f'<th scope="col" class="number">{escape(wording.column(m))}</th>' for m in metrics
    )
    body = []
    for kind in wording.KINDS:
        group = systems_of(assessment, kind)
        if group and kind in GROUPS:
            body.append(
                f'<tr class="group"><th scope="rowgroup" colspan="{len(metrics) + 1}">{GROUPS[kind]}'
                "</th></tr>"
            )
        body += [_result_row(assessment, system, metrics) for system in group]
    least, most = (begin + each * len(metrics) for begin, each in ((200, 118), (320, 190)))
    return (
        f'{SCROLL}<table class="results" style="min-width: {least}px; max-width: {most}px">\n'
        f"<caption>Values of each system {escape(cut)}</caption>\n"
        f'<thead><tr><th scope="col">system</th>{head}</tr></thead>\n'
        "<tbody>\n" + "\n".join(body) + "\n</tbody></table></div>\n"
    )


def _result_row(
    assessment: Assessment, system: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]
) -> str:
    cells = [_cell(assessment, system, metric) for metric in metrics]
    kinds = [system["kind"]]
    kinds += (
        ["reference"]
        if system["name"] == assessment.get("against") and assessment["comparisons"]
        else []
    )
    text = f"<small>{escape(shown(system['text'], longest=160))}</small>" if system["text"] else ""
    name = escape(shown(system["name"]))
    return f'<tr class="{" ".join(kinds)}"><th scope="row">{name}{text}</th>{"".join(cells)}</tr>'


def _cell(assessment: Assessment, system: Mapping[str, Any], metric: Mapping[str, Any]) -> str:
    found = system["values"][metric["name"]]
    text = value(found["value"])
    if wording.is_best(assessment, system, metric):
        text = f"<b>{text}</b>"
    standing = wording.standing(assessment, system["name"], metric["name"])
    sign = wording.MARKS.get(standing, "")
    between = wording.interval(found)
    small = f"<small>{between}</small>" if between else ""
    why = f' title="{escape(found["reason"])}"' if found.get("reason") else ""
    return f'<td class="number"{why}>{text}<span class="mark {standing}">{sign}</span>{small}</td>'


def _comparisons(assessment: Assessment) -> Iterator[str]:
    if not assessment["comparisons"]:
        return
    headline = assessment["headline"]
    yield f'<section id="compared">\n<h2>Compared with {escape(shown(assessment["against"]))}</h2>'
    yield _compared_table(assessment, [headline])
    yield (
        '<p class="under">Differences are means over the same users, of the system less the reference; '
        "better, equal and worse are numbers of users. "
        "“Could have seen” is the smallest true difference that the test, corrected as the verdict is, "
        "would find in eight of ten such samples: a smaller one may be there unseen.</p>"
    )
    for cut, metrics in wording.by_cutoff(assessment):
        table = _compared_table(assessment, [m["name"] for m in metrics])
        yield f"<details><summary>All metrics {escape(cut)}</summary>\n{table}</details>"
    yield "</section>"


def _compared_table(assessment: Assessment, names: Sequence[str]) -> str:
    columns = [
        "metric", "system", ">difference", ">interval", ">p", ">corrected", ">better / equal / worse",
        ">could have seen", "verdict",
    ]  # fmt: skip
    rows = []
    for row in wording.comparisons_of(assessment, names):
        verdict = wording.verdict(row)
        sign = wording.MARKS.get(verdict, "")
        rows.append(
            [
                escape(metric_of(assessment, row["metric"])["title"]),
                escape(shown(row["a"])),
                wording.difference(row["difference"]),
                wording.interval(row),
                wording.p_value(row["p"]),
                wording.p_value(row["p_corrected"]),
                f"{row['wins']:,} / {row['ties']:,} / {row['losses']:,}",
                value(row["smallest_difference"]),
                f"{verdict} <span class='mark {verdict}'>{sign}</span>",
            ]
        )
    caption = f"Paired differences to {shown(assessment['against'])}"
    return _table(columns, rows, caption, kind="compared")


def _pictures(pictures: Mapping[str, Picture]) -> Iterator[str]:
    drawn = [picture for picture in pictures.values() if picture.image]
    absent = [picture for picture in pictures.values() if not picture.image]
    if drawn:
        yield '<section id="pictures">\n<h2>Pictures</h2>\n<div class="grid">'
        yield from map(_figure, drawn)
        yield "</div>"
        if absent:
            reasons = "; ".join(f"{p.title} ({p.reason})" for p in absent)
            yield f'<p class="left-out">Left out: {escape(reasons)}.</p>'
        yield "</section>"


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.image).decode("ascii")
    wide = ' class="wide"' if picture.wide else ""
    return (
        f"<figure{wide}>\n<h3>{escape(picture.title)}</h3>\n{SCROLL}"
        f'<img alt="{escape(shown(picture.alt, longest=2000))}" src="data:image/svg+xml;base64,{data}">'
        f"</div>\n<figcaption>{escape(picture.look_for)}</figcaption>\n</figure>"
    )


def _tables(assessment: Assessment) -> Iterator[str]:
    """Yields the numbers behind slices and clients, folded."""
    if not assessment["slices"] and not assessment["clients"]["systems"]:
        return
    yield '<section id="tables">\n<h2>Numbers behind the pictures</h2>'
    for part in assessment["slices"]:
        pairs = {row["group"]: row for row in part["comparisons"]}
        rows = []
        for at, name in enumerate(part["names"]):
            cells = [_with_interval(line[at]) for line in part["systems"].values()]
            if name in pairs:
                row = pairs[name]
                between = f" <small>{wording.interval(row)}</small>"
                cells += [
                    wording.difference(row["difference"]) + between,
                    escape(shown(row["better"])),
                ]
            rows.append([escape(shown(name)), f"{part['n'][at]:,}", *cells])
        columns = [
            part["unit"] or "group",
            ">users",
            *(f">{shown(name)}" for name in part["systems"]),
        ]
        columns += [">difference", "better"] if pairs else []
        yield (
            f"<details><summary>{escape(shown(part['title']))}</summary>\n"
            f'<p class="under">{escape(part["explained"])}</p>\n'
            f"{_table(columns, rows, part['title'])}</details>"
        )
    clients = assessment["clients"]
    if clients["systems"]:
        names = wording.CLIENT_STATISTICS
        rows = [
            [
                escape(shown(name)),
                f"{line['n_clients']:,}",
                *(_with_interval(line["statistics"].get(key, {"value": None})) for key in names),
            ]
            for name, line in clients["systems"].items()
        ]
        columns = ["system", ">clients", *(f">{words}" for words in names.values())]
        yield (
            f"<details><summary>{escape(clients['title'])} over clients</summary>\n"
            '<p class="under">Each client counts once, whatever its size. Worst decile: the mean of the '
            "tenth of the clients with the lowest values. Jain's index: 1 where all "
            "clients have the same.</p>\n"
            f"{_table(columns, rows, clients['title'] + ' over clients')}</details>"
        )
    yield "</section>"


def _with_interval(found: Mapping[str, Any]) -> str:
    between = wording.interval(found) if found.get("low") is not None else ""
    return value(found["value"]) + (f" <small>{between}</small>" if between else "")


def _counts(assessment: Assessment) -> Iterator[str]:
    systems = systems_of(assessment)
    rows, nothing = wording.count_table(systems)
    yield '<section id="counts">\n<h2>Who and what was counted</h2>'
    head = ["counted", *(f">{shown(s['name'])}" for s in systems)]
    yield _table(head, [[escape(words), *numbers] for words, numbers in rows], "Counts")
    if nothing:
        yield f'<p class="under">{escape(wording.none_of(nothing))}</p>'
    yield "</section>"


def _definitions(assessment: Assessment) -> Iterator[str]:
    yield '<section id="definitions">\n<h2>What the metrics are</h2>\n<dl class="metrics">'
    seen = set()
    for metric in assessment["metrics"]:
        if metric["family"] not in seen:
            seen.add(metric["family"])
            title = metric["title"].partition("@")[0] + ("@k" if metric["k"] is not None else "")
            arrow = {"lower": ", lower is better", "neither": ", neither way is better"}
            way = arrow.get(metric["better"], "")
            yield (
                f"<dt>{escape(title)} <code>{escape(metric['family'])}</code>{way}</dt>"
                f"<dd>{escape(metric['definition'])}</dd>"
            )
    yield "</dl>"
    if needs_notation(metric["definition"] for metric in assessment["metrics"]):
        yield f'<p class="under">{escape(NOTATION)}</p>'
    yield "</section>"


def _foot(assessment: Assessment) -> str:
    how = assessment["inference"]
    return (
        f"<footer>Written by fedeval in {assessment['seconds']:.1f} s; format {assessment['format']}, "
        f"protocol <code>{escape(assessment['protocol']['id'])}</code>, seed {how['seed']}. "
        "report.json beside this page holds every number, unrounded; report.tex and report.md the tables."
        "</footer>"
    )


def _table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], caption: str, *, kind: str = "plain"
) -> str:
    """Returns a table; columns and caption are plain texts (">x" flush right), cells are HTML."""
    right = [' class="number"' if name.startswith(">") else "" for name in columns]
    head = "".join(
        f'<th scope="col"{side}>{escape(name.removeprefix(">"))}</th>'
        for side, name in zip(right, columns, strict=True)
    )
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>'
        + "".join(f"<td{side}>{cell}</td>" for side, cell in zip(right[1:], row[1:], strict=True))
        + "</tr>\n"
        for row in rows
    )
    return (
        f'{SCROLL}<table class="{kind}">\n<caption>{escape(shown(caption))}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}</tbody></table></div>\n"
    )
