"""Labels and item categories of rows, and the one class that stands for a user."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from fedprep.errors import PartitionError
from fedprep.partition.grouping import best_of, count_pairs, in_blocks, in_order
from fedprep.partition.task import Ints, Task, Units
from fedprep.schema import ITEM_ID, LABEL

__all__ = ["Anchors", "Categories", "anchors", "item_categories"]

NO_CATEGORY = "(no category)"


@dataclass(frozen=True, kw_only=True)
class Categories:
    """Categories of items: those of item `i` are `codes[offsets[i]:offsets[i + 1]]`, each once."""

    offsets: Ints
    codes: Ints
    names: tuple[str, ...]

    @property
    def per_item(self) -> Ints:
        return np.diff(self.offsets)

    def totals(self, item: Ints) -> Ints:
        """Returns how many of the rows, given by their items, are of each category: (n_categories,)."""
        rows = np.bincount(item, minlength=len(self.offsets) - 1)
        weights = np.repeat(rows, self.per_item)
        return np.bincount(self.codes, weights=weights, minlength=len(self.names)).astype(np.int64)

    def of_rows(self, item: Ints) -> tuple[Ints, Ints]:
        """Returns (row, category) for every category of every row's item: int64 (n_mentions,) each."""
        n = self.per_item[item]
        row = np.repeat(np.arange(len(item)), n)
        within = np.arange(len(row)) - np.repeat(np.cumsum(n) - n, n)
        return row, self.codes[self.offsets[item][row] + within]


@dataclass(frozen=True, kw_only=True)
class Anchors:
    """The class that stands for each unit: int64 (n_units,), numbers of `names`, each at least once."""

    of_unit: Ints
    names: tuple[str, ...]

    def members(self, rng: np.random.Generator) -> Iterator[Ints]:
        """Yields the units of each class, in random order."""
        order = rng.permutation(len(self.of_unit))
        order = order[in_order(self.of_unit[order])]
        bounds = np.cumsum(np.bincount(self.of_unit, minlength=len(self.names)))
        yield from np.split(order, bounds[:-1])


def item_categories(items: pl.DataFrame, n_items: int) -> Categories:
    """Returns the categories of items 0 to n_items - 1; codes follow the names' order."""
    if not isinstance(items.schema.get("categories"), pl.List):
        return Categories(
            offsets=np.zeros(n_items + 1, np.int64), codes=np.empty(0, np.int64), names=()
        )
    pairs = (
        items.select(ITEM_ID, name=pl.col("categories"))
        .explode("name")
        .drop_nulls()
        .unique()
        .sort(ITEM_ID, "name")
    )
    names = pairs["name"].unique().sort()
    codes = pairs["name"].cast(pl.Enum(names)).to_physical().to_numpy().astype(np.int64)
    counts = np.bincount(pairs[ITEM_ID].to_numpy(), minlength=n_items)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return Categories(offsets=offsets, codes=codes, names=tuple(names))


def anchors(task: Task, rng: np.random.Generator) -> Anchors:
    """Returns the class of each unit, by the task's `on`: `"label"` or `"category"`.

    A row has its label; of several categories of its item it takes one at random. A user has the class
    that stands out most: with n the user's rows, of which n_c are in class c, and p_c the class's share
    of all rows, the largest of Pearson's standardised residuals

        z_c = (n_c - n p_c) / sqrt(n p_c (1 - p_c)).

    So a user whose rows all have one label has that label; a single odd row in a long history does not
    decide; and users as average as the whole go either way, whatever the most frequent class is.
    Rows of items without a category form a class of their own, and so do users who have no other.

    Raises:
        PartitionError: there is one class alone.
    """
    by = task.options.on
    found = _labels(task) if by == "label" else _categories(task, rng)
    if len(found.names) == 1:
        other = "category" if by == "label" else "label"
        raise PartitionError(
            f"all {task.units.name} stand in one {by}, '{found.names[0]}': there is nothing to skew",
            where="partition.on",
            hint=f'on = "{other}", or method = "quantity"',
        )
    return found


def _labels(task: Task) -> Anchors:
    units = task.units
    label = task.rows[LABEL].to_numpy().astype(np.int64)
    total = np.bincount(label)
    if units.name == "rows":
        of_unit = np.empty_like(label)
        of_unit[units.of_row] = label
    else:
        _, of_unit = _standing_out(*count_pairs(units.of_row, label, len(total)), total)
    return _dense(of_unit, tuple(str(value) for value in range(len(total))))


def _categories(task: Task, rng: np.random.Generator) -> Anchors:
    item = task.rows[ITEM_ID].to_numpy().astype(np.int64)
    categories = item_categories(task.items, int(item.max()) + 1)
    find = _category_of_rows if task.units.name == "rows" else _category_of_users
    of_unit = find(item, task.units, categories, rng)
    return _dense(of_unit, (*categories.names, NO_CATEGORY))


def _standing_out(owner: Ints, klass: Ints, count: Ints, total: Ints) -> tuple[Ints, Ints]:
    """Returns the owners that occur, and the class with the largest residual of each; the smaller class
    where two are equal.

    Classes that an owner lacks have a residual below 0 and need no look: one of the others is at least 0.
    """
    share = total / total.sum()
    expected = np.bincount(owner, weights=count)[owner] * share[klass]
    spread = np.sqrt(expected * (1 - share[klass]))
    residual = np.divide(count - expected, spread, out=np.zeros(len(count)), where=spread > 0)
    owners, best = best_of(owner, residual)
    return owners, klass[best]


def _category_of_rows(
    item: Ints, units: Units, categories: Categories, rng: np.random.Generator
) -> Ints:
    of_unit = np.empty(len(units), dtype=np.int64)
    of_unit[units.of_row] = item
    n = categories.per_item[of_unit]
    pick = np.minimum((rng.random(len(n)) * n).astype(np.int64), np.maximum(n - 1, 0))
    none = len(categories.names)
    codes = np.append(categories.codes, none)  # one more, to read past the last item
    return np.where(n > 0, codes[categories.offsets[of_unit] + pick], none)


def _category_of_users(
    item: Ints, units: Units, categories: Categories, rng: np.random.Generator
) -> Ints:
    none = len(categories.names)
    of_unit = np.full(len(units), none)
    total = categories.totals(item)
    for first, _, part in in_blocks(units.of_row, units.size):
        row, klass = categories.of_rows(item[part])
        if len(row):
            owner = units.of_row[part][row] - first
            owners, best = _standing_out(*count_pairs(owner, klass, none), total)
            of_unit[first + owners] = best
    return of_unit


def _dense(of_unit: Ints, names: tuple[str, ...]) -> Anchors:
    """Drops the classes that no unit has."""
    used = np.bincount(of_unit, minlength=len(names)) > 0
    kept = tuple(name for name, is_used in zip(names, used, strict=True) if is_used)
    return Anchors(of_unit=(np.cumsum(used) - 1)[of_unit], names=kept)
