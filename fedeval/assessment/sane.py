"""Rows of scorers that know nothing, beside the systems, and whether one of them beats chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from fedeval.assessment.scored import Scored
from fedeval.interactions import Interactions, interactions_from
from fedeval.metrics import Ask
from fedeval.sanity import SanityRow, constant, leaks, left_out, memoriser, sanity_rows
from fedeval.setting import Setting
from fedeval.systems import System
from fedeval.tables import SCORE, read_table
from fedprep.schema import ITEM_ID, USER_ID

__all__ = ["Draws", "draws_of", "pool_of", "sanity_lines", "sanity_systems"]


TIED_SHARE = 0.01
"""Share of the first k places that are tied, from which on the order of ids decides numbers of a system."""


@dataclass(frozen=True)
class Draws:
    """How many training negatives a train row draws: `per_row` a round, for so many rounds of its client."""

    per_row: int = 4
    rounds: int = 100


def pool_of(systems: Sequence[System]) -> str:
    """Returns what the training negatives leave out: the leaking pool if any system says so."""
    pools = [system.negative_pool for system in systems if system.negative_pool != "unknown"]
    return "all" if "all" in pools else (pools[0] if pools else "unknown")


def draws_of(systems: Sequence[System], setting: Setting, pool: str) -> Draws:
    """Returns how often the Run that draws most from this pool drew; where none says so, the defaults.

    A client takes part in the rounds whose cohort it is in: the cohorts' sizes over the number of clients.
    """
    found = [
        Draws(system.negatives, rounds)
        for system in systems
        if system.negative_pool == pool
        and system.negatives is not None
        and (rounds := _rounds_of_a_client(system, setting))
    ]
    return max(found, key=lambda draws: draws.per_row * draws.rounds, default=Draws())


def _rounds_of_a_client(system: System, setting: Setting) -> int:
    cohorts = [float(row["value"]) for row in system.rounds if row["metric"] == "clients"]
    if setting.dataset is None or not cohorts:
        return 0
    n_clients = len(setting.dataset.client_ids())
    return max(1, round(sum(cohorts) / max(n_clients, 1)))


def sanity_lines(
    setting: Setting, headline: Ask, pool: str, draws: Draws, seed: int, rivals: Sequence[Scored]
) -> list[dict[str, Any]]:
    """Returns a dict for each scorer and way to treat ties: what it reached, what chance does, in words.

    `leaks` says whether the row makes the numbers of these systems untrue. Where the order of item ids beats
    chance, and in no other way, it decides the numbers of systems with ties in their lists alone: without one
    of those (`TIED_SHARE`) the row beats chance and nothing leaks.

    There is none without a Dataset: chance cannot be told without the items that are ranked.
    """
    truth = _truth(setting)
    if truth is None:
        return []
    rows = sanity_rows(
        setting.train, truth, seen=setting.seen, candidates=setting.candidates, pool=pool,
        per_row=draws.per_row, rounds=draws.rounds, k=headline.k or 10, seed=seed,
    )  # fmt: skip
    of_ids = leaks(rows).of_ids_alone
    return [_line(row, _tied(rivals, headline.k or 10) if of_ids else None) for row in rows]


def _line(row: SanityRow, tied: Sequence[str] | None) -> dict[str, Any]:
    """Returns a row as a dict; `tied`: systems with ties, None where these do not matter."""
    leaking, text = row.beats_chance, row.text
    if row.beats_chance and tied is not None:
        leaking = bool(tied)
        text = (
            f"{text} It decides places of {', '.join(tied)}"
            if tied
            else f"{row.facts}: the order of item ids tells what is relevant, but no list here has ties that "
            "it could decide: the numbers do not rest on it"
        )
    text = text[:1].upper() + text[1:]
    return {
        **asdict(row), "beats_chance": row.beats_chance, "leaks": leaking,
        "text": text if text.endswith(".") else f"{text}.",
    }  # fmt: skip


def _tied(rivals: Sequence[Scored], k: int) -> list[str]:
    """Returns the systems with ties among the first k places of lists, each with how many.

    A tie is a score that the place before has too, the first place after the k-th counted as well.
    """
    found = []
    for one in rivals:
        policy = getattr(one.found.protocol, "policy", None)
        if SCORE not in one.system.recs or getattr(policy, "ties", "") == "average":
            continue
        best = pl.col(SCORE).top_k(k + 1).sort(descending=True)
        lists = one.system.recs.rows.lazy().group_by(USER_ID).agg(best)
        equal = pl.col(SCORE).list.eval(pl.element().diff() == 0).list.sum().sum()
        counted = lists.select(equal.alias("tied"), pl.len().alias("users"))
        tied, users = counted.collect(engine="streaming").row(0)
        if tied >= max(1, TIED_SHARE * users * k):
            found.append(f"{one.name} ({tied:,} tied)")
    return found


def sanity_systems(
    setting: Setting, pool: str, draws: Draws, length: int, seed: int
) -> list[System]:
    """Returns the lists of the scorers that know nothing, to be measured as any other.

    Args:
        setting: whose Dataset they are made on; without one there is none.
        pool: what training negatives leave out; the memoriser needs to know it.
        draws: how many there are.
        length: places in a list.
        seed: of the negatives, which are simulated.
    """
    truth = _truth(setting)
    if truth is None:
        return []
    asked: Any = {
        "k": length, "seen": setting.seen, "candidates": setting.candidates,
        "users": setting.truth[USER_ID].unique().sort().to_numpy(),
    }  # fmt: skip
    found = {"constant": (constant(setting.train, **asked), "gives every item the same score")}
    if pool != "unknown":
        out = left_out(pool, setting.train, setting.seen, truth)
        lists = memoriser(
            setting.train,
            excluded=out,
            per_row=draws.per_row,
            rounds=draws.rounds,
            seed=seed,
            **asked,
        )
        found["memoriser"] = (
            lists,
            "−(times drawn as a training negative); these leave out "
            f"{'nothing' if pool == 'none' else f'{pool} rows'}, "
            f"{draws.per_row} a row, {draws.rounds} round{'s' * (draws.rounds != 1)}, simulated",
        )
    return [
        System(name=name, kind="sanity", text=text, recs=read_table(recs, "recommendations"))
        for name, (recs, text) in found.items()
    ]


def _truth(setting: Setting) -> Interactions | None:
    """Returns the relevant rows whose ids the Dataset has; None where that cannot be said."""
    if setting.dataset is None:
        return None
    pairs = setting.relevant_rows
    if not all(dtype.is_integer() for dtype in pairs.dtypes):
        return None
    sizes = {"n_users": setting.train.n_users, "n_items": setting.train.n_items}
    known = pairs.filter(
        pl.col(USER_ID).is_between(0, sizes["n_users"] - 1),
        pl.col(ITEM_ID).is_between(0, sizes["n_items"] - 1),
    )
    return interactions_from(known, **sizes) if known.height else None
