"""Columns of foreign tables, as flags name them: for all tables, or for one (`--columns`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

__all__ = ["columns_of_each", "columns_of_truth"]

LISTS = {"user": "user_id", "item": "item_id", "score": "score", "rank": "rank"}
"""Words for columns of recommendations, as flags and `--columns` have them, to our names."""

TRUTH = {
    "user": "user_id",
    "item": "item_id",
    "relevance": "relevance",
    "rating": "rating",
    "label": "label",
}
"""The same for the truth."""

NAME = "truth"
"""What `--columns` calls the table of truth."""


def columns_of_each(
    given: Mapping[str, Any], systems: Mapping[str, Any]
) -> dict[str, dict[str, str]]:
    """Returns, for each system, our column names to its own: what flags say of every table, then `--columns`.

    Raises:
        EvaluationError: `--columns` cannot be read, or names no system.
    """
    from fedeval.tables import names_there

    of_truth = NAME if given.get("truth") is not None else ""
    said = {name: found for name, found in _said(given, systems).items() if name != of_truth}
    flags = {ours: given[flag] for flag, ours in LISTS.items() if given.get(flag)}
    found: dict[str, dict[str, str]] = {}
    there: set[str] = set()
    if flags and of_truth:
        wanted: dict[str, str] = {ours: flags[ours] for ours in flags if ours.endswith("_id")}
        there |= names_there(given["truth"], "truth", wanted)[1]
    for name, path in systems.items():
        kept, has = names_there(path, "recommendations", flags) if flags else ({}, set())
        found[name], there = kept | said.get(name, {}), there | has
    for ours, column in flags.items():
        if column not in there:  # nobody's: whoever reads the tables says so
            found = {name: {ours: column} | columns for name, columns in found.items()}
    return found


def columns_of_truth(given: Mapping[str, Any], systems: Collection[str]) -> dict[str, str]:
    """Returns the same for a file of truth.

    Raises:
        EvaluationError: `--columns` cannot be read.
    """
    if given.get("truth") is None:
        return {}
    from fedeval.tables import names_there

    flags = {ours: given[flag] for flag, ours in TRUTH.items() if given.get(flag)}
    kept = names_there(given["truth"], "truth", flags)[0] if flags else {}
    if "relevance" in flags:
        kept["relevance"] = flags["relevance"]  # said of the truth alone, and not to be passed over
    return kept | _said(given, systems).get(NAME, {})


def _said(given: Mapping[str, Any], systems: Collection[str]) -> dict[str, dict[str, str]]:
    """Returns what each `--columns NAME:user=uid,item=iid` says, by name."""
    from fedprep.errors import EvaluationError, nearest

    has_truth = given.get("truth") is not None
    names = [*systems, NAME] if has_truth else [*systems]
    found: dict[str, dict[str, str]] = {}
    for text in given.get("columns", ()):
        name = max((n for n in names if text.startswith(f"{n}:")), key=len, default="")
        if not name:
            raise EvaluationError(
                f"--columns '{text}' names no system",
                expected="NAME:user=COLUMN,item=COLUMN with a name of " + ", ".join(names),
                hint=nearest(text.partition(":")[0], names),
            )
        if names.count(name) > 1:
            raise EvaluationError(
                f"--columns '{text}' may mean the system, or the table of truth",
                hint="name the system: other=PATH",
            )
        known = TRUTH if name == NAME and has_truth else LISTS
        for pair in text[len(name) + 1 :].split(","):
            word, _, column = pair.strip().partition("=")
            if word not in known or not column:
                raise EvaluationError(
                    f"--columns '{text}' has '{pair.strip()}'",
                    expected=", ".join(f"{word}=COLUMN" for word in known),
                    hint=nearest(word, known),
                )
            found.setdefault(name, {})[known[word]] = column
    return found
