"""Errors that a user can read, one tree.

    FedprepError                  (Exception)
    ├── RecipeError               (ValueError)   a recipe key or value is wrong
    ├── FetchError                (OSError)      a raw file cannot be had
    │   └── ChecksumError                        it can, but its bytes are not the official ones
    ├── SourceError               (ValueError)   raw files do not hold what their format promises
    ├── EmptyDataError            (ValueError)   a stage left no row
    ├── PartitionError            (ValueError)   the clients asked for cannot be made
    ├── EncoderError              (RuntimeError) an encoder cannot be loaded or gives nonsense
    ├── MissingExtraError         (ImportError)  an optional package is not installed
    ├── EvaluationError           (ValueError)   recommendations, truth or a metric cannot be used as asked
    ├── TrainingError             (ValueError)   a run cannot be done as asked, or went wrong
    ├── DatasetError              (ValueError)   a directory is not a Dataset, or a broken one
    └── OutputError               (OSError)      the result cannot be written where it was asked

The command line prints `str(error)` and exits with 2: the text must stand alone.
"""

from __future__ import annotations

import difflib
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "ChecksumError",
    "DatasetError",
    "EmptyDataError",
    "EncoderError",
    "EvaluationError",
    "FedprepError",
    "FetchError",
    "MissingExtraError",
    "OutputError",
    "PartitionError",
    "RecipeError",
    "SourceError",
    "TrainingError",
    "install",
    "nearest",
    "typed",
]


class FedprepError(Exception):
    """Something the user can mend. Says what is wrong, where, what was expected, and a way out.

    Args:
        what: one sentence: what is wrong, with counts.
        where: file, line, column, recipe key.
        expected: what would have been right.
        hint: what to do, as a command or a setting where there is one.
    """

    def __init__(self, what: str, *, where: str = "", expected: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.expected = expected
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.what]
        lines += [f"  where: {self.where}"] if self.where else []
        lines += [f"  expected: {self.expected}"] if self.expected else []
        lines += [f"  hint: {self.hint}"] if self.hint else []
        return "\n".join(lines)


class RecipeError(FedprepError, ValueError):
    """A recipe key or value is wrong; `key` is that key, such as `partition.alpha`, "" where it is none."""

    def __init__(
        self, what: str, *, where: str = "", expected: str = "", hint: str = "", key: str = ""
    ) -> None:
        super().__init__(what, where=where, expected=expected, hint=hint)
        self.key = key


class FetchError(FedprepError, OSError):
    """A raw file cannot be had: no network, no mirror holds it, a form must be signed."""


class ChecksumError(FetchError):
    """A raw file's bytes are not the official ones."""


class SourceError(FedprepError, ValueError):
    """Raw files do not hold what their format promises."""


class EmptyDataError(FedprepError, ValueError):
    """A stage left no row."""


class PartitionError(FedprepError, ValueError):
    """The clients asked for cannot be made from these rows."""


class EncoderError(FedprepError, RuntimeError):
    """An encoder cannot be loaded, or its output cannot be used."""


class MissingExtraError(FedprepError, ImportError):
    """An optional package is not installed."""


class EvaluationError(FedprepError, ValueError):
    """Recommendations, truth, a protocol or a metric's name cannot be used as asked."""


class TrainingError(FedprepError, ValueError):
    """A run cannot be done as asked, or its numbers went wrong."""


class DatasetError(FedprepError, ValueError):
    """A directory is not a Dataset, is broken, or was written by a newer version."""


class OutputError(FedprepError, OSError):
    """The result cannot be written where it was asked."""


MANY, SOME = 60, 20
"""Known words that are too many to be listed, and how many are listed then."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns ``"did you mean 'x'?"`` for the closest known word, else the known words, the first of many."""
    options = sorted(known)
    # Case is the commonest slip; difflib would rank it below a wrong word of the same length.
    folded = {option.lower(): option for option in options}
    close = difflib.get_close_matches(word.lower(), list(folded), n=3, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(f"'{folded[c]}'" for c in close) + "?"
    if len(options) > MANY:
        return f"{len(options):,} are known: {', '.join(options[:SOME])}, …"
    return "known: " + ", ".join(options)


def typed(command: str, *arguments: object) -> str:
    """Returns a command of ours as it can be typed here: paths quoted, found without an active environment.

    Args:
        command: `fedprep`, `fedtrain` or `fedeval`.
        arguments: words and paths, in order.
    """
    if shutil.which(command) is None:
        beside = Path(sys.executable).with_name(command)  # not resolved: of this environment
        if beside.is_file():
            command = str(beside)
    words = (
        f"./{a}" if isinstance(a, Path) and str(a).startswith("-") else str(a) for a in arguments
    )
    return shlex.join([command, *words])


def install(*extras: str) -> str:
    """Returns the command that installs extras here: fedprep is on no package index, a checkout has it.

    Args:
        extras: of `[project.optional-dependencies]`, such as `text`.
    """
    pip = "pip" if shutil.which("pip") else f"{shlex.quote(sys.executable)} -m pip"
    root, names = Path(__file__).parent.parent, ",".join(extras)
    if not (root / "pyproject.toml").is_file():
        return f"{pip} install -c constraints.txt '.[{names}]' in a checkout of fedprep"
    at = Path() if root == Path.cwd() else root
    constraints, what = shlex.quote(str(at / "constraints.txt")), shlex.quote(f"{at}[{names}]")
    return f"{pip} install -c {constraints} {what}"
