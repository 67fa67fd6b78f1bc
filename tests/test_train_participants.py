"""Rounds in which nobody takes part, and rounds whose only client could not be hidden in a sum."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from built import write_built

from fedeval.assessment import assess
from fedeval.setting import setting_of
from fedprep.dataset import Dataset
from fedprep.errors import EvaluationError, RecipeError, TrainingError
from fedtrain import trainer
from fedtrain.candidates import rank_candidates
from fedtrain.cli import main
from fedtrain.compare import compare, unlike
from fedtrain.measures import predictions
from fedtrain.reopen import reopened
from fedtrain.run import Run, load, read_tensors
from fedtrain.settings import parse_plan
from fedtrain.summary import summary
from fedtrain.train import train

PLAN: dict[str, Any] = {
    "algorithm": "fedavg", "model": "mf", "task": "implicit", "rounds": 6, "eval_every": 6, "threads": 1,
    "clients_per_round": 3, "lr": 0.5, "lr_item": 5.0, "mf": {"dim": 4},
}  # fmt: skip
SECURE = {"secure": {"enabled": True}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    torch.set_num_threads(1)
    return Dataset.open(write_built(tmp_path_factory.mktemp("participants") / "data"))


def trained(data: Dataset, path: Path, **keys: Any) -> Run:
    return train(data, parse_plan(PLAN | keys), path, allow_invalid=True)


def counts(run: Run, metric: str) -> list[int]:
    return [int(value) for value in run.rounds().filter(metric=metric)["value"]]


def tensors(run: Run) -> dict[str, torch.Tensor]:
    saved = load(run)
    assert saved is not None
    return saved[1]


def test_a_run_without_any_participant_is_no_success_and_says_so(
    data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [f"--set={key}={json.dumps(value)}" for key, value in PLAN.items() if key != "mf"]
    words = ["run", data.path, "--allow-invalid", "--out", tmp_path / "r", *keys]
    with pytest.raises(SystemExit) as end:
        main([*map(str, words), "--set", "faults.dropout=0.999", "--json"])
    assert end.value.code == 1
    told = json.loads(capsys.readouterr().out)
    run = Run.open(tmp_path / "r")
    assert told["rounds_without_clients"] == run.manifest["rounds_without_clients"] == 6
    assert [e["round"] for e in run.events() if e["event"] == trainer.NOBODY] == [1, 2, 3, 4, 5, 6]


def test_rounds_with_nobody_are_counted_among_others_and_change_nothing(
    data: Dataset, tmp_path: Path
) -> None:
    run = trained(data, tmp_path / "r", sampler="poisson", clients_per_round=1, rounds=8)
    empty = [n for n, count in enumerate(counts(run, "clients"), 1) if not count]
    assert 0 < len(empty) < 8
    assert summary(run)["rounds_without_clients"] == len(empty)
    assert [e["round"] for e in run.events() if e["event"] == trainer.NOBODY] == empty


def test_a_run_that_had_a_client_in_each_round_says_nothing_of_it(
    data: Dataset, tmp_path: Path
) -> None:
    run = trained(data, tmp_path / "r", rounds=2)
    assert summary(run)["rounds_without_clients"] == 0
    assert "rounds_without_clients" not in run.manifest


def test_a_trace_that_reaches_nobody_is_refused_before_the_first_round(
    data: Dataset, tmp_path: Path
) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("client_id,start,end\n0,7,9\n1,8,9\n")
    keys = {"sampler": "trace", "trace": str(trace)}
    with pytest.raises(TrainingError, match="reaches 0 clients"):
        trained(data, tmp_path / "r", **keys)
    assert not (tmp_path / "r").exists()
    run = trained(data, tmp_path / "r", rounds=8, **keys)
    assert summary(run)["rounds_without_clients"] == 6
    with pytest.raises(TrainingError, match="reaches 1 clients"):
        trained(data, tmp_path / "s", rounds=7, **keys, **SECURE)


def test_nothing_of_a_client_that_is_alone_in_a_secure_sum_stays_anywhere(
    data: Dataset, tmp_path: Path
) -> None:
    keys = SECURE | {"faults": {"dropout": 0.6}, "rounds": 8}
    run = trained(data, tmp_path / "r", **keys)
    here, skipped = counts(run, "clients"), counts(run, "clients/skipped")
    alone = [n for n, count in enumerate(here, 1) if count == 1]
    assert alone
    assert max(here) >= 2
    assert [n for n, count in enumerate(skipped, 1) if count] == alone
    for number in alone[:1]:
        before = trained(data, tmp_path / "before", **keys | {"rounds": max(number - 1, 1)})
        after = trained(data, tmp_path / "after", **keys | {"rounds": number})
        if number > 1:
            one, other = tensors(before), tensors(after)
            assert one.keys() == other.keys()
            assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_secure_sum_of_whom_all_but_one_went_wrong_is_skipped_and_undone(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = trainer.Trainer._one_round

    def one_goes_wrong(self: Any, number: int, cohort: Any, *rest: Any) -> Any:
        outcome = original(self, number, cohort, *rest)
        outcome.sound = np.arange(len(outcome.sound)) == 0
        return outcome

    keys = SECURE | {"on_nonfinite": "skip", "rounds": 1}
    begun = trained(data, tmp_path / "nobody", rounds=1, faults={"dropout": 0.999})
    monkeypatch.setattr(trainer.Trainer, "_one_round", one_goes_wrong)
    run = trained(data, tmp_path / "r", **keys)
    assert summary(run)["rounds_without_clients"] == 1
    one, other = tensors(begun), tensors(run)
    assert all(torch.equal(one[name], other[name]) for name in one)
    plain = trained(data, tmp_path / "p", on_nonfinite="skip", rounds=1)
    assert not torch.equal(tensors(plain)["value/item_factors"], one["value/item_factors"])


@pytest.mark.parametrize(
    "keys",
    [
        {"clients_per_round": 1},
        {"algorithm": "centralised"},
        {"valid_clients": 0.45, "test_clients": 0.45, "clients_per_round": 0},
    ],
)
def test_a_secure_sum_that_can_never_be_is_refused_before_the_first_round(
    data: Dataset, tmp_path: Path, keys: dict[str, Any]
) -> None:
    able = int((data.index["n_train"] > 0).sum())
    if "valid_clients" in keys:
        share = (able // 2) / able  # of an even number one half, and of the other all but one
        keys = keys | {"valid_clients": share, "test_clients": (able - able // 2 - 1) / able}
    with pytest.raises(TrainingError, match="secure sum of 1 client"):
        trained(data, tmp_path / "r", **keys, **SECURE)
    assert not (tmp_path / "r").exists()


def test_whoever_exchanges_nothing_needs_no_second_client(data: Dataset, tmp_path: Path) -> None:
    trained(data, tmp_path / "r", algorithm="local", clients_per_round=1, rounds=1, **SECURE)


RECON: dict[str, Any] = {"algorithm": "fedrecon", "task": "implicit", "clients_per_round": 5}


def test_what_is_forgotten_is_in_no_file_and_resuming_gives_the_same_bytes(
    data: Dataset, tmp_path: Path
) -> None:
    whole = trained(data, tmp_path / "whole", rounds=3, **RECON)
    part = trained(data, tmp_path / "part", rounds=1, **RECON)
    assert not [name for name in tensors(part) if name.startswith("client/")]
    plan = parse_plan(PLAN | RECON | {"rounds": 3})
    train(data, plan, tmp_path / "part", go_on=True, allow_invalid=True)
    for name in ("model.safetensors", "rounds.jsonl", "checkpoint/last.safetensors"):
        assert (whole.path / name).read_bytes() == (part.path / name).read_bytes(), name


def test_users_are_rebuilt_in_steps_where_steps_are_given(data: Dataset, tmp_path: Path) -> None:
    def items(name: str, batch_size: int, **fedrecon: int) -> torch.Tensor:
        keys = RECON | {"batch_size": batch_size, "fedrecon": fedrecon, "rounds": 2}
        return tensors(trained(data, tmp_path / name, **keys))["value/item_factors"]

    whole = items("e4", 0, recon_epochs=4)
    assert torch.equal(items("s4", 0, recon_steps=4), whole)
    assert not torch.equal(items("s3", 0, recon_steps=3), whole)
    assert not torch.equal(items("b1", 2, recon_steps=1), items("b", 2))


@pytest.mark.parametrize(
    "table", [{"recon_steps": -1}, {"recon_epochs": 0}, {"recon_steps": 2, "recon_epochs": 3}]
)
def test_steps_and_passes_that_contradict_are_refused(table: dict[str, int]) -> None:
    with pytest.raises(RecipeError):
        parse_plan({"algorithm": "fedrecon", "fedrecon": table})


FNN: dict[str, Any] = {
    "algorithm": "fedfnn", "rounds": 8, "clients_per_round": 6, "fedfnn": {"meta": "linear", "patience": 2},
    "task": "implicit", "lr": 1e-8, "lr_item": 1e-8, "lr_user": 1e-8,
}  # fmt: skip


def test_users_are_predicted_until_the_loss_has_been_stable_and_never_after(
    data: Dataset, tmp_path: Path
) -> None:
    run = trained(data, tmp_path / "r", **FNN)
    predicted = counts(run, "fedfnn/predicted")
    (end,) = [e["round"] for e in run.events() if e["event"] == "no more predictions"]
    assert 2 < end < 8
    assert not any(predicted[end - 1 :])
    forever = trained(data, tmp_path / "f", **FNN | {"fedfnn": {"meta": "linear"}})
    assert any(counts(forever, "fedfnn/predicted")[end - 1 :])


def test_a_resumed_run_remembers_for_how_long_the_loss_has_been_stable(
    data: Dataset, tmp_path: Path
) -> None:
    whole = trained(data, tmp_path / "whole", **FNN)
    part = trained(data, tmp_path / "part", **FNN | {"rounds": 2})
    train(data, parse_plan(PLAN | FNN), part.path, go_on=True, allow_invalid=True)
    for name in ("model.safetensors", "rounds.jsonl", "events.jsonl"):
        assert (whole.path / name).read_bytes() == (part.path / name).read_bytes(), name


def test_test_users_are_drawn_by_the_seed_and_lists_and_measures_are_of_them_alone(
    data: Dataset, tmp_path: Path
) -> None:
    whole = trained(data, tmp_path / "all", rounds=1)
    run = trained(data, tmp_path / "r", rounds=1, test_users=10)
    lists = pl.read_parquet(run.path / "recommendations.parquet")
    everybody = pl.read_parquet(whole.path / "recommendations.parquet")
    assert lists["user_id"].n_unique() == 10
    assert lists.equals(everybody.filter(pl.col("user_id").is_in(lists["user_id"].to_list())))
    hit = run.rounds().filter(metric="hr@10/test")["value"].item() * 10
    assert hit == pytest.approx(round(hit))
    n = everybody["user_id"].n_unique()
    said = {"split": "test", "users": 10, "of": n, "seed": 0}
    assert run.manifest["ranked"] == summary(run)["ranked"] == said
    assert "ranked" not in whole.manifest
    other = train(data, parse_plan(PLAN | {"rounds": 1, "test_users": 10}), tmp_path / "s",
                  seed=1, allow_invalid=True)  # fmt: skip
    lists_of_other = pl.read_parquet(other.path / "recommendations.parquet")
    assert set(lists_of_other["user_id"]) != set(lists["user_id"])
    assert unlike(compare([run.path, other.path]))
    assert not unlike(compare([run.path, run.path]))
    # What fedeval measures is of the same users, baselines too; of others at once it measures nothing.
    setting = setting_of(data)
    found = assess(
        {"r": run.path, "all": whole.path}, setting, metrics=["hr@10"], baselines=["popularity"]
    )
    assert found["systems"][0]["values"]["hr@10"]["value"] * 10 == pytest.approx(round(hit))
    assert {row["counts"]["users"] for row in found["systems"]} == {10}
    assert [row for row in found["notices"] if "sample" in row["text"].lower()]
    with pytest.raises(EvaluationError, match="other samples"):
        assess({"r": run.path, "s": other.path}, setting, metrics=["hr@10"])
    place = rank_candidates(run.path, "uniform:9", data=data.path)
    assert set(pl.read_parquet(place)["user_id"]) == set(lists["user_id"])


POOLED: dict[str, Any] = {
    "algorithm": "centralised", "task": "rating", "batch_size": 0, "lr": 0.02, "lr_item": 0.02,
    "weight_decay": 0.01, "mf": {"dim": 4, "mean": 3.0}, "eval_every": 100,
}  # fmt: skip


@pytest.mark.parametrize("optimizer", ["adam", "momentum"])
def test_rounds_of_pooled_rows_are_epochs_of_one_optimiser(
    data: Dataset, tmp_path: Path, optimizer: str
) -> None:
    keys = POOLED | {"optimizer": optimizer}
    keys |= {"lr": 0.2, "lr_item": 0.2} if optimizer == "momentum" else {}
    many = tensors(trained(data, tmp_path / "many", rounds=6, **keys))
    one = tensors(trained(data, tmp_path / "one", rounds=1, local_epochs=6, **keys))
    first = tensors(trained(data, tmp_path / "first", rounds=1, **keys))
    part = trained(data, tmp_path / "part", rounds=3, **keys)
    train(data, parse_plan(PLAN | keys | {"rounds": 6}), part.path, go_on=True, allow_invalid=True)
    values = [name for name in one if name.startswith(("value/", "client/users/"))]
    assert len(values) == 4
    for name in values:
        torch.testing.assert_close(many[name], one[name], atol=1e-5, rtol=0)
        assert (first[name] - one[name]).abs().max() > 1e-4
    again = tensors(part)
    assert again.keys() == many.keys()
    assert all(torch.equal(again[name], many[name]) for name in many)


def test_rows_that_no_example_of_a_round_touches_are_moved_by_what_is_left_of_earlier_ones(
    data: Dataset, tmp_path: Path
) -> None:
    keys = POOLED | {"task": "implicit", "negatives": 1, "optimizer": "adam", "mf": {"dim": 4}}
    run = trained(data, tmp_path / "r", rounds=2, **keys)
    assert len(tensors(run)["client/shared/moments/first/item_factors"][0]) == 50
    plain = trained(data, tmp_path / "p", rounds=2, **keys | {"algorithm": "fedavg"})
    assert not [name for name in tensors(plain) if "moments" in name]


LOCAL: dict[str, Any] = {
    "algorithm": "local", "task": "rating", "clients_per_round": 0, "lr": 0.3, "lr_item": 1.0, "lr_user": 1.0,
    "batch_size": 8, "rounds": 6,
}  # fmt: skip


def own_losses(run: Run) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The mean loss of each client on its own valid rows, as the Run serves it."""
    found = reopened(run.path)
    row, _, losses = predictions(found.work, found.server, found.clients, "valid")
    rows = found.work.federation.splits["valid"]
    client = np.searchsorted(rows.offsets, row, side="right") - 1
    sums = np.bincount(client, losses, minlength=found.work.federation.n_clients)
    return sums / rows.counts


def test_alone_each_client_ends_with_its_own_best_round(data: Dataset, tmp_path: Path) -> None:
    rounds = [trained(data, tmp_path / str(n), **LOCAL | {"rounds": n, "local": {"own_best": False}})
              for n in range(1, 7)]  # fmt: skip
    each = np.stack([own_losses(run) for run in rounds])
    best = each.argmin(0) + 1
    assert len(set(best.tolist())) > 1, "the rounds are to differ for this to be a test"
    run = trained(data, tmp_path / "own", **LOCAL)
    np.testing.assert_allclose(own_losses(run), each.min(0))
    (told,) = [e for e in run.events() if e["event"] == "own best"]
    assert (told["first"], told["last"]) == (best.min(), best.max())
    assert told["clients"] == len(best)
    assert told["without_valid"] == 0
    ours, theirs = (r.rounds().filter(metric="rmse/valid")["value"] for r in (run, rounds[-1]))
    assert ours.equals(theirs), "rounds are measured as they are, not as they will be served"
    part = trained(data, tmp_path / "part", **LOCAL | {"rounds": 3})
    train(data, parse_plan(PLAN | LOCAL), part.path, go_on=True, allow_invalid=True)
    for name in ("recommendations.parquet", "checkpoint/last.safetensors"):
        assert (run.path / name).read_bytes() == (part.path / name).read_bytes(), name


@pytest.mark.parametrize(
    ("model", "task"), [("two_tower", "implicit"), ("sasrec", "implicit"), ("rating_vae", "rating")]
)
def test_alone_every_model_is_judged_by_its_own_valid_rows(
    data: Dataset, tmp_path: Path, model: str, task: str
) -> None:
    keys = LOCAL | {"model": model, "task": task, "rounds": 2, "clients_per_round": 4}
    run = trained(data, tmp_path / "r", **keys)
    (told,) = [e for e in run.events() if e["event"] == "own best"]
    assert told["clients"] > 0


def test_a_model_file_holds_nothing_personal_and_says_what_it_lacks(
    data: Dataset, tmp_path: Path
) -> None:
    keys = {
        "algorithm": "fedper",
        "model": "two_tower",
        "rounds": 1,
        "two_tower": {"dim": 4, "hidden": 4},
    }
    run = trained(data, tmp_path / "r", **keys)
    held, header = read_tensors(run.path / "model.safetensors")
    assert header["personal"] == run.manifest["personal"] == summary(run)["personal"]
    assert any(name.startswith("head.") for name in header["personal"])
    assert not held.keys() & set(header["personal"])
    assert {f"client/shared/{name}" for name in header["personal"]} <= tensors(run).keys()
    plain = trained(data, tmp_path / "p", **keys | {"algorithm": "fedavg"})
    assert any(n.startswith("head.") for n in read_tensors(plain.path / "model.safetensors")[0])
    assert "personal" not in plain.manifest
    alone = trained(data, tmp_path / "a", **keys | {"algorithm": "local"})
    assert not read_tensors(alone.path / "model.safetensors")[0]
