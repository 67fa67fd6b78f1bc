"""The page of the algorithms tells of every one, and of every key."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

pytest.importorskip("torch")

from fedtrain.algorithms import ALGORITHMS

PAGE = (Path(__file__).parent.parent / "docs" / "algorithms.md").read_text("utf-8")


def test_every_algorithm_has_a_row() -> None:
    table = PAGE.partition("| name |")[2].partition("\n\n")[0]
    told = [
        name for line in table.splitlines() for name in re.findall(r"`(\w+)`", line.split("|")[1])
    ]
    assert told == list(ALGORITHMS)


def test_every_key_of_an_algorithm_has_a_row_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+\.\w+)` \| ([^|]+) \|", PAGE, re.M))
    known = {
        f"{name}.{key}": parameter.default
        for name, constructor in ALGORITHMS.items()
        if name != "fedfnn"  # on a page of its own
        for key, parameter in inspect.signature(constructor).parameters.items()
    }
    assert list(rows) == list(known)
    for key, default in known.items():
        if default is not None:
            assert rows[key] == str(default).lower(), key
