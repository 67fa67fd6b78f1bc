"""Our metrics beside six libraries on nine tricky cases: equal to 1e-9, each under its stated options.

`golden_metrics.json` holds what each library gave when it was run on the case.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fedeval import PRESETS, evaluate
from fedeval.policy import Policy
from fedprep.errors import EvaluationError

HERE = Path(__file__).parent
GOLDEN = json.loads((HERE / "golden_metrics.json").read_text("utf-8"))
CASES = GOLDEN["cases"]
DOCS = HERE.parent / "docs" / "metrics.md"

OURS = {"map_min_k": "map", "coverage_catalog": "coverage_all"}
NOT_OURS = ("n_users", "map_n")

WHOLE_LIST = ("r_precision", "mrr(no cut)", "rbp.80", "covered_users")
"""Metrics of the libraries that were run without a cut-off."""

EXCEPTIONS = {
    ("recbole", "c08_tied_scores"): "the order of torch.topk among equal scores is not specified",
    ("lenskit", "map"): "fails with ZeroDivisionError where a user has no relevant item; we give 0",
    ("trec_eval", "c06_no_common_users"): "gives no value at all; we give NaN",
}


def tables(case: str) -> dict[str, pl.DataFrame]:
    """The tables of a case."""
    told = CASES[case]
    return {
        "recs": pl.DataFrame(
            told["recs"], schema=["user_id", "item_id", "rank", "score"], orient="row"
        ),
        "truth": pl.DataFrame(
            told["truth"], schema=["user_id", "item_id", "relevance"], orient="row"
        ),
        "items": pl.DataFrame({"item_id": told["items"]}),
    }


def values(
    case: str, metrics: list[str], policy: Policy, **changed: pl.DataFrame
) -> dict[str, float]:
    return evaluate(**{**tables(case), **changed}, metrics=metrics, policy=policy).mean


def value(case: str, metric: str, policy: Policy) -> float:
    return values(case, [metric], policy)[metric]


@pytest.mark.parametrize(
    ("way", "policy", "graded"),
    [
        ("default", Policy(no_common_user="zero"), "ndcg"),
        ("gain=linear", Policy(no_common_user="zero"), "ndcg_graded"),
        ("gain=exp", Policy(no_common_user="zero"), "ndcg_exp"),
        ("users=intersection", Policy(users="relevant_with_list", no_common_user="zero"), "ndcg"),
        ("users=any truth row", Policy(users="truth", no_common_user="zero"), "ndcg"),
        ("order=score desc,item asc", Policy(order="score", no_common_user="zero"), "ndcg"),
    ],
)
def test_every_case_has_the_value_of_the_brute_force(way: str, policy: Policy, graded: str) -> None:
    for case in CASES:
        for cut, told in CASES[case]["reference"].items():
            names = {"ndcg": graded} | OURS
            ours = {name: names.get(name, name) + cut for name in told[way] if name not in NOT_OURS}
            found = values(case, [*ours.values(), f"hr{cut}"], policy)
            for name, metric in ours.items():
                assert found[metric] == pytest.approx(told[way][name], abs=1e-9), (case, metric)
            if "ndcg" not in told[way]:
                assert math.isnan(found[f"hr{cut}"]), "no user is left"


def test_map_over_all_relevant_items_is_the_brute_force_of_that_name() -> None:
    for case in CASES:
        for cut, told in CASES[case]["reference"].items():
            found = value(case, "map" + cut, Policy(map_over="relevant", no_common_user="zero"))
            assert found == pytest.approx(told["default"]["map_n"], abs=1e-9), case


def library_of(preset: str) -> str:
    return {"trec_eval": "pytrec_eval"}.get(preset, preset.partition(",")[0])


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("case", CASES)
def test_a_preset_gives_the_values_of_its_library(preset: str, case: str) -> None:
    library = library_of(preset)
    policy, names = PRESETS[preset].policy, PRESETS[preset].names
    if (preset, case) == ("recbole", "c08_tied_scores"):
        pytest.skip("has a test of its own below")
    for cut, told in CASES[case]["libraries"][library].items():
        ours = {t: o if t in WHOLE_LIST else o + cut for t, o in names.items()}
        all_found = values(case, list(ours.values()), policy)
        for theirs, metric in ours.items():
            found, expected = all_found[metric], told[theirs]
            if isinstance(expected, str):
                assert (preset, theirs) in EXCEPTIONS or (preset, case) in EXCEPTIONS, expected
                assert math.isnan(found) or found in (0.0, 0.5)
            else:
                assert found == pytest.approx(expected, abs=1e-9), (metric, theirs)


def test_recbole_is_equalled_on_ties_in_the_order_that_torch_gave() -> None:
    # torch.topk put the two relevant items second and third, in one way or the other.
    rows = tables("c08_tied_scores")["recs"]
    order = {11: 1, 14: 2, 10: 3, 12: 4, 13: 5}
    rows = rows.with_columns(pl.col("item_id").replace_strict(order).alias("rank"))
    names = PRESETS["recbole"].names
    metrics = [f"{ours}@3" for ours in names.values()]
    found = values("c08_tied_scores", metrics, Policy(duplicates="last"), recs=rows)
    for theirs, ours in names.items():
        expected = CASES["c08_tied_scores"]["libraries"]["recbole"]["@3"][theirs]
        assert found[f"{ours}@3"] == pytest.approx(expected, abs=1e-9), theirs


@pytest.mark.parametrize("case", ["c01_basic_binary", "c03_user_without_truth"])
def test_coverage_and_gini_of_full_lists_are_those_of_recbole(case: str) -> None:
    # RecBole fills lists that are short with any items; these are full.
    train = tables(case)["items"].with_columns(user_id=0)
    told = CASES[case]["libraries"]["recbole"]["@5"]
    found = evaluate(**tables(case), train=train, metrics=["coverage@5", "gini@5"]).mean
    assert found["coverage@5"] == pytest.approx(told["coverage"], abs=1e-9)
    assert found["gini@5"] == pytest.approx(told["gini"], abs=1e-9)


def test_no_user_in_common_is_an_error_unless_asked_for() -> None:
    with pytest.raises(EvaluationError, match="no user in common"):
        value("c06_no_common_users", "ndcg@5", Policy())


# --- the tables of docs/metrics.md --------------------------------------------------------------------


def rows_below(heading: str) -> list[list[str]]:
    """The cells of the table below a heading of the document, without its head."""
    text = DOCS.read_text("utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]


def test_the_document_has_every_preset_with_its_options_and_names() -> None:
    told = {row[0].strip("`"): row for row in rows_below("Equal to other libraries")}
    assert list(told) == list(PRESETS)
    for name, preset in PRESETS.items():
        _, version, options, names = told[name]
        assert version == preset.version
        assert options == ", ".join(f"`{k}={v}`" for k, v in preset.policy.changes().items())
        assert names == ", ".join(
            f"`{theirs}`" if theirs == ours else f"`{theirs}` is `{ours}`"
            for theirs, ours in ((t.replace("|", ", "), o) for t, o in preset.names.items())
        )


def test_the_document_has_every_case_with_each_library_s_ndcg_and_ours() -> None:
    told = {row[0]: row[1:] for row in rows_below("Nine cases")}
    assert set(told) == {f"{case[:3]}{cut}" for case in CASES for cut in CASES[case]["reference"]}
    shown = {"ours": None} | {
        name: PRESETS[name] for name in PRESETS if "ndcg" in str(PRESETS[name].names)
    }
    for case in CASES:
        for cut in CASES[case]["reference"]:
            cells = dict(zip(shown, told[f"{case[:3]}{cut}"], strict=True))
            try:
                ours = cell(value(case, f"ndcg{cut}", Policy()))
            except EvaluationError:
                ours = "error"
            assert cells["ours"] == ours, case
            for name, preset in shown.items():
                if preset is not None:
                    theirs = next(t for t, ours in preset.names.items() if ours.startswith("ndcg"))
                    expected = CASES[case]["libraries"][library_of(name)][cut][theirs]
                    assert cells[name] == cell(expected), (case, name)


def cell(value: Any) -> str:
    return "none" if isinstance(value, str) else f"{value:.4f}"
