"""Baselines: one contract for all, and each against its formula written out."""

from __future__ import annotations

import importlib.util
import inspect
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import fedeval.baselines.cooccurrence as cooccurrence_module
import fedeval.baselines.neighbours as neighbours_module
from fedeval.baselines import BASELINES, baseline, embeddings_of
from fedeval.baselines.cooccurrence import cooccurrence
from fedeval.baselines.lists import exact_scores
from fedeval.candidates import sample_candidates
from fedeval.interactions import Interactions, interactions_from, interactions_of, joined
from fedprep.dataset import Dataset
from fedprep.errors import EvaluationError, MissingExtraError
from tests.built import write_built
from tests.real import movielens_1m
from tests.rows import frame_of_tastes, interactions, parts_of_tastes

ROOT = Path(__file__).parent.parent
TRAIN, VALID, TEST = parts_of_tastes()
N_USERS, N_ITEMS = TRAIN.n_users, TRAIN.n_items
EMBEDDINGS = {
    "text": np.random.default_rng(0).standard_normal((N_ITEMS, 6)).astype(np.float32),
    "image": np.random.default_rng(1).standard_normal((N_ITEMS, 3)).astype(np.float32),
}
NAMES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            name == "ials" and importlib.util.find_spec("implicit") is None,
            reason="needs the extra als",
        ),
    )
    for name in BASELINES
]


def recommend(name: str, train: Interactions = TRAIN, **options: Any) -> pl.DataFrame:
    return baseline(name, train, embeddings=EMBEDDINGS, **options)


def list_of(recs: pl.DataFrame, user: int) -> list[int]:
    return recs.filter(pl.col("user_id") == user)["item_id"].to_list()


def table_of(recs: pl.DataFrame, n_users: int = N_USERS, n_items: int = N_ITEMS) -> np.ndarray:
    """The scores of lists as a matrix, NaN where an item is in no list."""
    table = np.full((n_users, n_items), np.nan)
    table[recs["user_id"].to_numpy(), recs["item_id"].to_numpy()] = recs["score"].to_numpy()
    return table


def matrix(train: Interactions) -> np.ndarray:
    x = np.zeros((train.n_users, train.n_items))
    x[train.user_id, train.item_id] = 1
    return x


# --- the contract --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
class TestContract:
    def test_lists_are_ranked_by_score_and_then_item_and_hold_no_seen_item(self, name: str) -> None:
        recs = recommend(name, k=9)
        assert dict(recs.schema) == {
            "user_id": pl.Int32, "item_id": pl.Int32, "rank": pl.Int32, "score": pl.Float32,
        }  # fmt: skip
        assert recs.equals(
            recs.sort(["user_id", "score", "item_id"], descending=[False, True, False])
        )
        lists = recs.group_by("user_id", maintain_order=True).agg("rank", "item_id")
        assert lists["user_id"].to_list() == list(range(N_USERS))
        assert all(ranks == list(range(1, 10)) for ranks in lists["rank"].to_list())
        assert all(len(set(items)) == 9 for items in lists["item_id"].to_list())
        assert not TRAIN.holds(recs["user_id"].to_numpy(), recs["item_id"].to_numpy()).any()
        assert np.isfinite(recs["score"].to_numpy()).all()

    def test_the_same_seed_gives_the_same_lists_whoever_else_is_asked_for(self, name: str) -> None:
        recs = recommend(name, k=5, seed=3)
        assert recommend(name, k=5, seed=3).equals(recs)
        some = [41, 7, 8]
        few = recommend(name, k=5, seed=3, users=some)
        assert few["user_id"].unique(maintain_order=True).to_list() == some
        assert all(list_of(few, user) == list_of(recs, user) for user in some)

    def test_the_order_of_rows_changes_nothing(self, name: str) -> None:
        rows = frame_of_tastes()
        shuffled = rows.sample(fraction=1, shuffle=True, seed=1)
        a, b = (recommend(name, interactions_from(frame), k=5) for frame in (rows, shuffled))
        assert a.equals(b)

    def test_seen_items_are_those_that_are_named(self, name: str) -> None:
        seen = joined(TRAIN, VALID)
        recs = recommend(name, k=100, seen=seen)
        pairs = recs["user_id"].to_numpy(), recs["item_id"].to_numpy()
        assert not seen.holds(*pairs).any()
        assert recs.height == N_USERS * N_ITEMS - len(seen)

    def test_an_item_without_a_row_in_train_is_recommended_only_where_it_is_named(
        self, name: str
    ) -> None:
        train = TRAIN.only(TRAIN.item_id != 4)
        assert 4 not in recommend(name, train, k=100)["item_id"]
        recs = recommend(name, train, k=100, items=np.ones(N_ITEMS, bool))
        assert 4 in recs["item_id"]

    def test_candidates_alone_are_ranked(self, name: str) -> None:
        candidates = sample_candidates(TEST, TRAIN, n_negatives=8)
        recs = recommend(name, k=100, candidates=candidates)
        columns = ["user_id", "item_id"]
        assert recs.select(columns).sort(columns).equals(candidates.frame().select(columns))
        assert recs["rank"].to_list() == [*range(1, 10)] * N_USERS
        assert recommend(name, k=3, candidates=candidates).equals(recs.filter(pl.col("rank") <= 3))

    def test_candidates_have_the_scores_of_the_full_ranking(self, name: str) -> None:
        full = table_of(recommend(name, k=100, seen=interactions([], N_USERS, N_ITEMS)))
        some = recommend(name, k=100, candidates=sample_candidates(TEST, TRAIN, n_negatives=8))
        pairs = some["user_id"].to_numpy(), some["item_id"].to_numpy()
        np.testing.assert_allclose(some["score"].to_numpy(), full[pairs], rtol=1e-4, atol=1e-6)

    def test_a_user_without_rows_gets_what_is_popular(self, name: str) -> None:
        train = TRAIN.only(TRAIN.user_id != 30)
        recs = recommend(name, train, k=7, users=[30])
        assert recs.height == 7
        if name not in ("random", "recent_popularity", "client_popularity"):
            assert list_of(recs, 30) == list_of(recommend("popularity", train, k=7), 30)

    def test_it_says_its_formula_reference_and_defaults(self, name: str) -> None:
        text = inspect.getdoc(BASELINES[name]) or ""
        assert "score(" in text
        assert "Reference:" in text or name == "random"
        own = set(inspect.signature(BASELINES[name]).parameters) - {"train", "seed", "asked"}
        assert all(f"{option}:" in text or f"{option}," in text for option in own)
        assert f"`{name}`" in (ROOT / "docs" / "baselines.md").read_text("utf-8")


def test_what_no_baseline_can_do_is_refused() -> None:
    with pytest.raises(EvaluationError, match="did you mean 'itemknn'"):
        baseline("itemkn", TRAIN)
    with pytest.raises(EvaluationError, match="ease has no option 'lamda'"):
        baseline("ease", TRAIN, lamda=3)
    with pytest.raises(EvaluationError, match="did you mean 'neighbours'"):
        baseline("itemknn", TRAIN, neighbors=3)
    with pytest.raises(EvaluationError, match="train has no row"):
        baseline("popularity", interactions([], 3, 3))
    with pytest.raises(EvaluationError, match="half_life is 0"):
        baseline("recent_popularity", TRAIN, half_life=0)
    with pytest.raises(EvaluationError, match="neighbours is 0"):
        baseline("itemknn", TRAIN, neighbours=0)
    with pytest.raises(EvaluationError, match="regularisation is -1"):
        baseline("ease", TRAIN, regularisation=-1)
    with pytest.raises(EvaluationError, match="needs embeddings"):
        baseline("content_knn", TRAIN)
    with pytest.raises(EvaluationError, match=r"have shape \(3, 2\)"):
        baseline("content_knn", TRAIN, embeddings={"text": np.ones((3, 2), np.float32)})


# --- each against its formula --------------------------------------------------------------------------


def test_popularity_counts_rows() -> None:
    recs = recommend("popularity", k=100)
    expected = np.broadcast_to(TRAIN.item_counts, (N_USERS, N_ITEMS)) + np.where(
        matrix(TRAIN), np.nan, 0
    )
    np.testing.assert_array_equal(table_of(recs), expected)


def test_counts_beyond_exact_float32_are_ranked_and_not_rounded() -> None:
    counts = np.array([2**24 + 1, 2**24, 5, 2**24 + 1])
    assert exact_scores(counts).tolist() == [2, 1, 0, 2]
    assert exact_scores(counts // 2).tolist() == [2.0**23, 2.0**23, 2, 2.0**23]


def test_recent_rows_count_by_half_lives() -> None:
    rows = frame_of_tastes()
    train = interactions_from(rows)
    table = table_of(recommend("recent_popularity", train, k=100, half_life=50.0))
    age = (rows["timestamp"].max() - rows["timestamp"]) / 86_400  # type: ignore[operator]
    weights = rows.with_columns(w=0.5 ** (age / 50)).group_by("item_id").agg(pl.col("w").sum())
    for item, weight in weights.iter_rows():
        scores = table[:, item]
        np.testing.assert_allclose(scores[~np.isnan(scores)], weight, rtol=1e-6)


def test_a_clients_favourites_come_first_and_all_others_favourites_next() -> None:
    rows = frame_of_tastes(n_users=50, n_items=30, per_user=4)
    train = interactions_from(rows)
    recs = recommend("client_popularity", train, k=100)
    for user in (0, 17, 33):
        mine = rows.filter(pl.col("client_id") == train.client_id[user])["item_id"].to_list()
        everywhere = rows["item_id"].to_list()
        unseen = set(everywhere) - set(rows.filter(pl.col("user_id") == user)["item_id"])
        expected = sorted(unseen, key=lambda i: (-mine.count(i), -everywhere.count(i), i))
        assert list_of(recs, user) == expected


def test_where_each_user_is_a_client_its_favourites_are_everyones() -> None:
    train = interactions_from(frame_of_tastes().drop("client_id"))
    columns = ["user_id", "item_id", "rank"]
    own, all_ = (recommend(n, train, k=100) for n in ("client_popularity", "popularity"))
    assert own.select(columns).equals(all_.select(columns))


def test_random_lists_are_fair() -> None:
    train = interactions([(0, item) for item in range(10)], 4_000, 10)
    recs = baseline("random", train, k=1, users=np.arange(1, 4_000))
    counts = np.bincount(recs["item_id"].to_numpy(), minlength=10)
    assert np.abs(counts - 400).max() < 5 * np.sqrt(400)


@pytest.mark.parametrize("cells", [1, 90, 1 << 20])
def test_cooccurrence_is_the_product_of_the_matrix_with_itself(
    cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cooccurrence_module, "BLOCK_CELLS", cells)
    monkeypatch.setattr(cooccurrence_module, "BLOCK_PAIRS", cells)
    x = matrix(TRAIN)
    parts = list(cooccurrence(TRAIN))
    assert [items.start for items, _ in parts[1:]] == [items.stop for items, _ in parts[:-1]]
    np.testing.assert_array_equal(np.concatenate([counts for _, counts in parts]), x.T @ x)


@pytest.mark.parametrize(("neighbours", "shrinkage"), [(100, 0.0), (5, 0.0), (5, 20.0)])
def test_itemknn_is_its_formula(
    neighbours: int, shrinkage: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours_module, "BLOCK_TERMS", 300)
    x = matrix(TRAIN)
    c = x.T @ x
    n = np.sqrt(np.diag(c))
    similar = (c / (np.outer(n, n) + shrinkage)).astype(np.float32)
    np.fill_diagonal(similar, 0)
    kept = np.zeros_like(similar)
    for j in range(N_ITEMS):
        near = sorted(range(N_ITEMS), key=lambda i: (-similar[i, j], i))[:neighbours]
        kept[near, j] = similar[near, j]
    table = table_of(recommend("itemknn", k=100, neighbours=neighbours, shrinkage=shrinkage))
    there = ~np.isnan(table)
    assert there.sum() == N_USERS * N_ITEMS - len(TRAIN)
    np.testing.assert_allclose(table[there], (x @ kept)[there], rtol=1e-5, atol=1e-7)


def test_ease_is_ridge_regression_of_each_item_on_the_others() -> None:
    x = matrix(TRAIN)
    weights = np.zeros((N_ITEMS, N_ITEMS))
    for j in range(N_ITEMS):
        others = np.delete(np.arange(N_ITEMS), j)
        a = x[:, others]
        weights[others, j] = np.linalg.solve(a.T @ a + 30 * np.eye(N_ITEMS - 1), a.T @ x[:, j])
    table = table_of(recommend("ease", k=100, regularisation=30.0))
    there = ~np.isnan(table)
    np.testing.assert_allclose(table[there], (x @ weights)[there], rtol=1e-4, atol=1e-6)


def test_ease_beyond_its_memory_limit_is_an_error_that_names_it() -> None:
    with pytest.raises(
        EvaluationError, match=r"EASE of 40 items takes 0.0 GB\n.*memory_limit.*: 5 items"
    ):
        recommend("ease", memory_limit=1e-6)


def test_content_is_the_cosine_of_modalities_side_by_side() -> None:
    text, image = EMBEDDINGS["text"].copy(), EMBEDDINGS["image"].copy()
    image[[3, 9]] = np.nan
    text[[9, 11]] = np.nan
    sides = [np.nan_to_num(v / np.linalg.norm(v, axis=1, keepdims=True)) for v in (image, text)]
    v = np.concatenate(sides, axis=1)
    v = np.nan_to_num(v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-9))
    x = matrix(TRAIN)
    expected = (x @ v) @ v.T / x.sum(axis=1, keepdims=True)
    recs = baseline("content_knn", TRAIN, k=100, embeddings={"text": text, "image": image})
    table = table_of(recs)
    there = ~np.isnan(table)
    assert not there[:, 9].any()
    assert there.sum() == N_USERS * (N_ITEMS - 1) - (x[:, np.arange(N_ITEMS) != 9]).sum()
    np.testing.assert_allclose(table[there], expected[there], rtol=1e-4, atol=1e-6)


def test_items_without_embeddings_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    text = EMBEDDINGS["text"].copy()
    text[:7] = np.nan
    with caplog.at_level(logging.WARNING):
        baseline("content_knn", TRAIN, embeddings={"text": text})
    assert "7 of 40 items have no embedding" in caplog.text


@pytest.mark.parametrize("name", [p for p in NAMES if p.values[0] in ("itemknn", "ease", "ials")])
def test_a_baseline_that_learns_tastes_beats_popularity(name: str) -> None:
    train, _, test = parts_of_tastes(n_users=300, n_items=80, per_user=14, seed=1)
    hits = {}
    for each in ("random", "popularity", name):
        recs = baseline(each, train, k=10)
        hits[each] = test.holds(recs["user_id"].to_numpy(), recs["item_id"].to_numpy()).sum()
    assert hits["random"] < hits["popularity"] < 0.8 * hits[name]


def test_without_the_extra_ials_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "implicit.cpu.als", None)
    with pytest.raises(MissingExtraError, match=r"\[als\]"):
        baseline("ials", TRAIN)


def test_embeddings_of_a_dataset_have_nan_where_an_item_has_none(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    dataset = Dataset.open(write_built(tmp_path_factory.mktemp("embeddings") / "data"))
    found = embeddings_of(dataset)
    assert set(found) == {"text", "image"}
    for modality, values in found.items():
        frame = dataset.embeddings(modality).collect()
        assert np.isnan(values).all(axis=1).tolist() == frame["embedding"].is_null().to_list()
        present = frame["embedding"].is_not_null().to_numpy()
        np.testing.assert_array_equal(values[present], frame["embedding"].drop_nulls().to_numpy())
    recs = baseline("content_knn", interactions_of(dataset, "train"), embeddings=found, k=5)
    assert recs["user_id"].n_unique() == dataset.users().collect().height


# --- real data -----------------------------------------------------------------------------------------


def last_out(rows: pl.DataFrame) -> tuple[Interactions, Interactions]:
    """The rest, and each user's last row: of those in one second, the last in the file."""
    rows = rows.sort("user_id", "timestamp", "line")
    last = pl.int_range(pl.len()).over("user_id") == pl.len().over("user_id") - 1
    sizes = {"n_users": rows["user_id"].max() + 1, "n_items": rows["item_id"].max() + 1}  # type: ignore[operator]
    return interactions_from(rows.filter(~last), **sizes), interactions_from(
        rows.filter(last), **sizes
    )


@pytest.mark.realdata
@pytest.mark.slow
def test_on_movielens_1m_they_reach_what_the_literature_says(mirror: Path) -> None:
    """ItemPop of the NCF paper (0.454 / 0.254 with 99 sampled), and EASE well above it."""
    train, test = last_out(movielens_1m(mirror))
    candidates = sample_candidates(test, train, n_negatives=99)
    discount = {}
    for name in ("popularity", "ease"):
        for among, options in (("sampled", {"candidates": candidates}), ("full", {})):
            recs = baseline(name, train, k=10, **options)
            hit = test.holds(recs["user_id"].to_numpy(), recs["item_id"].to_numpy())
            gain = hit / np.log2(recs["rank"].to_numpy() + 1)
            discount[name, among] = hit.sum() / 6_040, gain.sum() / 6_040
    assert discount["popularity", "sampled"] == pytest.approx((0.454, 0.254), abs=0.01)
    assert discount["popularity", "full"] == pytest.approx((0.037, 0.018), abs=0.003)
    assert discount["ease", "sampled"] == pytest.approx((0.71, 0.445), abs=0.015)
    assert discount["ease", "full"] == pytest.approx((0.109, 0.054), abs=0.005)
