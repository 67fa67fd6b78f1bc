"""Two spaces of ids: a Dataset's own, dense from 0, and those of the raw data. A table may be in either.

Both are often whole numbers, and a table read in the wrong one gives numbers near 0 without an error: so the
share of a table's ids that is known is measured in both readings before any number is made.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import polars as pl

from fedeval.tables import Table
from fedprep.dataset import Dataset
from fedprep.errors import EvaluationError
from fedprep.schema import ITEM_ID, SOURCE_ID, USER_ID

__all__ = ["READINGS", "in_dense_ids"]

READINGS: dict[str, frozenset[str]] = {
    "dataset": frozenset(),
    "source": frozenset((USER_ID, ITEM_ID)),
    "source-users": frozenset((USER_ID,)),
    "source-items": frozenset((ITEM_ID,)),
}
"""Ways to read a table: the columns of it that hold ids of the raw data; the others hold the Dataset's."""

CLEARLY = 0.1
"""Share of the ids by which the other reading has to know more, for a table to be refused."""

FEW = 0.5
"""Share of the ids below which a reading is told to know few of them."""

WHAT = {USER_ID: "users", ITEM_ID: "items"}


@dataclass(frozen=True)
class _Fit:
    """Shares of a column's distinct ids that are known as the Dataset's own, and as the raw data's."""

    column: str
    dense: float
    source: float
    n: int
    strange: tuple[str, str]  # an id that is not known, in each reading

    def of(self, source: bool) -> float:
        return self.source if source else self.dense

    def example(self, source: bool) -> str:
        return self.strange[source]

    @property
    def text(self) -> str:
        return (
            f"{WHAT[self.column]} {self.dense:.1%} as the Dataset's own, {self.source:.1%} as the raw data's"
        ).replace("%", " %")


def in_dense_ids(
    table: Table, dataset: Dataset | None, ids: str, name: str, flag: str = "--ids"
) -> tuple[Table, tuple[str, ...]]:
    """Returns the table with the Dataset's ids, and what a reader must know about that.

    Of recommendations, rows of unknown users are left out, and an unknown item gets an id that no item of
    the Dataset has: it keeps its place in the list and is counted. Of truth and candidates, rows of either
    are left out. Without a Dataset the table stays as it is.

    Args:
        table: recommendations, truth or candidates.
        dataset: whose ids are wanted.
        ids: how it is to be read, a name in `READINGS`.
        name: of the table, for errors.
        flag: that chooses the reading.

    Raises:
        EvaluationError: no such reading, no Dataset to translate by, no id is known, or the other reading
            knows clearly more: then both shares are said, and the flag to give.
    """
    if ids not in READINGS:
        raise EvaluationError(f"no ids are called '{ids}'", expected=", ".join(READINGS))
    if dataset is None:
        if READINGS[ids]:
            raise EvaluationError(f"{flag} {ids} needs a Dataset", hint="give it with --data")
        return table, ()
    known = {
        column: rows.select(
            pl.col(column).alias("dense"), pl.col(SOURCE_ID).alias("source")
        ).collect()
        for column, rows in ((USER_ID, dataset.users()), (ITEM_ID, dataset.items()))
    }
    fits = [_fit(table, column, known[column]) for column in WHAT]
    warnings = _judged(fits, table, ids, name, flag)
    for column in sorted(READINGS[ids], reverse=True):  # users first
        table = _translated(table, column, known[column], dataset, flag)
    return table, warnings


def _fit(table: Table, column: str, known: pl.DataFrame) -> _Fit:
    found = table.distinct(column).drop_nulls().cast(pl.String)
    text = pl.DataFrame({"id": found})
    n = max(len(found), 1)
    shares, strange = [], []
    for name in ("dense", "source"):
        others = text.join(known.select(id=pl.col(name).cast(pl.String)), on="id", how="anti")["id"]
        shares.append((text.height - len(others)) / n)
        strange.append(str(others.min()) if len(others) else "")
    return _Fit(column, shares[0], shares[1], len(found), (strange[0], strange[1]))


def _judged(fits: list[_Fit], table: Table, ids: str, name: str, flag: str) -> tuple[str, ...]:
    now = READINGS[ids]
    better = {fit.column: fit.of(fit.column not in now) - fit.of(fit.column in now) for fit in fits}
    wrong = {
        fit.column
        for fit in fits
        # The Dataset's own ids are all known: one that is not is none of them.
        if better[fit.column] >= CLEARLY
        or (better[fit.column] > 0 and fit.column not in now and fit.source == 1)
    }
    shares = "; ".join(fit.text for fit in fits)
    if wrong:
        wanted = now ^ wrong ^ {c for c in better if better[c] == 0 and c not in wrong}
        flagged = next(word for word, columns in READINGS.items() if columns == wanted)
        raise EvaluationError(
            f"the ids of {name} are of another kind than {ids}: known are of its {shares}",
            where=table.where,
            expected="ids that are known in the reading that is asked for",
            hint=f"{flag} {flagged}",
        )
    warnings = []
    if any(gain > 0 for gain in better.values()):
        warnings.append(
            f"ids read as {ids} are known less than in the other reading: of its {shares} ({flag})"
        )
    for fit in fits:
        share = fit.of(fit.column in now)
        what = WHAT[fit.column]
        if share < FEW:
            warnings.append(
                f"few of its ids are known in {name}: of {fit.n:,} {fit.text}, and not, for instance, "
                f"'{fit.example(fit.column in now)}'"
            )
        elif fit.column in now and share < 1:
            warnings.append(
                f"{round(fit.n * (1 - share)):,} of {fit.n:,} {what} are not in the Dataset by their ids in"
                f" the raw data, such as '{fit.example(fit.column in now)}'"
            )
    return tuple(warnings)


def _translated(
    table: Table, column: str, known: pl.DataFrame, dataset: Dataset, flag: str
) -> Table:
    by = known.select(pl.col("source").alias(column), "dense")
    rows = table.whole().with_columns(pl.col(column).cast(pl.String))
    rows = rows.join(by, on=column, how="left", maintain_order="left")
    if column == ITEM_ID and table.role == "recommendations":
        beyond = pl.col(column).rank("dense").cast(pl.Int32) + known.height
        rows = rows.with_columns(pl.col("dense").fill_null(beyond))
    else:
        rows = rows.filter(pl.col("dense").is_not_null())
    rows = rows.with_columns(pl.col("dense").cast(pl.Int32).alias(column)).drop("dense")
    if not rows.height:
        raise EvaluationError(
            f"no {column.removesuffix('_id')} of the table is in {dataset.name} by their id in the raw data",
            where=table.where,
            hint=f"{flag} dataset, if they are the Dataset's own",
        )
    return replace(table.of(rows), text=False)
