"""ml-1m from the raw zip to a finished Dataset of 6,040 clients, without embedding: CPU and memory.

    python benchmarks/build.py [--rounds 5]

Takes the original ml-1m.zip where FEDPREP_MIRROR has it, else a made-up one of the same size in the same
format (written before the clock starts). Each round is a process of its own, start-up included; the median
counts. Limits: 3 s of CPU, 700 MB of peak memory.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tables import Line, show

from fedprep.recipe import load_recipe

SETTINGS = [
    "embed.text.encoder=none",
    "source.synthetic.n_users=6040",
    "source.synthetic.n_items=3706",
    "source.synthetic.n_interactions=1000209",
    "source.synthetic.images=0",
]
MAX_CPU, MAX_MB = 3.0, 700


def build(folder: Path, number: int, given: list[str]) -> tuple[float, float]:
    """Returns CPU seconds and peak MB of one build in a process of its own."""
    fedprep = [sys.executable, "-c", "from fedprep.cli import main; main()"]
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    out = str(folder / f"out{number}")
    command = [*fedprep, "build", "movielens-1m", *given, *settings, "--out", out]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"the build failed: {' '.join(command)}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1000


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    mirror = os.environ.get("FEDPREP_MIRROR", "")
    real = bool(mirror) and any(Path(mirror).rglob("ml-1m.zip"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not real:
            os.environ["FEDPREP_CACHE"] = str(folder / "cache")
        given = [] if real else ["--from", "synthetic"]
        build(folder, 0, given)  # writes the made-up files, unpacks the real ones
        runs = [build(folder, number, given) for number in range(1, rounds + 1)]
    cpu = statistics.median(run[0] for run in runs)
    peak = statistics.median(run[1] for run in runs)
    rows = load_recipe("movielens-1m", SETTINGS).source.synthetic.n_interactions
    return show(
        f"{'the original' if real else 'a made-up'} ml-1m, {rows:,} rows, median of {rounds}",
        [
            Line("CPU seconds", f"{cpu:.2f}", f"<= {MAX_CPU:g}", cpu <= MAX_CPU),
            Line("share of the limit", f"{cpu / MAX_CPU:.2f}"),
            Line("peak MB", f"{peak:.0f}", f"<= {MAX_MB}", peak <= MAX_MB),
            Line("share of the limit", f"{peak / MAX_MB:.2f}"),
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
