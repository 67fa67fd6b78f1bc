"""The command `fedtrain`: every command says what it is, answers, and fails with one clear message."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import polars as pl
import pytest
import torch
from built import write_built
from checked import interactions, write_dataset

import fedtrain.algorithms
from fedprep.dataset import Dataset
from fedprep.errors import MissingExtraError
from fedprep.manifest import read_manifest, write_manifest
from fedprep.recipe import load_recipe, recipe_names
from fedtrain.catalogue import CATALOGUES, catalogue, from_docstrings
from fedtrain.cli import command, main
from fedtrain.cli.look import LISTS
from fedtrain.compression import COMPRESSIONS
from fedtrain.extras import need_trainer
from fedtrain.models import MODELS
from fedtrain.run import Run
from fedtrain.samplers import SAMPLERS
from fedtrain.schedules import SCHEDULES
from fedtrain.server_optimizers import SERVER_OPTIMIZERS
from fedtrain.tasks import TASKS

ROOT = Path(__file__).parent.parent
QUICK = ("--set", "threads=1", "--rounds", "2")


def run(*arguments: str | Path) -> int:
    """Runs a command line and returns its exit code."""
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return int(exit_.value.code or 0)


def answer(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0) -> Any:
    """What a command prints as JSON."""
    capsys.readouterr()
    assert run(*arguments, "--json") == code
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_built(tmp_path_factory.mktemp("train") / "data")


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Run of likes: 12 clients, of whole users, each with a head of its own."""
    path = tmp_path_factory.mktemp("runs") / "likes"
    options = ("--algorithm", "fedper", "--model", "two_tower", "--task", "binary", "--seed", "4")
    assert run("run", data, "--out", path, *options, *QUICK) == 0
    return path


@pytest.fixture(scope="module")
def ranked(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Run of matrix factorisation, by ratings."""
    path = tmp_path_factory.mktemp("runs") / "stars"
    rates = ("--set", "lr=0.3", "--set", "mf.mean=4.0", "--task", "rating")
    assert run("run", data, "--out", path, *rates, *QUICK) == 0
    return path


# --- what every command holds --------------------------------------------------------------------------


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
            if parameter.opts[0] not in ("--json", "--set"):
                assert parameter.opts[0] in documents("training.md"), f"{name} {parameter.opts[0]}"
    assert f"fedtrain {name}" in documents("training.md")
    assert f"fedtrain {name}" in (ROOT / "README.md").read_text("utf-8")


def documents(name: str) -> str:
    return (ROOT / "docs" / name).read_text("utf-8")


def test_help_starts_without_anything_heavy_and_at_once() -> None:
    script = (
        "import sys, time\nfrom fedtrain.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'polars', 'torch', 'matplotlib', 'rich', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert time.process_time() < 0.3, time.process_time()"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["run", "sweep", "predict"])
def test_without_torch_a_command_names_the_extra(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "torch" else found(name)
    )
    with pytest.raises(MissingExtraError, match="training needs torch"):
        need_trainer()
    arguments = {"predict": ["x", "--client", "1"]}.get(name, ["demo"])
    assert run(name, *arguments) == 2
    assert "[train]'" in capsys.readouterr().err


# --- list ----------------------------------------------------------------------------------------------


def test_list_names_all_that_can_be_chosen_with_one_line_and_the_paper(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lists = answer(capsys, "list")
    there = {
        "algorithms": fedtrain.algorithms.ALGORITHMS,
        "models": MODELS,
        "tasks": TASKS,
        "samplers": SAMPLERS,
        "schedules": SCHEDULES,
        "server-optimizers": SERVER_OPTIMIZERS,
        "compressions": COMPRESSIONS,
        "recipes": [name for name in recipe_names() if load_recipe(name).train],
    }
    assert {kind: list(entries) for kind, entries in lists.items()} == {
        kind: list(names) for kind, names in there.items()
    }
    assert set(LISTS) == set(CATALOGUES) == set(there)
    abouts = [entry["about"] for entries in lists.values() for entry in entries.values()]
    assert all(abouts) and not any("\n" in about for about in abouts)
    assert all(
        entry["paper"] for kind in ("algorithms", "models") for entry in lists[kind].values()
    )
    assert "ICML 2020" in lists["algorithms"]["scaffold"]["paper"]
    assert "fedavg, two_tower, implicit" in lists["recipes"]["demo"]["about"]


def test_the_lists_say_what_the_docstrings_say() -> None:
    for kind, things in (
        ("algorithms", fedtrain.algorithms.ALGORITHMS),
        ("models", MODELS),
        ("server-optimizers", SERVER_OPTIMIZERS),
    ):
        said = from_docstrings(things)
        if kind == "algorithms":
            said = {
                name: {**entry, "paper": fedtrain.algorithms.ALGORITHMS[name]().reference}
                for name, entry in said.items()
            }
        assert catalogue(kind) == said, f"fedtrain/catalogue.toml: [{kind}]"


@pytest.mark.parametrize(
    "words", [["fedtrain", "list"], ["fedprep", "list"], ["fedeval", "metrics"]]
)
def test_lists_load_no_torch(words: list[str]) -> None:
    script = (
        f"import sys; from {words[0]}.cli import main\n"
        f"try: main({words[1:]!r})\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert not {'torch', 'matplotlib', 'duckdb'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_list_of_one_kind_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "server-optimizers") == 0
    out = capsys.readouterr().out
    assert "Server optimizers" in out and "yogi" in out and "fedavg" not in out


# --- run -----------------------------------------------------------------------------------------------


def test_a_run_is_told_as_a_table_and_as_json(
    data: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(capsys, "run", data, "--out", trained, "--resume", "--algorithm", "fedper",
                   "--model", "two_tower", "--task", "binary", "--seed", "4", *QUICK)  # fmt: skip
    assert (found["status"], found["rounds"], found["seed"]) == ("finished", 2, 4)
    assert {"loss/train", "accuracy/valid", "accuracy/majority/valid", "ndcg@10/test"} <= set(
        found["measures"]
    )
    names = {path.name for path in trained.iterdir()} - {".lock"}
    assert names >= {
        "manifest.json", "rounds.jsonl", "timings.jsonl", "checkpoint", "model.safetensors",
        "recommendations.parquet", "curves.png",
    }  # fmt: skip


def test_a_finished_run_that_is_resumed_says_so_and_stays_as_it_is(
    data: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p: p.read_bytes() for p in sorted(trained.rglob("*")) if p.is_file()}
    options = ("--algorithm", "fedper", "--model", "two_tower", "--task", "binary", "--seed", "4")
    assert run("run", data, "--out", trained, "--resume", *options, *QUICK) == 0
    told = capsys.readouterr()
    assert "has finished already" in told.err and "accuracy" in told.out
    assert {p: p.read_bytes() for p in sorted(trained.rglob("*")) if p.is_file()} == before


def with_recipe(data: Path, folder: Path, **train: Any) -> Path:
    """A copy of the Dataset whose recipe has this table [train]."""
    shutil.copytree(data, folder)
    manifest = read_manifest(folder)
    manifest["recipe"]["train"] = {"threads": 1, "rounds": 2, **train}
    write_manifest(folder, {k: v for k, v in manifest.items() if k not in ("format", "id")})
    return folder


def test_what_the_recipe_expects_is_compared_and_less_is_exit_1(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = {
        "loss/train": {"value": 0.7, "tolerance": 0.3},  # 0.69 is the loss of a coin
        "ndcg@10/test": {"value": 0.9, "tolerance": 0.05},
        "rmse/test": {"value": 1.0, "tolerance": 0.1},
        "loss/valid": {"value": 5.0, "tolerance": 0.1},
    }
    place = with_recipe(data, tmp_path / "data", expected=expected)
    found = answer(capsys, "run", place, "--out", tmp_path / "run", code=1)
    rows = {
        row["metric"]: (row["got"] is not None, row["within"], row["ok"])
        for row in found["expected"]
    }
    assert rows == {
        "loss/train": (True, True, True),
        "ndcg@10/test": (True, False, False),
        "rmse/test": (False, False, False),
        "loss/valid": (True, False, True),  # far lower is far better
    }
    assert run("run", place, "--out", tmp_path / "run", "--resume") == 1
    told = capsys.readouterr()
    assert "NOT REACHED" in told.out and "not measured" in told.out and "better" in told.out
    assert "less than the recipe expects: ndcg@10/test, rmse/test" in told.err
    assert run("run", place, "--out", tmp_path / "other", "--seed", "3", "--set", "lr=0.2") == 0
    assert "not compared with what the recipe expects: lr, seed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "task", "optimizer"),
    [
        ("mf", "implicit", "sgd"),
        ("mf", "rating", "sgd"),
        ("mf", "bpr", "adam"),
        ("two_tower", "binary", "momentum"),
        ("mult_vae", "implicit", "adam"),
        ("rating_vae", "rating", "adam"),
    ],
)
def test_a_loss_that_did_not_move_is_exit_1_and_one_that_moved_a_little_is_not(
    data: Path,
    tmp_path: Path,
    model: str,
    task: str,
    optimizer: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    what = ("--model", model, "--task", task, "--rounds", "6", "--set", f"optimizer={optimizer}")
    plain = ("--set", "threads=1", "--set", "eval_every=6")
    assert run("run", data, "--out", tmp_path / "still", *what, *plain, "--set", "lr=1e-8") == 1
    assert "did not move" in capsys.readouterr().err
    assert run("run", data, "--out", tmp_path / "moved", *what, *plain) == 0
    short = (*what[:4], "--rounds", "2", *plain, "--set", "lr=1e-8")
    assert run("run", data, "--out", tmp_path / "short", *short) == 0  # too short to say


def test_a_recipe_that_gives_what_it_expects_is_exit_0(data: Path, tmp_path: Path) -> None:
    expected = {"loss/train": {"value": 0.7, "tolerance": 0.1}}
    place = with_recipe(data, tmp_path / "data", expected=expected)
    assert run("run", place, "--out", tmp_path / "run") == 0


def tiny(folder: Path, rows: pl.DataFrame | None = None) -> Path:
    """A Dataset of 20 users and 16 items, without texts and pictures; 5 clients unless the rows say more."""
    rows = interactions() if rows is None else rows
    counts = {name: rows[name].value_counts(sort=True).rows() for name in ("label", "rating")}
    facts = {
        "n_users": 20,
        "n_items": 16,
        "n_interactions": rows.height,
        "n_clients": rows["client_id"].n_unique(),
        "labels": counts["label"],
        "ratings": sorted(counts["rating"]),
        "splits": dict(rows["split"].cast(pl.String).value_counts().rows()),
    }
    recipe = {"name": "tiny", "seed": 0, "clean": {"label": "binary", "threshold": 4.0}}
    return write_dataset(folder, rows, facts=facts, recipe={**recipe, "train": {"threads": 1}})


def in_split(rows: pl.DataFrame, split: str, where: pl.Expr) -> pl.DataFrame:
    dtype = rows.schema["split"]
    return rows.with_columns(
        pl.when(where).then(pl.lit(split, dtype)).otherwise("split").alias("split")
    )


def test_a_run_in_which_no_client_can_be_reached_is_refused_before_its_first_round(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tiny(tmp_path / "data", in_split(interactions(), "train", pl.lit(True)))
    (tmp_path / "who.csv").write_text("client_id,start,end\n0,50,60\n")
    trace = ("--set", "sampler=trace", "--set", f"trace={tmp_path / 'who.csv'}")
    assert run("run", place, "--allow-invalid", "--out", tmp_path / "r", *trace, *QUICK) == 2
    assert "train.trace" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_one_client_alone_trains(tmp_path: Path) -> None:
    rows = interactions().with_columns(client_id=pl.lit(0, pl.Int32))
    place = tiny(tmp_path / "data", rows.sort("user_id", "timestamp"))
    assert run("run", place, "--allow-invalid", "--out", tmp_path / "r", *QUICK) == 0
    found = Run.open(tmp_path / "r").rounds()
    assert found.filter(metric="clients")["value"].to_list() == [1.0, 1.0]
    assert found.filter(metric="rows")["value"].to_list() == [120.0, 120.0]


def test_clients_without_train_rows_are_never_drawn_and_still_served(tmp_path: Path) -> None:
    poor = (pl.col("client_id") < 2) & (pl.col("split").cast(pl.String) == "train")
    place = tiny(tmp_path / "data", in_split(interactions(), "valid", poor))
    assert run("run", place, "--allow-invalid", "--out", tmp_path / "r", *QUICK) == 0
    found = Run.open(tmp_path / "r").rounds()
    assert found.filter(metric="clients")["value"].to_list() == [3.0, 3.0]
    lists = pl.read_parquet(tmp_path / "r" / "recommendations.parquet")
    assert lists["user_id"].n_unique() == 20


def test_fewer_clients_than_the_default_cohort_are_all_taken(trained: Path) -> None:
    found = Run.open(trained)
    assert found.manifest["plan"]["clients_per_round"] == 0
    assert found.rounds().filter(metric="clients")["value"].to_list() == [12.0, 12.0]


def test_a_dataset_without_a_verdict_is_validated_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = interactions().with_columns(item_id=pl.lit(1, pl.Int32))
    place = tiny(tmp_path / "data", twice)
    assert run("run", place, "--out", tmp_path / "r", *QUICK) == 2
    told = capsys.readouterr().err
    assert "validating it" in told and "the Dataset fails" in told and "--allow-invalid" in told
    assert "pairs_are_distinct" in told or "pairs" in told
    assert not (tmp_path / "r").exists()


def test_the_verdict_that_a_dataset_was_given_first_stands_in_the_manifest(
    data: Path, tmp_path: Path
) -> None:
    place = tmp_path / "data"
    shutil.copytree(data, place, ignore=shutil.ignore_patterns("report.*"))
    assert run("run", place, "--out", tmp_path / "r", *QUICK) == 0
    assert Run.open(tmp_path / "r").manifest["validated"] in ("pass", "warn")


def test_a_dataset_that_failed_its_checks_is_refused_or_the_run_says_that_it_did(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "data"
    shutil.copytree(data, place)
    verdict = json.loads((place / "report.json").read_text())
    manifest = Dataset.open(place).manifest  # pictures were added after the build had judged
    verdict["files"] = {name: table["sha256"] for name, table in manifest["tables"].items()}
    verdict["subject"]["id"] = manifest["id"]
    verdict["verdict"] = "fail"
    verdict["checks"][0] |= {"name": "ratings_are_finite", "status": "fail"}
    (place / "report.json").write_text(json.dumps(verdict))
    assert run("run", place, "--out", tmp_path / "r", *QUICK) == 2
    assert "fails 1 checks: ratings_are_finite" in capsys.readouterr().err
    assert run("run", place, "--out", tmp_path / "r", "--allow-invalid", *QUICK) == 0
    assert Run.open(tmp_path / "r").manifest["validated"] == "fail"


BIG = "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"


def test_no_memory_says_which_chunk_fits_and_that_one_goes_on(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 2 * int(Dataset.open(data).index["n_train"].max())

    def small(original: Any) -> Any:
        def train_chunk(work: Any, server: Any, clients: Any, chunk: Any, **rest: Any) -> Any:
            if len(chunk.row) > most:
                raise RuntimeError(BIG)
            return original(work, server, clients, chunk, **rest)

        return train_chunk

    plain = tmp_path / "plain"
    assert run("run", data, "--out", plain, *QUICK) == 0
    for module in ("fedtrain.rounds", "fedtrain.memory"):
        monkeypatch.setattr(f"{module}.train_chunk", small(sys.modules[module].train_chunk))
    out = tmp_path / "r"
    assert run("run", data, "--out", out, *QUICK) == 2
    told = capsys.readouterr().err
    assert "no memory for chunk_rows = 10,000: " in told
    fits = int(told.split("--set chunk_rows=")[1].split(":")[0])
    assert most // 4 < fits <= most
    assert run("run", data, "--out", out, "--resume", "--set", f"chunk_rows={fits}", *QUICK) == 0
    for name in ("rounds.jsonl", "model.safetensors"):
        assert (out / name).read_bytes() == (plain / name).read_bytes()


def test_no_memory_for_one_client_says_so(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*given: Any, **rest: Any) -> Any:
        raise MemoryError

    for module in ("fedtrain.rounds", "fedtrain.memory"):
        monkeypatch.setattr(f"{module}.train_chunk", none)
    assert run("run", data, "--out", tmp_path / "r", *QUICK) == 2
    assert "of the largest client alone" in capsys.readouterr().err
    assert Run.open(tmp_path / "r").manifest["status"] == "failed"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["clip_norm=1.0", "lr=100.0"], "the loss diverges: "),
        (["batch_size=0", "lr=25.0"], "is not finite, or beyond reason, after local step 1"),
    ],
)
def test_numbers_that_go_wrong_stop_the_run(
    settings: list[str],
    words: str,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    more = [part for setting in settings for part in ("--set", setting)]
    rating = ("--task", "rating", "--set", "threads=1", "--rounds", "9", "--set", "eval_every=9")
    assert run("run", data, "--out", tmp_path / "r", *rating, *more) == 2
    told = capsys.readouterr().err
    assert words in told and "lower the learning rates" in told
    found = Run.open(tmp_path / "r")
    (event,) = found.events()
    assert event["what"] in told and event["round"] == found.manifest["rounds_done"] + 1
    assert found.manifest["status"] == "failed"


def bad(*arguments: str) -> Any:
    return pytest.param(list(arguments), id=" ".join(arguments)[:70])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "nowhere"], "'nowhere'"),
        (["run", "."], "no Dataset is in ."),
        (["run", "datasets/dmeo"], "nothing is at datasets/dmeo"),
        (["run", "DATA", "--set", "loggers.names=[\"wandb\"]"], "pip install wandb"),
        (["run", "DATA", "--set", "sampler=trace", "--set", "trace=x.csv"], "the trace cannot be read"),
        (["run", "demo"], "fedprep build demo"),
        (["run", "DATA", "--data", "x"], "leave --data out"),
        (["run", "DATA", "--algorithm", "fedavgg"], "did you mean 'fedavg'"),
        (["run", "DATA", "--model", "twotower"], "two_tower"),
        (["run", "DATA", "--set", "lrr=1"], "did you mean 'lr'"),
        (["run", "DATA", "--clients-per-round", "13"], "13 clients a round, but there are 12"),
        (["run", "DATA", "--resume", "--force"], "one of the two"),
        (["run", "TINY", "--allow-invalid", "--model", "two_tower", "--set", "two_tower.text=true"], "text"),
        (["run", "DATA", "--out", "RUN", *QUICK], "--resume continues it, --force replaces it"),
        (["run", "DATA", "--out", "RUN", "--resume", *QUICK], "another plan: algorithm was"),
        (["run", "TINY", "--allow-invalid", "--out", "RUN", "--resume", *QUICK], "made on another Dataset"),
        (["predict", "RUN", "--client", "12"], "one of 12 clients, 0 to 11"),
        (["predict", "RUN", "--client", "-1"], "there is no client -1"),
        (["predict", "RUN", "--client", "1", "--user", "70"], "client 1 has no user 70"),
        (["predict", "RUN", "--client", "1", "--data", "TINY"], "trained on another Dataset"),
        (["predict", "RUN", "--client", "1", "--data", "x"], "--data says where it is now"),
        (["predict", "UNTRAINED", "--client", "1"], "has no checkpoint"),
        (["predict", "nowhere", "--client", "1"], "no such folder"),
        (["predict", "RUN"], "--client"),
        (["compare"], "RUN"),
        (["compare", "RUN", "--target", "ndcg@10"], "'ndcg@10' is no target"),
        (["compare", "RUN", "--target", "ndcg@10=nan"], "'ndcg@10=nan' is no target"),
        (["compare", "RUN", "--out", "RUN"], "cannot be written: Is a directory"),
        (["rank", "RUN", "--candidates", "uniform:9", "--out", "RUN"], "Is a directory"),
        (["compare", "RUN", "--target", "nddcg@10=0.1"], "did you mean"),
        (["compare", "DATA"], "this is a Dataset"),
        (["sweep", "DATA", "--set", "lr"], "'lr' is no setting"),
        (["sweep", "DATA", "--set", "lr=1,2", "--set", "train.lr=3"], "'lr' is set twice"),
        (["sweep", "DATA", "--set", "model=mf,nfc"], "did you mean 'ncf'"),
        (["sweep", "DATA", "--set", "lr=1,2", "--metric", "ndcg@10/test"], "choose by the rows that judge"),
        (["sweep", "DATA", "--set", "algorithm=fedavg,fedper"], "--set algorithm=fedper"),
        (["sweep", "DATA", "--metric", "bytes/up", "--set", "lr=1"], "no measure to choose by"),
        (["sweep", "DATA", "--metric", "ndcg@20", "--set", "lr=1"], "did you mean 'ndcg@10/valid'"),
        (["sweep", "DATA", "--seeds", "1,b"], "'1,b' are no seeds"),
        (["sweep", "DATA", "--out", "RUN", "--set", "lr=1,2"], "no sweep"),
        (["list", "algoritms"], "algoritms"),
        (["nonsense"], "nonsense"),
    ],
)  # fmt: skip
def test_bad_input_is_one_message_and_exit_code_2_and_nothing_is_written(
    arguments: list[str],
    words: str,
    data: Path,
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"DATA": data, "RUN": trained}
    if "TINY" in arguments:
        places["TINY"] = tiny(tmp_path / "tiny")
    if "UNTRAINED" in arguments:
        manifest = {
            k: v for k, v in Run.open(trained).manifest.items() if k not in ("name", "format")
        }
        places["UNTRAINED"] = Run.create(
            tmp_path / "untrained", {**manifest, "rounds_done": 0}
        ).path
    before = {p: p.read_bytes() for p in sorted(trained.rglob("*")) if p.is_file()}
    there = set(tmp_path.rglob("*"))
    capsys.readouterr()
    assert run(*[places.get(word, word) for word in arguments]) == 2
    message = capsys.readouterr().err
    assert words in message, message
    assert "Traceback" not in message
    assert set(tmp_path.rglob("*")) == there
    assert {p: p.read_bytes() for p in sorted(trained.rglob("*")) if p.is_file()} == before


# --- predict -------------------------------------------------------------------------------------------


def test_a_clients_users_get_the_items_of_the_runs_own_lists_with_titles(
    data: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = Dataset.open(data)
    found = answer(capsys, "predict", trained, "--client", "7", "-k", "4")
    users = dataset.client(7)["user_id"].unique().sort().to_list()
    assert [user["user"] for user in found["users"]] == users
    lists = pl.read_parquet(trained / "recommendations.parquet")
    titles = dict(dataset.items().select("item_id", "title").collect().iter_rows())
    names = dict(dataset.users().select("user_id", "source_id").collect().iter_rows())
    for user in found["users"]:
        own = lists.filter((pl.col("user_id") == user["user"]) & (pl.col("rank") <= 4)).sort("rank")
        assert [item["item"] for item in user["items"]] == own["item_id"].to_list()
        assert [item["score"] for item in user["items"]] == pytest.approx(own["score"].to_list())
        assert [item["title"] for item in user["items"]] == [titles[i] for i in own["item_id"]]
        assert user["source_id"] == names[user["user"]]
        for item in user["items"]:
            assert item["probability"] == pytest.approx(
                1 / (1 + 2.718281828459045 ** -item["score"])
            )


def test_one_user_is_shown_with_what_is_predicted(
    data: Path, ranked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    user = int(Dataset.open(data).client(2)["user_id"][0])
    found = answer(capsys, "predict", ranked, "--client", "2", "--user", str(user), "--data", data)
    (only,) = found["users"]
    assert len(only["items"]) == 10
    assert all(1.0 <= item["rating"] <= 5.0 for item in only["items"])
    assert "probability" not in only["items"][0]
    assert run("predict", ranked, "--client", "2") == 0
    text = capsys.readouterr().out
    assert f"User {user}" in text and "rating" in text and only["items"][0]["title"][:12] in text


# --- compare -------------------------------------------------------------------------------------------


def test_compare_shows_runs_side_by_side_and_draws_them(
    trained: Path, ranked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = ("--target", "loss=0.5", "--target", "ndcg@10=2")
    rows = answer(capsys, "compare", trained, ranked, *target, "--out", tmp_path / "both.png")
    assert [row["run"] for row in rows] == ["likes", "stars"]
    assert (
        rows[0]["final"]["accuracy/valid"] == rows[0]["best"]["accuracy/valid"]["value"]
        or rows[0]["best"]["accuracy/valid"]["round"] < 2
    )
    assert rows[0]["to_target"]["ndcg@10/valid"]["rounds"] is None
    assert (tmp_path / "both.png").read_bytes().startswith(b"\x89PNG")
    assert run("compare", trained, ranked, *target) == 0
    told = capsys.readouterr()
    text = told.out
    assert "the Runs are of different tasks: their numbers cannot be compared" in told.err
    assert "different Datasets" not in told.err
    for words in (
        "likes",
        "stars",
        "fedper two_tower",
        "not reached",
        "ndcg@10/test",
        "To loss/valid of 0.5",
    ):
        assert words in text, words
