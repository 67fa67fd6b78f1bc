"""NCF's candidate files: read as its own code reads them, with what they repeat counted."""

from __future__ import annotations

import heapq
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fedeval import evaluate
from fedeval.ncf import read_ncf
from fedprep.errors import EvaluationError


def write_files(
    n_users: int = 40, n_items: int = 60, seed: int = 0
) -> dict[tuple[int, int], list[int]]:
    """Writes a split and its candidates; every fifth user's relevant item is among the negatives."""
    rng = np.random.default_rng(seed)
    weight = 1 / np.arange(1, n_items + 1)
    train, test, negatives = [], [], {}
    for user in range(n_users):
        items = rng.choice(n_items, 9, replace=False, p=weight / weight.sum()).tolist()
        train += [(user, item, 4, 100 + place) for place, item in enumerate(items[1:])]
        test.append((user, items[0], 5, 200))
        rest = np.setdiff1d(np.arange(n_items), items)
        drawn = rng.choice(rest, 9, replace=False).tolist()
        negatives[user, items[0]] = [*drawn, items[0]] if user % 5 == 0 else drawn
    for name, rows in (("train", train), ("test", test)):
        Path(f"toy.{name}.rating").write_text(
            "".join("\t".join(map(str, row)) + "\n" for row in rows)
        )
    lines = (
        f"({u},{i})\t" + "\t".join(map(str, drawn)) + "\n" for (u, i), drawn in negatives.items()
    )
    Path("toy.test.negative").write_text("".join(lines))
    return negatives


def test_the_three_files_are_read_and_what_they_repeat_is_counted() -> None:
    negatives = write_files()
    found = read_ncf("toy")
    assert found.train.height == 320
    assert found.test.height == 40
    assert found.counts == {
        "lines": 40, "written": 40 + sum(map(len, negatives.values())), "relevant_among_negatives": 8,
        "repeated": 0, "test_elsewhere": 0, "negatives_in_train": 0,
    }  # fmt: skip
    sizes = dict(
        zip(found.candidates.user_id.tolist(), found.candidates.counts.tolist(), strict=True)
    )
    assert set(sizes.values()) == {10}


def test_item_popularity_has_the_values_of_ncf_s_own_evaluation() -> None:
    negatives = write_files(n_users=300)
    found = read_ncf("toy")
    popularity = found.train["item_id"].value_counts().rows()
    score = dict(popularity)
    hits, gains = [], []
    for (_, relevant), drawn in negatives.items():
        # As NCF's evaluate.py: scores in a dict, and the ten largest. Its ties fall as they were
        # written, so here the relevant item's score is made its own.
        by_item = {item: score.get(item, 0) + item / 1000 for item in [*drawn, relevant]}
        best = heapq.nlargest(3, by_item, key=by_item.__getitem__)
        hits.append(relevant in best)
        gains.append(1 / np.log2(best.index(relevant) + 2) if relevant in best else 0)
    told = found.candidates.frame()
    points = pl.col("item_id").replace_strict(score, default=0) + pl.col("item_id") / 1000
    ours = evaluate(told.with_columns(score=points), found.candidates.truth(), ["hr@3", "ndcg@3"])
    assert ours.mean["hr@3"] == pytest.approx(np.mean(hits))
    assert ours.mean["ndcg@3"] == pytest.approx(np.mean(gains))
    assert 0.3 < ours.mean["hr@3"] < 1


def test_lines_that_disagree_with_the_split_are_counted() -> None:
    write_files(n_users=2)
    mine = read_ncf("toy").train.filter(user_id=0)["item_id"][0]
    Path("toy.test.negative").write_text(f"(0,59)\t{mine}\t7\t7\n(1,58)\t8\n")
    counts = read_ncf("toy").counts
    assert counts["repeated"] == 1
    assert counts["negatives_in_train"] >= 1
    assert counts["test_elsewhere"] == 2


def test_files_that_are_none_are_refused() -> None:
    with pytest.raises(EvaluationError, match=r"no rows of NCF can be read"):
        read_ncf("absent")
    write_files()
    Path("toy.train.rating").write_text("user\titem\n")
    with pytest.raises(EvaluationError, match=r"no rows of NCF can be read"):
        read_ncf("toy")
