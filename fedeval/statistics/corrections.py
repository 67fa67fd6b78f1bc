"""p-values corrected for their number: Holm (any false one), Benjamini–Hochberg (the share of false ones)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fedprep.errors import EvaluationError, nearest

__all__ = ["CORRECTIONS", "benjamini_hochberg", "correct", "holm", "uncorrected"]

Floats = npt.NDArray[np.float64]


def correct(p: npt.ArrayLike, method: str = "holm") -> Floats:
    """Returns corrected p-values in the order given: float64 (n,).

    The family is what is given; undefined values (NaN) stay undefined and do not count towards it.

    Args:
        p: float (n,), between 0 and 1 or NaN.
        method: a name in `CORRECTIONS`.

    Raises:
        EvaluationError: no such correction, or a value outside 0 to 1.
    """
    if method not in CORRECTIONS:
        raise EvaluationError(
            f"no correction is called '{method}'", hint=nearest(method, CORRECTIONS)
        )
    values = np.asarray(p, dtype=np.float64)
    known = ~np.isnan(values)
    outside = int(((values[known] < 0.0) | (values[known] > 1.0)).sum())
    if outside:
        raise EvaluationError(f"{outside:,} p-values are no probabilities", expected="from 0 to 1")
    corrected = np.full(values.shape, np.nan)
    corrected[known] = CORRECTIONS[method](values[known])
    return corrected


def holm(p: Floats) -> Floats:
    """Returns max over j <= i of min(1, (n - j + 1) p_(j)), in the order given.

    Rejecting where it is at most alpha keeps the chance of a single false rejection in the family at
    alpha, however the tests depend on one another.

    Reference: Holm, Scandinavian Journal of Statistics 6 (2), 1979.
    """
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate((p.size - np.arange(p.size)) * p[order])
    return _in_given_order(order, stepped)


def benjamini_hochberg(p: Floats) -> Floats:
    """Returns min over j >= i of n p_(j) / j, in the order given.

    Rejecting where it is at most q keeps the expected share of false ones among the rejections at q,
    where the tests are independent or positively dependent, as metrics of the same users are.

    Reference: Benjamini and Hochberg, JRSS B 57 (1), 1995; Benjamini and Yekutieli, Annals of
    Statistics 29 (4), 2001, for the dependence.
    """
    order = np.argsort(p, kind="stable")
    scaled = p.size * p[order] / np.arange(1, p.size + 1)
    stepped = np.minimum.accumulate(scaled[::-1])[::-1]
    return _in_given_order(order, stepped)


def uncorrected(p: Floats) -> Floats:
    """Returns the p-values as they are."""
    return p.copy()


CORRECTIONS: dict[str, Callable[[Floats], Floats]] = {
    "holm": holm,
    "benjamini_hochberg": benjamini_hochberg,
    "none": uncorrected,
}


def _in_given_order(order: npt.NDArray[np.intp], stepped: Floats) -> Floats:
    corrected = np.empty(stepped.size)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected
