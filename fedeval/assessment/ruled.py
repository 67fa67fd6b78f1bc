"""The protocol that all systems of an assessment share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from fedeval.metrics import Ask
from fedeval.opening import opened
from fedeval.protocol import Protocol, digest_of
from fedeval.runs import is_run, sample_of_run
from fedeval.setting import Setting
from fedprep.errors import EvaluationError
from fedprep.schema import USER_ID

__all__ = ["of_sample", "protocol_of"]


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
        digest = setting.candidates.digest
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
        seen="unknown" if setting.dataset is None else "excluded",
        truth=digest_of(
            setting.truth,
            *sorted(
                {name for ask in asks if ask.metric.kind == "rows" for name in ask.metric.target}
                - {"relevance"}
            ),
        ),
        policy=setting.policy,
        k=tuple(sorted({ask.k for ask in asks if ask.k is not None})),
    )


def of_sample(systems: Mapping[str, Any], setting: Setting) -> tuple[Setting, list[dict[str, str]]]:
    """Returns the setting of the users that Runs have ranked for, and the notice that it is a sample.

    Where all Runs have lists of everybody, the setting as it is. Who has no list for having not been drawn
    scores 0 for no reason of the system: all systems are measured on those who were drawn.

    Raises:
        EvaluationError: the Runs have drawn other users.
    """
    if setting.split == "valid":
        return setting, []
    drawn: dict[tuple[int, int, int], list[str]] = {}
    users: pl.Series | None = None
    for name, source in systems.items():
        if not isinstance(source, str | Path):
            continue
        run = Path(source) if is_run(Path(source)) else Path(source).parent
        sample = sample_of_run(run) if is_run(run) else None
        if sample is not None:
            drawn.setdefault(sample, []).append(name)
            lists = opened(run, "recommendations")[0].lazy()
            users = lists.select(pl.col(USER_ID).unique()).collect()[USER_ID]
    if len(drawn) > 1:
        told = "; ".join(
            f"{', '.join(names)}: {n:,} of {everybody:,} by seed {seed}"
            for (n, everybody, seed), names in drawn.items()
        )
        raise EvaluationError(
            f"the Runs rank for other samples of the users ({told}): their numbers cannot be compared",
            expected="Runs of the same test_users and seed, or of all users",
        )
    if users is None:
        return setting, []
    ((n, everybody, seed),) = drawn
    truth = setting.truth.filter(pl.col(USER_ID).is_in(users.to_list()))
    among = setting.candidates
    kept = replace(
        setting,
        truth=truth,
        candidates=None if among is None else among.of_users(users.to_numpy()),
    )
    text = (
        f"A sample: {n:,} of {everybody:,} users, drawn by seed {seed} (test_users of the Run); all systems "
        "are measured on these users alone."
    )
    return kept, [{"level": "warn", "text": text}]
