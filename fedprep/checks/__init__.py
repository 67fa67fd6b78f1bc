"""Checks of data quality: from tables and limits to what is wrong, counted, with examples.

`validate` runs them in the order of `CHECKS`: schema, finiteness, range and scale, uniqueness, references,
clients, splits, geometry of embeddings, files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedprep.checks import (
    clients,
    embeddings,
    features,
    files,
    finite,
    interactions,
    items,
    modalities,
    scale,
    schema,
    splits,
)
from fedprep.checks.check import Check, NotAsked
from fedprep.checks.limits import Limits, Value, limits_from
from fedprep.checks.recommendations import RECOMMENDATION_CHECKS, validate_recommendations
from fedprep.checks.result import Result, Validation, plain
from fedprep.checks.run import run_checks
from fedprep.checks.tables import Tables
from fedprep.dataset import Dataset
from fedprep.integrity import digests_of
from fedprep.schema import Progress, silent

__all__ = [
    "CHECKS",
    "RECOMMENDATION_CHECKS",
    "Check",
    "Limits",
    "NotAsked",
    "Result",
    "Tables",
    "Validation",
    "limits_from",
    "plain",
    "validate",
    "validate_recommendations",
]

CHECKS: dict[str, Check] = {
    check.name: check
    for group in (
        schema.CHECKS,
        finite.CHECKS,
        interactions.CHECKS,
        items.CHECKS,
        clients.CHECKS,
        splits.CHECKS,
        features.CHECKS,
        embeddings.CHECKS,
        scale.CHECKS,
        modalities.CHECKS,
        files.CHECKS,
    )
    for check in group
}
"""Name → check, in the order in which they run and are shown."""


def validate(
    subject: Any,
    limits: Mapping[str, Value] | Limits | None = None,
    *,
    only: Sequence[str] = (),
    require: Sequence[str] = (),
    client_from: str = "",
    split_from: str = "",
    strict: bool = False,
    progress: Progress = silent,
) -> Validation:
    """Returns what the checks find in a Dataset, in files, or in a frame.

    Args:
        subject: a Dataset or `Tables`, the path of a Dataset, of a folder of Parquet files or of one, or a
            frame of polars, pandas or Arrow, told by its columns.
        limits: by name, laid over the recipe's `[validate] limits`; those set are gates: where they are
            passed a check fails that would warn.
        only: names of the checks to run; empty for all.
        require: names or groups of checks that have to run, `*` for any letters: one that is skipped fails.
        client_from, split_from: of a client folder of others: `filename`, `folder`, or a column that says
            which client or split rows are of.
        strict: kept in the result for whoever turns it into an exit status: warnings count as failures.

    Raises:
        DatasetError: a file of the Dataset cannot be read as Parquet.
        RecipeError: an unknown check or limit (the nearest is named), or a limit of a wrong kind.
        TypeError: nothing of these; the message names what is taken.
    """
    is_dataset = isinstance(subject, Dataset)
    if client_from or split_from:
        if not isinstance(subject, str | Path):
            raise TypeError("client_from and split_from are of a folder's path")
        tables = Tables.of_clients(subject, client_from=client_from, split_from=split_from)
    else:
        tables = Tables.of(subject)
    found = run_checks(
        tables,
        CHECKS,
        {} if limits is None else limits,
        kind="dataset" if is_dataset or tables.manifest is not None else "tables",
        only=only,
        require=require,
        strict=strict,
        broken=schema.broken,
        progress=progress,
    )
    compared = any(r.name == files.SAME_FILES and r.status == "pass" for r in found.results)
    return replace(found, files=digests_of(tables.manifest or {}) if compared else {})
