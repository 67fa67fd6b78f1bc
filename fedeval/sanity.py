"""Scorers that know nothing: if one of them beats chance, the protocol leaks.

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
    "chance_bound",
    "chance_hr",
    "constant",
    "leaks",
    "left_out",
    "memoriser",
    "sanity_rows",
]

POOLS = ("unknown", "train", "none", "all")
"""What training negatives leave out: nobody knows, the user's train rows, none, or all: test as well."""

LEVEL = 0.999
"""How sure the bound is above which a scorer is said to beat chance."""

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

    value: mean HR@k over users · chance: its expectation for an order by chance · bound: what chance
    stays below with probability `LEVEL` · n_users: how many users it is the mean of · n_all: of how many
    these were drawn.
    """

    scorer: str
    ties: Ties
    k: int
    value: float
    chance: float
    bound: float
    n_users: int
    n_all: int = 0
    told: str = ""

    @property
    def beats_chance(self) -> bool:
        return self.value > self.bound

    @property
    def text(self) -> str:
        """The row as a sentence."""
        verdict = (
            f"it beats chance: the protocol leaks. {_WHY[self.scorer]}"
            if self.beats_chance
            else "no more than chance"
        )
        drawn = f" drawn from {self.n_all:,}" if self.n_all > self.n_users else ""
        return (
            f"{self.scorer} scorer{self.told}, {_TIES[self.ties]}: HR@{self.k} {self.value:.3f} of "
            f"{self.n_users:,} users{drawn}, chance {self.chance:.3f} (with luck up to {self.bound:.3f}): "
            f"{verdict}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns every field, `beats_chance` and `text` as plain values."""
        return asdict(self) | {"beats_chance": self.beats_chance, "text": self.text}


_TIES = {"item_id": "ties by item id", "average": "ties averaged"}
_WHY = {
    "constant": "Without ties it would know nothing: the order of item ids tells what is relevant.",
    "memoriser": "Training negatives leave out what is tested: what was never drawn is the answer.",
}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a protocol leaks, by its sanity rows."""

    rows: tuple[SanityRow, ...] = field(default=())

    @property
    def leaks(self) -> bool:
        return any(row.beats_chance for row in self.rows)

    @property
    def text(self) -> str:
        """The leaking rows as sentences, or that there is none."""
        found = [row.text for row in self.rows if row.beats_chance]
        return "\n".join(found) or "no scorer that knows nothing beats chance"


def leaks(rows: Sequence[SanityRow]) -> Verdict:
    """Returns the verdict on a protocol: it leaks if a row beats chance beyond its bound."""
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
    rows = []
    for ties in TIES:
        users = _some_users(truth, train.n_items, candidates, ties, seed)
        relevant = truth.frame().select(USER_ID, ITEM_ID).filter(pl.col(USER_ID).is_in(users))
        chances = chance_hr(*_sizes(train, truth, seen, candidates, users), k)
        bound = chance_bound(chances, relevant, shared=ties == "item_id")
        length = k if ties == "item_id" else train.n_items
        for name, (scorer, told) in scorers.items():
            recs = scorer(**asked, users=users, k=length)
            policy = Policy(order="score", ties=ties)
            value = evaluate(recs, relevant, [f"hr@{k}"], policy=policy).mean[f"hr@{k}"]
            rows.append(
                SanityRow(
                    scorer=name, ties=ties, k=k, value=value, chance=float(chances.mean()),
                    bound=bound, n_users=len(users), n_all=int((truth.user_counts > 0).sum()), told=told,
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


def chance_bound(chances: Floats, relevant: pl.DataFrame, *, shared: bool) -> float:
    """Returns what the mean of hits by chance stays below with probability `LEVEL`: Bernstein's inequality.

    Args:
        chances: float64 (n_users,) of each user with a relevant item, in order of user.
        relevant: `user_id`, `item_id`.
        shared: users who share a relevant item all hit or all miss, as in an order by id, which is the same
            for all: an item's users then count as one draw. Else users are independent.

    Reference: Boucheron, Lugosi, Massart, "Concentration Inequalities", 2013, corollary 2.11.
    """
    user = np.unique(relevant[USER_ID].to_numpy(), return_inverse=True)[1]
    draw = np.unique(relevant[ITEM_ID].to_numpy(), return_inverse=True)[1] if shared else user
    share = 1 / np.bincount(user)[user]
    weight = np.bincount(draw, weights=share)
    spread = np.bincount(draw, weights=share * (chances * (1 - chances))[user])
    variance, largest = float((weight * spread).sum()), float(weight.max())
    third = largest * -np.log(1 - LEVEL) / 3
    excess = third + np.sqrt(third**2 + 2 * variance * -np.log(1 - LEVEL))
    return min(1.0, float(chances.mean() + excess / len(chances)))


def _some_users(
    truth: Interactions, n_items: int, candidates: Candidates | None, ties: Ties, seed: int
) -> Users:
    users = np.flatnonzero(truth.user_counts)
    if candidates is not None:
        users = np.intersect1d(users, candidates.user_id)
    if not len(users):
        raise EvaluationError("no user has a relevant row: nothing can be checked")
    most = max(1, MOST_CELLS[ties] // n_items)
    if candidates is not None or len(users) <= most:
        return users
    return np.sort(np.random.default_rng(seed).choice(users, most, replace=False))


def _sizes(
    train: Interactions,
    truth: Interactions,
    seen: Interactions,
    candidates: Candidates | None,
    users: Users,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Returns how many items of each user are ranked, and how many of these are relevant."""
    place, row = truth.rows_of(users)
    item = truth.item_id[row]
    if candidates is None:
        known = train.item_counts > 0
        _, held = seen.rows_of(users)
        seen_known = np.cumsum(np.concatenate([[0], known[seen.item_id[held]]]))
        edges = np.concatenate([[0], np.cumsum(seen.user_counts[users])])
        ranked = known.sum() - np.diff(seen_known[edges])
        there = known[item] & ~seen.holds(users[place], item)
    else:
        at = np.searchsorted(candidates.user_id, users)
        ranked = candidates.counts[at]
        pairs = np.repeat(candidates.user_id, candidates.counts).astype(np.int64) * truth.n_items
        there = np.isin(users[place] * truth.n_items + item, pairs + candidates.item_id)
    return ranked.astype(np.int64), np.bincount(place[there], minlength=len(users))
