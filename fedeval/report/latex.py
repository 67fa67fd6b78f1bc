"""An assessment as a LaTeX table: booktabs, best bold, significance marked, protocol and counts below it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fedeval.report import wording
from fedeval.report.wording import shown, systems_of, value

__all__ = ["latex"]

Assessment = Mapping[str, Any]

LONGEST = 20_000
"""Characters of a text; names are cut before they get into one."""

MARKS = {"better": r"$^{\blacktriangle}$", "worse": r"$^{\blacktriangledown}$"}


def latex(assessment: Assessment, *, intervals: bool = True) -> str:
    r"""Returns a `table` for each cut-off, notes below the first; needs `booktabs`, `amssymb`, `graphicx`.

    A table that is wider than the line is scaled down to it.

    Args:
        assessment: the JSON dict.
        intervals: a second line under each system with the intervals of its values.
    """
    lines = [
        r"% \usepackage{booktabs,amssymb,graphicx}; written by fedeval, protocol "
        + shown(assessment["protocol"]["id"])
    ]
    first, *others = wording.by_cutoff(assessment)
    lines += _float(_caption(assessment), _tabular(assessment, first[1], intervals))
    lines[-1:] = [
        r"\par\smallskip",
        rf"\begin{{minipage}}{{\linewidth}}\footnotesize {_below(assessment)}\end{{minipage}}",
        r"\end{table}",
    ]
    for cut, metrics in others:
        caption = f"The same {_literal(cut)}, {_protocol(assessment)}."
        lines += _float(caption, _tabular(assessment, metrics, intervals))
    return "\n".join(lines) + "\n"


def _float(caption: str, tabular: Iterator[str]) -> list[str]:
    return [
        r"\begin{table}[tp]",
        r"\centering",
        r"\small",
        rf"\caption{{{caption}}}\smallskip",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        *tabular,
        "}",
        r"\end{table}",
    ]


def _protocol(assessment: Assessment) -> str:
    return rf"protocol \texttt{{{_literal(assessment['protocol']['id'])}}}"


def _caption(assessment: Assessment) -> str:
    text = _literal(assessment["protocol"]["text"])
    return (
        f"Recommendations on {_literal(wording.named(assessment))}, {_protocol(assessment)}. {text}"
    )


def _tabular(
    assessment: Assessment, metrics: Sequence[Mapping[str, Any]], intervals: bool
) -> Iterator[str]:
    yield rf"\begin{{tabular}}{{l{'c' * len(metrics)}}}"
    yield r"\toprule"
    yield " & ".join(["", *(_literal(wording.column(m)) for m in metrics)]) + r" \\"
    for kind in wording.KINDS:
        group = systems_of(assessment, kind)
        if group:
            yield r"\midrule"
        for system in group:
            yield from _rows(assessment, system, metrics, intervals)
    yield r"\bottomrule"
    yield r"\end{tabular}"


def _rows(
    assessment: Assessment,
    system: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
    intervals: bool,
) -> Iterator[str]:
    values, between = [], []
    for metric in metrics:
        found = system["values"][metric["name"]]
        text = value(found["value"]).replace("–", "--")
        if wording.is_best(assessment, system, metric):
            text = rf"\textbf{{{text}}}"
        values.append(
            text + MARKS.get(wording.standing(assessment, system["name"], metric["name"]), "")
        )
        ends = wording.interval(found, joint="--")
        between.append(rf"{{\scriptsize {ends}}}" if ends else "")
    yield " & ".join([_literal(shown(system["name"])), *values]) + r" \\"
    if intervals and any(between):
        yield " & ".join(["", *between]) + r" \\"


def _below(assessment: Assessment) -> str:
    parts = [
        f"{notice['level']}: {notice['text']}"
        for notice in assessment["notices"]
        if notice["level"] != "note"
    ]
    how = wording.how_tested(assessment)
    parts += [how, wording.sanity_text(assessment), _counts(assessment)]
    text = " ".join(_literal(part) for part in parts if part)
    return text.replace(wording.BETTER, r"$\blacktriangle$").replace(
        wording.WORSE, r"$\blacktriangledown$"
    )


def _counts(assessment: Assessment) -> str:
    """Returns the counts, what is equal for all systems once."""
    systems = systems_of(assessment)
    rows, _ = wording.count_table(systems)
    told = []
    for words, numbers in rows:
        if len(set(numbers)) == 1:
            told.append(f"{words} ({numbers[0]})")
        else:
            each = zip((shown(system["name"]) for system in systems), numbers, strict=True)
            told.append(f"{words} ({', '.join(f'{name} {number}' for name, number in each)})")
    return f"Counts, a single one being that of every system: {'; '.join(told)}."


_MARKS = str.maketrans(
    {
        "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
        "%": r"\%", "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
        "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''", "·": r"$\cdot$",
        "–": "--", "−": "$-$", "‘": "`", "’": "'", "→": r"$\to$", "↓": r"$\downarrow$",
        "≤": r"$\leq$", "≥": r"$\geq$",
        "∑": r"$\sum$", "Σ": r"$\Sigma$", "…": r"\ldots{}", "×": r"$\times$", "α": r"$\alpha$",
    }
)  # fmt: skip


def _literal(text: str) -> str:
    """Returns a text that LaTeX sets as it is."""
    return shown(text, longest=LONGEST).translate(_MARKS)
