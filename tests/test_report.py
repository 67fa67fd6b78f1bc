"""Reports of a validation: one JSON dict, and all forms say the same of it."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from rich.console import Console

from fedprep import report
from fedprep.checks import CHECKS
from fedprep.report.pictures import PICTURES
from fedprep.show import show_validation

HOSTILE = "<script>alert(1)</script> ]]> \x1b[31m\n::error::gone | `x` $a$ \u202e"
STATUSES = ("error", "fail", "warn", "skipped", "pass")


def check(name: str, status: str, group: str = "interactions", **more: Any) -> dict[str, Any]:
    bad = status in ("fail", "warn")
    return {
        "name": name, "group": group, "status": status, "severity": "fail", "count": 3 if bad else 0,
        "unit": "rows", "denominator": 1000, "limits": {}, "means": f"What {name} means.",
        "todo": f"What to do about {name}.", "examples": [{"user_id": 7, "rating": "NaN"}] if bad else [],
        "seconds": 0.25, "reason": f"Why {name}." if status in ("error", "skipped") else "", **more,
    }  # fmt: skip


def validation(*checks: dict[str, Any], **more: Any) -> dict[str, Any]:
    counts = {status: sum(c["status"] == status for c in checks) for status in STATUSES}
    verdict = next((s for s in ("error", "fail", "warn") if counts[s]), "pass")
    return {
        "format": 1, "verdict": verdict, "subject": {"kind": "dataset", "name": "demo", "id": "ab" * 32},
        "strict": False, "counts": counts, "limits": {}, "seconds": 1.5, "checks": list(checks), **more,
    }  # fmt: skip


@pytest.fixture
def mixed() -> dict[str, Any]:
    """One error, two fails, three warns, four skipped, five passes, in no order."""
    return validation(
        check("p1", "pass"), check("w1", "warn"), check("s1", "skipped"), check("f1", "fail"),
        check("e1", "error", "clients"), check("p2", "pass", "clients"), check("w2", "warn", "splits"),
        check("s2", "skipped", "items"), check("s3", "skipped", "items"), check("f2", "fail", "items"),
        check("w3", "warn", "items", limits={"max_share": 0.5}), check("s4", "skipped", "dataset"),
        check("p3", "pass", "dataset"), check("p4", "pass", "dataset"), check("p5", "pass", "dataset"),
    )  # fmt: skip


def terminal(result: dict[str, Any], *, colour: bool = False, width: int = 100) -> str:
    out = io.StringIO()
    system = "standard" if colour else None
    Console(file=out, force_terminal=colour, width=width, color_system=system).print(
        show_validation(result)
    )
    return out.getvalue()


def counted(text: str) -> dict[str, int]:
    """The counts in the first `"1 error · 2 fail …"` of a text."""
    found = re.search(r"(\d+ \w+)( · \d+ \w+)+", text)
    assert found, text
    words = dict(part.split(" ")[::-1] for part in found[0].split(" · "))
    return {status: int(words.get(status, 0)) for status in STATUSES}


class Page(HTMLParser):
    """What a browser would see: text, tags, and everything that could be fetched."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.tags, self.fetched = "", [], []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open += [] if tag in self.VOID else [tag]
        self.fetched += [v for k, v in attrs if k in ("src", "href") and tag != "a"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if "style" not in self.open else ""


# --- all forms agree -----------------------------------------------------------------------------------


def test_all_forms_hold_the_same_counts(mixed: dict[str, Any]) -> None:
    counts = json.loads(report.to_json(mixed))["counts"]
    assert counts == {"error": 1, "fail": 2, "warn": 3, "skipped": 4, "pass": 5}

    assert counted(report.markdown(mixed)) == counts
    assert counted(terminal(mixed)) == counts

    lines = report.annotations(mixed).splitlines()
    assert counted(lines[0]) == counts
    levels = [line.split(" ")[0] for line in lines]
    assert levels == ["::notice", *["::error"] * 3, *["::warning"] * 3]

    suites = ElementTree.fromstring(report.junit(mixed))
    assert {k: int(suites.get(k, "")) for k in ("tests", "failures", "errors", "skipped")} == {
        "tests": 15, "failures": counts["fail"], "errors": counts["error"], "skipped": counts["skipped"],
    }  # fmt: skip
    assert len(suites.findall(".//testcase/system-out")) == counts["warn"]

    page = Page(report.page(mixed, {}, {}))
    cards = [attrs["class"] for tag, attrs in page.tags if tag == "details" and "class" in attrs]
    assert cards == ["check error", *["check fail"] * 2, *["check warn"] * 3]
    assert f"{counts['pass']} passed" in page.text and f"{counts['skipped']} skipped" in page.text


def test_every_form_names_every_check_and_what_is_wrong_comes_first(mixed: dict[str, Any]) -> None:
    page = Page(report.page(mixed, {}, {})).text
    for text in (report.markdown(mixed), terminal(mixed), page, report.junit(mixed)):
        assert all(re.search(rf"\b{c['name']}\b", text) for c in mixed["checks"])
    for text in (report.markdown(mixed), terminal(mixed), page, report.annotations(mixed)):
        places = [text.index(f"What {name} means") for name in ("e1", "f1", "f2", "w1", "w2", "w3")]
        assert places == sorted(places)
        assert all(f"What to do about {name}" in text for name in ("e1", "f1", "w3"))
        assert "Why e1" in text


def test_limits_stand_beside_every_result_that_has_them() -> None:
    result = validation(
        *(check(f"c{s}", s, limits={f"max_{s}": 0.5}) for s in ("fail", "warn", "pass"))
    )
    page = Page(report.page(result, {}, {})).text
    for text in (report.markdown(result).replace("&#95;", "_"), terminal(result), page):
        assert all(f"max_{s} = 0.5" in text for s in ("fail", "warn", "pass"))


def test_a_check_that_could_not_run_is_never_told_as_a_pass(mixed: dict[str, Any]) -> None:
    assert ElementTree.fromstring(report.junit(mixed)).find(".//*[@name='e1']/error") is not None
    only_skipped = validation(check("s1", "skipped"))
    assert "No check could run" in report.markdown(only_skipped)
    verdict = Page(report.page(only_skipped, {}, {})).text.partition("Checks that passed")[0]
    assert "No check could run" in verdict and "passed" not in verdict


def test_strict_turns_warnings_into_failures(mixed: dict[str, Any]) -> None:
    strict = {**mixed, "strict": True}
    suites = ElementTree.fromstring(report.junit(strict))
    assert suites.get("failures") == "5"
    assert {f.get("type") for f in suites.iter("failure")} == {"fail", "warn"}
    assert not list(suites.iter("system-out"))
    assert "::warning" not in report.annotations(strict)
    assert "strict" in report.markdown(strict)
    assert "count as failures" in terminal(strict, width=160)


def test_an_empty_validation_has_a_report_in_every_form() -> None:
    nothing = validation()
    assert "no checks" in terminal(nothing)
    assert "No check could run" in Page(report.page(nothing, {}, {})).text
    assert ElementTree.fromstring(report.junit(nothing)).get("tests") == "0"


def test_a_share_short_of_all_is_not_told_as_all_of_them() -> None:
    nearly = validation(check("f1", "fail", count=999_999, denominator=1_000_000))
    assert "999,999 of 1,000,000 rows (> 99.9 %)" in Page(report.page(nearly, {}, {})).text
    rare = validation(check("f1", "fail", count=1, denominator=10**9))
    assert "(< 0.0001 %)" in report.annotations(rare).replace("%25", "%")


# --- each form is what its readers take ----------------------------------------------------------------


def test_json_is_read_by_every_parser_or_refused() -> None:
    text = report.to_json(validation(check("f1", "fail")))
    assert (
        json.loads(text, parse_constant=pytest.fail)["checks"][0]["examples"][0]["rating"] == "NaN"
    )
    with pytest.raises(ValueError, match="JSON"):
        report.to_json(validation(check("f1", "fail", seconds=float("nan"))))


def test_junit_has_a_suite_for_each_group_whose_sums_agree(mixed: dict[str, Any]) -> None:
    suites = ElementTree.fromstring(report.junit(mixed))
    assert [s.get("name") for s in suites] == [
        "interactions",
        "clients",
        "splits",
        "items",
        "dataset",
    ]
    for key in ("tests", "failures", "errors", "skipped"):
        assert sum(int(s.get(key, "")) for s in suites) == int(suites.get(key, ""))
    assert all(len(s.findall("testcase")) == int(s.get("tests", "")) for s in suites)
    failure = suites.find(".//*[@name='f1']/failure")
    assert failure is not None and "user_id 7 · rating NaN" in str(failure.text)
    skipped = suites.find(".//*[@name='s1']/skipped")
    assert skipped is not None and skipped.get("message") == "Why s1."


def test_annotations_are_one_escaped_command_a_line() -> None:
    lines = report.annotations(
        validation(check("f1", "fail", examples=[{"title": "50 %\r\n::error::a,b"}]))
    ).splitlines()
    assert len(lines) == 2
    assert all(re.fullmatch(r"::(notice|error|warning) title=[^:,]*::[^\r\n]*", x) for x in lines)
    assert "50 %25" in lines[1] and "%0A" in lines[1]


def test_markdown_tables_keep_their_columns_whatever_the_values() -> None:
    bad = check("f1", "fail", examples=[{"title": HOSTILE, "a|b": "x\ny"}], limits={"a": 1})
    text = report.markdown(validation(bad, check("p1", "pass")))
    tables = re.findall(r"(?:^\|.*\|$\n?)+", text, re.MULTILINE)
    assert len(tables) == 2
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert "<script" not in text and "`x`" not in text and "\x1b" not in text


def test_the_terminal_is_plain_unless_it_has_colours(mixed: dict[str, Any]) -> None:
    assert "\x1b" not in terminal(mixed)
    assert "\x1b[1;31m" in terminal(mixed, colour=True)


@pytest.mark.parametrize("width", [40, 72, 100, 160])
def test_no_title_can_steer_a_terminal_or_a_runner(width: int) -> None:
    bad = check("f1", "fail", examples=[{"title": HOSTILE}, {"::error::": 1}], todo=HOSTILE)
    text = terminal(validation(bad, check("e1", "error", reason=HOSTILE)), width=width)
    assert "\x1b" not in text and "\u202e" not in text
    assert not any(line.lstrip().startswith("::") for line in text.splitlines())


def test_no_line_of_a_narrow_terminal_begins_a_command() -> None:
    words = [check(f"c{k}", "fail", examples=[{"t": "a" * k + " ::error::x"}]) for k in range(60)]
    lines = terminal(validation(*words), width=72).splitlines()
    assert sum("error" in line for line in lines) == 60
    assert not any(line.lstrip().startswith("::") for line in lines)


# --- the page ------------------------------------------------------------------------------------------

PICTURE = report.Picture(
    name="ratings", title="Ratings", image=b"<svg/>", alt="A histogram", measured="3 rows", look_for="Look."
)  # fmt: skip
MANIFEST = {
    "id": "ab" * 32,
    "created": "2026-01-01",
    "facts": {
        "n_interactions": 12_000, "n_users": 600, "n_items": 300, "density": 0.0667,
        "time_range": [0, 86_400], "splits": {"test": 1, "train": 2, "valid": 3},
    },
    "partition": {"method": "dirichlet", "n_clients": 10, "smallest": 5, "largest": 9},
    "split": {"rule": "the last of each user"},
    "encoders": {"text": {"name": "hashing", "dim": 8, "normalise": "l2", "n_missing": 4}},
    "source": {"name": "amazon", "homepage": "https://example.org/?a=1&b=2", "licence": "none"},
}  # fmt: skip


def test_a_picture_has_the_verdict_of_its_checks_and_no_other(mixed: dict[str, Any]) -> None:
    """Each picture names checks that there are, and its caption has their status, whatever it is."""
    for name, kind in PICTURES.items():
        assert kind.checks and set(kind.checks) <= set(CHECKS), name
    for check in mixed["checks"]:
        picture = dataclasses.replace(PICTURE, checks=(check["name"],))
        html = report.page(mixed, {"ratings": picture}, MANIFEST)
        caption = html.partition('class="judged"')[2].partition("</figcaption>")[0]
        assert f'class="status {check["status"]}"' in caption and check["name"] in caption
    without = report.page(
        mixed, {"ratings": dataclasses.replace(PICTURE, checks=("not_run",))}, MANIFEST
    )
    assert 'class="judged"' not in without


def test_the_page_needs_no_network_and_runs_no_script(mixed: dict[str, Any]) -> None:
    html = report.page(mixed, {"ratings": PICTURE}, MANIFEST)
    page = Page(html)
    assert not page.open
    assert page.fetched and all(str(url).startswith("data:") for url in page.fetched)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert not re.search(r"url\(|@import", html)
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert links == ["https://example.org/?a=1&b=2"]


def test_the_page_says_verdict_facts_checks_and_pictures_in_this_order(
    mixed: dict[str, Any],
) -> None:
    page = Page(report.page(mixed, {"ratings": PICTURE}, MANIFEST))
    wanted = [
        "error", "Of 11 checks 1 could not run, 2 failed, 3 warned; 4 skipped.", "12,000; 600 users",
        "10, dirichlet, 5 to 9 rows each", "train 2 · valid 3 · test 1", "4 missing", "What e1 means",
        "5 passed", "– 4 skipped", "Ratings", "3 rows", "Look.",
    ]  # fmt: skip
    places = [page.text.find(text) for text in wanted]
    assert -1 not in places and places == sorted(places)
    assert ("img", "A histogram") in [(tag, attrs.get("alt")) for tag, attrs in page.tags]


def test_a_picture_that_is_left_out_has_its_reason(mixed: dict[str, Any]) -> None:
    gone = report.Picture(name="norms", title="Norms", reason="there are no <embeddings>")
    page = Page(report.page(mixed, {"norms": gone}, {}))
    assert "Norms: there are no <embeddings>" in page.text
    assert "img" not in {tag for tag, _ in page.tags}


@pytest.mark.parametrize(
    "manifest",
    [
        {},
        {"facts": {}, "partition": {"n_clients": "many", "method": None}, "source": None},
        {"facts": {"n_interactions": 1}, "split": 7, "encoders": {"text": 3}, "id": 5},
        {**MANIFEST, "facts": {**MANIFEST["facts"], "time_range": [10**18, None]}},  # type: ignore[dict-item]
    ],
)
def test_the_page_of_a_broken_manifest_still_stands(
    mixed: dict[str, Any], manifest: dict[str, Any]
) -> None:
    assert "What e1 means" in Page(report.page(mixed, {}, manifest)).text


def test_a_link_of_another_scheme_is_text() -> None:
    manifest = {"source": {"name": "x", "homepage": "javascript:alert(1)"}}
    assert "a" not in {t for t, _ in Page(report.page(validation(), {}, manifest)).tags}


def test_the_page_shows_hostile_texts_as_they_are_wherever_they_stand() -> None:
    hostile = "<script>x</script>"
    bad = check(
        hostile, "fail", hostile, means=hostile, todo=hostile, unit=hostile, limits={hostile: hostile},
        examples=[{hostile: hostile}],
    )  # fmt: skip
    others = [check(hostile, status, hostile, means=hostile) for status in ("pass", "skipped")]
    result = validation(bad, check("e1", "error", reason=hostile), *others)
    result["subject"]["name"] = hostile
    facts = json.loads(
        json.dumps(MANIFEST).replace("amazon", hostile).replace("dirichlet", hostile)
    )
    picture = report.Picture(
        name=hostile,
        title=hostile,
        image=b"<svg/>",
        alt=hostile,
        measured=hostile,
        look_for=hostile,
    )
    page = Page(report.page(result, {"x": picture}, facts))
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(hostile) == 22


@settings(deadline=None, max_examples=60)
@given(st.text(min_size=1, max_size=60))
def test_no_text_breaks_a_form(text: str) -> None:
    bad = check("f1", "fail", examples=[{"title": text, text: 1}], means=text, todo=text)
    result = validation(bad, check("e1", "error", reason=text))
    result["subject"] = {"kind": "tables", "name": text, "id": None}
    result = json.loads(
        json.dumps(result)
    )  # what a file gives: no lone surrogate may break it either

    ElementTree.fromstring(report.junit(result))
    assert all(x.startswith("::") for x in report.annotations(result).splitlines())
    page = Page(report.page(result, {}, {}))
    assert not page.open and "script" not in {tag for tag, _ in page.tags}
    report.markdown(result).encode()
    assert "\x1b" not in terminal(result)
