"""Settings that nothing reads are said; those of every recipe are read."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
torch.set_num_threads(1)

from federations import federation_of_rows, work_of  # noqa: E402

from fedtrain.engine import Work  # noqa: E402
from fedtrain.idle import READS, READS_OF_MODELS, idle_settings  # noqa: E402
from fedtrain.models import MODELS  # noqa: E402
from fedtrain.plan import Plan  # noqa: E402

RECIPES = sorted((Path(__file__).parent.parent / "recipes").glob("*.toml"))


def work(table: dict[str, Any]) -> Work:
    rows = [(0, 0, 0, 4.0, "train"), (1, 1, 1, 2.0, "train")]
    federation = federation_of_rows(rows, n_items=3, n_clients=2)
    inputs = {"modalities": {"text": 3, "image": 2}, "behavior": 2}
    plan = {"task": "implicit", "batch_size": 64, "clients_per_round": 100, "model": "mf", **table}
    return work_of(federation, sizes=inputs, **plan)


@pytest.mark.parametrize(
    ("table", "idle"),
    [
        ({"model": "mult_vae", "negatives": 9}, "negatives"),
        ({"model": "mult_vae", "negative_pool": "all"}, "negative_pool"),
        ({"max_history": 50}, "max_history"),
        ({"model": "sasrec", "lr_user": 3.0}, "lr_user"),
        ({"lr_head": 0.2}, "lr_head"),
        ({"momentum": 0.5}, "momentum"),
        ({"server_tau": 1e-7}, "server_tau"),
        ({"server_optimizer": "momentum", "server_beta2": 0.9}, "server_beta2"),
        ({"algorithm": "local", "server_lr": 0.5}, "server_lr"),
        ({"algorithm": "local", "item_mean": "sum"}, "item_mean"),
        ({"algorithm": "centralised", "sampler": "cyclic"}, "sampler"),
        ({"schedule": "cosine", "schedule_factor": 0.1}, "schedule_factor"),
        ({"schedule_floor": 0.1}, "schedule_floor"),
        ({"rollback_factor": 0.1}, "rollback_factor"),
        ({"compression": {"method": "int8", "share": 0.5}}, "compression.share"),
        ({"privacy": {"clip": 1.0, "delta": 1e-6}}, "privacy.delta"),
        ({"stop": {"mode": "min"}}, "stop.mode"),
        ({"faults": {"straggler_work": 0.1}}, "faults.straggler_work"),
        ({"mixed_precision": True}, "mixed_precision"),
        ({"model": "ncf", "mf": {"dim": 8}}, "[train.mf]"),
        ({"fedprox": {"mu": 0.1}}, "[train.fedprox]"),
        ({"model": "two_tower", "two_tower": {"temperature": 0.2}}, "two_tower.temperature"),
        (
            {"model": "two_tower", "two_tower": {"image": False, "fusion": "gated"}},
            "two_tower.fusion",
        ),
        ({"model": "ncf", "ncf": {"layers": 0, "dropout": 0.2}}, "ncf.dropout"),
        ({"model": "sasrec", "sasrec": {"blocks": 0, "heads": 2}}, "sasrec.heads"),
        ({"model": "mult_vae", "mult_vae": {"kl_weight": 0.0, "annealing": 0.2}}, "mult_vae.annealing"),
    ],
)  # fmt: skip
def test_a_setting_that_nothing_reads_is_named_alone(table: dict[str, Any], idle: str) -> None:
    (found,) = idle_settings(work(table))
    assert found.startswith(f"{idle} (")


@pytest.mark.parametrize(
    "table",
    [
        {"server_optimizer": "adam", "server_tau": 1e-7, "server_beta2": 0.9, "item_mean": "sum"},
        {"model": "sasrec", "max_history": 50, "negatives": 9, "sasrec": {"heads": 2}},
        {"optimizer": "adam", "momentum": 0.5, "lr_user": 2.0, "lr_item": 3.0},
        {"algorithm": "fedper", "model": "two_tower", "lr_head": 0.2, "two_tower": {"hidden": 8}},
        {"algorithm": "centralised", "clients_per_round": 0},
        {"algorithm": "fedprox", "fedprox": {"mu": 0.1}, "mf": {"dim": 8}},
        {"algorithm": "fedadam"},
        {"stop": {"metric": "loss/valid", "mode": "min"}, "schedule": "plateau"},
    ],
)
def test_a_setting_that_is_read_is_no_matter(table: dict[str, Any]) -> None:
    assert idle_settings(work(table)) == []


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_no_recipe_sets_what_nothing_reads(recipe: Path) -> None:
    table = tomllib.loads(recipe.read_text(encoding="utf-8")).get("train", {})
    assert idle_settings(work(table)) == []


def test_the_keys_are_keys_of_a_plan_and_of_models() -> None:
    plain = msgspec.to_builtins(Plan())
    for key in READS:
        table, _, inner = key.rpartition(".")
        assert inner in (plain[table] if table else plain)
    for key in READS_OF_MODELS:
        name, _, inner = key.partition(".")
        assert hasattr(MODELS[name](), inner)
