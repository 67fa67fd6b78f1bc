"""Systems with their numbers: every system by the same call, with the same truth and metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from fedeval.evaluation import Evaluation, evaluate
from fedeval.metrics import Ask, asked
from fedeval.policy import Policy
from fedeval.protocol import Protocol
from fedeval.setting import Setting
from fedeval.sources import order_of
from fedeval.systems import System
from fedeval.tables import RANK, Table
from fedprep.schema import ITEM_ID, USER_ID

__all__ = [
    "CURVE",
    "NO_CANDIDATE",
    "VALID",
    "Scored",
    "curve_asks",
    "described",
    "embedding_of",
    "score_system",
    "wanted_metrics",
]

DEFAULT_METRICS = ("ndcg", "hr", "recall", "mrr")
DEFAULT_CUTS = (5, 10, 20)

VALID = "valid_recommended"
NO_CANDIDATE = "users_truth_no_candidate"

CURVE = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100)
"""Cut-offs of the curve of a metric over k."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Scored:
    """A system and what `evaluate` found of it, with counts beyond."""

    system: System
    found: Evaluation
    extra: Mapping[str, int] = field(default_factory=dict)

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


def curve_asks(
    headline: Ask, asks: Sequence[Ask], systems: Sequence[System], policy: Policy
) -> list[Ask]:
    """Returns the headline metric at more cut-offs, none beyond the shortest system's longest list."""
    if headline.k is None or headline.metric.kind != "accuracy":
        return []
    stem = headline.text.partition("@")[0]
    own = {ask.k for ask in asks if ask.text.partition("@")[0] == stem and ask.k is not None}
    longest = min(_longest(system.recs, policy) for system in systems)
    return asked(stem, sorted({k for k in CURVE if k <= longest} | own))


def _longest(recs: Table, policy: Policy) -> int:
    """Returns the number of places of the longest list."""
    if order_of(recs, policy) == RANK:
        return int(recs.range(RANK)[1] or 0)
    lengths = recs.rows.lazy().group_by(USER_ID).len().select(pl.col("len").max())
    return int(lengths.collect(engine="streaming").item())


def score_system(
    system: System, setting: Setting, asks: Sequence[Ask], protocol: Protocol
) -> Scored:
    """Returns a system's numbers.

    Raises:
        EvaluationError: its recommendations cannot be used.
    """
    names = [ask.text for ask in asks]
    train = None if setting.dataset is None else setting.train_frame
    found = evaluate(
        system.recs, setting.truth, names, policy=protocol.policy, protocol=protocol, train=train,
        items=_items(setting, asks),
    )  # fmt: skip
    extra = {} if setting.split != "test" else {VALID: _valid_rows(system, setting)}
    if setting.candidates is not None:
        extra[NO_CANDIDATE] = setting.no_candidates[0]
    return Scored(system=system, found=found, extra=extra)


def _items(setting: Setting, asks: Sequence[Ask]) -> pl.DataFrame | None:
    """Returns the Dataset's items, with categories and embeddings where a metric needs them."""
    if setting.dataset is None:
        return None
    needs = {need for ask in asks for need in ask.metric.needs}
    columns = [ITEM_ID, *(["categories"] if "categories" in needs else [])]
    items = setting.dataset.items().select(columns).collect()
    if "embedding" in needs and setting.dataset.modalities:
        modality = embedding_of(setting)
        vectors = setting.dataset.embeddings(modality).collect()
        items = items.join(vectors, on=ITEM_ID, how="left", maintain_order="left")
    return items


def embedding_of(setting: Setting) -> str:
    """Returns the modality whose embeddings diversity is measured in: text where there is one."""
    assert setting.dataset is not None
    modalities = setting.dataset.modalities
    return "text" if "text" in modalities else modalities[0]


def _valid_rows(system: System, setting: Setting) -> int:
    """Returns how many recommended rows the user has in valid."""
    valid = setting.valid
    if not len(valid) or not system.recs.schema[USER_ID].is_integer():
        return 0
    total = 0
    for block in system.recs.blocks((USER_ID, ITEM_ID)):
        inside = block.filter(
            pl.col(USER_ID).is_between(0, valid.n_users - 1),
            pl.col(ITEM_ID).is_between(0, valid.n_items - 1),
        )
        total += int(valid.holds(inside[USER_ID].to_numpy(), inside[ITEM_ID].to_numpy()).sum())
    return total


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
        "counts": {**found.counts, **one.extra},
        "warnings": [*system.warnings, *found.warnings],
    }


def _id(protocol: Any) -> str:
    return str(getattr(protocol, "id", protocol or ""))
