"""Work done ahead by threads, in order, with a bounded number of results waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["ahead"]

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def ahead(
    work: Callable[[T], R], things: Iterable[T], *, threads: int, depth: int
) -> Iterator[Iterator[R]]:
    """Gives `work(thing)` for each thing, in order, with up to `depth` begun before they are asked for.

    What `work` raises is raised in its turn. At the end of the `with`, however it is left, nothing more
    is begun; what runs already is waited for.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="fedprep-ahead")
    try:
        yield _results(pool, work, things, depth)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _results(
    pool: ThreadPoolExecutor, work: Callable[[T], R], things: Iterable[T], depth: int
) -> Iterator[R]:
    waiting: deque[Future[R]] = deque()
    for thing in things:
        waiting.append(pool.submit(work, thing))
        if len(waiting) >= depth:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
