"""What there is to choose from: names, one line of what each is, and its paper. Nothing here loads torch."""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fedprep.recipe import load_recipe, recipe_names
from fedtrain.plan import Plan

__all__ = ["CATALOGUES", "Entry", "catalogue", "from_docstrings"]

Entry = dict[str, str]
"""`about`: one line · `paper`: where it is from, "" where it needs none."""


def catalogue(name: str) -> dict[str, Entry]:
    """Returns each thing of a kind (a key of `CATALOGUES`) by its name."""
    return CATALOGUES[name]()


def _of_table(kind: str) -> dict[str, Entry]:
    """Returns what the table says of a kind whose docstrings would take torch to load."""
    text = (Path(__file__).parent / "catalogue.toml").read_text(encoding="utf-8")
    told = tomllib.loads(text)[kind]
    return {name: {"about": about, "paper": paper} for name, (about, paper) in told.items()}


def _tasks() -> dict[str, Entry]:
    from fedtrain.tasks import TASKS

    return from_docstrings({name: task.loss for name, task in TASKS.items()})


def _samplers() -> dict[str, Entry]:
    from fedtrain.samplers import SAMPLERS

    return from_docstrings(SAMPLERS)


def _schedules() -> dict[str, Entry]:
    from fedtrain.schedules import SCHEDULES

    found = from_docstrings(SCHEDULES)
    return found | {"warmup": {"about": "1, after rounds in which it grows evenly", "paper": ""}}


def _compressions() -> dict[str, Entry]:
    from fedtrain.compression import COMPRESSIONS

    return from_docstrings(COMPRESSIONS)


def _recipes() -> dict[str, Entry]:
    found = {}
    for name in recipe_names():
        recipe = load_recipe(name)
        if recipe.train:
            algorithm, model, task, rounds = (
                recipe.train.get(key, getattr(Plan(), key))
                for key in ("algorithm", "model", "task", "rounds")
            )
            how = f"{algorithm}, {model}, {task}, {rounds} rounds"
            found[name] = {"about": f"{recipe.description} ({how})", "paper": ""}
    return found


def from_docstrings(things: Mapping[str, Any]) -> dict[str, Entry]:
    """Returns what the docstrings of things, or of their modules, say."""
    return {
        name: {"about": _about(thing, things), "paper": _paper(thing, things)}
        for name, thing in things.items()
    }


def _about(thing: Any, things: Mapping[str, Any]) -> str:
    """Returns the first sentence of the module where it is the only one, else of its own docstring."""
    module = inspect.getmodule(thing)
    alone = sum(inspect.getmodule(other) is module for other in things.values()) == 1
    text = inspect.getdoc(module if alone else thing) or ""
    words = " ".join(text.partition("\n\n")[0].split()).removeprefix("Returns ").removesuffix(".")
    return words[0].upper() + words[1:] if words[:1].isascii() else words


def _paper(thing: Any, things: Mapping[str, Any]) -> str:
    """Returns the first paper of the thing's docstring, or of its module where it is the only one."""
    module = inspect.getmodule(thing)
    alone = sum(inspect.getmodule(other) is module for other in things.values()) == 1
    texts = [inspect.getdoc(thing) or "", (inspect.getdoc(module) or "") if alone else ""]
    for text in texts:
        if hit := re.search(r"^Reference: (.+?)(?:\n\n|\Z)", text, re.M | re.S):
            words = " ".join(hit[1].split())
            return re.split(r"; |,? (?:algorithm|equations?|section|without) | \(base|\.$", words)[
                0
            ]
    return ""


CATALOGUES: Mapping[str, Callable[[], dict[str, Entry]]] = {
    "algorithms": partial(_of_table, "algorithms"),
    "models": partial(_of_table, "models"),
    "tasks": _tasks,
    "samplers": _samplers,
    "schedules": _schedules,
    "server-optimizers": partial(_of_table, "server-optimizers"),
    "compressions": _compressions,
    "recipes": _recipes,
}
