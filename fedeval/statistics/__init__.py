"""Intervals, paired tests, corrections and effect sizes on vectors of per-user values.

Undefined values (NaN) are left out and counted, never taken for 0. See docs/statistics.md.
"""

from __future__ import annotations

from fedeval.statistics.bootstrap import Interval, bootstrap_interval, interval_of, resampled_sums
from fedeval.statistics.comparison import Inference, compare_systems, compare_values
from fedeval.statistics.corrections import CORRECTIONS, correct
from fedeval.statistics.effects import (
    WinTieLoss,
    cliffs_delta,
    cohens_dz,
    smallest_difference,
    superiority,
    win_tie_loss,
)
from fedeval.statistics.paired import PAIRED_TESTS, PairedTest, paired_test
from fedeval.statistics.values import paired_differences

__all__ = [
    "CORRECTIONS",
    "PAIRED_TESTS",
    "Inference",
    "Interval",
    "PairedTest",
    "WinTieLoss",
    "bootstrap_interval",
    "cliffs_delta",
    "cohens_dz",
    "compare_systems",
    "compare_values",
    "correct",
    "interval_of",
    "paired_differences",
    "paired_test",
    "resampled_sums",
    "smallest_difference",
    "superiority",
    "win_tie_loss",
]
