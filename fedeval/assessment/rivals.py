"""What is measured together: the systems given, baselines fitted on the Dataset, sanity rows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from fedeval.baselines import BASELINES, baseline, embeddings_of
from fedeval.metrics import Ask
from fedeval.setting import Setting
from fedeval.systems import System, read_system
from fedeval.tables import read_table
from fedprep.errors import EvaluationError, FedprepError, nearest
from fedprep.schema import USER_ID, Progress

__all__ = ["ALL", "SHORT", "baseline_names", "gathered", "length_of"]

ALL = "all"
DEFAULT = ("popularity", "itemknn", "ease")

SHORT = {
    "pop": "popularity",
    "itempop": "popularity",
    "client_pop": "client_popularity",
    "recent": "recent_popularity",
    "recent_pop": "recent_popularity",
    "knn": "itemknn",
    "als": "ials",
    "content": "content_knn",
}
"""Short names of baselines."""

LENGTH = 100
"""Places in a list that is made here, at least."""


def baseline_names(wanted: Sequence[str] | None, setting: Setting) -> list[str]:
    """Returns the names of baselines: those wanted, `all`, or (None) those of the Dataset's recipe.

    A recipe that names none means `DEFAULT`; without a Dataset there are none.

    Raises:
        EvaluationError: no such baseline, or some are wanted and there is no Dataset to fit them on.
    """
    if wanted is None:
        recipe = (setting.manifest.get("recipe") or {}).get("eval") or {}
        wanted = recipe.get("baselines", DEFAULT) if setting.dataset is not None else ()
    elif wanted and setting.dataset is None:
        raise EvaluationError(
            "baselines need rows to learn from",
            hint="give the Dataset with --data, or --baselines none",
        )
    names = [SHORT.get(name, name) for name in wanted]
    for name in names:
        if name not in BASELINES and name != ALL:
            raise EvaluationError(
                f"no baseline is called '{name}'", hint=nearest(name, {*BASELINES, *SHORT, ALL})
            )
    return list(dict.fromkeys(BASELINES if ALL in names else names))


def gathered(
    systems: Mapping[str, Any],
    setting: Setting,
    asks: Sequence[Ask],
    wanted: Sequence[str] | None,
    columns: Mapping[str, Mapping[str, str]],
    ids: str,
    negative_pool: str,
    seed: int,
    progress: Progress,
) -> tuple[list[System], list[str]]:
    """Returns systems and baselines, and why baselines of `all` or of the recipe are left out.

    `columns` has our column names to the tables' own, of each system.

    Raises:
        EvaluationError: something that is asked for cannot be had, or there is nothing to measure.
    """
    names = baseline_names(wanted, setting)
    every = [
        read_system(name, source, setting, columns[name], ids=ids, negative_pool=negative_pool)
        for name, source in systems.items()
    ]
    must = wanted is not None and not {ALL} & set(wanted)
    skipped = []
    for place, name in enumerate(names):
        progress(f"baseline {name}", place, len(names))
        called = name if name not in systems else f"{name} (baseline)"
        try:
            every.append(_fitted(name, called, setting, asks, seed))
        except FedprepError as error:
            if must:
                raise
            skipped.append(f"The baseline {name} is left out: {error.what}.")
    if not every:
        raise EvaluationError("there is nothing to measure", hint="give a system, or baselines")
    return every, skipped


def length_of(asks: Sequence[Ask]) -> int:
    """Returns the places of a list that is made here."""
    return max([LENGTH, *(ask.k or 0 for ask in asks)])


def _fitted(name: str, called: str, setting: Setting, asks: Sequence[Ask], seed: int) -> System:
    assert setting.dataset is not None
    begun = time.perf_counter()
    users = setting.truth[USER_ID].unique().sort().to_numpy()
    embeddings: dict[str, Any] = {}
    if name == "content_knn":
        embeddings = embeddings_of(setting.dataset)
    recs = baseline(
        name,
        setting.train,
        embeddings=embeddings,
        seed=seed,
        k=length_of(asks),
        users=users.astype(np.int64),
        seen=setting.seen,
        candidates=setting.candidates,
    )
    return System(
        name=called,
        kind="baseline",
        recs=read_table(pl.DataFrame(recs), "recommendations"),
        seconds=time.perf_counter() - begun,
    )
