"""The documents are true: their commands exist, their recipes parse, their Python runs, their links lead."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import built
import click
import msgspec
import polars as pl
import pytest

import fedeval.cli
import fedprep.cli
import fedtrain.cli
from fedeval.baselines import BASELINES
from fedeval.metrics import METRICS
from fedprep.card import write_card
from fedprep.checks import CHECKS
from fedprep.dataset import Dataset
from fedprep.faults import FAULTS
from fedprep.recipe import Recipe, load_recipe, parse_recipe, recipe_names
from fedprep.sources.synthetic import faults as raw
from fedtrain.models import MODELS
from fedtrain.plan import Plan
from fedtrain.settings import parse_plan, with_settings
from fedtrain.train import train

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "data_cards/*/*.md", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
)
COMMANDS: dict[str, click.Group] = {
    "fedprep": fedprep.cli.command, "fedtrain": fedtrain.cli.command, "fedeval": fedeval.cli.command
}  # fmt: skip
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`((?:fedprep|fedtrain|fedeval) [^`]+)`")
START = re.compile(r"^[\s$#-]*(?:run: |entry: )?((?:\S*/)?(?:fedprep|fedtrain|fedeval) )")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path, *languages: str) -> list[str]:
    return [
        body for language, body in FENCED.findall(path.read_text("utf-8")) if language in languages
    ]


def commands_of(text: str) -> Iterator[list[str]]:
    """Yields the words of each of our commands in a script, a workflow or the comments of a recipe."""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        for part in line.split(" && "):
            if found := START.match(part):
                words = shlex.split(part[found.start(1) :], comments=True)
                yield [Path(words[0]).name, *words[1:]]


def parsed(words: list[str]) -> click.Context:
    """Returns the context of a command line, options read and nothing run.

    Raises:
        click.UsageError: a subcommand, an option or a value that there is not.
    """
    group = COMMANDS[words[0]]
    with group.make_context(words[0], words[1:]) as context:
        name, command, rest = group.resolve_command(context, words[1:])
        assert name is not None and command is not None
        return command.make_context(name, rest, parent=context)


def lines_of_documents() -> Iterator[Any]:
    shells = ("sh", "bash", "console", "yaml", "")
    places = [(path, body) for path in PAGES for body in blocks(path, *shells)]
    places += [(path, path.read_text("utf-8")) for path in sorted(ROOT.glob("recipes/*.toml"))]
    places.append((ROOT / "Makefile", (ROOT / "Makefile").read_text("utf-8")))
    for path, body in places:
        for words in commands_of(body):
            yield pytest.param(words, id=f"{name_of(path)}: {' '.join(words)[:70]}")


def examples_of_help() -> Iterator[Any]:
    for name, group in COMMANDS.items():
        for command in group.commands.values():
            yield pytest.param(command, id=f"{name} {command.name}")


@pytest.mark.parametrize("command", list(examples_of_help()))
def test_every_command_has_an_example_in_its_help_that_its_options_know(
    command: click.Command,
) -> None:
    examples = list(commands_of((command.help or "").partition("Examples:")[2]))
    assert any(words[1] == command.name for words in examples)
    for words in examples:
        parsed(words)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_help_says_what_exit_codes_mean_and_how_to_complete_words(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = " ".join((COMMANDS[name].help or "").split())
    assert "Exit codes: 0 fine, 1 " in text
    variable = f"_{name.upper()}_COMPLETE"
    assert f'eval "$({variable}=bash_source {name})"' in text
    monkeypatch.setenv(variable, "zsh_source")
    with pytest.raises(SystemExit) as done:
        COMMANDS[name].main(args=[], prog_name=name, standalone_mode=False)
    assert done.value.code == 0
    assert f"#compdef {name}" in capsys.readouterr().out


@pytest.mark.parametrize("command", list(examples_of_help()))
def test_options_are_told_in_one_voice(command: click.Command) -> None:
    for option in command.params:
        if isinstance(option, click.Option) and option.help:
            assert option.help.endswith("."), (command.name, option.name)
            assert not option.help.startswith(("Of ", "Where to", "The file")), (
                command.name,
                option.name,
            )
            assert len(option.help.split()) > 1 and option.help[0].isupper(), (
                command.name,
                option.name,
            )


@pytest.mark.parametrize("words", list(lines_of_documents()))
def test_every_command_line_of_the_documents_is_one_that_the_commands_know(
    words: list[str],
) -> None:
    context = parsed(words)
    settings = context.params.get("settings", ())
    if words[0] == "fedprep" and context.params.get("recipe") in recipe_names():
        load_recipe(context.params["recipe"], settings)
    elif words[0] == "fedtrain" and context.info_name == "run":
        flags = {key: value for key, value in context.params.items() if value is not None}
        table = with_settings({}, settings) | {key: flags[key] for key in PLANNED & flags.keys()}
        assert isinstance(parse_plan(table, where=" ".join(words)), Plan)


PLANNED = {"algorithm", "model", "task", "rounds", "clients_per_round"}


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_commands_inside_sentences_exist(path: Path) -> None:
    for span in SPAN.findall(FENCED.sub("", path.read_text("utf-8"))):
        words = shlex.split(" ".join(span.split()))
        if len(words) > 1 and "…" not in span:
            try:
                parsed(words)
            except click.MissingParameter:  # a sentence may leave arguments out
                continue


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_recipes_of_the_documents_have_keys_that_there_are(path: Path) -> None:
    for body in blocks(path, "toml"):
        table = tomllib.loads(body)
        if {"project", "superlink"} & table.keys():  # Flower's own files
            continue
        parse_plan(dict(table.pop("train", {})), where=name_of(path))
        source = {"name": "movielens", "edition": "1m"}
        parse_recipe({"name": "of-the-page", "source": source} | table)


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_lead_to_files_that_are_there(path: Path) -> None:
    text = FENCED.sub("", path.read_text("utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        place, _, anchor = target.partition("#")
        if "://" in place or place.startswith("mailto:"):
            continue
        linked = (path.parent / place).resolve() if place else path
        assert linked.exists(), f"{name_of(path)} links to {target}"
        if anchor:
            assert anchor in anchors(linked), f"{name_of(path)} links to {target}"


def anchors(path: Path) -> set[str]:
    """Returns the anchors that forges give to the headings of a page."""
    found = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in found)
    return {text.strip().replace(" ", "-") for text in words}


def test_every_page_is_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    fresh = {ROOT / "README.md"}
    while fresh:
        page = fresh.pop()
        reached.add(page)
        for place in re.findall(r"\]\(([^)#\s]+\.md)", page.read_text("utf-8")):
            if "://" not in place:
                fresh |= {(page.parent / place).resolve()} - reached
    assert not set((ROOT / "docs").glob("*.md")) - reached


# --- what is named ---------------------------------------------------------------------------------------


def keys_of(struct: type[msgspec.Struct], path: str = "") -> Iterator[str]:
    for field in msgspec.structs.fields(struct):
        yield path + field.name
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from keys_of(field.type, f"{path}{field.name}.")


def test_what_goes_wrong_is_answered_by_things_that_there_are() -> None:
    page = FENCED.sub("", (ROOT / "docs" / "troubleshooting.md").read_text("utf-8"))
    known = {
        *keys_of(Recipe),
        *keys_of(Plan),
        *CHECKS,
        *METRICS,
        *BASELINES,
        *MODELS,
        *FAULTS,
        *raw.FAULTS,
    }
    known |= {
        "constant",
        "memoriser",
        "size_gini",
        "FEDPREP_CACHE",
        "FEDPREP_DEBUG",
        "FEDPREP_MIRROR",
    }
    values = {
        "l2",
        "standardize",
        "none",
        "hashing",
        "classes",
        "implicit",
        "binary",
        "rating",
        "uniform",
    }
    values |= {"bpr", "softmax", "contrastive", "global_time", "runs/books", "fedeval", "1", "0"}
    measures = re.compile(r"(accuracy|rmse)/[a-z_0-9/]+")
    for span in re.findall(r"`([^`]+)`", page):
        word = " ".join(span.split())
        if word.split()[0] in COMMANDS or word.startswith(("pip install", "--", "'fedprep[")):
            continue
        assert word in known | values or measures.fullmatch(word), word
    for option in re.findall(r"`(--[a-z-]+)", page):
        commands = [command for group in COMMANDS.values() for command in group.commands.values()]
        assert any(option in p.opts for command in commands for p in command.params), option
    for extra in re.findall(r"'\.\[(\w+)\]'", page):
        with (ROOT / "pyproject.toml").open("rb") as file:
            assert extra in tomllib.load(file)["project"]["optional-dependencies"]


# --- Python ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the documents take it, with two Datasets and a Run."""
    folder = tmp_path_factory.mktemp("documents")
    built.write_built(folder / "datasets" / "demo")
    shutil.copytree(folder / "datasets" / "demo", folder / "datasets" / "movielens-1m")
    truth = pl.read_parquet(folder / "datasets" / "demo" / "clients" / "part-*.parquet")
    truth.filter(pl.col("split") == "test").select("user_id", "item_id").with_columns(
        rank=pl.lit(1, pl.Int32), score=pl.lit(1.0)
    ).write_parquet(folder / "recs.parquet")
    plan = Plan(rounds=1, clients_per_round=0, threads=1)
    train(Dataset.open(folder / "datasets" / "demo"), plan, folder / "runs" / "demo")
    return folder


def names_given(shop: Path) -> dict[str, Any]:
    """Returns what the blocks take as given: tables of a reader's own, by the names that they use."""
    recs = pl.read_parquet(shop / "recs.parquet")
    truth = recs.select("user_id", "item_id")
    per_user = pl.DataFrame({"user_id": [0, 1], "ndcg@10": [0.5, 1.0]})
    return {
        "recommendations": recs,
        "truth": truth,
        "frame": recs,
        "per_user": per_user,
        "at_each_client": [per_user],
    }


# The tutorial's is run by a test of its own.
PYTHON = [
    pytest.param(path, body, id=f"{name_of(path)} {number}")
    for path in PAGES
    if path.name != "tutorial.md"
    for number, body in enumerate(blocks(path, "python"), 1)
]


@pytest.mark.parametrize(("path", "body"), PYTHON)
def test_python_of_the_documents_runs(
    path: Path, body: str, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shop)
    if path.name == "cards.md":
        pytest.importorskip("mlcroissant", reason="needs the extra `dev`")
        write_card(Dataset.open("datasets/demo"), Path("datasets/demo"))
    tree = ast.parse(body)
    if path.name in NOT_RUN:
        tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    with warnings.catch_warnings():
        if path.name == "cards.md":
            warnings.simplefilter("ignore")  # what mlcroissant warns of is not ours to mend
        exec(compile(tree, name_of(path), "exec"), names_given(shop))


NOT_RUN = {"flower.md"}
"""Starting Ray takes longer than all else here; tests/test_train_flower.py does what this page says."""
