"""What a command needs beside the base installation, asked for before anything begins."""

from __future__ import annotations

import importlib.util

from fedprep.errors import MissingExtraError, install

__all__ = ["NEEDED", "need_trainer"]

NEEDED = ("torch", "safetensors")


def need_trainer() -> None:
    """Refuses to begin without the packages that training needs.

    Raises:
        MissingExtraError: one is not installed.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"training needs {' and '.join(missing)}, not installed here",
            hint=f"{install('train')}; `fedeval baselines DATASET` needs neither",
        )
