"""How a number was measured, as one value with a short id that stands beside it.

Two numbers of different protocols cannot be compared: the same model has HR@10 = 0.12 when it ranks all
items and 0.65 when it ranks 100. What the id tells apart is what changes numbers; the cut-offs are
in the names of the metrics and are left out of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args, get_type_hints

import polars as pl

from fedeval.policy import Policy
from fedprep.errors import EvaluationError, nearest
from fedprep.schema import ITEM_ID, USER_ID

__all__ = ["Protocol", "digest_of"]

COLUMNS = (USER_ID, ITEM_ID, "relevance")
"""What tells one truth from another, in this order."""

SAMPLED = (
    "ranked among {n} sampled items and not among all: such values do not estimate those of the full"
    " ranking, and can put the systems in another order (Krichene & Rendle, On Sampled Metrics for Item"
    " Recommendation, KDD 2020)"
)
LEAKING_POOL = (
    "training negatives leave out the test items, so a model can learn what was never drawn: a score that"
    " only counts draws can reach HR@10 = 1"
)

SPLITS = {
    "leave_last_out": "The truth is what each user did last",
    "user_ratio": "The truth is the last share of each user's rows",
    "global_time": "The truth is all rows from one moment on",
    "ratio": "The truth is a random share of all rows",
    "given": "The truth is a table that was given",
}

CANDIDATES = {
    "full": "A user's list is taken to be the best of all items of train",
    "uniform": "A user's relevant items are ranked among {n} others, drawn uniformly",
    "popularity": "A user's relevant items are ranked among {n} others, drawn by popularity",
    "file": "A user's list is of the candidates that a file names",
}

SEEN = {
    "excluded": ", except those the user has already had",
    "kept": ", including those the user has already had",
    "unknown": "; whether lists hold what the user has already had cannot be told",
}

POOLS = {
    "none": "Training negatives are drawn from all items.",
    "train": "Training negatives are drawn from the items outside the user's train rows.",
    "all": "Training negatives are drawn from the items outside all of the user's rows, the truth's too.",
}


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One way to measure.

    split: how the truth was held out, a name in `SPLITS` or another.
    rows: which rows held out are the truth, `test` or `valid`.
    relevant: which rows of it are relevant, `all` or `liked`.
    candidates: what is ranked: all items of train (`full`), a sample (`uniform` or `popularity`) or what
        a `file` names; n_negatives, seed: of the sample; digest: of the candidates, drawn or read.
    negative_pool: what training negatives leave out: the user's `train` rows, `none`, or `all` rows (a
        leak); `unknown` for foreign systems.
    seen: items that the user has in train are `excluded` from lists, or `kept`; `unknown` where nothing
        says what is in train.
    truth: digest of the rows of truth (`digest_of`), "" where it is not known.
    policy: ties, users, duplicates, and the rest of `Policy`.
    k: the cut-offs asked for.

    Example:
        >>> Protocol(split="leave_last_out").id
        'leave_last_out/full/seen-excluded@5662cecd'
    """

    split: str = "given"
    rows: Literal["test", "valid"] = "test"
    relevant: Literal["all", "liked"] = "all"
    candidates: Literal["full", "uniform", "popularity", "file"] = "full"
    n_negatives: int = 0
    seed: int = 0
    digest: str = ""
    negative_pool: Literal["unknown", "train", "none", "all"] = "unknown"
    seen: Literal["excluded", "kept", "unknown"] = "excluded"
    truth: str = ""
    policy: Policy = field(default_factory=Policy)
    k: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        hints = get_type_hints(Protocol)
        for name in ("rows", "relevant", "candidates", "negative_pool", "seen"):
            value, allowed = getattr(self, name), get_args(hints[name])
            if value not in allowed:
                raise EvaluationError(
                    f"no {name.replace('_', ' ')} is called '{value}'", hint=nearest(value, allowed)
                )
        if (self.candidates in ("uniform", "popularity")) != (self.n_negatives > 0):
            raise EvaluationError(
                f"candidates are '{self.candidates}' and n_negatives is {self.n_negatives}",
                expected="a number of negatives where candidates are sampled, and only there",
            )

    @property
    def sampled(self) -> bool:
        """Whether lists are of a few candidates, not of all items."""
        return self.candidates != "full"

    @property
    def id(self) -> str:
        """A short name, equal for equal protocols: `leave_last_out/full/seen-excluded@5662cecd`."""
        facts = {name: value for name, value in self.to_dict().items() if name != "k"}
        facts["policy"] = self.policy.changes()
        for name in ("rows", "digest", "truth"):  # that many have none of
            if facts[name] == getattr(Protocol, name):
                del facts[name]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        truth = self.split + "-valid" * (self.rows == "valid")
        among = self.candidates + (f"-{self.n_negatives}" if self.n_negatives else "")
        return f"{truth}/{among}/seen-{self.seen}@{digest[:8]}"

    def measured(self, policy: Policy, counts: Mapping[str, int], truth: pl.DataFrame) -> Protocol:
        """Returns the protocol as it was kept by a system: what its lists hold, not what was meant.

        Args:
            policy: that its lists were made by.
            counts: of its evaluation: `seen_recommended`, where train was there, and ties.
            truth: its rows, digested where the protocol has no digest yet.
        """
        tied = counts.get("tied_scores") or counts.get("tied_ranks")
        seen = counts.get("seen_recommended")
        return replace(
            self,
            seen="unknown" if seen is None else "kept" if seen else "excluded",
            policy=replace(self.policy, ties=policy.ties) if tied else self.policy,
            truth=self.truth or digest_of(truth),
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns every field as plain values."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        return plain | {"policy": self.policy.to_dict(), "k": list(self.k)}

    def describe(self) -> str:
        """Returns the protocol in plain sentences, for a reader who has never seen one."""
        truth = SPLITS.get(self.split, f"The truth is held out by {self.split}")
        if self.rows == "valid":
            truth = f"The truth is the valid rows of {self.split}, held out for tuning"
        liked = "; only liked rows of it are relevant" if self.relevant == "liked" else ""
        among = CANDIDATES[self.candidates].format(n=self.n_negatives)
        parts = [
            f"{truth}{liked}.",
            f"{among}{SEEN[self.seen]}.",
            self.policy.describe(),
            POOLS.get(self.negative_pool, ""),
        ]
        return " ".join(part for part in parts if part)

    def warning(self) -> str:
        """Returns what must be printed beside every number, "" where there is nothing."""
        parts = []
        if self.sampled:
            n = str(self.n_negatives) if self.n_negatives else "a file's few"
            parts.append(SAMPLED.format(n=n))
        if self.negative_pool == "all":
            parts.append(LEAKING_POOL)
        return "; ".join(parts)


def digest_of(truth: pl.DataFrame, *more: str) -> str:
    """Returns eight digits that tell these rows of truth from others.

    The order of rows and columns, the file's format and the width of numbers do not enter; ids of text
    that are all written as integers are integers. A row without a relevance has relevance 1.

    Args:
        truth: `user_id`, `item_id`, and `relevance` where there is one.
        more: further columns that enter where they are there, such as `rating`.
    """
    columns = []
    for name in (*COLUMNS, *more):
        if name not in truth.columns:
            columns += [pl.lit(1.0).alias(name)] if name in COLUMNS else []
        elif truth.schema[name] == pl.String:
            whole = truth.select(pl.col(name).str.contains(r"^(0|-?[1-9]\d{0,17})$").all()).item()
            columns.append(pl.col(name).cast(pl.Int64) if whole else pl.col(name))
        else:
            kind = pl.Int64 if name in (USER_ID, ITEM_ID) else pl.Float64
            columns.append(pl.col(name).cast(kind))
    rows = truth.select(columns).unique()
    rows = rows.sort(rows.columns)
    found = hashlib.sha256()
    for column in rows.iter_columns():
        found.update(f"{column.name}:{column.dtype}:".encode())
        text = column.dtype == pl.String
        found.update("\n".join(column).encode() if text else column.to_numpy().tobytes())
    return found.hexdigest()[:8]
