"""Scorers that know nothing score chance, and where a protocol leaks they say so."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fedeval import sanity
from fedeval.candidates import sample_candidates
from fedeval.interactions import Interactions, joined
from fedeval.sanity import (
    SanityRow,
    chance_bound,
    chance_hr,
    constant,
    leaks,
    memoriser,
    sanity_rows,
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


def test_the_bound_holds_by_chance_and_is_not_far_off() -> None:
    """At most one of a thousand tries is above it; five deviations are."""
    rng = np.random.default_rng(0)
    chances = rng.uniform(0.02, 0.3, 500)
    truth = pl.DataFrame({"user_id": np.arange(500), "item_id": rng.integers(0, 40, 500)})
    independent = rng.random((2_000, 500)) < chances
    bound = chance_bound(chances, truth, shared=False)
    assert (independent.mean(axis=1) > bound).mean() <= 0.001
    assert bound < chances.mean() + 5 * independent.mean(axis=1).std()
    together = rng.random((2_000, 40))[:, truth["item_id"].to_numpy()] < chances
    shared = chance_bound(chances, truth, shared=True)
    assert (together.mean(axis=1) > shared).mean() <= 0.001
    assert shared > bound


def test_few_users_prove_nothing() -> None:
    truth = pl.DataFrame({"user_id": [0, 1], "item_id": [5, 6]})
    assert chance_bound(np.array([0.1, 0.1]), truth, shared=False) == 1.0


# --- the scorers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("among", ["candidates", "all items"])
def test_a_constant_scorer_scores_chance_under_both_ties(among: str) -> None:
    candidates = CANDIDATES if among == "candidates" else None
    rows = sanity_rows(TRAIN, TEST, seen=SEEN, candidates=candidates)
    assert {row.scorer for row in rows} == {"constant"}
    by_id, average = (row_of(rows, "constant", ties) for ties in ("item_id", "average"))
    assert average.value == pytest.approx(average.chance, rel=1e-9)
    assert by_id.value < by_id.bound
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
        scorer="constant", ties="average", k=10, value=0.1, chance=0.1, bound=0.2, n_users=1_200
    )
    assert row.to_dict() == {
        "scorer": "constant", "ties": "average", "k": 10, "value": 0.1, "chance": 0.1, "bound": 0.2,
        "n_users": 1_200, "n_all": 0, "told": "", "beats_chance": False, "text": row.text,
    }  # fmt: skip
    assert row.text == (
        "constant scorer, ties averaged: HR@10 0.100 of 1,200 users, chance 0.100 (with luck up to 0.200): "
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
