"""Why a client's numbers went wrong: the step, the tensor, and the input that looks guilty."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt
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

TIMES = 2.0
"""An input is in scale up to so many times longer or shorter than it is at length 1, or at deviation 1."""


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
    """Returns the first input column that is not finite, else the input furthest out of scale; "" for none.

    Args:
        work: whose features are looked at.
        client: of its own rows alone; None: of all train rows.
    """
    inputs = _inputs(work)
    train = work.federation.train
    rows = train.of(np.array([client]))[1] if client is not None else slice(None)
    looked = {
        "item": np.unique(train.item_id[rows]),
        "user": np.unique(work.federation.slot_user[train.slot[rows]]),
    }
    for name, (value, has, kind) in inputs.items():
        own = np.intersect1d(looked[kind], has)
        part = value[torch.from_numpy(own).to(value.device)]
        bad = (~part.isfinite()).nonzero()
        if len(bad):
            row, column = bad[0].tolist()
            return f"{name}, column {column}, of {kind} {own[row]} is {float(part[row, column])}"
    return _out_of_scale(
        {
            name: _length(value[torch.from_numpy(has).to(value.device)])
            for name, (value, has, _) in inputs.items()
        }
    )


def _inputs(work: Work) -> dict[str, tuple[torch.Tensor, npt.NDArray[np.int64], str]]:
    """Returns each input's vectors, the ids that have one, and whose ids they are."""
    features = work.features
    inputs = {
        name: (value, np.flatnonzero(features.has[name].cpu().numpy()), "item")
        for name, value in features.items.items()
    }
    if features.behavior is not None:
        users = np.unique(work.federation.slot_user[work.federation.slot_rows > 0])
        inputs["behavior"] = (features.behavior, users.astype(np.int64), "user")
    return inputs


def _length(part: torch.Tensor) -> tuple[float, float, int, float]:
    """Returns of vectors (n, d) the root mean square length, what that is at deviation 1, the column of the
    largest value, and that value; vectors that are not finite are left out."""
    part = part[part.isfinite().all(1)]
    if not len(part):
        return 1.0, 1.0, 0, 0.0
    length = float(part.double().square().sum(1).mean().sqrt())
    varying = int((part.amax(0) > part.amin(0)).sum())
    largest, column = part.abs().amax(0).max(0)
    return length, float(np.sqrt(max(varying, 1))), int(column), float(largest)


def _out_of_scale(lengths: Mapping[str, tuple[float, float, int, float]]) -> str:
    """Returns the input furthest from length 1 and from deviation 1; "" where all are near one of them."""
    furthest = {
        name: min(abs(np.log(max(length, 1e-12) / usual)) for usual in (1.0, standardised))
        for name, (length, standardised, _, _) in lengths.items()
    }
    name = max(furthest, key=furthest.__getitem__, default="")
    if not name or furthest[name] <= np.log(TIMES):
        return ""
    length, standardised, column, largest = lengths[name]
    return (
        f"{name}, whose vectors are {length:.3g} long, column {column} up to {largest:.3g}, where "
        f"normalised ones have 1 or {standardised:.3g}: normalise it ([embed.{name}] normalise)"
    )
