"""Normalisation: what each method promises, of any input, and the numbers it reports."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedprep.embed import normalise
from fedprep.embed.normalise import METHODS
from fedprep.errors import EncoderError, RecipeError

module = sys.modules["fedprep.embed.normalise"]


def table(n: int, d: int, seed: int = 0) -> NDArray[np.float32]:
    """Correlated dimensions of different size and mean."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)) * np.geomspace(3, 0.1, d)
    x[:, 1:] += 0.5 * x[:, :-1]
    return (x + np.linspace(-2, 5, d)).astype(np.float32)


def masks(n: int, seed: int = 1) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    return rng.random(n) < 0.8, rng.random(n) < 0.7


cases = st.tuples(st.integers(30, 120), st.integers(1, 12), st.integers(0, 99))


@settings(deadline=None, max_examples=25)
@given(cases, st.sampled_from(sorted(METHODS)))
def test_missing_rows_stay_zero_present_rows_are_finite_and_nothing_appears(
    case: tuple[int, int, int], method: str
) -> None:
    n, d, seed = case
    x, (present, fit) = table(n, d, seed), masks(n, seed)
    y, there, stats = normalise(x, present, method, fit=fit)
    assert y.shape == x.shape
    assert y.dtype == np.float32
    assert np.isfinite(y).all()
    assert not y[~there].any()
    assert not (there & ~present).any()
    assert stats["after"]["n_present"] - stats["after"]["n_zero"] == there.sum()


@settings(deadline=None, max_examples=25)
@given(cases)
def test_l2_gives_unit_norm_and_keeps_directions(case: tuple[int, int, int]) -> None:
    n, d, seed = case
    x, (present, fit) = table(n, d, seed), masks(n, seed)
    y, _, stats = normalise(x, present, "l2", fit=fit)
    assert np.abs(np.linalg.norm(y[present], axis=1) - 1).max() < 1e-6
    size = np.linalg.norm(x[present], axis=1)
    assert np.abs((x[present] * y[present]).sum(1) / size - 1).max() < 1e-5
    assert stats["after"]["norm_median"] == pytest.approx(1)
    assert stats["before"]["norm_max"] == pytest.approx(size.max(), rel=1e-5)


@settings(deadline=None, max_examples=25)
@given(cases)
def test_standardize_fits_rows_that_are_present_and_in_train_only(
    case: tuple[int, int, int],
) -> None:
    n, d, seed = case
    x, (present, fit) = table(n, d, seed), masks(n, seed)
    used = present & fit
    y, _, stats = normalise(x, present, "standardize", fit=fit)
    assert np.abs(y[used].mean(axis=0, dtype=float)).max() < 1e-5
    assert np.abs(y[used].std(axis=0, dtype=float) - 1).max() < 1e-5
    wide = x.astype(float)
    expected = (wide - wide[used].mean(0)) / wide[used].std(0)
    assert np.abs(y[present] - expected[present]).max() < 1e-4
    assert stats["n_fit"] == used.sum()
    other = np.where(used[:, None], x, x + 100).astype(np.float32)
    z, _, _ = normalise(other, present, "standardize", fit=fit)
    assert np.array_equal(y[used], z[used])


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 10), st.integers(0, 99))
def test_whiten_leaves_no_correlation_and_keeps_the_greatest_variance(d: int, seed: int) -> None:
    n = 200
    x, (present, fit) = table(n, d, seed), masks(n, seed)
    used = present & fit
    y, _, stats = normalise(x, present, "whiten", fit=fit)
    covariance = np.atleast_2d(np.cov(y[used].astype(float).T, ddof=0))
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-4
    variance = np.linalg.eigvalsh(np.atleast_2d(np.cov(x[used].astype(float).T, ddof=0)))[::-1]
    assert np.allclose(np.diag(covariance), variance / (variance + stats["ridge"]), atol=1e-4)
    kept = max(1, d // 2)
    part, _, facts = normalise(x, present, "whiten", fit=fit, dim=kept)
    assert part.shape == (n, kept)
    assert np.array_equal(part, y[:, :kept])
    assert facts["explained"] == pytest.approx(variance[:kept].sum() / variance.sum(), rel=1e-4)


def test_the_sign_of_a_component_does_not_hang_on_the_order_of_rows() -> None:
    x = table(300, 6)
    everything = np.ones(300, bool)
    order = np.random.default_rng(3).permutation(300)
    y, _, _ = normalise(x, everything, "whiten", fit=everything)
    z, _, _ = normalise(x[order], everything, "whiten", fit=everything)
    assert np.abs(y[order] - z).max() < 1e-4


def test_none_changes_nothing_that_is_present() -> None:
    x, (present, fit) = table(50, 4), masks(50)
    y, there, stats = normalise(x, present, "none", fit=fit)
    assert np.array_equal(y, np.where(present[:, None], x, 0))
    assert np.array_equal(there, present)
    assert stats["before"] == stats["after"]


def test_the_statistics_are_right_of_a_table_by_hand() -> None:
    x = np.array([[3, 4], [0, 0], [6, 8], [9, 9]], np.float32)
    present = np.array([True, True, True, False])
    _, there, stats = normalise(x, present, "l2", fit=present)
    assert stats["before"] == {
        "n_present": 3,
        "n_zero": 1,
        "norm_min": 0.0,
        "norm_median": 5.0,
        "norm_max": 10.0,
        "rms": pytest.approx(math.sqrt(125 / 6), rel=1e-5),
        "mean_abs": pytest.approx(21 / 6, rel=1e-5),
    }
    assert stats["after"]["norm_min"] == 0.0
    assert there.tolist() == [True, False, True, False]


def test_a_dimension_that_never_varies_is_left_at_zero_and_counted() -> None:
    x = table(60, 4)
    x[:, 2] = np.float32(0.1)
    everything = np.ones(60, bool)
    y, _, stats = normalise(x, everything, "standardize", fit=everything)
    assert stats["n_constant"] == 1
    assert not y[:, 2].any()
    assert y[:, [0, 1, 3]].any(axis=0).all()


def test_a_row_that_becomes_a_zero_vector_is_marked_as_missing() -> None:
    x = np.array([[1, 1], [3, 5], [2, 3]], np.float32)
    everything = np.ones(3, bool)
    fit = np.array([True, True, False])
    _, there, stats = normalise(x, everything, "standardize", fit=fit)
    assert there.tolist() == [True, True, False]
    assert stats["after"]["n_zero"] == 1


@pytest.mark.parametrize("method", sorted(METHODS))
def test_nothing_present_gives_nothing_and_no_error(method: str) -> None:
    absent = np.zeros(3, bool)
    y, there, stats = normalise(np.zeros((3, 2), np.float32), absent, method, fit=~absent)
    assert not y.any()
    assert not there.any()
    assert stats["before"]["n_present"] == 0
    assert stats["before"]["norm_median"] is None


@pytest.mark.parametrize("method", ["standardize", "whiten"])
def test_fewer_than_two_rows_to_fit_are_refused(method: str) -> None:
    everything = np.ones(5, bool)
    one = np.arange(5) == 2
    with pytest.raises(EncoderError, match="1 embeddings of items seen in train are too few"):
        normalise(table(5, 3), everything, method, fit=one)


def test_equal_rows_cannot_be_whitened() -> None:
    everything = np.ones(5, bool)
    with pytest.raises(EncoderError, match="are equal"):
        normalise(np.ones((5, 3), np.float32), everything, "whiten", fit=everything)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_refused_by_its_row(value: float) -> None:
    x = table(9, 3)
    x[4, 1] = value
    everything = np.ones(9, bool)
    with pytest.raises(EncoderError, match="1 embeddings are not finite") as caught:
        normalise(x, everything, "l2", fit=everything)
    assert "row 4" in str(caught.value)
    y, _, _ = normalise(x, np.arange(9) != 4, "l2", fit=everything)
    assert np.isfinite(y).all()


def test_an_unknown_method_and_too_many_dimensions_are_refused() -> None:
    everything = np.ones(4, bool)
    with pytest.raises(RecipeError, match="zscore"):
        normalise(table(4, 3), everything, "zscore", fit=everything)
    with pytest.raises(RecipeError, match="4 dimensions are asked of embeddings that have 3"):
        normalise(table(4, 3), everything, "whiten", fit=everything, dim=4)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_size_of_a_block_does_not_matter(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, (present, fit) = table(100, 5), masks(100)
    whole, _, _ = normalise(x, present, method, fit=fit)
    monkeypatch.setattr(module, "BLOCK", 7)
    parts, _, _ = normalise(x, present, method, fit=fit)
    assert np.abs(whole - parts).max() < 1e-4


@settings(deadline=None, max_examples=25)
@given(n=st.integers(2, 200), d=st.integers(2, 40), seed=st.integers(0, 999))
def test_sums_of_products_are_exact_so_no_order_of_adding_changes_a_bit(
    n: int, d: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x, used = table(n, d, seed), np.ones(n, bool)
    mean = x.mean(axis=0, dtype=np.float64)
    rows, columns = rng.permutation(n), rng.permutation(d)
    covariance = module._covariance(x, used, mean)
    assert np.array_equal(covariance, module._covariance(x[rows], used, mean))
    centred = x - mean
    np.testing.assert_allclose(
        covariance, centred.T @ centred, rtol=0, atol=1e-5 * covariance.max()
    )
    components = rng.standard_normal((d, 3)) * np.geomspace(1, 1e-3, d)[:, None]
    product = module._product(centred, components)
    assert np.array_equal(product, module._product(centred[:, columns], components[columns]))
    np.testing.assert_allclose(
        product, centred @ components, rtol=0, atol=1e-5 * np.abs(product).max()
    )


THREADS = """
import hashlib, sys
import numpy as np
from fedprep.embed.normalise import METHODS, normalise
rng = np.random.default_rng(0)
x = rng.standard_normal((2000, 96), dtype=np.float32) * np.geomspace(2, 0.1, 96, dtype=np.float32)
x[:, 1:] += x[:, :-1]
everything = np.ones(2000, bool)
for method in METHODS:
    print(hashlib.sha256(normalise(x, everything, method, fit=everything)[0].tobytes()).hexdigest())
"""


def test_the_number_of_threads_does_not_change_a_bit() -> None:
    def digests(threads: int) -> str:
        env: dict[str, Any] = {
            **os.environ,
            "PYTHONPATH": str(Path(module.__file__ or "").parents[2]),
            "OPENBLAS_NUM_THREADS": str(threads),
        }
        return subprocess.check_output([sys.executable, "-c", THREADS], env=env, text=True)

    assert digests(1) == digests(2)
