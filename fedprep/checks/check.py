"""What a check is: a function from tables and limits to the offending rows, and what to say of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from fedprep.checks.limits import Limits
from fedprep.checks.tables import Tables

__all__ = ["Check", "NotAsked"]


class NotAsked(Exception):
    """Raised by a check's function where its question has no meaning for these tables: it is skipped."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """A question to the data.

    name: a sentence that is true of good data.
    group: `schema`, `interactions`, `clients`, `splits`, `items`, `embeddings`, `files`, `recommendations`.
    unit: what a row of the function's result is: rows, pairs, users, clients, items, files …
    of: what there is of it in all, a key of `tables.SIZES`.
    function: returns the offenders; an empty frame is a pass. Its columns are what an example shows, in an
        order that does not change from run to run. It may raise `NotAsked(reason)`.
    means, todo: one sentence each: what it means when it is red, what to do then.
    needs: tables and columns that must be there: `items`, `interactions.rating`, `manifest`, `folder` …
    severity: of a finding while the limits are at their defaults. A limit that was set makes it `fail`.
    by_design: told the recipe, says why a finding is what the recipe asks for, "" where it is not: it is a
        `note` then, while the limits are at their defaults.
    limits: the limits that it looks at.
    blocks: which part of the rows it may be given. `""`: all of them at once, lazily. `"rows"`: any block of
        rows. `"users"`: a block that holds every row of its users. Counts of the blocks are added up.
    """

    name: str
    group: str
    unit: str
    of: str
    function: Callable[[Tables, Limits], pl.LazyFrame]
    means: str
    todo: str
    needs: tuple[str, ...] = ()
    severity: Literal["fail", "warn"] = "fail"
    by_design: Callable[[Mapping[str, Any]], str] = lambda recipe: ""
    limits: tuple[str, ...] = ()
    blocks: Literal["", "rows", "users"] = ""
