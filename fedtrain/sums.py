"""Sums over clients that do not depend on their order: 64-bit fixed point.

Floating-point addition is not associative: the same clients in other chunks would give other last bits.
Whole numbers are, so a value is counted in steps of 2**-32 before it is added. This is also what a secure
sum adds (Bonawitz et al., Practical Secure Aggregation, CCS 2017). A client's update is multiplied by its
weight first, its number of rows: what is cut off of it, less than 2**-32 of its sum, is below 3e-10 always.
Rounds of more than 2**20 rows count rows in larger units, a power of two.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from fedtrain.algorithms import Answer, Means
from fedtrain.axes import wide

if TYPE_CHECKING:
    from fedtrain.local import Local

__all__ = ["FRACTION", "LARGEST", "Sums", "fixed", "fixed_number", "real", "unit_of"]

Tensors = dict[str, torch.Tensor]

FRACTION = 2.0**32
"""Steps of one unit."""

LARGEST = 2.0**10
"""What one value of one client's update may reach."""

WEIGHTS = 2.0**20
"""What the weights of a round may add up to: so many of the largest values fit into a sum."""

NUMBER_FRACTION = 2.0**20
"""Steps of one unit in sums of numbers, such as of local steps: those may reach millions."""


def unit_of(total: int) -> float:
    """Returns what one row, or one client, weighs in a round of so many: 1, or the power of two that fits."""
    return 2.0 ** min(0, -math.ceil(math.log2(max(total, 1) / WEIGHTS)))


def fixed(values: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Returns int64: float values (n, *shape) in steps of 1 / FRACTION, cut off towards 0.

    Args:
        values: below LARGEST.
        weight: (n,), what each is multiplied with first; None: 1.
    """
    # Powers of two are exact: the weight may take the factor, and a pass over the values is saved.
    return (values * (FRACTION if weight is None else wide(weight * FRACTION, values))).to(
        torch.int64
    )


def real(total: torch.Tensor) -> torch.Tensor:
    """Returns float64: the value of a sum of fixed-point numbers."""
    return total.double() / FRACTION


def fixed_number(number: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Returns int64 (C,): a number of each client times its weight, in steps of 1 / NUMBER_FRACTION."""
    return (number.double() * weight.double() * NUMBER_FRACTION).to(torch.int64)


class Sums:
    """Weighted sums of clients' answers: chunks in any order give the same bits.

    values, numbers: int64 by name · touched, new: int64 (n_items,), the weight of the clients that had a row,
    and of those that had it for the first time · weight: of all clients · n_answers: how many.
    """

    def __init__(self, n_items: int) -> None:
        self.n_items = n_items
        self.values: Tensors = {}
        self.numbers: Tensors = {}
        self.tables: set[str] = set()
        self.touched: torch.Tensor | None = None
        self.new: torch.Tensor | None = None
        self.weight = 0
        self.n_answers = 0

    def add(self, answer: Answer, local: Local, weight: torch.Tensor) -> None:
        """Adds the answers of a chunk.

        Args:
            answer: what went up.
            local: the chunk, for which row is of which client and item.
            weight: float32 (C,), a multiple of `unit_of`; 0: this client's answer does not count.
        """
        exact = fixed(weight)
        self.weight += int(exact.sum())
        self.n_answers += int((weight > 0).sum())
        for name, value in answer.shared.items():
            total = fixed(value, weight).sum(0)
            self.values[name] = self.values[name] + total if name in self.values else total
        by_row = weight[local.row_client]
        for name, value in answer.rows.items():
            if name not in self.tables:
                self.tables.add(name)
                self.values[name] = torch.zeros(
                    (self.n_items, *value.shape[1:]), dtype=torch.int64, device=value.device
                )
            scaled = fixed(value, by_row)
            self.values[name].index_add_(0, local.row_item, scaled)
        if answer.rows:
            if self.touched is None:
                self.touched = torch.zeros(self.n_items, dtype=torch.int64, device=weight.device)
            self.touched.index_add_(0, local.row_item, exact[local.row_client])
        if answer.new is not None:
            if self.new is None:
                self.new = torch.zeros(self.n_items, dtype=torch.int64, device=weight.device)
            self.new.index_add_(0, local.row_item, exact[local.row_client] * answer.new)
        for name, number in answer.numbers.items():
            total = fixed_number(number, weight).sum()
            self.numbers[name] = self.numbers[name] + total if name in self.numbers else total

    def opened(self) -> None:
        """Called after the last chunk: here the sums are already there."""

    def means(
        self,
        item_mean: str,
        weight_of_all: float = 0.0,
        *,
        unit: float = 1.0,
        expected: int | None = None,
        noised: Callable[[str, torch.Tensor], torch.Tensor] | None = None,
    ) -> Means:
        """Returns the means over the clients; of a row of items over those that touched it.

        Args:
            item_mean: `touched`; `cohort`: over all that answered; `sum`: added up, a client of mean weight
                counting once.
            weight_of_all: of all clients that may train: their rows, or how many they are.
            unit: of the round, in which its weights are.
            expected: divide by this number of clients of weight 1, however many answered.
            noised: what is done to each sum, float64, by name, before it is divided.
        """
        weight = max(self.weight, 1) / FRACTION if expected is None else float(expected)
        n_answers = self.n_answers if expected is None else expected
        sums = {name: real(exact) for name, exact in self.values.items()}
        if noised is not None:
            sums = {name: noised(name, total) for name, total in sums.items()}
        values = {}
        for name, total in sums.items():
            if name not in self.tables or item_mean == "cohort":
                values[name] = total / weight
            elif item_mean == "sum":
                values[name] = total / (weight / max(n_answers, 1))
            else:
                assert self.touched is not None and expected is None
                by = real(self.touched).clamp(min=1 / FRACTION)  # a row that none touched: 0 / 0
                values[name] = total / wide(by, total)
        # With noise, or a mean over the cohort, nothing depends on who touched a row.
        knows_who = noised is None and item_mean != "cohort"
        return Means(
            values=values,
            numbers={
                name: float(total) / NUMBER_FRACTION / weight
                for name, total in self.numbers.items()
            },
            totals={name: total / unit for name, total in sums.items()},
            tables=frozenset(self.tables),
            weight_of_all=weight_of_all,
            new=real(self.new) / unit if self.new is not None and knows_who else None,
        )
