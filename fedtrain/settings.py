"""From the table `[train]` of a recipe to a plan, checked key by key."""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import msgspec

from fedprep.errors import RecipeError, nearest
from fedprep.keys import blamed_on, converted, value_of
from fedtrain.plan import Plan

__all__ = ["known_tables", "laid_over", "parse_plan", "plan_defaults", "with_settings"]


def known_tables() -> dict[str, Callable[..., Any]]:
    """Returns the constructor behind each table that a plan may hold: algorithms and models."""
    from fedtrain.algorithms import ALGORITHMS
    from fedtrain.models import MODELS

    return {**ALGORITHMS, **MODELS}


def plan_defaults(algorithm: str) -> Plan:
    """Returns the plan of a recipe that names this algorithm and nothing else.

    Raises:
        RecipeError: no algorithm has that name.
    """
    return parse_plan({"algorithm": algorithm})


def parse_plan(table: Mapping[str, Any], where: str = "", settings: Iterable[str] = ()) -> Plan:
    """Returns the plan that a table `[train]` describes; `Algorithm.defaults` stand in for missing keys.

    Args:
        table: plain values, as TOML gives them, or `Plan.to_dict()`.
        where: the recipe's file, for messages.
        settings: `key=value` that were laid over it: what is wrong with their values is said of them.

    Raises:
        RecipeError: an unknown key, algorithm or model (the nearest known one is named), or a value of
            a wrong kind.
    """
    with blamed_on(settings, "train."):
        return _plan_of(table, where)


def _plan_of(table: Mapping[str, Any], where: str) -> Plan:
    from fedtrain.algorithms import ALGORITHMS
    from fedtrain.models import MODELS

    keys = {field.name for field in msgspec.structs.fields(Plan)} - {"tables"}
    constructors = known_tables()
    own = {key: value for key, value in table.items() if key in keys}
    free = {key: value for key, value in table.items() if key not in keys}
    for key in free:
        if key not in constructors:
            raise RecipeError(
                f"unknown key 'train.{key}' in the recipe",
                where=where,
                hint=nearest(key, keys | set(constructors)),
                key=f"train.{key}",
            )
    tables = {
        name: _keywords(constructors[name], values, name, where) for name, values in free.items()
    }
    name = own.get("algorithm", Plan().algorithm)
    changed: Mapping[str, Any] = {}
    if isinstance(name, str) and name in ALGORITHMS:
        changed = ALGORITHMS[name](**tables.get(name, {})).defaults
    plan: Plan = converted({**changed, **own}, Plan, "train", where)
    for kind, name, known in (
        ("algorithm", plan.algorithm, ALGORITHMS),
        ("model", plan.model, MODELS),
    ):
        if name not in known:
            raise RecipeError(
                f"train.{kind}: there is no {kind} '{name}'",
                where=where,
                hint=nearest(name, known),
                key=f"train.{kind}",
            )
    return msgspec.structs.replace(plan, tables=tables)


def with_settings(table: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """Returns a table `[train]` with `key=value` settings laid over it; the table itself stays as it is.

    Args:
        table: plain values, as TOML gives them.
        settings: such as `"lr=0.1"`, `"train.lr=0.1"` or `"mf.dim=64"`; values are TOML, bare words
            are strings.

    Raises:
        RecipeError: a setting without `=`, or one that goes through a value as if it were a table.
    """
    tree = _copy(table)
    for setting in settings:
        key, equals, text = setting.partition("=")
        *path, last = key.strip().removeprefix("train.").split(".")
        if not equals or not all([*path, last]):
            raise RecipeError(f"'{setting}' is no setting", expected="key=value, such as lr=0.1")
        inner = tree
        for part in path:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise RecipeError(
                    f"'train.{part}' is a value, not a table", where=f"--set {setting}"
                )
        inner[last] = value_of(text)
    return tree


BOUND: Mapping[str, tuple[str, ...]] = {
    "optimizer": ("lr", "lr_user", "lr_item", "lr_head"),
    "model": ("lr", "lr_user", "lr_item", "lr_head"),
    "server_optimizer": ("server_lr", "server_tau", "server_momentum", "server_beta2"),
}
"""Keys that mean something else beside another value of this one."""


def laid_over(
    table: Mapping[str, Any],
    settings: Iterable[str],
    named: Mapping[str, Any] | None = None,
    where: str = "",
) -> tuple[dict[str, Any], str]:
    """Returns a recipe's `[train]` with settings laid over it, without its rates for another optimiser.

    A rate is of the optimiser and the model beside which it was chosen. Where the settings name others, the
    recipe's rates are left out, to be derived anew; those that the settings give themselves stay.

    Args:
        table: the recipe's.
        settings: as for `with_settings`.
        named: more of them, as plain values.
        where: the recipe's file, for messages.

    Returns:
        the table; and what was left out, in words, "" where nothing was.

    Raises:
        RecipeError: of `with_settings` and `parse_plan`.
    """
    settings = list(settings)
    given = with_settings({}, settings) | dict(named or {})
    laid = with_settings(table, settings) | dict(named or {})
    if not (table and given.keys() & (BOUND.keys() | {"algorithm"})):
        return laid, ""
    before, now = parse_plan(table, where), parse_plan(laid, where, settings)
    left: list[str] = []
    for by, keys in BOUND.items():
        was, is_now = getattr(before, by), getattr(now, by)
        gone = [k for k in keys if k in laid and k not in given] if was != is_now else []
        if gone:
            shown = ", ".join(f"{key} = {laid.pop(key)}" for key in gone)
            left.append(f"{shown} (for {by} = {was}, not {is_now})")
    return laid, "; ".join(left)


def _copy(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _copy(value) if isinstance(value, Mapping) else value for key, value in table.items()
    }


def _keywords(
    constructor: Callable[..., Any], values: Any, name: str, where: str
) -> dict[str, Any]:
    """Returns the keywords of a constructor, each of the type that its signature says."""
    if not isinstance(values, Mapping):
        raise RecipeError(
            f"train.{name} is a value, not a table",
            where=where,
            expected=f"[train.{name}] with keys of its own",
            key=f"train.{name}",
        )
    signature = inspect.signature(constructor).parameters
    inner = constructor.func if isinstance(constructor, functools.partial) else constructor
    hints = typing.get_type_hints(
        SimpleNamespace(__annotations__={key: p.annotation for key, p in signature.items()}),
        vars(sys.modules[inner.__module__]),
        include_extras=True,
    )
    for key in values:
        if key not in signature:
            raise RecipeError(
                f"unknown key 'train.{name}.{key}' in the recipe",
                where=where,
                hint=nearest(key, signature) if signature else f"{name} has no keys",
                key=f"train.{name}.{key}",
            )
    return {
        key: converted(value, hints[key], f"train.{name}.{key}", where)
        for key, value in values.items()
    }
