"""The clients' rows as arrays: who is at home where, and all rows at one client."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
torch.set_num_threads(1)

from built import own_cache, write_built  # noqa: E402
from federations import federation_of_rows, random_federation  # noqa: E402

from fedprep.build import repartition  # noqa: E402
from fedprep.dataset import Dataset  # noqa: E402
from fedprep.recipe import Partition  # noqa: E402
from fedtrain.federation import Federation, federation_of, pooled  # noqa: E402
from fedtrain.measures import lists_of_all  # noqa: E402
from fedtrain.settings import parse_plan  # noqa: E402
from fedtrain.setup import begin, work_of  # noqa: E402


def test_a_user_of_several_clients_is_at_home_where_most_train_rows_are_or_at_the_host() -> None:
    train = [(0, 0), (1, 0), (1, 0), (2, 0), (2, 0), (2, 1), (0, 2)]  # client, user
    rows = [(client, user, at, 5.0, "train") for at, (client, user) in enumerate(train)]
    federation = federation_of_rows([*rows, (0, 3, 0, 5.0, "valid")], n_items=8, n_clients=3)
    federation = replace(federation, n_users=5)  # 4 is nowhere
    # slots: (0, 0), (0, 2), (0, 3), (1, 0), (2, 0), (2, 1); user 0 has two rows at 1 and at 2
    assert federation.home.tolist() == [3, 5, 1, 2, -1]
    assert replace(federation, host=0).home.tolist() == [0, 5, 1, 2, -1]
    assert replace(federation, host=2).home.tolist() == [4, 5, 1, 2, -1]


def rows_of(federation: Federation) -> dict[str, list[tuple[float, ...]]]:
    """The rows of each split, by user and time, whoever holds them."""
    return {
        name: sorted(
            zip(
                federation.slot_user[rows.slot].tolist(), rows.timestamp.tolist(),
                rows.item_id.tolist(), rows.rating.tolist(), rows.label.tolist(), strict=True,
            )
        )
        for name, rows in federation.splits.items()
    }  # fmt: skip


def test_pooled_rows_are_the_same_rows_and_a_user_of_several_clients_is_one_there() -> None:
    federation = random_federation(3, n_clients=6)
    one = pooled(federation)
    assert (federation.slot_user == 0).sum() > 1  # user 0 is at every other client
    assert one.n_clients == 1
    assert one.slot_offsets.tolist() == [0, one.n_slots]
    users, first = np.unique(federation.slot_user, return_index=True)
    assert one.slot_user.tolist() == users[np.argsort(first)].tolist()
    assert rows_of(one) == rows_of(federation)
    for rows in one.splits.values():
        assert rows.offsets.tolist() == [0, len(rows)]
        keys = list(zip(rows.slot, rows.timestamp, rows.item_id, strict=True))
        assert keys == sorted(keys)


def test_pooled_rows_stay_where_they_are_if_each_user_is_at_one_client() -> None:
    train = [
        (client, user, item, 5.0, "train")
        for client, user in [(0, 7), (1, 2), (1, 4)]
        for item in (3, 0)
    ]
    federation = federation_of_rows(train, n_items=4, n_clients=2)
    one = pooled(federation)
    assert np.array_equal(one.slot_user, federation.slot_user)
    for column in ("slot", "item_id", "rating", "label", "timestamp"):
        assert np.array_equal(getattr(one.train, column), getattr(federation.train, column)), column


@pytest.mark.parametrize("pool", ["train", "leaky"])
def test_the_centralised_control_knows_a_user_whole_whatever_the_partition(
    pool: str, tmp_path: Path
) -> None:
    with own_cache(tmp_path):
        dataset = repartition(
            Dataset.open(write_built(tmp_path / "data")),
            tmp_path / "parted",
            Partition(method="iid", n_clients=5, unit="interaction"),
        )
    plan = parse_plan({"algorithm": "centralised", "rounds": 1, "negative_pool": pool})
    work = work_of(dataset, plan, 0)
    parted = federation_of(dataset)
    assert parted.n_slots > parted.n_users
    assert work.federation.n_clients == 1
    assert work.federation.n_slots == parted.n_users
    assert work.excluded is not None
    assert len(work.excluded.offsets) == parted.n_users + 1
    lists = lists_of_all(work, *begin(work), dataset)
    assert (
        lists["user_id"].n_unique() == dataset.interactions("test").collect()["user_id"].n_unique()
    )
