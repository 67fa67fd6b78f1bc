"""Reports of an assessment: one JSON dict, and all forms say the same of it."""

from __future__ import annotations

import copy
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from fedeval import report
from fedeval.assessment import assess
from fedeval.evaluation import COUNTS
from fedeval.report import wording
from fedeval.report.pictures.canvas import drawing, svg
from fedeval.setting import setting_of
from fedeval.show import show_assessment, show_comparison
from fedeval.statistics import Inference
from fedprep.build import Hands, build_dataset
from fedprep.recipe import parse_recipe
from tests.built import own_cache, write_built

HOSTILE = "<script>alert(1)</script> ]]> \x1b[31m\n::error:: | `x` $a_b$ \\input{x} 100% & \u202e"
LINES = [
    {"round": r, "metric": m, "value": v}
    for r in range(3)
    for m, v in (("loss", 1.0 / (r + 1)), ("ndcg@10", 0.1 * r))
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_built(tmp_path_factory.mktemp("report") / "data")


@pytest.fixture(scope="module")
def run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Run as a trainer leaves it: lists at random, and what it measured round by round."""
    folder = tmp_path_factory.mktemp("runs") / "mf"
    folder.mkdir()
    setting = setting_of(dataset)
    (folder / "manifest.json").write_text(json.dumps({"dataset_id": setting.dataset.id}))  # type: ignore[union-attr]
    (folder / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    lists(dataset, seed=1).write_parquet(folder / "recommendations.parquet")
    return folder


def lists(dataset: Path, *, seed: int, length: int = 20) -> pl.DataFrame:
    """Lists of items at random, the relevant one among the first for every third user."""
    setting = setting_of(dataset)
    rng = np.random.default_rng(seed)
    truth = setting.truth.select("user_id", "item_id").sort("user_id")
    n_items = setting.train.n_items
    rows = []
    for place, (user, item) in enumerate(truth.iter_rows()):
        order = rng.permutation(n_items)
        order = order[~setting.seen.holds(np.full(n_items, user), order)]
        if place % 3 == 0:
            order = np.concatenate([[item], order[order != item]])
        top = order[:length]
        rows.append(
            pl.DataFrame({"user_id": user, "item_id": top, "rank": np.arange(1, len(top) + 1)})
        )
    return pl.concat(rows).cast(pl.Int32)


@pytest.fixture(scope="module")
def found(dataset: Path, run: Path) -> dict[str, Any]:
    """Two systems, one of them named by an enemy, beside two baselines."""
    systems = {"mf": run, HOSTILE: lists(dataset, seed=2)}
    return assess(
        systems, setting_of(dataset), metrics=["ndcg", "hr", "recall", "coverage"], k=[5, 10],
        baselines=["pop", "itemknn"], by=["categories"], inference=Inference(n_resamples=200),
    )  # fmt: skip


@pytest.fixture(scope="module")
def pictures(found: dict[str, Any]) -> dict[str, report.Picture]:
    return report.draw(found)


@pytest.fixture(scope="module")
def html(found: dict[str, Any], pictures: dict[str, report.Picture]) -> str:
    return report.page(found, pictures)


def terminal(found: dict[str, Any], *, width: int = 400) -> str:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(show_assessment(found))
    return out.getvalue()


class Page(HTMLParser):
    """What a browser would see: text, tags, tables, and everything that could be fetched."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.fetched: list[str | None] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open += [] if tag in self.VOID else [tag]
        self.fetched += [v for k, v in attrs if k in ("src", "href") and tag != "a"]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if "style" not in self.open else ""
        if {"td", "th"} & set(self.open) and self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


# --- all forms agree -----------------------------------------------------------------------------------


def test_json_markdown_html_latex_and_terminal_hold_the_same_counts(
    found: dict[str, Any], html: str
) -> None:
    systems = wording.systems_of(json.loads(report.to_json(found)))
    page, text, screen = Page(html), report.markdown(found), terminal(found)
    tex = report.latex(found)
    words = COUNTS | wording.EXTRA_COUNTS
    for key in {key for system in systems for key in system["counts"]}:
        counted = [system["counts"].get(key) for system in systems]  # not asked of every table
        numbers = ["–" if n is None else f"{n:,}" for n in counted]
        if set(numbers) <= {"0", "–"} and key not in wording.ALWAYS:
            for form in (page.text, text, screen):
                assert words[key] in " ".join(form.partition("0 for all: ")[2].split())
            continue
        assert [words[key], *numbers] in page.rows
        assert f"| {words[key]} | {' | '.join(numbers)} |" in text
        line = r"\s+".join(map(re.escape, [words[key], *numbers]))
        assert re.search(rf"^\s*{line}\s*$", screen, re.MULTILINE)
        told = re.split(r"[;.]", tex.rpartition("Counts, ")[2].partition(words[key])[2])[0]
        several = numbers if len(set(numbers)) > 1 else numbers[:1]
        assert re.findall(r"[ (]([\d,]+)(?=, |\)$)", told) == [n for n in several if n != "–"]
    assert {s["counts"]["users"] for s in systems} == {70}


def test_all_forms_hold_the_same_values_and_intervals(found: dict[str, Any], html: str) -> None:
    page, forms = Page(html), [report.markdown(found), terminal(found)]
    tex = report.latex(found)
    for system in found["systems"]:
        for metric in found["metrics"]:
            value = system["values"][metric["name"]]
            shown, between = wording.value(value["value"]), wording.interval(value)
            for text in (page.text, *forms, tex):
                assert shown in text
                assert between in text.replace("--", "–")


def test_an_interval_holds_its_value_and_a_metric_of_the_whole_table_has_none(
    found: dict[str, Any],
) -> None:
    for system in found["systems"]:
        for name, value in system["values"].items():
            if name.startswith("coverage"):
                assert value["low"] is None and 0 <= value["value"] <= 1
            else:
                assert value["low"] <= value["value"] <= value["high"]


def test_the_protocol_and_its_id_stand_in_every_form(found: dict[str, Any], html: str) -> None:
    name, text = found["protocol"]["id"], found["protocol"]["text"]
    assert name and text
    tex = report.latex(found).replace("\\_", "_")
    for form in (
        Page(html).text,
        terminal(found),
        tex,
        report.markdown(found).replace("&#95;", "_"),
    ):
        assert name in form


def test_the_best_is_bold_and_marks_are_those_of_the_tests(found: dict[str, Any]) -> None:
    text = report.markdown(found)
    best = max(s["values"]["ndcg@10"]["value"] for s in found["systems"])
    assert f"**{wording.value(best)}**" in text
    for row in found["comparisons"]:
        sign = {row["a"]: wording.BETTER, row["b"]: wording.WORSE}.get(row["better"], "")
        assert wording.mark(found, row["a"], row["metric"]) == sign
        decided = row["p_corrected"] is not None and row["p_corrected"] <= 0.05
        assert bool(sign) == (decided and row["difference"] != 0)
        assert row["b"] == found["against"] == "mf"


def test_a_sanity_row_is_never_the_best(found: dict[str, Any]) -> None:
    changed = copy.deepcopy(found)
    changed["systems"][0]["kind"] = "sanity"
    changed["systems"][0]["values"]["ndcg@10"]["value"] = 1.0
    results = report.markdown(changed).partition("## Results @5")[0]
    (row,) = [line for line in results.splitlines() if line.startswith("| mf ")]
    assert "1.0000" in row and "**" not in row
    assert results.count("**") >= 2


def test_the_answer_names_the_reference_and_whom_it_beats(found: dict[str, Any], html: str) -> None:
    text = wording.answer(found)
    assert text.startswith("mf reaches NDCG@10 0.")
    for row in wording.comparisons_of(found, ["ndcg@10"]):
        assert wording.shown(row["a"]) in text
    assert text in Page(html).text


# --- what a reader must be told ------------------------------------------------------------------------


def test_a_report_without_baselines_says_so_before_the_numbers(dataset: Path, run: Path) -> None:
    found = assess({"mf": run}, setting_of(dataset), metrics=["ndcg@5"], baselines=())
    html = report.page(found, {})
    for text in (Page(html).text, report.markdown(found), terminal(found)):
        assert text.index("No baseline stands beside") < text.index("NDCG@5", text.index("No base"))
        assert "--baselines" in text
    assert "No baseline stands beside" in report.latex(found)
    assert "nothing stands beside" in wording.answer(found).lower()


def test_a_red_notice_stands_above_all_and_is_red(found: dict[str, Any]) -> None:
    changed = copy.deepcopy(found)
    changed["notices"].insert(0, {"level": "red", "text": "The protocol leaks."})
    html = report.page(changed, {})
    assert '<p class="notice red"><strong>‼</strong>The protocol leaks.</p>' in html
    for text in (html.partition("</style>")[2], report.markdown(changed), terminal(changed)):
        assert text.index("The protocol leaks.") < text.index("Hit rate")
    assert "The protocol leaks." in report.latex(changed)


def test_the_leak_of_leave_last_out_is_printed_with_its_measure_and_its_paper(
    found: dict[str, Any], html: str
) -> None:
    leak = found["protocol"]["leak"]
    share = f"{100 * leak['train_rows_after_first_test_row']:.1f} %"
    page = Page(html).text.replace("\N{NO-BREAK SPACE}", " ")
    for text in (page, report.markdown(found), terminal(found)):
        assert share in text and "Ji, Sun, Zhang, Li, TOIS 2023" in text


def test_metrics_are_defined_and_repeated_columns_are_told(
    found: dict[str, Any], html: str
) -> None:
    page = Page(html).text
    for metric in found["metrics"]:
        assert metric["definition"] and metric["definition"] in page
    assert "Recall is the hit rate here" in page


def test_undefined_values_are_dashes_with_a_reason_and_null_in_json(found: dict[str, Any]) -> None:
    changed = copy.deepcopy(found)
    changed["systems"][0]["values"]["hr@10"] = {
        "value": float("nan"), "low": None, "high": None, "reason": "no user has a value",
    }  # fmt: skip
    assert json.loads(report.to_json(changed))["systems"][0]["values"]["hr@10"]["value"] is None
    changed["systems"][0]["values"]["hr@10"]["value"] = None
    assert 'title="no user has a value">–' in report.page(changed, {})


def over_few_clients(dataset: Path, run: Path, n_clients: int, **asked: Any) -> dict[str, Any]:
    """An assessment of two systems in which so many clients are drawn."""
    setting = setting_of(dataset)
    assert setting.clients is not None
    fewer = setting.clients.with_columns(pl.col("client_id") % n_clients)
    setting.__dict__["clients"] = fewer
    systems = {"mf": run, "other": lists(dataset, seed=2)}
    return assess(
        systems, setting, metrics=["ndcg", "hr", "recall"], k=[5, 10], over="clients", **asked
    )


@pytest.fixture(scope="module")
def by_popularity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Dataset whose item ids are, roughly, in the order of popularity, as in many published files."""
    folder = tmp_path_factory.mktemp("by_popularity")
    rng = np.random.default_rng(3)
    weight = 1 / np.arange(1, 201) ** 0.8
    rows = [
        (user, int(item), 1_500_000_000 + 1_000 * at + user)
        for user in range(300)
        for at, item in enumerate(rng.choice(200, 9, replace=False, p=weight / weight.sum()))
    ]
    table = pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row")
    table.write_csv(folder / "rows.csv")
    recipe = parse_recipe(
        {
            "name": "ids",
            "source": {
                "name": "table", "file": "rows.csv",
                "columns": {"user": "user", "item": "item", "timestamp": "timestamp"},
            },
            "clean": {"label": "implicit"},
            "embed": {"text": {"encoder": "none"}},
        }
    )  # fmt: skip
    with own_cache(folder):
        build_dataset(recipe, folder / "data", hands=Hands(given=folder))
    return folder / "data"


def scored_lists(dataset: Path, tied: float) -> pl.DataFrame:
    """Every unseen item of every user by a random score; of a share of the users all scores are the same."""
    setting = setting_of(dataset)
    seen = pl.DataFrame({"user_id": setting.seen.user_id, "item_id": setting.seen.item_id})
    users, items = (
        pl.DataFrame({f"{n}_id": np.arange(getattr(setting.train, f"n_{n}s"), dtype=np.int32)})
        for n in ("user", "item")
    )
    pairs = users.join(items, how="cross").join(seen, on=["user_id", "item_id"], how="anti")
    score = pl.Series(np.random.default_rng(1).random(pairs.height))
    even = pl.col("user_id") < tied * users.height
    return pairs.with_columns(score=pl.when(even).then(1.0).otherwise(score))


@pytest.mark.parametrize(("tied", "level"), [(0.0, "note"), (0.02, "red"), (1.0, "red")])
def test_ids_that_tell_what_is_relevant_are_red_where_a_list_has_ties_that_they_decide(
    by_popularity: Path, tied: float, level: str
) -> None:
    found = assess(
        {"theirs": scored_lists(by_popularity, tied)}, setting_of(by_popularity), metrics=["hr"], k=[10],
        inference=Inference(n_resamples=20),
    )  # fmt: skip
    (line,) = [row for row in found["sanity"] if row["beats_chance"]]
    assert (line["scorer"], line["ties"], line["leaks"]) == ("constant", "item_id", level == "red")
    (notice,) = [n for n in found["notices"] if n["text"] == line["text"]]
    assert notice["level"] == level
    assert ("theirs" in notice["text"]) == (level == "red")


def test_ties_of_a_baseline_are_decided_by_ids_as_well(by_popularity: Path) -> None:
    found = assess(
        {"theirs": scored_lists(by_popularity, 0.0)}, setting_of(by_popularity), metrics=["hr"], k=[10],
        baselines=["pop"], inference=Inference(n_resamples=20),
    )  # fmt: skip
    assert found["notices"][0]["level"] == "red"
    assert "popularity" in found["notices"][0]["text"]


def test_too_few_clients_to_decide_anything_are_told_on_top_with_the_reason(
    dataset: Path, run: Path
) -> None:
    found = over_few_clients(dataset, run, 4)
    (text,) = [n["text"] for n in found["notices"] if "Nothing could be decided" in n["text"]]
    assert {row["better"] for row in found["comparisons"]} == {"undecided"}
    # 2^4 sign patterns, two of them extreme; of 4 distinct tests (recall is the hit rate) one needs 0.05 / 4
    assert "differ for 4 clients at most" in text
    assert "no p-value below 0.12" in text and "with 4 tests to correct for" in text
    assert "asks for 0.013 or less, which takes 8 clients" in text
    (few,) = [n["text"] for n in found["notices"] if "Only 4 clients are drawn" in n["text"]]
    row = next(row for row in found["comparisons"] if row["metric"] == "ndcg@10")
    assert f"at least {row['smallest_difference']:.4f}." in few
    levels = [notice["level"] for notice in found["notices"]]
    assert levels == sorted(levels, key=["red", "warn", "note"].index)
    for form in (Page(report.page(found, {})).text, report.markdown(found), terminal(found)):
        assert "Nothing could be decided" in form and "eight times in ten" in form
    one = over_few_clients(dataset, run, 4, inference=Inference(correction="none"))
    assert any(
        "; level 0.05 asks for 0.05 or less, which takes 6 clients" in n["text"]
        for n in one["notices"]
    )


def test_systems_that_are_equal_are_not_called_too_few(dataset: Path, run: Path) -> None:
    found = assess({"mf": run, "again": run}, setting_of(dataset), metrics=["ndcg@10"])
    texts = " ".join(notice["text"] for notice in found["notices"])
    assert (
        "same values: there is nothing to decide" in texts
        and "whatever the systems do" not in texts
    )


def test_client_size_and_cold_users_are_slices_too(dataset: Path, run: Path) -> None:
    asked = {"metrics": ["ndcg@10"], "by": ["client_size", "cold_users"]}
    found = assess({"mf": run}, setting_of(dataset), **asked)  # type: ignore[arg-type]
    parts = {part["by"]: part for part in found["slices"]}
    assert len(parts["client_size"]["names"]) > 1 and sum(parts["client_size"]["n"]) == 70
    assert parts["cold_users"]["names"] == ["warm"] and parts["cold_users"]["n"] == [70]
    assert "size of the user's client" in report.markdown(found).replace("&#39;", "'")


def test_clients_or_users_enough_to_decide_are_not_said_to_be_too_few(
    dataset: Path, run: Path
) -> None:
    found = over_few_clients(dataset, run, 12)
    texts = " ".join(notice["text"] for notice in found["notices"])
    assert "Nothing could be decided" not in texts and "Only 12 clients are drawn" in texts
    users = assess(
        {"mf": run, "other": lists(dataset, seed=2)}, setting_of(dataset), metrics=["ndcg@10"]
    )
    assert not any("are drawn" in notice["text"] for notice in users["notices"])


def test_a_family_too_large_for_the_flips_is_told(dataset: Path, run: Path) -> None:
    found = over_few_clients(dataset, run, 12, inference=Inference(n_flips=50))
    assert any("50 flips give no p-value below 0.02" in n["text"] for n in found["notices"])


def test_a_metric_that_repeats_another_is_said_to_be_no_test_of_its_own(
    dataset: Path, run: Path
) -> None:
    systems = {"mf": run, "other": lists(dataset, seed=2)}
    metrics = ["ndcg", "hr", "recall", "precision"]
    found = assess(systems, setting_of(dataset), metrics=metrics, k=[5, 10])
    text = wording.how_tested(found)
    assert "4 tests corrected" in text  # NDCG and hit rate, twice
    assert "each user has one relevant item, and the two are one test" in text
    assert "Precision@5 (Hit rate@5), Precision@10 (Hit rate@10)" in text
    for form in (Page(report.page(found, {})).text, report.markdown(found), terminal(found)):
        assert "4 tests corrected" in form


# --- names by an enemy ---------------------------------------------------------------------------------


def test_hostile_names_stand_in_every_form_as_text_and_steer_nothing(
    found: dict[str, Any], html: str
) -> None:
    page = Page(html)
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<script>alert(1)</script>" in page.text
    text = report.markdown(found)
    assert "<script" not in text and "\x1b" not in text
    results = text.split("## Results @10")[1].split("##")[0].splitlines()
    widths = {line.count("|") for line in results if line.startswith("|")}
    assert len(widths) == 1
    for form in (html, text, terminal(found), report.latex(found)):
        assert "\x1b" not in form and "\u202e" not in form


def test_latex_sets_hostile_names_as_text(found: dict[str, Any]) -> None:
    tex = report.latex(found)
    assert r"\input{x}" not in tex
    bare = re.sub(r"\\[\\{}$&#%_]", "", tex)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    for begin in set(re.findall(r"\\begin\{(\w+)\}", tex)):
        assert tex.count(rf"\begin{{{begin}}}") == tex.count(rf"\end{{{begin}}}")
    body = tex.partition(r"\toprule")[2].partition(r"\bottomrule")[0]
    rows = [re.sub(r"\\&", "", line) for line in body.splitlines() if line.endswith(r"\\")]
    assert {row.count("&") for row in rows} == {len(wording.by_cutoff(found)[0][1])}
    assert len(rows) == 1 + 2 * len(found["systems"])


# --- the page and its pictures -------------------------------------------------------------------------


def test_the_page_needs_nothing_but_itself(html: str) -> None:
    page = Page(html)
    assert not page.open
    assert all(link and link.startswith("data:") for link in page.fetched)
    assert "Content-Security-Policy" in html
    assert len(html.encode()) < 2_000_000


def test_every_kind_of_picture_is_drawn_with_words_for_who_cannot_see_it(
    pictures: dict[str, report.Picture], html: str
) -> None:
    assert list(pictures) == list(report.PICTURES)
    for picture in pictures.values():
        assert picture.image.startswith(b"<?xml"), picture.reason
        assert picture.alt and picture.look_for and picture.title
        assert b"\x1b" not in picture.image
    images = [attrs for tag, attrs in Page(html).tags if tag == "img"]
    alts = [wording.shown(picture.alt, longest=2000) for picture in pictures.values()]
    assert [attrs["alt"] for attrs in images] == alts


def test_equal_numbers_give_equal_pictures(
    found: dict[str, Any], pictures: dict[str, report.Picture]
) -> None:
    assert report.draw(json.loads(report.to_json(found))) == pictures


def test_what_cannot_be_drawn_is_left_out_with_its_reason(dataset: Path, tmp_path: Path) -> None:
    truth = setting_of(dataset).truth
    truth.write_parquet(tmp_path / "truth.parquet")
    setting = setting_of(truth=tmp_path / "truth.parquet")
    found = assess({"a": lists(dataset, seed=3)}, setting, metrics=["ndcg@5"])
    pictures = report.draw(found)
    assert not pictures["differences"].image and "alone" in pictures["differences"].reason
    assert not pictures["clients"].image and "file" in pictures["clients"].reason
    assert pictures["curves"].image
    assert "Left out:" in Page(report.page(found, pictures)).text


def test_more_systems_than_colours_still_look_different(found: dict[str, Any]) -> None:
    from fedeval.report.pictures.canvas import looks_of

    many = {"systems": [{"name": f"s{n}", "kind": "system"} for n in range(20)]}
    looks = looks_of(many).values()
    assert len({(look.colour, look.marker) for look in looks}) == 20


def test_a_legend_of_many_systems_is_not_cut_and_takes_no_room_of_the_picture() -> None:
    from matplotlib.figure import Figure

    from fedeval.report.pictures.canvas import NARROW, legend_above

    with drawing():
        figure = Figure(figsize=NARROW, layout="constrained")
        axes = figure.subplots()
        for number in range(16):
            axes.plot([0, 1], [0, number], label=f"a system with a name {number}")
        legend_above(axes)
        (legend,) = figure.legends
        assert legend.get_window_extent().width <= figure.bbox.width
        assert len(legend.get_texts()) == 16
        figure.draw_without_rendering()
        assert axes.bbox.height > 0.5 * NARROW[1] * figure.dpi


def test_names_of_points_cover_no_other_and_stay_inside() -> None:
    from fedeval.report.pictures import coverage

    names = [f"system {number}" for number in range(9)]
    value = {"value": 0.2, "low": 0.19, "high": 0.21}
    found = {
        "coverage": {"systems": dict.fromkeys(names, 0.97), "k": 10, "n_items": 30, "reason": ""},
        "headline": "hr@10",
        "metrics": [{"name": "hr@10", "title": "HR@10", "better": "higher"}],
        "systems": [{"name": n, "kind": "system", "values": {"hr@10": value}} for n in names],
    }
    with drawing():
        axes = coverage.draw(found).figure.axes[0]
        boxes = [text.get_window_extent() for text in axes.texts]
        inside = [axes.bbox.contains(*corner) for b in boxes for corner in (b.min, b.max)]
    assert len(boxes) == 9 and all(inside)
    pairs = [(a, b) for place, a in enumerate(boxes) for b in boxes[:place]]
    assert not any(a.overlaps(b) for a, b in pairs)


def test_learning_curves_are_drawn_of_the_runs_that_have_rounds(found: dict[str, Any]) -> None:
    assert found["learning"] == {"mf": LINES}
    from fedeval.report.pictures import learning

    with drawing():
        drawn = learning.draw(found)
        assert b"loss" in svg(drawn.figure)
    assert "NDCG@10, loss by round of mf" in drawn.alt  # the headline metric first


def test_learning_curves_show_what_is_looked_for_and_not_the_machinery() -> None:
    from fedeval.report.pictures import learning

    names = ["rows", "bytes/up", "clients", "lr", "update_norm/p99", "grad_norm/p99", "loss/valid"]
    lines = [{"round": r, "metric": name, "value": 1.0} for r in (1, 2) for name in names]
    lines += [{"round": 2, "metric": "ndcg@10/test", "value": 0.1}]
    lines += [{"round": r, "metric": "ndcg@10/valid", "value": 0.1} for r in (1, 2)]
    found = {
        "learning": {"a": lines},
        "headline": "ndcg@10",
        "systems": [{"name": "a", "kind": "system"}],
    }
    with drawing():
        alt = learning.draw(found).alt
    assert alt == "NDCG@10 on valid, loss on valid by round of a."
    found["learning"] = {"a": [line for line in lines if line["metric"] in names[:6]]}
    with drawing():
        drawn = learning.draw(found)
    assert drawn.alt == f"{', '.join(names[:6])} by round of a."  # where there is nothing else


def test_who_cannot_see_the_page_is_told_what_tables_and_pictures_are(html: str) -> None:
    tags = [tag for tag, _ in Page(html).tags]
    assert tags.count("caption") == tags.count("table") > 5
    for tag, attributes in Page(html).tags:
        assert tag != "th" or attributes["scope"] in ("col", "row", "rowgroup")
        assert tag != "img" or len(str(attributes["alt"])) > 20
        if attributes.get("class") == "scroll":
            assert attributes["tabindex"] == "0"  # the keyboard moves what is wider than the screen


def test_letters_of_formulas_are_explained_where_there_are_formulas(
    found: dict[str, Any], pictures: dict[str, report.Picture]
) -> None:
    from fedeval.definitions import NOTATION

    plain = found | {"metrics": [m for m in found["metrics"] if m["family"] in ("hr", "coverage")]}
    plain |= {"headline": "hr@10", "comparisons": []}
    assert NOTATION in Page(report.page(found, pictures)).text
    assert NOTATION not in Page(report.page(plain, pictures)).text
    assert "rel_r is 1" in report.markdown(found).replace("&#95;", "_")


def test_more_of_a_metric_that_has_no_better_is_higher_and_not_better(dataset: Path) -> None:
    found = assess(
        {"a": lists(dataset, seed=3)}, setting_of(dataset), metrics=["arp", "calibration"], k=[5],
        baselines=["pop"], inference=Inference(n_resamples=50, n_flips=999),
    )  # fmt: skip
    (row,) = (row for row in found["comparisons"] if row["metric"] == "arp@5")
    assert row["better"] == "neither" and row["difference"] > 0 and row["p_corrected"] < 0.05
    assert wording.mark(found, "popularity", "arp@5") == ""
    assert wording.verdict(row) == "higher"
    assert wording.answer(found).endswith("significantly lower than popularity.")
    pictures = report.draw(found)
    assert pictures["differences"].look_for.startswith("Right of the line: higher than")
    assert "from the lowest to the highest" in pictures["clients"].image.decode()
    text = Page(report.page(found, pictures)).text
    assert "Miscalibration of categories@5 ↓" in text and "↓: lower is better." in text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.12345, "0.1235"),
        (-1.5, "−1.5000"),
        (28.61224, "28.61"),
        (1234.56, "1,234.6"),
        (None, "–"),
    ],
)
def test_a_value_has_as_many_digits_as_say_something(number: float | None, text: str) -> None:
    assert wording.value(number) == text


def test_the_keys_of_the_json_stand_in_the_documents(found: dict[str, Any], dataset: Path) -> None:
    from fedeval.assessment import score

    text = (Path(__file__).parent.parent / "docs" / "fedeval.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (✓?)", text.partition("## The JSON")[2], re.MULTILINE)
    assert {name for name, _ in rows} == set(found)
    numbers = score({"a": lists(dataset, seed=3)}, setting_of(dataset), metrics=["ndcg@5"])
    assert {name for name, also in rows if also} == set(numbers)


def test_slices_and_clients_are_whole(found: dict[str, Any]) -> None:
    parts = {part["by"]: part for part in found["slices"]}
    assert list(parts) == ["activity", "popularity", "categories"]
    assert sum(parts["activity"]["n"]) == 70
    assert sum(parts["popularity"]["n"]) == 70  # one relevant item each
    assert found["clients"]["n_users"] == 70
    for line in found["clients"]["systems"].values():
        assert len(line["curve"]) == 101
        assert line["curve"] == sorted(line["curve"])


def test_numbers_of_two_protocols_are_not_put_side_by_side_in_silence(
    found: dict[str, Any],
) -> None:
    from fedeval.assessment.notices import notices_of

    systems = copy.deepcopy(found["systems"])
    systems[1]["protocol"] = "another@1234"
    setting = setting_of(truth=pl.DataFrame({"user_id": [1], "item_id": [1]}))
    notices = notices_of(setting, systems, found["protocol"], [])
    assert any("another@1234" in n["text"] and "cannot be compared" in n["text"] for n in notices)


def test_a_comparison_in_the_terminal_says_who_is_better_where(found: dict[str, Any]) -> None:
    out = io.StringIO()
    Console(file=out, width=300, color_system=None).print(show_comparison(found))
    for words in ("could have seen", "win / tie / loss", "by activity", "head"):
        assert words in out.getvalue()
