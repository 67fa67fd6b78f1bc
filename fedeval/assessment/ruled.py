"""The protocol that all systems of an assessment share."""

from __future__ import annotations

from collections.abc import Sequence

from fedeval.metrics import Ask
from fedeval.protocol import Protocol
from fedeval.setting import Setting

__all__ = ["protocol_of"]


def protocol_of(setting: Setting, asks: Sequence[Ask]) -> Protocol:
    """Returns the protocol of a setting, for these metrics."""
    split = (
        (setting.manifest.get("split") or {}).get("method", "given") if setting.split else "given"
    )
    cuts = tuple(sorted({ask.k for ask in asks if ask.k is not None}))
    relevant = "liked" if setting.relevant == "liked" else "all"
    facts = None if setting.candidates is None else setting.candidates.facts
    if facts is None:
        return Protocol(split=split, relevant=relevant, k=cuts)  # type: ignore[arg-type]
    method = facts.get("method", "file")
    if method not in ("uniform", "popularity"):
        return Protocol(split=split, relevant=relevant, candidates="file", k=cuts)  # type: ignore[arg-type]
    return Protocol(
        split=split,
        relevant=relevant,  # type: ignore[arg-type]
        candidates=method,
        n_negatives=int(facts["n_negatives"]),
        seed=int(facts["seed"]),
        k=cuts,
    )
