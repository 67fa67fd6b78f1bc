"""A Run's folder says what it was trained on and with, and what it cannot say is an error, not a guess."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedeval.runs import dataset_of_run, is_run, negatives_of_run, pool_of_run, rounds_of_run
from fedprep.errors import EvaluationError

LINE = '{"round": 1, "metric": "loss", "value": 0.5}\n'


def test_a_run_names_its_dataset() -> None:
    assert dataset_of_run(".") == ""
    for facts in ({"dataset_id": "abc"}, {"dataset": {"id": "abc"}}, {"dataset": "abc"}):
        Path("manifest.json").write_text(json.dumps(facts))
        assert dataset_of_run(".") == "abc"


@pytest.mark.parametrize("text", [b"{", b"\xff\xfe", b"[1]"])
def test_a_manifest_that_is_no_object_is_refused(text: bytes) -> None:
    Path("manifest.json").write_bytes(text)
    for asked in (dataset_of_run, pool_of_run, negatives_of_run):
        with pytest.raises(EvaluationError, match="the Run's manifest") as error:
            asked(Path())
        assert str(error.value.where).startswith("manifest.json")


def test_a_run_says_what_its_negatives_left_out() -> None:
    told = {"plan": {"negative_pool": "leaky", "negatives": 4}}
    for facts, pool, n in (
        (told, "all", 4),
        (told | {"draws_negatives": False}, "", 4),
        ({"negative_pool": "train"}, "train", None),
        ({"plan": "mf"}, "", None),
        ({}, "", None),
    ):
        Path("manifest.json").write_text(json.dumps(facts))
        assert (pool_of_run(Path()), negatives_of_run(Path())) == (pool, n)


def test_rounds_are_read_up_to_a_line_that_a_kill_cut_off() -> None:
    assert rounds_of_run(Path()) == []
    Path("rounds.jsonl").write_text(LINE + LINE[:20])
    assert rounds_of_run(Path()) == [{"round": 1, "metric": "loss", "value": 0.5}]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (LINE[:20] + "\n" + LINE, 1),
        (LINE + "3\n" + LINE, 2),
        (LINE + '{"round": 2, "metrics": "loss", "value": 1}\n', 2),
        (LINE + '{"round": 2, "metric": "loss", "value": null}\n', 2),
        ("\udcff\n", 1),
    ],
)
def test_a_line_that_is_none_is_refused_by_its_number(text: str, line: int) -> None:
    Path("rounds.jsonl").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(EvaluationError, match="a line of the Run's rounds") as error:
        rounds_of_run(Path())
    assert error.value.where == f"rounds.jsonl:{line}"


def test_a_folder_is_a_run_by_what_only_runs_have() -> None:
    Path("spark").mkdir()
    Path("spark/part-0.parquet").touch()
    assert not is_run(Path("spark")) and not is_run(Path("nowhere"))
    Path("spark/rounds.jsonl").touch()
    assert is_run(Path("spark"))
