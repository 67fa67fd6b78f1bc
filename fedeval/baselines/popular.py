"""Baselines that know no taste: chance, and what is popular with all, with the client, or of late."""

from __future__ import annotations

from typing import Unpack

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.baselines.lists import Asked, exact_scores, lists_by
from fedeval.draws import uniform
from fedeval.interactions import NO_CLIENT, Interactions
from fedprep.errors import EvaluationError

__all__ = ["client_popularity", "popularity", "random", "recent_popularity"]

Floats = npt.NDArray[np.float32]
Users = npt.NDArray[np.int64]

DAY = 86_400


def random(train: Interactions, *, seed: int = 0, **asked: Unpack[Asked]) -> pl.DataFrame:
    """Returns lists by chance: score(u, i) uniform in [0, 1), drawn by (seed, user, item).

    The floor of every comparison: HR@k is about k / (items not seen). A user's list does not depend on
    who else is asked for.
    """
    places = np.arange(train.n_items)

    def scores(users: Users) -> Floats:
        return uniform(seed, users[:, None], places, bits=24).astype(np.float32)

    return lists_by(scores, train, asked, personal=False)


def popularity(train: Interactions, *, seed: int = 0, **asked: Unpack[Asked]) -> pl.DataFrame:
    """Returns what most users had: score(i) = rows of item i in train.

    Equal counts stand in order of item id. `seed` changes nothing.

    Reference: "TopPop" in Cremonesi, Koren, Turrin, "Performance of recommender algorithms on top-N
    recommendation tasks", RecSys 2010; "ItemPop" in He et al., "Neural Collaborative Filtering", WWW 2017.
    """
    return _global(exact_scores(train.item_counts), train, asked)


def recent_popularity(
    train: Interactions, *, seed: int = 0, half_life: float = 90.0, **asked: Unpack[Asked]
) -> pl.DataFrame:
    """Returns what users had lately: score(i) = sum over its rows of 2^(-age / half_life).

    Age is the time from the row to the last row of train; the moment at which a user is tested does not
    enter. `seed` changes nothing.

    Args:
        half_life: days after which a row counts half.

    Reference: "DecayPop" in Ji, Sun, Zhang, Li, "A Re-visit of the Popularity Baseline in Recommender
    Systems", SIGIR 2020.

    Raises:
        EvaluationError: `half_life` is not above 0.
    """
    if not half_life > 0:
        raise EvaluationError(f"half_life is {half_life}", expected="days, above 0")
    age = (train.timestamp.max(initial=0) - train.timestamp) / DAY
    weight = np.exp2(-age / half_life)
    scores = np.bincount(train.item_id, weights=weight, minlength=train.n_items)
    return _global(scores.astype(np.float32), train, asked)


def client_popularity(
    train: Interactions, *, seed: int = 0, **asked: Unpack[Asked]
) -> pl.DataFrame:
    """Returns what most users of the same client had, then what most users of all had.

    score(u, i) = the rank, from below, of (rows of i at the client of u, rows of i in all). Where each
    user is a client, the client's items are those that the user has seen, and the list is
    `popularity`'s; so it is for a user without a client. `seed` changes nothing.

    Reference: the counts are those of "TopPop" (Cremonesi, Koren, Turrin, RecSys 2010), the client's
    first: what federated personalisation without a model can do.
    """
    everywhere = train.item_counts
    n_items = train.n_items
    at_client = train.client_id[train.user_id].astype(np.int64)
    held = at_client != NO_CLIENT
    pair, count = np.unique(at_client[held] * n_items + train.item_id[held], return_counts=True)
    client, item = np.divmod(pair, max(n_items, 1))
    # One order for both: a row at the client outweighs all rows elsewhere.
    both = np.concatenate([everywhere, count * (everywhere.max(initial=0) + 1) + everywhere[item]])
    score = exact_scores(np.unique(both, return_inverse=True)[1])
    usual, special = score[:n_items], score[n_items:]
    n_clients = int(train.client_id.max(initial=NO_CLIENT)) + 1
    edges = np.searchsorted(client, np.arange(n_clients + 1))

    def scores(users: Users) -> Floats:
        values = np.tile(usual, (len(users), 1))
        mine = train.client_id[users]
        known = np.flatnonzero(mine != NO_CLIENT)
        first = edges[mine[known]]
        counts = edges[mine[known] + 1] - first
        row = np.repeat(known, counts)
        at = np.arange(len(row)) + np.repeat(first - np.cumsum(counts) + counts, counts)
        values[row, item[at]] = special[at]
        return values

    return lists_by(scores, train, asked, personal=False)


def _global(score: Floats, train: Interactions, asked: Asked) -> pl.DataFrame:
    return lists_by(lambda users: np.tile(score, (len(users), 1)), train, asked, personal=False)
