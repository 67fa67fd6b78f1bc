"""From tables to numbers: `evaluate(recs, truth, ["ndcg@10", "hr@10"])`.

`result` is what comes back, `request` what was asked for, `passes` reads the lists block by block of
users, `predictions` pairs predictions with truth.
"""

from __future__ import annotations

from fedeval.evaluation.result import COUNTS, Evaluation
from fedeval.evaluation.run import DEFAULT_METRICS, evaluate

__all__ = ["COUNTS", "DEFAULT_METRICS", "Evaluation", "evaluate"]
