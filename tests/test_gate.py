"""The gate opens and shuts by the same counts in every form of the verdict."""

from __future__ import annotations

import html
import json
import os
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest

from fedprep import faults
from fedprep.checks import validate
from fedprep.cli import main
from fedprep.dataset import Dataset
from fedprep.errors import RecipeError
from fedprep.gate import demo_dataset, exit_code, find_faults, judge, limits_of
from fedprep.manifest import write_manifest


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return int(exit_.value.code or 0)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("gate")
    before = os.environ.get("FEDPREP_CACHE")
    os.environ["FEDPREP_CACHE"] = str(folder / "cache")
    try:
        return demo_dataset(folder / "demo")
    finally:
        if before is not None:
            os.environ["FEDPREP_CACHE"] = before


@pytest.fixture(scope="module")
def damaged(demo: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("damaged") / "nan"
    faults.plant(demo.path, place, "nan_ratings")
    return place


def test_a_check_that_is_required_and_skipped_shuts_the_gate(demo: Dataset, tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    rows.mkdir()
    dataset_rows = demo.interactions().collect()
    dataset_rows.write_parquet(rows / "interactions.parquet")
    assert run("validate", rows) == 0
    for pattern in ("embeddings", "embeddings_*", "embeddings_are_finite"):
        assert run("validate", rows, "--require", pattern) == 1
        assert run("validate", demo.path, "--require", pattern) == 0
    assert run("validate", rows, "--require", "splits_do_not_overlap") == 0
    assert run("validate", rows, "--require", "embedings") == 2
    verdict, _ = judge(rows, require=["embeddings_are_finite"])
    (check,) = [c for c in verdict["checks"] if c["name"] == "embeddings_are_finite"]
    assert (verdict["verdict"], check["status"]) == ("fail", "fail")
    assert "embeddings" in check["reason"]


# --- client folders of others -------------------------------------------------------------------------


def write_nodes(folder: Path, layout: str, *, leak: int = 0) -> Path:
    """Twelve clients of 30 train and 10 test rows of 200 items; `leak` train rows of client 5 are in test."""
    rng = np.random.default_rng(3)
    for client in range(12):
        items = rng.permutation(200)[:40]
        for split, held in (("train", items[:30]), ("test", items[30:])):
            if split == "test" and client == 5 and leak:
                held = np.concatenate([held[leak:], items[:leak]])
            table = pl.DataFrame(
                {
                    "user_id": client, "item_id": held, "rating": rng.integers(1, 6, len(held)),
                    "timestamp": 1_500_000_000 + np.arange(len(held)) + (10**6 if split == "test" else 0),
                }
            )  # fmt: skip
            name = {
                "folders": f"{split}/client_{client}.csv", "names": f"client_{client}-{split}.parquet",
                "clients": f"site/{client}/{split}.tsv", "column": f"part-{client}-{split}.csv",
            }[layout]  # fmt: skip
            if layout == "column":
                table = table.with_columns(site=pl.lit(f"s{client}"), fold=pl.lit(split.upper()))
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".parquet":
                table.write_parquet(path)
            else:
                table.write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")
    return folder


LAYOUTS = {
    "folders": ("filename", "folder"), "names": ("filename", "filename"), "clients": ("folder", "filename"),
    "column": ("site", "fold"),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_leaked_row_in_a_client_folder_of_others_shuts_the_gate(
    layout: str, tmp_path: Path
) -> None:
    client, split = LAYOUTS[layout]
    where = ("--client-from", client, "--split-from", split)
    clean = write_nodes(tmp_path / "clean", layout)
    assert run("validate", clean, *where, "--require", "splits_do_not_overlap") == 0
    assert run("validate", clean, *where, "--require", "embeddings*") == 1
    leak = write_nodes(tmp_path / "leak", layout, leak=1)
    assert run("validate", leak, *where) == 1
    found = validate(leak, client_from=client, split_from=split)
    assert found["splits_do_not_overlap"].count == 1
    assert found["clients_have_enough_rows"].denominator == 12


def test_a_folder_that_does_not_say_what_was_asked_of_it_is_refused(
    tmp_path: Path, demo: Dataset
) -> None:
    nodes = write_nodes(tmp_path / "nodes", "names")
    for client, split in (("filename", "folder"), ("site", ""), ("folder", "")):
        assert run("validate", nodes, "--client-from", client, "--split-from", split) == 2
    assert run("validate", demo.path, "--client-from", "filename") == 2
    assert run("validate", tmp_path / "nowhere", "--client-from", "filename") == 2
    (tmp_path / "empty").mkdir()
    assert run("validate", tmp_path / "empty", "--client-from", "filename") == 2


def test_a_client_file_without_users_is_one_user(tmp_path: Path) -> None:
    for client in range(3):
        pl.DataFrame({"item_id": [1, 2, 3 + client]}).write_csv(tmp_path / f"{client}.csv")
    found = validate(tmp_path, client_from="filename")
    assert found["users_have_enough_history"].status in ("skipped", "pass", "warn")
    assert found["user_lives_in_one_client"].status == "pass"
    assert found["clients_have_enough_rows"].count == 3  # three rows each, five are asked for


def test_a_made_up_dataset_may_pass(demo: Dataset) -> None:
    assert run("validate", demo.path) == 0


def test_a_fault_shuts_the_gate_and_is_named(
    damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("validate", damaged) == 1
    text = capsys.readouterr().out
    assert "ratings_are_finite" in text
    assert "3 of 1,600 rows" in text


def test_validation_never_writes_to_the_data(damaged: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in damaged.rglob("*")}
    run("validate", damaged)
    assert {path: path.stat().st_mtime_ns for path in damaged.rglob("*")} == before


def test_all_forms_tell_the_same_counts(
    damaged: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    files = {name: tmp_path / f"r.{name}" for name in ("junit", "markdown", "html")}
    options = [part for name, path in files.items() for part in (f"--{name}", path)]
    assert run("validate", damaged, *options, "--json-file", tmp_path / "r.json", "--json") == 1
    printed = capsys.readouterr()
    verdict = json.loads(printed.out)
    assert verdict == json.loads((tmp_path / "r.json").read_text())
    counts = verdict["counts"]
    suite = ElementTree.parse(files["junit"]).getroot()
    cases = list(suite.iter("testcase"))
    assert len(cases) == sum(counts.values())
    failed = {check["name"] for check in verdict["checks"] if check["status"] == "fail"}
    assert failed == {"ratings_are_finite", "features_come_from_train"}
    assert len(list(suite.iter("failure"))) == counts["fail"] == len(failed)
    assert len(list(suite.iter("skipped"))) == counts["skipped"]
    assert printed.err.count("::error") == counts["fail"]
    assert printed.err.count("::warning") == counts["warn"]
    for text in (
        files["markdown"].read_text(),
        (tmp_path / "summary.md").read_text(),
        files["html"].read_text(),
    ):
        assert "ratings_are_finite" in html.unescape(text)
        assert f"{counts['pass']} pass" in text


def test_a_limit_that_is_set_is_a_gate(demo: Dataset) -> None:
    assert run("validate", demo.path, "--limit", "max_class_share=0.5") == 1
    assert run("validate", demo.path, "--limit", "max_class_share=1") == 0


def test_strict_shuts_the_gate_at_a_warning(demo: Dataset) -> None:
    verdict, dataset = judge(demo.path)
    assert exit_code({**verdict, "verdict": "warn", "strict": False}, dataset) == 0
    assert exit_code({**verdict, "verdict": "warn", "strict": True}, dataset) == 1
    assert exit_code({**verdict, "verdict": "error"}, dataset) == 2


@pytest.mark.parametrize(("fail_on", "code"), [("fail", 1), ("warn", 1), ("never", 0)])
def test_the_recipe_says_what_shuts_the_gate(
    damaged: Path, tmp_path: Path, fail_on: str, code: int
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(damaged, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["recipe"]["validate"]["fail_on"] = fail_on
    del manifest["id"]
    write_manifest(copy, manifest)
    assert run("validate", copy) == code


def test_one_file_and_a_plain_folder_are_judged_as_far_as_they_go(
    damaged: Path, tmp_path: Path
) -> None:
    rows = Dataset.open(damaged).interactions().collect()
    rows.write_parquet(tmp_path / "interactions.parquet")
    for path in (tmp_path / "interactions.parquet", tmp_path):
        verdict, dataset = judge(path, only=["ratings_are_finite", "users_exist"])
        assert dataset is None
        status = {check["name"]: (check["status"], check["count"]) for check in verdict["checks"]}
        assert status["ratings_are_finite"] == ("fail", 3)
        assert status["users_exist"][0] == "skipped"


def test_recommendations_are_judged_against_the_dataset_that_was_trained_on(
    demo: Dataset, tmp_path: Path
) -> None:
    seen = demo.interactions("train").select("user_id", "item_id").collect()
    everything = pl.DataFrame({"user_id": range(80)}).join(
        demo.items().select("item_id").collect(), how="cross"
    )
    fresh = everything.cast(seen.schema).join(seen, on=["user_id", "item_id"], how="anti")
    rank = (pl.int_range(pl.len(), dtype=pl.Int32).over("user_id") + 1).alias("rank")
    recs = (
        fresh.sort("user_id", "item_id")
        .with_columns(rank)
        .with_columns(score=-pl.col("rank").cast(pl.Float32))
    )
    recs.write_parquet(tmp_path / "recs.parquet")
    assert run("validate", demo.path, "--recs", tmp_path / "recs.parquet") in (0, 1)
    wrong = recs.with_columns(
        pl.when(pl.int_range(pl.len()) < 2).then(float("nan")).otherwise("score").alias("score")
    )
    wrong.write_parquet(tmp_path / "wrong.parquet")
    verdict, _ = judge(demo.path, recs=tmp_path / "wrong.parquet")
    assert verdict["verdict"] == "fail"
    assert 2 in [check["count"] for check in verdict["checks"] if check["status"] == "fail"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--limit", "max_clas_share=1"], "did you mean 'max_class_share'"),
        (["--limit", "max_class_share"], "is no limit"),
        (["--limit", "max_class_share=much"], "is no limit"),
        (["--only", "rating_is_finite"], "ratings_are_finite"),
    ],
)
def test_unknown_limits_and_checks_name_the_nearest(
    demo: Dataset, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("validate", demo.path, *arguments) == 2
    assert words in capsys.readouterr().err


def test_what_cannot_be_read_is_exit_code_2(
    demo: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("validate", tmp_path / "nowhere") == 2
    for fault in ("missing_file", "newer_format"):
        faults.plant(demo.path, tmp_path / fault, fault)
        assert run("validate", tmp_path / fault) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_limits_are_numbers() -> None:
    assert limits_of(["a=1", "b=0.5", "c=true"]) == {"a": 1, "b": 0.5, "c": True}
    with pytest.raises(RecipeError):
        limits_of(["a='x'"])


def test_every_planted_fault_is_found_with_its_exact_count(demo: Dataset, tmp_path: Path) -> None:
    lines = find_faults(demo.path, tmp_path)
    assert {line["fault"] for line in lines} == set(faults.FAULTS)
    assert [line for line in lines if line["planted"] is not None and not line["found"]] == []


def test_diff_and_card_answer(
    demo: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("diff", demo.path, demo.path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["differs"] is False
    assert run("diff", demo.path, demo.path) == 0
    assert run("card", demo.path, "--out", tmp_path / "card") == 0
    assert (tmp_path / "card" / "croissant.json").is_file()


def test_demo_faults_shows_one_fault(demo: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("demo-faults", demo.path, "--fault", "nan_ratings") == 0
    assert "1 of 1 planted faults found" in capsys.readouterr().out
    assert run("demo-faults", demo.path, "--fault", "nan_rating") == 2
