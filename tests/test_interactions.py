"""Rows of a split as arrays, user by user."""

from __future__ import annotations

import logging

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings

from fedeval.interactions import NO_CLIENT, interactions_from, interactions_of, joined
from fedprep.dataset import Dataset
from fedprep.errors import EvaluationError
from tests.built import write_built
from tests.rows import interactions
from tests.strategies import split_frames


@given(split_frames())
@settings(max_examples=30, deadline=None)
def test_a_frame_in_any_order_gives_each_users_rows_by_item(rows: pl.DataFrame) -> None:
    found = interactions_from(rows)
    expected = rows.sort("user_id", "item_id")
    assert found.frame().equals(expected.select(found.frame().columns))
    assert found.user_counts.tolist() == [
        rows.filter(pl.col("user_id") == user).height for user in range(found.n_users)
    ]
    place, row = found.rows_of(np.array([found.n_users - 1, 0]))
    assert found.user_id[row].tolist() == [(found.n_users - 1, 0)[p] for p in place]


@given(split_frames())
@settings(max_examples=30, deadline=None)
def test_holds_tells_the_pairs_that_are_there(rows: pl.DataFrame) -> None:
    found = interactions_from(rows)
    users, items = np.divmod(np.arange(found.n_users * found.n_items), found.n_items)
    there = set(rows.select("user_id", "item_id").iter_rows())
    assert found.holds(users, items).tolist() == [
        pair in there for pair in zip(users, items, strict=True)
    ]


def test_a_dataset_gives_the_rows_of_its_splits_and_its_clients(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    dataset = Dataset.open(write_built(tmp_path_factory.mktemp("rows") / "data"))
    seen = interactions_of(dataset, "train", "valid")
    parts = [dataset.interactions(split).collect() for split in ("train", "valid")]
    assert (
        seen.frame()
        .sort("user_id", "item_id")
        .equals(pl.concat(parts).sort("user_id", "item_id").select(seen.frame().columns))
    )
    users = dataset.users().collect()
    assert (seen.n_users, seen.client_id.tolist()) == (users.height, users["client_id"].to_list())
    assert seen.n_items == dataset.items().collect().height


def test_of_a_repeated_pair_the_latest_row_is_kept_and_that_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows = {"user_id": [0, 0, 0], "item_id": [1, 1, 0], "timestamp": [5, 9, 1], "rating": [1, 2, 3]}
    with caplog.at_level(logging.WARNING):
        found = interactions_from(pl.DataFrame(rows))
    assert found.rating.tolist() == [3.0, 2.0]
    assert "1 repeated" in caplog.text


def test_joined_rows_are_those_of_all_and_say_nothing_of_what_is_in_two(
    caplog: pytest.LogCaptureFixture,
) -> None:
    a, b = interactions([(0, 1), (1, 0)], 2, 3), interactions([(0, 1), (0, 2)], 2, 3)
    assert joined(a, b).frame()["item_id"].to_list() == [1, 2, 0]
    assert not caplog.text
    with pytest.raises(EvaluationError, match="different sizes"):
        joined(a, interactions([(0, 1)], 2, 4))


def test_only_keeps_the_rows_that_are_asked_for() -> None:
    rows = pl.DataFrame({"user_id": [0, 0, 2], "item_id": [0, 1, 1], "label": [1, 0, 1]})
    liked = interactions_from(rows)
    liked = liked.only(liked.label > 0)
    assert (liked.user_counts.tolist(), liked.item_id.tolist()) == ([1, 0, 1], [0, 1])


def test_a_user_of_several_clients_has_none() -> None:
    rows = pl.DataFrame({"user_id": [0, 0, 1], "item_id": [0, 1, 1], "client_id": [3, 4, 4]})
    assert interactions_from(rows).client_id.tolist() == [NO_CLIENT, 4]
    assert interactions_from(rows.drop("client_id")).client_id.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("rows", "options", "match"),
    [
        ({"user": [0], "item_id": [0]}, {}, "did you mean 'user'"),
        ({"user_id": ["a"], "item_id": [0]}, {}, "integers from 0"),
        ({"user_id": [-1], "item_id": [0]}, {}, "integers from 0"),
        ({"user_id": [0, None], "item_id": [0, 1]}, {}, "1 nulls"),
        ({"user_id": [0], "item_id": [7]}, {"n_items": 3}, "largest id is 7"),
        ({"user_id": [0], "item_id": [0]}, {"client_id": [1, 2]}, "one for each user"),
    ],
)
def test_rows_that_cannot_be_used_are_refused(
    rows: dict[str, list[object]], options: dict[str, object], match: str
) -> None:
    with pytest.raises(EvaluationError, match=match):
        interactions_from(pl.DataFrame(rows), **options)  # type: ignore[arg-type]
