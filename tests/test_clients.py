"""How evenly clients are served: values of clients, their spread with intervals, gaps between groups."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings

from fedeval.clients import QUANTILES, client_summary, client_values, jains_index
from fedeval.gaps import group_gaps
from fedeval.statistics import Inference, bootstrap_interval, cliffs_delta
from fedprep.errors import EvaluationError

NAN = math.nan
QUICK = Inference(n_resamples=80)
LAW = settings(deadline=None, max_examples=40)


def frame(**columns: list[float]) -> pl.DataFrame:
    n = len(next(iter(columns.values())))
    return pl.DataFrame({"user_id": range(n), **columns})


def at(*ids: int) -> pl.DataFrame:
    return pl.DataFrame({"user_id": range(len(ids)), "client_id": ids})


def of(table: pl.DataFrame, metric: str) -> dict[str, dict[str, Any]]:
    rows = table.filter(pl.col("metric") == metric).iter_rows(named=True)
    return {row["statistic"]: row for row in rows}


def test_a_client_is_the_mean_of_its_users_with_a_value() -> None:
    table = client_values(frame(hr=[1.0, 0.0, NAN, NAN, 0.5]), at(4, 4, 4, 2, 0))
    assert table["client_id"].to_list() == [0, 2, 4]
    assert table["hr"].to_list() == pytest.approx([0.5, NAN, 0.5], nan_ok=True)
    assert table["hr:n"].to_list() == [1, 0, 2]
    assert table["n_users"].to_list() == [1, 1, 3]


def test_the_summary_of_a_hand_case() -> None:
    x = [float(i) for i in range(20)] + [NAN]
    found = of(client_summary(frame(ndcg=x), at(*range(21)), inference=QUICK), "ndcg")
    assert list(found) == [
        "mean over users", "mean", "deviation", *QUANTILES, "worst decile", "best decile", "jain",
    ]  # fmt: skip
    value = {name: row["value"] for name, row in found.items()}
    assert value["mean"] == value["mean over users"] == 9.5
    assert value["deviation"] == pytest.approx(np.std(x[:20], ddof=1))
    assert [value[name] for name in QUANTILES] == [0, 1, 4, 9, 14, 17, 19]
    assert (value["worst decile"], value["best decile"]) == (0.5, 18.5)
    assert value["jain"] == pytest.approx(190**2 / (20 * 2470))
    for row in found.values():
        assert (row["n_clients"], row["n_clients_undefined"]) == (20, 1)
        assert (row["n_users"], row["n_undefined"]) == (20, 1)
    for name in ("minimum", "maximum"):
        assert math.isnan(found[name]["low"])
        assert "beyond the data" in found[name]["reason"]
    for name in set(found) - {"minimum", "maximum"}:
        assert found[name]["low"] <= found[name]["high"]
        assert found[name]["reason"] == ""


def test_a_client_counts_once_and_a_user_once() -> None:
    found = of(
        client_summary(frame(hr=[1.0, 1.0, 1.0, 0.0]), at(0, 0, 0, 1), inference=QUICK), "hr"
    )
    assert found["mean over users"]["value"] == 0.75
    assert found["mean"]["value"] == 0.5


def test_the_worst_clients_are_the_highest_where_less_is_better() -> None:
    table = client_summary(
        frame(rmse=[float(i) for i in range(20)]), at(*range(20)), lower_is_better=["rmse"], inference=QUICK
    )  # fmt: skip
    found = of(table, "rmse")
    assert (found["worst decile"]["value"], found["best decile"]["value"]) == (18.5, 0.5)
    assert found["worst decile"]["low"] > 10 > found["best decile"]["high"]


def test_intervals_are_those_of_plain_resampling() -> None:
    x = np.random.default_rng(0).gamma(2.0, size=90)
    many = Inference(n_resamples=6_000)
    found = of(client_summary(frame(m=x.tolist()), at(*range(90)), inference=many), "m")
    drawn = np.sort(np.random.default_rng(1).choice(x, (6_000, 90)), axis=1)
    plain = {
        "mean": drawn.mean(axis=1),
        "deviation": drawn.std(axis=1, ddof=1),
        "25 %": drawn[:, 22],
        "median": drawn[:, 44],
        "worst decile": drawn[:, :9].mean(axis=1),
        "best decile": drawn[:, -9:].mean(axis=1),
        "jain": drawn.sum(axis=1) ** 2 / (90 * (drawn**2).sum(axis=1)),
    }
    for name, resamples in plain.items():
        low, high = np.quantile(resamples, [0.025, 0.975])
        assert found[name]["low"] == pytest.approx(low, abs=0.08 * (high - low)), name
        assert found[name]["high"] == pytest.approx(high, abs=0.08 * (high - low)), name


@LAW
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_jains_index_is_between_one_nth_and_one(x: list[float]) -> None:
    index = jains_index(x)
    if max(x) == 0.0:
        assert math.isnan(index)
    else:
        assert 1 / len(x) - 1e-12 <= index <= 1 + 1e-12
        assert jains_index([*x, NAN]) == index
        assert jains_index([2 * v for v in x]) == pytest.approx(index)


def test_jains_index_of_its_paper() -> None:
    assert jains_index([1, 1, 1, 1]) == 1.0
    assert jains_index([0, 0, 3, 0]) == 0.25
    assert jains_index([1, 1, 0, 0]) == 0.5
    assert math.isnan(jains_index([1, -1]))


@pytest.mark.parametrize(("x", "n"), [([NAN, NAN], 0), ([0.4, NAN], 1)])
def test_too_few_clients_have_values_without_intervals_and_the_reason(
    x: list[float], n: int
) -> None:
    found = of(client_summary(frame(hr=x), at(0, 1), inference=QUICK), "hr")
    for row in found.values():
        assert row["n_clients"] == n
        assert math.isnan(row["low"])
        assert row["reason"]


def test_equal_clients_have_no_spread_and_perfect_fairness() -> None:
    found = of(client_summary(frame(hr=[0.1] * 12), at(*range(12)), inference=QUICK), "hr")
    assert found["deviation"]["value"] == pytest.approx(0.0, abs=1e-12)
    assert found["deviation"]["high"] == pytest.approx(0.0, abs=1e-12)
    assert found["jain"]["value"] == pytest.approx(1.0)
    zeros = of(client_summary(frame(hr=[0.0] * 12), at(*range(12)), inference=QUICK), "hr")
    assert math.isnan(zeros["jain"]["value"])
    assert "all values are 0" in zeros["jain"]["reason"]


@LAW
@given(st.integers(3, 40), st.integers(0, 20))
def test_users_in_any_order_give_the_same_summary(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    users = frame(m=rng.random(n).tolist())
    clients = at(*range(n))
    shuffled = users[rng.permutation(n)]
    few = Inference(n_resamples=20)
    first, second = (client_summary(f, clients.reverse(), inference=few) for f in (users, shuffled))
    assert first.drop("value").equals(second.drop("value"), null_equal=True)
    assert first["value"].to_list() == pytest.approx(second["value"].to_list())


# --- gaps ---------------------------------------------------------------------------------------------


def groups(*names: str | None) -> pl.DataFrame:
    return pl.DataFrame({"user_id": range(len(names)), "group": names})


def test_a_gap_is_the_difference_of_means_of_users() -> None:
    users = frame(m=[1.0, 0.5, 0.0, 0.2, NAN, 0.9])
    table = group_gaps(users, groups("f", "f", "m", "m", "m", None), inference=QUICK)
    row = table.row(0, named=True)
    assert (row["a"], row["b"]) == ("f", "m")
    assert (row["mean_a"], row["mean_b"]) == pytest.approx((0.75, 0.1))
    assert row["gap"] == pytest.approx(0.65)
    assert (row["n_a"], row["n_b"], row["n_undefined"], row["n_units"]) == (2, 2, 1, 4)
    assert row["cliffs_delta"] == cliffs_delta([1.0, 0.5], [0.0, 0.2]) == 1.0
    assert row["low"] <= row["gap"] <= row["high"]


def test_all_pairs_or_those_with_a_reference() -> None:
    users, of_user = frame(m=[0.1, 0.2, 0.3, 0.4, 0.6, 0.6]), groups("a", "a", "b", "b", "c", "c")
    pairs = group_gaps(users, of_user, inference=QUICK).select("a", "b").rows()
    assert pairs == [("a", "b"), ("a", "c"), ("b", "c")]
    table = group_gaps(users, of_user, reference="b", inference=QUICK)
    assert table.select("a", "b").rows() == [("a", "b"), ("c", "b")]
    assert table["gap"].to_list() == pytest.approx([-0.2, 0.25])


def test_the_error_of_a_gap_is_that_of_two_means() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0.0, 1.0, 300), rng.normal(1.0, 2.0, 200)])
    of_user = groups(*["a"] * 300, *["b"] * 200)
    row = group_gaps(frame(m=x.tolist()), of_user, inference=Inference(n_resamples=4_000)).row(
        0, named=True
    )
    error = math.sqrt(x[:300].var() / 300 + x[300:].var() / 200)
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * error, rel=0.06)
    assert row["p"] == pytest.approx(math.erfc(abs(row["gap"]) / error / math.sqrt(2)), abs=1e-3)


def test_a_client_with_users_of_both_groups_brings_them_all() -> None:
    # Clients differ much, the groups inside each by exactly 0.1: drawing clients must see no spread in that.
    level = np.repeat(np.linspace(0, 5, 12), 2)
    x = level + np.tile([0.1, 0.0], 12)
    of_user, clients = groups(*["f", "m"] * 12), at(*np.repeat(np.arange(12), 2).tolist())
    together = group_gaps(frame(m=x.tolist()), of_user, clients=clients, inference=QUICK)
    apart = group_gaps(frame(m=x.tolist()), of_user, inference=QUICK)
    assert together["n_units"].to_list() == [12]
    assert (together["low"][0], together["high"][0]) == pytest.approx((0.1, 0.1))
    assert apart["high"][0] - apart["low"][0] > 1.0


def test_gaps_of_whole_clients_are_wider_where_users_of_a_client_are_alike() -> None:
    rng = np.random.default_rng(3)
    client = np.repeat(np.arange(40), 10)
    x = rng.normal(size=40)[client] + 0.1 * rng.normal(size=400)
    of_user = groups(*np.where(client < 20, "a", "b").tolist())
    by_user = group_gaps(frame(m=x.tolist()), of_user, inference=QUICK)
    by_client = group_gaps(
        frame(m=x.tolist()), of_user, clients=at(*client.tolist()), inference=QUICK
    )
    width = [t["high"][0] - t["low"][0] for t in (by_user, by_client)]
    assert width[1] > 2 * width[0]
    assert by_client["n_units"].to_list() == [40]


def test_groups_that_overlap_are_drawn_by_user() -> None:
    users = frame(m=[0.0, 1.0, 0.5, 0.7, 0.2])
    both = pl.concat([groups(*["a"] * 5), groups(*["b"] * 5)])
    row = group_gaps(users, both, inference=QUICK).row(0, named=True)
    assert (row["gap"], row["low"], row["high"]) == (0.0, 0.0, 0.0)
    assert "no width" in row["reason"]


def test_the_gap_of_one_group_drawn_alone_is_the_bootstraps() -> None:
    x = np.random.default_rng(1).random(50)
    users = frame(m=[*x.tolist(), 0.0, 0.0])
    of_user = groups(*["a"] * 50, "b", "b")
    row = group_gaps(users, of_user, inference=Inference(n_resamples=3_000)).row(0, named=True)
    alone = bootstrap_interval(x, n_resamples=3_000, seed=5)
    assert row["low"] == pytest.approx(alone.low, abs=0.01)
    assert row["high"] == pytest.approx(alone.high, abs=0.01)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: group_gaps(frame(m=[0.1, 0.2]), groups("a", "a")),
            "1 groups have users with values",
        ),
        (
            lambda: group_gaps(frame(m=[0.1, 0.2]), groups("a", "b"), reference="A"),
            "no group is called 'A'",
        ),
        (
            lambda: group_gaps(frame(m=[0.1, 0.2]), at(1, 2)),
            "the table of groups has no column 'group'",
        ),
        (
            lambda: client_summary(frame(m=[0.1, 0.2]), at(1)),
            "1 of 2 rows are of users without a client",
        ),
        (
            lambda: client_summary(frame(m=[0.1, 0.2]), pl.concat([at(1, 2), at(3)])),
            "1 users are at several clients",
        ),
        (
            lambda: client_summary(frame(m=[0.1, 0.2]), at(1, 2).rename({"client_id": "client"})),
            "the table of clients has no column 'client_id'",
        ),
        (lambda: client_values(frame(m=[0.1, 0.2]), at(1, 2), ["k"]), "no metric 'k' in the table"),
    ],
)
def test_tables_without_clients_or_groups_are_refused(
    call: Callable[[], object], words: str
) -> None:
    with pytest.raises(EvaluationError, match=re.escape(words)):
        call()


def test_gaps_are_inferred_as_they_are_asked_to_be() -> None:
    rng = np.random.default_rng(0)
    values, halves = frame(m=list(rng.random(60))), groups(*["a", "b"] * 30)
    wide = group_gaps(values, halves).row(0, named=True)
    narrow = group_gaps(values, halves, inference=Inference(level=0.5)).row(0, named=True)
    assert wide["low"] < narrow["low"] < narrow["high"] < wide["high"]
