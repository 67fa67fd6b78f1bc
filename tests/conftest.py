"""Fixtures that every test file may use."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

# Resolved before any test changes the working folder.
MIRROR = Path(os.environ["FEDPREP_MIRROR"]).resolve() if os.environ.get("FEDPREP_MIRROR") else None


@pytest.fixture(autouse=True)
def _nothing_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests never see or fill the user's own cache or mirror, and never write into the checkout."""
    monkeypatch.delenv("FEDPREP_MIRROR", raising=False)
    monkeypatch.setenv("FEDPREP_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """A test that leaves a thread leaves it to the garbage collector, who may wait for it for ever."""
    before = set(threading.enumerate())
    yield
    left = [t.name for t in threading.enumerate() if t not in before and not t.daemon]
    assert not left, f"threads are left: {left}"


@pytest.fixture
def mirror() -> Path:
    """The folder of real raw files; the test is skipped where none is named."""
    if MIRROR is None or not MIRROR.is_dir():
        pytest.skip("needs real raw files: set FEDPREP_MIRROR to a folder that holds them")
    return MIRROR


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes name no test: those of gzip hold the second, and workers would collect different tests."""
    return argname if isinstance(val, bytes) else None
