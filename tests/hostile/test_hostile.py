"""No file of anybody's makes a command break: it answers 0, 1 or 2, says why, and leaves nothing behind."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.hostile.world import World, attack

SAMPLE, MANY = 70, 1_200


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.made(tmp_path_factory.mktemp("hostile") / "world")


def wrong_ones(world: World, folder: Path, seeds: range) -> list[str]:
    """Returns what is wrong with the answers to these inputs; `python -m tests.hostile.world` repeats one."""
    found = []
    for seed in seeds:
        place = folder / str(seed)
        outcome, how = attack(world, place, seed)
        if outcome.wrong:
            found.append(f"{seed}: {outcome.wrong} ({how}; {' '.join(outcome.line)})")
        shutil.rmtree(place, ignore_errors=True)
    return found


def test_some_damaged_inputs_are_each_answered(world: World, tmp_path: Path) -> None:
    assert not wrong_ones(world, tmp_path, range(SAMPLE))


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_a_thousand_damaged_inputs_are_each_answered(world: World, tmp_path: Path) -> None:
    assert not wrong_ones(world, tmp_path, range(SAMPLE, MANY))
