"""Scorers that know nothing score chance, and where a protocol leaks they say so."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fedeval import sanity
from fedeval.candidates import sample_candidates
from fedeval.interactions import Interactions, joined
from fedeval.sanity import (
    LEVEL,
    SanityRow,
    chance_hr,
    constant,
    leaks,
    memoriser,
    sanity_rows,
    share_at_least,
)
from fedprep.errors import EvaluationError
from tests.real import movielens_1m
from tests.rows import interactions, parts_of_tastes
from tests.test_baselines import last_out

N_USERS, N_ITEMS = 400, 300
TRAIN, VALID, TEST = parts_of_tastes(N_USERS, N_ITEMS, 14, seed=2)
SEEN = joined(TRAIN, VALID)
CANDIDATES = sample_candidates(TEST, TRAIN, n_negatives=99)


def row_of(rows: tuple[SanityRow, ...], scorer: str, ties: str) -> SanityRow:
    return next(row for row in rows if (row.scorer, row.ties) == (scorer, ties))


# --- chance --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "relevant", "k"), [(6, 1, 2), (6, 3, 2), (5, 4, 3), (4, 2, 9), (3, 0, 2)]
)
def test_chance_is_the_share_of_all_lists_that_hit(n: int, relevant: int, k: int) -> None:
    lists = list(itertools.combinations(range(n), min(k, n)))
    hit = sum(any(item < relevant for item in items) for items in lists) / len(lists)
    assert chance_hr(np.array([n]), np.array([relevant]), k) == pytest.approx(hit)


def test_chance_is_k_of_all_for_one_relevant_item() -> None:
    found = chance_hr(np.array([100, 50, 10, 7]), np.array([1, 1, 1, 1]), 10)
    assert found == pytest.approx([0.1, 0.2, 1, 1])


def test_the_share_of_chance_is_that_of_all_outcomes() -> None:
    chances = np.random.default_rng(0).uniform(0, 0.6, 7)
    density = np.zeros(8)
    for hit in itertools.product([False, True], repeat=7):
        density[sum(hit)] += np.where(hit, chances, 1 - chances).prod()
    for hits in range(9):
        assert share_at_least(chances, hits) == pytest.approx(density[hits:].sum(), abs=1e-14)
    assert share_at_least(chances, 2.5) == share_at_least(chances, 3)
    assert share_at_least(np.array([1.0, 1.0]), 2) == 1.0


def test_the_share_of_chance_of_many_users_is_that_of_tries_and_keeps_small_tails() -> None:
    rng = np.random.default_rng(0)
    chances = rng.uniform(0.02, 0.3, 500)
    hits = (rng.random((20_000, 500)) < chances).sum(axis=1)
    for reached in (70, 80, 90, 100):
        assert share_at_least(chances, reached) == pytest.approx(
            (hits >= reached).mean(), abs=0.012
        )
    same = np.full(400, 0.1)  # the binomial: P(S >= 65) = 6.8e-5 (by its sum)
    whole = sum(math.comb(400, s) * 0.1**s * 0.9 ** (400 - s) for s in range(65, 401))
    assert share_at_least(same, 65) == pytest.approx(whole, rel=1e-6)


def test_few_users_prove_nothing() -> None:
    train = interactions([(u, i) for u in range(2) for i in range(2, 12)], 2, 12)
    rows = sanity_rows(train, interactions([(0, 0), (1, 1)], 2, 12), seen=interactions([], 2, 12))
    assert not leaks(rows).leaks


# --- size and power ------------------------------------------------------------------------------------


def by_popularity(noise: float, seed: int) -> tuple[Interactions, Interactions]:
    """Train and test of 400 users; item ids in the order of popularity, the noisier the less so."""
    rng = np.random.default_rng(seed)
    weight = 1 / np.arange(1, N_ITEMS + 1) ** 0.8
    order = np.argsort(np.log(np.arange(1, N_ITEMS + 1)) + noise * rng.standard_normal(N_ITEMS))
    number = np.argsort(order)
    rows = [
        [
            (user, int(number[i]))
            for i in rng.choice(N_ITEMS, 12, replace=False, p=weight / weight.sum())
        ]
        for user in range(N_USERS)
    ]
    train = interactions([row for mine in rows for row in mine[:-1]], N_USERS, N_ITEMS)
    return train, interactions([mine[-1] for mine in rows], N_USERS, N_ITEMS)


@pytest.mark.parametrize("among", ["candidates", "all items"])
def test_ids_in_any_order_are_no_leak(among: str) -> None:
    """Popularity is as skewed as in real data: whoever shares an item hits together."""
    found = []
    for seed in range(30):
        train, test = by_popularity(1e6, seed)
        candidates = (
            sample_candidates(test, train, n_negatives=49) if among == "candidates" else None
        )
        rows = sanity_rows(train, test, candidates=candidates, seed=seed)
        found.append(row_of(rows, "constant", "item_id").p)
        assert not leaks(rows).leaks
    assert 0.3 < np.mean(found) < 0.7  # p-values of chance are anywhere between 0 and 1


@pytest.mark.parametrize("among", ["candidates", "all items"])
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_ids_roughly_in_the_order_of_popularity_are_a_leak(among: str, noise: float) -> None:
    """With a noise of 1, HR@10 is 0.25 where chance is 0.035 and luck ends at 0.11."""
    for seed in range(3):
        train, test = by_popularity(noise, seed)
        candidates = (
            sample_candidates(test, train, n_negatives=49) if among == "candidates" else None
        )
        rows = sanity_rows(train, test, candidates=candidates, seed=seed)
        row = row_of(rows, "constant", "item_id")
        assert row.beats_chance and row.p == 1 / (sanity.ORDERS + 1)
        assert leaks(rows).of_ids_alone


def test_a_value_is_judged_by_orders_of_the_ids_as_evaluate_measures_them() -> None:
    """With other ids the same scorer has, by `evaluate`, what that order of the ids is said to give."""
    train, test = by_popularity(1.0, 4)
    rng = np.random.default_rng(5)
    ranked = sanity._ranked(train, test, train, None, np.arange(N_USERS))
    known = np.flatnonzero(train.item_counts)
    for _ in range(3):
        place = rng.permutation(len(known))
        number = np.full(N_ITEMS, -1)
        number[known] = np.sort(known)[place]  # the same ids, given to other items
        left = np.flatnonzero(train.item_counts == 0)
        number[left] = left
        again = [
            interactions(
                list(zip(part.user_id.tolist(), number[part.item_id].tolist(), strict=True)),
                N_USERS,
                N_ITEMS,
            )
            for part in (train, test)
        ]
        row = row_of(sanity_rows(*again), "constant", "item_id")
        assert ranked.hits(place, 10) == round(row.value * N_USERS)


def test_a_leak_of_one_user_in_twenty_is_found_by_the_memoriser() -> None:
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(N_USERS), 3_000)
    drawn = pl.DataFrame({"user_id": user, "item_id": rng.integers(0, N_ITEMS, len(user))})
    held = TEST.holds(drawn["user_id"].to_numpy(), drawn["item_id"].to_numpy())
    for share, leaking in ((0, False), (20, True)):
        leaves_out = (user % share == 0) if share else np.zeros(len(user), bool)
        rows = sanity_rows(TRAIN, TEST, seen=SEEN, drawn=drawn.filter(~(held & leaves_out)))
        assert row_of(rows, "memoriser", "average").beats_chance == leaking
        assert not leaks(rows).of_ids_alone


def test_the_level_is_that_of_the_whole_table() -> None:
    for pool, n in (("unknown", 2), ("train", 4)):
        rows = sanity_rows(TRAIN, TEST, seen=SEEN, pool=pool)
        assert len(rows) == n
        assert {row.level for row in rows} == {LEVEL / n}
    assert 1 / (sanity.ORDERS + 1) <= LEVEL / 4  # as few orders as can still say so


# --- the scorers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("among", ["candidates", "all items"])
def test_a_constant_scorer_scores_chance_under_both_ties(among: str) -> None:
    candidates = CANDIDATES if among == "candidates" else None
    rows = sanity_rows(TRAIN, TEST, seen=SEEN, candidates=candidates)
    assert {row.scorer for row in rows} == {"constant"}
    by_id, average = (row_of(rows, "constant", ties) for ties in ("item_id", "average"))
    assert average.value == pytest.approx(average.chance, rel=1e-9)
    assert not by_id.beats_chance and 0 < by_id.p <= 1
    assert by_id.chance == pytest.approx(10 / (100 if candidates else 288), rel=0.02)
    assert not leaks(rows).leaks
    assert leaks(rows).text == "no scorer that knows nothing beats chance"


@pytest.mark.parametrize("among", ["candidates", "all items"])
def test_the_memoriser_finds_the_test_item_where_negatives_leave_it_out(among: str) -> None:
    candidates = CANDIDATES if among == "candidates" else None
    rows = sanity_rows(TRAIN, TEST, seen=SEEN, candidates=candidates, pool="all")
    for ties in ("item_id", "average"):
        assert row_of(rows, "memoriser", ties).value > 0.999
        assert not row_of(rows, "constant", ties).beats_chance
    verdict = leaks(rows)
    assert verdict.leaks
    assert "HR@10 1.000" in verdict.text
    assert "the protocol leaks" in verdict.text
    assert verdict.text.count("\n") == 1  # two of the four rows


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("among", ["candidates", "all items"])
@pytest.mark.parametrize("pool", ["train", "none"])
def test_the_memoriser_scores_chance_on_an_honest_pool(among: str, pool: str, seed: int) -> None:
    candidates = CANDIDATES if among == "candidates" else None
    rows = sanity_rows(TRAIN, TEST, seen=SEEN, candidates=candidates, pool=pool, seed=seed)
    found = row_of(rows, "memoriser", "average")
    assert not leaks(rows).leaks
    deviation = np.sqrt(found.chance * (1 - found.chance) / N_USERS)
    assert abs(found.value - found.chance) < 4 * deviation


def test_drawn_negatives_are_counted_from_a_table() -> None:
    train = interactions([(0, 0), (1, 1)], 2, 4)
    draws = pl.DataFrame({"user_id": [0, 0, 0, 1], "item_id": [3, 3, 1, 0]})
    counted = pl.DataFrame({"user_id": [0, 0, 1], "item_id": [3, 1, 0], "count": [2, 1, 1]})
    for table in (draws, counted):
        recs = memoriser(train, drawn=table, items=np.ones(4, bool))
        rows = recs.select("user_id", "item_id", "score").rows()
        assert rows == [(0, 2, 0), (0, 1, -1), (0, 3, -2), (1, 2, 0), (1, 3, 0), (1, 0, -1)]


def test_a_table_of_leaking_draws_is_found_out_and_one_of_honest_draws_is_not() -> None:
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(N_USERS), 3_000)
    drawn = pl.DataFrame({"user_id": user, "item_id": rng.integers(0, N_ITEMS, len(user))})

    def without(*parts: Interactions) -> pl.DataFrame:
        known = joined(*parts)
        return drawn.filter(~known.holds(drawn["user_id"].to_numpy(), drawn["item_id"].to_numpy()))

    options = {"seen": SEEN, "candidates": CANDIDATES}
    assert leaks(sanity_rows(TRAIN, TEST, drawn=without(SEEN, TEST), **options)).leaks  # type: ignore[arg-type]
    assert not leaks(sanity_rows(TRAIN, TEST, drawn=without(TRAIN), **options)).leaks  # type: ignore[arg-type]


def test_simulated_draws_are_as_many_as_a_sampler_makes_and_never_of_what_it_leaves_out() -> None:
    everything = np.ones(N_ITEMS, bool)
    none = interactions([], N_USERS, N_ITEMS)
    recs = memoriser(TRAIN, excluded=SEEN, seen=none, items=everything, k=N_ITEMS, rounds=20)
    draws = -recs["score"].to_numpy()
    assert draws.sum() / N_USERS == pytest.approx(4 * 20 * 12, rel=0.01)
    held = SEEN.holds(recs["user_id"].to_numpy(), recs["item_id"].to_numpy())
    assert (draws[held] == 0).all()
    some = memoriser(
        TRAIN, excluded=SEEN, seen=none, items=everything, k=N_ITEMS, rounds=20, users=[300, 2]
    )
    for user in (2, 300):
        mine = pl.col("user_id") == user
        assert some.filter(mine).equals(recs.filter(mine))


def test_ids_that_tell_what_is_relevant_are_a_leak_of_the_order_by_id() -> None:
    train = interactions([(u, 20 + i) for u in range(300) for i in range(30)], 300, 50)
    train = train.only((train.item_id + train.user_id) % 3 > 0)
    test = interactions([(user, user % 8) for user in range(300)], 300, 50)
    candidates = sample_candidates(test, train, n_negatives=8, items=np.arange(50) >= 8)
    rows = sanity_rows(train, test, candidates=candidates, k=1)
    assert row_of(rows, "constant", "item_id").beats_chance
    assert row_of(rows, "constant", "average").value == pytest.approx(1 / 9)
    assert "the order of item ids" in leaks(rows).text


def test_a_full_ranking_of_many_cells_is_of_a_part_of_the_users(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sanity, "MOST_CELLS", {"item_id": 90 * N_ITEMS, "average": 40 * N_ITEMS})
    rows = sanity_rows(TRAIN, TEST, seen=SEEN, pool="all")
    assert [row.n_users for row in rows] == [90, 90, 40, 40]
    assert all(f"of {row.n_users} users drawn from {N_USERS}," in row.text for row in rows)
    assert leaks(rows).leaks


def test_a_row_is_plain_values_and_a_sentence() -> None:
    row = SanityRow(
        scorer="constant", ties="average", k=10, value=0.1, chance=0.1, p=0.523, n_users=1_200
    )
    assert row.to_dict() == {
        "scorer": "constant", "ties": "average", "k": 10, "value": 0.1, "chance": 0.1, "p": 0.523,
        "level": LEVEL, "n_users": 1_200, "n_all": 0, "told": "", "beats_chance": False, "text": row.text,
    }  # fmt: skip
    assert row.text == (
        "constant scorer, ties averaged: HR@10 0.100 of 1,200 users, chance 0.100 (p 0.52): "
        "no more than chance"
    )


def test_what_cannot_be_checked_is_refused() -> None:
    with pytest.raises(EvaluationError, match="did you mean 'train'"):
        sanity_rows(TRAIN, TEST, pool="trian")
    with pytest.raises(EvaluationError, match="no user has a relevant row"):
        sanity_rows(TRAIN, interactions([], N_USERS, N_ITEMS))
    for drawn, excluded in ((None, None), (pl.DataFrame(), TRAIN)):
        with pytest.raises(EvaluationError, match="needs to know training negatives"):
            memoriser(TRAIN, drawn=drawn, excluded=excluded)
    assert constant(TRAIN, k=2, users=[0]).height == 2


@pytest.mark.realdata
@pytest.mark.slow
def test_on_movielens_1m_the_memoriser_finds_the_leak_and_chance_without_it(mirror: Path) -> None:
    """Users of 18 rows draw 7,200 negatives of 3,700 items in 100 rounds, and never some: in 400 they do."""
    train, test = last_out(movielens_1m(mirror))
    options = {"candidates": sample_candidates(test, train, n_negatives=99)}
    for rounds, least in ((100, 0.97), (400, 0.9995)):
        rows = sanity_rows(train, test, pool="all", rounds=rounds, **options)  # type: ignore[arg-type]
        assert row_of(rows, "memoriser", "average").value > least
        assert leaks(rows).leaks
    rows = sanity_rows(train, test, pool="train", **options)  # type: ignore[arg-type]
    assert not leaks(rows).leaks
    assert row_of(rows, "memoriser", "average").value == pytest.approx(0.1, abs=0.015)
    assert row_of(rows, "constant", "average").value == pytest.approx(0.1, abs=1e-9)
