"""Two Datasets side by side: what was asked for, what was measured, and how far the rows drifted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from fedprep.dataset import Dataset
from fedprep.diff.drift import drift
from fedprep.diff.keys import differing, differing_encoders, without_lists
from fedprep.errors import DatasetError
from fedprep.manifest import MANIFEST
from fedprep.schema import SOURCE_ID, SPLITS

__all__ = ["FAIL_ON", "MAX_PSI", "diff", "failures"]

FAIL_ON = ("recipe", "facts", "drift", "any")
"""What a comparison may be asked to fail on."""

MAX_PSI = 0.1
"""The stability index up to which two Datasets count as alike; see `drift`."""

BY_NATURE = ("time",)
"""Of later data these drift by nature: they are shown, and are no drift that a gate is about."""

ASKED = ("recipe", "raw_files", "split", "encoders", "partition")
"""What was asked for, in the result."""

SHOWN = 3
"""New or gone users, items and files that are named."""
COMPARED = (
    "recipe", "source", "facts", "classes", "split", "encoders", "partition", "tables",
)  # fmt: skip


def diff(a: Dataset, b: Dataset) -> dict[str, Any]:
    """Returns how two Datasets differ, ready for JSON.

    Keys:
        differs: whether anything below differs. Names of folders, times, durations and versions do not
            count, nor do differences of embeddings in their last digits.
        a, b: name, id and path.
        recipe, split, encoders, partition: `{"key", "a", "b"}` for every key that differs.
        raw_files: `{"role", "a", "b"}` with the SHA-256 of raw files that differ.
        facts: `{"key", "a", "b", "differs"}`, all of them.
        drift: of ratings, labels, categories, rows per client, time and item popularity (`drift.drift`).
        items, users: `{"a", "b", "shared", "new", "gone"}` by source id, the latter two with `count` and the
            first three as `examples`. Shared and new are counted in `b`, gone in `a`.
        files: `{"same", "changed", "new", "gone"}`, the latter three with `count` and `examples`.

    Raises:
        DatasetError: a manifest lacks one of the entries that are compared.
    """
    first, second = _complete(a), _complete(b)
    with a.blamed(), b.blamed():
        found = _compared(a, b, first, second)
    return {"format": 1, "differs": _differs(found), "a": _who(a), "b": _who(b), **found}


def _compared(
    a: Dataset, b: Dataset, first: Mapping[str, Any], second: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "recipe": differing(first["recipe"], second["recipe"]),
        "raw_files": _raw_files(first["source"], second["source"]),
        "facts": _side_by_side(_facts(first), _facts(second)),
        "split": differing(_rules(first["split"]), _rules(second["split"])),
        "encoders": differing_encoders(first["encoders"], second["encoders"]),
        "partition": differing(
            without_lists(first["partition"]), without_lists(second["partition"])
        ),
        "drift": drift(a, b),
        "items": _members(a.items(), b.items()),
        "users": _members(a.users(), b.users()),
        "files": _files(first["tables"], second["tables"]),
    }


def failures(
    found: Mapping[str, Any], fail_on: Sequence[str], *, max_psi: float = MAX_PSI
) -> list[str]:
    """Returns a sentence for each difference that a gate is to fail on; none where it may pass.

    `recipe`: a key of the recipe, of split, encoders or partition, or a raw file · `facts`: a number of
    users, items, rows, clients, or a time · `drift`: a stability index above `max_psi` that is more than
    chance, or something that only one side has; that times move on is none · `any`: all that `differs`.

    Args:
        found: what `diff` returns.
        fail_on: names in `FAIL_ON`.
    """
    told = []
    if "recipe" in fail_on or "any" in fail_on:
        keys = [row.get("key") or row["role"] for name in ASKED for row in found[name]]
        told += [f"{len(keys)} keys differ: {_first(keys)}"] if keys else []
    if "facts" in fail_on or "any" in fail_on:
        facts = [fact["key"] for fact in found["facts"] if fact["differs"]]
        told += [f"{len(facts)} facts differ: {_first(facts)}"] if facts else []
    if "drift" in fail_on or "any" in fail_on:
        told += filter(None, (_drifted(one, max_psi) for one in found["drift"]))
    if "any" in fail_on and found["differs"] and not told:
        told.append("rows, users, items or files differ")
    return told


def _drifted(one: Mapping[str, Any], max_psi: float) -> str:
    if one["what"] in BY_NATURE or one["why"].startswith("neither"):
        return ""
    if one["psi"] is None:
        return f"{one['what']} cannot be compared: {one['why']}"
    if one["psi"] <= max(max_psi, one["chance"]):
        return ""
    return f"{one['what']} drifted: PSI {one['psi']:.3g}, at most {max(max_psi, one['chance']):.3g}"


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + ", …" * (len(names) > SHOWN)


def _complete(dataset: Dataset) -> dict[str, Any]:
    missing = [key for key in COMPARED if key not in dataset.manifest]
    if missing:
        raise DatasetError(
            f"the manifest lacks {', '.join(missing)}",
            where=str(dataset.path / MANIFEST),
            hint="`fedprep validate` says what else is wrong",
        )
    return dataset.manifest


def _who(dataset: Dataset) -> dict[str, str]:
    return {"name": dataset.name, "id": dataset.id, "path": str(dataset.path)}


def _differs(found: Mapping[str, Any]) -> bool:
    changes = [found["files"][key] for key in ("changed", "new", "gone")]
    changes += [found[table][key] for table in ("items", "users") for key in ("new", "gone")]
    return (
        any(found[key] for key in ASKED)
        or any(change["count"] for change in changes)
        or any(fact["differs"] for fact in found["facts"])
        or any(drift["js"] for drift in found["drift"])
    )


def _rules(split: Mapping[str, Any]) -> dict[str, Any]:
    """Returns how the rows were split and what leaks; what the parts hold stands among the facts."""
    counted = ("rows", "users", "items", "time")
    return {key: value for key, value in split.items() if key not in counted}


def _facts(manifest: Mapping[str, Any]) -> dict[str, Any]:
    facts = manifest["facts"]
    first, last = facts["time_range"]
    sizes = ("n_users", "n_items", "n_interactions", "n_clients", "density")
    return {
        **{key: facts[key] for key in sizes},
        "first_timestamp": first,
        "last_timestamp": last,
        **{f"n_{split}": facts["splits"].get(split) for split in SPLITS},
    }


def _side_by_side(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"key": key, "a": a.get(key), "b": b.get(key), "differs": a.get(key) != b.get(key)}
        for key in dict.fromkeys([*a, *b])
    ]


def _raw_files(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[dict[str, Any]]:
    left, right = ({f["role"]: f["sha256"] for f in source["files"]} for source in (a, b))
    return [
        {"role": role, "a": left.get(role), "b": right.get(role)}
        for role in dict.fromkeys([*left, *right])
        if left.get(role) != right.get(role)
    ]


def _files(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    shared = [name for name in a if name in b]
    changed = [name for name in shared if _contents(name, a[name]) != _contents(name, b[name])]
    return {
        "same": len(shared) - len(changed),
        "changed": _named(changed),
        "new": _named([name for name in b if name not in a]),
        "gone": _named([name for name in a if name not in b]),
    }


def _contents(name: str, table: Mapping[str, Any]) -> tuple[Any, ...]:
    """What two equal Datasets share of a table; the last digits of embeddings follow the processor."""
    content = None if name.startswith("embeddings/") else table.get("content")
    return table["columns"], table["rows"], content


def _named(names: list[str]) -> dict[str, Any]:
    return {"count": len(names), "examples": names[:SHOWN]}


def _members(a: pl.LazyFrame, b: pl.LazyFrame) -> dict[str, Any]:
    """Returns which source ids came and went."""
    keys = [table.select(pl.col(SOURCE_ID)) for table in (a, b)]
    new, gone = (
        keys[1].join(keys[0], on=SOURCE_ID, how="anti"),
        keys[0].join(keys[1], on=SOURCE_ID, how="anti"),
    )
    first = pl.col(SOURCE_ID).drop_nulls().bottom_k(SHOWN).sort().implode()
    wanted = [
        *(table.select(pl.len()) for table in keys),
        *(table.select(pl.len(), first) for table in (new, gone)),
    ]
    n_a, n_b, came, went = pl.collect_all(wanted, engine="streaming")
    return {
        "a": n_a.item(),
        "b": n_b.item(),
        "shared": n_b.item() - came["len"][0],
        **{
            word: {"count": table["len"][0], "examples": table[SOURCE_ID][0].to_list()}
            for word, table in (("new", came), ("gone", went))
        },
    }
