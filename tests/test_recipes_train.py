"""Every recipe builds, offline, and trains with its own `[train]`; what is made to rank beats popularity."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from fedeval.cli import main  # noqa: E402
from fedprep.build import build_dataset  # noqa: E402
from fedprep.build.log import Hands  # noqa: E402
from fedprep.dataset import Dataset  # noqa: E402
from fedprep.recipe import load_recipe, recipe_names  # noqa: E402
from fedtrain.facts import facts_of  # noqa: E402
from fedtrain.preflight import check_plan, filled  # noqa: E402
from fedtrain.settings import parse_plan  # noqa: E402
from fedtrain.tasks import TASKS  # noqa: E402
from fedtrain.train import train  # noqa: E402

SMALL = (
    "source.synthetic.n_users=330",
    "source.synthetic.n_items=60",
    "source.synthetic.n_interactions=5000",
)
MEASURED = {"ml-1m-fedavg": "its server and its rates are for 6,040 clients: benchmarks/RESULTS.md"}
"""Recipes that rank, with a plan of the real data alone: what it reaches stands in `[train.expected]`."""


def built(name: str, folder: Path, *settings: str) -> Dataset:
    """The Dataset that a recipe makes of made-up raw files in the official format."""
    plain = [] if load_recipe(name).embed.text.encoder == "none" else ["embed.text.encoder=hashing"]
    plain += [] if load_recipe(name).embed.image.encoder == "none" else ["embed.image.encoder=none"]
    recipe = load_recipe(name, [*plain, *settings])
    return build_dataset(recipe, folder, hands=Hands(given="synthetic"))


@pytest.mark.parametrize("name", recipe_names())
def test_the_plan_of_every_recipe_fits_what_the_recipe_builds(name: str, tmp_path: Path) -> None:
    dataset = built(name, tmp_path / "data", *SMALL, "partition.min_rows=1")
    plan, facts = parse_plan(load_recipe(name).train, name), facts_of(dataset)
    plan = filled(plan, facts)
    check_plan(plan, facts)
    assert None not in (plan.lr, plan.server_lr)


@pytest.mark.slow
@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_trains_and_ranks_above_popularity_or_says_why_not(
    name: str, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    dataset = built(name, tmp_path / "data")
    recipe = load_recipe(name)
    plan = parse_plan(recipe.train, name)
    run = train(dataset, plan, tmp_path / "run", allow_invalid=True)
    assert run.manifest["status"] == "finished"
    if not TASKS[plan.loss].implicit:
        text = (Path(__file__).parent.parent / "recipes" / f"{name}.toml").read_text("utf-8")
        assert "not made to rank" in text
        return
    if name in MEASURED:
        assert plan.expected
        return
    arguments = [
        "report",
        str(run.path),
        "--data",
        str(dataset.path),
        "--out",
        str(tmp_path / "report"),
    ]
    with pytest.raises(SystemExit):
        main([*arguments, "--resamples", "500", "--metrics", "ndcg", "-k", "10"])
    report = json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))
    values = {system["name"]: system["values"]["ndcg@10"] for system in report["systems"]}
    assert values["run"]["value"] > values["popularity"]["high"]
