"""Columns of a table as the fields of a Croissant RecordSet."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["MEANINGS", "record_set"]

DESCRIPTIONS = {
    "items": "A row an item, in order of item_id.",
    "users": "A row a user, in order of user_id.",
    "interactions": "The rows of all clients, sorted by client_id, user_id, timestamp, item_id.",
    "clients": "Where each client lies, and how large and how different it is.",
    "embeddings": "A row an item, in order of item_id; null where the item has none.",
}
KEYS = {
    "items": ("item_id",),
    "users": ("user_id",),
    "interactions": ("user_id", "item_id"),
    "clients": ("client_id",),
    "embeddings": ("item_id",),
}
MEANINGS = {
    "item_id": "Dense number of the item, from 0.",
    "user_id": "Dense number of the user, from 0.",
    "client_id": "Dense number of the client that holds the rows, from 0.",
    "source_id": "The id that the source gave.",
    "title": "Title, null where unknown.",
    "text": "The text that was embedded: the recipe's template, filled.",
    "categories": "Categories as the source names them.",
    "image": "Path in the picture store, or an address; null where there is none.",
    "behavior": "Normalised features of the user, from train rows alone.",
    "rating": "Rating as the source gave it; null where it has none.",
    "label": "What is learned; the card says what each label means.",
    "timestamp": "Seconds since 1970-01-01 UTC; null where the source has no time.",
    "split": "train, valid or test.",
    "embedding": "Normalised embedding of the item, null where it has none.",
    "file": "The number in the shard's name.",
    "row_group": "Row group of the shard.",
    "offset": "First row of the client in its row group.",
    "n_rows": "Rows of the client.",
    "n_train": "Its train rows.",
    "n_valid": "Its valid rows.",
    "n_test": "Its test rows.",
    "n_users": "Its users.",
    "label_counts": "Its rows a label.",
    "divergence": "Jensen–Shannon divergence, 0 to 1, of its labels from those of all rows.",
    "category_divergence": "The same of the categories of its items; null without categories.",
}
MORE = {
    ("interactions", "label"): ("cr:Label", ""),
    ("interactions", "split"): ("cr:Split", "splits/name"),
}
"""(record set, column) → what it means to a learner, and the field it points to.

`item_id` and `user_id` point nowhere: mlcroissant joins what a field points to, whole tables in memory.
"""
TYPES = {
    "Int": "sc:Integer",
    "UInt": "sc:Integer",
    "Float": "sc:Float",
    "Boolean": "sc:Boolean",
    "Datetime": "sc:DateTime",
    "Date": "sc:Date",
}
"""Start of a polars type → Croissant; everything else is text."""

_ARRAY = re.compile(r"Array\((?P<inner>.+), shape=\((?P<shape>[\d, ]+)\)\)")
_LIST = re.compile(r"List\((?P<inner>.+)\)")


def record_set(
    name: str, columns: Mapping[str, str], *, file: str = "", file_set: str = ""
) -> dict[str, Any]:
    """Returns a table as a RecordSet.

    Args:
        name: its id, such as `"items"` or `"embeddings-text"`.
        columns: column → polars type, as the manifest spells them.
        file, file_set: id of the FileObject or FileSet that holds it.
    """
    kind = name.partition("-")[0]
    place = {"fileObject": {"@id": file}} if file else {"fileSet": {"@id": file_set}}
    keys = [{"@id": f"{name}/{column}"} for column in KEYS[kind]]
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": DESCRIPTIONS[kind],
        "key": keys if len(keys) > 1 else keys[0],
        "field": [_field(name, column, dtype, place) for column, dtype in columns.items()],
    }


def _field(record: str, column: str, dtype: str, place: Mapping[str, Any]) -> dict[str, Any]:
    inner, shape = _shape(dtype)
    array = {"isArray": True, "arrayShape": shape} if shape else {}
    semantic, points_to = MORE.get((record, column), ("", ""))
    kind = _type(inner)
    return {
        "@type": "cr:Field",
        "@id": f"{record}/{column}",
        "name": column,
        "description": MEANINGS.get(column, "Column of the source."),
        "dataType": [kind, semantic] if semantic else kind,
        **array,
        "source": {**place, "extract": {"column": column}},
        **({"references": {"field": {"@id": points_to}}} if points_to else {}),
    }


def _shape(dtype: str) -> tuple[str, str]:
    """Returns the type inside an array or a list, and the shape as Croissant writes it; empty for a value."""
    if array := _ARRAY.fullmatch(dtype):
        return array["inner"], ",".join(re.findall(r"\d+", array["shape"]))
    if of := _LIST.fullmatch(dtype):
        return of["inner"], "-1"
    return dtype, ""


def _type(dtype: str) -> str:
    for start, kind in TYPES.items():
        if dtype.startswith(start):
            return kind
    return "sc:Text"
