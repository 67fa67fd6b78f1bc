"""How large a difference is, and how small a one the test could have seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedeval.statistics.distributions import noncentrality_for_power
from fedeval.statistics.values import defined, refuse_unless

__all__ = [
    "WinTieLoss",
    "cliffs_delta",
    "cohens_dz",
    "smallest_difference",
    "superiority",
    "win_tie_loss",
]


@dataclass(frozen=True)
class WinTieLoss:
    """Users for whom A is better, equal, and worse."""

    wins: int
    ties: int
    losses: int

    @property
    def n(self) -> int:
        return self.wins + self.ties + self.losses


def win_tie_loss(differences: npt.ArrayLike, *, tolerance: float = 0.0) -> WinTieLoss:
    """Returns for how many users A - B is above, within and below the tolerance, of those with both values.

    Args:
        differences: float (n,), as `paired_differences` gives them (rounding errors are 0 there).
        tolerance: at least 0, in the metric's unit.
    """
    d = defined(differences).values
    refuse_unless(tolerance >= 0.0, f"tolerance is {tolerance}", "at least 0")
    wins, losses = int((d > tolerance).sum()), int((d < -tolerance).sum())
    return WinTieLoss(wins, d.size - wins - losses, losses)


def cohens_dz(differences: npt.ArrayLike) -> float:
    """Returns mean(d) / s(d), the paired t statistic over √n: an effect in standard deviations of d.

    Edge cases: NaN with fewer than two differences, or where all are equal (no spread to measure by).

    Reference: Cohen, Statistical Power Analysis, 2nd edition 1988, section 2.3.5; Lakens, Frontiers in
    Psychology 4, 2013, for the name d_z.
    """
    d = defined(differences).values
    deviation = float(np.std(d, ddof=1)) if d.size > 1 else 0.0
    mean = float(d.mean()) if d.size else math.nan
    return mean / deviation if deviation > 1e-14 * abs(mean) else math.nan


def superiority(differences: npt.ArrayLike) -> float:
    """Returns P(A > B) + P(A = B) / 2 for a user drawn at random: 0.5 where neither is better.

    Twice it minus 1 is the paired form of Cliff's delta, (wins - losses) / n. NaN without a difference.

    Reference: Grissom and Kim, Effect Sizes for Research, 2nd edition 2012, chapter 5; Cliff,
    Psychological Bulletin 114 (3), 1993.
    """
    counts = win_tie_loss(differences)
    return (counts.wins + 0.5 * counts.ties) / counts.n if counts.n else math.nan


def cliffs_delta(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Returns P(X > Y) - P(X < Y), X drawn from `a` and Y from `b`: two groups of different users.

    From -1 to 1; 0 where neither group is better. Undefined values are left out; NaN where a group has
    none left. O(n log n).

    Reference: Cliff, Psychological Bulletin 114 (3), 1993.
    """
    x, y = defined(a).values, np.sort(defined(b).values)
    if not x.size or not y.size:
        return math.nan
    above = int(np.searchsorted(y, x, side="left").sum())
    below = x.size * y.size - int(np.searchsorted(y, x, side="right").sum())
    return (above - below) / (x.size * y.size)


def smallest_difference(
    differences: npt.ArrayLike,
    clusters: npt.ArrayLike | None = None,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
) -> float:
    """Returns the smallest true mean difference that a test on such data finds with the given power.

    δ = λ s / √n, where λ is the noncentrality at which the two-sided paired t test of level `alpha`
    rejects with probability `power`. It says what "not significant" leaves open: a true difference
    below it may well be there. It rests on the spread and the number of users, never on the observed
    mean; power at the observed difference would only restate p (Hoenig and Heisey, The American
    Statistician 55 (1), 2001). The randomisation test has nearly the t test's power.

    With clusters s / √n is the standard error that takes clients as independent and not users,
    √(C / (C - 1) Σ (s_c - n_c mean)²) / n, and C clients give C - 1 degrees of freedom.

    Edge cases: fewer than two differences (clients): NaN. All equal: 0.

    Args:
        differences: float (n,), NaN where undefined.
        clusters: (n,) client of each user, or None.
        alpha: level of the test; divide it by the number of tests for a corrected family.
        power: between alpha and 1.

    Reference: Cohen 1988, chapter 2; Bloom, Evaluation Review 19 (5), 1995.
    """
    refuse_unless(0.0 < alpha < 1.0, f"alpha is {alpha}", "between 0 and 1, such as 0.05")
    refuse_unless(alpha < power < 1.0, f"power is {power}", "between alpha and 1, such as 0.8")
    kept = defined(differences, clusters)
    sums, sizes = kept.units()
    if sums.size < 2:
        return math.nan
    spread = float(((sums - kept.mean() * sizes) ** 2).sum()) * sums.size / (sums.size - 1)
    return noncentrality_for_power(power, alpha, sums.size - 1) * math.sqrt(spread) / kept.n
