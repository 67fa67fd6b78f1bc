"""A table in the wrong space of ids is refused with both shares; one that is right or fits both is not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from fedeval.spaces import READINGS, in_dense_ids
from fedeval.tables import Table, read_table
from fedprep.errors import EvaluationError

N_USERS, N_ITEMS = 40, 60


def dataset(users: Any, items: Any) -> Any:
    """What a Dataset knows of its ids: dense ones, and those of the raw data by these functions of them."""
    tables = {
        name: pl.DataFrame({name: range(n), "source_id": [str(named(i)) for i in range(n)]}).lazy()
        for name, n, named in (("user_id", N_USERS, users), ("item_id", N_ITEMS, items))
    }
    return SimpleNamespace(
        name="mine", users=lambda: tables["user_id"], items=lambda: tables["item_id"]
    )


ALIKE = dataset(lambda u: u + 1, lambda i: 2 * i)
"""Users from 1 and even items: whole numbers in both spaces."""


def table(users: Any, items: Any, role: Any = "recommendations") -> Table:
    rows = [
        (users(u), items(i), 1 + place)
        for u in range(N_USERS)
        for place, i in enumerate(range(N_ITEMS))
    ]
    return read_table(pl.DataFrame(rows, schema=["user_id", "item_id", "rank"], orient="row"), role)


def own(i: int) -> int:
    return i


def user(u: int) -> int:
    return u + 1


def item(i: int) -> int:
    return 2 * i


WRITTEN = {
    "dataset": table(own, own),
    "source": table(user, item),
    "source-users": table(user, own),
    "source-items": table(own, item),
}


@pytest.mark.parametrize("role", ["recommendations", "truth"])
@pytest.mark.parametrize("ids", READINGS)
@pytest.mark.parametrize("written", WRITTEN)
def test_a_table_is_read_as_it_is_written_or_refused_with_the_flag_that_reads_it(
    written: str, ids: str, role: str
) -> None:
    rows = read_table(WRITTEN[written].whole(), role)  # type: ignore[arg-type]
    if written == ids:
        found, warnings = in_dense_ids(rows, ALIKE, ids, "theirs")
        assert (
            found.whole()
            .select("user_id", "item_id")
            .cast(pl.Int64)
            .equals(WRITTEN["dataset"].whole().select("user_id", "item_id").cast(pl.Int64))
        )
        assert not warnings
        return
    users_alone = READINGS[written] ^ READINGS[ids] == {"user_id"}
    if users_alone and "user_id" in READINGS[ids]:  # one user of 40 less: too little to refuse
        assert in_dense_ids(rows, ALIKE, ids, "theirs")[1]
        return
    with pytest.raises(EvaluationError) as error:
        in_dense_ids(rows, ALIKE, ids, "theirs")
    assert "%" in error.value.what
    if not users_alone and "user_id" not in READINGS[written] ^ READINGS[ids]:
        assert error.value.hint == f"--ids {written}"


def test_one_id_beyond_the_datasets_own_is_enough_where_the_raw_data_has_them_all() -> None:
    inside = table(lambda u: user(u) % N_USERS or 1, own)  # users 1 to 39: in both spaces
    assert in_dense_ids(inside, ALIKE, "dataset", "theirs")[1] == ()
    with pytest.raises(EvaluationError) as error:
        in_dense_ids(table(user, own), ALIKE, "dataset", "theirs")
    assert error.value.hint in ("--ids source", "--ids source-users")


def test_a_table_that_fits_both_alike_is_read_as_asked() -> None:
    same = dataset(own, own)
    for ids in READINGS:
        found, warnings = in_dense_ids(WRITTEN["dataset"], same, ids, "theirs")
        assert found.whole()["item_id"].to_list() == WRITTEN["dataset"].whole()["item_id"].to_list()
        assert not warnings


def test_ids_that_are_known_in_neither_are_told_with_shares_and_an_example() -> None:
    strange = table(lambda u: u + 10**6 * (u % 4 > 0), own)
    warnings = in_dense_ids(strange, ALIKE, "dataset", "theirs")[1]
    assert any("25.0 %" in text and "'1000001'" in text for text in warnings)


def test_ids_of_text_are_told_from_the_datasets_own() -> None:
    text = dataset(lambda u: f"u{u}", lambda i: f"i{i}")
    with pytest.raises(EvaluationError) as error:
        in_dense_ids(table(own, lambda i: f"i{i}"), text, "dataset", "theirs")
    assert error.value.hint == "--ids source-items"
    found = in_dense_ids(table(own, lambda i: f"i{i}"), text, "source-items", "theirs")[0]
    assert found.whole()["item_id"].head(3).to_list() == [0, 1, 2]
