"""One pass over the recommendations, block by block of users, gathers what every metric needs."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.catalogue import Catalogue, catalogue_of
from fedeval.evaluation.request import Request
from fedeval.hits import Hits, Truth, hits_of, joined_hits
from fedeval.ids import EMPTY, Codes, Ints
from fedeval.lists import Lists, top_lists
from fedeval.metrics import Ask
from fedeval.metrics.beyond import Shelf
from fedeval.ordering import sorted_rows
from fedeval.policy import Policy
from fedeval.sources import Source
from fedeval.tables import SCORE
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


@dataclass(frozen=True, eq=False, kw_only=True)
class Gathered:
    """What one pass over the lists found.

    depth: places of a list that were looked at · values: by metric, float64 (n_users,) · overall: by
    metric, one value of all lists · present: bool (n_users,): the user has a list · length: int32
    (n_users,), of the list, at most depth · strangers: users of lists that have no row · n_rows: of
    the table · counts: what was settled or passed over.
    """

    depth: int
    values: dict[str, Floats]
    overall: dict[str, float]
    present: Mask
    length: Ints
    strangers: int
    n_rows: int
    counts: dict[str, int]


def gather(request: Request) -> Gathered:
    """Returns the value of every metric of lists, of every user that has a row."""
    depth = _depth(request)
    catalogue = _catalogue(request)
    work = _Work(
        request,
        Source(request.recs, request.key, request.policy, request.names),
        catalogue,
        _Exposure(request.of_kind("exposure"), catalogue),
    )
    parts = [_part(work, block, depth) for block in _blocks(request, depth)]
    return _together(work, parts, depth)


@dataclass(frozen=True, eq=False)
class _Work:
    """What every block of users is measured with."""

    request: Request
    source: Source
    catalogue: Catalogue | None
    exposure: _Exposure


@dataclass(frozen=True, eq=False)
class _Block:
    """The users of row `start` to before `end`, as rows from 0, and the bounds of their ids."""

    start: int
    end: int
    users: Codes
    bounds: tuple[Any, Any]


@dataclass(frozen=True, eq=False)
class _Part:
    """What is kept of a block: of its lists the lengths alone."""

    lists: Lists
    hits: Hits
    values: dict[str, Floats]
    counts: dict[str, int]


def _part(work: _Work, block: _Block, depth: int) -> _Part:
    request = work.request
    lists = top_lists(work.source, block.users, depth, block.bounds)
    truth = request.relevant.part(block.start, block.end)
    hits = hits_of(lists, truth, request.policy)
    counts = dict(lists.counts)
    values = _over_ties(work, block, truth, depth) | _auc(work, block, truth)
    if work.catalogue is not None:
        shelf = _shelf(lists, hits, block.start, work.catalogue)
        work.exposure.add(shelf)
        asks = request.of_kind("list")
        values |= {a.text: a.metric.function(shelf, a.k, **a.options) for a in asks}
        if request.train is not None:
            counts["seen_recommended"] = _seen(shelf)
    return _Part(replace(lists, items=lists.items[:0]), hits, values, counts)


def _over_ties(work: _Work, block: _Block, truth: Truth, depth: int) -> dict[str, Floats]:
    """Values of accuracy, expected over every order of equal scores, where the policy wants that."""
    policy, asks = work.request.policy, work.request.of_kind("accuracy")
    if policy.ties != "average" or not asks:
        return {}
    n = None if policy.unlisted == "missing" else _n_items(work.request)
    rows = sorted_rows(work.source, block.users, block.bounds)
    found = ties_of(groups_of(rows, truth, n_candidates=n), truth, policy, depth)
    return {a.text: a.metric.function(found, a.k, **a.options) for a in asks}


def _auc(work: _Work, block: _Block, truth: Truth) -> dict[str, Floats]:
    asks = work.request.of_kind("auc")
    if not asks:
        return {}
    by_score = replace(work.source, key=SCORE)
    groups = groups_of(sorted_rows(by_score, block.users, block.bounds), truth)
    return {a.text: a.metric.function(groups) for a in asks}


def _together(work: _Work, parts: Sequence[_Part], depth: int) -> Gathered:
    request = work.request
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part.counts)
    values = {
        name: np.concatenate([part.values[name] for part in parts]) for name in parts[0].values
    }
    if request.policy.ties != "average":
        found = joined_hits([part.hits for part in parts], request.relevant)
        for a in request.of_kind("accuracy"):
            values[a.text] = a.metric.function(found, a.k, **a.options)
    return Gathered(
        depth=depth,
        values=values,
        overall=work.exposure.values(),
        present=np.concatenate([part.lists.present for part in parts]),
        length=np.concatenate([part.lists.length for part in parts]),
        strangers=sum(part.lists.strangers for part in parts),
        n_rows=sum(part.lists.n_rows for part in parts),
        counts=dict(counts) | work.exposure.counts(),
    )


def _blocks(request: Request, depth: int) -> Iterator[_Block]:
    users = request.users
    averaged = request.policy.ties == "average"
    cells = CELLS // 16 if averaged else CELLS  # expected values are six tables of 8 bytes each
    n_blocks = -(-len(users) * depth // max(1, cells))
    sorts = request.key == SCORE or request.policy.duplicates == "last" or averaged
    if sorts or request.of_kind("auc"):
        rows = request.recs.rows.lazy().select(pl.len()).collect(engine="streaming").item()
        n_blocks = max(n_blocks, -(-int(rows) // SORTED_ROWS))
    n_blocks = max(1, min(n_blocks, len(users)))
    edges = np.linspace(0, len(users), n_blocks + 1).astype(int).tolist()
    for start, end in itertools.pairwise(edges):
        low = int(users.ids[start]) if start else None
        high = int(users.ids[end]) if end < len(users) else None
        part = users if n_blocks == 1 else users.part(start, end)
        yield _Block(start, end, part, (low, high))


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
    """The places of the longest list: the most rows of a user, as ranks may be given twice."""
    if request.policy.unlisted == "tied":
        return max(1, _n_items(request))  # what a list leaves out stands behind it
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


def _seen(shelf: Shelf) -> int:
    """Places of lists that are taken by training items of their user."""
    user, item = shelf.catalogue.history_of(shelf.begin, shelf.begin + shelf.n_users)
    sizes = np.bincount(user, minlength=shelf.n_users).astype(np.int32)
    history = Truth(user.astype(np.int32), item, None, sizes, sizes)
    items = np.where(shelf.items < 0, EMPTY, shelf.items).astype(np.int32)
    length = (shelf.items >= 0).sum(axis=0, dtype=np.int32)
    return len(hits_of(Lists(items, length, length > 0, 0, 0), history, Policy()).row)
