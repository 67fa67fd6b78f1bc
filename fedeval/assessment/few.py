"""What to say where too few users or clients are drawn: what no test could have found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fedeval.assessment.measured import Measured

__all__ = ["FEW", "few_units"]

FEW = 30
"""Below so many users (clients) a bootstrap interval covers less often than its level says."""

Rows = Sequence[Mapping[str, Any]]


def few_units(measured: Measured, comparisons: Rows) -> list[str]:
    """Returns what a reader must know of too few users or clients, a sentence or two each; often nothing.

    Args:
        measured: whose users or clients are drawn.
        comparisons: the rows of the paired tests, whole.
    """
    unit = "users" if measured.clients is None else "clients"
    found = [text for text in (_undecidable(measured, comparisons, unit),) if text]
    n, level = measured.n_units, measured.inference.level
    if n < FEW:
        drawn = f"1 {unit[:-1]} is" if n == 1 else f"{n:,} {unit} are"
        found.append(
            f"Only {drawn} drawn: intervals of fewer than about {FEW} {unit} are too narrow and "
            f"cover less often than {100 * level:g} % of the time.{_unseen(measured, comparisons, unit)}"
        )
    return found


def _undecidable(measured: Measured, comparisons: Rows, unit: str) -> str:
    """Returns why no test of the family could have been significant, "" where one could."""
    how = measured.inference
    tests = [row for row in comparisons if not row["same_as"] and row["smallest_p"] > 0.0]
    if not tests or len(tests) < sum(not row["same_as"] for row in comparisons):
        return ""
    least = min(row["smallest_p"] for row in tests)
    needed = how.alpha / (len(tests) if how.correction == "holm" else 1)
    if least <= needed * (1 + 1e-9):
        return ""
    family = "" if needed == how.alpha else f"with {len(tests)} tests to correct for, "
    need = f"{family}level {how.alpha:.2g} asks for {_short(needed)} or less"
    if least * (how.n_flips + 1) <= 1 + 1e-9:
        return (
            f"Nothing could be decided, whatever the systems do: {how.n_flips:,} flips give no p-value below "
            f"{_short(least)}; {need}. Ask for fewer metrics, or take --test t."
        )
    if least == 1.0:
        return "The systems give every user the same values: there is nothing to decide."
    differing, wanted = round(1 - math.log2(least)), math.ceil(1 - math.log2(needed) - 1e-9)
    shown = f"{differing} {unit if differing != 1 else unit[:-1]}"
    return (
        f"Nothing could be decided, whatever the systems do. Two systems differ for {shown} at most, and of "
        f"so many the {how.test} test gives no p-value below {_short(least)}; {need}, which takes {wanted} "
        f"{unit}. ‘Undecided’ says nothing about the systems here."
    )


def _unseen(measured: Measured, comparisons: Rows, unit: str) -> str:
    """Returns the differences of the headline metric that would go unseen."""
    sizes = [
        row["smallest_difference"]
        for row in comparisons
        if row["metric"] == measured.headline.text and not math.isnan(row["smallest_difference"])
    ]
    if not sizes:
        return ""
    low, high = (f"{size:.4f}" for size in (min(sizes), max(sizes)))
    between = low if low == high else f"{low} to {high}, depending on the system,"
    return (
        f" To be found eight times in ten by so few {unit}, a true difference of {measured.title} has to be "
        f"at least {between}."
    )


def _short(p: float) -> str:
    return f"{p:.2g}"
