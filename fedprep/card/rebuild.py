"""How to build a Dataset again: the command, where a recipe that comes with the package leads to it."""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from fedprep.errors import RecipeError
from fedprep.manifest import NOT_OF_THE_DATA
from fedprep.recipe import load_recipe, parse_recipe, recipe_names

__all__ = ["rebuild_command"]

NAMED_BY_THE_RECIPE = ("items", "pictures")
"""Roles of files that the recipe itself names."""
LONG = 8
"""Settings above which a recipe of its own is easier to read."""


def rebuild_command(manifest: Mapping[str, Any]) -> tuple[str, str]:
    """Returns the shell command that builds the Dataset again, and the recipe file that it needs.

    The recipe file is empty where a packaged recipe with a few settings is the same recipe. Tables that
    change no row (`[validate]`, `[train]`, `[eval]`) are left out.
    """
    wanted = manifest["recipe"]
    given = _given(manifest["source"])
    ways = [
        (name, settings) for name in recipe_names() if (settings := _way(name, wanted)) is not None
    ]
    if ways:
        name, settings = min(ways, key=lambda way: (len(way[1]), way[0]))
        if len(settings) <= LONG:
            chosen = "".join(f" \\\n    --set {shlex.quote(setting)}" for setting in settings)
            return f"fedprep build {name}{given}{chosen}", ""
    return f"fedprep build {shlex.quote(wanted['name'])}.toml{given}", _toml(_own_keys(wanted))


def _given(source: Mapping[str, Any]) -> str:
    if source["synthetic"]:
        return "" if source["name"] == "synthetic" else " --from synthetic"
    own = (file for file in source["files"] if file["role"] not in NAMED_BY_THE_RECIPE)
    return " --from PATH" if any(file["how"] == "by hand" for file in own) else ""


def _way(name: str, wanted: Mapping[str, Any]) -> list[str] | None:
    """Returns the settings that turn a packaged recipe into the wanted one; None where none do."""
    try:
        base = load_recipe(name).to_dict()
    except RecipeError:
        return None
    if base["source"]["name"] != wanted["source"]["name"]:
        return None
    settings = [f"{key}={_setting(value)}" for key, value in _changes(_data(base), _data(wanted))]
    for kept in (settings, [s for s in settings if not s.startswith("name=")]):
        try:
            if _data(load_recipe(name, kept).to_dict()) == _data(wanted):
                settings = kept
            elif kept is settings:
                return None
        except RecipeError:
            return None
    return settings


def _data(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in recipe.items() if key not in NOT_OF_THE_DATA}


def _changes(
    base: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    for key, value in wanted.items():
        before = base.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            yield from _changes(before, value, f"{prefix}{key}.")
        elif value != before:
            yield f"{prefix}{key}", value


def _setting(value: Any) -> str:
    """Returns a value as `--set` reads it: TOML, or a bare word."""
    if not isinstance(value, str):
        return _inline(value)
    try:
        tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        if value and value == value.strip() and "\n" not in value:
            return value
    return _inline(value)


def _own_keys(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the keys of a recipe that are not the defaults."""
    least = {"name": wanted["name"], "source": {"name": wanted["source"]["name"]}}
    default = parse_recipe(least).to_dict()
    tree: dict[str, Any] = json.loads(json.dumps(least))
    for dotted, value in _changes(_data(default), _data(wanted)):
        *parts, last = dotted.split(".")
        table = tree
        for part in parts:
            table = table.setdefault(part, {})
        table[last] = value
    return tree


def _toml(tree: Mapping[str, Any], path: str = "") -> str:
    plain = {key: value for key, value in tree.items() if not isinstance(value, Mapping)}
    lines = [f"{_key(key)} = {_inline(value)}" for key, value in plain.items() if value is not None]
    head = [f"[{path}]", *lines] if path and lines else lines
    tables = [
        _toml(value, f"{path}.{_key(key)}" if path else _key(key))
        for key, value in tree.items()
        if isinstance(value, Mapping) and value
    ]
    return "\n\n".join(part for part in ["\n".join(head), *tables] if part)


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = (f"{_key(key)} = {_inline(inner)}" for key, inner in value.items())
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_inline(inner) for inner in value) + "]"
    return json.dumps(value, ensure_ascii=False)  # strings, numbers and booleans are spelled alike


def _key(key: str) -> str:
    bare = key.replace("-", "").replace("_", "").isalnum() and key.isascii()
    return key if bare else json.dumps(key, ensure_ascii=False)
