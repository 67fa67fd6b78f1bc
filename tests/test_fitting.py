"""Tables for a terminal: whatever its width, each value stands there whole, beside the name of its row."""

from __future__ import annotations

import io

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from fedeval.fitting import FittingTable


def printed(table: FittingTable, width: int) -> list[str]:
    screen = Console(file=io.StringIO(), width=width, highlight=False)
    screen.print(table)
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue().splitlines()


def of_systems(n_columns: int, n_rows: int) -> FittingTable:
    table = FittingTable("", *(f">Coverage of train items@{k}" for k in range(n_columns)))
    for row in range(n_rows):
        cells = (f"0.{row}{k:03}  0.1234–0.4321" for k in range(n_columns))
        table.add_row(f"system{row}", *cells)
    return table


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 9), st.integers(1, 4), st.integers(36, 220))
def test_no_value_is_cut_and_each_stands_beside_its_name(
    n_columns: int, n_rows: int, width: int
) -> None:
    lines = printed(of_systems(n_columns, n_rows), width)
    assert max(map(len, lines)) <= width
    for row in range(n_rows):
        own = [line for line in lines if f"system{row}" in line]
        for k in range(n_columns):
            assert sum(f"0.{row}{k:03}  0.1234–0.4321" in line for line in own) == 1
    assert "…" not in "".join(lines)


def test_a_wide_terminal_has_one_table_and_a_narrow_one_as_few_as_fit() -> None:
    heads = [
        sum("─" in line for line in printed(of_systems(5, 2), width)) for width in (200, 80, 40)
    ]
    assert heads == [1, 3, 5]


def test_long_names_of_rows_fold_and_marks_in_them_are_letters() -> None:
    table = FittingTable("what was counted", ">ours", ">theirs")
    table.add_row("rows of truth that are training rows [bold] as well", Text("1,234", "bold"), "7")
    lines = printed(table, 60)
    assert any(line.split()[-2:] == ["1,234", "7"] for line in lines)
    assert "[bold]" in " ".join(lines)


def test_a_section_ends_in_a_blank_line() -> None:
    table = FittingTable("", "b")
    table.add_row("one", "1")
    table.add_section()
    table.add_row("two", "2")
    lines = [line.strip() for line in printed(table, 40)]
    assert lines[lines.index("two   2") - 1] == "" and "one   1" in lines
