"""Recipes: a TOML file whose keys say how a Dataset is made, checked key by key.

Every table of the file is one frozen struct below; the fields are the only keys, their types the only
values. `[train]` and `[eval]` are kept as they are, for fedtrain and fedeval to check.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fedprep.errors import RecipeError, nearest
from fedprep.files import checked_name
from fedprep.keys import (
    Above0,
    Count,
    Cut,
    Finite,
    From0,
    Positive,
    Seed,
    Share,
    Width,
    blamed_on,
    converted,
    read_toml,
    value_of,
)

__all__ = [
    "Clean",
    "Embed",
    "EmbedBehavior",
    "EmbedImage",
    "EmbedText",
    "Eval",
    "ItemsTable",
    "Partition",
    "Recipe",
    "Source",
    "Split",
    "Synthetic",
    "Validate",
    "change_partition",
    "date_of",
    "find_recipe",
    "load_recipe",
    "parse_recipe",
    "recipe_names",
    "recipes_folder",
    "seconds_of",
]

Concentration = Annotated[float, Meta(ge=1e-6, le=1e9)]
Exponent = Annotated[float, Meta(ge=1e-6, le=100.0)]
BehaviorWidth = Annotated[int, Meta(ge=0, le=4096)]
ImageSide = Annotated[int, Meta(ge=1, le=8192)]
ImageSize = Annotated[int, Meta(ge=0, le=8192)]
Quote = Literal["auto", "double", "none"]
Decimal = Literal[".", ","]


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One table of a recipe."""


class ItemsTable(Table, frozen=True, kw_only=True):
    """An extra table of items, joined to the source's own on the source id.

    `columns` maps our names (`item`, `title`, `description`, `image`, `plot` …) to the file's column
    names, or to 0-based numbers where the file has no header. `item` is the key. An empty string or
    a value in `missing` becomes null; a column that both tables have takes the extra table's value
    where there is one.
    """

    file: str
    format: Literal["auto", "csv", "jsonl", "parquet"] = "auto"
    separator: str = ","
    header: bool = True
    encoding: str = "utf-8"
    quote: Quote = "auto"
    max_bad_share: Share = 0.01
    columns: dict[str, str | int]
    missing: list[str] = []


class Synthetic(Table, frozen=True, kw_only=True):
    """Size, planted truth and planted faults of the synthetic source."""

    family: Literal["movielens", "amazon", "yelp"] = "amazon"
    n_users: Positive = 600
    n_items: Positive = 300
    n_interactions: Positive = 12_000
    n_topics: Width = 8
    n_factors: Width = 8
    power: Annotated[Exponent, Meta(description="exponent of the popularity law")] = 1.0
    noise: Annotated[From0, Meta(description="deviation of the ratings' noise, in stars")] = 0.5
    drift: Annotated[
        Share, Meta(description="how far tastes move from the first day to the last")
    ] = 0.3
    image_size: ImageSide = 96
    images: Annotated[Share, Meta(description="share of items that have a picture")] = 0.9
    faults: list[str] = []


class Source(Table, frozen=True, kw_only=True):
    """Which raw data."""

    name: Literal["movielens", "amazon", "yelp", "table", "synthetic"]
    edition: str = ""
    category: Annotated[str, Meta(description="amazon")] = ""
    subset: Annotated[
        Literal["", "5core", "all"],
        Meta(description="amazon: which reviews file; empty: the edition's usual one"),
    ] = ""
    file: Annotated[str, Meta(description="table: the interactions; glob patterns allowed")] = ""
    format: Annotated[
        Literal["auto", "csv", "jsonl", "parquet", "sequences"], Meta(description="table")
    ] = "auto"
    separator: Annotated[str, Meta(description="table")] = ","
    header: Annotated[bool, Meta(description="table")] = True
    encoding: Annotated[str, Meta(description="table")] = "utf-8"
    quote: Annotated[Quote, Meta(description="table: whether quotation marks enclose fields")] = (
        "auto"
    )
    decimal: Annotated[
        Decimal, Meta(description="table: the decimal mark of ratings and times")
    ] = "."
    max_bad_share: Annotated[
        Share, Meta(description="of the lines of a file; more stop the build")
    ] = 0.01
    markup: Annotated[
        Literal["clean", "keep"], Meta(description="tags and entities in texts on items")
    ] = "clean"
    time_unit: Annotated[
        Literal["auto", "s", "ms", "us", "ns", "text"], Meta(description="table")
    ] = "auto"
    columns: Annotated[
        dict[str, str | int],
        Meta(description="table: user, item, rating, timestamp → the file's names"),
    ] = {}
    items: ItemsTable | None = None
    synthetic: Synthetic = Synthetic()


class Clean(Table, frozen=True, kw_only=True):
    """What is kept, and what is learned."""

    duplicates: Literal["last", "first", "mean", "max", "min", "sum", "count"] = "last"
    k_core: Count = 0
    user_core: Count = 0
    item_core: Count = 0
    min_rating: Finite | None = None
    max_rating: Finite | None = None
    from_date: Annotated[str, Meta(description="ISO date or date-time, UTC, included")] = ""
    to_date: Annotated[str, Meta(description="likewise, excluded")] = ""
    label: Literal["binary", "classes", "implicit"] = "binary"
    threshold: Annotated[Finite, Meta(description="binary: label 1 from here on")] = 4.0
    metadata: Annotated[Literal["keep", "drop"], Meta(description="items without metadata")] = (
        "keep"
    )


class Split(Table, frozen=True, kw_only=True):
    """Which rows are train, valid and test."""

    method: Literal["leave_last_out", "global_time", "user_ratio", "ratio"] = "leave_last_out"
    n_valid: Annotated[Count, Meta(description="leave_last_out")] = 1
    n_test: Annotated[Count, Meta(description="leave_last_out")] = 1
    valid: Annotated[Share, Meta(description="the other methods: share of rows")] = 0.1
    test: Share = 0.1
    valid_from: Annotated[str, Meta(description="global_time: ISO dates in place of shares")] = ""
    test_from: str = ""
    cold_items: Literal["keep", "drop"] = "keep"


class EmbedText(Table, frozen=True, kw_only=True):
    encoder: Annotated[
        str, Meta(description="any sentence-transformers name or folder | hashing | none")
    ] = "all-MiniLM-L6-v2"
    template: str = "{title}. {categories}"
    max_tokens: Annotated[Count, Meta(description="0: the encoder's own limit")] = 0
    normalise: Literal["l2", "standardize", "whiten", "none"] = "l2"
    whiten_dim: Annotated[
        Count, Meta(description="whiten: 0 keeps as many dimensions as the encoder has")
    ] = 0
    dim: Annotated[Width, Meta(description="hashing: how many features")] = 384
    batch_size: Positive = 64


class EmbedImage(Table, frozen=True, kw_only=True):
    encoder: Annotated[str, Meta(description="any timm name, checkpoint file, or none")] = "none"
    images: Annotated[str, Meta(description='folder, zip, or "urls"')] = ""
    normalise: Literal["l2", "standardize", "whiten", "none"] = "l2"
    whiten_dim: Count = 0
    size: Annotated[ImageSize, Meta(description="pixels a side; 0: the encoder's own")] = 0
    batch_size: Positive = 32
    max_bytes: Annotated[Positive, Meta(description="of one picture")] = 20_000_000
    per_second: Annotated[Above0, Meta(description="urls: requests a second to one host")] = 10.0
    allow_hosts: Annotated[
        list[str], Meta(description="urls: host, or host:port, asked though not public")
    ] = []


class EmbedBehavior(Table, frozen=True, kw_only=True):
    dim: Annotated[BehaviorWidth, Meta(description="0: none")] = 32
    normalise: Literal["standardize", "l2", "none"] = "standardize"


class Embed(Table, frozen=True, kw_only=True):
    text: EmbedText = EmbedText()
    image: EmbedImage = EmbedImage()
    behavior: EmbedBehavior = EmbedBehavior()


class Partition(Table, frozen=True, kw_only=True):
    """Which client holds which rows."""

    method: Literal[
        "by_user",
        "iid",
        "dirichlet",
        "quantity",
        "pathological",
        "by_column",
        "by_cluster",
        "by_time",
    ] = "by_user"
    n_clients: Annotated[Positive | None, Meta(description="all but by_user, by_column")] = None
    alpha: Annotated[Concentration, Meta(description="dirichlet, quantity")] = 0.5
    on: Annotated[Literal["label", "category"], Meta(description="dirichlet, pathological")] = (
        "label"
    )
    law: Annotated[Literal["dirichlet", "power"], Meta(description="quantity")] = "dirichlet"
    exponent: Annotated[Exponent, Meta(description='quantity with law = "power"')] = 1.5
    k: Annotated[Positive, Meta(description="pathological: classes (or categories) a client")] = 2
    column: Annotated[str, Meta(description="by_column: a column of items or users")] = ""
    unit: Literal["user", "interaction"] = "user"
    min_rows: Count = 1
    seed: Annotated[Seed | None, Meta(description="None: the recipe's")] = None


class Validate(Table, frozen=True, kw_only=True):
    fail_on: Literal["fail", "warn", "never"] = "fail"
    limits: dict[str, Finite | bool] = {}


class Eval(Table, frozen=True, kw_only=True):
    """What fedeval measures, where nobody says otherwise."""

    metrics: list[str] = []
    k: Annotated[list[Cut], Meta(description="cut-offs, each from 1")] = []
    baselines: list[str] = []


class Recipe(Table, frozen=True, kw_only=True):
    """A whole recipe, every key with its value.

    `{category}` and `{edition}` in the name and description of a recipe file stand for the source's.
    """

    name: str
    seed: Seed = 0
    description: str = ""
    source: Source
    clean: Clean = Clean()
    split: Split = Split()
    embed: Embed = Embed()
    partition: Partition = Partition()
    validate: Validate = Validate()
    train: dict[str, Any] = {}
    eval: dict[str, Any] = {}

    def to_dict(self) -> dict[str, Any]:
        """Returns the recipe as plain dicts and lists, ready for JSON.

        Keys that came later are left out where they have their default value: a recipe that does not
        set them makes the Dataset, id included, that it made before there were such keys.
        """
        builtins: dict[str, Any] = msgspec.to_builtins(self)
        for path, keys in ADDED.items():
            table, tree = _at(self, path), _at(builtins, path)
            if table is None:
                continue
            defaults = {
                f.name: f.default if f.default_factory is msgspec.NODEFAULT else f.default_factory()
                for f in msgspec.structs.fields(table)
            }
            for key in keys:
                if getattr(table, key) == defaults[key]:
                    del tree[key]
        return builtins


ADDED: Mapping[str, tuple[str, ...]] = {
    "source": ("quote", "decimal", "max_bad_share", "markup"),
    "source.items": ("quote", "max_bad_share"),
    "embed.image": ("allow_hosts",),
}
"""Keys that came after the first manifests were written, by their table."""


def _at(tree: Any, path: str) -> Any:
    """Returns the table at a dotted path, of structs or of dicts; None where there is none."""
    for part in path.split("."):
        if tree is not None:
            tree = tree.get(part) if isinstance(tree, Mapping) else getattr(tree, part)
    return tree


def recipes_folder() -> Path:
    """Returns the folder of the recipes that come with the package (wheel or checkout)."""
    packaged = Path(__file__).parent / "recipes"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "recipes"


def recipe_names() -> list[str]:
    """Returns the names of the recipes that come with the package."""
    return sorted(path.stem for path in recipes_folder().glob("*.toml"))


def find_recipe(name: str | Path) -> Path:
    """Returns the path of a recipe: a TOML file, or the name of one that comes with the package.

    Raises:
        RecipeError: there is none of that name.
    """
    path = Path(name)
    if path.suffix == ".toml":
        if path.is_file():
            return path
        raise RecipeError(
            f"no recipe file {path}", hint="`fedprep list` names the recipes that come with it"
        )
    packaged = recipes_folder() / f"{name}.toml"
    if packaged.is_file() and path.name == str(name):
        return packaged
    raise RecipeError(f"no recipe is called '{name}'", hint=nearest(str(name), recipe_names()))


def load_recipe(name: str | Path, settings: Iterable[str] = ()) -> Recipe:
    """Returns the recipe of that name or file, with `key=value` settings laid over it.

    Args:
        name: a TOML file, or the name of a recipe that comes with the package.
        settings: such as `"partition.alpha=0.3"`; values are TOML, bare words are strings.

    Raises:
        RecipeError: no such recipe, TOML that cannot be read, an unknown key or a value of a wrong kind.
    """
    path, settings = find_recipe(name), list(settings)
    try:
        tree = read_toml(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"the recipe is no TOML: {error}", where=str(path)) from None
    for setting in settings:
        _lay_over(tree, setting)
    tree.setdefault("name", re.sub(r"[^\w.\-]+", "-", path.stem))
    with blamed_on(settings):
        recipe = parse_recipe(tree, where=str(path))
    filled = {key: _filled(getattr(recipe, key), recipe.source) for key in ("name", "description")}
    return msgspec.structs.replace(recipe, **filled)


def _filled(text: str, source: Source) -> str:
    return text.replace("{edition}", source.edition).replace("{category}", source.category)


def change_partition(tree: Mapping[str, Any], settings: Iterable[str]) -> Partition:
    """Returns the partition of a recipe (as plain values) with `partition.key=value` settings laid over.

    Raises:
        RecipeError: a setting of another table, an unknown key or a value of a wrong kind.
    """
    settings = list(settings)
    changed = {**tree, "partition": dict(tree.get("partition", {}))}
    for setting in settings:
        if not setting.strip().startswith("partition."):
            raise RecipeError(
                f"'{setting}' does not concern the partition",
                expected="partition.key=value",
                hint="`fedprep build` changes the other tables",
            )
        _lay_over(changed, setting)
    with blamed_on(settings):
        return parse_recipe(changed, where="the Dataset's recipe").partition


def parse_recipe(tree: Mapping[str, Any], *, where: str = "") -> Recipe:
    """Returns the recipe that a tree of plain values describes.

    Raises:
        RecipeError: an unknown key (the nearest known one is named) or a value of a wrong kind.
    """
    plain = _with_dates_as_text(tree)
    converted(plain.get("eval", {}), Eval, "eval", where)
    recipe: Recipe = converted(plain, Recipe, where=where)
    return _with_names(recipe, where)


def _with_names(recipe: Recipe, where: str) -> Recipe:
    """Returns the recipe, if what becomes a file's or folder's name in it is a name."""
    for key in ("category", "edition"):
        if getattr(recipe.source, key):
            checked_name(getattr(recipe.source, key), f"source.{key}", where=where)
    checked_name(_filled(recipe.name, recipe.source), "name", where=where)
    return recipe


def seconds_of(date: str, *, key: str) -> int:
    """Returns the first whole second since 1970 UTC that is not before an ISO date or date-time.

    Args:
        date: such as `"2003-01-31"` or `"2003-01-31T12:00:00+02:00"`; without an offset it is UTC.
        key: the recipe key it stands at, for the message.

    Raises:
        RecipeError: it is no ISO date.
    """
    try:
        moment = datetime.fromisoformat(date)
    except ValueError:
        raise RecipeError(
            f"{key}: '{date}' is no date",
            expected='an ISO date or date-time, such as "2003-01-31" or "2003-01-31T12:00:00"; UTC',
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return -((datetime(1970, 1, 1, tzinfo=UTC) - moment) // timedelta(seconds=1))


def date_of(seconds: int) -> str:
    """Returns a moment as `seconds_of` reads it, such as `2003-01-31T12:00:00Z`."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):  # beyond the year 9999: milliseconds, or worse
        return f"second {seconds}"


def _with_dates_as_text(value: Any) -> Any:
    """Returns a tree with TOML's dates as ISO text: `from_date = 2003-01-01` may stand without quotes."""
    if isinstance(value, Mapping):
        return {key: _with_dates_as_text(inner) for key, inner in value.items()}
    return value.isoformat() if isinstance(value, date) else value


def _lay_over(tree: dict[str, Any], setting: str) -> None:
    """Sets one `a.b.c=value` in a tree of tables."""
    key, equals, text = setting.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise RecipeError(
            f"'{setting}' is no setting", expected="key=value, such as partition.alpha=0.3"
        )
    table = tree
    for depth, part in enumerate(parts[:-1], start=1):
        below = table.setdefault(part, {})
        if not isinstance(below, dict):
            raise RecipeError(
                f"'{'.'.join(parts[:depth])}' is a value, not a table", where=f"--set {setting}"
            )
        table = below
    table[parts[-1]] = value_of(text)
