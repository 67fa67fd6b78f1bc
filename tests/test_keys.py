"""Every key has a type and a range: what is beyond is refused at the door, and blamed on who said it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fedprep.errors import RecipeError
from fedprep.keys import LARGEST_SEED, converted, range_of
from fedprep.recipe import (
    Clean,
    Eval,
    Partition,
    Recipe,
    change_partition,
    load_recipe,
    parse_recipe,
)
from fedtrain.plan import Plan
from fedtrain.settings import known_tables, laid_over, parse_plan

MINIMAL: dict[str, Any] = {"name": "x", "source": {"name": "table"}}

EDGES: list[Any] = [
    0, -1, 1, 10**11, 10**12, 2**63, -(2**63) - 1, 10**400, 0.0, -0.0, 0.5, 1e-300, 1e308,
    math.inf, -math.inf, math.nan, True, None, "", "ten", "x" * 100_000, [], [0], [-1], [10**9], [5, 5],
    ["a", "a"], {}, {"a": math.nan}, {"a": {"a": {}}}, [[[]]],
]  # fmt: skip


def keys_of(table: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for field in msgspec.structs.fields(table):
        yield (*path, field.name)
        default = field.default
        if isinstance(default, msgspec.Struct):
            yield from keys_of(type(default), (*path, field.name))


def tree_of(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    for part in reversed(path):
        value = {part: value}
    return dict(value)


def is_within_reason(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(is_within_reason, value.values()))
    if isinstance(value, list):
        return all(map(is_within_reason, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, int) or -(2**63) <= value <= LARGEST_SEED


@pytest.mark.parametrize(
    "path", [*keys_of(Recipe), *(("eval", *p) for p in keys_of(Eval))], ids=".".join
)
def test_an_edge_value_at_a_key_of_a_recipe_is_valid_or_refused(path: tuple[str, ...]) -> None:
    for value in EDGES:
        try:
            recipe = parse_recipe({**MINIMAL, **tree_of(path, value)}, where="mine.toml")
        except RecipeError as error:
            assert error.where == "mine.toml"
            assert len(str(error)) < 2000
        else:
            assert is_within_reason(recipe.to_dict())


TRAIN = [*keys_of(Plan)]


@pytest.mark.parametrize("path", [p for p in TRAIN if p != ("tables",)], ids=".".join)
def test_an_edge_value_at_a_key_of_a_plan_is_valid_or_refused(path: tuple[str, ...]) -> None:
    for value in EDGES:
        try:
            plan = parse_plan(tree_of(path, value), where="mine.toml")
        except RecipeError as error:
            assert error.key.startswith("train")
        else:
            assert is_within_reason(plan.to_dict())


@pytest.mark.parametrize("name", sorted(known_tables()))
def test_an_edge_value_at_a_keyword_of_an_algorithm_or_model_is_valid_or_refused(name: str) -> None:
    import inspect

    for key in [*inspect.signature(known_tables()[name]).parameters, "no_such"]:
        for value in EDGES:
            try:
                plan = parse_plan({name: {key: value}}, where="mine.toml")
            except RecipeError as error:
                assert error.key.startswith(f"train.{name}")
            else:
                assert is_within_reason(plan.to_dict())


def test_every_number_of_every_table_has_bounds() -> None:
    """A new key without a range is found here."""
    for table in (Recipe, Plan, Eval):
        for path in keys_of(table):
            for value in (10**18, -(10**18), 1e300, -1e300):
                tree = tree_of(path, value)
                start = MINIMAL if table is Recipe else {}
                try:
                    whole = converted({**start, **tree}, table)
                except RecipeError:
                    continue
                assert path[-1] == "seed", path
                assert whole


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("partition.alpha", "inf"), ("partition.alpha", "nan"), ("partition.alpha", "1e400"),
        ("partition.alpha", "-0.0"), ("partition.alpha", "1e-400"), ("seed", "-1"),
        ("seed", "99999999999999999999999"), ("seed", "9" * 5000), ("partition.n_clients", "0"),
        ("partition.n_clients", "1000000000000"), ("partition.n_clients", "ten"),
        ("partition.n_clients", "true"), ("eval.k", "[0]"), ("eval.k", "[1000000000]"),
        ("split.n_test", "[" * 2000), ("partition.alfa", "1"),
    ],
)  # fmt: skip
def test_a_value_of_a_setting_is_blamed_on_the_setting(
    tmp_path: Path, key: str, value: str
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[source]\nname = "table"\n')
    with pytest.raises(RecipeError) as caught:
        load_recipe(file, ["clean.k_core=2", f"{key}={value}"])
    assert caught.value.where.startswith(f"--set {key}=")
    assert len(caught.value.where) < 100
    assert caught.value.key == key


def test_a_value_of_the_file_is_blamed_on_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[source]\nname = "table"\n[partition]\nalpha = inf\n')
    with pytest.raises(RecipeError) as caught:
        load_recipe(file, ["partition.k=1"])
    assert caught.value.where == str(file)


def test_settings_of_a_partition_and_of_a_plan_are_blamed_likewise() -> None:
    tree = parse_recipe(MINIMAL).to_dict()
    with pytest.raises(RecipeError) as caught:
        change_partition(tree, ["partition.k=0"])
    assert caught.value.where == "--set partition.k=0"
    for setting in ("mf.dim=0", "train.mf.dim=100000000000", "mf.dim=inf"):
        table, _ = laid_over({}, [setting])
        with pytest.raises(RecipeError) as caught:
            parse_plan(table, "demo", [setting])
        assert caught.value.where == f"--set {setting}"
        assert caught.value.key == "train.mf.dim"


def test_a_message_says_the_range_and_the_meaning() -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe({**MINIMAL, "partition": {"k": 0}})
    assert "from 1 to" in caught.value.expected
    assert "classes" in caught.value.expected
    fields = {f.name: f.type for f in msgspec.structs.fields(Partition)}
    assert range_of(fields["method"]).startswith("by_user | iid")
    assert range_of(msgspec.structs.fields(Clean)[1].type).startswith("a whole number from 0 to")
