"""What messages say: of a word that nobody knows, of what is to be typed and installed."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

import fedprep
from fedprep.embed.encoders import MODULES, with_all_missing
from fedprep.errors import MissingExtraError, install, nearest, typed
from fedprep.recipe import load_recipe


def test_the_closest_words_are_offered_whatever_their_case() -> None:
    assert nearest("NDGC", ["ndcg", "hr", "mrr"]) == "did you mean 'ndcg'?"


def test_known_words_are_listed_where_none_is_close() -> None:
    assert nearest("zzz", ["hr", "auc"]) == "known: auc, hr"


def test_of_a_thousand_known_words_a_few_are_listed_with_their_number() -> None:
    said = nearest("zzz", (f"model{number:04d}" for number in range(1_000)))
    assert said.startswith("1,000 are known: model0000, model0001, ")
    assert said.endswith("model0019, …")


def test_a_command_is_told_as_it_can_be_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    told = typed("fedeval", "report", Path("my runs/a b"), "--data", Path("-x;y"))
    assert shlex.split(told) == ["fedeval", "report", "my runs/a b", "--data", "./-x;y"]


def test_without_an_active_environment_the_command_is_told_by_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("sys.executable", str(tmp_path / "my env" / "python"))
    assert shlex.split(typed("fedtrain", "run"))[0] == "fedtrain"  # nothing is there
    (tmp_path / "my env").mkdir()
    (tmp_path / "my env" / "fedtrain").touch()
    assert shlex.split(typed("fedtrain", "run")) == [str(tmp_path / "my env" / "fedtrain"), "run"]


def test_extras_are_installed_from_the_checkout_that_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(fedprep.__file__).parent.parent
    words = shlex.split(install("text", "train"))
    assert words[-1] == f"{root}[text,train]" and Path(words[words.index("-c") + 1]).is_file()
    monkeypatch.chdir(root)
    assert install("text").endswith("install -c constraints.txt '.[text]'")


def test_all_that_a_recipe_lacks_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = MissingExtraError("PyTorch is not installed")
    monkeypatch.setattr("fedprep.embed.encoders.find_spec", lambda module: None)
    assert f"[{','.join(MODULES)}]" in str(with_all_missing(first, load_recipe("demo")))
    plain = load_recipe("demo", ["embed.text.encoder=hashing", "embed.image.encoder=none"])
    assert with_all_missing(first, plain) is first
    monkeypatch.setattr("fedprep.embed.encoders.find_spec", lambda module: object())
    assert with_all_missing(first, load_recipe("demo")) is first
