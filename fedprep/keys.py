"""Keys of recipes: the ranges of their values, and one conversion with one message for all of them.

A field's type says what may stand at a key: `Annotated[int, Meta(ge=0, le=9)]`, a `Literal`, a table. Its
`Meta(description=…)` says what the key means. `[train]`, `[eval]` and the keywords of algorithms and models
are converted by the same function.
"""

from __future__ import annotations

import contextlib
import functools
import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

from fedprep.errors import RecipeError, nearest

__all__ = [
    "LARGEST_SEED",
    "MOST",
    "Above0",
    "Count",
    "Cut",
    "Depth",
    "Finite",
    "From0",
    "PartShare",
    "Positive",
    "Rate",
    "Seed",
    "Share",
    "Width",
    "blamed_on",
    "converted",
    "range_of",
    "read_toml",
    "refuse_unknown_keys",
    "value_of",
]

LARGEST_SEED = 2**63 - 1
"""What a whole number of TOML can hold."""

MOST = 1_000_000_000
"""Of a count: more rows a client, rounds or clients than that are a slip of the keyboard."""

Count = Annotated[int, Meta(ge=0, le=MOST)]
Positive = Annotated[int, Meta(ge=1, le=MOST)]
Seed = Annotated[int, Meta(ge=0, le=LARGEST_SEED)]
Width = Annotated[int, Meta(ge=1, le=1 << 20)]
Depth = Annotated[int, Meta(ge=0, le=64)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
PartShare = Annotated[float, Meta(ge=0.0, lt=1.0)]
Finite = Annotated[float, Meta(ge=-1e15, le=1e15)]
From0 = Annotated[float, Meta(ge=0.0, le=1e15)]
Above0 = Annotated[float, Meta(ge=1e-9, le=1e15)]
Cut = Annotated[int, Meta(ge=1, le=100_000)]
Rate = Annotated[float, Meta(ge=0.0, le=1e6)]

TEXT = 4096
"""Characters of a text in a recipe, at most."""

SHOWN = 60
"""Characters of a wrong value that a message shows."""


def converted(value: Any, kind: Any, path: str = "", where: str = "") -> Any:
    """Returns a value of plain kinds as the type says; what is wrong is said with its key and its range.

    Args:
        value: as TOML or JSON gives it.
        kind: the type: a struct, or that of one key.
        path: the key of `value`, "" for a whole recipe.
        where: the file, for messages.

    Raises:
        RecipeError: an unknown key (the nearest known one is named), or a value of a wrong kind or beyond
            its range. `error.key` is the key.
    """
    refuse_unknown_keys(value, kind, path, where)
    try:
        found = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        what, _, at = str(error).partition(" - at `$")
        at = at.rstrip("`")
        key = _joined(path, at)
        said = _cut(what[:1].lower() + what[1:], 2 * SHOWN)
        given = _at(value, at)
        if isinstance(given, float) and not math.isfinite(given):
            said = f"{given} is no finite number"
        elif type(given) in (int, float):
            said += f", not {_cut(_digits(given))}"
        raise RecipeError(
            f"{key or 'the recipe'}: {said}",
            where=where,
            expected=range_of(_annotation(kind, at)),
            key=key.split("[")[0],
        ) from None
    _refuse_beyond(value, path, where)
    return found


def range_of(annotation: Any) -> str:
    """Returns in words what may stand at a key of this type, and what it means."""
    choices = [c for a in _parts(annotation, True) if get_origin(a) is Literal for c in get_args(a)]
    if choices:
        return " | ".join(str(choice) or '""' for choice in choices)
    kinds = [a for a in _parts(annotation, True) if a in (int, float)]
    metas = [m for m in _metas(annotation) if isinstance(m, Meta)]
    bounds = [m for m in metas if (m.ge, m.gt, m.le, m.lt) != (None, None, None, None)]
    meaning = next((m.description for m in metas if m.description), "")
    if not kinds:
        return meaning
    words = "a whole number" if kinds[0] is int else "a number"
    for meta in bounds[:1]:
        low = f" from {_number(meta.ge)}" if meta.ge is not None else ""
        low = f" above {_number(meta.gt)}" if meta.gt is not None else low
        high = f" to {_number(meta.le)}" if meta.le is not None else ""
        high = f", below {_number(meta.lt)}" if meta.lt is not None else high
        words += low + high
    return f"{words} ({meaning})" if meaning else words


def value_of(text: str) -> Any:
    """Returns the TOML value that a setting has behind its `=`; a bare word is a string."""
    try:
        return read_toml(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def read_toml(text: str) -> dict[str, Any]:
    """Returns the tables of a TOML text.

    Raises:
        tomllib.TOMLDecodeError: it is none, nests too deep, or has a number of thousands of digits.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise tomllib.TOMLDecodeError(str(error) or "it nests too deep") from None


@contextlib.contextmanager
def blamed_on(settings: Iterable[str], prefix: str = "") -> Iterator[None]:
    """Context manager: an error at a key that one of the settings gives says so, and not the file.

    Args:
        settings: `key=value`, as of `--set`.
        prefix: what the keys of settings may leave out, such as `"train."`.
    """
    given = [str(setting) for setting in settings]
    try:
        yield
    except RecipeError as error:
        for setting in reversed(given):
            key = setting.partition("=")[0].strip()
            keys = {key, prefix + key.removeprefix(prefix)}
            if error.key and any(_overlap(error.key, k) for k in keys):
                error.where = f"--set {_cut(setting)}"
                break
        raise


@functools.cache
def _types_of(table: Any) -> dict[str, Any]:
    """Returns the type of each field of a struct; annotations are worked out once."""
    return {field.name: field.type for field in msgspec.structs.fields(table)}


def refuse_unknown_keys(value: Any, kind: Any, path: str = "", where: str = "") -> None:
    """Raises RecipeError for a key that a struct has no field for; the nearest one is named."""
    table = next((p for p in _parts(kind) if _is_struct(p)), None)
    if table is None or not isinstance(value, Mapping):
        return
    types = _types_of(table)
    for key, inner in value.items():
        whole = _joined(path, f".{key}")
        if key not in types:
            raise RecipeError(
                f"unknown key '{_cut(whole)}' in the recipe",
                where=where,
                hint=nearest(str(key)[:TEXT], types),
                key=whole,
            )
        refuse_unknown_keys(inner, types[key], whole, where)


def _refuse_beyond(value: Any, path: str, where: str) -> None:
    """TOML knows nan, inf, whole numbers of any length and texts of any length; no key does."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _refuse_beyond(inner, _joined(path, f".{key}"), where)
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_beyond(inner, path, where)
    elif isinstance(value, float) and not math.isfinite(value):
        raise RecipeError(f"{path}: {value} is no finite number", where=where, key=path)
    elif type(value) is int and not -(2**63) <= value < 2**63:
        raise RecipeError(
            f"{path}: {_cut(_digits(value))} does not fit into 64 bits", where=where, key=path
        )
    elif isinstance(value, str) and len(value) > TEXT:
        raise RecipeError(
            f"{path}: a text of {len(value):,} characters",
            where=where,
            expected=f"at most {TEXT:,}",
            key=path,
        )


def _digits(value: float) -> str:
    """Returns a number's digits; Python refuses to spell whole numbers of thousands of them."""
    if isinstance(value, float):
        return repr(value)
    return str(value) if value.bit_length() < 1000 else f"a number of {value.bit_length():,} bits"


def _parts(annotation: Any, elements: bool = False) -> Iterator[Any]:
    """Yields the plain types in an annotation: of `Annotated[int, …] | None` int and None."""
    if isinstance(annotation, type) or get_origin(annotation) is Literal:
        yield annotation
        return
    inner = get_args(annotation)
    if get_origin(annotation) is Annotated:
        inner = inner[:1]
    elif get_origin(annotation) in (list, dict, tuple) and not elements:
        return
    for part in inner:
        yield from _parts(part, elements)


def _metas(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Annotated:
        first, *rest = get_args(annotation)
        yield from rest
        yield from _metas(first)
    elif get_origin(annotation) is not Literal:
        for part in get_args(annotation):
            yield from _metas(part)


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _annotation(kind: Any, at: str) -> Any:
    """Returns the type at `.a.b[...]` below a struct."""
    for part in filter(None, at.split("[")[0].split(".")):
        table = next((p for p in _parts(kind) if _is_struct(p)), None)
        if table is None:
            return None
        kind = _types_of(table).get(part)
    return kind


def _at(value: Any, at: str) -> Any:
    """Returns the plain value at `.a.b` or `.a.b[0]`, None where there is none."""
    at, _, index = at.partition("[")
    for part in filter(None, at.split(".")):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    index = index.rstrip("]")
    if isinstance(value, list) and index.isdigit() and int(index) < len(value):
        return value[int(index)]
    return None if isinstance(value, Mapping) and index else value


def _joined(path: str, at: str) -> str:
    return path + at if path else at.removeprefix(".")


def _overlap(one: str, other: str) -> bool:
    """Whether two keys are the same, or one is a table that holds the other."""
    return (one + ".").startswith(other + ".") or (other + ".").startswith(one + ".")


def _number(bound: float) -> str:
    return f"{bound:,}" if isinstance(bound, int) else f"{bound:g}"


def _cut(text: str, most: int = SHOWN) -> str:
    return text if len(text) <= most else text[:most] + "…"
