"""Sums with Gaussian noise: what can be published so that no single client shows, and at what error.

(epsilon, delta)-differential privacy of clients: whether any one client took part changes the probability
of any outcome by at most a factor e^epsilon, but for a probability delta. The noise is calibrated to
the exact condition of the analytic Gaussian mechanism, not to the looser and common bound
√(2 ln(1.25 / delta)) / epsilon, which is proved for epsilon below 1 only.

Stated limits: a trusted server adds the noise (central model); it is a float64 normal deviate, whose last
bits are known to leak (Mironov, CCS 2012), so a release to adversaries wants a discrete mechanism; and
every further table spends further epsilon and delta.

Reference: Balle and Wang, Improving the Gaussian Mechanism for Differential Privacy: Analytical
Calibration and Optimal Denoising, ICML 2018, theorem 8 and algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from fedeval.federated.fixed import LIMB
from fedeval.federated.statements import Statements
from fedeval.statistics.distributions import normal_cdf
from fedprep.errors import EvaluationError

__all__ = ["NoisyTotal", "gaussian_delta", "gaussian_sigma", "noisy_total"]


def gaussian_delta(sigma: float, epsilon: float, sensitivity: float = 1.0) -> float:
    """Returns the smallest delta for which N(0, sigma²) noise gives (epsilon, delta).

    delta = Φ(Δ/2σ - εσ/Δ) - e^ε Φ(-Δ/2σ - εσ/Δ). 1 without noise, 0 without sensitivity.

    Args:
        sigma: deviation of the noise in each coordinate, at least 0.
        epsilon: at least 0.
        sensitivity: largest change of the sums by one client, in the Euclidean norm.

    Reference: Balle and Wang 2018, theorem 8.
    """
    if sensitivity == 0.0:
        return 0.0
    if sigma == 0.0:
        return 1.0
    half, shift = sensitivity / (2.0 * sigma), epsilon * sigma / sensitivity
    tail = normal_cdf(-half - shift)
    # In logarithms, as e^epsilon may be beyond a float where the tail is next to nothing.
    other = math.exp(epsilon + math.log(tail)) if tail > 0.0 else 0.0
    return max(normal_cdf(half - shift) - other, 0.0)


def gaussian_sigma(epsilon: float, delta: float, sensitivity: float = 1.0) -> float:
    """Returns the smallest deviation of Gaussian noise that gives (epsilon, delta), rounded up.

    Args:
        epsilon: above 0.
        delta: between 0 and 1; well below 1 / n_clients.
        sensitivity: as for `gaussian_delta`.

    Raises:
        EvaluationError: a number outside its range.

    Reference: Balle and Wang 2018, algorithm 1 (here by bisection of the condition itself).
    """
    if not (0.0 < epsilon < math.inf and 0.0 < delta < 1.0):
        raise EvaluationError(
            f"epsilon is {epsilon} and delta is {delta}",
            expected="epsilon above 0, delta between 0 and 1",
        )
    if not 0.0 <= sensitivity < math.inf:
        raise EvaluationError(f"the sensitivity is {sensitivity}", expected="at least 0")
    if sensitivity == 0.0:
        return 0.0
    low, high = 0.0, 1.0
    while gaussian_delta(high, epsilon) > delta:
        low, high = high, 2.0 * high
    for _ in range(100):
        middle = 0.5 * (low + high)
        if gaussian_delta(middle, epsilon) > delta:
            low = middle
        else:
            high = middle
    return high * sensitivity


@dataclass(frozen=True, kw_only=True)
class NoisyTotal:
    """Means that may be published, with what they cost and what the noise does to them.

    means, counts: by metric, noise included; NaN where the noisy count is below 1 ·
    noise_deviation: of each mean, from the noise alone, to first order ·
    epsilon, delta: of the whole table, for adding or removing one client · sensitivity, sigma: of the sums ·
    bounds: stated range of each metric · max_users: of a client that count ·
    n_limited: clients with more users, whose sums were scaled down. It is a fact of the data without
    noise: not to be published.
    """

    metrics: tuple[str, ...]
    means: tuple[float, ...]
    counts: tuple[float, ...]
    noise_deviation: tuple[float, ...]
    epsilon: float
    delta: float
    sensitivity: float
    sigma: float
    bounds: dict[str, tuple[float, float]]
    max_users: int
    n_limited: int

    def to_frame(self) -> pl.DataFrame:
        """Returns a row per metric of what may be published, with epsilon and delta beside it."""
        return pl.DataFrame(
            {
                "metric": self.metrics,
                "mean": self.means,
                "n": self.counts,
                "noise_deviation": self.noise_deviation,
                "epsilon": [self.epsilon] * len(self.metrics),
                "delta": [self.delta] * len(self.metrics),
            }
        )


def noisy_total(
    statements: Statements,
    *,
    epsilon: float,
    delta: float,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    max_users: int = 1,
    seed: int | None = None,
) -> NoisyTotal:
    """Returns the means over users from sums and counts with Gaussian noise.

    Sums are of values less the middle of their range, which halves what one client can change. A client
    with u > `max_users` users weighs as much as `max_users`: its sums and counts are scaled by max_users / u,
    so the means are those of clients so weighted. One client then changes the vector of all sums and
    counts by at most max_users √(Σ ((high - low)² / 4 + 1)), the sum over the metrics.

    Args:
        statements: of all clients; squares are not used, and not published.
        epsilon, delta: of the whole table.
        bounds: range of each metric's values; 0 to 1 where none is given. Stated, never read off the data.
        max_users: users of a client that count.
        seed: for tests and simulations; None draws from the operating system, as a release must.

    Raises:
        EvaluationError: numbers outside their range, or sums that values inside the bounds cannot have.
    """
    if max_users < 1:
        raise EvaluationError(f"max_users is {max_users}", expected="at least 1")
    given = dict(bounds or {})
    ranges = {metric: given.get(metric, (0.0, 1.0)) for metric in statements.metrics}
    low, high = (np.array([ends[at] for ends in ranges.values()]) for at in (0, 1))
    if not (np.isfinite(low) & np.isfinite(high) & (low < high)).all():
        raise EvaluationError(f"bounds are {ranges}", expected="low below high, both finite")
    counts = statements.counts.astype(np.float64)
    limbs = statements.sums.astype(np.float64)
    sums = limbs[..., 0] + limbs[..., 1] / 2.0**LIMB + limbs[..., 2] / 4.0**LIMB
    _refuse_beyond(sums, counts, low, high, statements.metrics)
    users = (statements.counts + statements.undefined).max(axis=1, initial=0)
    weight = np.minimum(1.0, max_users / np.maximum(users, 1))[:, None]
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    sensitivity = max_users * math.sqrt(float((half**2 + 1.0).sum()))
    sigma = gaussian_sigma(epsilon, delta, sensitivity)
    rng = np.random.default_rng(seed)
    shifted = (weight * (sums - middle * counts)).sum(axis=0) + rng.normal(0.0, sigma, low.size)
    n = (weight * counts).sum(axis=0) + rng.normal(0.0, sigma, low.size)
    above = np.where(n >= 1.0, n, np.nan)
    offset = shifted / above
    return NoisyTotal(
        metrics=statements.metrics,
        means=tuple((middle + offset).tolist()),
        counts=tuple(n.tolist()),
        noise_deviation=tuple((sigma * np.sqrt(1.0 + offset**2) / above).tolist()),
        epsilon=epsilon,
        delta=delta,
        sensitivity=sensitivity,
        sigma=sigma,
        bounds=ranges,
        max_users=max_users,
        n_limited=int((users > max_users).sum()),
    )


def _refuse_beyond(
    sums: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    counts: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    low: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    high: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    metrics: tuple[str, ...],
) -> None:
    rounding = 1e-9 * np.maximum(counts, 1.0) * np.maximum(np.abs(low), np.abs(high))
    beyond = (sums < low * counts - rounding) | (sums > high * counts + rounding)
    for metric, n in zip(metrics, beyond.sum(axis=0).tolist(), strict=True):
        if n:
            raise EvaluationError(
                f"the sums of {metric} of {n:,} clients are outside what its bounds allow",
                hint=f"state its range: bounds={{'{metric}': (low, high)}}",
            )
