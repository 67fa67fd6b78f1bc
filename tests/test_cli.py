"""The command line: every command says what it is, answers, and fails with one clear message."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click
import pytest

from fedprep.cli import command, main
from fedprep.dataset import Dataset
from fedprep.recipe import recipe_names

SETTINGS = [
    "source.synthetic.n_users=60", "source.synthetic.n_items=40", "source.synthetic.n_interactions=900",
    "source.synthetic.image_size=32", "embed.text.encoder=hashing", "embed.text.dim=16",
    "embed.image.encoder=none",
]  # fmt: skip
BY_COLOUR = ["--set", "partition.method=by_column", "--set", "partition.column=colour"]
OVERRIDES = [part for setting in SETTINGS for part in ("--set", setting)]


def run(*arguments: str | Path) -> int:
    """Runs a command line and returns its exit code."""
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return int(exit_.value.code or 0)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    before = os.environ.get("FEDPREP_CACHE")
    os.environ["FEDPREP_CACHE"] = str(folder / "cache")
    try:
        assert run("build", "demo", "--out", folder / "demo", *OVERRIDES) == 0
    finally:
        if before is not None:
            os.environ["FEDPREP_CACHE"] = before
    return folder / "demo"


def answer(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Any:
    """What a command prints as JSON."""
    capsys.readouterr()
    assert run(*arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", sorted(command.commands))
def test_every_command_has_help_and_stands_in_the_readme(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(name, "--help") == 0
    text = capsys.readouterr().out
    assert len((command.commands[name].help or "").split()) > 2
    for parameter in command.commands[name].params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help, f"{name} {parameter.name}"
    assert f"fedprep {name}" in (Path(__file__).parent.parent / "README.md").read_text(
        encoding="utf-8"
    )
    assert "Usage" in text


def test_list_names_every_recipe_and_each_choice_with_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lists = answer(capsys, "list")
    assert sorted(lists["recipes"]) == recipe_names()
    for name in ("recipes", "sources", "partitions", "encoders", "exports", "faults"):
        assert all(line for line in lists[name].values()), name
    assert run("list", "partitions") == 0
    assert "dirichlet" in capsys.readouterr().out


def test_build_prints_what_it_made(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = answer(capsys, "build", "demo", "--out", tmp_path / "again", *OVERRIDES)
    assert facts["id"] == Dataset.open(demo).id
    assert facts["facts"]["n_interactions"] == 900
    assert facts["partition"]["n_clients"] == 10


def test_clients_and_seed_are_settings_with_their_own_flags(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = answer(
        capsys,
        "build",
        "demo",
        "--out",
        tmp_path / "d",
        "--clients",
        "3",
        "--seed",
        "7",
        *OVERRIDES,
    )
    assert facts["partition"]["n_clients"] == 3
    assert Dataset.open(tmp_path / "d").manifest["recipe"]["seed"] == 7


def test_inspect_tells_of_a_dataset_and_of_a_client(
    demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = answer(capsys, "inspect", demo)
    assert facts["facts"]["n_clients"] == 10
    client = answer(capsys, "inspect", demo, "--client", "3")
    assert client["n_rows"] == Dataset.open(demo).client(3).height
    assert run("inspect", demo) == 0
    text = capsys.readouterr().out
    for words in ("interactions", "Embeddings", "category divergence", "dirichlet, 10 clients"):
        assert words in text
    assert run("inspect", demo, "--client", "3") == 0
    assert "client 3" in capsys.readouterr().out


def test_partition_gives_other_clients(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = answer(
        capsys,
        "partition",
        demo,
        "--out",
        tmp_path / "p",
        "--set",
        "partition.method=iid",
        "--clients",
        "4",
        "--seed",
        "1",
    )
    assert facts["partition"]["method"] == "iid"
    assert facts["partition"]["n_clients"] == 4
    assert Dataset.open(tmp_path / "p").manifest["recipe"]["partition"]["seed"] == 1


def test_sql_answers_in_three_forms(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    query = "select split, count(*) as n from interactions group by split order by n desc"
    assert answer(capsys, "sql", demo, query)[0] == {"split": "train", "n": 780}
    assert run("sql", demo, query, "--csv") == 0
    assert capsys.readouterr().out.startswith("split,n\ntrain,780\n")
    assert run("sql", demo, "select * from items", "--limit", "2") == 0
    assert "38 more rows" in capsys.readouterr().out
    for view in ("items", "users", "clients", "embeddings_text"):
        assert answer(capsys, "sql", demo, f"select count(*) as n from {view}")[0]["n"] > 0


def test_fetch_tells_where_the_files_lie(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = answer(capsys, "fetch", "amazon-2018", "--from", "synthetic", *OVERRIDES[:8])
    assert Path(files["reviews"]["path"]).is_file()


def test_the_licence_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    for shown in (True, False):
        assert run("fetch", "movielens-1m", "--from", "nowhere") == 2
        assert ("may not redistribute" in " ".join(capsys.readouterr().err.split())) == shown


def bad(*arguments: str) -> Any:
    return pytest.param(list(arguments), id=" ".join(arguments)[:60])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["build", "movielens-1n"], "did you mean 'movielens-1m'"),
        (["build", "demo", "--set", "partition.alfa=1"], "did you mean 'alpha'"),
        (["build", "demo", "--set", "partition.method=dirichlett"], "by_user | iid"),
        (["build", "amazon", "--set", "source.category=All_Buety"], "did you mean 'All_Beauty'"),
        (["build", "movielens-1m", "--set", "source.edition=2m"], "no edition is called '2m'"),
        (["build", "movielens-1m", "--from", "nowhere"], "nowhere"),
        (["build", "yelp"], "--from"),
        (["build", "demo", *OVERRIDES, "--clients", "61"], "60 users"),
        (["build", "demo", *OVERRIDES, "--set", "clean.k_core=500"], "k = "),
        (["build", "demo", *OVERRIDES, "--set", "clean.min_rating=9"], "clean.min_rating"),
        (["build", "demo", *OVERRIDES, "--set", "embed.text.template={titel}"], "'title'"),
        (["build", "demo", *OVERRIDES, "--set", "embed.text.encoder=no-such/model"], "weights"),
        (["build", "demo", *OVERRIDES, "--set", 'source.synthetic.faults=["nan"]'], "known"),
        (["build", "demo", *OVERRIDES, "--set", 'source.synthetic.faults=["truncated_gz"]'], "arrive whole"),
        (["build", "demo", "--clients", "0"], "--clients"),
        (["inspect", "nowhere"], "no Dataset at nowhere"),
        (["partition", "nowhere", "--out", "x"], "no Dataset at nowhere"),
        (["nonsense"], "nonsense"),
    ],
)  # fmt: skip
def test_bad_input_is_one_message_and_exit_code_2_and_nothing_is_written(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if arguments[0] == "build":
        arguments = [*arguments, "--out", "out"]
    assert run(*arguments) == 2
    message = capsys.readouterr().err
    assert words in message
    assert "Traceback" not in message
    assert not Path("out").exists()
    assert not Path(".out.building").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["inspect", "--client", "99"], "0 to 9"),
        (["sql", "select * from nothing"], "cannot be run"),
        (["export", "--to", "cvs"], "did you mean 'csv'"),
        (["partition", "--out", "x", "--set", "clean.k_core=3"], "does not concern the partition"),
        (["partition", "--out", "x", *BY_COLOUR], "colour"),
    ],
)  # fmt: skip
def test_bad_questions_to_a_dataset_are_one_message(
    demo: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments[0], demo, *arguments[1:]) == 2
    message = capsys.readouterr().err
    assert words in message
    assert "Traceback" not in message
