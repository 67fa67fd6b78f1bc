"""Samplers: which clients train in a round.

`SAMPLERS[name](n_rows, size, round, seed, options)` returns int64, ascending: `size` clients (0: all)
without replacement, of those that have train rows and may train; all of them where they are fewer.
The same address (seed, round) gives the same cohort, whatever was drawn before.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from fedeval.draws import uniform
from fedprep.errors import TrainingError
from fedprep.frames import read_csv, read_parquet
from fedprep.schema import CLIENT_ID
from fedtrain.parameters import stream

__all__ = [
    "SAMPLERS", "SamplerOptions", "Trace", "held_out", "load_trace", "refuse_unreachable",
]  # fmt: skip

Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Trace:
    """When clients can be reached: int64 (n,), thrice; both rounds are included."""

    client_id: Ids
    start: Ids
    end: Ids


@dataclass(frozen=True)
class SamplerOptions:
    """What a sampler may know beside the sizes.

    may: bool (n_clients,), the clients that may train; None: all · trace: for `trace`.
    """

    may: Mask | None = None
    trace: Trace | None = None


Sampler = Callable[[Ids, int, int, int, SamplerOptions], Ids]


def sample_uniform(n_rows: Ids, size: int, round: int, seed: int, options: SamplerOptions) -> Ids:
    """Returns clients that are all equally likely; its cost follows the cohort."""
    able = _able(n_rows, options)
    return able[_distinct(len(able), _size(size, able), stream(seed, "cohort", round))]


def sample_by_size(n_rows: Ids, size: int, round: int, seed: int, options: SamplerOptions) -> Ids:
    """Returns clients drawn one after another, each with probability proportional to its train rows.

    Reference: Efraimidis, Spirakis, Weighted random sampling with a reservoir, Information Processing
    Letters 97 (2006), algorithm A: the largest u^(1/w), here as the smallest −log(u)/w.
    """
    able = _able(n_rows, options)
    keys = -np.log1p(-uniform(stream(seed, "cohort", round), able, 0)) / n_rows[able]
    return able[_smallest(keys, _size(size, able))]


def sample_cyclic(n_rows: Ids, size: int, round: int, seed: int, options: SamplerOptions) -> Ids:
    """Returns the next clients of one random order: between two turns of a client all others have one."""
    able = _able(n_rows, options)
    count = _size(size, able)
    if count == len(able):
        return able
    order = _order(len(able), seed)
    return np.sort(able[order[(round * count + np.arange(count)) % len(able)]])


def sample_trace(n_rows: Ids, size: int, round: int, seed: int, options: SamplerOptions) -> Ids:
    """Returns clients, equally likely, of those that the trace can reach in this round: maybe none."""
    assert options.trace is not None, "the sampler `trace` is given a trace"
    trace = options.trace
    there = np.zeros(len(n_rows), np.bool_)
    there[trace.client_id[(trace.start <= round) & (round <= trace.end)]] = True
    may = there if options.may is None else there & options.may
    return sample_uniform(n_rows, size, round, seed, SamplerOptions(may))


def sample_poisson(n_rows: Ids, size: int, round: int, seed: int, options: SamplerOptions) -> Ids:
    """Returns each client with probability size / clients, by itself: `size` in the mean, maybe none.

    It is the sampling that the privacy of noise on sums is accounted for.

    Reference: Abadi et al., Deep Learning with Differential Privacy, CCS 2016, section 3.1.
    """
    able = _able(n_rows, options)
    share = _size(size, able) / max(len(able), 1)
    return able[uniform(stream(seed, "cohort", round), able, 0) < share]


SAMPLERS: Mapping[str, Sampler] = {
    "uniform": sample_uniform,
    "by_size": sample_by_size,
    "cyclic": sample_cyclic,
    "trace": sample_trace,
    "poisson": sample_poisson,
}
"""Each sampler by its name in a recipe."""


def held_out(n_rows: Ids, valid: float, test: float, seed: int) -> tuple[Mask, Mask]:
    """Returns bool (n_clients,), twice: the clients kept for valid and for test, which never train.

    Args:
        n_rows: int64 (n_clients,): clients without rows are not kept for anything.
        valid: share of the clients with rows, rounded to whole clients.
        test: likewise; at most `1 - valid`.
        seed: of the run; the same clients whatever else the plan says.
    """
    able = np.flatnonzero(n_rows > 0)
    n_valid, n_test = round(valid * len(able)), round(test * len(able))
    order = np.argsort(uniform(stream(seed, "held out"), able, 0), kind="stable")
    masks = np.zeros((2, len(n_rows)), np.bool_)
    masks[0, able[order[:n_valid]]] = True
    masks[1, able[order[n_valid : n_valid + n_test]]] = True
    return masks[0], masks[1]


def load_trace(path: str | Path, n_clients: int) -> Trace:
    """Returns the trace in a CSV or Parquet file with the columns `client_id`, `start` and `end`.

    A client may stand in it several times; one that does not can never be reached.

    Raises:
        TrainingError: no such file, a column is missing or has other values than whole numbers, a client
            that does not exist, a row that ends before it starts.
    """
    columns = [CLIENT_ID, "start", "end"]
    expected = "CSV or Parquet with client_id, start, end: rounds from 1, both included"
    try:
        file = Path(path)
        table = read_parquet(file) if file.suffix == ".parquet" else read_csv(file)
        rows = table.select(columns)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).strip().splitlines()[0]
        raise TrainingError(
            f"the trace cannot be read: {reason}", where=str(path), expected=expected
        ) from None
    for column, dtype in rows.schema.items():
        if not dtype.is_integer():
            raise TrainingError(
                f"the trace's column {column} is {dtype}", where=str(path), expected=expected
            )
    rows = rows.cast(pl.Int64)
    wrong = {
        "has an empty value": pl.any_horizontal(pl.all().is_null()),
        f"names no client of the {n_clients:,}": ~pl.col(CLIENT_ID).is_between(0, n_clients - 1),
        "ends before it starts": pl.col("end") < pl.col("start"),
    }
    for what, condition in wrong.items():
        found = rows.with_row_index("row", offset=1).filter(condition)
        if len(found):
            raise TrainingError(
                f"a row of the trace {what}: {len(found):,} of {len(rows):,} rows",
                where=f"{path}, row {found['row'][0]}",
                expected=expected,
            )
    return Trace(*(rows[column].to_numpy() for column in columns))


def refuse_unreachable(trace: Trace, may: Mask, rounds: int, least: int) -> None:
    """Refuses a trace under which no round can have so many clients that may train.

    Args:
        may: bool (n_clients,).
        rounds: of the run.
        least: clients that a round needs.

    Raises:
        TrainingError: it says how many there are at most.
    """
    known = may[trace.client_id]
    client, start, end = trace.client_id[known], trace.start[known], trace.end[known]
    most = 0
    for number in range(1, rounds + 1):
        most = max(most, len(np.unique(client[(start <= number) & (number <= end)])))
        if most >= least:
            return
    raise TrainingError(
        f"the trace reaches {most} clients that may train in any of {rounds:,} rounds",
        where="train.trace",
        expected=f"at least {least} in one of them; rounds count from 1",
    )


def _able(n_rows: Ids, options: SamplerOptions) -> Ids:
    return np.flatnonzero(n_rows > 0 if options.may is None else (n_rows > 0) & options.may)


def _size(size: int, able: Ids) -> int:
    return min(size, len(able)) if size else len(able)


def _distinct(n: int, count: int, seed: int) -> Ids:
    """Returns int64 (count,), ascending: the first `count` different numbers of a stream of 0 … n − 1."""
    if count == n:
        return np.arange(n)
    drawn = np.empty(0, np.int64)
    first = np.empty(0, np.int64)
    while len(first) < count:
        places = np.arange(len(drawn), max(2 * len(drawn), 2 * count))
        drawn = np.append(drawn, (uniform(seed, 0, places) * n).astype(np.int64))
        first = np.sort(np.unique(drawn, return_index=True)[1])
    return np.sort(drawn[first[:count]])


def _smallest(keys: npt.NDArray[np.float64], count: int) -> Ids:
    """Returns the places, ascending, of the `count` smallest keys; of equals the first."""
    if not count:
        return np.empty(0, np.int64)
    limit = np.partition(keys, count - 1)[count - 1]
    below, equal = np.flatnonzero(keys < limit), np.flatnonzero(keys == limit)
    return np.sort(np.append(below, equal[: count - len(below)]))


@functools.lru_cache(maxsize=2)
def _order(n: int, seed: int) -> Ids:
    """Returns int64 (n,): a random order of 0 … n − 1."""
    order = np.argsort(uniform(stream(seed, "cycle"), np.arange(n), 0), kind="stable")
    order.flags.writeable = False
    return order
