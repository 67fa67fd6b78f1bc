"""Tables of `RESULTS.md` from Run directories: values with intervals, and what they took.

    python benchmarks/results.py --data DATASET --runs RUN RUN RUN [--control NAME RUN …] [--leaky RUN]

writes the sections "Implicit ranking" and "The leak" of `benchmarks/RESULTS.md`: Runs of one plan, a seed
each, beside baselines, scorers that know nothing, and controls, on the test split under two protocols:
among all items, and among 99 that are drawn. Without arguments it says so and ends. The functions serve the
other sections: a section is replaced as a whole, the rest of the file stays.

A value is the mean over users; of several seeds, each user's mean over them; the interval is of a bootstrap
over users, 95 %. Seconds are of rounds and their measures by the wall clock, of a baseline those of its fit.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from fedeval.setting import Setting

RESULTS = Path(__file__).parent / "RESULTS.md"
TITLE = "# Results on real data\n"
METRICS = ("hr@10", "ndcg@10")
BASELINES = ("random", "popularity", "itemknn", "ease", "ials")
SAMPLED = "uniform:99"
LONGER = ((4, 100), (4, 400))
"""Negatives a row and rounds of memorisers beside that of the leaking Run."""


# --- what every section needs --------------------------------------------------------------------------


def write_section(title: str, body: str, path: Path = RESULTS) -> None:
    """Replaces the section `## title`, or adds it at the end."""
    text = path.read_text("utf-8") if path.is_file() else TITLE
    section = f"## {title}\n\n{body.strip()}\n"
    found = re.search(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None:
        text = f"{text.rstrip()}\n\n{section}"
    else:
        text = f"{text[: found.start()]}{section}\n{text[found.end() :]}"
    path.write_text(text.rstrip() + "\n", "utf-8")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def interval(values: np.ndarray, digits: int = 4) -> str:
    """Returns `0.0431 (0.0398 to 0.0465)`: the mean of a value a user, and its interval."""
    from fedeval.statistics import bootstrap_interval

    found = bootstrap_interval(values)
    return f"{found.value:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})"


def spent(run: Path) -> dict[str, float]:
    """Returns rounds, bytes up and down, wall and CPU seconds of a Run."""
    from fedtrain.run import Run

    opened = Run.open(run)
    total = opened.rounds().group_by("metric").agg(pl.col("value").sum())
    sums = dict(total.iter_rows())
    best = [event["best_round"] for event in opened.events() if event["event"] == "best"]
    names = {"up": "bytes/up", "down": "bytes/down", "wall": "seconds", "cpu": "cpu_seconds"}
    return {
        "rounds": float(opened.manifest["rounds_done"]),
        "best": float(best[-1] if best else opened.manifest["rounds_done"]),
        **{name: float(sums.get(metric, 0.0)) for name, metric in names.items()},
    }


def cost(runs: Sequence[Path]) -> list[str]:
    """Returns the cells rounds, bytes up / down, seconds, CPU seconds: means over Runs."""
    found = [spent(run) for run in runs]
    mean = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
    bests = "/".join(f"{one['best']:.0f}" for one in found)
    rounds = f"{mean['rounds']:.0f} (kept: {bests})"
    moved = f"{mean['up'] / 1e9:.2f} / {mean['down'] / 1e9:.2f} GB"
    return [rounds, moved, f"{mean['wall']:,.0f}", f"{mean['cpu']:,.0f}"]


NO_COST = ["–", "–"]


# --- implicit ranking ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A system: its lists under each protocol, a frame a seed, and the cells that are not measured here."""

    name: str
    full: Sequence[pl.DataFrame]
    sampled: Sequence[pl.DataFrame]
    seeds: str = "–"
    cells: Sequence[str] = field(default=())


def per_user(lists: Sequence[pl.DataFrame], truth: pl.DataFrame) -> Mapping[str, np.ndarray]:
    """Returns float64 (n_users,) for each metric: each user's mean over the seeds."""
    from fedeval import evaluate

    frames = [evaluate(recs, truth, METRICS).per_user.sort("user_id") for recs in lists]
    return {name: np.mean([frame[name].to_numpy() for frame in frames], 0) for name in METRICS}


def baselines(full: Setting, sampled: Setting, kept: Path | None) -> list[Row]:
    """Returns a row for each baseline; its lists are taken from the folder `kept` where they are there."""
    from fedeval.baselines import baseline

    rows = []
    users = full.truth["user_id"].unique().sort().to_numpy().astype(np.int64)
    for name in BASELINES:
        place = None if kept is None else kept / name
        if place is None or not (place / "seconds.txt").is_file():
            begun = time.perf_counter()
            lists = baseline(name, full.train, seen=full.seen, users=users, k=100)
            seconds = time.perf_counter() - begun
            among = baseline(name, full.train, candidates=sampled.candidates, users=users, k=100)
            if place is not None:
                place.mkdir(parents=True, exist_ok=True)
                lists.write_parquet(place / "full.parquet")
                among.write_parquet(place / "sampled.parquet")
                (place / "seconds.txt").write_text(str(seconds), "utf-8")
        else:
            lists = pl.read_parquet(place / "full.parquet")
            among = pl.read_parquet(place / "sampled.parquet")
            seconds = float((place / "seconds.txt").read_text("utf-8"))
        cells = [*NO_COST, f"{seconds:,.0f}", "–"]
        rows.append(Row(name, [lists], [among], cells=cells))
    return rows


def knowing_nothing(
    full: Setting, sampled: Setting, run: Path, pool: str, more: Sequence[tuple[int, int]] = ()
) -> list[Row]:
    """Returns the constant scorer, and the memoriser of as many negatives as the Run has drawn.

    Args:
        full, sampled: the two protocols.
        run: whose negatives.
        pool: what they leave out.
        more: negatives a row and rounds of further memorisers.
    """
    from fedeval.assessment.sane import Draws, draws_of, sanity_systems
    from fedeval.systems import read_system

    own = draws_of([read_system("run", run, full)], full, pool)
    rows: list[Row] = []
    for draws in [own, *(Draws(*one) for one in more)]:
        found = {}
        for label, setting in (("full", full), ("sampled", sampled)):
            for system in sanity_systems(setting, pool, draws, 100, 0):
                found[label, system.name] = system.recs.whole()
        told = f"memoriser ({draws.per_row} negatives a row, {draws.rounds} rounds, pool `{pool}`)"
        names = {"constant": "constant scorer", "memoriser": told}
        for name, label in list(names.items())[1 if rows else 0 :]:
            lists = ([found["full", name]], [found["sampled", name]])
            rows.append(Row(label, *lists, cells=[*NO_COST, "–", "–"]))
    return rows


def of_runs(name: str, runs: Sequence[Path], data: Path) -> Row:
    from fedtrain.candidates import rank_candidates
    from fedtrain.run import Run

    among = [pl.read_parquet(rank_candidates(run, SAMPLED, data=data)) for run in runs]
    full = [pl.read_parquet(run / "recommendations.parquet") for run in runs]
    seeds = ", ".join(str(Run.open(run).manifest["seed"]) for run in runs)
    return Row(name, full, among, seeds, cost(runs))


def implicit(
    data: Path,
    runs: Sequence[Path],
    controls: Sequence[tuple[str, Sequence[Path]]],
    kept: Path | None,
) -> str:
    """Returns the section on ranking."""
    from fedeval.setting import setting_of

    full, sampled = setting_of(data), setting_of(data, candidates=SAMPLED)
    ours = of_runs("**FedMF** (`ml-1m-fedavg`)", runs, data)
    rows = [ours, *(of_runs(name, some, data) for name, some in controls)]
    rows += [*baselines(full, sampled, kept), *knowing_nothing(full, sampled, runs[0], "train")]
    head = ["system", "seeds", "all items: HR@10", "NDCG@10", "99 sampled: HR@10", "NDCG@10",
            "rounds", "bytes up / down", "seconds", "CPU s"]  # fmt: skip
    measured = [
        (row, per_user(row.full, full.truth), per_user(row.sampled, full.truth)) for row in rows
    ]
    lines = []
    for row, everything, among in measured:
        values = [interval(found[name]) for found in (everything, among) for name in METRICS]
        lines.append([row.name, row.seeds, *values, *row.cells])
    means = {row.name: (a["ndcg@10"].mean(), b) for row, a, b in measured}
    mine, among = means[ours.name]
    compared = [
        f"{mine / means[name][0]:.1%} of {name}'s" for name in ("ials", "ease") if name in means
    ]
    of_seeds = _by_seed(ours, full, sampled)
    return "\n\n".join([
        "MovieLens-1M (`recipes/ml-1m-fedavg.toml`): 6,040 users, a client each, the last row of each user "
        "is test, the one before it valid. Systems learn from train, and leave out train and valid. Training "
        "negatives exclude **train positives alone**. Tuned on valid.",
        f"Protocols: all items `{protocol_id(full)}`, 99 sampled `{protocol_id(sampled)}`; baselines have no "
        "training negatives. Intervals are over users (of several seeds: of their mean).",
        "FedMF: d = 64, four negatives a row, logistic loss; in each round all clients, one step on all "
        "their rows, changes of items added up and FedAdam at the server. Rates, weight decay, d and moments "
        "were searched on valid. The number of rounds was 30 at first, and became 42 as valid was still "
        "rising; but the first seed's test numbers at 30 rounds had been seen by then (0.6993 / 0.4219 among "
        "99, 0.0853 / 0.0430 among all). Among 99 of valid, seed 0 had HR@10 0.740 at 30 rounds and 0.737 at "
        "42, so that of this choice the first bar is not entirely free. Seeds 0 and 1 went on from round 30, "
        "seed 2 ran through. Seconds are of one thread on a machine shared with about ten others. The "
        "local-only control keeps all it learns (d = 8, 3 rounds): nothing tells it of items "
        "that a user has not had. Pooled is the same model and loss on all rows at one place, Adam with rate "
        "0.005 in batches of 4,096 rows (20 epochs, not tuned further).",
        table(head, lines),
        f"FedMF by seed: {of_seeds}.",
        f"Bars: HR@10 ≥ 0.70 and NDCG@10 ≥ 0.42 among 99: {among['hr@10'].mean():.4f} and "
        f"{among['ndcg@10'].mean():.4f}. NDCG@10 among all items ≥ 95 % of pooled iALS or EASE: "
        f"{' and '.join(compared)} ({mine:.4f}).",
    ])  # fmt: skip


def _by_seed(row: Row, full: Setting, sampled: Setting) -> str:
    told = []
    for name, lists in (("all items", row.full), ("99 sampled", row.sampled)):
        each = [per_user([recs], full.truth) for recs in lists]
        for metric in METRICS:
            values = ", ".join(f"{one[metric].mean():.4f}" for one in each)
            told.append(f"{name} {metric.upper()} {values}")
    return "; ".join(told)


def protocol_id(setting: Setting, pool: str = "train") -> str:
    from fedeval.assessment.ruled import protocol_of

    return protocol_of(setting, (), pool).id


# --- the leak ------------------------------------------------------------------------------------------


def leak(data: Path, run: Path) -> str:
    """Returns the section on negatives that leave out what is tested."""
    from fedeval.setting import setting_of
    from fedtrain.run import Run

    full, sampled = setting_of(data), setting_of(data, candidates=SAMPLED)
    rows = [
        of_runs("FedMF, leaking pool", [run], data),
        *knowing_nothing(full, sampled, run, "all", more=LONGER),
    ]
    lines = []
    for row in rows:
        values = [
            interval(found[name])
            for found in (per_user(row.full, full.truth), per_user(row.sampled, full.truth))
            for name in METRICS
        ]
        lines.append([row.name, *values])
    plan: dict[str, Any] = Run.open(run).manifest["plan"]
    return "\n\n".join([
        "`negative_pool = \"leaky\"` leaves the valid and test items out of the training negatives, as "
        "published tables do, and exists to show what that is worth. The memoriser has learned nothing: its "
        "score is −(times drawn as a negative).",
        f"One Run, {plan['rounds']} rounds, {plan['negatives']} negatives a row, "
        f"{plan['clients_per_round'] or 'all'} clients, d = {plan['mf']['dim']} (it is here for its draws). "
        f"Protocols: `{protocol_id(full, 'all')}`, `{protocol_id(sampled, 'all')}`.",
        table(["system", "all items: HR@10", "NDCG@10", "99 sampled: HR@10", "NDCG@10"], lines),
        "The first memoriser is of the Run's own number of draws, the others of Runs that draw longer: then "
        "users of 18 rows have been given nearly every other item, too. `fedeval report` on the Run says in "
        "red that the protocol leaks, and its exit code is 1.",
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--runs", type=Path, nargs="+", default=[])
    parser.add_argument("--control", nargs="+", action="append", default=[], metavar="NAME RUN")
    parser.add_argument("--leaky", type=Path)
    parser.add_argument("--kept", type=Path, help="a folder of the baselines' lists, made or read")
    given = parser.parse_args()
    if given.data is None:
        print("no Runs are given: see --help")
        return
    if given.runs:
        controls = [(name, [Path(run) for run in runs]) for name, *runs in given.control]
        write_section("Implicit ranking", implicit(given.data, given.runs, controls, given.kept))
    if given.leaky is not None:
        write_section("The leak", leak(given.data, given.leaky))
    print(RESULTS)


if __name__ == "__main__":
    main()
