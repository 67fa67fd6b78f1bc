"""The runs of a sweep: which settings, which seeds, and what the folder of each is called."""

from __future__ import annotations

import hashlib
import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedprep.errors import RecipeError
from fedtrain.plan import Plan
from fedtrain.settings import laid_over, parse_plan

__all__ = ["Trial", "alternatives", "trials_of"]

LONGEST_NAME = 80


@dataclass(frozen=True)
class Trial:
    """One run of a sweep: its folder's name, its settings as `key=value`, its seed, its plan."""

    name: str
    settings: tuple[str, ...]
    seed: int
    plan: Plan = field(repr=False)


def alternatives(settings: Iterable[str]) -> dict[str, list[str]]:
    """Returns the values of each key of `key=a,b,c`, as TOML text, in the order given.

    Commas part alternatives as they part the values of a TOML list: `lr=0.1,0.3` are two numbers,
    `loggers.names=["a","b"],[]` two lists. Where that is no TOML they part bare words: `model=mf,ncf`.

    Raises:
        RecipeError: a setting without `=`, without a value, or a key that is given twice.
    """
    found: dict[str, list[str]] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip().removeprefix("train.")
        if not (equals and key and text.strip()):
            raise RecipeError(f"'{setting}' is no setting", expected="key=a,b, such as lr=0.1,0.3")
        if key in found:
            raise RecipeError(
                f"'{key}' is set twice", where=f"--set {setting}", hint=f"--set {key}=a,b"
            )
        try:
            values = [json.dumps(value) for value in tomllib.loads(f"v = [{text}]")["v"]]
        except (tomllib.TOMLDecodeError, TypeError):
            values = [word.strip() for word in text.split(",")]
        if not all(values):
            raise RecipeError(f"'{setting}' has an empty alternative", where=f"--set {setting}")
        found[key] = list(dict.fromkeys(values))
    return found


def trials_of(
    table: Mapping[str, Any],
    axes: Mapping[str, Sequence[str]],
    seeds: Sequence[int],
    *,
    n_random: int | None = None,
    draw_seed: int = 0,
    where: str = "",
) -> list[Trial]:
    """Returns the runs of a grid, or of `n_random` distinct points of it, each with every seed.

    Args:
        table: the recipe's `[train]`.
        axes: of `alternatives`.
        seeds: of the runs.
        n_random: how many points; None: all of them, the last key fastest.
        draw_seed: which points are drawn.
        where: the recipe, for messages.

    Raises:
        RecipeError: a setting that no plan has; it is named.
    """
    n_points = math.prod(len(values) for values in axes.values())
    if n_random is None or n_random >= n_points:
        points = range(n_points)
    else:
        rng = np.random.default_rng([draw_seed, n_points])
        points = rng.choice(n_points, n_random, replace=False).tolist()
    shape = [len(values) for values in axes.values()]
    trials = []
    for point in points:
        places = np.unravel_index(point, shape) if shape else ()
        settings = tuple(
            f"{key}={values[int(place)]}"
            for (key, values), place in zip(axes.items(), places, strict=True)
        )
        whole = " ".join([where, *settings])
        plan = parse_plan(
            laid_over(table, settings, where=whole)[0], where=whole, settings=settings
        )
        trials += [Trial(_name(settings, seed), settings, seed, plan) for seed in seeds]
    return trials


def _name(settings: Sequence[str], seed: int) -> str:
    """Returns a folder's name: readable, and another one for other settings."""
    whole = ",".join([*settings, f"seed={seed}"])
    plain = re.sub(r"[^\w.,=+-]", "", whole)
    if plain == whole and len(plain) <= LONGEST_NAME:
        return plain
    digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
    return f"{plain[:LONGEST_NAME]}-{digest}"
