"""Table of models in `RESULTS.md`, from Run directories on one Dataset.

    python benchmarks/results_models.py --data DATASET --run NAME RUN [--run NAME RUN …]

writes the section "Models, ranking": each Run's lists on the test split among all items, the valid split's
NDCG@10 of the round that was kept, and what it took; the popularity baseline stands below. The settings of a
Run are those of docs/models.md; one seed each. Without arguments it says so and ends.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl
from results import METRICS, cost, interval, per_user, protocol_id, table, write_section

SECTION = "Models, ranking"
HEAD = ["system", "valid: NDCG@10", "test: NDCG@10", "HR@10", "rounds", "bytes up / down",
        "seconds", "CPU s"]  # fmt: skip
BASELINES = ("popularity", "itemknn")


def models(data: Path, runs: list[tuple[str, Path]]) -> str:
    """Returns the section."""
    from fedeval.baselines import baseline
    from fedeval.setting import setting_of
    from fedtrain.run import Run

    setting = setting_of(data)
    users = setting.truth["user_id"].unique().sort().to_numpy().astype(np.int64)
    lines = []
    for name, run in runs:
        lists = pl.read_parquet(run / "recommendations.parquet")
        found = per_user([lists], setting.truth)
        valid = Run.open(run).rounds().filter(metric="ndcg@10/valid")["value"]
        lines.append([name, f"{valid.max():.4f}", *_intervals(found), *cost([run])])
    for name in BASELINES:
        lists = baseline(name, setting.train, seen=setting.seen, users=users, k=100)
        found = per_user([lists], setting.truth)
        lines.append([name, "–", *_intervals(found), *["–"] * 4])
    return "\n\n".join([
        "MovieLens-1M, leave-last-out, a client per user, all items ranked "
        f"(`{protocol_id(setting)}`); negatives exclude train positives alone. Few settings were tried, on "
        "1,000 users of valid (the column is of them), for few rounds, with **one seed**: a start, and no "
        "ranking of the models. Settings are those of [docs/models.md](../docs/models.md); the best round "
        "on valid is kept. NCF had 60 rounds first, and went on to 140 as valid was still rising; its test "
        "numbers at 60 (NDCG@10 0.0264) had been seen by then. Seconds are of one thread on a machine "
        "shared with about ten others.",
        table(HEAD, lines),
    ])  # fmt: skip


def _intervals(found: object) -> list[str]:
    assert isinstance(found, dict)
    return [interval(found[name]) for name in reversed(METRICS)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--run", nargs=2, action="append", default=[], metavar=("NAME", "RUN"))
    given = parser.parse_args()
    if given.data is None or not given.run:
        print("no Runs are given: see --help")
        return
    write_section(SECTION, models(given.data, [(name, Path(run)) for name, run in given.run]))


if __name__ == "__main__":
    main()
