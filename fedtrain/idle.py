"""Settings that change nothing: what a plan sets and this run never reads.

A key that nothing reads is a mistake that no error tells of: a rate of rows that the model has not, negatives
of a model that draws none, a table of a model that is not trained. They are said, not refused: a recipe that
is run with another model or algorithm has such keys of good right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from fedtrain.settings import plan_defaults

if TYPE_CHECKING:
    from fedtrain.engine import Work
    from fedtrain.plan import Plan

__all__ = ["READS", "READS_OF_MODELS", "flat", "idle_settings"]


@dataclass(frozen=True)
class Reader:
    """Who reads a key: whether there is one in a run, and who it would be."""

    there: Callable[[Work], bool]
    who: str


def _scope(scope: str) -> Callable[[Work], bool]:
    return lambda work: any(p.scope == scope for p in work.parameters.values())


def _one_of(key: str, *values: str) -> Callable[[Work], bool]:
    return lambda work: getattr(work.plan, key) in values


def _draws(work: Work) -> bool:
    return work.task.implicit and work.model.examples != "bags"


def _joins(work: Work) -> bool:
    return work.algorithm.joins


def _sends_rows(work: Work) -> bool:
    rows = {name for name, p in work.parameters.items() if p.scope == "item"}
    return work.algorithm.joins and bool(rows - work.private)


def _cohorts(work: Work) -> bool:
    return not work.algorithm.pooled


def _server(*names: str) -> Reader:
    there = _one_of("server_optimizer", *names)
    return Reader(lambda work: _joins(work) and there(work), f"server_optimizer = {_or(names)}")


def _or(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


PLATEAU = Reader(_one_of("schedule", "plateau"), "schedule = plateau")
SERVER = Reader(_joins, "an algorithm whose clients send something")
COHORTS = Reader(_cohorts, "an algorithm that draws clients")
NEGATIVES = Reader(_draws, "a task and model that draw negatives")
NOISE = Reader(lambda work: work.plan.privacy.noise_multiplier > 0, "privacy.noise_multiplier > 0")
STOP = Reader(lambda work: bool(work.plan.stop.metric), "stop.metric")

READS: Mapping[str, Reader] = {
    "lr_user": Reader(_scope("user"), "a model with rows of users"),
    "lr_item": Reader(_scope("item"), "a model with rows of items"),
    "lr_head": Reader(
        lambda work: any(p.head for p in work.parameters.values()), "a model with a head"
    ),
    "momentum": Reader(_one_of("optimizer", "momentum", "adam"), "optimizer = momentum or adam"),
    "server_optimizer": SERVER,
    "server_lr": SERVER,
    "server_momentum": _server("momentum", "adam", "yogi"),
    "server_beta2": _server("adam", "yogi"),
    "server_tau": _server("adam", "yogi", "adagrad"),
    "item_mean": Reader(_sends_rows, "clients that send rows of items"),
    "weights": SERVER,
    "negatives": NEGATIVES,
    "negative_pool": NEGATIVES,
    "max_history": Reader(
        lambda work: work.model.examples == "sequences", "a model of sequences (sasrec)"
    ),
    "clients_per_round": Reader(
        lambda work: _cohorts(work) or not work.plan.clients_per_round, COHORTS.who
    ),
    "sampler": COHORTS,
    "schedule_floor": Reader(
        _one_of("schedule", "cosine", "plateau"), "schedule = cosine or plateau"
    ),
    "schedule_metric": PLATEAU,
    "schedule_mode": PLATEAU,
    "schedule_patience": PLATEAU,
    "schedule_factor": PLATEAU,
    "rollback_factor": Reader(_one_of("on_nonfinite", "rollback"), "on_nonfinite = rollback"),
    "mixed_precision": Reader(lambda work: work.device.type == "cuda", "a CUDA device"),
    "faults.straggler_work": Reader(
        lambda work: work.plan.faults.stragglers > 0, "faults.stragglers > 0"
    ),
    "privacy.delta": NOISE,
    "privacy.accountant": NOISE,
    "privacy.clip": SERVER,
    "secure.enabled": SERVER,
    "compression.method": SERVER,
    "compression.share": Reader(
        lambda work: work.plan.compression.method == "topk", "compression.method = topk"
    ),
    "stop.min_delta": STOP,
    "stop.mode": STOP,
}
"""Keys of a plan that not every run reads. All others are read always, or refused by `preflight`."""


def _model(**wanted: Any) -> Callable[[Work], bool]:
    return lambda work: all(getattr(work.model, key) == value for key, value in wanted.items())


def _modalities(least: int) -> Callable[[Work], bool]:
    return lambda work: len(getattr(work.model, "modalities", ())) >= least


READS_OF_MODELS: Mapping[str, Reader] = {
    "two_tower.hidden": Reader(_model(head="mlp"), "head = mlp"),
    "two_tower.dropout": Reader(_model(head="mlp"), "head = mlp"),
    "two_tower.temperature": Reader(_model(head="cosine"), "head = cosine"),
    "two_tower.fusion": Reader(_modalities(2), "two modalities"),
    "two_tower.modality_dropout": Reader(_modalities(1), "a modality"),
    "two_tower.start": Reader(
        lambda work: any(getattr(work.model, key) for key in ("item_id", "user_id")),
        "item_id or user_id",
    ),
    "ncf.dropout": Reader(lambda work: bool(getattr(work.model, "n_layers", 1)), "a perceptron"),
    "lightgcn.hidden": Reader(lambda work: not _model(layers=0)(work), "a layer"),
    "sasrec.heads": Reader(lambda work: not _model(blocks=0)(work), "a block"),
    "mult_vae.annealing": Reader(lambda work: not _model(kl_weight=0.0)(work), "a kl_weight"),
    "rating_vae.annealing": Reader(lambda work: not _model(kl_weight=0.0)(work), "a kl_weight"),
    "rating_vae.hidden_only": Reader(lambda work: not _model(dropout=0.0)(work), "a dropout"),
}
"""Keys of a model that other keys of it make idle."""


def idle_settings(work: Work) -> list[str]:
    """Returns what the plan sets and the run does not read: `lr_user (for a model with rows of users)`.

    A key is set where it has another value than a plan that names the algorithm alone.
    """
    usual, own = flat(plan_defaults(work.plan.algorithm)), flat(work.plan)
    found = [
        f"{key} (for {reader.who})"
        for key, reader in READS.items()
        if own[key] != usual[key] and not reader.there(work)
    ]
    used = {work.plan.algorithm, work.plan.model}
    for name, table in work.plan.tables.items():
        if name not in used and table:
            found.append(f"[train.{name}] (neither the algorithm nor the model)")
            continue
        for key in table:
            reader = READS_OF_MODELS.get(f"{name}.{key}")
            if reader is not None and not reader.there(work):
                found.append(f"{name}.{key} (for {reader.who})")
    return found


def flat(plan: Plan) -> dict[str, Any]:
    """Returns the keys of a plan with their values; those of its tables with a point."""
    found: dict[str, Any] = {}
    for key, value in msgspec.structs.asdict(plan).items():
        if isinstance(value, msgspec.Struct):
            found |= {
                f"{key}.{inner}": each for inner, each in msgspec.structs.asdict(value).items()
            }
        else:
            found[key] = value
    return found
