"""A plan is read key by key, checked against itself and against its Dataset, and documented."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import polars as pl
import pytest

from fedprep.dataset import Dataset
from fedprep.errors import FedprepError, RecipeError, TrainingError
from fedtrain.algorithms import ALGORITHMS, Algorithm
from fedtrain.facts import Facts, facts_of, sizes_of
from fedtrain.models import MODELS
from fedtrain.plan import Plan
from fedtrain.preflight import check_plan, filled
from fedtrain.samplers import SAMPLERS
from fedtrain.schedules import SCHEDULES
from fedtrain.settings import laid_over, parse_plan, plan_defaults, with_settings
from fedtrain.tasks import TASKS
from tests.built import write_built

DOCS = (Path(__file__).parent.parent / "docs" / "training.md").read_text(encoding="utf-8")


def proximal(
    *, mu: float = 0.01, kind: Literal["near", "far"] = "near", widths: tuple[int, ...] = ()
) -> Algorithm:
    """An algorithm with keys of every kind."""
    return Algorithm(name="proximal", reference="")


def adaptive() -> Algorithm:
    """An algorithm that changes defaults."""
    return Algorithm(
        name="adaptive", reference="", defaults={"server_optimizer": "adam", "server_lr": 0.01}
    )


def plain(*, pooled: bool = False) -> Algorithm:
    return Algorithm(name="plain", reference="", pooled=pooled)


REAL = dict(ALGORITHMS)


@pytest.fixture(autouse=True)
def algorithms(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a plan needs of algorithms, whatever else they do: names, keywords, defaults."""
    names = ["scaffold", "fednova", "fedper", "fedrecon", "fedfnn"]
    pooled = {"centralised": functools.partial(plain, pooled=True)}
    for name, constructor in {
        **dict.fromkeys(names, plain), **pooled, "proximal": proximal, "adaptive": adaptive,
    }.items():  # fmt: skip
        monkeypatch.setitem(ALGORITHMS, name, constructor)


FACTS = Facts(
    n_users=20, n_items=30, n_clients=12, n_able=10, n_valid=20, label="binary", n_classes=2,
    n_labels=2, n_ratings=5, modalities={"text": 8}, behavior=4, most_users=3,
)  # fmt: skip


def keys_of(struct: type[msgspec.Struct], path: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of a table with its default; the keys of a table in it by their path."""
    for field in msgspec.structs.fields(struct):
        default = field.default
        if default is msgspec.NODEFAULT:
            default = field.default_factory()
        if isinstance(default, msgspec.Struct):
            yield from keys_of(type(default), f"{path}{field.name}.")
        elif field.name != "tables":
            yield f"{path}{field.name}", default


KEYS = dict(keys_of(Plan))


# --- reading --------------------------------------------------------------------------------------


def test_an_empty_table_is_a_plan_of_defaults() -> None:
    assert parse_plan({}) == Plan()


def test_every_key_of_the_table_reaches_the_plan() -> None:
    table = {
        "algorithm": "proximal",
        "rounds": 3,
        "lr": 1,
        "stop": {"metric": "loss/valid", "mode": "min"},
        "loggers": {"names": ["mlflow"]},
        "proximal": {"mu": 1, "kind": "far", "widths": [3, 2]},
        "mf": {"dim": 7},
    }
    plan = parse_plan(table)
    assert (plan.rounds, plan.lr, plan.stop.metric, plan.stop.mode) == (3, 1.0, "loss/valid", "min")
    assert plan.loggers.names == ["mlflow"]
    assert plan.table("proximal") == {"mu": 1.0, "kind": "far", "widths": (3, 2)}
    assert MODELS[plan.model](**plan.table(plan.model)).dim == 7
    assert plan.table("fedavg") == {}


def test_a_plan_survives_the_way_through_json() -> None:
    plan = parse_plan({"algorithm": "proximal", "proximal": {"widths": [3]}, "lr_item": 5.0})
    assert parse_plan(json.loads(json.dumps(plan.to_dict()))) == plan


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"round": 3}, ["'train.round'", "did you mean 'rounds'"]),
        ({"proximall": {}}, ["'train.proximall'", "did you mean 'proximal'"]),
        ({"tables": {}}, ["unknown key 'train.tables'"]),
        ({"algorithm": "fedavgg"}, ["train.algorithm", "'fedavgg'", "did you mean 'fedavg'"]),
        ({"model": "mff"}, ["train.model", "did you mean 'mf'"]),
        ({"algorithm": 3}, ["train.algorithm", "`str`", "`int`"]),
        ({"task": "ranking"}, ["train.task", "'ranking'", "implicit | binary | classes"]),
        ({"lr": -1.0}, ["train.lr:", ">= 0"]),
        ({"lr": float("nan")}, ["train.lr:"]),
        ({"lr": float("inf")}, ["train.lr: inf is no finite number"]),
        ({"rounds": 0}, ["train.rounds:", ">= 1"]),
        ({"rounds": 2.5}, ["train.rounds:", "`int`"]),
        ({"compile": 1}, ["train.compile:", "`bool`"]),
        ({"stop": {"patiance": 1}}, ["'train.stop.patiance'", "did you mean 'patience'"]),
        ({"stop": 3}, ["train.stop:"]),
        ({"stop": {"mode": "best"}}, ["train.stop.mode", "max | min"]),
        ({"loggers": {"names": ["excel"]}}, ["train.loggers.names[0]", "tensorboard | mlflow"]),
        ({"mf": {"dimm": 3}}, ["'train.mf.dimm'", "did you mean 'dim'"]),
        ({"mf": {"examples": "rows"}}, ["'train.mf.examples'"]),
        ({"mf": {"dim": 2.5}}, ["train.mf.dim:", "`int`"]),
        ({"mf": {"mean": float("inf")}}, ["train.mf.mean: inf"]),
        ({"mf": 32}, ["train.mf is a value", "[train.mf]"]),
        ({"proximal": {"kind": "by"}}, ["train.proximal.kind:", "near | far"]),
    ],
)
def test_a_wrong_key_or_value_is_named_with_what_was_expected(
    table: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_plan(table, where="my.toml")
    message = str(caught.value)
    assert all(word in message for word in [*words, "my.toml"]), message


def test_an_algorithm_may_change_defaults_and_the_table_has_the_last_word() -> None:
    assert plan_defaults("adaptive").server_optimizer == "adam"
    assert plan_defaults("adaptive").server_lr == 0.01
    assert parse_plan({"algorithm": "adaptive", "server_lr": 0.5}).server_lr == 0.5


@pytest.mark.parametrize("algorithm", REAL)
def test_the_defaults_of_every_algorithm_can_be_read(algorithm: str) -> None:
    assert plan_defaults(algorithm).algorithm == algorithm


def test_settings_are_laid_over_without_touching_the_table() -> None:
    table = {"lr": 1.0, "mf": {"dim": 8}}
    laid = with_settings(
        table, ["train.lr=0.5", "mf.dim=64", "stop.metric = loss/valid", "lr_item=3"]
    )
    assert laid == {"lr": 0.5, "mf": {"dim": 64}, "stop": {"metric": "loss/valid"}, "lr_item": 3}
    assert table == {"lr": 1.0, "mf": {"dim": 8}}


@pytest.mark.parametrize("setting", ["lr", "=3", "mf.=3", "lr.x=3", "train.=1"])
def test_a_setting_that_cannot_be_read_is_shown(setting: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(setting)):
        with_settings({"lr": 1.0}, [setting])


def test_rates_that_are_not_given_are_the_common_one() -> None:
    rates = parse_plan({"lr": 0.5, "lr_item": 0.0}).rates
    assert rates == {"shared": 0.5, "user": 0.5, "item": 0.0, "head": 0.5, "server": 1.0}


def test_implicit_is_another_name_of_bce() -> None:
    assert (Plan().loss, Plan(task="bpr").loss) == ("bce", "bpr")


# --- the registries -------------------------------------------------------------------------------


def choices(key: str) -> set[str]:
    field = next(f for f in msgspec.structs.fields(Plan) if f.name == key)
    return set(field.type.__args__)


def test_the_choices_are_what_the_registries_hold() -> None:
    assert choices("sampler") == set(SAMPLERS)
    assert choices("schedule") == set(SCHEDULES)
    assert choices("task") - {"implicit", "contrastive"} == set(TASKS) - {"contrastive"}


def test_no_model_or_algorithm_is_called_like_a_key_or_another() -> None:
    assert not {*MODELS, *REAL} & {key.partition(".")[0] for key in KEYS}
    assert not set(MODELS) & set(REAL)


# --- the documents --------------------------------------------------------------------------------


def section(title: str) -> str:
    return DOCS.split(f"## {title}\n")[1].split("\n## ")[0]


def toml_of(value: Any) -> str:
    return "none" if value is None else json.dumps(value)


def test_every_key_is_documented_with_its_default() -> None:
    rows = re.findall(
        r"^\| `([\w.]+)` \| ([^`\s]+) \| .*\|$", section("Every key of [train]"), re.M
    )
    assert rows == [(key, toml_of(default)) for key, default in KEYS.items()]


def test_every_changed_default_is_documented() -> None:
    """A row of three cells for each: `algorithm`, `key`, default."""
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (\S+) \|$", DOCS, re.M)
    assert set(rows) == {
        (name, key, toml_of(value))
        for name, constructor in REAL.items()
        for key, value in constructor().defaults.items()
    }


# --- before the first round -----------------------------------------------------------------------


PRIVATE = {
    "privacy": {"clip": 1.0, "noise_multiplier": 1.0},
    "weights": "uniform",
    "item_mean": "cohort",
}


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"task": "binary"},
        {"task": "rating", "algorithm": "fedrecon"},
        {"clients_per_round": 10},
        {"clients_per_round": 100, "algorithm": "centralised"},
        {"clients_per_round": 8, "valid_clients": 0.1, "test_clients": 0.1},
        {"local_steps": 3},
        {"schedule": "warmup", "warmup_rounds": 49},
        {"stop": {"metric": "ndcg@10/valid", "patience": 3}},
        {"sampler": "trace", "trace": "who.csv"},
        {"algorithm": "fednova", "optimizer": "momentum"},
        PRIVATE,
        {**PRIVATE, "sampler": "poisson"},
        {"task": "contrastive", "batch_size": 0},
    ],
)
def test_a_plan_that_fits_passes(table: dict[str, Any]) -> None:
    check_plan(parse_plan({"clients_per_round": 5, **table}), FACTS)


@pytest.mark.parametrize(
    ("table", "facts", "kind", "words"),
    [
        ({"local_steps": 3, "local_epochs": 2}, {}, RecipeError, ["local_steps = 3", "= 2"]),
        ({"schedule": "warmup"}, {}, RecipeError, ["without a length", "warmup_rounds=5"]),
        ({"warmup_rounds": 50}, {}, RecipeError, ["at most 49"]),
        ({"stop": {"patience": 2}}, {}, RecipeError, ["stop.patience", "stop.metric="]),
        ({"stop": {"metric": "hr@10/test"}}, {}, RecipeError, ["hint: hr@10/valid"]),
        ({"stop": {"metric": "loss/valid"}}, {}, RecipeError, ["less of", "stop.mode=min"]),
        (
            {"stop": {"metric": "ndcg@10/valid", "mode": "min"}},
            {},
            RecipeError,
            ["more of", "stop.mode=max"],
        ),
        (
            {"schedule": "plateau", "schedule_metric": "hr@10/valid"},
            {},
            RecipeError,
            ["more of", "schedule_mode=max"],
        ),
        (
            {"schedule": "plateau", "schedule_metric": "loss/test"},
            {},
            RecipeError,
            ["train.schedule_metric"],
        ),
        ({"schedule": "plateau"}, {"n_valid": 0}, TrainingError, ["loss/valid", "no valid row"]),
        ({"valid_clients": 0.5, "test_clients": 0.5}, {}, RecipeError, ["below 1"]),
        ({}, {"n_able": 0}, TrainingError, ["of 12 0 have train rows"]),
        ({"valid_clients": 0.6}, {"n_able": 1}, TrainingError, ["1 are held out"]),
        ({"clients_per_round": 11}, {}, TrainingError, ["11 clients", "there are 10", "0 takes"]),
        ({"clients_per_round": 10, "test_clients": 0.1}, {}, TrainingError, ["there are 9"]),
        (
            {"test_clients": 0.1, "model": "mult_vae"},
            {},
            TrainingError,
            ["'mult_vae' has no vectors"],
        ),
        ({"sampler": "trace"}, {}, RecipeError, ["train.trace"]),
        ({"trace": "who.csv"}, {}, RecipeError, ["who.csv"]),
        ({"task": "binary"}, {"label": "implicit"}, TrainingError, ["clean.label=binary"]),
        ({"task": "binary"}, {"label": "classes"}, TrainingError, ["are classes"]),
        ({"task": "classes"}, {"label": "implicit"}, TrainingError, ["clean.label=classes"]),
        ({"task": "binary"}, {"n_labels": 1}, TrainingError, ["same label"]),
        ({"task": "rating"}, {"n_ratings": 1}, TrainingError, ["same rating"]),
        ({"negatives": 0}, {}, RecipeError, ["train.negatives", "at least 1"]),
        ({"task": "contrastive", "batch_size": 1}, {}, RecipeError, ["train.batch_size"]),
        ({"task": "classes"}, {}, TrainingError, ["mf gives one number"]),
        ({"algorithm": "fedper"}, {}, TrainingError, ["heads", "mf has none"]),
        ({"algorithm": "scaffold", "optimizer": "adam"}, {}, RecipeError, ["optimizer=sgd"]),
        (
            {"algorithm": "adaptive", "server_optimizer": "yogi"},
            {},
            RecipeError,
            ["server_optimizer = adam, not yogi"],
        ),
        ({**PRIVATE, "weights": "rows"}, {}, RecipeError, ["weights is uniform"]),
        ({**PRIVATE, "item_mean": "touched"}, {}, RecipeError, ["item_mean=cohort"]),
        ({**PRIVATE, "sampler": "cyclic"}, {}, RecipeError, ["sampler=poisson"]),
        ({**PRIVATE, "privacy": {"noise_multiplier": 1}}, {}, RecipeError, ["privacy.clip=1.0"]),
        ({"algorithm": "fedfnn", "secure": {"enabled": True}}, {}, RecipeError, ["secure.enabled"]),
        ({"algorithm": "fedfnn", **PRIVATE}, {}, RecipeError, ["privacy.noise_multiplier"]),
        ({"algorithm": "centralised", **PRIVATE}, {}, RecipeError, ["algorithm=fedavg"]),
        ({"algorithm": "fednova", **PRIVATE}, {}, RecipeError, ["algorithm", "steps"]),
        ({"mixed_precision": True, "device": "cpu"}, {}, RecipeError, ["mixed_precision=false"]),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_with_a_way_out(
    table: dict[str, Any], facts: dict[str, Any], kind: type[FedprepError], words: list[str]
) -> None:
    plan = parse_plan({"clients_per_round": 0, **table})
    with pytest.raises(kind) as caught:
        check_plan(plan, replace(FACTS, **facts))
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_dataset_without_valid_rows_is_no_matter_where_none_are_asked_for() -> None:
    stop = {"metric": "loss/train", "mode": "min"}
    plan = parse_plan({"clients_per_round": 0, "stop": stop})
    check_plan(plan, replace(FACTS, n_valid=0))


def test_a_model_without_rows_of_users_is_none_for_fedrecon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    only_items = replace_parameters("item_factors", "item_bias")
    monkeypatch.setitem(MODELS, "mf", only_items)
    with pytest.raises(TrainingError, match="rebuilds the users"):
        check_plan(parse_plan({"clients_per_round": 0, "algorithm": "fedrecon"}), FACTS)


@pytest.mark.parametrize(
    ("model", "tasks"),
    [
        ("mf", {"implicit", "bce", "bpr", "softmax", "binary", "rating", "contrastive"}),
        (
            "ncf",
            {"implicit", "bce", "bpr", "softmax", "binary", "rating", "contrastive", "classes"},
        ),
        ("sasrec", {"implicit", "bce", "bpr", "softmax"}),
        ("lightgcn", {"implicit", "bce", "bpr", "softmax", "binary", "rating"}),
        ("mult_vae", {"implicit", "bce"}),
        ("rating_vae", {"rating"}),
    ],
)
def test_a_model_takes_the_tasks_that_its_examples_have_a_target_for(
    model: str, tasks: set[str]
) -> None:
    taken = set()
    for task in choices("task"):
        try:
            check_plan(parse_plan({"clients_per_round": 0, "model": model, "task": task}), FACTS)
        except TrainingError as error:
            assert error.where == "train.task"
        else:
            taken.add(task)
    assert taken == tasks


def test_models_that_draw_no_items_need_none() -> None:
    table = {"clients_per_round": 0, "model": "mult_vae", "negatives": 0}
    check_plan(parse_plan(table), FACTS)


def replace_parameters(*names: str) -> type:
    """A matrix factorisation with some of its parameters alone."""
    base: Any = MODELS["mf"]

    class Model(base):  # type: ignore[misc]
        def parameters(self, sizes: Any) -> dict[str, Any]:
            return {name: super(Model, self).parameters(sizes)[name] for name in names}

    return Model


def test_facts_are_those_of_the_dataset(tmp_path: Path) -> None:
    dataset = Dataset.open(write_built(tmp_path / "built"))
    facts = facts_of(dataset)
    rows = dataset.interactions().collect()
    train, valid = (rows.filter(pl.col("split") == split) for split in ("train", "valid"))
    assert facts == Facts(
        n_users=dataset.users().collect().height,
        n_items=dataset.items().collect().height,
        n_clients=12,
        n_able=train["client_id"].n_unique(),
        n_valid=len(valid),
        label="binary",
        n_classes=2,
        n_labels=rows["label"].n_unique(),
        n_ratings=rows["rating"].n_unique(),
        modalities={"image": 24, "text": 48},
        behavior=24,
        most_users=int(dataset.index["n_users"].max()),
        n_train=len(train),
        mean=pytest.approx(train["rating"].cast(pl.Float64).mean(), rel=1e-5),
    )
    assert sizes_of(Plan(task="classes"), facts).n_outputs == 2
    assert sizes_of(Plan(), facts).n_outputs == 1


# --- defaults that depend on others ----------------------------------------------------------------


def rates_of(**table: Any) -> dict[str, float | None]:
    plan = filled(parse_plan({"batch_size": 8, **table}), FEW)
    return {key: getattr(plan, key) for key in ("lr", "lr_user", "lr_item", "lr_head")}


FEW = replace(FACTS, n_train=8 * FACTS.n_able, mean=3.5)
"""Eight train rows a client."""


@pytest.mark.parametrize(
    ("table", "rates"),
    [
        ({"optimizer": "sgd"}, (0.1, 6.0, 40.0)),
        ({"optimizer": "sgd", "batch_size": 2}, (0.1, 3.0, 5.0)),  # four steps a round
        ({"optimizer": "sgd", "local_steps": 4, "batch_size": 0}, (0.1, 3.0, 20.0)),
        ({"optimizer": "sgd", "task": "bpr"}, (0.1, 6.0, 8.0)),
        ({"optimizer": "sgd", "task": "rating"}, (0.03, 0.6, 0.8)),
        ({"optimizer": "momentum"}, (0.01, 0.6, 4.0)),
        ({"optimizer": "adam"}, (0.01, 0.1, 0.1)),
        ({"optimizer": "adam", "local_epochs": 4}, (0.005, 0.05, 0.05)),
    ],
)
def test_rates_follow_from_optimiser_scope_task_and_steps(
    table: dict[str, Any], rates: tuple[float, ...]
) -> None:
    assert tuple(rates_of(**table).values()) == (*rates, None)


def test_pooled_rows_have_as_many_steps_as_there_are_batches() -> None:
    rows = FEW.n_train
    found = rates_of(algorithm="centralised", optimizer="adam", clients_per_round=0)
    assert found["lr"] == pytest.approx(0.01 / math.ceil(rows / 8) ** 0.5, rel=1e-2)


def test_what_a_plan_gives_is_not_derived_and_lr_stands_for_the_rest() -> None:
    assert rates_of(lr=0.5) == {"lr": 0.5, "lr_user": None, "lr_item": None, "lr_head": None}
    assert rates_of(lr_item=7.0) == {"lr": 0.1, "lr_user": 6.0, "lr_item": 7.0, "lr_head": None}


def test_only_kinds_that_the_model_has_are_derived() -> None:
    found = rates_of(model="sasrec", optimizer="adam")
    assert found == {"lr": 0.01, "lr_user": None, "lr_item": 0.01, "lr_head": None}


def test_a_plan_that_is_filled_stays_as_it_is() -> None:
    once = filled(parse_plan({"model": "two_tower", "task": "rating"}), FEW)
    assert filled(once, FEW) == once == parse_plan(once.to_dict())


@pytest.mark.parametrize("server", ["adam", "yogi", "adagrad"])
def test_an_adaptive_server_has_a_small_rate_under_any_name(server: str) -> None:
    plain = filled(parse_plan({"server_optimizer": server}), FEW)
    assert plain.server_lr == filled(parse_plan({"algorithm": f"fed{server}"}), FEW).server_lr
    assert (plain.server_lr, filled(parse_plan({}), FEW).server_lr) == (0.01, 1.0)


@pytest.mark.parametrize("model", ["mf", "lightgcn", "rating_vae"])
def test_ratings_begin_at_their_mean_unless_it_is_given(model: str) -> None:
    plan = parse_plan({"model": model, "task": "rating"})
    assert filled(plan, FEW).table(model)["mean"] == 3.5
    given = parse_plan({"model": model, "task": "rating", model: {"mean": 1.0}})
    assert filled(given, FEW).table(model)["mean"] == 1.0
    assert "mean" not in filled(parse_plan({"model": "mf"}), FEW).table("mf")


def test_two_towers_take_the_inputs_that_there_are_and_refuse_what_is_asked_for_in_vain() -> None:
    bare = replace(FEW, modalities={}, behavior=0)
    text = replace(FEW, modalities={"text": 3}, behavior=0)

    def own(facts: Facts, **keys: bool) -> Mapping[str, Any]:
        plan = filled(parse_plan({"model": "two_tower", "two_tower": keys}), facts)
        check_plan(plan, facts)
        return plan.table("two_tower")

    assert own(text) == {"image": False, "behavior": False, "user_id": True}
    assert own(bare) == {
        "text": False, "image": False, "behavior": False, "item_id": True, "user_id": True,
    }  # fmt: skip
    with pytest.raises(TrainingError, match="no image"):
        own(text, image=True)
    with pytest.raises(TrainingError, match="nothing to tell items apart"):
        own(bare, item_id=False)


SGD = {"lr": 0.1, "lr_item": 3.0, "server_lr": 0.7}


@pytest.mark.parametrize(
    ("table", "settings", "kept", "told"),
    [
        (SGD, ["optimizer=adam"], {"server_lr": 0.7}, ["lr = 0.1", "lr_item = 3.0"]),
        (SGD, ["optimizer=adam", "lr_item=0.5"], {"server_lr": 0.7, "lr_item": 0.5}, ["lr = 0.1"]),
        (SGD, ["optimizer=sgd", "rounds=3"], SGD, []),
        (SGD, ["model=two_tower"], {"server_lr": 0.7}, ["lr_item = 3.0", "model = mf"]),
        (SGD, ["algorithm=fedadam"], {"lr": 0.1, "lr_item": 3.0}, ["server_lr = 0.7"]),
        (SGD, ["server_optimizer=yogi"], {"lr": 0.1, "lr_item": 3.0}, ["server_lr = 0.7"]),
        ({"algorithm": "fedadam", "server_lr": 0.02}, ["algorithm=fedyogi"], {}, ["server_lr"]),
        ({"algorithm": "fedadam", "server_lr": 0.02}, ["algorithm=fedavg"], {}, ["server_lr"]),
        ({}, ["optimizer=adam", "lr=0.1"], {"lr": 0.1}, []),
    ],
)
def test_rates_of_another_optimiser_or_model_are_left_out_and_named(
    table: dict[str, Any], settings: list[str], kept: dict[str, float], told: list[str]
) -> None:
    laid, left = laid_over(table, settings)
    assert {k: v for k, v in laid.items() if "lr" in k} == kept
    assert all(words in left for words in told) and bool(left) == bool(told)
