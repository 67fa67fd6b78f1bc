"""How far the classes of each client lie from those of the whole."""

from __future__ import annotations

import numpy as np

from fedprep.partition.task import Floats, Ints

__all__ = ["jensen_shannon"]


def jensen_shannon(owner: Ints, klass: Ints, count: Ints, whole: Ints, n_owners: int) -> Floats:
    """Returns the divergence of each owner's classes from the whole, float64 (n_owners,), 0 to 1.

    With q the owner's distribution, p that of the whole and m = (p + q) / 2,
    JS = (KL(q || m) + KL(p || m)) / 2 in bits. A class that the owner lacks adds p / 2, so that only the
    (owner, class) pairs that exist are touched: JS = (1 + sum over them of
    q log2(q / m) + p log2(p / m) - p) / 2. NaN for an owner without any class.

    Args:
        owner, klass, count: int64 (n_pairs,), the pairs that exist, each once.
        whole: int64 (n_classes,), the same counts of the whole.

    Reference: Lin, "Divergence measures based on the Shannon entropy", IEEE Trans. Inf. Theory, 1991.
    """
    total = np.bincount(owner, weights=count, minlength=n_owners)
    q = count / total[owner]
    p = (whole / max(int(whole.sum()), 1))[klass]
    m = (p + q) / 2
    terms = q * np.log2(q / m) + p * np.log2(p / m) - p
    divergence = (1 + np.bincount(owner, weights=terms, minlength=n_owners)) / 2
    return np.where(total > 0, np.clip(divergence, 0.0, 1.0), np.nan)
