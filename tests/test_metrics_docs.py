"""docs/metrics.md has every metric, policy and count that there is, and none besides."""

from __future__ import annotations

import inspect
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from rich.console import Console

import fedeval
from fedeval.definitions import definitions
from fedeval.evaluation import COUNTS, evaluate
from fedeval.metrics import METRICS
from fedeval.policy import PRESETS, Policy
from fedeval.show import show_metrics

DOCS = Path(__file__).parent.parent / "docs" / "metrics.md"


def rows_below(heading: str) -> dict[str, list[str]]:
    text = DOCS.read_text("utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return {row[0].strip("`"): row[1:] for row in cells}


def test_every_metric_has_its_row_and_its_cut_off() -> None:
    told = rows_below("The metrics")
    assert [name.removesuffix("@k") for name in told] == list(METRICS)
    for name, cells in told.items():
        metric = METRICS[name.removesuffix("@k")]
        assert name.endswith("@k") == metric.cut, name
        formula, _, source = cells
        assert formula
        year = re.findall(r"\d{4}", source)
        docstring = inspect.getdoc(metric.function) or ""
        assert all(y in docstring for y in year) or name == "serendipity_categories@k", name


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_tells_its_formula_and_when_it_is_undefined(name: str) -> None:
    metric = METRICS[name]
    assert metric.title
    assert len(metric.definition) > 20
    assert metric.definition.endswith((".", "infinite", ")")), metric.definition
    assert (
        metric.undefined
        or metric.kind in ("accuracy", "rows")
        or name in ("coverage", "coverage_all", "user_coverage")
    )
    assert (metric.finish is not None) == (metric.kind == "rows")


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_tells_which_library_it_equals_under_which_option(name: str) -> None:
    text = " ".join((inspect.getdoc(METRICS[name].function) or "").split())
    told = set(
        re.findall(
            r"`([^`]+)`", text.partition("the policy of `PRESETS`:")[2].partition("Reference:")[0]
        )
    )
    (found,) = definitions([name]).values()
    assert "Reference:" in text
    assert found["equals"].keys() == told & PRESETS.keys()
    for preset, facts in found["equals"].items():
        assert facts["name"] in PRESETS[preset].names
        assert Policy(**facts["policy"]) == PRESETS[preset].policy
    out = io.StringIO()
    Console(file=out, width=300).print(show_metrics({name: found}, whole=True))
    for preset, facts in found["equals"].items():
        assert f"{preset} ({facts['version']}): its {facts['name']} is " in out.getvalue()
        assert all(f"{key}={way}" in out.getvalue() for key, way in facts["policy"].items())


def test_every_policy_has_its_row_and_its_ways() -> None:
    told = rows_below("Policies")
    hints = get_type_hints(Policy)
    assert list(told) == list(hints)
    assert told["min_relevance"][0].startswith("none")  # the one that is no choice among words
    del hints["min_relevance"]
    for name, hint in hints.items():
        ways = set(re.findall(r"`([^`]+)`", told[name][0]))
        assert ways == set(get_args(hint)), name
        default = getattr(Policy(), name)
        assert told[name][0].startswith(f"`{default}`"), f"the default of {name} stands first"


def test_every_count_has_words() -> None:
    recs = {"user_id": [1, 1], "item_id": [1, 2], "rank": [1, 2], "score": [0.5, 0.4]}
    truth = {"user_id": [1], "item_id": [2], "rating": [0.3]}
    found = [
        evaluate(
            recs, truth, "hr@1", train={"user_id": [2], "item_id": [1]}, items={"item_id": [1, 2]}
        ),
        evaluate(recs, truth, "hr@1", policy=fedeval.Policy(order="score")),
        evaluate(recs, truth, "rmse"),
    ]
    counted = {name for one in found for name in one.counts}
    assert counted == set(COUNTS)


def test_names_at_the_root_are_there_and_cost_nothing() -> None:
    for name in fedeval.__all__:
        assert getattr(fedeval, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'ndcg'"):
        fedeval.ndcg  # noqa: B018
    script = (
        "import sys, fedeval\n"
        "assert not {'torch', 'matplotlib', 'polars', 'numpy'} & set(sys.modules)\n"
        "fedeval.evaluate, fedeval.METRICS, fedeval.Protocol\n"
        "assert not {'torch', 'matplotlib', 'scipy', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
