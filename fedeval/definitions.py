"""The metrics as a reader meets them: name, definition, which way is good."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from typing import Any

from fedeval.metrics import METRICS, Ask
from fedeval.policy import PRESETS
from fedprep.errors import EvaluationError, nearest

__all__ = ["NOTATION", "definitions", "entry", "needs_notation"]

NOTATION = (
    "In these, rel_r is 1 where the item at rank r is relevant to the user and 0 where it is not, g_r its "
    "relevance, R the number of the user's relevant items, and D(r) = 1 / log2(r + 1). The value of a system "
    "is the mean over users where nothing else is said."
)
"""What the letters in definitions stand for."""


def needs_notation(definitions: Iterable[str]) -> bool:
    """Says whether any of these definitions is a formula of such letters."""
    return any(re.search(r"\b(rel_r|g_r|D\(r\)|R\b)", text) for text in definitions)


def definitions(names: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Returns the metrics by name: title, definition, text (the whole docstring), cut, better, equals.

    `equals` has, by preset, what another library calls it, its version, and the policy under which we equal
    it.

    Args:
        names: those wanted, with or without a cut-off and parameter; empty: all.

    Raises:
        EvaluationError: no such metric.
    """
    wanted = [re.split("[@.]", name.strip().lower())[0] for name in names] or list(METRICS)
    for name in wanted:
        if name not in METRICS:
            raise EvaluationError(f"no metric is called '{name}'", hint=nearest(name, METRICS))
    return {
        name: {
            "title": METRICS[name].title,
            "definition": METRICS[name].definition,
            "text": inspect.getdoc(METRICS[name].function) or "",
            "cut": METRICS[name].cut,
            "better": METRICS[name].better,
            "equals": _equals(name),
        }
        for name in wanted
    }


def _equals(name: str) -> dict[str, dict[str, Any]]:
    return {
        preset: {
            "name": theirs,
            "ours": ours,
            "version": found.version,
            "policy": found.policy.changes(),
        }
        for preset, found in PRESETS.items()
        for theirs, ours in found.names.items()
        if ours.partition(".")[0] == name
    }


def entry(ask: Ask) -> dict[str, Any]:
    """Returns a metric that was asked for as an assessment tells it."""
    metric = ask.metric
    cut = "" if ask.k is None else f"@{ask.k}"
    parameter = "" if ask.parameter is None else f" ({metric.parameter} = {ask.parameter:g})"
    return {
        "name": ask.text,
        "family": ask.text.partition("@")[0],
        "k": ask.k,
        "title": f"{metric.title}{parameter}{cut}",
        "definition": metric.definition,
        "better": metric.better,
    }
