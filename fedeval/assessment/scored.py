"""Systems with their numbers: every system by the same call, with the same truth and metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from fedeval.evaluation import Evaluation, evaluate
from fedeval.metrics import Ask, asked
from fedeval.setting import Setting
from fedeval.systems import System
from fedeval.tables import RANK, Table
from fedprep.schema import ITEM_ID, USER_ID

__all__ = [
    "CURVE",
    "Scored",
    "curve_asks",
    "described",
    "score_system",
    "seen_rows",
    "wanted_metrics",
]

DEFAULT_METRICS = ("ndcg", "hr", "recall", "mrr")
DEFAULT_CUTS = (5, 10, 20)

CURVE = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100)
"""Cut-offs of the curve of a metric over k."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Scored:
    """A system and what `evaluate` found of it."""

    system: System
    found: Evaluation

    @property
    def name(self) -> str:
        return self.system.name


def wanted_metrics(
    setting: Setting, metrics: Sequence[str] | None, k: Sequence[int] | None
) -> list[Ask]:
    """Returns the metrics asked for; what is not said is as the Dataset's recipe has it in `[eval]`.

    Raises:
        EvaluationError: no such metric.
    """
    recipe = (setting.manifest.get("recipe") or {}).get("eval") or {}
    names = metrics or recipe.get("metrics") or DEFAULT_METRICS
    return asked(names, k or recipe.get("k") or DEFAULT_CUTS)


def curve_asks(headline: Ask, asks: Sequence[Ask], systems: Sequence[System]) -> list[Ask]:
    """Returns the headline metric at more cut-offs, none beyond the shortest system's longest list."""
    if headline.k is None:
        return []
    stem = headline.text.partition("@")[0]
    own = {ask.k for ask in asks if ask.text.partition("@")[0] == stem and ask.k is not None}
    longest = min(_longest(system.recs) for system in systems)
    return asked(stem, sorted({k for k in CURVE if k <= longest} | own))


def _longest(recs: Table) -> int:
    """Returns the number of places of the longest list."""
    if RANK in recs:
        return int(recs.range(RANK)[1])
    lengths = recs.rows.lazy().group_by(USER_ID).len().select(pl.col("len").max())
    return int(lengths.collect(engine="streaming").item())


def score_system(system: System, setting: Setting, asks: Sequence[Ask], protocol: Any) -> Scored:
    """Returns a system's numbers.

    Raises:
        EvaluationError: its recommendations cannot be used.
    """
    found = evaluate(
        system.recs.whole(), setting.truth, [ask.text for ask in asks], protocol=protocol
    )
    return Scored(system=system, found=found)


def seen_rows(rows: pl.DataFrame, setting: Setting) -> int | None:
    """Returns how many (user, item) rows are of train (or valid); None where that is not known.

    Args:
        rows: `user_id` and `item_id`, recommended or relevant.
        setting: whose Dataset says what is seen.
    """
    if setting.dataset is None:
        return None
    if not all(rows.schema[c].is_integer() for c in (USER_ID, ITEM_ID)):
        return None
    seen = setting.seen
    inside = rows.filter(
        pl.col(USER_ID).is_between(0, seen.n_users - 1),
        pl.col(ITEM_ID).is_between(0, seen.n_items - 1),
    )
    return int(seen.holds(inside[USER_ID].to_numpy(), inside[ITEM_ID].to_numpy()).sum())


def described(one: Scored, asks: Sequence[Ask]) -> dict[str, Any]:
    """Returns a system's entry: name, kind, values (without intervals), counts, warnings."""
    system, found = one.system, one.found
    return {
        "name": system.name,
        "kind": system.kind,
        "text": system.text,
        "where": system.where,
        "seconds": system.seconds,
        "protocol": _id(found.protocol),
        "values": {
            ask.text: {
                "value": found.mean[ask.text],
                "low": None,
                "high": None,
                "reason": found.reasons.get(ask.text, ""),
            }
            for ask in asks
        },
        "counts": dict(found.counts),
        "warnings": list(found.warnings),
    }


def _id(protocol: Any) -> str:
    return str(getattr(protocol, "id", protocol or ""))
