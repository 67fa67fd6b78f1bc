"""One pass over the recommendations, block by block of users, gathers what every metric needs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.catalogue import Catalogue, catalogue_of
from fedeval.evaluation.request import Request
from fedeval.hits import Found, Hits, Truth, hits_of, joined_hits
from fedeval.ids import EMPTY, Codes
from fedeval.lists import Lists, top_lists
from fedeval.metrics import Ask
from fedeval.metrics.beyond import Shelf
from fedeval.ordering import sorted_rows
from fedeval.policy import Policy
from fedeval.sources import Source
from fedeval.tables import RANK, SCORE
from fedeval.ties import groups_of, ties_of
from fedprep.schema import ITEM_ID, USER_ID

__all__ = ["Gathered", "gather"]

CELLS = 1 << 26
"""Places of lists in memory at a time: 4 bytes each."""

SORTED_ROWS = 1 << 24
"""Rows that are sorted at a time, where lists are ordered by score."""

FAR = 1000
"""Cut-offs beyond this are compared with the longest list before room is made for them."""

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(eq=False)
class Gathered:
    """values: by metric, float64 (n_users,), or one float of all lists.

    present: bool (n_users,): the user has a list · length: int32 (n_users,), at most `depth` ·
    n_relevant: int32 (n_users,) · strangers: users of lists without a row of truth · counts.
    """

    depth: int
    values: dict[str, Floats] = field(default_factory=dict)
    overall: dict[str, float] = field(default_factory=dict)
    present: Mask = field(default_factory=lambda: np.zeros(0, bool))
    length: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    strangers: int = 0
    counts: dict[str, int] = field(default_factory=dict)


def gather(request: Request) -> Gathered:
    """Returns the value of every metric of lists, of every user that has a row."""
    depth = _depth(request)
    source = Source(request.recs, request.key, request.policy, request.names)
    catalogue = _catalogue(request)
    exposed = _Exposure(request.of_kind("exposure"), catalogue)
    parts = []
    for start, end, users, bounds in _blocks(request, depth):
        lists = top_lists(source, users, depth, bounds)
        truth = request.relevant.part(start, end)
        parts.append(
            _block(request, lists, truth, start, catalogue, exposed, source, users, bounds)
        )
    return _together(request, depth, parts, exposed)


@dataclass(frozen=True, eq=False)
class _Part:
    lists: Lists
    hits: Hits | None
    values: dict[str, Floats]
    counts: dict[str, int]


def _block(
    request: Request,
    lists: Lists,
    truth: Truth,
    start: int,
    catalogue: Catalogue | None,
    exposed: _Exposure,
    source: Source,
    users: Codes,
    bounds: tuple[Any, Any],
) -> _Part:
    policy = request.policy
    counts = dict(lists.counts)
    values: dict[str, Floats] = {}
    hits = hits_of(lists, truth, policy)
    accuracy = request.of_kind("accuracy")
    if policy.ties == "average" and accuracy:
        n = None if policy.unlisted == "missing" else _n_items(request)
        groups = groups_of(sorted_rows(source, users, bounds), truth, n_candidates=n)
        found: Found = ties_of(groups, truth, policy, lists.depth)
        values |= {a.text: a.metric.function(found, a.k, **a.options) for a in accuracy}
    if request.of_kind("auc"):
        by_score = Source(source.table, SCORE, policy, source.names)
        groups = groups_of(sorted_rows(by_score, users, bounds), truth)
        values |= {a.text: a.metric.function(groups) for a in request.of_kind("auc")}
    if catalogue is not None:
        listed = request.of_kind("list")
        shelf = _shelf(lists, hits, start, catalogue)
        exposed.add(shelf)
        values |= {a.text: a.metric.function(shelf, a.k, **a.options) for a in listed}
        if request.train is not None:
            counts["seen_recommended"] = _seen(lists, catalogue, shelf)
    kept = hits if policy.ties != "average" else None
    # Of lists that are done with only their lengths are kept.
    done = Lists(
        lists.items[:0], lists.length, lists.present, lists.strangers, lists.n_rows, lists.counts
    )
    return _Part(done, kept, values, counts)


def _together(request: Request, depth: int, parts: Sequence[_Part], exposed: _Exposure) -> Gathered:
    out = Gathered(depth)
    out.present = np.concatenate([part.lists.present for part in parts])
    out.length = np.concatenate([part.lists.length for part in parts])
    out.strangers = sum(part.lists.strangers for part in parts)
    for part in parts:
        for name, count in part.counts.items():
            out.counts[name] = out.counts.get(name, 0) + count
    out.counts["rows"] = sum(part.lists.n_rows for part in parts)
    out.counts |= exposed.counts()
    for name in parts[0].values:
        out.values[name] = np.concatenate([part.values[name] for part in parts])
    hits = [part.hits for part in parts if part.hits is not None]
    if hits:
        found = joined_hits(hits, request.relevant)
        for ask in request.of_kind("accuracy"):
            out.values[ask.text] = ask.metric.function(found, ask.k, **ask.options)
    out.overall = exposed.values()
    return out


def _blocks(request: Request, depth: int) -> Iterator[tuple[int, int, Codes, tuple[Any, Any]]]:
    """Yields first row, last row + 1, codes and bounds of the ids of each block of users."""
    users = request.users
    n_blocks = -(-len(users) * depth // CELLS)
    sorts = (
        request.key == SCORE
        or request.policy.duplicates == "last"
        or request.policy.ties == "average"
        or bool(request.of_kind("auc"))
    )
    if sorts:
        rows = request.recs.rows.lazy().select(pl.len()).collect(engine="streaming").item()
        n_blocks = max(n_blocks, -(-int(rows) // SORTED_ROWS))
    n_blocks = max(1, min(n_blocks, len(users)))
    if n_blocks == 1:
        yield 0, len(users), users, (None, None)
        return
    edges = np.linspace(0, len(users), n_blocks + 1).astype(int)
    for i, (start, end) in enumerate(itertools.pairwise(edges)):
        low = None if i == 0 else int(users.ids[start])
        high = None if i == n_blocks - 1 else int(users.ids[end])
        yield int(start), int(end), users.part(start, end), (low, high)


def _depth(request: Request) -> int:
    """The places of a list that any metric looks at."""
    asks = request.of_kind("accuracy", "list", "exposure")
    cuts = [ask.k for ask in asks if ask.metric.cut]
    depth = max([1, *(k for k in cuts if k is not None)])
    if any(ask.name == "r_precision" for ask in asks):
        depth = max(depth, int(request.relevant.n_relevant.max(initial=1)))
    whole = None in cuts or request.policy.duplicates == "join"
    if not whole and depth <= FAR:
        return depth
    longest = _longest(request)
    return longest if whole else max(1, min(depth, longest))


def _longest(request: Request) -> int:
    if request.key == RANK:
        last = request.recs.range(RANK)[1]
        return max(1, int(last or 1))
    lengths = request.recs.rows.lazy().group_by(USER_ID).len().select(pl.col("len").max())
    return max(1, int(lengths.collect(engine="streaming").item()))


# --- beyond accuracy -----------------------------------------------------------------------------------


class _Exposure:
    """How many lists have each item among their first k, for each k asked for."""

    def __init__(self, asks: Sequence[Ask], catalogue: Catalogue | None) -> None:
        self.asks, self.catalogue = asks, catalogue
        self.cuts = sorted({ask.k for ask in asks if ask.k is not None})
        self.whole = any(ask.k is None for ask in asks)
        n = 0 if catalogue is None else catalogue.n_items
        self.at: dict[int | None, npt.NDArray[np.int64]] = {
            k: np.zeros(n, np.int64) for k in [*self.cuts, *([None] if self.whole else [])]
        }
        self.recommended = np.zeros(n, bool)

    def add(self, shelf: Shelf) -> None:
        for items in shelf.items:
            self.recommended[items[items >= 0]] = True
        for k, counts in self.at.items():
            for items in shelf.items[:k]:
                counts += np.bincount(items[items >= 0], minlength=len(counts))

    def values(self) -> dict[str, float]:
        return {
            ask.text: ask.metric.function(self.at[ask.k], self.catalogue, **ask.options)
            for ask in self.asks
        }

    def counts(self) -> dict[str, int]:
        known = self.catalogue
        if known is None or (known.in_items is None and not known.in_train.any()):
            return {}
        unknown = ~known.in_train if known.in_items is None else ~(known.in_train | known.in_items)
        return {"unknown_items": int((self.recommended & unknown).sum())}


def _catalogue(request: Request) -> Catalogue | None:
    if request.train is None and request.items is None and not request.of_kind("list", "exposure"):
        return None
    seen = [request.recs.distinct(ITEM_ID).drop_nulls(), request.truth.whole(ITEM_ID)[ITEM_ID]]
    return catalogue_of(seen, request.users, request.train, request.items)


def _n_items(request: Request) -> int:
    assert request.items is not None
    return int(request.items.distinct(ITEM_ID).len())


def _shelf(lists: Lists, hits: Hits, start: int, catalogue: Catalogue) -> Shelf:
    codes = np.full(lists.items.shape, -1, np.int32)
    for place, items in enumerate(lists.items):
        listed = items != EMPTY
        codes[place, listed] = catalogue.codes.find(pl.Series(items[listed]))
    rank = np.repeat(np.arange(1, hits.depth + 1), np.diff(hits.starts))
    return Shelf(codes, start, catalogue, hits.row.astype(np.int64), rank)


def _seen(lists: Lists, catalogue: Catalogue, shelf: Shelf) -> int:
    """Places of lists that are taken by training items of their user."""
    user, item = catalogue.history_of(shelf.begin, shelf.begin + shelf.n_users)
    sizes = np.bincount(user, minlength=shelf.n_users).astype(np.int32)
    history = Truth(user.astype(np.int32), item, None, sizes, sizes)
    coded = Lists(
        np.where(shelf.items < 0, EMPTY, shelf.items).astype(np.int32),
        lists.length,
        lists.present,
        0,
        0,
    )
    return len(hits_of(coded, history, Policy()).row)
