"""The sheet of a Dataset is shown whatever the recipe was."""

from __future__ import annotations

from pathlib import Path

import pytest
from cards import small_dataset
from rich.console import Console

from fedprep.inspection import inspect_dataset
from fedprep.show import show_dataset


@pytest.mark.parametrize("method", ["leave_last_out", "global_time", "user_ratio", "ratio"])
def test_the_sheet_names_the_split_of_any_method(method: str, tmp_path: Path) -> None:
    facts = inspect_dataset(small_dataset(tmp_path, split={"method": method}))
    console = Console(width=200)
    with console.capture() as text:
        console.print(show_dataset(facts))
    assert facts["split"]["rule"][:40] in text.get()
    assert ("ties" in text.get()) == ("tie_rule" in facts["split"])
