"""The fast order of scores is the order of a plain sort, save where it says that it is in doubt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedeval.ordering
from fedeval import Policy, evaluate
from fedeval.ordering import places_by_score

SCORES = np.array([-np.inf, -2.5, -1e-40, -0.0, 0.0, 1e-40, 0.1, 0.5, 3.0, 1e30, np.inf])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["f4", "f8"]),
    st.integers(1, 6),
    st.booleans(),
    st.sampled_from([1, 8, 1 << 16]),
)
def test_places_are_those_of_a_plain_sort(
    seed: int, kind: str, depth: int, by_user: bool, bucket: int
) -> None:
    rng = np.random.default_rng(seed)
    n_users, n = int(rng.integers(1, 40)), int(rng.integers(1, 300))
    row = rng.integers(0, n_users, n).astype(np.int32)
    row = np.sort(row) if by_user else row
    score = np.where(rng.random(n) < 0.5, rng.choice(SCORES, n), rng.normal(size=n)).astype(kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fedeval.ordering, "BUCKET", bucket)
        at, place, doubt = places_by_score(row, score, n_users, depth)
    for user in range(n_users):
        mine = at[row[at] == user]
        assert place[row[at] == user].tolist() == list(range(1, len(mine) + 1))
        wanted = -np.sort(-score[row == user])[:depth]
        if not doubt[row[at] == user].any():
            assert score[mine].tolist() == wanted.tolist()
        # In doubt is what float32 cannot tell apart, and nothing else.
        rounded = score[mine].astype("f4")
        assert (
            doubt[row[at] == user].tolist() == [False, *(rounded[1:] == rounded[:-1])][: len(mine)]
        )


def test_many_users_fit_into_16_bits_of_buckets() -> None:
    rng = np.random.default_rng(1)
    row = rng.permutation(200_000).astype(np.int32)
    at, place, doubt = places_by_score(row, rng.random(200_000), 200_000, 3)
    assert (place == 1).all()
    assert not doubt.any()
    assert sorted(row[at].tolist()) == list(range(200_000))


def test_lists_of_few_users_among_many_without_one_are_not_mixed() -> None:
    """Two users whose rows fill a bucket of 2^16 users: user, score and place need 65 bits."""
    n = 33_000
    score = np.random.default_rng(2).random(2 * n)
    row = np.repeat(np.array([0, 1 << 15], np.int32), n)
    at, place, doubt = places_by_score(row, score, 70_000, 3)
    wanted = [np.argsort(-score[:n])[:3], n + np.argsort(-score[n:])[:3]]
    assert at.tolist() == np.concatenate(wanted).tolist()
    assert place.tolist() == [1, 2, 3, 1, 2, 3]
    assert not doubt.any()


def test_scores_that_float32_cannot_tell_apart_keep_their_order() -> None:
    users = {"user_id": [1] * 3, "item_id": [7, 8, 9]}
    score = [1.0, 1.0 + 1e-12, 1.0 + 2e-12]
    found = evaluate(users | {"score": score}, {"user_id": [1], "item_id": [9]}, "mrr@3")
    assert found.mean["mrr@3"] == 1
    assert found.counts["tied_scores"] == 0


def test_equal_scores_stand_in_order_of_item_id_and_are_counted() -> None:
    recs = {"user_id": [1] * 4, "item_id": [9, 8, 7, 6], "score": [0.5, 0.5, 0.5, -0.0]}
    found = evaluate(recs, {"user_id": [1], "item_id": [9]}, ["mrr@3", "hr@2"])
    assert found.mean == {"mrr@3": pytest.approx(1 / 3), "hr@2": 0}
    assert found.counts["tied_scores"] == 2
    assert "2 places have the score of the place before: ordered by item id" in found.warnings


@pytest.mark.parametrize("kind", ["frame", "file"])
@pytest.mark.parametrize(
    ("ids", "order"),
    [([1, 2, 3, 10], [3, 2, 10, 1]), (["a", "B", "é", "b"], ["é", "b", "a", "B"])],
    ids=["numbers", "texts"],
)
def test_ties_in_descending_text_stand_as_trec_eval_has_them(
    ids: list[Any], order: list[Any], kind: str, tmp_path: Path
) -> None:
    """Each item alone is relevant to a user of its own, to whom all four are recommended at one score."""
    recs = pl.DataFrame(
        {"user_id": np.repeat(range(4), 4), "item_id": ids * 4, "score": [0.5] * 16}
    )
    recs = recs[np.random.default_rng(0).permutation(16)]
    truth = pl.DataFrame({"user_id": range(4), "item_id": order})
    if kind == "file":
        recs.write_parquet(tmp_path / "recs.parquet")
    table = tmp_path / "recs.parquet" if kind == "file" else recs
    policy = Policy(order="score", ties="text_descending")
    found = evaluate(table, truth, ["mrr"], policy=policy).per_user.sort("user_id")
    assert found["mrr"].to_list() == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])
