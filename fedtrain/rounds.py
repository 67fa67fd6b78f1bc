"""A round: local training of a cohort chunk by chunk, sums, the server's next values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from fedtrain.algorithms import Answer, Server
from fedtrain.axes import squares, wide
from fedtrain.chunks import Chunk, chunks_of
from fedtrain.compression import COMPRESSIONS, Draws
from fedtrain.engine import Work, train_chunk
from fedtrain.guard import norms, sound
from fedtrain.privacy import clip_updates, noise
from fedtrain.sums import Sums

if TYPE_CHECKING:
    from fedtrain.algorithms import Means
    from fedtrain.clients import Clients
    from fedtrain.local import Local

__all__ = ["Outcome", "do_round"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

COPIES_BYTES = 256 << 20
"""Copies of shared tensors that are in memory at a time, gradients and moments aside."""


@dataclass(eq=False, kw_only=True)
class Outcome:
    """What a round gave: the server's next values, and figures of the n clients that trained.

    client: int64 (n,), ids · rows: int64 (n,), train rows · sound: bool (n,), False where its numbers went
    wrong · loss: float64 (n,), mean over the examples of its steps · update_norm, grad_norm, clipped: float64
    (n,): L2 norm of what it sends, mean of its gradients' norms, share of steps clipped · bytes_up,
    bytes_down: of all of them · drift: how far clients are from their mean, root of the weighted mean square.
    """

    server: Server
    client: Ints
    rows: Ints
    sound: npt.NDArray[np.bool_]
    loss: Floats
    update_norm: Floats
    grad_norm: Floats
    clipped: Floats
    bytes_up: int
    bytes_down: int
    drift: float


def do_round(
    work: Work,
    server: Server,
    clients: Clients,
    cohort: Ints,
    *,
    lr_factor: float = 1.0,
    progress: float = 0.0,
    share: Floats | None = None,
) -> Outcome:
    """Returns the outcome of a round; what clients keep is written to `clients`.

    Args:
        work: what stays the same.
        server: what the server holds; its round number is the round's.
        clients: what the clients hold.
        cohort: int64 (n,), distinct ids of clients with train rows.
        lr_factor: the schedule's factor on the clients' learning rates.
        progress: share of the run's rounds that have passed.
        share: float64 (n,): the part of its steps that each does; None: all.
    """
    plan, train = work.plan, work.federation.train
    largest = train.counts[cohort].max(initial=1)
    sums = Sums(work.federation.n_items)
    found: list[dict[str, npt.NDArray[np.generic]]] = []
    bytes_down = 0
    place = np.argsort(cohort)
    for chunk in chunks_of(work.federation, cohort, plan.chunk_rows, _most_clients(work, server)):
        mine = (
            None if share is None else share[place[np.searchsorted(cohort[place], chunk.clients)]]
        )
        local = train_chunk(
            work, server, clients, chunk, lr_factor=lr_factor, progress=progress, share=mine
        )
        answer = work.algorithm.answer(local, work.private)
        norm = norms(answer, local)
        fine = sound(local, norm)
        rows = torch.from_numpy(chunk.n_rows)
        weight = (rows / largest).float() if plan.weights == "rows" else torch.ones(len(rows))
        weight = torch.where(fine, weight.to(work.device), 0.0)
        answer, bytes_up = _on_its_way(work, server, chunk, local, answer)
        if not bool(fine.all()):
            answer = _without(answer, local, fine)
        sums.add(answer, local, weight)
        work.algorithm.keep(local, clients, work.private, fine)
        bytes_down += _bytes_down(work, local)
        steps = local.measured.clamp(min=1)
        figures = {
            "client": torch.from_numpy(chunk.clients),
            "rows": rows,
            "sound": fine,
            "loss": local.loss / local.used.clamp(min=1),
            "update_norm": norm,
            "grad_norm": local.grad_norm / steps,
            "clipped": local.clipped / steps,
            "bytes_up": bytes_up,
            "weight": weight,
        }
        found.append({name: value.cpu().numpy() for name, value in figures.items()})
    figures_ = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    order = np.argsort(figures_["client"])
    figures_ = {name: values[order] for name, values in figures_.items()}
    means = sums.means(plan.item_mean, work.federation.n_clients)
    after = server
    if work.algorithm.joins and sums.n_answers:
        after = work.algorithm.join(server, _noised(work, server, means, len(cohort)), plan)
    weight = figures_.pop("weight")
    return Outcome(
        server=after,
        bytes_up=int(figures_.pop("bytes_up").sum()),
        bytes_down=bytes_down,
        drift=_drift(sums, means, weight, figures_["update_norm"]),
        **figures_,
    )


def _most_clients(work: Work, server: Server) -> int:
    """Returns how many clients' copies of the shared tensors are in memory at once."""
    each = sum(
        4 * server.values[name].numel()
        for name, parameter in work.parameters.items()
        if parameter.scope == "shared"
    )
    return max(1, COPIES_BYTES // each) if each else len(work.federation.train.counts)


def _on_its_way(
    work: Work, server: Server, chunk: Chunk, local: Local, answer: Answer
) -> tuple[Answer, torch.Tensor]:
    """Returns the answer as the server decodes it (clipped, compressed), and int64 (C,): its bytes."""
    plan = work.plan
    shared, rows = answer.shared, answer.rows
    if plan.privacy.clip:
        shared, rows, _, _ = clip_updates(
            shared, rows, local.row_client, local.n_clients, plan.privacy.clip
        )
    draws = Draws(work.seed, server.round_number, chunk.clients)
    compress = COMPRESSIONS[plan.compression.method]
    shared, rows, size = compress(
        shared, rows, local.row_client, local.n_clients, plan.compression, draws
    )
    return Answer(shared=shared, rows=rows, numbers=answer.numbers), size


def _without(answer: Answer, local: Local, fine: torch.Tensor) -> Answer:
    """Returns the answer with zeros in place of clients whose numbers went wrong: 0 · NaN is no 0."""
    by_row = fine[local.row_client]
    return Answer(
        shared={
            name: torch.where(wide(fine, value), value, 0.0)
            for name, value in answer.shared.items()
        },
        rows={
            name: torch.where(wide(by_row, value), value, 0.0)
            for name, value in answer.rows.items()
        },
        numbers={name: torch.where(fine, value, 0.0) for name, value in answer.numbers.items()},
    )


def _noised(work: Work, server: Server, means: Means, n: int) -> Means:
    """Returns the means with the Gaussian noise of the plan, if it asks for any."""
    privacy = work.plan.privacy
    if not privacy.noise_multiplier:
        return means
    deviation = privacy.noise_multiplier * privacy.clip / n
    for name, value in means.values.items():
        drawn = noise(tuple(value.shape), work.seed, server.round_number, name, deviation)
        value += drawn.to(value.device)
    return means


def _bytes_down(work: Work, local: Local) -> int:
    """Returns the bytes that the server sends a chunk: shared tensors to each, the rows that each touches."""
    private, total = work.private, 0
    for name, value in local.sent.items():
        if name not in private:
            total += 4 * value.numel()
    if local.rows:
        total += 4 * len(local.row_item)
    return total


def _drift(sums: Sums, means: Means, weight: Floats, norm: Floats) -> float:
    """Returns the root of the mean square distance of the clients' changes from the mean change.

    The mean of squares less the square of the mean, where a row's mean is over the clients that have it.
    """
    total = float(weight.sum())
    if not total:
        return float("nan")
    square = float((weight * np.where(weight > 0, norm, 0.0) ** 2).sum()) / total
    for name, value in means.values.items():
        if name in sums.tables and sums.touched is not None:
            square -= float((squares(value) * sums.touched).sum()) / max(sums.weight, 1)
        else:
            square -= float(value.square().sum())
    return float(np.sqrt(max(square, 0.0)))
