"""Top-k: always what sorting every score gives, however it is cut into blocks and tiles."""

from __future__ import annotations

import sys
import threading
import tracemalloc

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings

from fedeval import ranking, selection, topk
from fedeval.candidates import sample_candidates
from fedeval.interactions import Interactions
from fedeval.ranking import ranked
from fedeval.selection import places, select
from fedeval.topk import top_k, top_k_blocks
from fedprep.errors import EvaluationError
from tests.rows import interactions

Table = np.ndarray


def by_sorting(scores: Table, k: int) -> tuple[list[list[int]], list[list[float]]]:
    """The k best columns of each row, by a sort in full; equal scores by column, -inf left out."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    lists = [[int(c) for c in row if scores[r, c] > -np.inf] for r, row in enumerate(order)]
    return lists, [[float(scores[r, c]) for c in row] for r, row in enumerate(lists)]


def lists_of(frame: pl.DataFrame, users: list[int]) -> tuple[list[list[int]], list[list[float]]]:
    """The lists of a frame, in order of its ranks, which must be 1, 2, 3 …"""
    kept = [frame.filter(pl.col("user_id") == user) for user in users]
    for rows in kept:
        assert rows["rank"].to_list() == list(range(1, rows.height + 1))
    return [rows["item_id"].to_list() for rows in kept], [rows["score"].to_list() for rows in kept]


def factors(rng: np.random.Generator, n: int, dim: int, most: int = 3) -> Table:
    """Small whole numbers: their products are exact, and many are equal."""
    return rng.integers(-most, most + 1, (n, dim)).astype(np.float32)


def some_seen(rng: np.random.Generator, n_users: int, n_items: int, n: int) -> Interactions:
    pairs = np.unique(rng.integers(0, n_users * n_items, n))
    return interactions([divmod(int(pair), n_items) for pair in pairs], n_users, n_items)


# --- selection -----------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 40), st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_select_is_what_a_full_sort_gives(seed: int, n_rows: int, n: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.array([-np.inf, -2.5, -0.0, 0.0, 1e-30, 1.0, 1.0, 3.4e38, np.inf], np.float32)
    scores = rng.choice(values, (n_rows, n))
    best = select(scores, k)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    assert best.item_id.tolist() == order.tolist()
    assert (best.score == np.take_along_axis(scores, order, axis=1)).all()


@pytest.mark.parametrize(
    "kind", ["random", "rising", "falling", "equal", "few values", "mostly -inf"]
)
def test_long_rows_are_exact_where_the_guess_of_the_floor_is_bad_too(kind: str) -> None:
    n = selection.SHORT + 77
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((5, n)).astype(np.float32)
    if kind in ("rising", "falling"):
        scores = np.sort(scores, axis=1)[:, :: 1 if kind == "rising" else -1].copy()
    elif kind == "equal":
        scores[:] = 0.5
    elif kind == "few values":
        scores = np.round(scores)
    elif kind == "mostly -inf":
        scores[rng.random(scores.shape) < 0.9995] = -np.inf
    best = select(scores, 20)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :20]
    assert best.item_id.tolist() == order.tolist()


@given(st.lists(st.booleans(), max_size=70))
@settings(max_examples=50, deadline=None)
def test_places_are_those_of_the_true_values(mask: list[bool]) -> None:
    assert places(np.array(mask, bool)).tolist() == [i for i, true in enumerate(mask) if true]


def test_nan_is_an_error_that_says_whose() -> None:
    scores = np.zeros((4, 6), np.float32)
    scores[2, 3] = np.nan
    with pytest.raises(EvaluationError, match=r"1 scores are NaN\n.*user 2"):
        select(scores, 2)
    with pytest.raises(EvaluationError, match="user 12"):
        ranked(lambda users: scores, [10, 11, 12, 13], 6)


# --- two matrices --------------------------------------------------------------------------------------


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 64 items and blocks of 8 users, so that small tables have many."""
    monkeypatch.setattr(topk, "TILE_ITEMS", 64)
    monkeypatch.setattr(topk, "TILE_BYTES", 64 * 4 * 8)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("most", [0, 1, 3, 1_000])
@pytest.mark.parametrize("k", [1, 7, 13])
@pytest.mark.parametrize("cores", [1, 8])
def test_tiles_give_what_a_full_sort_gives(
    most: int, k: int, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topk, "threads", lambda: cores)
    rng = np.random.default_rng(most)
    users, items = factors(rng, 21, 5, most), factors(rng, 500, 5, most)
    seen = some_seen(rng, 21, 500, 900)
    allowed = rng.random(500) < 0.9
    scores = users @ items.T
    scores[seen.user_id, seen.item_id] = -np.inf
    scores[:, ~allowed] = -np.inf
    wanted = [20, 3, 0, 11, 12, 13, 14, 15, 16, 17]
    found = top_k(users, items, k=k, seen=seen, items=allowed, users=wanted)
    assert lists_of(found, wanted) == by_sorting(scores[wanted], k)
    assert found["user_id"].unique(maintain_order=True).to_list() == wanted


@pytest.mark.usefixtures("small_tiles")
def test_many_items_and_short_lists_go_by_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(topk, "ranked_blocks")
    top_k(np.ones((3, 2), "f4"), np.ones((500, 2), "f4"), k=13)
    with pytest.raises(NameError):
        top_k(np.ones((3, 2), "f4"), np.ones((100, 2), "f4"), k=13)


@pytest.mark.usefixtures("small_tiles")
def test_without_threadpoolctl_one_block_is_done_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    users, items = factors(rng, 40, 5), factors(rng, 400, 5)
    found = top_k(users, items, k=6)
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    assert top_k(users, items, k=6).equals(found)
    assert topk._one_thread_each()[1] == 1


@pytest.mark.usefixtures("small_tiles")
def test_a_user_who_has_seen_nearly_all_gets_a_short_list() -> None:
    rng = np.random.default_rng(0)
    users, items = factors(rng, 3, 4), factors(rng, 300, 4)
    seen = interactions([(1, item) for item in range(300) if item not in (17, 204)], 3, 300)
    found = top_k(users, items, k=5, seen=seen)
    assert sorted(found.filter(pl.col("user_id") == 1)["item_id"]) == [17, 204]
    assert found.height == 12


def test_few_items_and_long_lists_are_ranked_whole() -> None:
    rng = np.random.default_rng(1)
    users, items = factors(rng, 30, 6), factors(rng, 90, 6)
    seen = some_seen(rng, 30, 90, 400)
    scores = users @ items.T
    scores[seen.user_id, seen.item_id] = -np.inf
    found = top_k(users, items, k=200, seen=seen)
    assert lists_of(found, list(range(30))) == by_sorting(scores, 200)


def test_blocks_are_the_parts_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    users, items = factors(rng, 40, 3), factors(rng, 50, 3)
    whole = top_k(users, items, k=4)
    assert pl.concat(list(top_k_blocks(users, items, k=4))).equals(whole)
    scores = ranked(
        lambda block: users[block] @ items.T, range(40), 50, k=4, block_bytes=50 * 4 * 7
    )
    assert scores.equals(whole)


@pytest.mark.parametrize("n_items", [50, 3 * topk.TILE_ITEMS])  # ranked whole, and in tiles
def test_whoever_stops_half_way_leaves_no_thread(n_items: int) -> None:
    rng = np.random.default_rng(2)
    before = threading.active_count()
    blocks = top_k_blocks(factors(rng, 40, 3), factors(rng, n_items, 3), k=4)
    assert next(iter(blocks)).height
    assert threading.active_count() == before


def test_candidates_alone_are_ranked_where_they_are_given() -> None:
    rng = np.random.default_rng(3)
    users, items = factors(rng, 12, 4), factors(rng, 60, 4)
    train, test = some_seen(rng, 12, 60, 100), interactions([(u, u) for u in range(12)], 12, 60)
    candidates = sample_candidates(test, train, n_negatives=9)
    scores = np.full((12, 60), -np.inf, np.float32)
    pairs = candidates.frame()
    at = pairs["user_id"].to_numpy(), pairs["item_id"].to_numpy()
    scores[at] = (users @ items.T)[at]
    for found in (
        top_k(users, items, k=5, candidates=candidates),
        ranked(lambda block: users[block] @ items.T, [], 60, k=5, candidates=candidates),
    ):
        assert lists_of(found, list(range(12))) == by_sorting(scores, 5)


def test_a_candidate_that_cannot_be_scored_stands_last_with_a_finite_score() -> None:
    test = interactions([(0, 1)], 1, 3)
    candidates = sample_candidates(test, interactions([(0, 2)], 1, 3), items=np.ones(3, bool))
    lowest = np.array([[5, -np.inf, -1]], np.float32)
    found = ranked(lambda users: lowest[users], [], 3, candidates=candidates)
    assert found["item_id"].to_list() == [0, 1]
    assert np.isfinite(found["score"].to_numpy()).all()


def test_users_times_items_are_never_in_memory() -> None:
    rng = np.random.default_rng(4)
    users = rng.standard_normal((3_000, 8)).astype(np.float32)
    items = rng.standard_normal((40_000, 8)).astype(np.float32)
    tracemalloc.start()
    rows = sum(block.height for block in top_k_blocks(users, items, k=10))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == 30_000
    assert peak < 100e6  # the scores are 480 MB


def test_no_user_is_an_empty_frame() -> None:
    found = top_k(np.ones((2, 2), "f4"), np.ones((3, 2), "f4"), users=[])
    assert (found.height, found.columns) == (0, ["user_id", "item_id", "rank", "score"])
    assert found.dtypes == [pl.Int32, pl.Int32, pl.Int32, pl.Float32]


ONES = np.ones((3, 2), np.float32)


@pytest.mark.parametrize(
    ("users", "items", "options", "match"),
    [
        (ONES, np.ones((4, 3), "f4"), {}, "have no product"),
        (ONES, np.ones(4, "f4"), {}, "have no product"),
        (ONES.astype("f8"), ONES, {}, "user_factors is float64"),
        (ONES, np.array([[0, np.nan]], "f4"), {}, "1 rows of item_factors"),
        (ONES * np.float32(1e30), ONES * np.float32(1e30), {}, "overflows"),
        (ONES, ONES, {"k": 0}, "k is 0"),
        (ONES, ONES, {"users": [3]}, "0 to 2"),
        (ONES, ONES, {"items": np.ones(4, bool)}, "items has shape"),
        (ONES, ONES, {"seen": interactions([(0, 0)], 3, 9)}, "the seen rows of 9"),
        (
            ONES,
            ONES,
            {"candidates": sample_candidates(interactions([(0, 8)], 3, 9), interactions([], 3, 9))},
            "0 to 2",
        ),
    ],
)
def test_what_cannot_be_ranked_is_refused(
    users: Table, items: Table, options: dict[str, object], match: str
) -> None:
    with pytest.raises(EvaluationError, match=match):
        top_k(users, items, **options)  # type: ignore[arg-type]


def test_a_block_of_scores_is_one_user_at_the_least() -> None:
    scores = np.arange(20, dtype=np.float32).reshape(4, 5)
    found = ranked(lambda users: scores[users], range(4), 5, k=1, block_bytes=1)
    assert found["item_id"].to_list() == [4, 4, 4, 4]
    assert ranking.BLOCK_BYTES == 128 << 20
