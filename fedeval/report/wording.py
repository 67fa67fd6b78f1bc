"""The words that every form of an assessment shares: numbers, marks, notices, counts.

All take the JSON dict that `fedeval.assessment.assess` returns, or a part of it; nothing here knows how
it came to be, and no form computes a number of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fedeval.evaluation.result import COUNTS

__all__ = [
    "BETTER",
    "CLIENT_STATISTICS",
    "KINDS",
    "LEVELS",
    "MARKS",
    "WORSE",
    "answer",
    "by_cutoff",
    "column",
    "comparisons_of",
    "count_table",
    "difference",
    "how_tested",
    "interval",
    "is_best",
    "mark",
    "metric_of",
    "named",
    "none_of",
    "p_value",
    "plural",
    "sanity_text",
    "shown",
    "standing",
    "systems_of",
    "value",
    "verdict",
]

Assessment = Mapping[str, Any]

KINDS = {"system": "Systems", "baseline": "Baselines", "sanity": "Sanity rows"}
"""Groups of rows of the table, in their order."""

LEVELS = {"red": "‼", "warn": "!", "note": "·"}
"""Sign of each level of notice, the worst first; told apart by shape, not by colour alone."""

BETTER, WORSE = "▲", "▼"
MARKS = {"better": BETTER, "worse": WORSE}
"""Against the reference, after correction; no mark where the test could not decide, or where a metric has
no better."""

CLIENT_STATISTICS = {
    "mean": "mean over clients",
    "deviation": "deviation",
    "worst decile": "worst decile",
    "median": "median",
    "90 %": "90 % quantile",
    "jain": "Jain's index",
}
"""Of the statistics over clients those that a table shows."""

ALWAYS = ("users", "users_without_list", "users_without_relevant", "rows", "truth_rows")
"""Counts with a line of their own even where they are 0."""

EXTRA_COUNTS = {"valid_recommended": "places taken by an item that the user has in valid"}
"""Counts beyond those of `evaluate`."""

LONGEST = 80
"""Characters of a name that are shown."""


def shown(text: Any, *, longest: int = LONGEST) -> str:
    """Returns a text as one line of printable characters: a name cannot steer a terminal or a page."""
    line = text if isinstance(text, str) else str(text)
    if not line.isprintable():
        line = "".join(c if c.isprintable() else _escaped(c) for c in line[: longest + 1])
    return line if len(line) <= longest else line[: longest - 1] + "…"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def value(number: float | None, *, digits: int = 4) -> str:
    """Returns a value with four decimals (from 10 on two, from 100 on one), `–` where it is undefined."""
    if number is None:
        return "–"
    size = abs(number)
    digits = digits if size < 10 else 2 if size < 100 else 1
    return f"{number:,.{digits}f}".replace("-", "−")


def interval(found: Mapping[str, Any], *, joint: str = "–") -> str:
    """Returns `"0.0452–0.0511"`; nothing where there is no interval."""
    if found.get("low") is None or found.get("high") is None:
        return ""
    if found["low"] < 0 or found["high"] < 0:
        joint = " to "
    return f"{value(found['low'])}{joint}{value(found['high'])}"


def difference(number: float | None) -> str:
    """Returns a difference with its sign."""
    return "–" if number is None else f"{number:+.4f}".replace("-", "−")


def p_value(p: float | None) -> str:
    """Returns `"< 0.001"` or three decimals."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def column(metric: Mapping[str, Any]) -> str:
    """Returns the head of a metric's column: its title, and an arrow where lower is better."""
    return f"{metric['title']} ↓" if metric["better"] == "lower" else str(metric["title"])


def plural(count: int, noun: str) -> str:
    """Returns `"1 user"`, `"2,000 users"`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def named(assessment: Assessment) -> str:
    """Returns what was evaluated on: the Dataset's name with the first digits of its id, or the file."""
    subject = assessment["subject"]
    return shown(subject["name"]) + (f" {subject['id'][:12]}" if subject.get("id") else "")


def systems_of(assessment: Assessment, *kinds: str) -> list[Mapping[str, Any]]:
    """Returns the systems of these kinds (all where none is named), in the order of `KINDS`."""
    wanted = kinds or tuple(KINDS)
    return [
        s for kind in KINDS if kind in wanted for s in assessment["systems"] if s["kind"] == kind
    ]


def metric_of(assessment: Assessment, name: str) -> Mapping[str, Any]:
    """Returns the entry of a metric."""
    return next(metric for metric in assessment["metrics"] if metric["name"] == name)


def by_cutoff(assessment: Assessment) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """Returns the metrics table by table: `("@10", [...])`, the headline's cut-off first, then ascending.

    Metrics without a cut-off stand in the first table.
    """
    cuts = sorted({m["k"] for m in assessment["metrics"] if m["k"] is not None})
    head = metric_of(assessment, assessment["headline"])["k"]
    order = ([head] if head is not None else []) + [k for k in cuts if k != head]
    tables = [[m for m in assessment["metrics"] if m["k"] == k] for k in order]
    loose = [m for m in assessment["metrics"] if m["k"] is None]
    if not tables:
        return [("", loose)]
    tables[0] = tables[0] + loose
    return [(f"@{k}", table) for k, table in zip(order, tables, strict=True)]


def is_best(assessment: Assessment, system: Mapping[str, Any], metric: Mapping[str, Any]) -> bool:
    """Says whether no other system or baseline is better; sanity rows do not compete."""
    if system["kind"] == "sanity" or metric["better"] == "neither":
        return False
    rivals = [
        found["value"]
        for rival in systems_of(assessment, "system", "baseline")
        if (found := rival["values"][metric["name"]])["value"] is not None
    ]
    mine = system["values"][metric["name"]]["value"]
    if mine is None or len(rivals) < 2 or min(rivals) == max(rivals):
        return False
    return bool(mine == (max(rivals) if metric["better"] == "higher" else min(rivals)))


def comparisons_of(assessment: Assessment, metrics: Iterable[str]) -> list[Mapping[str, Any]]:
    """Returns the paired comparisons of these metrics."""
    wanted = set(metrics)
    return [row for row in assessment["comparisons"] if row["metric"] in wanted]


def standing(assessment: Assessment, system: str, metric: str) -> str:
    """Returns a system's `verdict` against the reference; nothing where it was not compared."""
    for row in assessment["comparisons"]:
        if row["metric"] == metric and row["a"] == system:
            return verdict(row)
    return ""


def verdict(row: Mapping[str, Any]) -> str:
    """Returns `better`, `worse` or `undecided`; `higher` or `lower` of a metric that has no better."""
    if row["better"] == "neither":
        return "higher" if row["difference"] > 0 else "lower"
    return {row["a"]: "better", row["b"]: "worse"}.get(row["better"], "undecided")


def mark(assessment: Assessment, system: str, metric: str) -> str:
    """Returns the mark of a value: significantly better or worse than the reference, or nothing."""
    return MARKS.get(standing(assessment, system, metric), "")


def sanity_text(assessment: Assessment) -> str:
    """Returns what the scorers that know nothing reached, those that beat chance apart: they are notices."""
    return " ".join(line["text"] for line in assessment["sanity"] if not line["beats_chance"])


def answer(assessment: Assessment) -> str:
    """Returns the answer in a few sentences: what the reference reaches, whom it beats, who is best."""
    name = assessment["headline"]
    title = metric_of(assessment, name)["title"]
    rivals = systems_of(assessment, "system", "baseline")
    reference = next(s for s in rivals if s["name"] == assessment["against"])
    text = f"{shown(reference['name'])} reaches {title} {_found(reference, name)}"
    others: dict[str, list[str]] = {
        "worse": [], "better": [], "lower": [], "higher": [], "undecided": [],
    }  # fmt: skip
    for rival in rivals:
        stand = standing(assessment, rival["name"], name)
        if stand:
            others[stand].append(shown(rival["name"]))
    if not any(others.values()):
        return f"{text}. Nothing stands beside it to compare it with."
    words = {
        "worse": "significantly better than",
        "better": "significantly worse than",
        "lower": "significantly higher than",
        "higher": "significantly lower than",
        "undecided": "not to be told apart from",
    }
    told = [f"{words[stand]} {_listed(names)}" for stand, names in others.items() if names]
    text += f": {'; '.join(told)}."
    best = next((s for s in rivals if is_best(assessment, s, metric_of(assessment, name))), None)
    if best is not None and best is not reference:
        text += f" The best is {shown(best['name'])} with {_found(best, name)}."
    return text


def _found(system: Mapping[str, Any], name: str) -> str:
    found = system["values"][name]
    between = interval(found)
    return value(found["value"]) + (f" ({between})" if between else "")


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def how_tested(assessment: Assessment, *, marks: bool = True) -> str:
    """Returns how intervals and marks came to be, in a few sentences.

    Args:
        assessment: the JSON dict.
        marks: explain those of the table of results as well.
    """
    how = assessment["inference"]
    text = (
        f"Intervals: {100 * how['level']:g} %, bootstrap over {how['unit']}, "
        f"{how['n_resamples']:,} resamples, {how['interval']}."
    )
    if assessment["comparisons"]:
        distinct = [row for row in assessment["comparisons"] if not row["same_as"]]
        tests = plural(len(distinct), "test")
        by = f"paired {how['test']} test, {tests} corrected after {how['correction_name']}"
        level = f"at level {1 - how['level']:.2g}"
        text += (
            f" Marks: {BETTER} better, {WORSE} worse than {shown(assessment['against'])} {level} ({by}); no "
            "mark: the test could not decide. Bold: the best."
            if marks
            else f" Better {level}: {by}."
        )
    if marks and any(metric["better"] == "lower" for metric in assessment["metrics"]):
        text += " ↓: lower is better."
    return " ".join([text, *_repeats(assessment)])


def _repeats(assessment: Assessment) -> Iterator[str]:
    """Yields which columns say the same, and which metrics are therefore no test of their own."""
    entries = {metric["name"]: metric for metric in assessment["metrics"]}
    pairs = {row["metric"]: row["same_as"] for row in assessment["comparisons"] if row["same_as"]}
    if _recall_is_hit_rate(assessment):
        once = ", and the two are one test" if pairs else ""
        yield f"Recall is the hit rate here: each user has one relevant item{once}."
        both = {"recall", "hr"}
        pairs = {
            name: other
            for name, other in pairs.items()
            if {entries[name]["family"], entries[other]["family"]} != both
        }
    if pairs:
        told = (f"{entries[a]['title']} ({entries[b]['title']})" for a, b in pairs.items())
        yield (
            "Counted as one test with the metric in brackets, as it is the same, or a fixed multiple, for "
            f"every user: {', '.join(told)}."
        )


def _recall_is_hit_rate(assessment: Assessment) -> bool:
    """Says whether two columns of the table cannot differ, which a reader should not have to find out."""
    families = {metric["family"] for metric in assessment["metrics"]}
    counts = [system["counts"] for system in assessment["systems"]]
    alone = all(c.get("truth_rows") == c.get("users") for c in counts)
    return alone and {"recall", "hr"} <= families


def count_table(
    systems: Sequence[Mapping[str, Any]],
) -> tuple[list[tuple[str, list[str]]], list[str]]:
    """Returns words and a number for each system, and the words of what is 0 for all of them."""
    words = COUNTS | EXTRA_COUNTS
    keys = [key for key in words if any(key in s["counts"] for s in systems)]
    keys += sorted({key for s in systems for key in s["counts"]} - set(words))
    rows, nothing = [], []
    for key in keys:
        text = words.get(key, key.replace("_", " "))
        numbers = [s["counts"].get(key) for s in systems]
        if any(numbers) or key in ALWAYS:
            rows.append((text, ["–" if n is None else f"{n:,}" for n in numbers]))
        else:
            nothing.append(text)
    return rows, nothing


def none_of(nothing: Sequence[str]) -> str:
    """Returns the sentence for the counts that are 0 everywhere; they were looked for all the same."""
    return f"0 for all: {'; '.join(nothing)}." if nothing else ""
