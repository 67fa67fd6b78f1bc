"""Normal and Student's t: tails, quantiles and the power of a t test, without scipy.

Scalars in, scalars out. Tails keep their relative accuracy (1e-9 or better) down to 1e-300, so that
a p-value of a million users is a number and not 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

__all__ = ["noncentrality_for_power", "normal_cdf", "normal_quantile", "t_critical", "t_two_sided"]

LARGE_DF = 1e7
"""From here on Student's t is taken to be normal: the tails differ by about t⁴ / (4 df) of their value."""


def normal_cdf(x: float) -> float:
    """Returns P(Z <= x) of the standard normal, accurate in both tails."""
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def normal_quantile(p: float) -> float:
    """Returns x with P(Z <= x) = p; -inf at 0 and inf at 1.

    Reference: Wichura, Algorithm AS 241, Applied Statistics 37 (3), 1988, as in Python's `statistics`.
    """
    if p <= 0.0 or p >= 1.0:
        return math.copysign(math.inf, p - 0.5)
    return NormalDist().inv_cdf(p)


def t_two_sided(t: float, df: float) -> float:
    """Returns P(|T| >= |t|) of Student's t with `df` degrees of freedom (df > 0; 0 where t is infinite).

    It is the regularised incomplete beta function I_x(df/2, 1/2) at x = df / (df + t²).

    Reference: Abramowitz and Stegun 1964, 26.7.1 and 26.5.8; Lentz's evaluation of the continued
    fraction as in Press et al., Numerical Recipes, 3rd edition 2007, section 6.4.
    """
    if math.isnan(t) or math.isnan(df):
        return math.nan
    t = abs(t)
    if math.isinf(t):
        return 0.0
    if df >= LARGE_DF:
        return math.erfc(t / math.sqrt(2.0))
    a, b = 0.5 * df, 0.5
    log_x = -math.log1p(t * t / df)
    x, rest = math.exp(log_x), t * t / (df + t * t)  # rest = 1 - x, without cancellation
    if rest == 0.0:
        return 1.0
    log_front = a * log_x + b * math.log(rest) + _log_gamma_ratio(a) - 0.5 * math.log(math.pi)
    front = math.exp(log_front)
    if x < (a + 1.0) / (a + b + 2.0):
        return front * _beta_fraction(a, b, x) / a
    return 1.0 - front * _beta_fraction(b, a, rest) / b


def t_critical(alpha: float, df: float) -> float:
    """Returns t with P(|T| >= t) = alpha, for 0 < alpha < 1."""
    if df >= LARGE_DF:
        return normal_quantile(1.0 - 0.5 * alpha)
    high = 2.0
    while t_two_sided(high, df) > alpha:
        high *= 2.0
    return _bisect(lambda t: t_two_sided(t, df) > alpha, 0.0, high)


def noncentrality_for_power(power: float, alpha: float, df: float) -> float:
    """Returns the noncentrality at which a two-sided t test of level alpha rejects with that power.

    For a paired test it is √n times the standardised difference. With V = √(χ²_df / df) the power is
    E[Φ(δ - t V) + Φ(-δ - t V)], t the critical value; the expectation is a Gauss–Legendre sum (power
    right to 1e-6 from df = 2 and alpha = 0.001 on).

    Reference: Johnson, Kotz, Balakrishnan, Continuous Univariate Distributions 2, 1995, chapter 31.
    """
    critical = t_critical(alpha, df)
    nodes, weights = _scaled_chi(df)
    cuts = critical * nodes

    def falls_short(delta: float) -> bool:
        above = np.array([normal_cdf(delta - cut) + normal_cdf(-delta - cut) for cut in cuts])
        return float(weights @ above) < power

    high = 2.0
    while falls_short(high):
        high *= 2.0
    return _bisect(falls_short, 0.0, high)


@lru_cache(maxsize=64)
def _scaled_chi(df: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Returns nodes and weights (summing to 1) for expectations over √(χ²_df / df)."""
    width = 10.0 / math.sqrt(2.0 * df)
    low, high = max(0.0, 1.0 - width), 1.0 + width
    at, weight = np.polynomial.legendre.leggauss(160)
    nodes = 0.5 * (high - low) * at + 0.5 * (high + low)
    log_density = (df - 1.0) * np.log(nodes) - 0.5 * df * (nodes**2 - 1.0)
    weight = weight * np.exp(log_density - log_density.max())
    return nodes, weight / weight.sum()


def _log_gamma_ratio(a: float) -> float:
    """Returns ln Γ(a + 1/2) - ln Γ(a); by its asymptotic series where the difference would cancel.

    Reference: Tricomi and Erdélyi, Pacific Journal of Mathematics 1, 1951.
    """
    if a < 60.0:
        return math.lgamma(a + 0.5) - math.lgamma(a)
    return 0.5 * math.log(a) - 1 / (8 * a) + 1 / (192 * a**3) - 1 / (640 * a**5)


def _beta_fraction(a: float, b: float, x: float) -> float:
    """Returns the continued fraction of the incomplete beta function; about √max(a, b) steps."""
    tiny = 1e-300
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / (d if abs(d) > tiny else tiny)
    value = d
    for m in range(1, 200_000):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 + step * d
            c = 1.0 + step / c
            d = 1.0 / (d if abs(d) > tiny else tiny)
            c = c if abs(c) > tiny else tiny
            value *= c * d
        if abs(c * d - 1.0) < 1e-15:
            return value
    raise AssertionError(f"no convergence at a={a}, b={b}, x={x}")


def _bisect(below: Callable[[float], bool], low: float, high: float) -> float:
    """Returns where `below` turns from true to false, to the last bit or nearly."""
    for _ in range(80):
        middle = 0.5 * (low + high)
        if below(middle):
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)
