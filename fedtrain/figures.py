"""What a round's training comes to, by the names of `rounds.jsonl`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import polars as pl

    from fedtrain.rounds import Outcome

__all__ = ["figures_of", "n_without_clients"]


def figures_of(outcome: Outcome) -> dict[str, float]:
    """Returns the measures of a round's training: losses, norms and drift of the clients whose numbers are
    fine, rows and bytes of all."""
    fine, rows = outcome.sound, outcome.rows
    sent = {"bytes/up": float(outcome.bytes_up), "bytes/down": float(outcome.bytes_down)}
    if not fine.any():
        return {"rows": float(rows.sum()), **sent, **outcome.figures}
    weight = rows[fine] / rows[fine].sum()
    return {
        "loss/train": float((outcome.loss[fine] * weight).sum()),
        "rows": float(rows.sum()),
        "grad_norm/median": float(np.median(outcome.grad_norm[fine])),
        "grad_norm/p99": float(np.quantile(outcome.grad_norm[fine], 0.99)),
        "grad_norm/clipped": float(outcome.clipped[fine].mean()),
        "update_norm/median": float(np.median(outcome.update_norm[fine])),
        "update_norm/p99": float(np.quantile(outcome.update_norm[fine], 0.99)),
        "drift/mean": outcome.drift,
        **sent,
        **outcome.figures,
    }


def n_without_clients(rounds: pl.DataFrame) -> int:
    """Returns in how many rounds nothing of any client entered the model.

    Args:
        rounds: `round`, `metric`, `value`, as `Run.rounds` returns them.
    """
    there, left = (
        dict(found.select("round", "value").iter_rows())
        for found in (rounds.filter(metric="clients"), rounds.filter(metric="clients/skipped"))
    )
    return sum(value <= left.get(number, 0.0) for number, value in there.items())
