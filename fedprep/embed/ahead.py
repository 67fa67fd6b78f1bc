"""Work done ahead by threads, in order, with a bounded number of results waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["ahead"]

T = TypeVar("T")
R = TypeVar("R")


def ahead(
    work: Callable[[T], R], things: Iterable[T], *, threads: int, depth: int
) -> Generator[R, None, None]:
    """Yields `work(thing)` for each thing, in order, with up to `depth` begun before they are asked for.

    What `work` raises is raised here, in its turn. When the iterator is closed early, nothing more is
    begun; what runs already is waited for.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="fedprep-ahead")
    try:
        waiting: deque[Future[R]] = deque()
        for thing in things:
            waiting.append(pool.submit(work, thing))
            if len(waiting) >= depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
