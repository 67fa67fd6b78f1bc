"""The recipe of implicit ranking on MovieLens-1M: it is read, and a few of its rounds train."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from fedprep.build import build_dataset
from fedprep.recipe import load_recipe
from fedtrain.settings import parse_plan
from fedtrain.train import train

RECIPE = "ml-1m-fedavg"


def test_the_recipe_leaks_nothing_and_chooses_on_valid() -> None:
    plan = parse_plan(load_recipe(RECIPE).to_dict()["train"])
    assert (plan.algorithm, plan.model, plan.loss) == ("fedavg", "mf", "bce")
    assert plan.negative_pool == "train"
    assert plan.stop.metric == "ndcg@10/valid"


@pytest.mark.slow
@pytest.mark.realdata
def test_five_rounds_of_it_know_more_than_popularity(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDPREP_MIRROR", str(mirror))
    settings = ["embed.text.encoder=none"]
    recipe = load_recipe(RECIPE, settings)
    dataset = build_dataset(recipe, tmp_path / "data")
    plan = parse_plan(recipe.to_dict()["train"])
    plan = msgspec.structs.replace(plan, rounds=5, threads=1)
    run = train(dataset, plan, tmp_path / "run", allow_invalid=True)
    values = dict(run.rounds().select("metric", "value").iter_rows())
    assert values["ndcg@10/valid"] > 0.022  # popularity: 0.021
