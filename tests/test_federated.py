"""Sums that leave clients: equal to the pooled value, exact in any order, masked, and with noise."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings

from fedeval.federated import (
    ClientSums,
    NoisyTotal,
    client_statements,
    client_sums,
    exposure,
    gaussian_delta,
    gaussian_sigma,
    merge,
    noisy_total,
    secure_total,
)
from fedeval.federated import secure as secure_module
from fedprep.errors import EvaluationError

NAN = math.nan
LAW = settings(deadline=None, max_examples=60)
METRICS = ("ndcg@10", "bias")


@st.composite
def worlds(draw: st.DrawFn) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Per-user values of two metrics, some undefined, and the client of every user."""
    n = draw(st.integers(1, 40))
    gain = st.one_of(st.just(NAN), st.sampled_from([0.0, 1.0, 1 / 3]), st.floats(0, 1))
    any_number = st.one_of(st.just(NAN), st.floats(-1e6, 1e6), st.sampled_from([-1e-17, 5e-324]))
    per_user = pl.DataFrame(
        {
            "user_id": draw(st.permutations(range(n))),
            "ndcg@10": draw(st.lists(gain, min_size=n, max_size=n)),
            "bias": draw(st.lists(any_number, min_size=n, max_size=n)),
        }
    )
    ids = draw(st.lists(st.integers(0, 6), min_size=n, max_size=n))
    return per_user, pl.DataFrame({"user_id": range(n), "client_id": ids})


def known(per_user: pl.DataFrame, metric: str) -> list[float]:
    return [v for v in per_user[metric].to_list() if not math.isnan(v)]


def at_clients(per_user: pl.DataFrame, clients: pl.DataFrame) -> list[ClientSums]:
    """What each client computes by itself, one after the other."""
    joined = per_user.join(clients, on="user_id")
    return [
        client_sums(part.drop("client_id"), METRICS)
        for _, part in sorted(joined.group_by("client_id"), key=lambda pair: str(pair[0]))
    ]


# --- sums ---------------------------------------------------------------------------------------------


@LAW
@given(worlds())
def test_the_aggregate_of_clients_is_the_pooled_value(
    world: tuple[pl.DataFrame, pl.DataFrame],
) -> None:
    per_user, clients = world
    total = merge(at_clients(per_user, clients))
    for at, metric in enumerate(METRICS):
        values = known(per_user, metric)
        assert total.counts[at] == len(values)
        assert total.undefined[at] == per_user.height - len(values)
        if not values:
            assert math.isnan(total.mean(metric))
            continue
        exact = sum(map(Fraction, values), Fraction(0))
        assert abs(Fraction(total.sums[at], 2**64) - exact) <= Fraction(len(values), 2**65)
        largest = max(1.0, max(map(abs, values)))
        assert abs(total.mean(metric) - math.fsum(values) / len(values)) <= 1e-12 * largest
        if metric == "ndcg@10" and len(values) > 1:
            assert total.deviation(metric) == pytest.approx(np.std(values, ddof=1), abs=1e-8)


@LAW
@given(worlds(), st.randoms())
def test_merging_knows_no_order_and_no_tree(
    world: tuple[pl.DataFrame, pl.DataFrame], random: Any
) -> None:
    parts = at_clients(*world)
    flat = merge(parts)
    while len(parts) > 1:
        random.shuffle(parts)
        parts = [parts[0] + parts[1], *parts[2:]]
    assert parts[0] == flat
    assert flat.n_clients == world[1]["client_id"].n_unique()


@LAW
@given(worlds())
def test_statements_of_all_clients_at_once_are_those_of_each(
    world: tuple[pl.DataFrame, pl.DataFrame],
) -> None:
    statements = client_statements(*world, METRICS)
    alone = at_clients(*world)
    assert statements.client_id.to_list() == sorted(set(world[1]["client_id"].to_list()))
    assert [statements.of(row) for row in range(len(statements))] == alone
    assert statements.total() == merge(alone)


def test_a_sum_survives_json_to_the_last_bit() -> None:
    frame = pl.DataFrame({"user_id": [1, 2], "ndcg@10": [0.1, 0.7]})
    said = client_sums(frame, exposure=np.array([2, 0, 1]))
    back = ClientSums.from_dict(json.loads(json.dumps(said.to_dict())))
    assert back == said
    assert back.mean("ndcg@10") == said.mean("ndcg@10") == pytest.approx(0.4)
    assert said != client_sums(frame)
    assert said + said != said


def test_exposures_add_up() -> None:
    recs = pl.DataFrame({"user_id": [1, 1, 2], "item_id": [0, 2, 2], "rank": [1, 2, 1]})
    assert exposure(recs, 4, k=2).tolist() == [1, 0, 2, 0]
    assert exposure(recs, 4, k=1).tolist() == [1, 0, 1, 0]
    frame = pl.DataFrame({"user_id": [1], "hr@10": [1.0]})
    both = client_sums(frame, exposure=exposure(recs[:2], 4, k=2)) + client_sums(
        frame, exposure=exposure(recs[2:], 4, k=2)
    )
    assert both.exposure is not None
    assert both.exposure.tolist() == [1, 0, 2, 0]


def test_the_summary_has_the_plain_interval_and_the_counts() -> None:
    frame = pl.DataFrame({"user_id": range(5), "hr@10": [0.0, 1.0, 1.0, NAN, 0.0], "x": [NAN] * 5})
    table = client_sums(frame).summary()
    hit, undefined = table.iter_rows(named=True)
    assert (hit["mean"], hit["n"], hit["n_undefined"], hit["n_clients"]) == (0.5, 4, 1, 1)
    reach = 1.959964 * math.sqrt(1 / 3) / 2
    assert (hit["low"], hit["high"]) == pytest.approx((0.5 - reach, 0.5 + reach))
    assert undefined["n"] == 0
    assert math.isnan(undefined["mean"])


def test_a_client_of_no_user_says_nothing() -> None:
    empty = client_sums(pl.DataFrame(schema={"user_id": pl.Int32, "hr@10": pl.Float64}))
    assert (empty.counts, empty.sums, empty.n_clients) == ((0,), (0,), 1)


FRAME = pl.DataFrame({"user_id": [1, 2], "hr@10": [0.0, 1.0]})
AT = pl.DataFrame({"user_id": [1, 2], "client_id": [0, 1]})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: merge([]), "there are no sums to merge"),
        (
            lambda: client_sums(FRAME) + client_sums(FRAME.rename({"hr@10": "hr@5"})),
            "sums of ('hr@5',) and of ('hr@10',)",
        ),
        (
            lambda: client_sums(FRAME) + client_sums(FRAME, exposure=np.array([1])),
            "exposures of other items",
        ),
        (lambda: client_sums(FRAME).mean("hr@5"), "no sums of 'hr@5'"),
        (lambda: client_sums(FRAME, ["hr@5"]), "no metric 'hr@5' in the table"),
        (
            lambda: client_sums(FRAME.with_columns(pl.lit(math.inf).alias("hr@10"))),
            "2 values are infinite",
        ),
        (
            lambda: client_sums(FRAME.with_columns(pl.lit(1e12).alias("hr@10"))),
            "2 values as large as 1e+24",
        ),
        (lambda: ClientSums.from_dict({"metrics": []}), "these are no sums of a client"),
        (lambda: client_statements(FRAME, AT[:1]), "1 of 2 rows are of users without a client"),
        (
            lambda: exposure(pl.DataFrame({"item_id": [4], "rank": [1]}), 4, k=1),
            "1 recommended items are outside the catalogue",
        ),
        (
            lambda: secure_total(
                client_statements(FRAME, AT), seed=0, dropped=np.array([True, False])
            ),
            "1 clients are left",
        ),
        (
            lambda: secure_total(client_statements(FRAME, AT), seed=0, dropped=np.array([True])),
            "1 marks of dropped clients",
        ),
        (
            lambda: secure_total(client_statements(FRAME, AT), seed=0, n_neighbours=0),
            "0 neighbours are asked for",
        ),
        (lambda: gaussian_sigma(0.0, 1e-5), "epsilon is 0.0"),
        (lambda: gaussian_sigma(1.0, 0.0), "delta is 0.0"),
        (lambda: gaussian_sigma(1.0, 1e-5, -1.0), "the sensitivity is -1.0"),
        (
            lambda: noisy_total(client_statements(FRAME, AT), epsilon=1, delta=1e-5, max_users=0),
            "max_users is 0",
        ),
        (
            lambda: noisy_total(
                client_statements(FRAME, AT), epsilon=1, delta=1e-5, bounds={"hr@10": (0, 0.5)}
            ),
            "of 1 clients are outside what its bounds allow",
        ),
        (
            lambda: noisy_total(
                client_statements(FRAME, AT), epsilon=1, delta=1e-5, bounds={"hr@10": (1, 0)}
            ),
            "bounds are {'hr@10': (1, 0)}",
        ),
    ],
)
def test_what_cannot_be_added_up_is_refused(call: Callable[[], object], words: str) -> None:
    with pytest.raises(EvaluationError, match=re.escape(words)):
        call()


# --- secure sum ---------------------------------------------------------------------------------------


@LAW
@given(worlds(), st.integers(0, 9), st.one_of(st.none(), st.integers(1, 6)))
def test_the_masked_total_is_the_plain_one_to_the_last_bit(
    world: tuple[pl.DataFrame, pl.DataFrame], seed: int, n_neighbours: int | None
) -> None:
    statements = client_statements(*world, METRICS)
    if len(statements) < 2:
        return
    found = secure_total(statements, seed=seed, n_neighbours=n_neighbours)
    assert found.total == statements.total()
    assert (found.n_dropped, found.n_masks_opened) == (0, 0)


@pytest.mark.parametrize(("n", "n_neighbours"), [(12, None), (13, None), (200, None), (40, 10)])
def test_clients_that_drop_out_are_left_out_exactly(n: int, n_neighbours: int | None) -> None:
    rng = np.random.default_rng(n)
    per_user = pl.DataFrame({"user_id": range(n), "rmse": rng.normal(size=n)})
    clients = pl.DataFrame({"user_id": range(n), "client_id": range(n)})
    gone = np.zeros(n, bool)
    gone[rng.choice(n, n // 5, replace=False)] = True
    found = secure_total(
        client_statements(per_user, clients), seed=3, dropped=gone, n_neighbours=n_neighbours
    )
    left = per_user.filter(pl.Series(~gone))
    assert found.total == client_statements(left, clients).total()
    assert found.n_dropped == n // 5
    assert found.n_masks_opened > 0
    if n_neighbours is None and n <= 64:
        assert found.n_neighbours == n - 1
        assert found.n_masks_opened == (n // 5) * (n - n // 5)
    assert found.bytes_per_client == 8 * 8


def test_more_than_64_clients_share_masks_with_some_of_them_alone() -> None:
    for n, n_neighbours in ((64, 63), (65, 54), (200, 56)):
        per_user = pl.DataFrame({"user_id": range(n), "rmse": np.ones(n)})
        clients = pl.DataFrame({"user_id": range(n), "client_id": range(n)})
        found = secure_total(client_statements(per_user, clients), seed=0)
        assert found.n_neighbours == n_neighbours, n


def test_every_pair_of_neighbours_is_one_pair() -> None:
    for n, wanted in [(2, 1), (5, 4), (6, 5), (9, 4), (8, 3)]:
        pairs = list(secure_module._pairs(np.random.default_rng(0).permutation(n), wanted))
        edges = {frozenset(edge) for pair in pairs for edge in zip(*pair, strict=True)}
        assert sum(len(a) for a, _ in pairs) == len(edges)
        assert all(len(edge) == 2 for edge in edges)
        if wanted == n - 1:
            assert len(edges) == n * (n - 1) // 2


def test_an_upload_by_itself_is_noise() -> None:
    words = np.zeros((400, 2), np.uint64)
    pairs = list(secure_module._pairs(np.arange(400), 20))
    uploads = secure_module.masked(words, pairs, seed=1)
    assert (uploads.sum(axis=0, dtype=np.uint64) == 0).all()
    share = uploads / 2.0**64
    assert share.mean() == pytest.approx(0.5, abs=0.05)
    assert share.std() == pytest.approx(math.sqrt(1 / 12), abs=0.03)


def test_opening_that_would_bare_a_client_is_refused() -> None:
    per_user = pl.DataFrame({"user_id": range(30), "hr@10": [1.0] * 30})
    statements = client_statements(per_user, per_user.select("user_id", client_id="user_id"))
    order = np.random.default_rng((0, 0)).permutation(30)
    gone = np.zeros(30, bool)
    gone[order[[0, 2]]] = True  # both neighbours of the client between them
    with pytest.raises(EvaluationError, match="no neighbour left"):
        secure_total(statements, seed=0, dropped=gone, n_neighbours=2, threshold=0.0)
    gone[order[:5]] = True
    with pytest.raises(EvaluationError, match="cannot be opened"):
        secure_total(statements, seed=0, dropped=gone, n_neighbours=2)


# --- noise --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sigma", "epsilon", "sensitivity", "delta"),
    [  # the tests of google/differential-privacy, go/noise/gaussian_noise_test.go
        (10.0, 0.1, 1.0, 0.008751768145810),
        (20.0, 0.1, 2.0, 0.008751768145810),
        (10.0, math.log(3), 5.0, 0.004159742234000802),
        (0.5, 0.0, 1.0, 0.6826894921370859),
        (1.0, math.log(3), 1.0, 0.10985556344445052),
        (0.0, 1.0, 1.0, 1.0),
        (1.0, 1.0, 0.0, 0.0),
    ],
)
def test_delta_is_the_published_one(
    sigma: float, epsilon: float, sensitivity: float, delta: float
) -> None:
    assert gaussian_delta(sigma, epsilon, sensitivity) == pytest.approx(delta, abs=1e-12)
    if 0.0 < delta < 1.0 and epsilon > 0.0:
        assert gaussian_sigma(epsilon, delta, sensitivity) == pytest.approx(sigma, rel=1e-8)


def test_sigma_is_that_of_the_authors_code() -> None:
    # 3.730631634944469 from the code of Balle and Wang, whose search stops at a tolerance of 1e-12 of delta.
    assert gaussian_sigma(1.0, 1e-5) == pytest.approx(3.730631634944469, rel=1e-9)
    assert gaussian_sigma(1.0, 1e-5, 7.0) == pytest.approx(7 * gaussian_sigma(1.0, 1e-5))


@settings(deadline=None, max_examples=60)
@given(st.floats(1e-3, 50), st.floats(1e-12, 0.5))
def test_sigma_is_the_least_that_keeps_the_promise(epsilon: float, delta: float) -> None:
    sigma = gaussian_sigma(epsilon, delta)
    assert gaussian_delta(sigma, epsilon) <= delta
    assert gaussian_delta(sigma * (1 - 1e-6), epsilon) > delta
    if epsilon < 1.0:
        assert sigma <= math.sqrt(2 * math.log(1.25 / delta)) / epsilon


def test_noisy_means_are_near_and_say_how_near() -> None:
    n = 6_000
    rng = np.random.default_rng(0)
    per_user = pl.DataFrame(
        {"user_id": range(n), "ndcg@10": rng.random(n), "rmse": 3 * rng.random(n)}
    )
    statements = client_statements(per_user, per_user.select("user_id", client_id="user_id"))

    def draw(seed: int) -> NoisyTotal:
        return noisy_total(statements, epsilon=1, delta=1e-5, bounds={"rmse": (0, 3)}, seed=seed)

    one = draw(0)
    assert one.sensitivity == pytest.approx(math.sqrt((0.25 + 1) + (2.25 + 1)))
    assert one.sigma == pytest.approx(gaussian_sigma(1.0, 1e-5, one.sensitivity))
    assert one.to_frame().columns == ["metric", "mean", "n", "noise_deviation", "epsilon", "delta"]
    true = statements.total()
    many = [draw(seed) for seed in range(300)]
    for at, metric in enumerate(statements.metrics):
        errors = np.array([total.means[at] for total in many]) - true.mean(metric)
        assert abs(errors.mean()) < 4 * one.noise_deviation[at] / math.sqrt(300)
        assert errors.std() == pytest.approx(one.noise_deviation[at], rel=0.15)
    assert one.n_limited == 0


def test_no_client_moves_the_sums_by_more_than_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    import fedeval.federated.noise as noise_module

    monkeypatch.setattr(noise_module, "gaussian_sigma", lambda *_: 0.0)
    rng = np.random.default_rng(2)
    per_user = pl.DataFrame({"user_id": range(90), "a": rng.random(90), "b": rng.random(90)})
    per_user = per_user.with_columns(b=pl.when(pl.col("user_id") % 7 > 0).then("b"))
    clients = pl.DataFrame({"user_id": range(90), "client_id": np.repeat(np.arange(9), 10)})

    def released(who: pl.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
        total = noisy_total(client_statements(who, clients), epsilon=1, delta=1e-5, max_users=4)
        n = np.array(total.counts)
        return np.concatenate([(np.array(total.means) - 0.5) * n, n])

    whole = released(per_user)
    stated = 4 * math.sqrt(2 * 1.25)
    for client in range(9):
        rest = per_user.filter(~pl.col("user_id").is_between(10 * client, 10 * client + 9))
        moved = float(np.linalg.norm(whole - released(rest)))
        assert 0.5 * stated < moved <= stated
    statements = client_statements(per_user, clients)
    assert noisy_total(statements, epsilon=1, delta=1e-5, max_users=4).n_limited == 9


def test_a_mean_of_nobody_left_is_undefined() -> None:
    statements = client_statements(FRAME, AT)
    totals = [noisy_total(statements, epsilon=0.01, delta=1e-9, seed=seed) for seed in range(9)]
    undefined = [math.isnan(total.means[0]) for total in totals]
    assert undefined == [total.counts[0] < 1 for total in totals]
    assert any(undefined)
