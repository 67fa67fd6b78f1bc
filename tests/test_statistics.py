"""Intervals, paired tests, corrections, effects: laws, hand cases, golden numbers, and scipy where it is."""

from __future__ import annotations

import itertools
import math
import re
import statistics
from collections.abc import Callable
from typing import Any

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings

from fedeval.slices import slice_comparison
from fedeval.statistics import (
    CORRECTIONS,
    PAIRED_TESTS,
    Inference,
    bootstrap_interval,
    cliffs_delta,
    cohens_dz,
    compare_systems,
    compare_values,
    correct,
    interval_of,
    paired_differences,
    paired_test,
    resampled_sums,
    smallest_difference,
    superiority,
    win_tie_loss,
)
from fedeval.statistics import bootstrap as bootstrap_module
from fedeval.statistics import paired as paired_module
from fedeval.statistics.distributions import (
    noncentrality_for_power,
    normal_cdf,
    normal_quantile,
    t_critical,
    t_two_sided,
)
from fedeval.statistics.paired import flipped_sums
from fedprep.errors import EvaluationError

NAN = math.nan
FEW = settings(deadline=None, max_examples=40)

# Student's data on two soporific drugs, ten patients (Biometrika 6, 1908): R prints t = 4.0621, df = 9,
# p = 0.002833 for t.test(..., paired = TRUE), and R and scipy the same for the others.
SLEEP_A = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
SLEEP_B = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]

values = hnp.arrays(
    np.float64,
    st.integers(2, 60),
    elements=st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0.0, 1.0, width=32)),
)


def skewed(n: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(seed).exponential(size=n)


# --- distributions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("t", "df", "p"),
    [
        (12.706204736432095, 1, 0.05),  # tables of Student's t
        (2.2281388519649385, 10, 0.05),
        (1.959963984540054, 1e9, 0.05),
        (0.0, 5, 1.0),
        (math.inf, 5, 0.0),
        (1.0, 1, 0.5),  # Cauchy: 2 (1/2 - arctan(1)/π)
        (math.sqrt(2.0), 2, 1 - 1 / math.sqrt(2.0)),  # closed form: 1 - t / √(2 + t²)
    ],
)
def test_the_tail_of_students_t_is_as_tabled(t: float, df: float, p: float) -> None:
    assert t_two_sided(t, df) == pytest.approx(p, rel=1e-9)
    if 0.0 < p < 1.0:
        assert t_critical(p, df) == pytest.approx(t, rel=1e-8)


def test_the_tail_of_students_t_equals_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    for df, t in itertools.product(
        [1, 2, 3.5, 10, 119, 120, 121, 6039, 1e6], [1e-3, 0.7, 1.7, 5, 30]
    ):
        assert t_two_sided(t, df) == pytest.approx(2 * stats.t.sf(t, df), rel=1e-9)
        assert t_critical(0.01, df) == pytest.approx(stats.t.isf(0.005, df), rel=1e-9)


def test_the_normal_quantile_inverts_its_distribution() -> None:
    for x in (-8.0, -1.0, 0.0, 0.3, 5.0):
        assert normal_quantile(normal_cdf(x)) == pytest.approx(x, abs=1e-9)
    assert normal_quantile(0.0) == -math.inf
    assert normal_quantile(1.0) == math.inf


def test_the_power_of_a_t_test_equals_the_noncentral_t() -> None:
    stats = pytest.importorskip("scipy.stats")
    for df, alpha in itertools.product([2, 5, 33, 1000], [0.05, 0.01]):
        delta = noncentrality_for_power(0.8, alpha, df)
        critical = stats.t.isf(alpha / 2, df)
        power = stats.nct.sf(critical, df, delta) + stats.nct.cdf(-critical, df, delta)
        assert power == pytest.approx(0.8, abs=1e-6)


# --- bootstrap ----------------------------------------------------------------------------------------


def test_resampled_means_have_the_mean_and_the_error_of_the_plain_formula() -> None:
    x = skewed(400)
    for seed, data in enumerate((x, np.round(x, 1))):  # rows that differ, and rows that repeat
        interval = bootstrap_interval(data, n_resamples=4_000, seed=seed)
        error = data.std() / math.sqrt(data.size)
        assert interval.standard_error == pytest.approx(error, rel=0.05)
        assert interval.value == statistics.fmean(data)
        assert interval.low < interval.value < interval.high


def test_rows_by_count_blocks_and_batches_are_the_same_distribution(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = np.random.default_rng(3).integers(0, 4, (1_000, 2)).astype(float)
    by_counts = resampled_sums(table, n_resamples=3_000, seed=0)
    monkeypatch.setattr(bootstrap_module, "REPEATS", 10**9)
    by_rows = resampled_sums(table, n_resamples=3_000, seed=1)
    monkeypatch.setattr(bootstrap_module, "BLOCK", 256)
    monkeypatch.setattr(bootstrap_module, "_draws", lambda rng, n, m: rng.integers(0, n, m))
    by_blocks = resampled_sums(table, n_resamples=3_000, seed=2)
    expected = 1_000 * np.cov(table.T, ddof=0)
    for sums in (by_counts, by_rows, by_blocks):
        assert np.allclose(sums.mean(axis=0), table.sum(axis=0), atol=4 * math.sqrt(1250 / 3_000))
        assert np.allclose(np.cov(sums.T), expected, atol=0.1 * expected.max())


def test_a_block_of_full_size_is_drawn_evenly() -> None:
    draws = bootstrap_module._draws(np.random.default_rng(0), 1 << 16, 1_000_001)
    assert draws.size == 1_000_001
    counts = np.bincount(draws >> 8, minlength=256)
    chi2 = ((counts - counts.mean()) ** 2).sum() / counts.mean()
    assert 180 < chi2 < 340  # 255 degrees of freedom


@FEW
@given(values, st.integers(0, 100), st.sampled_from(["percentile", "bca"]))
def test_order_of_users_changes_nothing_and_the_seed_is_all_the_chance(
    x: np.ndarray[Any, np.dtype[np.float64]], seed: int, method: str
) -> None:
    shuffled = np.random.default_rng(seed).permutation(x)
    first, second = (
        bootstrap_interval(v, method=method, n_resamples=50, seed=seed) for v in (x, shuffled)
    )
    assert repr(first) == repr(second)
    assert x.min() - 1e-12 <= first.low <= first.high <= x.max() + 1e-12


def test_undefined_values_are_left_out_and_counted() -> None:
    with_gaps = bootstrap_interval([0.1, NAN, 0.4, 0.9, NAN], seed=5)
    without = bootstrap_interval([0.1, 0.4, 0.9], seed=5)
    assert with_gaps.n_undefined == 2
    assert with_gaps.n == 3
    assert (with_gaps.value, with_gaps.low, with_gaps.high) == (
        without.value,
        without.low,
        without.high,
    )


@pytest.mark.parametrize(
    ("x", "clusters", "reason"),
    [
        ([], None, "no user has a value"),
        ([NAN, NAN], None, "no user has a value"),
        ([0.3], None, "one of the users"),
        ([0.3, 0.4], [7, 7], "one of the clients"),
    ],
)
def test_an_interval_that_cannot_be_is_nan_with_the_reason(
    x: list[float], clusters: list[int] | None, reason: str
) -> None:
    interval = bootstrap_interval(x, clusters)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
    assert reason in interval.reason


def test_equal_values_give_an_interval_of_no_width_and_say_so() -> None:
    for method in ("percentile", "bca"):
        interval = bootstrap_interval([0.25] * 9, method=method)
        assert (interval.low, interval.value, interval.high) == (0.25, 0.25, 0.25)
        assert "no width" in interval.reason


def test_the_percentile_and_bca_intervals_equal_scipys_within_chance() -> None:
    stats = pytest.importorskip("scipy.stats")
    x = skewed(80)
    for method in ("percentile", "BCa"):
        theirs = stats.bootstrap(
            (x,), np.mean, n_resamples=40_000, method=method, rng=np.random.default_rng(0)
        ).confidence_interval
        ours = bootstrap_interval(x, method=method.lower(), n_resamples=40_000)
        width = theirs.high - theirs.low
        assert ours.low == pytest.approx(theirs.low, abs=0.02 * width)
        assert ours.high == pytest.approx(theirs.high, abs=0.02 * width)


def test_bca_moves_towards_the_longer_tail() -> None:
    x = skewed(60, seed=2)
    plain, corrected = (
        bootstrap_interval(x, method=m, n_resamples=8_000) for m in ("percentile", "bca")
    )
    assert corrected.low > plain.low
    assert corrected.high > plain.high


def test_resamples_equal_to_the_value_leave_bca_unbiased() -> None:
    for seed in range(5):
        interval = bootstrap_interval([0.0, 1.0] * 4, method="bca", n_resamples=4_000, seed=seed)
        assert interval.low + interval.high == pytest.approx(1.0)


def test_bca_of_clients_is_bent_by_what_each_client_of_its_own_size_changes() -> None:
    client = np.repeat(np.arange(9), [1, 2, 3, 5, 8, 13, 2, 1, 30])
    x = skewed(len(client), seed=4) + client / 5
    found = bootstrap_interval(x, client, method="bca", n_resamples=500, seed=3)
    without = np.array([x[client != c].mean() for c in range(9)])
    units = [[x[client == c].sum(), (client == c).sum()] for c in range(9)]
    drawn = resampled_sums(units, n_resamples=500, seed=3)
    by_hand = interval_of(
        x.mean(), drawn[:, 0] / drawn[:, 1], influence=without.mean() - without, method="bca",
        unit="clients", n=len(x), n_units=9, seed=3,
    )  # fmt: skip
    assert (found.low, found.high) == pytest.approx((by_hand.low, by_hand.high), rel=1e-9)


def test_a_value_beyond_all_resamples_is_taken_for_half_a_resample_from_their_end() -> None:
    resampled = np.linspace(0.0, 1.0, 101)
    found = interval_of(2.0, resampled, influence=np.zeros(3), method="bca", n=3, n_units=3, seed=0)
    bias = statistics.NormalDist().inv_cdf(1 - 0.5 / 101)
    ends = [
        statistics.NormalDist().cdf(2 * bias + z) for z in (-1.959963984540054, 1.959963984540054)
    ]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(resampled, ends)))


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(method: str) -> None:
    rng = np.random.default_rng(11)
    covered = 0
    for trial in range(300):
        interval = bootstrap_interval(
            rng.binomial(4, 0.4, 80) / 4, method=method, n_resamples=300, seed=trial
        )
        covered += interval.low <= 0.4 <= interval.high
    assert 0.91 <= covered / 300 <= 0.985


def test_users_alike_within_clients_need_the_cluster_bootstrap() -> None:
    rng = np.random.default_rng(5)
    covered = {"users": 0, "clients": 0}
    for trial in range(200):
        client = np.repeat(np.arange(40), 10)
        x = rng.normal(size=40)[client] + 0.3 * rng.normal(size=400)
        for ids in (None, client):
            interval = bootstrap_interval(x, ids, n_resamples=200, seed=trial)
            covered[interval.unit] += interval.low <= 0.0 <= interval.high
    assert covered["clients"] / 200 >= 0.88
    assert covered["users"] / 200 <= 0.65


@FEW
@given(values)
def test_clients_of_one_user_each_are_users(x: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    users = bootstrap_interval(x, n_resamples=40)
    clients = bootstrap_interval(x, [f"c{i:03}" for i in range(x.size)], n_resamples=40)
    assert (users.value, users.low, users.high) == (clients.value, clients.low, clients.high)


def test_clients_of_several_sizes_keep_the_mean_over_users() -> None:
    x, client = np.array([1.0, 1.0, 1.0, 0.0]), np.array([0, 0, 0, 1])
    interval = bootstrap_interval(x, client, n_resamples=4_000)
    assert interval.value == 0.75
    sums = resampled_sums([[3.0, 3.0], [0.0, 1.0]], n_resamples=4_000, seed=0)
    assert set(np.round(np.unique(sums[:, 0] / sums[:, 1]), 6)) == {0.0, 0.75, 1.0}
    assert (interval.low, interval.high) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: bootstrap_interval([0.1, math.inf]), "1 of 2 values are infinite"),
        (lambda: bootstrap_interval([[0.1, 0.2]]), "values have shape (1, 2)"),
        (lambda: bootstrap_interval([0.1, 0.2], [1]), "2 values and 1 clusters"),
        (lambda: bootstrap_interval([0.1, 0.2], level=1.0), "level is 1.0"),
        (lambda: bootstrap_interval([0.1, 0.2], method="basic"), "no interval is called 'basic'"),
        (lambda: bootstrap_interval([0.1, 0.2], n_resamples=0), "0 resamples are asked for"),
        (
            lambda: interval_of(0.1, np.array([0.1]), method="bca", n=1, n_units=1, seed=0),
            "bca needs the influence of each unit",
        ),
        (lambda: paired_test([0.1], "tt"), "no test is called 'tt'"),
        (
            lambda: paired_test([0.1, 0.2], "t", clusters=[1, 2]),
            "the t test takes users as independent and knows no clients",
        ),
        (lambda: paired_test([0.1, 0.2], n_resamples=0), "0 resamples are asked for"),
        (lambda: paired_differences([0.1], [0.1, 0.2]), "system A has 1 values and system B 2"),
        (lambda: correct([0.1, 1.1]), "1 p-values are no probabilities"),
        (lambda: correct([0.1], "bonferoni"), "no correction is called 'bonferoni'"),
        (lambda: smallest_difference([0.1, 0.2], alpha=0.0), "alpha is 0.0"),
        (lambda: smallest_difference([0.1, 0.2], alpha=1.0), "alpha is 1.0"),
        (lambda: smallest_difference([0.1, 0.2], power=0.01), "power is 0.01"),
        (lambda: smallest_difference([0.1, 0.2], power=1.0), "power is 1.0"),
        (lambda: Inference(test="wilcoxn"), "no test is called 'wilcoxn'"),
        (lambda: Inference(level=0.0), "level is 0.0"),
    ],
)
def test_what_cannot_be_computed_is_refused(call: Callable[[], object], words: str) -> None:
    with pytest.raises(EvaluationError, match=re.escape(words)):
        call()


# --- paired tests -------------------------------------------------------------------------------------


def test_students_sleep_data_gives_the_published_numbers() -> None:
    d = paired_differences(SLEEP_A, SLEEP_B)
    t = paired_test(d, "t")
    assert (t.statistic, t.p) == pytest.approx((4.0621277, 0.0028329), abs=1e-6)
    exact = paired_test(d)
    assert exact.how == "exact, 512 flips"  # one difference is 0
    assert exact.p == 2 / 512  # all others are positive
    wilcoxon = paired_test(d, "wilcoxon")
    assert wilcoxon.statistic == 45.0
    assert wilcoxon.p == 2 / 512
    assert (wilcoxon.n, wilcoxon.n_zero) == (10, 1)
    assert cohens_dz(d) == pytest.approx(4.0621277 / math.sqrt(10), abs=1e-7)


def test_the_tests_equal_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(4)
    for n in (9, 40, 300):
        d = rng.normal(0.2, 1.0, n)
        assert paired_test(d, "t").p == pytest.approx(stats.ttest_1samp(d, 0.0).pvalue, rel=1e-9)
        method = "exact" if n <= 50 else "asymptotic"
        theirs = stats.wilcoxon(d, method=method, correction=False)
        assert paired_test(d, "wilcoxon").p == pytest.approx(theirs.pvalue, rel=1e-9)
        flips = stats.permutation_test(
            (d,), np.mean, permutation_type="samples", n_resamples=9_999, vectorized=True, rng=rng
        )
        assert paired_test(d).p == pytest.approx(flips.pvalue, abs=0.02)
    tied = np.round(rng.normal(0.2, 1.0, 400), 1)
    theirs = stats.wilcoxon(tied, method="asymptotic", correction=False)
    assert paired_test(tied, "wilcoxon").p == pytest.approx(theirs.pvalue, rel=1e-9)


@FEW
@given(
    hnp.arrays(np.float64, st.integers(1, 9), elements=st.sampled_from([-1.0, -0.5, 0, 0.5, 2.0]))
)
def test_exact_tests_count_every_sign_pattern(d: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    patterns = np.array(list(itertools.product([1, -1], repeat=d.size)))
    means = np.abs(patterns @ np.abs(d))
    expected = np.mean(means >= abs(d.sum()) - 1e-9)
    assert paired_test(d).p == pytest.approx(expected)
    kept = d[d != 0]
    size = np.abs(kept)
    ranks = np.array([(size < v).sum() + ((size == v).sum() + 1) / 2 for v in size])
    signs = np.array(list(itertools.product([0, 1], repeat=kept.size)))
    w = signs @ ranks if kept.size else np.zeros(1)
    at = ranks[kept > 0].sum() if kept.size else 0.0
    two_sided = min(1.0, 2 * min(np.mean(w <= at + 1e-9), np.mean(w >= at - 1e-9)))
    assert paired_test(d, "wilcoxon").p == pytest.approx(two_sided)


@FEW
@given(values, st.integers(0, 50))
def test_a_test_knows_no_order_of_users_and_no_name_of_systems(
    x: np.ndarray[Any, np.dtype[np.float64]], seed: int
) -> None:
    y = np.random.default_rng(seed).permutation(x)
    order = np.random.default_rng(seed + 1).permutation(x.size)
    for name in PAIRED_TESTS:
        d = paired_differences(x, y)
        forth, back, moved = (
            paired_test(v, name, n_resamples=60) for v in (d, paired_differences(y, x), d[order])
        )
        assert back.p == pytest.approx(forth.p, nan_ok=True)
        assert moved.p == pytest.approx(forth.p, nan_ok=True)
        assert math.isnan(forth.p) or 0.0 < forth.p <= 1.0 or name == "t"


def test_wilcoxon_counts_the_patterns_of_up_to_fifty_differences() -> None:
    d = np.arange(1.0, 52.0) * np.where(np.arange(51) % 3, 1, -1)
    exact, normal = paired_test(d[:50], "wilcoxon"), paired_test(d, "wilcoxon")
    assert exact.how == "exact"
    assert 0.0 < exact.smallest_p < 1e-14
    assert (normal.how, normal.smallest_p) == ("normal approximation", 0.0)


def test_random_flips_have_the_moments_of_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired_module, "GROUPS", 4)
    for sizes in (skewed(77), np.repeat([0.5, 1.5], 80)):  # eight at a time, and counted
        sums = flipped_sums(sizes, n_resamples=20_000, seed=1)
        deviation = math.sqrt((sizes**2).sum())
        assert abs(sums.mean()) < 4 * deviation / math.sqrt(20_000)
        assert sums.std() == pytest.approx(deviation, rel=0.03)
        assert np.mean(np.abs(sums) > 1.96 * deviation) == pytest.approx(0.05, abs=0.01)


def test_no_random_flip_gives_p_of_zero() -> None:
    assert paired_test(np.arange(1.0, 101.0), n_resamples=199).p == 1 / 200
    assert paired_test(np.ones(100), n_resamples=199).p == 1 / 200


def test_the_randomisation_test_rejects_at_its_level() -> None:
    rng = np.random.default_rng(8)
    ps = [paired_test(rng.normal(size=25), n_resamples=199, seed=s).p for s in range(400)]
    assert np.mean(np.array(ps) <= 0.05) == pytest.approx(0.05, abs=0.035)


def test_flipping_whole_clients_sees_how_few_they_are() -> None:
    client = np.repeat(np.arange(6), 50)
    d = np.repeat([0.2, 0.1, 0.3, -0.1, 0.2, -0.05], 50)
    by_user, by_client = paired_test(d), paired_test(d, clusters=client)
    assert by_user.p <= 0.001
    assert by_client.p > 0.1
    assert (by_client.n, by_client.n_units, by_client.how) == (300, 6, "exact, 64 flips")


@pytest.mark.parametrize("name", PAIRED_TESTS)
def test_nothing_to_test_is_nan_with_the_reason(name: str) -> None:
    result = paired_test([NAN, NAN], name)
    assert math.isnan(result.p)
    assert result.n_undefined == 2
    assert result.reason


def test_equal_systems_do_not_differ() -> None:
    zeros = np.zeros(30)
    assert paired_test(zeros).p == 1.0
    assert paired_test(zeros, "wilcoxon").p == 1.0
    t = paired_test(zeros, "t")
    assert math.isnan(t.p)
    assert "spread is 0" in t.reason


def test_gains_added_in_another_order_tie() -> None:
    a = [0.1 + 0.2 + 0.3, 0.5]
    b = [0.3 + 0.2 + 0.1, 0.4]
    assert a[0] != b[0]
    assert paired_differences(a, b).tolist() == pytest.approx([0.0, 0.1])
    assert paired_differences(a, b)[0] == 0.0


# --- corrections --------------------------------------------------------------------------------------


def test_corrections_of_a_hand_case() -> None:
    p = [0.01, 0.04, 0.03, 0.005]
    assert correct(p, "holm") == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert correct(p, "benjamini_hochberg") == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert correct(p, "none") == pytest.approx(p)
    assert correct([0.6, 0.7], "holm").tolist() == [1.0, 1.0]


def test_benjamini_hochberg_equals_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    p = np.random.default_rng(0).random(50) ** 3
    assert correct(p, "benjamini_hochberg") == pytest.approx(stats.false_discovery_control(p))


@FEW
@given(st.lists(st.one_of(st.just(NAN), st.floats(0, 1)), max_size=20))
def test_corrections_keep_order_and_undefined_values(p: list[float]) -> None:
    plain, family = np.array(p, dtype=float), np.count_nonzero(~np.isnan(p)) if p else 0
    for name in CORRECTIONS:
        corrected = correct(plain, name)
        assert (np.isnan(corrected) == np.isnan(plain)).all()
        known = ~np.isnan(plain)
        assert (corrected[known] >= plain[known] - 1e-15).all()
        assert (corrected[known] <= np.minimum(1, family * plain[known]) + 1e-12).all()
        order = np.argsort(plain[known], kind="stable")
        assert (np.diff(corrected[known][order]) >= 0).all()


# --- effects ------------------------------------------------------------------------------------------


def test_effects_of_a_hand_case() -> None:
    d = [1.0, 2.0, 0.0, -1.0, NAN]
    assert win_tie_loss(d) == win_tie_loss([3.0, 3.0, 0.0, -9.0])
    counts = win_tie_loss(d)
    assert (counts.wins, counts.ties, counts.losses, counts.n) == (2, 1, 1, 4)
    assert win_tie_loss(d, tolerance=1.0).ties == 3
    assert superiority(d) == 0.625
    assert cohens_dz(d) == pytest.approx(0.5 / np.std(d[:4], ddof=1))
    assert cliffs_delta([1, 2, 3], [2, 2, 5]) == pytest.approx((2 - 5) / 9)


def test_effects_of_nothing_are_nan() -> None:
    for value in (
        superiority([NAN]),
        cohens_dz([]),
        cohens_dz([0.2]),
        cohens_dz([0.2, 0.2]),
        cliffs_delta([], [1.0]),
        smallest_difference([0.3]),
    ):
        assert math.isnan(value)
    assert smallest_difference([0.3, 0.3]) == 0.0


@FEW
@given(values, values)
def test_cliffs_delta_is_the_mean_sign_of_all_pairs(
    a: np.ndarray[Any, np.dtype[np.float64]], b: np.ndarray[Any, np.dtype[np.float64]]
) -> None:
    assert cliffs_delta(a, b) == pytest.approx(np.sign(a[:, None] - b[None, :]).mean())


def test_the_smallest_difference_is_the_textbooks() -> None:
    # d_z = 0.5, two-sided 5 %: 34 pairs reach a power of 0.8 (Cohen 1988; G*Power 3: 0.8077775).
    d = np.tile([1.0, -1.0], 17)
    d = d / d.std(ddof=1)
    assert smallest_difference(d, power=0.8077775) == pytest.approx(0.5, abs=1e-6)
    assert smallest_difference(d) < 0.5
    large = np.tile([1.0, -1.0], 500_000)
    assert smallest_difference(large) == pytest.approx(2.8015850 / 1_000, rel=1e-5)  # z's


def test_a_true_difference_of_that_size_is_found_as_often_as_promised() -> None:
    rng = np.random.default_rng(0)
    data = np.tile([1.0, -1.0], 20)
    seen, deviation = smallest_difference(data), data.std(ddof=1)
    found = [paired_test(rng.normal(seen, deviation, 40), "t").p <= 0.05 for _ in range(600)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.05)


def test_users_alike_within_clients_hide_larger_differences() -> None:
    rng = np.random.default_rng(1)
    client = np.repeat(np.arange(30), 20)
    d = rng.normal(size=30)[client] + 0.1 * rng.normal(size=600)
    assert smallest_difference(d, client) > 3 * smallest_difference(d)
    assert smallest_difference(d, np.arange(600)) == pytest.approx(smallest_difference(d))


# --- comparisons --------------------------------------------------------------------------------------


def of_seven_metrics(rng: np.random.Generator, shift: float) -> dict[str, pl.DataFrame]:
    """Two systems on 60 users: `m0` differs by `shift` on average, six others not at all."""
    users = pl.DataFrame({"user_id": np.arange(60)})
    noise = [rng.normal(shift if m == 0 else 0.0, 1.0, 60) for m in range(7)]
    a = users.with_columns(**{f"m{m}": noise[m] for m in range(7)})
    return {"a": a, "b": users.with_columns(**{f"m{m}": pl.lit(0.0) for m in range(7)})}


def test_the_smallest_difference_of_a_family_is_found_after_correction_as_often_as_promised() -> (
    None
):
    rng = np.random.default_rng(3)
    table = compare_systems(
        of_seven_metrics(rng, 0.0), inference=Inference(test="t", n_resamples=2)
    )
    seen = table["smallest_difference"][0]
    spread = of_seven_metrics(np.random.default_rng(3), 0.0)["a"]["m0"].std()
    assert 1.22 < seen / (2.8 * spread / np.sqrt(60)) < 1.32  # 2.8: that of one test, about
    found = []
    for _ in range(300):
        shift = [seen, *[0.0] * 6]
        p = [paired_test(rng.normal(at, spread, 60), "t").p for at in shift]
        found.append(correct(np.array(p), "holm")[0] <= 0.05)
    assert np.mean(found) == pytest.approx(0.8, abs=0.07)


def test_without_a_correction_the_number_of_tests_changes_no_smallest_difference() -> None:
    systems = of_seven_metrics(np.random.default_rng(4), 0.2)
    how = {
        c: Inference(correction=c, n_resamples=2) for c in ("none", "holm", "benjamini_hochberg")
    }
    alone = compare_systems(systems, ["m0"], inference=how["holm"])["smallest_difference"][0]
    for correction, ratio in (("none", 1.0), ("holm", 1.26), ("benjamini_hochberg", 1.26)):
        table = compare_systems(systems, inference=how[correction])
        assert table["smallest_difference"][0] == pytest.approx(ratio * alone, rel=0.02)


def per_user(n: int, shift: float, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    base = np.random.default_rng(0).random(n)
    return pl.DataFrame(
        {
            "user_id": pl.Series(range(n), dtype=pl.Int32),
            "ndcg@10": np.clip(base + shift + 0.05 * rng.normal(size=n), 0, 1),
            "rmse": 1.0 - shift + 0.05 * rng.normal(size=n),
        }
    )


def test_systems_are_compared_pair_by_pair_and_corrected_as_one_family() -> None:
    shifts = {"good": 0.1, "fair": 0.0, "twin": 0.0}
    systems = {name: per_user(200, shift, at) for at, (name, shift) in enumerate(shifts.items(), 1)}
    table = compare_systems(systems, lower_is_better=["rmse"])
    assert table.height == 6
    assert table["metric"].to_list() == ["ndcg@10"] * 3 + ["rmse"] * 3
    assert table["better"].to_list() == ["good", "good", "undecided"] * 2
    assert table["p_corrected"].to_numpy() == pytest.approx(correct(table["p"].to_numpy(), "holm"))
    first = table.row(0, named=True)
    assert first["low"] < first["difference"] < first["high"]
    assert first["wins"] + first["ties"] + first["losses"] == first["n"] == 200
    rmse = table.filter(pl.col("metric") == "rmse").row(0, named=True)
    assert rmse["difference"] < 0
    assert rmse["wins"] > rmse["losses"]  # less is better


def hits(seed: int, *, n: int = 80, share: float = 0.5) -> pl.DataFrame:
    """Values of users with one relevant item each: recall is the hit rate, precision a tenth of it."""
    hit = (np.random.default_rng(seed).random(n) < share).astype(float)
    user = pl.Series(range(n), dtype=pl.Int32)
    frame = pl.DataFrame(
        {"user_id": user, "hr@10": hit, "recall@10": hit, "precision@10": hit / 10}
    )
    return frame.with_columns(
        pl.Series("mrr@10", hit / np.random.default_rng(9).integers(1, 11, n))
    )


def test_metrics_that_repeat_another_are_one_test_of_the_family() -> None:
    systems = {"a": hits(1, share=0.8), "b": hits(2), "c": hits(3)}
    metrics = ["hr@10", "recall@10", "precision@10", "mrr@10"]
    table = compare_systems(systems, metrics, against="c")
    assert table["same_as"].to_list() == ["", "", "hr@10", "hr@10", "hr@10", "hr@10", "", ""]
    distinct = compare_systems(systems, ["hr@10", "mrr@10"], against="c")
    for row in table.iter_rows(named=True):
        metric = row["same_as"] or row["metric"]
        other = distinct.row(
            by_predicate=(pl.col("metric") == metric) & (pl.col("a") == row["a"]), named=True
        )
        assert row["p_corrected"] == pytest.approx(other["p_corrected"])
        assert row["p"] == pytest.approx(other["p"])
        assert row["better"] == other["better"]
    assert distinct["p_corrected"].to_numpy() == pytest.approx(correct(distinct["p"].to_numpy()))
    assert (distinct["p_corrected"] > distinct["p"]).any()


def test_metrics_that_differ_for_one_user_of_one_system_are_two_tests() -> None:
    a, b = hits(1), hits(2)
    nudged = pl.when(pl.col("user_id") == 7).then(0.25).otherwise("recall@10").alias("recall@10")
    table = compare_systems({"a": a, "b": b.with_columns(nudged)}, ["hr@10", "recall@10"])
    assert table["same_as"].to_list() == ["", ""]
    undefined = pl.when(pl.col("user_id") != 7).then("recall@10").alias("recall@10")
    table = compare_systems({"a": a, "b": b.with_columns(undefined)}, ["hr@10", "recall@10"])
    assert table["same_as"].to_list() == ["", ""]
    nothing = [frame.with_columns(pl.lit(None, pl.Float64).alias("hr@10")) for frame in (a, b)]
    assert compare_systems(dict(zip("ab", nothing, strict=True)), ["hr@10"])["n"].to_list() == [0]


def test_slices_count_a_repeated_metric_once_too() -> None:
    groups = pl.DataFrame({"user_id": range(80), "group": ["x", "y"] * 40}).with_columns(
        pl.col("user_id").cast(pl.Int32)
    )
    a, b = hits(1, share=0.8), hits(2)
    both = slice_comparison(a, b, groups, ["hr@10", "recall@10"])
    once = slice_comparison(a, b, groups, ["hr@10"])
    assert both["p_corrected"].to_list() == once["p_corrected"].to_list() * 2


@pytest.mark.parametrize(("test", "n", "bound"), [
    ("randomisation", 3, 0.25), ("randomisation", 13, 2**-12), ("randomisation", 40, 1e-4),
    ("wilcoxon", 6, 2**-5), ("wilcoxon", 60, 0.0), ("t", 5, 0.0),
])  # fmt: skip
def test_no_p_comes_out_below_the_smallest_one_that_can(test: str, n: int, bound: float) -> None:
    found = paired_test(np.append(np.linspace(1.0, 2.0, n), [0.0, 0.0, NAN]), test)
    assert found.smallest_p == pytest.approx(bound)
    assert found.p >= found.smallest_p
    if bound:
        assert found.p == pytest.approx(bound)  # all differences of one sign: it is reached


def test_users_of_one_system_alone_are_left_out_and_counted() -> None:
    a, b = per_user(50, 0.0, 1), per_user(60, 0.0, 2)[10:]
    b = b.with_columns(rmse=pl.when(pl.col("user_id") >= 15).then(pl.col("rmse")))
    table = compare_systems({"a": a, "b": b}, ["rmse"], against="b")
    row = table.row(0, named=True)
    assert (row["n_only_a"], row["n_only_b"], row["n_undefined"], row["n"]) == (10, 10, 5, 35)
    shuffled = compare_systems({"a": a.reverse(), "b": b}, ["rmse"], against="b")
    assert shuffled.row(0, named=True) == pytest.approx(row)


def test_whole_clients_are_compared_when_they_are_given() -> None:
    clients = pl.DataFrame({"user_id": range(60), "client_id": [u // 20 for u in range(60)]})
    table = compare_systems(
        {"a": per_user(60, 0.1, 1), "b": per_user(60, 0.0, 2)}, ["ndcg@10"], clients=clients
    )
    assert table["n_units"].to_list() == [3]
    assert table["how"].to_list() == ["randomisation, exact, 8 flips"]
    assert table["better"].to_list() == ["undecided"]


def test_a_comparison_of_nothing_has_reasons() -> None:
    row = compare_values([NAN, 0.1], [0.1, NAN])
    assert row["n"] == 0
    assert math.isnan(row["p"])
    assert "no user" in row["reason"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.rename({"user_id": "userid"}), "user_id"),
        (lambda f: f.rename({"rmse": "rsme"}), "rmse"),
        (lambda f: pl.concat([f, f[:2]]), "2 rows repeat a user"),
        (lambda f: f.with_columns(pl.col("user_id") + 1_000), "no user in common"),
        (lambda f: f.with_columns(pl.col("user_id").cast(pl.String)), "String"),
    ],
)
def test_tables_that_do_not_match_are_refused(
    change: Callable[[pl.DataFrame], pl.DataFrame], said: str
) -> None:
    frame = per_user(20, 0.0, 1)
    with pytest.raises(EvaluationError, match=said):
        compare_systems({"a": frame, "b": change(frame)}, ["rmse"])
    with pytest.raises(EvaluationError, match="least two"):
        compare_systems({"a": frame})
    with pytest.raises(EvaluationError, match="did you mean 'a'"):
        compare_systems({"a": frame, "b": frame}, against="A")
