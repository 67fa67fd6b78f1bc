"""Candidate sets: a user's relevant items among sampled others, as many published tables rank them.

Metrics on sampled candidates are not those of the full ranking, and may order systems otherwise.
Reference: Krichene, Rendle, "On Sampled Metrics for Item Recommendation", KDD 2020.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from fedeval.draws import uniform
from fedeval.interactions import Interactions, joined
from fedprep.decoding import parse_json
from fedprep.errors import EvaluationError, nearest
from fedprep.files import whole_file
from fedprep.frames import parquet_file
from fedprep.schema import ITEM_ID, USER_ID

__all__ = [
    "METHODS",
    "Candidates",
    "candidates_of",
    "read_candidates",
    "read_ncf_candidates",
    "sample_candidates",
    "write_candidates",
]

logger = logging.getLogger(__name__)

METHODS = ("uniform", "popularity")

BLOCK_DRAWS = 4_000_000
"""Draws that are in memory at a time."""

ROUNDS = 12
"""Rounds of drawing with rejection, before the rest is drawn from all items at once."""

Longs = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Candidates:
    """The items to rank for each user: user `user_id[i]` owns the rows `offsets[i]:offsets[i + 1]`.

    user_id: int32 (n_users,), ascending · offsets: int64 (n_users + 1,) · item_id: int32 (n_rows,),
    ascending at a user, so that the place of the relevant one says nothing · relevant: bool (n_rows,) ·
    facts: how they were drawn (method, n_negatives, seed, excluded, short).
    """

    user_id: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    item_id: npt.NDArray[np.int32]
    relevant: npt.NDArray[np.bool_]
    facts: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.item_id)

    @functools.cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """int64 (n_users,): candidates of each user, the relevant ones among them."""
        return np.diff(self.offsets)

    @functools.cached_property
    def digest(self) -> str:
        """Eight digits that tell these candidates from others."""
        found = hashlib.sha256()
        for column in (self.user_id, self.offsets, self.item_id, self.relevant):
            found.update(np.ascontiguousarray(column).tobytes())
        return found.hexdigest()[:8]

    def of_users(self, users: npt.NDArray[np.integer]) -> Candidates:
        """Returns the candidates of these users alone."""
        kept = np.isin(self.user_id, users)
        rows = np.repeat(kept, self.counts)
        return replace(
            self,
            user_id=self.user_id[kept],
            offsets=np.concatenate([[0], np.cumsum(self.counts[kept])]),
            item_id=self.item_id[rows],
            relevant=self.relevant[rows],
        )

    def frame(self) -> pl.DataFrame:
        """Returns user_id, item_id, relevant; a row a candidate."""
        users = np.repeat(self.user_id, self.counts)
        return pl.DataFrame({USER_ID: users, ITEM_ID: self.item_id, "relevant": self.relevant})

    def truth(self) -> pl.DataFrame:
        """Returns user_id, item_id of the relevant candidates."""
        return self.frame().filter("relevant").drop("relevant")


def sample_candidates(
    truth: Interactions,
    exclude: Interactions,
    *,
    n_negatives: int = 99,
    method: Literal["uniform", "popularity"] = "uniform",
    seed: int = 0,
    items: npt.NDArray[np.bool_] | None = None,
    excluded: str = "train",
) -> Candidates:
    """Returns, for each user with a row in `truth`, these items and `n_negatives` others.

    The others are drawn without replacement from `items` less the user's rows in `exclude` and in
    `truth`: uniformly, or one after another in proportion to the item's rows in `exclude`
    (`popularity`: an item without rows is never drawn). A user's draw follows (seed, user) alone. Where
    fewer items are left than asked for, all are taken; `facts["short"]` counts those users.

    Args:
        truth: the relevant rows, such as test.
        exclude: rows that are no negatives: train positives; or whatever the protocol's negative pool
            leaves out. Its item counts are the popularity.
        n_negatives: how many others.
        method: `uniform` or `popularity`.
        seed: of the draw.
        items: bool (n_items,): the items that there are; None: those with a row in `exclude`.
        excluded: what `exclude` is, in words, for the facts.

    Raises:
        EvaluationError: an unknown method, no negative asked for, or tables of different sizes.
    """
    if method not in METHODS:
        raise EvaluationError(
            f"no sampling of candidates is called '{method}'", hint=nearest(method, METHODS)
        )
    if n_negatives < 1:
        raise EvaluationError(f"n_negatives is {n_negatives}", expected="1 or more")
    known = joined(exclude, truth)
    weight = exclude.item_counts.astype(np.float64)
    if method == "uniform":
        weight = np.ones(exclude.n_items)
    weight[~(exclude.item_counts > 0 if items is None else items)] = 0
    users = np.flatnonzero(truth.user_counts)
    size = max(1, BLOCK_DRAWS // (2 * min(n_negatives, max(1, exclude.n_items))))
    drawn = [
        _negatives(users[begin : begin + size], known, weight, n_negatives, seed)
        for begin in range(0, len(users), size)
    ]
    negatives = np.concatenate([np.empty(0, np.int64), *drawn])
    short = np.bincount(negatives // truth.n_items, minlength=truth.n_users)[users] < n_negatives
    facts = {
        "method": method,
        "n_negatives": n_negatives,
        "seed": seed,
        "excluded": excluded,
        "short": int(short.sum()),
    }
    if short.any():
        logger.warning("%d users have fewer than %d negatives", short.sum(), n_negatives)
    return _candidates(truth, users, negatives, facts)


def write_candidates(candidates: Candidates, path: str | Path) -> None:
    """Writes a candidate set as Parquet: user_id, item_id, relevant, and its facts in the footer."""
    table = candidates.frame().to_arrow()
    metadata = {b"fedeval": json.dumps(candidates.facts, sort_keys=True).encode()}
    with whole_file(Path(path)) as beside:
        pq.write_table(table.replace_schema_metadata(metadata), beside)


def read_candidates(path: str | Path) -> Candidates:
    """Returns a candidate set from Parquet: user_id, item_id, relevant; in any order of rows.

    Raises:
        EvaluationError: no such file, a column is missing, ids are no integers, or a pair twice.
    """
    try:
        table = parquet_file(Path(path)).read()
    except (OSError, pa.ArrowInvalid) as error:
        raise EvaluationError(f"no candidates can be read: {error}", where=str(path)) from None
    columns = (USER_ID, ITEM_ID, "relevant")
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise EvaluationError(
            f"the candidates have no column '{missing[0]}'",
            where=str(path),
            hint=nearest(missing[0], table.column_names),
        )
    try:
        facts = parse_json((table.schema.metadata or {}).get(b"fedeval", b"{}"))
    except ValueError as error:
        raise EvaluationError(
            f"the facts in the footer of the candidates cannot be read: {error}", where=str(path)
        ) from None
    frame = pl.DataFrame(pl.from_arrow(table.select(list(columns))))
    return candidates_of(frame, facts, str(path))


def read_ncf_candidates(path: str | Path) -> Candidates:
    """Returns the candidates of a `*.test.negative` file of NCF: `(user,item)` and its negatives, by tabs.

    Several lines of one user, one for each relevant item, become one set.

    Reference: He, Liao, Zhang, Nie, Hu, Chua, "Neural Collaborative Filtering", WWW 2017.

    Raises:
        EvaluationError: no such file, or a line that is no such thing.
    """
    try:
        lines = pl.Series("line", Path(path).read_text("utf-8").splitlines(), dtype=pl.String)
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"no candidates can be read: {error}", where=str(path)) from None
    pattern = r"^\((\d+),(\d+)\)((?:\t\d+)*)\t*$"
    parts = pl.DataFrame(lines).filter(pl.col("line") != "").select(
        pl.col("line"),
        pl.col("line").str.extract(pattern, 1).cast(pl.Int32, strict=False).alias(USER_ID),
        pl.col("line").str.extract(pattern, 2).cast(pl.Int32, strict=False).alias("positive"),
        pl.col("line").str.extract(pattern, 3).str.strip_chars("\t").alias("others"),
    )  # fmt: skip
    bad = parts.filter(pl.col(USER_ID).is_null() | pl.col("positive").is_null())
    if bad.height or not parts.height:
        raise EvaluationError(
            f"{bad.height} of {parts.height} lines are no candidates",
            where=f"{path}: {bad['line'][0][:60] if bad.height else 'no line'}",
            expected="(user,item) and item numbers, separated by tabs",
        )
    positives = parts.select(USER_ID, pl.col("positive").alias(ITEM_ID), relevant=True)
    others = (
        parts.filter(pl.col("others") != "")
        .select(USER_ID, pl.col("others").str.split("\t").alias(ITEM_ID))
        .explode(ITEM_ID)
        .select(USER_ID, pl.col(ITEM_ID).cast(pl.Int32, strict=False), relevant=False)
    )
    if others[ITEM_ID].null_count():
        raise EvaluationError(
            f"{others[ITEM_ID].null_count()} candidates are no items: their numbers are too large",
            where=str(path),
            expected=f"numbers below {2**31:,}",
        )
    # A negative of one line may be drawn in the next, or be relevant there.
    frame = pl.concat([positives, others]).unique(
        [USER_ID, ITEM_ID], keep="first", maintain_order=True
    )
    return candidates_of(frame, {"method": "file", "name": Path(path).name}, str(path))


# --- drawing -------------------------------------------------------------------------------------------


def _negatives(
    users: Longs, known: Interactions, weight: npt.NDArray[np.float64], n: int, seed: int
) -> Longs:
    """Returns the pairs user * n_items + item that are drawn for a block of users.

    Items are drawn with replacement and taken where they are neither known nor taken already, which is
    drawing one after another without replacement. Users whom few items are left are drawn for otherwise.
    """
    n_items = known.n_items
    edges = np.cumsum(weight)
    if not edges[-1]:
        return np.empty(0, np.int64)
    taken = np.empty(0, np.int64)
    open_users, missing, drawn = users, np.full(len(users), n), np.zeros(len(users), np.int64)
    n_drawable = int(np.count_nonzero(weight))
    for _ in range(ROUNDS if n < n_drawable else 0):  # who asks for all items gets them at once
        extra = missing + missing // 4 + 4
        place, nth = _counted(extra)
        who = open_users[place]
        point = uniform(seed, who, drawn[place] + nth) * edges[-1]
        item = np.minimum(np.searchsorted(edges, point, side="right"), n_items - 1)
        free = ~known.holds(who, item) & (weight[item] > 0)
        fresh = _in_order(who[free] * n_items + item[free], taken)
        taken = np.concatenate([taken, _first(fresh, n_items, open_users, missing)])
        missing = (
            n
            - np.bincount(np.searchsorted(users, taken // n_items), minlength=len(users))[
                np.searchsorted(users, open_users)
            ]
        )
        drawn = (drawn + extra)[missing > 0]
        open_users, missing = open_users[missing > 0], missing[missing > 0]
        if not len(open_users):
            return taken
    size = max(1, BLOCK_DRAWS // n_items)
    rest = [
        _from_all(open_users[a : a + size], missing[a : a + size], known, taken, weight, seed)
        for a in range(0, len(open_users), size)
    ]
    return np.concatenate([taken, *rest])


def _counted(counts: Longs) -> tuple[Longs, Longs]:
    """Returns, for each i repeated `counts[i]` times, i and which time it is (from 0)."""
    place = np.repeat(np.arange(len(counts)), counts)
    return place, np.arange(len(place)) - np.repeat(np.cumsum(counts) - counts, counts)


def _in_order(pairs: Longs, taken: Longs) -> Longs:
    """Returns the pairs that are new, each where it stood first."""
    first = np.sort(np.unique(pairs, return_index=True)[1])
    pairs = pairs[first]
    return pairs[~np.isin(pairs, taken)]


def _first(pairs: Longs, n_items: int, users: Longs, most: Longs) -> Longs:
    """Returns the first `most[i]` pairs of each user `users[i]`; the pairs of a user stand together."""
    place = np.searchsorted(users, pairs // n_items)
    counts = np.bincount(place, minlength=len(users))
    return pairs[_counted(counts)[1] < most[place]]


def _from_all(
    users: Longs,
    missing: Longs,
    known: Interactions,
    taken: Longs,
    weight: npt.NDArray[np.float64],
    seed: int,
) -> Longs:
    """Returns `missing` more pairs of each user, fewer where no more are left.

    The items of the smallest E / weight, E exponential, are those that drawing one after another gives
    (Efraimidis, Spirakis, "Weighted random sampling with a reservoir", IPL 2006).
    """
    n_items = known.n_items
    with np.errstate(divide="ignore"):
        late = -np.log1p(-uniform(seed + 1, users[:, None], np.arange(n_items))) / weight
    place, row = known.rows_of(users)
    late[place, known.item_id[row]] = np.inf
    mine = np.isin(taken // n_items, users)
    late[np.searchsorted(users, taken[mine] // n_items), taken[mine] % n_items] = np.inf
    late[:, weight == 0] = np.inf
    order = np.argsort(late, axis=1, kind="stable")
    there = np.take_along_axis(late, order, axis=1) < np.inf
    there &= np.arange(n_items) < missing[:, None]
    place, column = np.nonzero(there)
    chosen: Longs = users[place] * n_items + order[place, column]
    return chosen


def _candidates(
    truth: Interactions, users: Longs, negatives: Longs, facts: dict[str, Any]
) -> Candidates:
    positives = truth.user_id.astype(np.int64) * truth.n_items + truth.item_id
    pairs = np.concatenate([positives, negatives])
    order = np.argsort(pairs, kind="stable")
    pairs = pairs[order]
    counts = np.bincount(pairs // max(truth.n_items, 1), minlength=truth.n_users)[users]
    return Candidates(
        user_id=users.astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        item_id=(pairs % max(truth.n_items, 1)).astype(np.int32),
        relevant=order < len(positives),
        facts=facts,
    )


def candidates_of(frame: pl.DataFrame, facts: dict[str, Any], where: str) -> Candidates:
    """Returns the candidates of a frame of user_id, item_id, relevant, in any order.

    Raises:
        EvaluationError: ids are no integers, or a pair stands there twice.
    """
    integers = frame[USER_ID].dtype.is_integer() and frame[ITEM_ID].dtype.is_integer()
    if not integers or sum(frame.null_count().row(0)):
        raise EvaluationError("ids of candidates must be integers", where=where)
    frame = frame.sort(USER_ID, ITEM_ID)
    twice = frame.height - frame.select(pl.struct(USER_ID, ITEM_ID).n_unique()).item()
    if twice:
        raise EvaluationError(f"{twice} candidates stand there more than once", where=where)
    users, counts = np.unique(frame[USER_ID].to_numpy(), return_counts=True)
    return Candidates(
        user_id=users.astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        item_id=frame[ITEM_ID].cast(pl.Int32).to_numpy(),
        relevant=frame["relevant"].cast(pl.Boolean).to_numpy(),
        facts=facts,
    )
