"""Ways to damage a file, a folder of ours, a table or a recipe: each is drawn from a generator."""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from fedprep.manifest import describe_table, manifest_id

__all__ = [
    "BYTES",
    "damage_bytes",
    "damage_json",
    "damage_lines",
    "damage_table",
    "hostile_toml",
    "hostile_zip",
]

DEEP = "[" * 100_000 + "]" * 100_000
VALUES: tuple[Any, ...] = (
    None,
    True,
    "x",
    "",
    "../../x",
    "\u202ereversed\x1b[31m",
    7,
    -1,
    0,
    2**31,
    2**63,
    2**70,
    0.5,
    -1e300,
    [],
    {},
    [[]],
    [1, 2, 3],
    {"a": {"b": 1}},
    ["x"] * 50,
    "0" * 70_000,
    [None],
    {"": None},
)
RAW_VALUES = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e400",
    DEEP,
    '"\\ud800"',
    "01",
    "tru",
    "{",
    '{"a":1,"a":2}',
)
"""What JSON may not hold, or may not hold here."""


# --- bytes ---------------------------------------------------------------------------------------------


def cut(block: bytes, rng: random.Random) -> bytes:
    return block[: rng.randrange(len(block) or 1)]


def bits(block: bytes, rng: random.Random) -> bytes:
    changed = bytearray(block)
    for _ in range(rng.choice((1, 3, 50))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def noise(block: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(max(1, len(block)))


def zeros(block: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(block) or 1)
    return block[:at] + bytes(min(200, len(block) - at)) + block[at + 200 :]


def longer(block: bytes, rng: random.Random) -> bytes:
    return block + rng.choice((b"\n", b"\x00" * 9, block[:100], b"\n{}\n"))


BYTES: Mapping[str, Callable[[bytes, random.Random], bytes]] = {
    "empty": lambda block, rng: b"",
    "cut": cut,
    "bits": bits,
    "noise": noise,
    "zeros": zeros,
    "longer": longer,
    "text": lambda block, rng: b"hello\n",
    "byte order mark": lambda block, rng: b"\xef\xbb\xbf" + block,
    "utf-16": lambda block, rng: block.decode("latin-1").encode("utf-16"),
    "latin-1": lambda block, rng: b"caf\xe9 \xff\xfe\n" + block,
    "magic of Parquet": lambda block, rng: b"PAR1" + block[4:-4] + b"PAR1",
    "line ends": lambda block, rng: block.replace(b"\n", rng.choice((b"\r", b"\r\r\n", b"\0\n"))),
}


def damage_bytes(path: Path, rng: random.Random) -> str:
    """Damages a file as a disk, a network or an editor may; returns how."""
    name = rng.choice(("gone", "a folder", "a link", *BYTES, *BYTES))
    block = path.read_bytes()
    path.unlink()
    if name == "a folder":
        path.mkdir()
    elif name == "a link":
        path.symlink_to("/etc/hostname")
    elif name != "gone":
        path.write_bytes(BYTES[name](block, rng))
    return f"{path.name}: {name}"


# --- JSON ----------------------------------------------------------------------------------------------


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Returns the paths to all values inside a value."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))[:4]
    found = [(*path, key) for key, _ in items]
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


def damage_json(path: Path, rng: random.Random, *, with_id: bool = False) -> str:
    """Puts a value of another kind somewhere into a JSON file, or takes one out; returns what.

    Args:
        with_id: make the manifest's id that of what it says now, as somebody who knows the format would.
    """
    tree = json.loads(path.read_text("utf-8"))
    text = None
    where = rng.choice(places(tree))
    holder = tree
    for key in where[:-1]:
        holder = holder[key]
    what = rng.choice(("value", "value", "value", "value", "raw", "gone", "top", "twice"))
    if what == "gone":
        del holder[where[-1]]
    elif what == "top":
        tree = rng.choice(VALUES)
    elif what == "twice":
        text = json.dumps(tree)[:-1] + f", {json.dumps(next(iter(tree)))}: 1}}"
    elif what == "raw":
        raw = rng.choice(RAW_VALUES)
        holder[where[-1]] = "HERE"
        text = json.dumps(tree).replace('"HERE"', raw, 1)
        what = raw[:20]
    else:
        value = rng.choice(VALUES)
        holder[where[-1]] = value
        what = repr(value)[:30]
    if with_id and isinstance(tree, dict) and text is None:
        try:
            tree["id"] = manifest_id(tree)
        except Exception:  # what has no id is damage, too
            tree["id"] = "0" * 64
    path.write_text(json.dumps(tree) if text is None else text, "utf-8", errors="surrogatepass")
    return f"{path.name}: {'.'.join(map(str, where))} {what}" + (", with its id" if with_id else "")


def damage_lines(path: Path, rng: random.Random) -> str:
    """Damages a line of a file of JSON lines; returns how."""
    lines = path.read_text("utf-8").splitlines()
    at = rng.randrange(len(lines))
    row = json.loads(lines[at])
    what = rng.choice(("value", "raw", "text", "gone", "twice", "key"))
    key = rng.choice(list(row))
    if what == "value":
        row[key] = rng.choice(VALUES)
        lines[at] = json.dumps(row)
    elif what == "raw":
        row[key] = "HERE"
        lines[at] = json.dumps(row).replace('"HERE"', rng.choice(RAW_VALUES))
    elif what == "text":
        lines[at] = rng.choice(("hello", "", "[1]", DEEP, "{}", "null", '{"round": 1'))
    elif what == "gone":
        del lines[at]
    elif what == "twice":
        lines.insert(at, lines[at])
    else:
        del row[key]
        lines[at] = json.dumps(row)
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return f"{path.name}: line {at + 1}, {key} {what}"


# --- tables --------------------------------------------------------------------------------------------

DTYPES = (
    pl.Int8,
    pl.Int64,
    pl.UInt64,
    pl.Float64,
    pl.String,
    pl.Boolean,
    pl.Date,
    pl.Binary,
    pl.Null,
)
NUMBERS = (-1, 0, 2**31 - 1, -(2**31), 10**6)


def changed(frame: pl.DataFrame, rng: random.Random) -> tuple[pl.DataFrame, str]:
    """Returns a table with something wrong in it, and what."""
    name = rng.choice(frame.columns)
    column = pl.col(name)
    what = rng.choice(
        (
            "no column",
            "dtype",
            "null",
            "nulls",
            "number",
            "numbers",
            "rows gone",
            "no row",
            "rows twice",
            "order",
            "renamed",
            "more columns",
            "not finite",
            "width",
        )
    )
    at = pl.int_range(pl.len()) == rng.randrange(max(1, frame.height))
    if what == "no column":
        frame = frame.drop(name)
    elif what == "dtype":
        dtype = rng.choice(DTYPES)
        frame = frame.with_columns(as_other(frame[name], dtype))
        what = str(dtype)
    elif what == "null":
        frame = frame.with_columns(pl.when(~at).then(column).alias(name))
    elif what == "nulls":
        frame = frame.with_columns(pl.lit(None, dtype=frame.schema[name]).alias(name))
    elif what in ("number", "numbers", "not finite") and frame.schema[name].is_numeric():
        value: Any = rng.choice(NUMBERS)
        if what == "not finite":
            value = rng.choice((float("nan"), float("inf"), -float("inf"), 1e38))
        where = at if what == "number" else pl.lit(True)
        new = pl.when(where).then(pl.lit(value)).otherwise(column)
        frame = frame.with_columns(new.cast(frame.schema[name], strict=False).alias(name))
    elif what == "rows gone":
        frame = frame.head(frame.height // 2)
    elif what == "no row":
        frame = frame.clear()
    elif what == "rows twice":
        frame = pl.concat([frame, frame])
    elif what == "order":
        frame = frame.sample(fraction=1.0, shuffle=True, seed=rng.randrange(99))
    elif what == "renamed":
        frame = frame.rename({name: rng.choice(("x", "", "../x", f"{name}'", 'a"b'))})
    elif what == "more columns":
        frame = frame.with_columns(pl.lit(1).alias("more"), pl.lit("=1+1").alias("'; drop"))
    elif isinstance(frame.schema[name], pl.Array):
        frame = frame.with_columns(column.arr.to_list().list.head(2).list.to_array(2))
        what = "width"
    else:
        frame = frame.reverse()
        what = "backwards"
    return frame, f"{name} {what}"


def as_other(column: pl.Series, dtype: Any) -> pl.Series:
    """Returns a column as another type; null where its values have no such form."""
    try:
        return column.cast(pl.String, strict=False).cast(dtype, strict=False)
    except pl.exceptions.PolarsError:
        return pl.Series(column.name, [None] * len(column), dtype=dtype)


def damage_table(path: Path, rng: random.Random, *, consistent: Path | None = None) -> str:
    """Writes a Parquet file anew with something wrong in it; returns what.

    Args:
        consistent: a Dataset whose manifest is to say what the file holds now, as if it had been made so.
    """
    frame, what = changed(pl.read_parquet(path, glob=False), rng)
    frame.write_parquet(path)
    name = path.name
    if consistent is not None:
        name = path.relative_to(consistent).as_posix()
        file = consistent / "manifest.json"
        manifest = json.loads(file.read_text("utf-8"))
        manifest["tables"][name] = describe_table(path, frame)
        manifest["id"] = manifest_id(manifest)
        file.write_text(json.dumps(manifest), "utf-8")
        what += ", in the manifest too"
    return f"{name}: {what}"


# --- recipes and archives ------------------------------------------------------------------------------

KEYS = (
    "name",
    "seed",
    "description",
    "source.name",
    "source.file",
    "source.edition",
    "source.category",
    "source.format",
    "source.separator",
    "source.encoding",
    "source.columns.user",
    "source.columns.rating",
    "source.columns.x",
    "source.items.file",
    "source.items.columns.item",
    "source.time_unit",
    "clean.k_core",
    "clean.user_core",
    "clean.threshold",
    "clean.label",
    "clean.from_date",
    "clean.min_rating",
    "split.method",
    "split.n_test",
    "split.valid",
    "split.test_from",
    "embed.text.encoder",
    "embed.text.dim",
    "embed.text.template",
    "embed.text.normalise",
    "embed.image.encoder",
    "embed.image.images",
    "embed.behavior.dim",
    "partition.method",
    "partition.n_clients",
    "partition.alpha",
    "partition.k",
    "partition.column",
    "partition.min_rows",
    "partition.seed",
    "validate.fail_on",
    "validate.limits.max_class_share",
    "train.rounds",
    "train.lr",
    "eval.k",
    "nowhere",
    "a.b.c",
)
TOML_VALUES = (
    "-1",
    "0",
    "1",
    "3",
    "1e400",
    "inf",
    "-inf",
    "nan",
    "100000000000",
    "9223372036854775808",
    "0.5",
    "-0.5",
    "true",
    '""',
    '"x"',
    '"../../x"',
    '"/etc/passwd"',
    '"a\'b"',
    '"{title.__class__}"',
    '"{0}"',
    '"{"',
    "[]",
    "[1, 2]",
    "{}",
    "{ a = 1 }",
    '"2020-99-99"',
    "2020-01-01",
    '"\\u0000"',
    '"\\u202e"',
    '"none"',
    '"dirichlet"',
    '"iid"',
)


def hostile_toml(path: Path, rng: random.Random) -> str:
    """Sets some keys of a recipe to what nobody should write; returns what."""
    n = rng.choice((1, 1, 2))
    return "; ".join(f"{rng.choice(KEYS)} = {rng.choice(TOML_VALUES)}" for _ in range(n))


def hostile_zip(path: Path, rng: random.Random, content: Mapping[str, bytes]) -> str:
    """Writes a zip archive with members that lead elsewhere, or are much larger than they look."""
    what = rng.choice(
        ("up", "absolute", "link", "bomb", "twice", "cut", "empty", "folder", "encrypted")
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, block in content.items():
            archive.writestr(name, block)
        if what == "up":
            archive.writestr("../../escaped.txt", b"x")
        elif what == "absolute":
            archive.writestr("/escaped-absolute.txt", b"x")
        elif what == "link":
            link = zipfile.ZipInfo("rows-link.csv")
            link.external_attr = 0o120777 << 16
            archive.writestr(link, "/etc/passwd")
        elif what == "bomb":
            archive.writestr("bomb.csv", bytes(60_000_000))
        elif what == "folder":
            archive.writestr("rows.csv/", b"")
    if what == "cut":
        path.write_bytes(path.read_bytes()[:-30])
    elif what == "empty":
        path.write_bytes(b"PK\x05\x06" + bytes(18))
    elif what == "encrypted":
        block = bytearray(path.read_bytes())
        block[6] |= 1
        path.write_bytes(bytes(block))
    return f"{path.name}: {what}"
