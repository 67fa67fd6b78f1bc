"""Chunks on several threads: in order, broken off cleanly, and to the same bits."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch")

from federations import (  # noqa: E402
    assert_same_bits,
    random_federation,
    rounds,
    state_of,
    work_of,
)

from fedtrain.threads import side_by_side  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_results_come_in_order_and_two_are_at_work_at_once() -> None:
    both = threading.Barrier(2, timeout=20)

    def work(number: int) -> tuple[int, int]:
        if number < 2:
            both.wait()  # passes only if another is at work as well
        return number, torch.get_num_threads()

    with side_by_side(work, iter(range(9)), CPU) as results:
        found = list(results)
    assert found == [(number, 1) for number in range(9)]
    assert torch.get_num_threads() == 2


def test_a_few_items_are_done_one_by_one_with_all_threads() -> None:
    main = threading.get_ident()

    def work(n: int) -> tuple[int, int, int]:
        return n, threading.get_ident(), torch.get_num_threads()

    with side_by_side(work, range(3), CPU) as results:
        found = list(results)
    assert found == [(number, main, 2) for number in range(3)]


def test_no_more_are_begun_than_can_be_worked_at() -> None:
    begun: list[int] = []
    items = (begun.append(n) or n for n in range(50))
    before = threading.active_count()
    with side_by_side(lambda n: n, items, CPU) as results:
        assert next(results) == 0
        assert len(begun) <= 4 + 3  # four were looked at to see that there are enough
    assert threading.active_count() == before  # none waits for the garbage collector


def test_an_error_reaches_the_caller_and_leaves_the_threads_as_they_were() -> None:
    def work(number: int) -> int:
        if number == 3:
            raise ValueError("no")
        return number

    with (
        pytest.raises(ValueError, match="no"),
        side_by_side(work, range(20), CPU) as results,
    ):
        list(results)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("algorithm", ["fedavg", "scaffold", "fedper", "local"])
def test_threads_change_no_bit_of_what_is_held(algorithm: str) -> None:
    federation = random_federation(4, n_clients=30)
    states = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        model = {} if algorithm == "fedper" else {"model": "mf"}
        work = work_of(federation, algorithm=algorithm, chunk_rows=6, **model)
        _, server, clients = rounds(work, 3)
        states.append(state_of(server, clients))
    assert_same_bits(*states)
