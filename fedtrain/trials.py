"""The runs of a sweep: which settings, which seeds, and what the folder of each is called."""

from __future__ import annotations

import hashlib
import json
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fedprep.errors import RecipeError
from fedtrain.plan import Plan
from fedtrain.settings import laid_over, parse_plan

__all__ = ["Trial", "alternatives", "named_trials", "read_configs", "trials_of"]

LONGEST_NAME = 80


@dataclass(frozen=True)
class Trial:
    """One run of a sweep: its folder's name, its settings as `key=value`, its seed, its plan.

    config: the name of the settings, "" where they are a point of a grid.
    """

    name: str
    settings: tuple[str, ...]
    seed: int
    plan: Plan = field(repr=False)
    config: str = ""


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


def read_configs(path: str | Path) -> dict[str, dict[str, Any]]:
    """Returns the named settings of a TOML file: a table for each, with keys of `[train]`.

    Raises:
        RecipeError: no such file, no TOML, no table, a value that is none, or a name that is no folder's.
    """
    where = str(path)
    expected = "a table for each setting: [slow], then lr = 0.01"
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"the settings cannot be read: {error.strerror}", where=where) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"the settings are no TOML: {error}", where=where) from None
    loose = [key for key, value in tables.items() if not isinstance(value, dict)]
    if loose or not tables:
        what = f"'{loose[0]}' stands in no table" if loose else "no setting is there"
        raise RecipeError(what, where=where, expected=expected)
    for name in tables:
        if not re.fullmatch(r"[\w-][\w.+-]*", name) or len(name) > LONGEST_NAME:
            raise RecipeError(
                f"{name!r} is no name for a setting",
                where=where,
                expected=f"letters, digits and _ . + -, at most {LONGEST_NAME} of them",
            )
    folded = [name.casefold() for name in tables]
    twice = next((name for name in tables if folded.count(name.casefold()) > 1), None)
    if twice is not None:
        raise RecipeError(f"'{twice}' is there twice, but for case: a folder each", where=where)
    return tables


def named_trials(
    table: Mapping[str, Any],
    configs: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
    where: str = "",
) -> list[Trial]:
    """Returns the runs of named settings, each with every seed.

    Args:
        table: the recipe's `[train]`.
        configs: of `read_configs`.
        seeds: of the runs.
        where: the file, for messages.

    Raises:
        RecipeError: a key that no plan has, or a value that is none of its; the setting is named.
    """
    trials = []
    for name, config in configs.items():
        place = f"{where} [{name}]"
        settings = tuple(f"{key}={_told(value)}" for key, value in _leaves(config))
        plan = parse_plan(laid_over(table, settings, where=place)[0], where=place)
        trials += [Trial(f"{name}-{seed}", settings, seed, plan, name) for seed in seeds]
    return trials


def _leaves(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _told(value: Any) -> str:
    """Returns a plain value as TOML text, as JSON writes it too."""
    if isinstance(value, str | bool | int | float) or (
        isinstance(value, list) and all(isinstance(v, str | bool | int | float) for v in value)
    ):
        return (
            json.dumps(value, ensure_ascii=False).replace("NaN", "nan").replace("Infinity", "inf")
        )
    raise RecipeError(
        f"{value!r} is a value that no key of [train] has", expected="texts, numbers, lists of them"
    )


def _name(settings: Sequence[str], seed: int) -> str:
    """Returns a folder's name: readable, and another one for other settings."""
    whole = ",".join([*settings, f"seed={seed}"])
    plain = re.sub(r"[^\w.,=+-]", "", whole)
    if plain == whole and len(plain) <= LONGEST_NAME:
        return plain
    digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
    return f"{plain[:LONGEST_NAME]}-{digest}"
