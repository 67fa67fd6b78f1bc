"""Scorers that know nothing: if one of them beats chance, the protocol leaks.

The distribution of chance itself decides whether a value is more than chance: where all users share one
order, as that of ids, orders are drawn at random; where users are independent, the number of users hit has an
exact distribution.

The *constant* scorer gives every item the same score; what it scores above chance is in the order of ids or
in how ties are counted. The *memoriser* scores an item by how often it was drawn as a training negative
of the user: where negatives leave out the test items, these alone were never drawn, and it finds them all
(HR@10 = 1.000 on the pool that published federated tables use) without having learned anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Unpack

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.baselines.lists import Asked, lists_by
from fedeval.candidates import Candidates
from fedeval.evaluation import evaluate
from fedeval.interactions import Interactions, interactions_from, joined
from fedeval.policy import Policy
from fedeval.ranking import rank_pairs
from fedprep.errors import EvaluationError, nearest
from fedprep.schema import ITEM_ID, USER_ID

__all__ = [
    "POOLS",
    "SanityRow",
    "Verdict",
    "chance_hr",
    "constant",
    "leaks",
    "left_out",
    "memoriser",
    "sanity_rows",
    "share_at_least",
]

POOLS = ("unknown", "train", "none", "all")
"""What training negatives leave out: nobody knows, the user's train rows, none, or all: test as well."""

LEVEL = 0.001
"""How often chance alone makes any row of a table say that it beats chance, at most."""

ORDERS = 4_999
"""Orders of the ids that are drawn at most; the smallest p-value they can give is one over one more."""

ENOUGH = 25
"""Orders that reach the value, after which no more are drawn: its p-value is far above any level."""

ORDERS_AT_ONCE = 50

MOST_PAIRS = 1 << 18
"""Candidates that are looked at in each order; beyond, the row with ties by id is of a part of the users."""

MOST_CELLS: dict[str, int] = {"item_id": 1 << 25, "average": 1 << 21}
"""Pairs of users and items that a full ranking looks at, for each way to treat ties; beyond, it is of a
random part of the users. Averaging over ties takes whole lists, of all items."""

CHUNK_USERS = 256
"""Users whose draws are simulated by one generator, so that a user's draws are always the same."""

Floats = npt.NDArray[np.float64]
Users = npt.NDArray[np.int64]
Ties = Literal["item_id", "average"]

TIES: tuple[Ties, ...] = ("item_id", "average")


@dataclass(frozen=True, kw_only=True)
class SanityRow:
    """What a scorer that knows nothing reached, beside what chance does.

    value: mean HR@k over users · chance: its expectation for an order by chance · p: how often chance alone
    reaches the value · level: the p from which on a row beats chance, `LEVEL` over the number of rows ·
    n_users: how many users it is the mean of · n_all: of how many these were drawn.
    """

    scorer: str
    ties: Ties
    k: int
    value: float
    chance: float
    p: float
    level: float = LEVEL
    n_users: int
    n_all: int = 0
    told: str = ""

    @property
    def beats_chance(self) -> bool:
        return self.p <= self.level

    @property
    def facts(self) -> str:
        """What was measured, without the verdict."""
        drawn = f" drawn from {self.n_all:,}" if self.n_all > self.n_users else ""
        return (
            f"{self.scorer} scorer{self.told}, {_TIES[self.ties]}: HR@{self.k} {self.value:.3f} of "
            f"{self.n_users:,} users{drawn}, chance {self.chance:.3f} (p {_told(self.p)})"
        )

    @property
    def text(self) -> str:
        """The row as a sentence."""
        if not self.beats_chance:
            return f"{self.facts}: no more than chance"
        return f"{self.facts}: it beats chance: the protocol leaks. {_WHY[self.scorer]}"

    def to_dict(self) -> dict[str, Any]:
        """Returns every field, `beats_chance` and `text` as plain values."""
        return asdict(self) | {"beats_chance": self.beats_chance, "text": self.text}


_TIES = {"item_id": "ties by item id", "average": "ties averaged"}
_WHY = {
    "constant": "Without ties it would know nothing: the order of item ids tells what is relevant.",
    "memoriser": "Training negatives leave out what is tested: what was never drawn is the answer.",
}


def _told(p: float) -> str:
    return f"{p:.2f}" if p >= 0.095 else f"{p:.1g}"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a protocol leaks, by its sanity rows."""

    rows: tuple[SanityRow, ...] = field(default=())

    @property
    def leaks(self) -> bool:
        return any(row.beats_chance for row in self.rows)

    @property
    def of_ids_alone(self) -> bool:
        """Whether it leaks through the order of item ids and in no other way: only where ties go by id."""
        return self.leaks and all(row.ties == "item_id" for row in self.rows if row.beats_chance)

    @property
    def text(self) -> str:
        """The leaking rows as sentences, or that there is none."""
        found = [row.text for row in self.rows if row.beats_chance]
        return "\n".join(found) or "no scorer that knows nothing beats chance"


def leaks(rows: Sequence[SanityRow]) -> Verdict:
    """Returns the verdict on a protocol: it leaks if a row beats chance."""
    return Verdict(rows=tuple(rows))


# --- the scorers ---------------------------------------------------------------------------------------


def constant(train: Interactions, *, seed: int = 0, **asked: Unpack[Asked]) -> pl.DataFrame:
    """Returns lists by score(u, i) = 0, for all that a baseline may be asked. `seed` changes nothing."""
    shape = train.n_items
    return lists_by(
        lambda users: np.zeros((len(users), shape), np.float32), train, asked, personal=False
    )


def memoriser(
    train: Interactions,
    *,
    drawn: pl.DataFrame | None = None,
    excluded: Interactions | None = None,
    per_row: int = 4,
    rounds: int = 100,
    seed: int = 0,
    **asked: Unpack[Asked],
) -> pl.DataFrame:
    """Returns lists by score(u, i) = -(times i was drawn as a training negative of u).

    The draws are a table, or are simulated: in each round `per_row` for each train row of the user,
    uniformly from the items that the user does not have in `excluded`. Each item's count is then
    Binomial(draws, 1 / items), by itself.

    Args:
        train: the rows that were trained on.
        drawn: `user_id`, `item_id`, and `count` where a row is not one draw.
        excluded: what the sampler leaves out: train (honest), or all rows.
        per_row, rounds: how often it draws.
        seed: of the simulation.

    Raises:
        EvaluationError: neither or both of `drawn` and `excluded` are given.
    """
    if (drawn is None) == (excluded is None):
        raise EvaluationError(
            "the memoriser needs to know training negatives",
            expected="a table of those drawn, or what their sampler leaves out",
        )
    if drawn is not None:
        return lists_by(_recorded(train, drawn), train, asked, personal=False)
    assert excluded is not None
    draws = per_row * rounds * train.user_counts
    share = 1 / np.maximum(excluded.n_items - excluded.user_counts, 1)
    candidates = asked.get("candidates")
    if candidates is not None:
        user = np.repeat(candidates.user_id, candidates.counts)
        counts = np.random.default_rng([seed, 1]).binomial(draws[user], share[user])
        counts[excluded.holds(user, candidates.item_id)] = 0
        return rank_pairs(candidates, -counts.astype(np.float32), asked.get("k", 100))
    return lists_by(_simulated(excluded, draws, share, seed), train, asked, personal=False)


def _recorded(
    train: Interactions, drawn: pl.DataFrame
) -> Callable[[Users], npt.NDArray[np.float32]]:
    count = pl.col("count").sum() if "count" in drawn.columns else pl.len().alias("count")
    table = drawn.group_by(USER_ID, ITEM_ID).agg(count).sort(USER_ID, ITEM_ID)
    rows = interactions_from(table, n_users=train.n_users, n_items=train.n_items)
    counts = table["count"].to_numpy().astype(np.float32)

    def scores(users: Users) -> npt.NDArray[np.float32]:
        values = np.zeros((len(users), train.n_items), np.float32)
        place, row = rows.rows_of(users)
        values[place, rows.item_id[row]] = -counts[row]
        return values

    return scores


def _simulated(
    excluded: Interactions, draws: npt.NDArray[np.int64], share: Floats, seed: int
) -> Callable[[Users], npt.NDArray[np.float32]]:
    def scores(users: Users) -> npt.NDArray[np.float32]:
        values = np.empty((len(users), excluded.n_items), np.float32)
        chunk = users // CHUNK_USERS
        for number in np.unique(chunk).tolist():
            some = np.arange(number * CHUNK_USERS, (number + 1) * CHUNK_USERS)
            some = some[some < excluded.n_users]
            rng = np.random.default_rng([seed, 0, number])
            size = (len(some), excluded.n_items)
            counts = rng.binomial(draws[some, None], share[some, None], size)
            mine = np.flatnonzero(chunk == number)
            values[mine] = -counts[users[mine] - some[0]]
        place, row = excluded.rows_of(users)
        values[place, excluded.item_id[row]] = 0
        return values

    return scores


# --- the check -----------------------------------------------------------------------------------------


def sanity_rows(
    train: Interactions,
    truth: Interactions,
    *,
    seen: Interactions | None = None,
    candidates: Candidates | None = None,
    pool: str = "unknown",
    drawn: pl.DataFrame | None = None,
    per_row: int = 4,
    rounds: int = 100,
    k: int = 10,
    seed: int = 0,
) -> tuple[SanityRow, ...]:
    """Returns a row for each scorer that knows nothing, under both ways to treat ties.

    Args:
        train: the rows that were trained on.
        truth: the relevant rows, such as test.
        seen: rows whose items are not ranked; None: train.
        candidates: what is ranked; None: all items of train that are not seen.
        pool: what training negatives leave out (`POOLS`); the memoriser then simulates them. With
            `unknown` and without `drawn` there is no memoriser.
        drawn: the training negatives: `user_id`, `item_id`, perhaps `count`.
        per_row, rounds: negatives for each train row and round, where they are simulated.
        k: cut-off of HR@k.
        seed: of the simulation, and of the choice of users where there are too many.

    Raises:
        EvaluationError: no such pool, or no relevant row can be ranked at all.
    """
    if pool not in POOLS:
        raise EvaluationError(f"no pool of negatives is called '{pool}'", hint=nearest(pool, POOLS))
    seen = train if seen is None else seen
    asked: Asked = {"seen": seen, "candidates": candidates}
    scorers: dict[str, tuple[Callable[..., pl.DataFrame], str]] = {
        "constant": (lambda **more: constant(train, **more), "")
    }
    if drawn is not None:
        told = ", of the negatives drawn"
        scorers["memoriser"] = (lambda **more: memoriser(train, drawn=drawn, **more), told)
    elif pool != "unknown":
        out = left_out(pool, train, seen, truth)
        what = "nothing" if pool == "none" else f"{pool} rows"
        often = f"{per_row} a row, {rounds} round{'s' * (rounds != 1)}, simulated"
        told = f", negatives leave out {what} ({often})"
        scorers["memoriser"] = (
            lambda **more: memoriser(
                train, excluded=out, per_row=per_row, rounds=rounds, seed=seed, **more
            ),
            told,
        )
    level = LEVEL / (len(TIES) * len(scorers))
    rows = []
    for ties in TIES:
        users = _some_users(truth, train.n_items, candidates, ties, seed)
        relevant = truth.frame().select(USER_ID, ITEM_ID).filter(pl.col(USER_ID).is_in(users))
        ranked = _ranked(train, truth, seen, candidates, users)
        chances = chance_hr(ranked.n_ranked, ranked.n_relevant, k)
        length = k if ties == "item_id" else train.n_items
        for name, (scorer, told) in scorers.items():
            recs = scorer(**asked, users=users, k=length)
            policy = Policy(order="score", ties=ties)
            value = evaluate(recs, relevant, [f"hr@{k}"], policy=policy).mean[f"hr@{k}"]
            p = share_at_least(chances, value * len(users))
            if ties == "item_id":
                # The memoriser's scores tell users apart, and what they leave tied goes by one order.
                shared = _share_of_orders(ranked, value, k, seed)
                p = shared if name == "constant" else max(p, shared)
            rows.append(
                SanityRow(
                    scorer=name, ties=ties, k=k, value=value, chance=float(chances.mean()), p=p, level=level,
                    n_users=len(users), n_all=int((truth.user_counts > 0).sum()), told=told,
                )
            )  # fmt: skip
    return tuple(rows)


def left_out(
    pool: str, train: Interactions, seen: Interactions, truth: Interactions
) -> Interactions:
    """Returns the rows that training negatives of a pool leave out; the pool has to be known."""
    rows = {"train": (train,), "none": (), "all": (train, seen, truth)}[pool]
    return joined(*rows) if rows else train.only(np.zeros(len(train), bool))


def chance_hr(ranked: npt.NDArray[np.int64], relevant: npt.NDArray[np.int64], k: int) -> Floats:
    """Returns float64 (n_users,): the chance that k of a user's items, drawn blindly, have a relevant one.

    1 - C(c - r, k) / C(c, k), for c items with r relevant ones: the product over j < k of
    (c - r - j) / (c - j) is the chance to miss.

    Args:
        ranked: int64 (n_users,): items that are ranked.
        relevant: int64 (n_users,): relevant ones among them.
        k: cut-off.
    """
    left = ranked[:, None] - np.arange(k)
    missed = np.maximum(left - relevant[:, None], 0) / np.maximum(left, 1)
    missed[left <= 0] = 1  # the list has ended
    chance: Floats = 1 - missed.prod(axis=1)
    return chance


def share_at_least(chances: Floats, hits: float) -> float:
    """Returns P(S >= hits) for S the number of users hit, user u by itself with probability chances[u].

    The Poisson-binomial distribution, exact to about 1e-12: the product of the users' generating
    functions 1 - p + p z, multiplied pair by pair.

    Args:
        chances: float64 (n_users,), from 0 to 1.
        hits: users hit; a sum of expectations (ties averaged) may lie between two numbers. It varies less
            than S does, so the share is an upper bound then.

    Reference: Hong, "On computing the distribution function for the Poisson binomial distribution",
    Computational Statistics & Data Analysis 59, 2013.
    """
    least = int(np.ceil(hits - 1e-9 * max(1.0, abs(hits))))
    if least <= 0:
        return 1.0
    factors = [np.stack([1 - chances, chances], axis=1)]  # (factors, coefficients)
    while len(factors[0]) > 1:
        table = factors.pop()
        if len(table) % 2:
            table = np.concatenate([table, np.eye(1, table.shape[1])])
        factors.append(_products(table[0::2], table[1::2]))
    density = factors[0][0]
    return float(np.clip(density[least:].sum(), 0.0, 1.0)) if least < len(density) else 0.0


def _products(a: Floats, b: Floats) -> Floats:
    """Returns the products of polynomials, row by row: float64 (n, m) twice to (n, 2 m - 1)."""
    length = 2 * a.shape[1] - 1
    if a.shape[1] <= 16:  # few terms: by their sums, without the rounding of a transform
        product = np.zeros((len(a), length))
        for at in range(a.shape[1]):
            product[:, at : at + b.shape[1]] += a[:, at, None] * b
        return product
    size = 1 << (length - 1).bit_length()
    product = np.fft.irfft(np.fft.rfft(a, size) * np.fft.rfft(b, size), size)[:, :length]
    return np.maximum(product, 0.0)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Ranked:
    """What is ranked for some users, all of them in one order of the items.

    n_items: items that the order is of · n_ranked, n_relevant: int64 (n_users,): items ranked for a user, and
    the relevant ones among them · relevant: int32, their items, user by user · offsets, item: the items that
    are ranked for a user (`listed`), or that are left out of all: those of user u are
    `item[offsets[u]:offsets[u + 1]]`.
    """

    n_items: int
    n_ranked: npt.NDArray[np.int64]
    n_relevant: npt.NDArray[np.int64]
    relevant: npt.NDArray[np.integer]
    offsets: npt.NDArray[np.int64]
    item: npt.NDArray[np.integer]
    listed: bool

    def hits(self, place: npt.NDArray[np.integer], k: int) -> int:
        """Returns how many users have a relevant item among their first k.

        Args:
            place: int (n_items,): where the order has each item, from 0.
        """
        users = np.flatnonzero(self.n_relevant)
        if not len(users):
            return 0
        start = (np.cumsum(self.n_relevant) - self.n_relevant)[users]
        first = np.minimum.reduceat(place[self.relevant], start)  # of the user's relevant items
        held = np.diff(self.offsets)[users]
        if not self.listed:  # of the items before it, at most those left out are not the user's
            able = first < k + held
            users, first, held = users[able], first[able], held[able]
        row = np.repeat(self.offsets[users] - np.cumsum(held) + held, held) + np.arange(held.sum())
        before = place[self.item[row]] < np.repeat(first, held)
        summed = np.concatenate([[0], np.cumsum(before)])
        end = np.cumsum(held)
        ahead = summed[end] - summed[end - held]
        return int(((ahead if self.listed else first - ahead) < k).sum())


def _share_of_orders(ranked: _Ranked, value: float, k: int, seed: int) -> float:
    """Returns (1 + how many orders of the items, drawn at random, reach the value) / (1 + orders).

    Up to `ORDERS` are drawn, and no more once `ENOUGH` of them have reached it.

    Reference: Besag and Clifford, "Sequential Monte Carlo p-values", Biometrika 78 (2), 1991.
    """
    rng = np.random.default_rng([seed, 2])
    n, least = len(ranked.n_ranked), value - 1e-9
    reached = drawn = 0
    while drawn < ORDERS and reached < ENOUGH:
        many = min(ORDERS_AT_ONCE, ORDERS - drawn)
        for _ in range(many):
            reached += ranked.hits(rng.permutation(ranked.n_items), k) / n >= least
        drawn += many
    return (reached + 1) / (drawn + 1)


def _some_users(
    truth: Interactions, n_items: int, candidates: Candidates | None, ties: Ties, seed: int
) -> Users:
    users = np.flatnonzero(truth.user_counts)
    most = MOST_CELLS[ties] // n_items
    if candidates is not None:
        users = np.intersect1d(users, candidates.user_id)
        shown = max(1, len(candidates) // max(1, len(candidates.user_id)))
        most = MOST_PAIRS // shown if ties == "item_id" else len(users)
    if not len(users):
        raise EvaluationError("no user has a relevant row: nothing can be checked")
    most = max(1, most)
    if len(users) <= most:
        return users
    return np.sort(np.random.default_rng(seed).choice(users, most, replace=False))


def _ranked(
    train: Interactions,
    truth: Interactions,
    seen: Interactions,
    candidates: Candidates | None,
    users: Users,
) -> _Ranked:
    """Returns what is ranked for these users: the candidates, or the items of train that are not seen."""
    place, row = truth.rows_of(users)
    item = truth.item_id[row]
    if candidates is None:
        known = train.item_counts > 0
        number = np.cumsum(known) - 1  # among the items that are known, all others left out
        owner, held = seen.rows_of(users)
        left = seen.item_id[held]
        inside = known[left]
        owner, items = owner[inside], number[left[inside]]
        n_items, n_left = int(known.sum()), np.bincount(owner, minlength=len(users))
        there = known[item] & ~seen.holds(users[place], item)
        n_ranked = n_items - n_left
        item = number[item]
    else:
        at = np.searchsorted(candidates.user_id, users)
        n_items, n_left = truth.n_items, candidates.counts[at]
        n_ranked = n_left
        begin = np.repeat(candidates.offsets[at] - np.cumsum(n_left) + n_left, n_left)
        items = candidates.item_id[begin + np.arange(len(begin))]
        owner = np.repeat(np.arange(len(users)), n_left)
        pairs = owner.astype(np.int64) * n_items + items
        there = np.isin(place.astype(np.int64) * n_items + item, pairs)
    return _Ranked(
        n_items=n_items,
        n_ranked=n_ranked.astype(np.int64),
        n_relevant=np.bincount(place[there], minlength=len(users)),
        relevant=item[there],
        offsets=np.concatenate([[0], np.cumsum(n_left)]).astype(np.int64),
        item=items,
        listed=candidates is not None,
    )
