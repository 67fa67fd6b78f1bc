"""Candidate sets: who is drawn, who never is, and that they come back from files as they went."""

from __future__ import annotations

import logging
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings

from fedeval import candidates as module
from fedeval.candidates import (
    METHODS,
    Candidates,
    read_candidates,
    read_ncf_candidates,
    sample_candidates,
    write_candidates,
)
from fedeval.draws import uniform
from fedeval.interactions import Interactions
from fedprep.errors import EvaluationError
from tests.rows import interactions, parts_of_tastes


def negatives_by_user(candidates: Candidates) -> dict[int, list[int]]:
    rows = candidates.frame().filter(~pl.col("relevant"))
    lists = rows.group_by("user_id", maintain_order=True).agg("item_id")
    return dict(lists.iter_rows())


@st.composite
def small_parts(draw: st.DrawFn) -> tuple[Interactions, Interactions, np.ndarray]:
    """Train and test without a common pair, and which items there are."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_users, n_items = draw(st.integers(1, 6)), draw(st.integers(2, 12))
    kind = rng.choice(3, (n_users, n_items), p=(0.6, 0.3, 0.1))
    kind[rng.integers(n_users), rng.integers(n_items)] = 2
    parts = [
        interactions([(int(u), int(i)) for u, i in np.argwhere(kind == which)], n_users, n_items)
        for which in (1, 2)
    ]
    return parts[0], parts[1], rng.random(n_items) < 0.8


@pytest.mark.parametrize("rounds", [module.ROUNDS, 1, 0])
@given(parts=small_parts(), method=st.sampled_from(METHODS), n=st.integers(1, 14))
@settings(max_examples=40, deadline=None)
def test_candidates_are_the_relevant_items_and_distinct_others_that_are_free(
    rounds: int, parts: tuple[Interactions, Interactions, np.ndarray], method: str, n: int
) -> None:
    train, test, items = parts
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROUNDS", rounds)
        found = sample_candidates(test, train, n_negatives=n, method=method, items=items)  # type: ignore[arg-type]
    assert found.truth().equals(test.frame().select("user_id", "item_id"))
    assert found.user_id.tolist() == np.flatnonzero(test.user_counts).tolist()
    drawn, short = negatives_by_user(found), 0
    for user in found.user_id.tolist():
        known = set(train.item_id[train.user_id == user]) | set(test.item_id[test.user_id == user])
        free = set(np.flatnonzero(items)) - known
        if method == "popularity":
            free &= set(train.item_id)
        mine = drawn.get(user, [])
        assert set(mine) <= free
        assert len(set(mine)) == len(mine) == min(n, len(free))
        short += len(free) < n
    assert found.facts["short"] == short


@pytest.mark.parametrize("method", METHODS)
def test_a_users_draw_follows_the_seed_and_the_user_alone(method: str) -> None:
    train, _, test = parts_of_tastes(seed=3)
    some = test.only(test.user_id % 3 == 1)
    options = {"n_negatives": 6, "method": method}
    every = negatives_by_user(sample_candidates(test, train, **options))  # type: ignore[arg-type]
    few = negatives_by_user(sample_candidates(some, train, **options))  # type: ignore[arg-type]
    assert few == {user: every[user] for user in few}
    other = negatives_by_user(sample_candidates(test, train, seed=1, **options))  # type: ignore[arg-type]
    assert other != every


def test_blocks_of_users_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    train, _, test = parts_of_tastes(seed=4)
    whole = sample_candidates(test, train, n_negatives=7).frame()
    monkeypatch.setattr(module, "BLOCK_DRAWS", 50)
    assert sample_candidates(test, train, n_negatives=7).frame().equals(whole)


@pytest.mark.parametrize("rounds", [module.ROUNDS, 1, 0])
def test_uniform_negatives_are_uniform_and_popular_ones_by_popularity(
    rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One draw for each of 8,000 users: shares within four deviations of what they must be."""
    monkeypatch.setattr(module, "ROUNDS", rounds)
    n_users = 8_000
    test = interactions([(user, 0) for user in range(2, n_users)], n_users, 5)
    train = interactions([(0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4)], n_users, 5)
    train = train.only(np.ones(len(train), bool))
    for method, weight in (("uniform", [0, 1, 1, 1, 1]), ("popularity", [0, 1, 2, 2, 2])):
        found = sample_candidates(test, train, n_negatives=1, method=method)  # type: ignore[arg-type]
        counts = np.bincount(found.item_id[~found.relevant], minlength=5)
        share = np.array(weight) / sum(weight)
        deviation = np.sqrt(share * (1 - share) / test.user_counts.sum())
        assert (np.abs(counts / counts.sum() - share) <= 4 * deviation).all()


def test_two_of_three_drawn_by_popularity_are_drawn_one_after_another() -> None:
    """P(the light item is left out) = by hand, and the same with rejection and without."""
    n_users = 20_000
    test = interactions([(user, 0) for user in range(3, n_users)], n_users, 4)
    train = interactions(
        [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)], n_users, 4
    )  # 1, 2, 3 rows
    # Left out is item 1: (2, then 3) 2/6 · 3/4 + (3, then 2) 3/6 · 2/3.
    expected = 2 / 6 * 3 / 4 + 3 / 6 * 2 / 3
    for rounds in (module.ROUNDS, 1, 0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "ROUNDS", rounds)
            found = sample_candidates(test, train, n_negatives=2, method="popularity")
        left_out = 1 - (found.item_id[~found.relevant] == 1).sum() / test.user_counts.sum()
        assert abs(left_out - expected) < 4 * np.sqrt(0.25 / n_users)


def test_users_with_few_items_left_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    test, train = interactions([(0, 0), (1, 0)], 2, 4), interactions([(0, 1), (1, 2), (1, 3)], 2, 4)
    with caplog.at_level(logging.WARNING):
        found = sample_candidates(test, train, n_negatives=2)
    assert negatives_by_user(found) == {0: [2, 3], 1: [1]}
    assert found.facts["short"] == 1
    assert "1 users have fewer than 2" in caplog.text


def test_who_asks_for_more_than_there_is_gets_all_that_is_left_at_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_first", lambda *_: pytest.fail("drawn round by round"))
    test, train = interactions([(0, 0), (1, 3)], 2, 4), interactions([(0, 1), (1, 2)], 2, 4)
    found = sample_candidates(test, train, n_negatives=10**9, items=np.ones(4, bool))
    assert negatives_by_user(found) == {0: [2, 3], 1: [0, 1]}


def test_a_candidate_set_comes_back_from_its_file_with_its_facts(tmp_path: Path) -> None:
    train, _, test = parts_of_tastes(seed=5)
    found = sample_candidates(test, train, n_negatives=5, seed=9, excluded="train")
    write_candidates(found, tmp_path / "candidates.parquet")
    again = read_candidates(tmp_path / "candidates.parquet")
    assert again.frame().equals(found.frame())
    assert again.offsets.tolist() == found.offsets.tolist()
    assert again.facts == found.facts == {
        "method": "uniform", "n_negatives": 5, "seed": 9, "excluded": "train", "short": 0,
    }  # fmt: skip
    found.frame().sample(fraction=1, shuffle=True, seed=1).write_parquet(
        tmp_path / "shuffled.parquet"
    )
    assert read_candidates(tmp_path / "shuffled.parquet").frame().equals(found.frame())


def test_the_candidate_file_of_ncf_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ml-1m.test.negative"
    path.write_text("(0,25)\t10\t7\n(2,3)\t25\t4\t\n(0,8)\t7\t11\n(3,1)\n")
    found = read_ncf_candidates(path)
    assert found.truth().rows() == [(0, 8), (0, 25), (2, 3), (3, 1)]
    assert negatives_by_user(found) == {0: [7, 10, 11], 2: [4, 25]}
    assert found.facts["method"] == "file"


@pytest.mark.parametrize(
    "text", ["", "0\t1\n", "(0,25)\t1\tx\n", "(0;25)\t1\n", "(99999999999,1)\t1\n"]
)
def test_a_file_that_is_no_candidate_file_of_ncf_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad").write_text(text)
    with pytest.raises(EvaluationError, match=r"lines are no candidates"):
        read_ncf_candidates(tmp_path / "bad")


def test_a_candidate_that_no_item_can_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("(0,25)\t10\t99999999999\n")
    with pytest.raises(EvaluationError, match="1 candidates are no items"):
        read_ncf_candidates(tmp_path / "bad")


def test_files_that_are_no_candidates_are_refused(tmp_path: Path) -> None:
    good = {"user_id": [0, 0], "item_id": [1, 2], "relevant": [True, False]}
    for change, match in (
        ({"item_id": ["a", "b"]}, "must be integers"),
        ({"item_id": [1, 1]}, "1 candidates stand there more than once"),
        ({"item_id": [1, None]}, "must be integers"),
    ):
        pl.DataFrame(good | change).write_parquet(tmp_path / "bad.parquet")
        with pytest.raises(EvaluationError, match=match):
            read_candidates(tmp_path / "bad.parquet")
    pl.DataFrame(good).rename({"relevant": "relevance"}).write_parquet(tmp_path / "bad.parquet")
    with pytest.raises(EvaluationError, match="did you mean 'relevance'"):
        read_candidates(tmp_path / "bad.parquet")
    (tmp_path / "bad.parquet").write_text("no Parquet")
    for read in (read_candidates, read_ncf_candidates):
        with pytest.raises(EvaluationError, match="no candidates can be read"):
            read(tmp_path / "missing")
    with pytest.raises(EvaluationError, match="no candidates can be read"):
        read_candidates(tmp_path / "bad.parquet")


def test_what_cannot_be_sampled_is_refused() -> None:
    train, _, test = parts_of_tastes()
    with pytest.raises(EvaluationError, match="did you mean 'popularity'"):
        sample_candidates(test, train, method="populariti")  # type: ignore[arg-type]
    with pytest.raises(EvaluationError, match="n_negatives is 0"):
        sample_candidates(test, train, n_negatives=0)
    with pytest.raises(EvaluationError, match="different sizes"):
        sample_candidates(test, interactions([(0, 0)], 2, 2))


def test_numbers_by_address_are_uniform_and_do_not_depend_on_their_company() -> None:
    table = uniform(7, np.arange(300)[:, None], np.arange(200))
    assert (table == uniform(7, np.arange(300)[:, None], np.arange(200))).all()
    assert table[5, 9] == uniform(7, 5, 9)[0]
    assert ((table >= 0) & (table < 1)).all()
    counts = np.histogram(table, bins=20, range=(0, 1))[0]
    assert np.abs(counts - 3_000).max() < 5 * np.sqrt(3_000)
    other_seed = uniform(8, np.arange(300)[:, None], np.arange(200))
    for a, b in (
        (table[1:], table[:-1]),
        (table[:, 1:], table[:, :-1]),
        (table[1:, 1:], table[:-1, :-1]),
        (table, other_seed),
    ):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 5 / np.sqrt(a.size)
    short = uniform(7, 0, np.arange(9), bits=24)
    assert (short.astype(np.float32) == short).all()
