"""What the parts of an assessment look at: the systems with their numbers, and how to infer from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from fedeval.assessment.scored import Scored
from fedeval.definitions import entry
from fedeval.metrics import Ask
from fedeval.per_user import with_clients
from fedeval.setting import Setting
from fedeval.statistics import Inference
from fedprep.schema import CLIENT_ID

__all__ = ["Measured"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Measured:
    """Systems and baselines, beside each other.

    rivals: those that compete, so no sanity rows · headline: the metric that pictures and slices show ·
    clients: `user_id`, `client_id` where whole clients are drawn, None where users are.
    """

    rivals: Sequence[Scored]
    setting: Setting
    headline: Ask
    clients: pl.DataFrame | None
    inference: Inference

    @property
    def title(self) -> str:
        """The headline's title, such as "NDCG@10"."""
        return str(entry(self.headline)["title"])

    @property
    def lower_is_better(self) -> bool:
        return self.headline.metric.better == "lower"

    @property
    def n_units(self) -> int:
        """How many users, or clients, intervals and tests draw."""
        per_user = self.rivals[0].found.per_user
        if self.clients is None:
            return per_user.height
        return with_clients(per_user, self.clients)[CLIENT_ID].n_unique()

    @property
    def draws(self) -> dict[str, Any]:
        """How intervals are drawn, as `bootstrap_interval` takes it."""
        how = self.inference
        return {
            "level": how.level,
            "method": how.interval,
            "n_resamples": how.n_resamples,
            "seed": how.seed,
        }
