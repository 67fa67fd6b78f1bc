"""What there is to choose from: names, one line of what each is, and its paper, from the docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from fedprep.recipe import load_recipe, recipe_names

__all__ = ["CATALOGUES", "Entry", "catalogue"]

Entry = dict[str, str]
"""`about`: one line · `paper`: where it is from, "" where it needs none."""


def catalogue(name: str) -> dict[str, Entry]:
    """Returns each thing of a kind (a key of `CATALOGUES`) by its name."""
    return CATALOGUES[name]()


def _algorithms() -> dict[str, Entry]:
    from fedtrain.algorithms import ALGORITHMS

    return {
        name: {"about": _about(make, ALGORITHMS), "paper": make().reference}
        for name, make in ALGORITHMS.items()
    }


def _models() -> dict[str, Entry]:
    from fedtrain.models import MODELS

    return _told(MODELS)


def _tasks() -> dict[str, Entry]:
    from fedtrain.tasks import TASKS

    return _told({name: task.loss for name, task in TASKS.items()})


def _samplers() -> dict[str, Entry]:
    from fedtrain.samplers import SAMPLERS

    return _told(SAMPLERS)


def _schedules() -> dict[str, Entry]:
    from fedtrain.schedules import SCHEDULES

    found = _told(SCHEDULES)
    return found | {"warmup": {"about": "1, after rounds in which it grows evenly", "paper": ""}}


def _server_optimizers() -> dict[str, Entry]:
    from fedtrain.server_optimizers import SERVER_OPTIMIZERS

    return _told(SERVER_OPTIMIZERS)


def _compressions() -> dict[str, Entry]:
    from fedtrain.compression import COMPRESSIONS

    return _told(COMPRESSIONS)


def _recipes() -> dict[str, Entry]:
    from fedtrain.settings import parse_plan

    found = {}
    for name in recipe_names():
        recipe = load_recipe(name)
        if recipe.train:
            plan = parse_plan(recipe.train, where=name)
            how = f"{plan.algorithm}, {plan.model}, {plan.task}, {plan.rounds} rounds"
            found[name] = {"about": f"{recipe.description} ({how})", "paper": ""}
    return found


def _told(things: Mapping[str, Any]) -> dict[str, Entry]:
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
    "algorithms": _algorithms,
    "models": _models,
    "tasks": _tasks,
    "samplers": _samplers,
    "schedules": _schedules,
    "server-optimizers": _server_optimizers,
    "compressions": _compressions,
    "recipes": _recipes,
}
