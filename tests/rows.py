"""Made-up interactions for tests of fedeval: users of a few tastes, items of uneven popularity."""

from __future__ import annotations

import numpy as np
import polars as pl

from fedeval.interactions import Interactions, interactions_from


def frame_of_tastes(
    n_users: int = 60, n_items: int = 40, per_user: int = 12, *, n_tastes: int = 4, seed: int = 0
) -> pl.DataFrame:
    """Returns rows, each pair once: three in four of a user's items are of one taste, ids in random order."""
    rng = np.random.default_rng(seed)
    taste = rng.integers(0, n_tastes, n_items)
    appeal = rng.gumbel(size=(n_users, n_items)) + rng.permutation(np.linspace(0, 2, n_items))
    appeal += 3.0 * (taste == rng.integers(0, n_tastes, n_users)[:, None])
    item = np.argsort(-appeal, axis=1)[:, :per_user]
    user = np.repeat(np.arange(n_users), per_user)
    return pl.DataFrame(
        {
            "user_id": user,
            "item_id": item[:, rng.permutation(per_user)].ravel(),
            "timestamp": 10**9 + rng.integers(0, 400 * 86_400, len(user)),
            "client_id": (user % 5).astype(np.int32),
        }
    )


def parts_of_tastes(
    n_users: int = 60, n_items: int = 40, per_user: int = 12, *, seed: int = 0
) -> tuple[Interactions, Interactions, Interactions]:
    """Returns train, valid, test: the last two rows of each user are valid and test."""
    rows = frame_of_tastes(n_users, n_items, per_user, seed=seed)
    place = pl.int_range(pl.len()).over("user_id")
    valid, test = place == per_user - 2, place == per_user - 1
    return tuple(
        interactions_from(rows.filter(which), n_users=n_users, n_items=n_items)
        for which in (~(valid | test), valid, test)
    )  # type: ignore[return-value]


def interactions(pairs: list[tuple[int, int]], n_users: int, n_items: int) -> Interactions:
    """Returns these (user, item) rows."""
    frame = pl.DataFrame(pairs, schema={"user_id": pl.Int32, "item_id": pl.Int32}, orient="row")
    return interactions_from(frame, n_users=n_users, n_items=n_items)
