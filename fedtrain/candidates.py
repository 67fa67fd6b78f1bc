"""A trained Run's order of given candidates: what tables of 99 sampled negatives measure.

The 100 best of all items say nothing of where the other candidates stand, so each candidate is scored.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from fedeval.ranking import rank_pairs
from fedeval.setting import SEEN, setting_of
from fedprep.errors import EvaluationError, TrainingError
from fedprep.files import whole_file
from fedtrain.measures import part_of_users
from fedtrain.reopen import reopened
from fedtrain.scoring import Scorer

if TYPE_CHECKING:
    from fedeval.candidates import Candidates

__all__ = ["BLOCK", "rank_candidates", "ranked_candidates", "table_name"]

BLOCK = 1_024
"""Users whose scores are in memory at a time."""


def rank_candidates(
    path: str | Path,
    candidates: str,
    *,
    data: str | Path | None = None,
    split: str = "test",
    seed: int = 0,
    out: str | Path | None = None,
) -> Path:
    """Returns the file that now holds the order of each user's candidates, by the Run's best or last state.

    user_id i32, item_id i32, rank i32, score f32: a row for each candidate, as `fedeval report FILE
    --candidates …` reads it. In the Run's folder, it is known to be of this Run.

    Args:
        path: the Run's folder.
        candidates: `uniform:99`, `popularity:99`, or a file of candidates, as for `fedeval`.
        data: the Dataset, where it is not where the Run was trained on it.
        split: `test` or `valid`.
        seed: of the draw.
        out: where to write; None: `table_name` in the Run's folder.

    Raises:
        TrainingError: all items are asked for, another Dataset than the Run's, or no checkpoint.
        EvaluationError: no such candidates, or an item that the Dataset does not have.
    """
    if candidates == "full":
        raise TrainingError(
            "the order of all items is in the Run's recommendations.parquet",
            expected="uniform:99, popularity:99, or a file of candidates",
        )
    found = reopened(path, data)
    setting = setting_of(found.dataset, split=split, candidates=candidates, seed=seed)
    assert setting.candidates is not None
    scorer = Scorer(found.work, found.server, found.clients, SEEN[split])
    plan = found.work.plan
    most = plan.test_users if split == "test" else 0
    among = setting.candidates
    if most:
        drawn = part_of_users(among.user_id.astype(np.int64), most, found.work.seed)
        among = among.of_users(drawn)
    lists = ranked_candidates(scorer, among)
    place = found.run.path / table_name(candidates, split, seed) if out is None else Path(out)
    with whole_file(place) as beside:
        lists.write_parquet(beside)
    return place


def table_name(candidates: str, split: str, seed: int) -> str:
    """Returns the name of such a file: `among-uniform-99-test-0.parquet`."""
    method = Path(candidates).stem if Path(candidates).is_file() else candidates
    return f"among-{method.replace(':', '-')}-{split}-{seed}.parquet"


def ranked_candidates(scorer: Scorer, candidates: Candidates) -> pl.DataFrame:
    """Returns user_id, item_id, rank, score: a row for each candidate of a user with rows at any client.

    Raises:
        EvaluationError: a user or an item that the Dataset does not have.
    """
    federation = scorer.work.federation
    users, counts = candidates.user_id.astype(np.int64), candidates.counts
    for name, ids, n in (
        ("user", users, len(federation.home)),
        ("item", candidates.item_id, federation.n_items),
    ):
        if len(ids) and (ids.min() < 0 or ids.max() >= n):
            raise EvaluationError(
                f"the candidates name the {name} {ids.max()}",
                expected=f"one of {n:,}: 0 to {n - 1}",
            )
    known = federation.home[users] >= 0
    score = np.zeros(len(candidates), np.float32)
    here = np.flatnonzero(known)
    for begin in range(0, len(here), BLOCK):
        some = here[begin : begin + BLOCK]
        block = scorer.scores(users[some])
        line = np.repeat(np.arange(len(some)), counts[some])
        first = np.repeat(
            candidates.offsets[some] - np.cumsum(counts[some]) + counts[some], counts[some]
        )
        row = first + np.arange(len(line))
        score[row] = block[line, candidates.item_id[row]]
    lists = rank_pairs(candidates, score, k=int(counts.max(initial=1)))
    strangers = users[~known].astype(np.int32)
    return lists.filter(~pl.col("user_id").is_in(strangers.tolist()))
