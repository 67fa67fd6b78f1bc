"""Fixtures that every test file may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True)
def _nothing_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests never see or fill the user's own cache, and never write into the checkout."""
    monkeypatch.setenv("FEDPREP_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def mirror() -> Path:
    """The folder of real raw files; the test is skipped where none is named."""
    folder = os.environ.get("FEDPREP_MIRROR", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs real raw files: set FEDPREP_MIRROR to a folder that holds them")
    return Path(folder)
