"""The protocol that all systems of an assessment share."""

from __future__ import annotations

from collections.abc import Sequence

from fedeval.metrics import Ask
from fedeval.protocol import Protocol
from fedeval.setting import Setting

__all__ = ["protocol_of"]


def protocol_of(setting: Setting, asks: Sequence[Ask], negative_pool: str = "unknown") -> Protocol:
    """Returns the protocol of a setting, for these metrics.

    Raises:
        EvaluationError: no such pool of training negatives.
    """
    candidates, n_negatives, seed, digest = "full", 0, 0, ""
    if setting.candidates is not None:
        facts = setting.candidates.facts
        sampled = facts.get("method") in ("uniform", "popularity")
        candidates = facts["method"] if sampled else "file"
        n_negatives, seed = (facts["n_negatives"], facts["seed"]) if sampled else (0, 0)
        digest = "" if sampled else setting.candidates.digest
    return Protocol(
        split=(setting.manifest.get("split") or {}).get("method", "given")
        if setting.split
        else "given",
        rows=setting.split or "test",  # type: ignore[arg-type]
        relevant=setting.relevant,  # type: ignore[arg-type]
        candidates=candidates,  # type: ignore[arg-type]
        n_negatives=n_negatives,
        seed=seed,
        digest=digest,
        negative_pool=negative_pool,  # type: ignore[arg-type]
        k=tuple(sorted({ask.k for ask in asks if ask.k is not None})),
    )
