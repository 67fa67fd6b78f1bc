"""The systems that are measured: tables of recommendations, and Runs with their manifest and rounds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from fedeval.opening import RECOMMENDATIONS
from fedeval.per_user import same_ids
from fedeval.runs import (
    ROUNDS,
    dataset_of_run,
    is_run,
    negatives_of_run,
    pool_of_run,
    rounds_of_run,
    trained_otherwise,
)
from fedeval.setting import Setting
from fedeval.sources import order_of
from fedeval.spaces import in_dense_ids
from fedeval.tables import RANK, Table, read_table
from fedprep.errors import EvaluationError, nearest
from fedprep.schema import ITEM_ID, USER_ID

__all__ = ["System", "columns_by_system", "named_systems", "read_system"]

MOST_MISSING = 0.1
"""Share of the candidates that a system may leave out, such as cold items."""


@dataclass(frozen=True, eq=False, kw_only=True)
class System:
    """One system: its recommendations, and where they come from.

    kind: `system`, `baseline` or `sanity` · text: what it is, in words · rounds: round, metric, value
    of a Run, in order · negative_pool: what its training negatives leave out, as in `Protocol` ·
    negatives: how many it draws for each train row in a round, where a Run says so ·
    warnings: what a reader of its numbers must know.
    """

    name: str
    recs: Table
    kind: str = "system"
    where: str = ""
    text: str = ""
    seconds: float | None = None
    rounds: Sequence[Mapping[str, Any]] = field(default=())
    negative_pool: str = "unknown"
    negatives: int | None = None
    warnings: tuple[str, ...] = ()


def named_systems(given: Sequence[str]) -> dict[str, str]:
    """Returns the path of each system by name: `NAME=PATH`, or a path that gives the name.

    Equal names get the folder before them, so that two Runs' tables can be told apart.

    Raises:
        EvaluationError: a name twice.
    """
    parts = [_parted(text) for text in given]
    plain = [name or _stem(path) for name, path in parts]
    names = [
        name or (_stem(path) if plain.count(_stem(path)) == 1 else path) for name, path in parts
    ]
    for name in names:
        if names.count(name) > 1:
            raise EvaluationError(
                f"two systems are called '{name}'", hint="name them: first=PATH second=PATH"
            )
    return {name: path for name, (_, path) in zip(names, parts, strict=True)}


def columns_by_system(
    systems: Mapping[str, Any],
    columns: Mapping[str, str] | None = None,
    columns_of: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[str, dict[str, str]]:
    """Returns our column names to a table's own, for each system: `columns`, then what is said of it alone.

    Raises:
        EvaluationError: something is said of a system that is not there.
    """
    said = columns_of or {}
    for name in said:
        if name not in systems:
            raise EvaluationError(f"no system is called '{name}'", hint=nearest(name, systems))
    return {name: {**(columns or {}), **said.get(name, {})} for name in systems}


def _parted(text: str) -> tuple[str, str]:
    name, sign, path = text.partition("=")
    return (name, path) if sign and not Path(text).exists() else ("", text)


def _stem(path: str) -> str:
    place = Path(path)
    if place.name == RECOMMENDATIONS and place.absolute().parent.name:
        return place.absolute().parent.name
    return re.sub(
        r"(\.(gz|zst|parquet|csv|tsv|arrow|feather|ipc|arrows|txt|run|trec))+$",
        "",
        place.absolute().name,
    )


def read_system(
    name: str,
    source: Any,
    setting: Setting,
    columns: Mapping[str, str] | None = None,
    *,
    ids: str = "dataset",
    negative_pool: str = "unknown",
) -> System:
    """Returns a system from a Run's folder, a table's path, or a frame.

    Args:
        name: what it is called.
        source: where it is.
        setting: what it is measured against.
        columns: our name to the table's own.
        ids: how its ids are read, a name in `spaces.READINGS`.
        negative_pool: what its training negatives leave out, unless a Run's manifest says so itself
            (`plan.negative_pool` in the words of `runs.TRAINED`, or `negative_pool` in those of `Protocol`).

    Raises:
        EvaluationError: it cannot be read, its ids are of another kind than the truth's, or it is a Run
            on another Dataset than the setting's.
    """
    run = Path(source) if isinstance(source, str | Path) else None
    if run is not None and run.is_file() and (run.parent / ROUNDS).is_file():
        run = run.parent  # a table in a Run's folder is of this Run
    if run is None or not is_run(run):
        recs = read_table(source, "recommendations", columns)
        recs, warnings = in_dense_ids(recs, setting.dataset, ids, name)
        _refuse_other_ids(name, recs, setting)
        return _among_candidates(
            System(
                name=name,
                recs=recs,
                where=str(run) if run else "",
                negative_pool=negative_pool,
                warnings=warnings,
            ),
            setting,
        )
    _refuse_other_dataset(name, run, setting)
    rounds = rounds_of_run(run)
    otherwise = trained_otherwise(run, rounds)
    system = System(
        name=name,
        recs=read_table(source, "recommendations", columns),
        where=str(run),
        rounds=rounds,
        negative_pool=pool_of_run(run) or negative_pool,
        negatives=negatives_of_run(run),
        warnings=(otherwise,) if otherwise else (),
    )
    return _among_candidates(system, setting)


def _refuse_other_ids(name: str, recs: Table, setting: Setting) -> None:
    for column in (USER_ID, ITEM_ID):
        ours, theirs = setting.truth.schema[column], recs.schema[column]
        if ours.is_integer() != theirs.is_integer():
            source = setting.dataset is not None and theirs == pl.String
            raise EvaluationError(
                f"'{column}' of {name} is {theirs}, and {ours} in the truth",
                where=recs.where,
                expected="ids of one kind in both",
                hint="--ids source, if they are the ids of the raw data" if source else "",
            )


def _among_candidates(system: System, setting: Setting) -> System:
    """Returns the system with the rows of the setting's candidates alone, their ranks closed up.

    Equal scores stay equal, equal ranks as well: whoever makes lists of them counts them.

    Raises:
        EvaluationError: the lists lack more than `MOST_MISSING` of the candidates, as lists of the best of
            all items do: where a candidate that is not there stands cannot be told.
    """
    if setting.candidates is None:
        return system
    recs, wanted = system.recs, len(setting.candidates)
    pairs = setting.candidates.frame().select(USER_ID, ITEM_ID)
    rows = recs.whole()
    pairs = same_ids(same_ids(pairs, rows, USER_ID), rows, ITEM_ID)
    kept = rows.join(pairs, on=[USER_ID, ITEM_ID], how="semi", maintain_order="left")
    found = kept.select(USER_ID, ITEM_ID).n_unique()
    missing = wanted - found
    if missing > MOST_MISSING * wanted:
        raise EvaluationError(
            f"{system.name} ranks {found:,} of the {wanted:,} candidates: where the others "
            "stand cannot be told",
            where=recs.where,
            expected="a row for each candidate of each user",
            hint="let the system score the candidates (fedtrain rank RUN), or --candidates full",
        )
    if order_of(recs, setting.policy) == RANK:
        kept = kept.with_columns(pl.col(RANK).rank("dense").over(USER_ID).cast(pl.Int32))
    warnings = (
        (f"{missing:,} of {wanted:,} candidates have no row: they stand last",) if missing else ()
    )
    return replace(system, recs=recs.of(kept), warnings=(*system.warnings, *warnings))


def _refuse_other_dataset(name: str, run: Path, setting: Setting) -> None:
    theirs = dataset_of_run(run)
    if setting.dataset is None or not theirs or theirs == setting.dataset.id:
        return
    raise EvaluationError(
        f"the Run '{name}' was made on another Dataset: its ids are not those of {setting.dataset.name}",
        where=f"{run}: {theirs[:12]}",
        expected=f"{setting.dataset.id[:12]} of {setting.dataset.path}",
        hint="give the Dataset that it was trained on with --data",
    )
