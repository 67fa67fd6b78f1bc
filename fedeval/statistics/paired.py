"""Paired tests between two systems on the same users: Fisher randomisation, Student's t, Wilcoxon.

All are two-sided, take the users' differences A - B, and leave undefined ones out. Which to use: the
randomisation test assumes nothing about the shape of the differences, and the t test agrees with it
closely on such data; Wilcoxon tests another hypothesis (symmetry about 0) and can call a difference
of means significant that is not there (Smucker, Allan, Carterette, CIKM 2007; Urbano, Lima,
Hanjalic, SIGIR 2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedeval.statistics.distributions import t_two_sided
from fedeval.statistics.values import Defined, defined, refuse_unless
from fedprep.errors import EvaluationError, nearest

__all__ = [
    "PAIRED_TESTS",
    "PairedTest",
    "flipped_sums",
    "paired_t_test",
    "paired_test",
    "randomisation_test",
    "wilcoxon_test",
]

Floats = npt.NDArray[np.float64]

EXACT_WILCOXON = 50
"""Up to so many differences the null distribution of the signed ranks is counted out."""

REPEATS = 64
"""From so many differences a distinct size on, drawing how many are positive is cheaper than signs."""

GROUPS = 512
"""Groups of eight signs in a block: a table of 512 x 256 sums, 1 MiB, stays in the second cache."""

BATCH = 1 << 19
"""Table look-ups held at a time."""


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """What a paired test found.

    test: its name in `PAIRED_TESTS` · statistic: mean difference (randomisation), t, or the sum of ranks
    of the positive differences · p: two-sided; NaN with a `reason` where there is none · how: exact,
    Monte Carlo, or which approximation · n: differences tested · n_zero: of them equal to 0 ·
    n_undefined: left out · n_units: users or clients whose signs were flipped.
    """

    test: str
    statistic: float
    p: float
    smallest_p: float
    how: str
    n: int
    n_zero: int
    n_undefined: int
    n_units: int
    reason: str = ""


def paired_test(
    differences: npt.ArrayLike,
    test: str = "randomisation",
    *,
    clusters: npt.ArrayLike | None = None,
    n_resamples: int = 9_999,
    seed: int = 0,
) -> PairedTest:
    """Returns the result of a test of `PAIRED_TESTS`; see there for the arguments.

    Raises:
        EvaluationError: no such test, or clusters given to one that takes users alone.
    """
    if test not in PAIRED_TESTS:
        raise EvaluationError(f"no test is called '{test}'", hint=nearest(test, PAIRED_TESTS))
    if clusters is not None and test != "randomisation":
        raise EvaluationError(
            f"the {test} test takes users as independent and knows no clients",
            hint='test="randomisation" flips whole clients',
        )
    return PAIRED_TESTS[test](defined(differences, clusters), n_resamples=n_resamples, seed=seed)


def randomisation_test(kept: Defined, *, n_resamples: int, seed: int) -> PairedTest:
    """Returns the Fisher randomisation (sign-flip) test of a mean difference of 0.

    If A and B are exchangeable for each user, every sign of a difference is as likely as its opposite.
    p is the share of flips whose |Σ ±d| is at least the observed: of all 2^n flips where they are no
    more than `n_resamples` + 1, else (count + 1) / (n_resamples + 1), which is never 0 (Phipson and
    Smyth, SAGMB 9 (1), 2010). With clusters the signs of whole clients are flipped.

    Edge cases: no difference at all: NaN. All differences 0: p = 1.

    Args:
        kept: the differences, with their clusters or None.
        n_resamples: flips drawn at random; the smallest p is 1 / (n_resamples + 1).
        seed: of the draws.

    Reference: Fisher, The Design of Experiments, 1935; Smucker, Allan, Carterette, CIKM 2007.
    """
    refuse_unless(n_resamples >= 1, f"{n_resamples} resamples are asked for", "at least 1")
    units, _ = kept.units()
    total = kept.mean() * kept.n if kept.n else 0.0
    sizes = np.abs(units[units != 0.0])
    exact = sizes.size <= math.log2(n_resamples + 1)
    sums = (
        _signs(sizes.size) @ sizes  # (2^n,)
        if exact
        else flipped_sums(sizes, n_resamples=n_resamples, seed=seed)
    )
    as_far = int((np.abs(sums) >= abs(total) - 1e-12 * float(sizes.sum())).sum())
    p = as_far / sums.size if exact else (as_far + 1) / (n_resamples + 1)
    return _result(
        "randomisation",
        kept,
        statistic=kept.mean(),
        p=p if kept.n else math.nan,
        smallest_p=_of_patterns(sizes.size) if exact else 1.0 / (n_resamples + 1),
        how=f"exact, {sums.size:,} flips" if exact else f"Monte Carlo, {n_resamples:,} flips",
        n_units=int(units.size),
        reason="" if kept.n else "no user has both values",
    )


def paired_t_test(kept: Defined, *, n_resamples: int = 0, seed: int = 0) -> PairedTest:
    """Returns Student's paired t test: t = mean(d) / (s / √n), s with n - 1, of n - 1 degrees of freedom.

    Edge cases: fewer than two differences, or all of them equal: the spread is 0 or unknown, p is NaN.

    Args:
        kept: the differences, without clusters.
        n_resamples, seed: nothing is drawn; they are not used.

    Reference: Student, Biometrika 6 (1), 1908.
    """
    deviation = float(np.std(kept.values, ddof=1)) if kept.n > 1 else math.nan
    mean = kept.mean()
    reason = ""
    if kept.n < 2:
        reason = "fewer than two users have both values"
    elif deviation <= 1e-14 * abs(mean) or deviation == 0.0:
        reason = "all differences are equal: their spread is 0"
    t = math.nan if reason else mean / (deviation / math.sqrt(kept.n))
    p = t_two_sided(t, kept.n - 1) if not reason else math.nan
    how = f"Student's t, {max(kept.n - 1, 0):,} degrees of freedom"
    return _result(
        "t", kept, statistic=t, p=p, smallest_p=0.0, how=how, n_units=kept.n, reason=reason
    )


def wilcoxon_test(kept: Defined, *, n_resamples: int = 0, seed: int = 0) -> PairedTest:
    """Returns Wilcoxon's signed rank test: W = Σ of the ranks of |d| over the positive d.

    Differences of 0 are dropped, equal |d| share their mean rank. Up to 50 differences p is exact, with
    ties too: all sign patterns of the ranks at hand are counted. Above, W is normal with mean Σr/2
    and variance Σr²/4 (which holds the correction for ties), without correction for continuity.

    Edge cases: no difference: NaN. All differences 0: p = 1.

    Args:
        kept: the differences, without clusters.
        n_resamples, seed: nothing is drawn; they are not used.

    Reference: Wilcoxon, Biometrics Bulletin 1 (6), 1945; Pratt and Gibbons, Concepts of Nonparametric
    Theory, 1981, chapter 3.
    """
    d = kept.values[kept.values != 0.0]
    ranks = _mean_ranks(np.abs(d))
    w = float(ranks[d > 0].sum())
    if d.size <= EXACT_WILCOXON:
        p, how = _exact_signed_rank(ranks, w), "exact"
    else:
        z = (w - 0.5 * ranks.sum()) / (0.5 * math.sqrt(float((ranks**2).sum())))
        p, how = math.erfc(abs(z) / math.sqrt(2.0)), "normal approximation"
    return _result(
        "wilcoxon",
        kept,
        statistic=w if kept.n else math.nan,
        p=p if kept.n else math.nan,
        smallest_p=_of_patterns(d.size) if d.size <= EXACT_WILCOXON else 0.0,
        how=how,
        n_units=kept.n,
        reason="" if kept.n else "no user has both values",
    )


PAIRED_TESTS: dict[str, Callable[..., PairedTest]] = {
    "randomisation": randomisation_test,
    "t": paired_t_test,
    "wilcoxon": wilcoxon_test,
}


def flipped_sums(sizes: Floats, *, n_resamples: int, seed: int) -> Floats:
    """Returns Σ ±|d| under random signs: float64 (n_resamples,).

    Sizes that repeat are counted, and how many of each are positive is binomial. Sizes that do not are
    taken in groups of eight: the 256 sums of a group are tabled, and a random byte picks one, so a
    million signs cost 125,000 look-ups. The order of the users changes nothing.

    Args:
        sizes: float64 (n,), |d|; 0 adds nothing.
        n_resamples, seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    distinct, counts = np.unique(sizes, return_counts=True)
    if distinct.size * REPEATS <= sizes.size:
        step = max(1, BATCH // max(1, distinct.size))
        parts = []
        for done in range(0, n_resamples, step):
            shape = (min(step, n_resamples - done), distinct.size)
            parts.append((2 * rng.binomial(counts, 0.5, shape) - counts) @ distinct)
        return np.concatenate(parts)
    padded = np.zeros(-(-sizes.size // 8) * 8)
    padded[: sizes.size] = np.repeat(distinct, counts)
    groups = padded.reshape(-1, 8)
    patterns = _signs(4).T  # (4, 16)
    sums = np.zeros(n_resamples)
    for start in range(0, len(groups), GROUPS):
        block = groups[start : start + GROUPS]
        left, right = block[:, :4] @ patterns, block[:, 4:] @ patterns  # (groups, 16) each
        table = (left[:, :, None] + right[:, None, :]).ravel()  # (groups of the block x 256,)
        first = np.arange(0, table.size, 256)
        step = BATCH // first.size
        for done in range(0, n_resamples, step):
            rows = min(step, n_resamples - done)
            words = rng.bit_generator.random_raw(-(-rows * first.size // 8))
            octets = words.astype("<u8", copy=False).view(np.uint8)[: rows * first.size]
            picked = table.take(octets.reshape(rows, first.size) + first)
            sums[done : done + rows] += picked.sum(axis=1)
    return sums


def _signs(n: int) -> Floats:
    """Returns all patterns of n signs: float64 (2^n, n), +1 and -1."""
    bits = (np.arange(1 << n)[:, None] >> np.arange(n)) & 1
    return np.asarray(1.0 - 2.0 * bits)


def _of_patterns(n: int) -> float:
    """Returns the smallest p of an exact test of n signs: two patterns, all + and all -, of 2^n."""
    return min(1.0, 2.0 ** (1 - n))


def _mean_ranks(sizes: Floats) -> Floats:
    """Returns ranks from 1, equal sizes (to 1e-12 of the largest) sharing their mean rank."""
    if not sizes.size:
        return sizes
    order = np.argsort(sizes, kind="stable")
    ordered = sizes[order]
    new = np.diff(ordered, prepend=-np.inf) > 1e-12 * ordered[-1]
    starts = np.flatnonzero(new)
    lengths = np.diff(starts, append=sizes.size)
    ranks = np.empty(sizes.size)
    ranks[order] = np.repeat(starts + 0.5 * (lengths + 1), lengths)
    return ranks


def _exact_signed_rank(ranks: Floats, w: float) -> float:
    """Returns the two-sided p of W over all 2^n sign patterns; ranks are doubled to be whole."""
    doubled = np.rint(2.0 * ranks).astype(np.int64)
    ways = np.zeros(int(doubled.sum()) + 1)
    ways[0] = 1.0
    for rank in doubled.tolist():
        ways[rank:] = ways[rank:] + ways[: ways.size - rank]
    at = round(2.0 * w)
    tail = min(float(ways[: at + 1].sum()), float(ways[at:].sum()))
    return min(1.0, 2.0 * tail / float(ways.sum()))


def _result(
    test: str,
    kept: Defined,
    *,
    statistic: float,
    p: float,
    smallest_p: float,
    how: str,
    n_units: int,
    reason: str,
) -> PairedTest:
    return PairedTest(
        test=test,
        statistic=statistic,
        p=p,
        smallest_p=smallest_p,
        how=how,
        n=kept.n,
        n_zero=int((kept.values == 0.0).sum()),
        n_undefined=kept.n_undefined,
        n_units=n_units,
        reason=reason,
    )
