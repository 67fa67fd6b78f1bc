"""Chunks on several threads: each trains one with a single thread of torch, so that none waits for another.

Operations on a chunk are short: a second thread inside of each wins nothing. Chunks share no row of a client,
and their sums are of whole numbers, so who is done first changes no bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain, islice
from typing import TypeVar

import torch

__all__ = ["side_by_side"]

WORTH = 2
"""Chunks for each thread, from which on they are trained side by side; fewer are done one by one."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def side_by_side(
    work: Callable[[Item], Result], items: Iterable[Item], device: torch.device
) -> Iterator[Iterator[Result]]:
    """Gives the results in order, as many at work at a time as torch has threads, and one waiting.

    One by one on an accelerator, and where there are few items: then each has all of torch's threads.
    At the end of the `with`, however it is left, nothing is at work any more.
    """
    n_threads = torch.get_num_threads()
    if device.type != "cpu" or n_threads < 2:
        yield map(work, items)
        return
    rest = iter(items)
    first = list(islice(rest, WORTH * n_threads))
    if len(first) < WORTH * n_threads:
        yield map(work, first)
        return
    # Threads of torch are set for the thread that says so, and those of its matrix products for all.
    pool = ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield _results(pool, work, chain(first, rest), n_threads)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(n_threads)


def _results(
    pool: ThreadPoolExecutor,
    work: Callable[[Item], Result],
    items: Iterable[Item],
    n_threads: int,
) -> Iterator[Result]:
    pending: deque[Future[Result]] = deque()
    for item in items:
        pending.append(pool.submit(work, item))
        if len(pending) > n_threads:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
