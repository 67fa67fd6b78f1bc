"""How far a split lets the future leak into train.

Reference: Y. Ji, A. Sun, J. Zhang, C. Li, A Critical Study on Data Leakage in Recommender System Offline
Evaluation, ACM Transactions on Information Systems 41 (3), 2023, article 75.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedprep.split.methods import TEST, TRAIN, Parts, Rows

__all__ = ["leak"]


def leak(rows: Rows, parts: Parts) -> dict[str, Any] | None:
    """Returns measures of train rows that are later than test rows; None without times or test rows.

    On the time line that all users share, later meaning by a second at least:
        train_rows_after_first_test_row: share of train rows later than some test row.
        test_rows_before_last_train_row: share of test rows that have a later train row.
        pairs_out_of_order: share of all (train row, test row) in which the train row is later; 0.5 is a
            split that pays no heed to time. One early test row does not move it, as it does the first.
    And for each user alone:
        users_with_train_after_test: how many users have a train row later than one of their test rows.
    """
    if rows.times is None:
        return None
    train, test = np.sort(rows.times[parts == TRAIN]), np.sort(rows.times[parts == TEST])
    if train.size == 0 or test.size == 0:
        return None
    n_later = train.size - np.searchsorted(
        train, test, side="right"
    )  # (n_test,) train rows later than it
    return {
        "train_rows_after_first_test_row": int(n_later[0]) / train.size,
        "test_rows_before_last_train_row": int(np.count_nonzero(n_later)) / test.size,
        "pairs_out_of_order": int(n_later.sum()) / (train.size * test.size),
        "users_with_train_after_test": _users_out_of_order(rows, parts),
    }


def _users_out_of_order(rows: Rows, parts: Parts) -> int:
    assert rows.times is not None
    starts = np.flatnonzero(np.diff(rows.users, prepend=-1))
    ends_of_time = np.iinfo(np.int64)
    last_train = np.maximum.reduceat(np.where(parts == TRAIN, rows.times, ends_of_time.min), starts)
    first_test = np.minimum.reduceat(np.where(parts == TEST, rows.times, ends_of_time.max), starts)
    return int(np.count_nonzero(last_train > first_test))
