"""Sweeps: which runs there are, that none is done twice, when a bad one ends, which is called the best."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from built import write_built
from hypothesis import given, settings
from hypothesis import strategies as st

import fedtrain.sweep
from fedprep.dataset import Dataset
from fedprep.errors import RecipeError, TrainingError
from fedtrain.cli import main
from fedtrain.run import Run
from fedtrain.sweep import PRUNED, results, sweep, usual_metric
from fedtrain.trials import Trial, alternatives, named_trials, read_configs, trials_of

TABLE = {"rounds": 4, "eval_every": 2, "threads": 1, "server_lr": 1.0, "mf": {"dim": 4}}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    torch.set_num_threads(1)
    return Dataset.open(write_built(tmp_path_factory.mktemp("sweep") / "data"))


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return int(exit_.value.code or 0)


# --- which runs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "values"),
    [
        ("lr=0.1,0.3", ["0.1", "0.3"]),
        ("train.lr=1", ["1"]),
        ("model=mf, ncf", ["mf", "ncf"]),
        ('model="mf","ncf"', ['"mf"', '"ncf"']),
        ("mixed_precision=true,false", ["true", "false"]),
        ('loggers.names=["tensorboard"],[]', ['["tensorboard"]', "[]"]),
        ("lr=0.1,0.1", ["0.1"]),
        ("lr=1e-3,1", ["0.001", "1"]),
    ],
)
def test_commas_part_alternatives_as_in_a_toml_list(setting: str, values: list[str]) -> None:
    ((key, found),) = alternatives([setting]).items()
    assert (key, found) == (setting.partition("=")[0].removeprefix("train."), values)


@pytest.mark.parametrize("setting", ["lr", "=1", "lr=", "lr=mf,,ncf"])
def test_what_is_no_alternative_is_said(setting: str) -> None:
    with pytest.raises(RecipeError, match=r"no setting|empty alternative"):
        alternatives([setting])


def test_a_grid_is_every_combination_with_every_seed_the_last_key_fastest() -> None:
    axes = alternatives(["lr=0.1,0.2", "mf.dim=4,8", "sampler=uniform"])
    trials = trials_of(TABLE, axes, [3, 1])
    assert [(t.plan.lr, t.plan.table("mf")["dim"], t.seed) for t in trials] == [
        (lr, dim, seed) for lr in (0.1, 0.2) for dim in (4, 8) for seed in (3, 1)
    ]
    assert trials[0].name == "lr=0.1,mf.dim=4,sampler=uniform,seed=3"
    assert all(t.plan.rounds == 4 for t in trials)
    (alone,) = trials_of(TABLE, {}, [0])
    assert (alone.name, alone.settings) == ("seed=0", ())


@settings(deadline=None, max_examples=30)
@given(sizes=st.lists(st.integers(1, 4), max_size=3), n=st.integers(1, 12), seed=st.integers(0, 9))
def test_a_random_search_is_distinct_points_of_the_grid_the_same_for_a_seed(
    sizes: list[int], n: int, seed: int
) -> None:
    keys = ["lr", "server_lr", "weight_decay"]
    axes = {
        key: [f"0.{v + 1}" for v in range(size)] for key, size in zip(keys, sizes, strict=False)
    }
    grid = {t.name for t in trials_of(TABLE, axes, [0])}
    found = [t.name for t in trials_of(TABLE, axes, [0], n_random=n, draw_seed=seed)]
    assert len(found) == min(n, len(grid)) == len(set(found))
    assert set(found) <= grid
    again = [t.name for t in trials_of(TABLE, axes, [0], n_random=n, draw_seed=seed)]
    assert again == found


def test_names_of_folders_are_plain_and_differ_where_settings_do() -> None:
    def name(*words: str) -> str:
        return trials_of(TABLE, alternatives(words), [0])[0].name

    first, second = name('trace="a/b"'), name('trace="ab"')
    assert first != second and "/" not in first + second
    long = [name(f"mf.start=0.{'1' * 90}{digit}") for digit in (1, 9)]
    assert all(len(word) <= 100 for word in long)


# --- the best ------------------------------------------------------------------------------------------


def row(setting: str, seed: int, value: float | None, status: str = "finished") -> dict[str, Any]:
    return {"settings": [setting], "seed": seed, "value": value, "status": status}


@pytest.mark.parametrize(("metric", "best"), [("ndcg@10/valid", "b"), ("rmse/valid", "a")])
def test_the_best_setting_has_the_best_mean_over_its_seeds(
    dataset: Dataset, metric: str, best: str
) -> None:
    rows = [
        row("a", 0, 0.1),
        row("a", 1, 0.3),
        row("b", 0, 0.2),
        row("b", 1, 0.4),
        row("c", 0, None, "failed"),
    ]
    found = results(dataset, metric, 2, [], rows)
    assert found["best"]["settings"] == [best]
    means = {r["settings"][0]: (r["n"], r["mean"], r["deviation"]) for r in found["settings"]}
    assert means["a"] == (2, pytest.approx(0.2), pytest.approx(statistics.stdev([0.1, 0.3])))
    assert means["c"] == (0, None, None)
    assert [r["is_best"] for r in found["settings"]] == [True, False, False]


def test_a_setting_that_lost_a_seed_to_the_rule_is_behind_those_that_did_not(
    dataset: Dataset,
) -> None:
    rows = [row("a", 0, 0.9), row("a", 1, 0.1, "stopped early"), row("b", 0, 0.5), row("b", 1, 0.5)]
    assert results(dataset, "ndcg@10/valid", 2, [], rows)["best"]["settings"] == ["b"]


@pytest.mark.parametrize(
    ("task", "metric"),
    [("binary", "accuracy/valid"), ("rating", "rmse/valid"), ("bpr", "ndcg@10/valid")],
)
def test_each_task_has_its_usual_metric(task: str, metric: str) -> None:
    assert usual_metric(task) == metric


# --- the sweep -----------------------------------------------------------------------------------------

Curves = Mapping[str, Sequence[float]]


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stands in for training: runs whose values are told, in `curves` by the lr; `done` are the rounds."""
    told: dict[str, Any] = {"curves": {}, "done": [], "wrong": ()}

    def train(
        dataset: Dataset, plan: Any, path: Path, *, seed: int, report: Any, stop: Any, **rest: Any
    ) -> Run:
        if (path / "manifest.json").is_file():
            run = Run.open(path)
            if run.manifest["status"] == "finished":
                return run
        else:
            manifest = {
                "dataset_id": dataset.id,
                "plan": {**plan.to_dict(), "clients_per_round": 0},
                "seed": seed,
            }
            run = Run.create(path, manifest)
        for number in range(run.manifest["rounds_done"] + 1, plan.rounds + 1):
            if plan.lr in told["wrong"] and number == 2:
                run.update(status="failed")
                raise TrainingError("the loss is NaN")
            values = {"ndcg@10/valid": told["curves"][plan.lr][number - 1]}
            run.log(number, values)
            run.update(rounds_done=number, status="running")
            told["done"].append((plan.lr, number))
            report(number, values)
            if stop():
                run.update(status="stopped")
                return run
        run.update(status="finished")
        report(plan.rounds, {"ndcg@10/test": 0.0})
        return run

    monkeypatch.setattr(fedtrain.sweep, "train", train)
    return told


def swept(dataset: Dataset, folder: Path, rates: Sequence[float], **options: Any) -> dict[str, Any]:
    axes = {"lr": [str(rate) for rate in rates]}
    return sweep(dataset, trials_of(TABLE, axes, [0]), folder, metric="ndcg@10", **options)


GOOD = [0.2, 0.3, 0.4, 0.5]
POOR = [0.1, 0.15, 0.2, 0.25]


def test_a_run_below_the_median_for_so_many_rounds_is_stopped(
    dataset: Dataset, tmp_path: Path, made_up: dict[str, Any]
) -> None:
    """Means of the good ones so far: 0.2, 0.25, 0.3, 0.35; the poor one is below from the start."""
    made_up["curves"] = {
        1: GOOD,
        2: GOOD,
        3: GOOD,
        4: POOR,
        5: [0.0, 0.0, 0.31, 0.0],
        6: [0.0, 0.26, 0.0, 0.0],
        7: [0.5, 0.0, 0.0, 0.0],
    }
    found = swept(dataset, tmp_path / "s", [1, 2, 3, 4, 5, 6, 7], patience=2)
    ends = {row["settings"][0]: (row["status"], row["rounds"]) for row in found["trials"]}
    assert ends == {
        "lr=1": ("finished", 4), "lr=2": ("finished", 4), "lr=3": ("finished", 4),
        "lr=4": ("stopped early", 2), "lr=5": ("stopped early", 2), "lr=6": ("finished", 4),
        "lr=7": ("finished", 4),
    }  # fmt: skip
    assert (
        "its best ndcg@10/valid is 0.15, the median of 3 finished runs is 0.25"
        in found["trials"][3]["why"]
    )
    assert "Golovin" in found["rule"]
    assert (found["n_done"], found["n_trials"]) == (7, 7)
    assert json.loads((tmp_path / "s" / "sweep.json").read_text()) == found


@pytest.mark.parametrize(("patience", "rounds"), [(0, 4), (1, 1), (3, 3), (4, 4)])
def test_patience_is_how_many_rounds_below_are_borne(
    dataset: Dataset, tmp_path: Path, made_up: dict[str, Any], patience: int, rounds: int
) -> None:
    made_up["curves"] = dict.fromkeys((1, 2, 3), GOOD) | {4: POOR}
    found = swept(dataset, tmp_path / "s", [1, 2, 3, 4], patience=patience)
    assert found["trials"][3]["rounds"] == rounds
    assert (found["trials"][3]["status"] == "finished") == (rounds == 4)


def test_a_bad_start_is_borne_in_the_first_quarter_of_the_rounds(
    dataset: Dataset, tmp_path: Path, made_up: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    late = [0.0, 0.0, 0.9, 0.9]
    made_up["curves"] = dict.fromkeys((1, 2, 3), GOOD) | {4: late}
    stopped = swept(dataset, tmp_path / "s", [1, 2, 3, 4], patience=1)
    assert stopped["trials"][3]["rounds"] == 1
    monkeypatch.setattr(fedtrain.sweep, "GRACE", 0.75)
    borne = swept(dataset, tmp_path / "t", [1, 2, 3, 4], patience=1)
    assert borne["best"]["settings"] == ["lr=4"]


def test_two_finished_runs_are_too_few_to_stop_a_third(
    dataset: Dataset, tmp_path: Path, made_up: dict[str, Any]
) -> None:
    made_up["curves"] = {1: GOOD, 2: GOOD, 3: POOR}
    found = swept(dataset, tmp_path / "s", [1, 2, 3], patience=1)
    assert [row["status"] for row in found["trials"]] == ["finished"] * 3


def test_a_sweep_that_was_interrupted_goes_on_and_does_nothing_twice(
    dataset: Dataset, tmp_path: Path, made_up: dict[str, Any]
) -> None:
    rates = [1, 2, 3, 4, 5]
    made_up["curves"] = dict.fromkeys((1, 2, 3, 5), GOOD) | {4: POOR}
    whole = swept(dataset, tmp_path / "whole", rates)
    made_up["done"].clear()

    first = swept(dataset, tmp_path / "s", rates, stop=lambda: len(made_up["done"]) == 6)
    assert [row["status"] for row in first["trials"]] == ["finished", "interrupted"]
    assert (first["n_done"], first["best"]["settings"]) == (1, ["lr=1"])
    second = swept(dataset, tmp_path / "s", rates, stop=lambda: len(made_up["done"]) == 13)
    assert [row["rounds"] for row in second["trials"]] == [4, 4, 4, 1]
    found = swept(dataset, tmp_path / "s", rates)
    assert made_up["done"] == [
        *((rate, number) for rate in (1, 2, 3) for number in (1, 2, 3, 4)),
        *((4, number) for number in (1, 2)),
        *((5, number) for number in (1, 2, 3, 4)),
    ]
    swept(dataset, tmp_path / "s", rates)
    assert len(made_up["done"]) == 18

    def plain(sweep: Mapping[str, Any]) -> list[Any]:
        return [
            {k: v for k, v in row.items() if k not in ("path", "seconds")}
            for row in sweep["trials"]
        ]

    assert plain(found) == plain(whole)
    assert found["settings"] == whole["settings"]
    assert [e["event"] for e in Run.open(tmp_path / "s" / "lr=4,seed=0").events()] == [PRUNED]


def test_a_run_that_went_wrong_is_a_row_and_the_others_go_on(
    dataset: Dataset, tmp_path: Path, made_up: dict[str, Any]
) -> None:
    made_up["curves"] = {1: GOOD, 2: POOR}
    made_up["wrong"] = (1,)
    found = swept(dataset, tmp_path / "s", [1, 2])
    assert [(row["status"], row["value"], row["why"]) for row in found["trials"]] == [
        ("failed", None, "the loss is NaN"),
        ("finished", 0.25, ""),
    ]
    assert found["best"]["settings"] == ["lr=2"]


def test_the_value_of_a_run_is_that_of_the_model_it_keeps(
    dataset: Dataset, tmp_path: Path, made_up: dict[str, Any]
) -> None:
    made_up["curves"] = {1: [0.1, 0.5, 0.3, 0.2]}
    last = swept(dataset, tmp_path / "last", [1])["trials"][0]
    assert (last["value"], last["best"], last["best_round"]) == (0.2, 0.5, 2)
    table = {**TABLE, "stop": {"metric": "ndcg@10/valid"}}
    (trial,) = trials_of(table, {"lr": ["1"]}, [0])
    best = sweep(dataset, [trial], tmp_path / "best", metric="ndcg@10")["trials"][0]
    assert best["value"] == 0.5


def test_another_plan_or_dataset_in_the_folder_is_refused(
    dataset: Dataset, tmp_path: Path, made_up: dict[str, Any]
) -> None:
    made_up["curves"] = {1: GOOD}
    swept(dataset, tmp_path / "s", [1])
    (trial,) = trials_of({**TABLE, "server_lr": 0.5}, {"lr": ["1"]}, [0])
    with pytest.raises(TrainingError, match=r"another plan: server_lr was 1\.0") as caught:
        sweep(dataset, [trial], tmp_path / "s", metric="ndcg@10")
    assert "--set lr=1" in str(caught.value)
    text = (tmp_path / "s" / "sweep.json").read_text()
    (tmp_path / "s" / "sweep.json").write_text(text.replace(dataset.id, "0" * 64))
    with pytest.raises(TrainingError, match="sweep of another Dataset"):
        swept(dataset, tmp_path / "s", [1])
    with pytest.raises(TrainingError, match="without a run"):
        sweep(dataset, [], tmp_path / "t", metric="ndcg@10")


def test_every_setting_is_checked_before_the_first_run(
    dataset: Dataset, tmp_path: Path, made_up: dict[str, Any]
) -> None:
    made_up["curves"] = {0.1: GOOD}
    trials: list[Trial] = trials_of(TABLE, {"negatives": ["4", "0"]}, [0])
    with pytest.raises(RecipeError, match="needs items to tell a positive from") as caught:
        sweep(dataset, trials, tmp_path / "s", metric="ndcg@10")
    assert "--set negatives=0" in str(caught.value)
    assert not made_up["done"] and not (tmp_path / "s").exists()


# --- the command ---------------------------------------------------------------------------------------


def test_the_command_trains_tells_the_best_and_does_nothing_twice(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    axes = ("--set", "lr=0.3,1.0", "--set", "rounds=2", "--set", "threads=1", "--seeds", "0,1")
    arguments = ("sweep", dataset.path, *axes, "--metric", "loss", "--out", tmp_path / "s")
    assert run(*arguments, "--json") == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert "4 of 4: lr=1.0,rounds=2,threads=1,seed=1" in told.err
    values = {(row["settings"][0], row["seed"]): row["value"] for row in found["trials"]}
    for (setting, seed), value in values.items():
        rounds = Run.open(tmp_path / "s" / f"{setting},rounds=2,threads=1,seed={seed}").rounds()
        assert rounds.filter(metric="loss/valid", round=2)["value"].to_list() == [value]
        assert rounds.filter(pl.col("metric").str.ends_with("/test")).height
    means = {s: statistics.fmean([values[s, 0], values[s, 1]]) for s in ("lr=0.3", "lr=1.0")}
    assert found["best"]["settings"][0] == min(means, key=lambda name: means[name])
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "s").rglob("rounds.jsonl")}
    assert run(*arguments) == 0
    text = capsys.readouterr().out
    assert "best" in text and "4 of 4 runs done; lower is better" in text
    assert {p: p.stat().st_mtime_ns for p in before} == before


# --- named settings ------------------------------------------------------------------------------------


def test_named_settings_are_run_with_each_seed_and_told_by_name(
    dataset: Dataset, tmp_path: Path, made_up: dict[str, Any]
) -> None:
    place = tmp_path / "s.toml"
    place.write_text('[slow]\nlr = 0.1\n\n[fast]\nlr = 0.3\noptimizer = "adam"\nmf.dim = 8\n')
    trials = named_trials(TABLE, read_configs(place), [0, 1])
    assert [t.name for t in trials] == ["slow-0", "slow-1", "fast-0", "fast-1"]
    assert [(t.plan.lr, t.plan.optimizer) for t in trials[1:3]] == [(0.1, "sgd"), (0.3, "adam")]
    assert trials[2].plan.table("mf")["dim"] == 8
    made_up["curves"] = {0.1: POOR, 0.3: GOOD}
    found = sweep(dataset, trials, tmp_path / "s", metric="ndcg@10")
    assert [row["config"] for row in found["trials"]] == ["slow", "slow", "fast", "fast"]
    assert {row["config"] for row in found["settings"]} == {"slow", "fast"}
    assert all(row["n"] == 2 for row in found["settings"])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "lr = 0.1",
        "[a\nlr = 1",
        "[a]\nlearning = 0.1",
        '[a]\nlr = "much"',
        "[a]\nlr = 2020-01-01",
        '["../a"]\nlr = 0.1',
        '[".a"]\nlr = 0.1',
        "[a]\nlr = 0.1\n[A]\nlr = 0.2",
        "[a]\nmf = 3",
    ],
)
def test_named_settings_that_cannot_be_are_refused_before_the_first_run(
    text: str, tmp_path: Path
) -> None:
    place = tmp_path / "s.toml"
    place.write_text(text)
    with pytest.raises(RecipeError):
        named_trials(TABLE, read_configs(place), [0])
    with pytest.raises(RecipeError):
        read_configs(tmp_path / "nothing.toml")
