"""A Run's order of candidates: each is scored, and what knows the truth is first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from built import write_built

from fedeval.candidates import write_candidates
from fedeval.cli import main as fedeval
from fedeval.setting import setting_of
from fedprep.errors import EvaluationError, TrainingError
from fedtrain.candidates import rank_candidates, ranked_candidates, table_name
from fedtrain.cli import main
from fedtrain.reopen import reopened
from fedtrain.scoring import Scorer
from fedtrain.settings import parse_plan
from fedtrain.train import train

AMONG = "uniform:9"
PLAN = {
    "rounds": 2, "clients_per_round": 0, "threads": 1, "mf": {"dim": 4}, "negatives": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_built(tmp_path_factory.mktemp("candidates") / "data")


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from fedprep.dataset import Dataset

    place = tmp_path_factory.mktemp("candidates") / "run"
    return train(Dataset.open(data), parse_plan(PLAN), place, allow_invalid=True).path


def code_of(main_: Any, *arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as exit_:
        main_([str(argument) for argument in arguments])
    return int(exit_.value.code or 0)


def test_every_candidate_has_the_score_that_the_run_gives_it_among_all_items(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    found = pl.read_parquet(rank_candidates(trained, AMONG, out=tmp_path / "ranked.parquet"))
    assert found.schema == {
        "user_id": pl.Int32, "item_id": pl.Int32, "rank": pl.Int32, "score": pl.Float32,
    }  # fmt: skip
    candidates = setting_of(data, candidates=AMONG).candidates
    assert candidates is not None
    pairs = ["user_id", "item_id"]
    assert found.select(pairs).sort(pairs).equals(candidates.frame().select(pairs).sort(pairs))
    known = found.join(pl.read_parquet(trained / "recommendations.parquet"), on=pairs)
    assert known.height > 20
    np.testing.assert_allclose(known["score"], known["score_right"], rtol=1e-6)
    by_user = found.sort("user_id", "rank").group_by("user_id", maintain_order=True)
    for _, rows in by_user:
        assert rows["rank"].to_list() == list(range(1, rows.height + 1))
        assert rows["score"].is_sorted(descending=True)


def test_users_may_have_different_numbers_of_candidates(trained: Path, data: Path) -> None:
    found = reopened(trained)
    candidates = setting_of(data, candidates=AMONG).candidates
    assert candidates is not None
    uneven = np.arange(len(candidates)) % 3 > 0
    user = np.repeat(candidates.user_id, candidates.counts)[uneven]
    users, first = np.unique(user, return_index=True)
    kept = type(candidates)(
        user_id=users,
        offsets=np.append(first, len(user)),
        item_id=candidates.item_id[uneven],
        relevant=candidates.relevant[uneven],
    )
    scorer = Scorer(found.work, found.server, found.clients, ("train", "valid"))
    whole, part = ranked_candidates(scorer, candidates), ranked_candidates(scorer, kept)
    pairs = ["user_id", "item_id"]
    joined = part.join(whole, on=pairs)
    assert joined.height == part.height == int(uneven.sum())
    np.testing.assert_array_equal(joined["score"], joined["score_right"])


def test_the_command_writes_into_the_run_and_fedeval_reads_it_as_the_runs_own(
    data: Path, trained: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert code_of(main, "rank", trained, "--candidates", AMONG, "--json") == 0
    place = Path(json.loads(capsys.readouterr().out)["file"])
    assert place == trained / table_name(AMONG, "test", 0)
    arguments = ("--data", data, "--candidates", AMONG, "--baselines", "none", "--json")
    out = ("--out", tmp_path, "--resamples", "100")
    assert code_of(fedeval, "report", place, *arguments, *out) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["protocol"]["fields"]["negative_pool"] == "train"
    assert found["systems"][0]["values"]["hr@10"]["value"] == 1.0  # ten candidates
    assert found["learning"]
    memoriser = next(one for one in found["systems"] if one["name"] == "memoriser")
    assert "2 a row, 2 rounds, simulated" in memoriser["text"]  # as the Run drew them


def test_candidates_of_a_file_are_ranked_and_unknown_items_are_refused(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    candidates = setting_of(data, candidates=AMONG).candidates
    assert candidates is not None
    write_candidates(candidates, tmp_path / "mine.parquet")
    assert table_name(str(tmp_path / "mine.parquet"), "test", 0) == "among-mine-test-0.parquet"
    one = rank_candidates(trained, str(tmp_path / "mine.parquet"), out=tmp_path / "one.parquet")
    two = rank_candidates(trained, AMONG, out=tmp_path / "two.parquet")
    assert one.read_bytes() == two.read_bytes()
    frame = pl.read_parquet(tmp_path / "mine.parquet")
    frame = frame.with_columns(pl.col("item_id") + 100_000)
    frame.write_parquet(tmp_path / "other.parquet")
    with pytest.raises(EvaluationError, match="candidates"):
        rank_candidates(trained, str(tmp_path / "other.parquet"))


def test_all_items_are_no_candidates(trained: Path) -> None:
    with pytest.raises(TrainingError, match=r"recommendations\.parquet"):
        rank_candidates(trained, "full")
