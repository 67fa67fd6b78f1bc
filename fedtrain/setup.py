"""From a Dataset and a plan to the work of a run: model, algorithm, rows, features, device."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from fedprep.dataset import Dataset
from fedprep.errors import TrainingError
from fedtrain.algorithms import ALGORITHMS, Server
from fedtrain.clients import Clients
from fedtrain.engine import Work
from fedtrain.facts import facts_of, sizes_of
from fedtrain.federation import features_of, federation_of, pooled, positives_of
from fedtrain.models import MODELS
from fedtrain.parameters import initial
from fedtrain.preflight import check_plan, filled
from fedtrain.tasks import TASKS

if TYPE_CHECKING:
    from fedtrain.federation import Federation, Positives
    from fedtrain.plan import Plan

__all__ = ["begin", "device_of", "n_cores", "refuse_invalid", "work_of"]

LEFT_OUT = {"train": ("train",), "leaky": ("train", "valid", "test"), "all": ()}
"""By negative pool: the splits whose items are no negatives of their user."""


def n_cores() -> int:
    """Returns how many cores this process may use, of all where the system does not tell (macOS, Windows)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def refuse_invalid(verdict: Mapping[str, Any] | None, where: str) -> None:
    """Refuses a Dataset whose validation failed.

    Args:
        verdict: on these files (`Dataset.verdict`); None: they were not validated, and nothing is refused.

    Raises:
        TrainingError: it names the checks.
    """
    if verdict is None:
        return
    failed = [check["name"] for check in verdict.get("checks", []) if check["status"] == "fail"]
    if failed:
        shown = ", ".join(failed[:5]) + (f" and {len(failed) - 5} more" if len(failed) > 5 else "")
        raise TrainingError(
            f"the Dataset fails {len(failed)} checks: {shown}",
            where=where,
            hint="see `fedprep validate`, mend it, or train all the same with --allow-invalid",
        )


def work_of(dataset: Dataset, plan: Plan, seed: int, *, recorded: bool = False) -> Work:
    """Returns the work of a run.

    Args:
        dataset, plan, seed: of the run.
        recorded: the plan is a Run's: what it leaves open stays so.

    Raises:
        TrainingError, RecipeError: the plan does not fit the Dataset, itself, or this machine.
    """
    facts = facts_of(dataset)
    plan = plan if recorded else filled(plan, facts)
    check_plan(plan, facts)
    torch.set_num_threads(plan.threads or n_cores())
    device = device_of(plan)
    algorithm = ALGORITHMS[plan.algorithm](**plan.table(plan.algorithm))
    model = MODELS[plan.model](**plan.table(plan.model))
    parameters = model.parameters(sizes_of(plan, facts))
    federation = federation_of(dataset)
    if algorithm.pooled:
        federation = pooled(federation)
    wanted = [name for name in facts.modalities if name in getattr(model, "modalities", ())]
    behavior = algorithm.behavior or bool(getattr(model, "behaves", False))
    return Work(
        federation=federation,
        features=features_of(dataset, wanted, behavior and bool(facts.behavior), device),
        model=model,
        parameters=parameters,
        task=TASKS[plan.loss],
        algorithm=algorithm,
        plan=plan,
        excluded=_excluded(federation, plan),
        seed=seed,
        device=device,
    )


def begin(work: Work) -> tuple[Server, Clients]:
    """Returns what the server and the clients hold before the first round."""
    federation = work.federation
    values = initial(work.parameters, federation.n_items, work.seed)
    server = Server(values={name: value.to(work.device) for name, value in values.items()})
    sizes = federation.n_clients, federation.n_slots
    forgets = work.algorithm.stateless
    clients = Clients.new(*sizes, work.parameters, work.seed, forgets=forgets)
    return server, clients


def device_of(plan: Plan) -> torch.device:
    """Returns the device of a plan: `auto` is CUDA where there is one.

    Raises:
        TrainingError: CUDA is asked for and there is none.
    """
    there = torch.cuda.is_available()
    if plan.device == "cuda" and not there:
        raise TrainingError(
            "this machine has no CUDA device, or this torch cannot use it",
            where="[train] device",
            hint="device = 'cpu', or install a CUDA build of torch",
        )
    return torch.device("cuda" if plan.device != "cpu" and there else "cpu")


def _excluded(federation: Federation, plan: Plan) -> Positives | None:
    splits = LEFT_OUT[plan.negative_pool]
    if not splits:
        return None
    if splits == ("train",):
        return federation.positives
    parts = [federation.splits[name] for name in splits]
    return positives_of(federation.n_slots, federation.n_items, parts)
