"""iALS, by the library `implicit` (the extra `als`)."""

from __future__ import annotations

from typing import Unpack

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.baselines.lists import Asked, lists_by
from fedeval.interactions import Interactions
from fedprep.errors import MissingExtraError, install

__all__ = ["ials"]


def ials(
    train: Interactions,
    *,
    seed: int = 0,
    factors: int = 128,
    regularisation: float = 30.0,
    alpha: float = 6.0,
    iterations: int = 15,
    **asked: Unpack[Asked],
) -> pl.DataFrame:
    """Returns lists by matrix factorisation of implicit feedback: score(u, i) = w(u) · h(i).

    w and h minimise the sum over all (u, i) of c(u, i) (x(u, i) - w(u) · h(i))^2 plus regularisation
    × (|W|^2 + |H|^2), with x 1 for a row of train and 0 else, c = alpha there and 1 else, by
    alternating least squares with conjugate gradients. A user without a row in train gets `popularity`.

    Args:
        seed: of the first factors.
        factors: the length of w(u) and h(i).
        regularisation: of the squared norms.
        alpha: the weight of a row against that of a pair that is none.
        iterations: how many times both sides are solved for.

    Reference: Hu, Koren, Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008;
    that it is strong when tuned: Rendle, Krichene, Zhang, Koren, "Revisiting the Performance of iALS on
    Item Recommendation Benchmarks", RecSys 2022.

    Raises:
        MissingExtraError: `implicit` is not installed.
    """
    try:
        from implicit.cpu.als import AlternatingLeastSquares
        from scipy.sparse import csr_matrix
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise MissingExtraError(
            "iALS needs the library implicit",
            hint=f"{install('als')}; ease and itemknn need nothing more",
        ) from None
    ones = np.ones(len(train), np.float32)
    shape = (train.n_users, train.n_items)
    rows = csr_matrix((ones, train.item_id, train.offsets), shape=shape)
    with threadpool_limits(1, "blas"):  # it has threads of its own
        model = AlternatingLeastSquares(
            factors=factors,
            regularization=regularisation,
            alpha=alpha,
            iterations=iterations,
            random_state=seed,
        )
        model.fit(rows, show_progress=False)
    users, items = (
        np.asarray(side, np.float32) for side in (model.user_factors, model.item_factors)
    )

    def scores(block: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        return users[block] @ items.T

    return lists_by(scores, train, asked)
