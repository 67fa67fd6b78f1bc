"""Why a client's numbers went wrong: the step, the tensor, and the input that looks guilty."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import torch

from fedtrain.chunks import chunk_of
from fedtrain.engine import train_chunk
from fedtrain.guard import norms, sound

if TYPE_CHECKING:
    from fedtrain.algorithms import Server
    from fedtrain.clients import Clients
    from fedtrain.engine import Work
    from fedtrain.local import Local

__all__ = ["explain", "suspect"]

OUT_OF_SCALE = 20.0
"""A column whose largest value is so many times the median size of all inputs is out of scale."""


def explain(work: Work, server: Server, clients: Clients, client: int, lr_factor: float) -> str:
    """Returns one sentence: which tensor of a client is not finite, after which local step, and why.

    The client's round is done again, alone, with ever fewer steps, until the first bad one is found.
    """
    chunk = chunk_of(work.federation, np.array([client]))

    def after(steps: int) -> Local:
        plan = msgspec.structs.replace(work.plan, local_steps=steps)
        alone = replace(work, plan=plan)
        return train_chunk(alone, server, clients, chunk, lr_factor=lr_factor)

    def fine(local: Local) -> bool:
        answer = work.algorithm.answer(local, work.private)
        return bool(sound(local, answer, norms(answer, local))[0])

    low, high = 0, max(1, int(after(work.plan.local_steps).steps.max()))
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (middle, high) if fine(after(middle)) else (low, middle)
    local = after(high)
    tensor = next(_not_finite(local), "its update's norm")
    blame = suspect(work, client)
    rates = ", ".join(f"{name} {rate:g}" for name, rate in sorted(local.lr.items()))
    why = (
        f"first input to look at: {blame}"
        if blame
        else f"inputs are in order; learning rates: {rates}"
    )
    return (
        f"client {client}: {tensor} is not finite, or beyond reason, after local step {high}; {why}"
    )


def _not_finite(local: Local) -> Iterator[str]:
    """Yields the names of what is not finite: values, then the loss."""
    for group in (local.rows, local.users, local.shared):
        for name, value in group.items():
            if not bool(value.isfinite().all()):
                yield name
    if not bool(local.loss.isfinite().all()):
        yield "the loss"


def suspect(work: Work, client: int | None = None) -> str:
    """Returns the first input column that is not finite, else the one furthest out of scale; "" for none.

    Args:
        work: whose features are looked at.
        client: of its own rows alone; None: of all.
    """
    features, federation = work.features, work.federation
    rows = federation.train.of(np.array([client]))[1] if client is not None else slice(None)
    items = np.unique(federation.train.item_id[rows])
    users = np.unique(federation.slot_user[federation.train.slot[rows]])
    inputs = {
        f"{name} embedding": (value, items, features.has[name], "item")
        for name, value in features.items.items()
    }
    if features.behavior is not None:
        everyone = torch.ones(len(features.behavior), dtype=torch.bool)
        inputs["behavior"] = (features.behavior, users, everyone, "user")
    for name, (value, ids, _, kind) in inputs.items():
        part = value[torch.from_numpy(ids.astype(np.int64)).to(value.device)].cpu()
        bad = (~part.isfinite()).nonzero()
        if len(bad):
            row, column = bad[0].tolist()
            return f"{name}, column {column}, of {kind} {ids[row]} is {float(part[row, column])}"
    sizes = {
        name: float(value[has.to(value.device)].abs().float().median())
        for name, (value, _, has, _) in inputs.items()
    }
    if not sizes:
        return ""
    typical = float(np.median(list(sizes.values())))
    for name, (value, _, _, _) in sorted(inputs.items(), key=lambda pair: -sizes[pair[0]]):
        largest, column = value.abs().amax(0).max(0)
        if float(largest) > OUT_OF_SCALE * max(typical, 1e-12) and float(largest) > 1.0:
            return (
                f"{name}, column {int(column)}, reaches {float(largest):.3g}, where inputs are about "
                f"{typical:.2g}: normalise it ([embed] normalise)"
            )
    return ""
