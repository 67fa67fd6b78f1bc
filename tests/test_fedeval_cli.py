"""The command `fedeval`: every command says what it is, answers, and fails with one clear message."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import polars as pl
import pytest

from fedeval.cli import command, main
from fedeval.metrics import METRICS
from fedprep.build import build_dataset
from fedprep.dataset import Dataset
from fedprep.recipe import load_recipe
from tests.built import write_built

ROOT = Path(__file__).parent.parent
QUICK = ("--resamples", "50", "--metrics", "ndcg,hr", "-k", "5,10")


def run(*arguments: str | Path) -> int:
    """Runs a command line and returns its exit code."""
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return int(exit_.value.code or 0)


def answer(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Any:
    """What a command prints as JSON."""
    capsys.readouterr()
    assert run(*arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_built(tmp_path_factory.mktemp("fedeval") / "data")


def lists(data: Path, *, seed: int = 0, length: int = 10) -> pl.DataFrame:
    """Lists without seen items; of every other user the relevant item stands at rank 2."""
    dataset = Dataset.open(data)
    seen = (
        dataset.interactions()
        .filter(pl.col("split") != "test")
        .select("user_id", "item_id")
        .collect()
    )
    truth = dict(dataset.interactions("test").select("user_id", "item_id").collect().iter_rows())
    rng = np.random.default_rng(seed)
    n_items = dataset.manifest["facts"]["n_items"]
    had = dict(seen.group_by("user_id").agg("item_id").iter_rows())
    parts = []
    for user, item in sorted(truth.items()):
        left = rng.permutation(np.setdiff1d(np.arange(n_items), [*had[user], item]))
        top = np.insert(left, 1, item) if user % 2 else left
        parts.append(pl.DataFrame({"user_id": user, "item_id": top[:length]}))
    frame = pl.concat(parts).cast(pl.Int32)
    rank = pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("user_id")
    return frame.with_columns(rank=rank).with_columns(score=-pl.col("rank").cast(pl.Float32))


@pytest.fixture(scope="module")
def recs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recs") / "mine.parquet"
    lists(data).write_parquet(path)
    return path


def a_run(data: Path, folder: Path, dataset_id: str | None = None) -> Path:
    folder.mkdir()
    named = {"dataset_id": dataset_id or Dataset.open(data).id}
    (folder / "manifest.json").write_text(json.dumps(named))
    lists(data, seed=5).write_parquet(folder / "recommendations.parquet")
    return folder


# --- each command --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(command.commands))
def test_every_command_has_help_and_stands_in_the_documents(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(name, "--help") == 0
    assert "Usage" in capsys.readouterr().out
    assert len((command.commands[name].help or "").split()) > 2
    for parameter in command.commands[name].params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help, f"{name} {parameter.name}"
    assert f"fedeval {name}" in (ROOT / "docs" / "fedeval.md").read_text(encoding="utf-8")


def test_help_starts_without_anything_heavy() -> None:
    script = (
        "import sys\nfrom fedeval.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'polars', 'torch', 'matplotlib', 'rich', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_score_prints_numbers_and_counts_alone(
    data: Path, recs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(capsys, "score", recs, "--data", data, "--metrics", "hr,mrr", "-k", "1,2")
    (system,) = found["systems"]
    assert system["name"] == "mine"
    values = {name: value["value"] for name, value in system["values"].items()}
    odd = Dataset.open(data).interactions("test").collect()["user_id"].to_numpy() % 2
    assert values == pytest.approx(
        {"hr@1": 0.0, "hr@2": odd.mean(), "mrr@1": 0.0, "mrr@2": odd.mean() / 2}
    )
    assert system["counts"]["users"] == 70
    assert not found["notices"] or all(n["level"] == "note" for n in found["notices"])
    assert run("score", recs, "--data", data) == 0
    text = capsys.readouterr().out
    assert "users evaluated" in text and "NDCG@10" in text


def test_report_writes_four_files_that_agree(
    data: Path, recs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = a_run(data, tmp_path / "mf")
    (folder / "rounds.jsonl").write_text(
        '{"round": 1, "metric": "loss", "value": 0.5}\n{"round": 2, "me'
    )
    given = (folder, f"other={recs}", "--data", data, "--baselines", "pop,itemknn")
    found = answer(capsys, "report", *given, *QUICK)
    out = folder / "report"
    assert {file.name for file in out.iterdir()} == {
        f"report.{form}" for form in ("html", "json", "md", "tex")
    }
    assert json.loads((out / "report.json").read_text(encoding="utf-8")) == found
    names = [system["name"] for system in found["systems"] if system["kind"] != "sanity"]
    assert names == ["mf", "other", "popularity", "itemknn"]
    for form in ("html", "md", "tex"):
        text = (out / f"report.{form}").read_text(encoding="utf-8")
        assert all(name in text for name in names)
    assert found["learning"] == {"mf": [{"round": 1, "metric": "loss", "value": 0.5}]}


def test_report_has_the_usual_baselines_and_none_where_told(
    data: Path, recs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ["popularity", "itemknn", "ease"]
    assert "baselines" not in Dataset.open(data).manifest["recipe"]["eval"]
    found = answer(capsys, "report", recs, "--data", data, "--out", tmp_path / "a", *QUICK)
    assert [s["name"] for s in found["systems"] if s["kind"] == "baseline"] == told
    assert (
        run("report", recs, "--data", data, "--out", tmp_path / "b", "--baselines", "none", *QUICK)
        == 0
    )
    assert "No baseline stands beside" in capsys.readouterr().out


def test_compare_tests_a_against_b(
    data: Path, recs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lists(data, seed=9).write_parquet(tmp_path / "b.parquet")
    found = answer(capsys, "compare", recs, tmp_path / "b.parquet", "--data", data, *QUICK)
    assert {(row["a"], row["b"]) for row in found["comparisons"]} == {("mine", "b")}
    means = {s["name"]: s["values"]["hr@5"]["value"] for s in found["systems"]}
    (row,) = [row for row in found["comparisons"] if row["metric"] == "hr@5"]
    assert row["difference"] == pytest.approx(means["mine"] - means["b"])
    (activity,) = [part for part in found["slices"] if part["by"] == "activity"]
    gaps = [row["difference"] * row["n"] for row in activity["comparisons"]]
    (row,) = [row for row in found["comparisons"] if row["metric"] == "ndcg@10"]
    assert sum(gaps) / 70 == pytest.approx(row["difference"])
    assert run("compare", recs, tmp_path / "b.parquet", "--data", data, *QUICK) == 0
    assert "mine − b, of 70 users" in capsys.readouterr().out


def test_baselines_measures_all_that_can_be_had(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run("baselines", data, "--out", tmp_path / "out", "--json", *QUICK) == 0
    found = json.loads(capsys.readouterr().out)
    names = {system["name"] for system in found["systems"] if system["kind"] == "baseline"}
    assert {"random", "popularity", "itemknn", "ease", "content_knn"} <= names
    assert (tmp_path / "out" / "report.html").is_file()
    only = answer(capsys, "baselines", data, "--only", "pop", *QUICK)
    assert [s["name"] for s in only["systems"] if s["kind"] == "baseline"] == ["popularity"]


def test_metrics_lists_every_metric_with_its_definition(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "metrics")
    assert list(found) == list(METRICS)
    assert all(metric["definition"] for metric in found.values())
    assert run("metrics", "ndcg@10") == 0
    text = capsys.readouterr().out
    assert "ndcg: NDCG" in text and "Reference" in text


def test_the_session_of_the_document_is_what_the_commands_print(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = load_recipe("demo", ["embed.text.encoder=none", "embed.image.encoder=none"])
    build_dataset(recipe, tmp_path / "demo")
    text = (ROOT / "docs" / "fedeval.md").read_text(encoding="utf-8")
    (line,) = [
        line for line in text.splitlines() if line.startswith("fedeval baselines datasets/demo")
    ]
    arguments = line.replace("datasets/demo", str(tmp_path / "demo")).split()[1:]
    capsys.readouterr()
    assert run(*arguments) == 0
    printed = {" ".join(row.split()) for row in capsys.readouterr().out.splitlines()}
    shown = [row for row in text.splitlines() if row.startswith(" ")]
    rows = [" ".join(row.split()) for row in shown if "–0." in row]
    assert len(rows) == 4 and set(rows) <= printed


# --- foreign files -------------------------------------------------------------------------------------


def test_foreign_columns_are_named_by_flag_and_truth_may_be_a_file(
    data: Path, recs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"user_id": "uid", "item_id": "iid", "score": "p"}
    lists(data).drop("rank").rename(names).write_csv(tmp_path / "mine.csv")
    truth = Dataset.open(data).interactions("test").select("user_id", "item_id").collect()
    truth.write_csv(tmp_path / "truth.csv")
    flags = ("--user", "uid", "--item", "iid", "--score", "p", "--metrics", "ndcg@5")
    foreign = answer(
        capsys, "score", tmp_path / "mine.csv", "--truth", tmp_path / "truth.csv", *flags
    )
    own = answer(capsys, "score", recs, "--data", data, "--metrics", "ndcg@5")
    value, expected = (f["systems"][0]["values"]["ndcg@5"]["value"] for f in (foreign, own))
    assert value == pytest.approx(expected, abs=1e-12)
    assert foreign["protocol"]["id"] != own["protocol"]["id"]


def test_numbers_on_the_valid_rows_are_of_another_protocol(
    data: Path, recs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test, valid = (
        answer(capsys, "score", recs, "--data", data, "--split", split)["protocol"]
        for split in ("test", "valid")
    )
    assert valid["id"].startswith("leave_last_out-valid/") and not test["id"].startswith(
        "leave_last_out-valid/"
    )
    assert "held out for tuning" in valid["text"]


@pytest.mark.parametrize("option", [("--relevant", "liked"), ("--split", "valid")])
def test_what_is_chosen_of_a_dataset_is_not_passed_over_for_a_table_of_truth(
    option: tuple[str, str], data: Path, recs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("score", recs, "--data", data, "--truth", recs, *option) == 2
    told = capsys.readouterr().err
    assert f"a table of truth has no rows that are called '{option[1]}'" in told


def test_two_files_of_candidates_are_two_protocols(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = set()
    for place, others in enumerate(("3\t4", "3\t5")):
        file = tmp_path / f"{place}.test.negative"
        file.write_text(f"(0,1)\t{others}\n(1,2)\t{others}\n")
        ranked = {"user_id": [0, 0, 0, 1, 1, 1], "item_id": [1, 3, 4 + place, 2, 3, 4 + place]}
        table = pl.DataFrame(ranked).with_columns(score=-pl.col("item_id").cast(pl.Float32))
        table.write_parquet(tmp_path / "ranked.parquet")
        found = answer(capsys, "score", tmp_path / "ranked.parquet", "--candidates", file)
        ids.add(found["protocol"]["id"])
    assert len(ids) == 2


def test_a_folder_of_parquet_files_is_a_table_and_no_run(
    data: Path, recs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, parts = Dataset.open(data), tmp_path / "spark"
    frame = lists(data)
    for column, table in (("user_id", dataset.users()), ("item_id", dataset.items())):
        known = table.select(column, "source_id").collect()
        frame = frame.join(known, on=column).drop(column).rename({"source_id": column})
    parts.mkdir()
    frame[:50].write_parquet(parts / "part-0.parquet")
    frame[50:].write_parquet(parts / "part-1.parquet")
    found = answer(capsys, "score", parts, "--data", data, "--ids", "source")
    own = answer(capsys, "score", recs, "--data", data)
    assert found["systems"][0]["values"] == own["systems"][0]["values"]


FOREIGN = {"user_id": "uid", "item_id": "iid", "score": "p"}


def test_two_tables_may_have_columns_of_two_kinds_and_a_truth_of_a_third(
    data: Path, recs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = tmp_path / "their:lists.csv"
    upside_down = lists(data, seed=3).drop("rank").with_columns(-pl.col("score"))
    upside_down.rename(FOREIGN).write_csv(theirs)
    upside_down.write_parquet(tmp_path / "same.parquet")
    truth = Dataset.open(data).interactions("test").select("user_id", "item_id").collect()
    truth.rename({"user_id": "who", "item_id": "what"}).write_csv(tmp_path / "truth.csv")
    named = ("--columns", "their:lists:user=uid,item=iid", "--columns", "their:lists:score=p")
    own = answer(capsys, "compare", recs, tmp_path / "same.parquet", "--data", data, *QUICK)
    foreign = answer(capsys, "compare", recs, theirs, "--data", data, *named, *QUICK)
    differences = [[row["difference"] for row in f["comparisons"]] for f in (own, foreign)]
    assert differences[0] == pytest.approx(differences[1], abs=1e-12) and any(differences[0])
    own = answer(capsys, "score", recs, theirs, "--data", data, *named)
    of_truth = ("--truth", tmp_path / "truth.csv", "--columns", "truth:user=who,item=what")
    foreign = answer(capsys, "score", recs, theirs, *of_truth, *named, "--metrics", "ndcg@5")
    values = [[s["values"]["ndcg@5"]["value"] for s in f["systems"]] for f in (own, foreign)]
    assert values[0] == pytest.approx(values[1], abs=1e-12)
    flags = ("--user", "uid", "--item", "iid", "--score", "p", "--out", tmp_path / "out", *QUICK)
    back = ("--columns", "mine:user=user_id,item=item_id,score=score")
    given = ("report", recs, theirs, "--data", data, "--baselines", "pop")
    assert run(*given, *flags, *back) == run(*given, *named, *flags[-6:]) == 0


def test_what_columns_cannot_be_named_is_one_message(
    data: Path, recs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lists(data).write_parquet(tmp_path / "truth.parquet")
    given = ("score", recs, "--data", data, "--columns")
    for text, words in {
        "mien:user=u": "did you mean 'mine'",
        "mine:usr=u": "did you mean 'user'",
        "mine:user": "user=COLUMN",
        "mine:user=uid": "no column 'uid'",
        "truth:user=u": "names no system",
    }.items():
        assert run(*given, text) == 2
        message = capsys.readouterr().err
        assert words in message and "Traceback" not in message
    both = ("score", tmp_path / "truth.parquet", "--truth", recs, "--columns", "truth:user=u")
    assert run(*both) == 2
    assert "may mean the system, or the table of truth" in capsys.readouterr().err
    alone = ("score", tmp_path / "truth.parquet", "--data", data, "--columns")
    assert run(*alone, "truth:score=rank") == 0


def test_ids_of_the_raw_data_are_translated(
    data: Path, recs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = Dataset.open(data)
    frame = lists(data)
    for column, table in (("user_id", dataset.users()), ("item_id", dataset.items())):
        known = table.select(column, "source_id").collect()
        frame = (
            frame.join(known, on=column, maintain_order="left")
            .drop(column)
            .rename({"source_id": column})
        )
    frame.write_parquet(tmp_path / "raw.parquet")
    raw = answer(capsys, "score", tmp_path / "raw.parquet", "--data", data, "--ids", "source")
    own = answer(capsys, "score", recs, "--data", data)
    assert raw["systems"][0]["values"] == own["systems"][0]["values"]
    assert run("score", tmp_path / "raw.parquet", "--data", data) == 2
    assert "--ids source" in capsys.readouterr().err


def test_sampled_candidates_bring_their_warning_and_another_protocol(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("baselines", data, "--only", "pop,random", *QUICK)
    sampled = answer(capsys, *arguments, "--candidates", "uniform:9", "--out", tmp_path)
    again = answer(capsys, *arguments, "--candidates", tmp_path / "candidates.parquet")
    values = [[s["values"] for s in f["systems"]] for f in (sampled, again)]
    assert (
        values[0] == values[1]
    )  # the candidates are saved beside the report, and can be ranked again
    assert again["protocol"]["id"] == sampled["protocol"]["id"]
    full = answer(capsys, *arguments)
    assert "uniform-9" in sampled["protocol"]["id"] != full["protocol"]["id"]
    assert any("Krichene & Rendle" in notice["text"] for notice in sampled["notices"])
    random = next(s for s in sampled["systems"] if s["name"] == "random")
    assert random["values"]["hr@10"]["value"] == 1.0  # ten candidates


def test_a_pool_of_negatives_that_leaks_is_told_in_red_and_by_the_exit_code(
    data: Path, recs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--negative-pool", "all", "--baselines", "none", "--out", tmp_path / "out", *QUICK)
    assert run("report", recs, "--data", data, *flags) == 1
    found = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert found["notices"][0]["level"] == "red"
    assert "the protocol leaks" in found["notices"][0]["text"]
    rows = {
        s["name"]: s["values"]["hr@10"]["value"] for s in found["systems"] if s["kind"] == "sanity"
    }
    assert rows["memoriser"] > 0.9 > 0.5 > rows["constant"]
    assert '<p class="notice red">' in (tmp_path / "out" / "report.html").read_text(
        encoding="utf-8"
    )
    for pool in ("train", "none"):
        assert run("report", recs, "--data", data, "--negative-pool", pool, *flags[2:]) == 0
        assert "memoriser" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("manifest", "pool"),
    [
        ({"plan": {"negative_pool": "leaky"}}, "all"),
        (
            {"plan": {"negative_pool": "all"}, "negative_pool": "all"},
            "none",
        ),  # drawn from all items
        ({"plan": {"negative_pool": "train"}}, "train"),
        ({"plan": {"negative_pool": "train"}, "draws_negatives": True}, "train"),
        ({"plan": {"negative_pool": "train"}, "draws_negatives": False}, "unknown"),  # no memoriser
        ({"plan": {}, "negative_pool": "all"}, "all"),
        ({}, "unknown"),
    ],
)
def test_a_run_says_what_its_negatives_left_out(
    manifest: dict[str, Any],
    pool: str,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = a_run(data, tmp_path / "mf")
    named = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(named | manifest))
    arguments = ("report", folder, "--data", data, "--baselines", "none", *QUICK)
    assert run(*arguments) == int(pool == "all")
    found = json.loads((folder / "report" / "report.json").read_text(encoding="utf-8"))
    assert found["protocol"]["fields"]["negative_pool"] == pool
    assert (found["notices"][0]["level"] == "red") == (pool == "all")


@pytest.mark.parametrize(
    ("task", "words"), [("binary", "liked from disliked"), ("rating", "ratings"), ("bce", "")]
)
def test_a_run_that_was_not_trained_to_rank_says_so_beside_its_ranking(
    task: str, words: str, data: Path, tmp_path: Path
) -> None:
    folder = a_run(data, tmp_path / "mf")
    named = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(named | {"plan": {"task": task}}))
    with (folder / "rounds.jsonl").open("a") as rounds:
        rounds.write('{"round": 9, "metric": "accuracy/test", "value": 0.76}\n')
    assert run("report", folder, "--data", data, "--baselines", "none", *QUICK) == 0
    found = json.loads((folder / "report" / "report.json").read_text(encoding="utf-8"))
    told = [n["text"] for n in found["notices"] if "and not to rank" in n["text"]]
    assert len(told) == bool(words)
    assert all(words in text and "accuracy/test 0.7600" in text for text in told)


def test_candidates_of_ncf_are_read_and_are_the_truth_where_there_is_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.negative").write_text("(0,5)\t1\t2\t3\n(1,6)\t1\t2\t3\n")
    rows = [(user, item, -float(rank)) for user, items in ((0, (1, 5, 2, 3)), (1, (1, 2, 3, 6)))
            for rank, item in enumerate(items)]  # fmt: skip
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "score"], orient="row")
    frame.write_csv(tmp_path / "scores.csv")
    given = ("score", tmp_path / "scores.csv", "--candidates", tmp_path / "t.negative")
    found = answer(capsys, *given, "--metrics", "hr@2,mrr@4")
    values = {name: v["value"] for name, v in found["systems"][0]["values"].items()}
    assert values == pytest.approx({"hr@2": 0.5, "mrr@4": (1 / 2 + 1 / 4) / 2})
    assert "/file/" in found["protocol"]["id"]
    assert any("Krichene & Rendle" in notice["text"] for notice in found["notices"])


# --- bad input -----------------------------------------------------------------------------------------


def broken(data: Path, folder: Path) -> None:
    """Writes tables that are wrong, each in one way."""
    good = lists(data)
    good.rename({"item_id": "itemid"}).write_parquet(folder / "misnamed.parquet")
    good.drop("rank", "score").write_parquet(folder / "unranked.parquet")
    good.head(0).write_parquet(folder / "empty.parquet")
    good.with_columns(pl.col("user_id") + 10_000).write_parquet(folder / "others.parquet")
    good.with_columns(pl.col("rank") - 1).write_parquet(folder / "from0.parquet")
    good.with_columns(pl.col("item_id").cast(pl.Float64)).write_parquet(folder / "floats.parquet")
    nan = pl.when(pl.col("rank") == 3).then(float("nan")).otherwise("score").alias("score")
    good.with_columns(nan).drop("rank").write_parquet(folder / "nan.parquet")
    (folder / "torn.parquet").write_bytes(b"PAR1 and then nothing")
    (folder / "words.txt").write_text("no such format\n")


def bad(*arguments: str, words: str) -> Any:
    return pytest.param(list(arguments), words, id=" ".join(arguments)[:50])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        bad("score", "misnamed.parquet", "--data", "DATA", words="did you mean 'itemid'"),
        bad("score", "unranked.parquet", "--data", "DATA", words="neither a rank nor a score"),
        bad("score", "empty.parquet", "--data", "DATA", words="no row"),
        bad("score", "others.parquet", "--data", "DATA", words="no user in common"),
        bad("score", "from0.parquet", "--data", "DATA", words="rank"),
        bad("score", "floats.parquet", "--data", "DATA", words="integers or text"),
        bad("score", "nan.parquet", "--data", "DATA", words="NaN"),
        bad("score", "torn.parquet", "--data", "DATA", words="cannot be read"),
        bad("score", "words.txt", "--data", "DATA", words="no format that is known"),
        bad("score", "nowhere.parquet", "--data", "DATA", words="no such file"),
        bad("score", "RECS", words="--data"),
        bad("score", "RECS", "--data", "nowhere", words="no Dataset at nowhere"),
        bad("score", "RECS", "--data", "DATA", "--metrics", "ndgc@10", words="did you mean 'ndcg'"),
        bad("score", "RECS", "--data", "DATA", "-k", "ten", words="whole numbers"),
        bad("score", "RECS", "--data", "DATA", "-k", "0", words="whole numbers"),
        bad("score", "RECS", "--data", "DATA", "--user", "uid", words="no column 'uid'"),
        bad("score", "RECS", "RECS", "--data", "DATA", words="two systems are called"),
        bad("score", "RECS", "--data", "DATA", "--candidates", "uniforn:9", words="did you mean 'uniform'"),
        bad("score", "RECS", "--data", "DATA", "--candidates", "uniform:x", words="a number"),
        bad("score", "RECS", "--data", "DATA", "--candidates", "uniform:20", words="cannot be told"),
        bad("score", "foreign", "--data", "DATA", words="another Dataset"),
        bad("report", "RECS", "--data", "DATA", "--baselines", "popp", words="did you mean 'pop'"),
        bad("report", "RECS", "--truth", "RECS", "--baselines", "pop", words="--data"),
        bad("report", "RECS", "--data", "DATA", "--by", "categorys", words="did you mean 'categories'"),
        bad("report", "RECS", "--data", "DATA", "--against", "yours", words="no system is called 'yours'"),
        bad("report", "RECS", "--truth", "RECS", "--over", "clients", words="which client"),
        bad("report", "RECS", "--data", "DATA", "--test", "anova", words="known: randomisation, t, wilcoxon"),
        bad("report", "RECS", "--truth", "RECS", "--by", "age", words="--data"),
        bad("compare", "RECS", "nowhere", "--data", "DATA", words="no such file"),
        bad("baselines", "nowhere", words="no Dataset at nowhere"),
        bad("metrics", "ndgc", words="did you mean 'ndcg'"),
        bad("nonsense", words="nonsense"),
    ],
)  # fmt: skip
def test_bad_input_is_one_message_and_exit_code_2(
    arguments: list[str],
    words: str,
    data: Path,
    recs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken(data, tmp_path)
    a_run(data, tmp_path / "foreign", "ab" * 32)
    places = {"DATA": str(data), "RECS": str(recs)}
    line = [places.get(argument, argument) for argument in arguments]
    assert run(*line) == 2
    message = capsys.readouterr().err
    assert words in message
    assert "Traceback" not in message
    assert message.count("error:") <= 1
    assert not Path("report").exists()


def test_cut_offs_beyond_the_lists_and_seen_items_are_counted_and_told(
    data: Path, recs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(capsys, "score", recs, "--data", data, "-k", "10,30", "--metrics", "hr")
    counts = found["systems"][0]["counts"]
    assert counts["short_lists"] == 70
    assert any("shorter than 30" in notice["text"] for notice in found["notices"])
    train = Dataset.open(data).interactions("train").select("user_id", "item_id").collect()
    rank = pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("user_id")
    train.unique(maintain_order=True).with_columns(rank=rank).write_parquet(tmp_path / "t.parquet")
    seen = answer(capsys, "score", tmp_path / "t.parquet", "--data", data)
    assert seen["systems"][0]["counts"]["seen_recommended"] > 0
    assert any("in train" in notice["text"] for notice in seen["notices"])


def test_an_output_that_cannot_be_written_is_one_message_before_anything_is_measured(
    data: Path,
    recs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fedeval.assessment.assess", pytest.fail)
    (tmp_path / "file").write_text("in the way")
    out = ("--out", tmp_path / "file" / "x", "--baselines", "none")
    assert run("report", recs, "--data", data, *out, *QUICK) == 2
    message = capsys.readouterr().err
    assert "cannot be written" in message and "Traceback" not in message
