"""A compiled run trains what a plain one does."""

from __future__ import annotations

import shutil

import pytest

torch = pytest.importorskip("torch")

from federations import random_federation, rounds, state_of, work_of  # noqa: E402


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")
def test_compiled_steps_train_what_plain_ones_do() -> None:
    federation = random_federation(0)
    states = []
    for compiled in (False, True):
        _, server, clients = rounds(work_of(federation, model="mf", compile=compiled), 2)
        states.append(state_of(server, clients))
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-5, atol=1e-6)
