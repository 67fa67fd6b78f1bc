"""Recipes are checked key by key, and say which key was meant."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from fedprep.errors import RecipeError
from fedprep.recipe import (
    ADDED,
    change_partition,
    find_recipe,
    load_recipe,
    parse_recipe,
    recipe_names,
    recipes_folder,
)

MINIMAL: dict[str, Any] = {"name": "x", "source": {"name": "movielens", "edition": "1m"}}

PROMISED = {
    "movielens-100k", "movielens-1m", "movielens-latest-small", "movielens-20m", "movielens-25m",
    "movielens-32m", "amazon", "amazon-2018", "amazon-2014", "yelp", "demo",
}  # fmt: skip


def test_a_minimal_recipe_gets_every_default() -> None:
    recipe = parse_recipe(MINIMAL)
    assert recipe.partition.method == "by_user"
    assert recipe.split.n_test == 1
    assert recipe.embed.text.normalise == "l2"
    assert recipe.clean.threshold == 4.0


def test_a_recipe_survives_the_way_through_plain_values() -> None:
    recipe = load_recipe("demo", ["partition.alpha=0.3"])
    assert parse_recipe(recipe.to_dict()) == recipe


@pytest.mark.parametrize("name", recipe_names())
def test_every_packaged_recipe_loads_and_is_called_like_its_file(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name.startswith(name)
    assert recipe.description


def test_a_name_can_follow_the_category() -> None:
    assert (
        load_recipe("amazon-2018", ["source.category=Gift_Cards"]).name == "amazon-2018-Gift_Cards"
    )


def test_the_promised_recipes_are_there() -> None:
    assert set(recipe_names()) >= PROMISED


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"partition": {"alfa": 1}}, ["partition.alfa", "did you mean 'alpha'?"]),
        ({"partitions": {}}, ["'partitions'", "did you mean 'partition'?"]),
        ({"embed": {"text": {"normalize": "l2"}}}, ["embed.text.normalize", "'normalise'"]),
        (
            {"partition": {"method": "dirichlett"}},
            ["partition.method", "by_user | iid | dirichlet"],
        ),
        ({"partition": {"alpha": 0}}, ["partition.alpha", "from 1e-06"]),
        ({"partition": {"n_clients": "ten"}}, ["partition.n_clients", "`int"]),
        ({"split": {"n_test": -1}}, ["split.n_test", ">= 0"]),
        ({"source": {"edition": "1m"}}, ["name"]),
    ],
)
def test_a_wrong_key_or_value_is_named_with_what_was_expected(
    tree: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe({**MINIMAL, **tree}, where="my.toml")
    message = str(caught.value)
    assert "my.toml" in message
    for word in words:
        assert word in message


def test_settings_are_laid_over_the_file_as_toml_or_bare_words() -> None:
    recipe = load_recipe(
        "movielens-1m",
        [
            "partition.method=dirichlet",
            "partition.alpha=0.3",
            "clean.k_core=5",
            'embed.text.encoder="none"',
        ],
    )
    assert recipe.partition.method == "dirichlet"
    assert recipe.partition.alpha == 0.3
    assert recipe.clean.k_core == 5
    assert recipe.embed.text.encoder == "none"


@pytest.mark.parametrize("setting", ["clean", "=3", "clean.=3", "name.x=3"])
def test_a_setting_that_is_none_is_refused(setting: str) -> None:
    with pytest.raises(RecipeError, match=r"setting|value, not a table|unknown"):
        load_recipe("demo", [setting])


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="did you mean 'movielens-1m'"):
        find_recipe("movielens-1n")


def test_a_recipe_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    with pytest.raises(RecipeError):
        find_recipe("../pyproject")


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no recipe file"):
        load_recipe(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("a = [")
    with pytest.raises(RecipeError, match="no TOML"):
        load_recipe(broken)


def test_a_file_recipe_without_a_name_is_called_like_its_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[source]\nname = "movielens"\nedition = "1m"\n')
    assert load_recipe(tmp_path / "mine.toml").name == "mine"


def test_changing_the_partition_keeps_its_other_keys_and_refuses_other_tables() -> None:
    tree = load_recipe("demo").to_dict()
    changed = change_partition(tree, ["partition.alpha=0.1"])
    assert (changed.method, changed.n_clients, changed.alpha) == ("dirichlet", 10, 0.1)
    with pytest.raises(RecipeError, match="does not concern the partition"):
        change_partition(tree, ["clean.k_core=5"])


def test_the_design_keys_are_all_known() -> None:
    """The keys that DESIGN promises to keep, so that other people's recipes go on working."""
    text = """
    name = "movielens-1m"
    seed = 0
    [source]
    name = "movielens"
    edition = "1m"
    category = "All_Beauty"
    [clean]
    duplicates = "last"
    k_core = 0
    user_core = 0
    item_core = 0
    label = "binary"
    threshold = 4.0
    metadata = "keep"
    [split]
    method = "leave_last_out"
    n_valid = 1
    n_test = 1
    cold_items = "keep"
    [embed.text]
    encoder = "all-MiniLM-L6-v2"
    template = "{title}. {categories}"
    normalise = "l2"
    [embed.image]
    encoder = "none"
    images = "posters.zip"
    normalise = "l2"
    [embed.behavior]
    dim = 32
    normalise = "standardize"
    [partition]
    method = "by_user"
    n_clients = 100
    alpha = 0.5
    on = "label"
    unit = "user"
    min_rows = 1
    [validate]
    fail_on = "fail"
    limits.max_class_share = 0.95
    [train]
    algorithm = "fedavg"
    [eval]
    k = [5, 10, 20]
    """
    assert parse_recipe(tomllib.loads(text)).validate.limits == {"max_class_share": 0.95}


def test_recipes_lie_in_the_package_or_the_checkout() -> None:
    assert (recipes_folder() / "demo.toml").is_file()


def test_every_key_is_documented() -> None:
    text = (Path(__file__).parent.parent / "docs" / "recipes.md").read_text(encoding="utf-8")
    tree = parse_recipe(MINIMAL).to_dict()
    elsewhere = {"items", "synthetic", "limits"}

    def keys(table: dict[str, Any]) -> set[str]:
        inner = [
            keys(v) if isinstance(v, dict) and k not in elsewhere else {k} for k, v in table.items()
        ]
        return set().union(*inner)

    missing = {key for key in keys(tree) if f"{key}`" not in text and f"{key}." not in text}
    assert not missing


def test_keys_that_came_later_are_told_only_where_they_are_set():
    """Else every Dataset would have another id than the one that its recipe gave before."""
    tree = {"name": "x", "source": {"name": "yelp", "items": {"file": "f", "columns": {"item": 0}}}}
    plain = parse_recipe(tree).to_dict()
    for path, keys in ADDED.items():
        table = plain
        for part in path.split("."):
            table = table[part]
        assert not {*keys} & {*table}
    tree["source"]["quote"] = "none"
    assert parse_recipe(tree).to_dict()["source"]["quote"] == "none"
    assert parse_recipe(parse_recipe(tree).to_dict()) == parse_recipe(tree)
