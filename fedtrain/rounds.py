"""A round: local training of a cohort chunk by chunk, sums, the server's next values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from fedprep.errors import TrainingError
from fedtrain.algorithms import Answer, Server
from fedtrain.axes import squares, wide
from fedtrain.chunks import Chunk, chunks_of
from fedtrain.compression import COMPRESSIONS, Draws
from fedtrain.engine import Work, train_chunk
from fedtrain.extrapolation import RowWeightedSums, extrapolated, revealed_bytes, watched
from fedtrain.guard import norms, sound
from fedtrain.masked import MaskedSums
from fedtrain.privacy import clip_updates, noise
from fedtrain.secure import ring
from fedtrain.sums import Sums, unit_of
from fedtrain.threads import side_by_side

if TYPE_CHECKING:
    from fedtrain.clients import Clients
    from fedtrain.local import Local
    from fedtrain.plan import Plan

__all__ = [
    "FIGURES",
    "Outcome",
    "bytes_down_of",
    "do_round",
    "drift_of",
    "expected_clients",
    "joined",
    "most_clients",
    "sent_by",
    "unit_of_round",
    "weights",
]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

COPIES_BYTES, CACHED_BYTES = 256 << 20, 8 << 20
"""Copies of shared tensors that are in memory at a time, gradients and moments aside: on an accelerator; on
a CPU, where a step goes over them a dozen times, as many as stay in its cache."""

FIGURES: Mapping[str, type[np.generic]] = {
    "client": np.int64,
    "rows": np.int64,
    "sound": np.bool_,
    "loss": np.float64,
    "update_norm": np.float64,
    "grad_norm": np.float64,
    "clipped": np.float64,
    "bytes_up": np.int64,
    "weight": np.float32,
}
"""What is known of each client after its round: see `Outcome`."""


@dataclass(eq=False, kw_only=True)
class Outcome:
    """What a round gave: the server's next values, and figures of the n clients that trained.

    client: int64 (n,), ids · rows: int64 (n,), train rows · sound: bool (n,), False where its numbers went
    wrong · loss: float64 (n,), mean over the examples of its steps · update_norm, grad_norm, clipped: float64
    (n,): L2 norm of what it sends, mean of its gradients' norms, share of steps clipped · bytes_up,
    bytes_down: of all of them · drift: how far clients are from their mean, root of the weighted mean
    square · figures: what the algorithm tells beside, by name · told: events of it, with what they mean.
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
    figures: Mapping[str, float] = field(default_factory=dict)
    told: Mapping[str, str] = field(default_factory=dict)


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
        cohort: int64 (n,), distinct ids of clients with train rows; of none, the server stays as it is, but
            for the noise of a plan that asks for some.
        lr_factor: the schedule's factor on the clients' learning rates.
        progress: share of the run's rounds that have passed.
        share: float64 (n,): the part of its steps that each does; None: all.
    """
    plan = work.plan
    unit = unit_of_round(work, cohort)
    sums = _sums(work, server, cohort)
    moved = watched(work, server.round_number, clients, cohort)
    revealed = revealed_bytes(work, moved)
    found: list[dict[str, npt.NDArray[np.generic]]] = []
    bytes_down = revealed
    place = np.argsort(cohort)

    def trained(chunk: Chunk) -> tuple[Local, Answer, dict[str, torch.Tensor]]:
        mine = (
            None if share is None else share[place[np.searchsorted(cohort[place], chunk.clients)]]
        )
        local = train_chunk(
            work, server, clients, chunk, lr_factor=lr_factor, progress=progress, share=mine
        )
        return local, *sent_by(work, server, chunk, local)

    chunks = chunks_of(work.federation, cohort, plan.chunk_rows, most_clients(work, server))
    with side_by_side(trained, chunks, work.device) as answers:
        for local, answer, figures in answers:
            weight = weights(plan, figures["rows"], figures["sound"], unit)
            sums.add(answer, local, weight)
            work.algorithm.keep(local, clients, work.private, figures["sound"], answer)
            bytes_down += bytes_down_of(work, local)
            if isinstance(sums, MaskedSums):
                figures["bytes_up"] = torch.full_like(figures["bytes_up"], 8 * sums.n_words)
            figures["weight"] = weight
            found.append({name: value.cpu().numpy() for name, value in figures.items()})
    sums.opened()
    by_name = {
        name: np.concatenate([np.zeros(0, kind), *(part[name] for part in found)])
        for name, kind in FIGURES.items()
    }
    order = np.argsort(by_name["client"])
    by_name = {name: values[order] for name, values in by_name.items()}
    weight_of_all = by_name.pop("weight")
    fine = by_name["sound"]
    rows = by_name["rows"][fine]
    loss = float(by_name["loss"][fine] @ rows / rows.sum()) if len(rows) else float("nan")
    after, figures_of_all, told = extrapolated(
        work,
        joined(work, server, sums, unit),
        clients,
        moved,
        by_name["client"][fine],
        loss,
    )
    return Outcome(
        bytes_up=int(by_name.pop("bytes_up").sum()) + revealed,
        bytes_down=bytes_down,
        drift=drift_of(sums, weight_of_all, by_name["update_norm"]),
        server=after,
        figures=figures_of_all,
        told=told,
        **by_name,
    )


def unit_of_round(work: Work, cohort: Ints) -> float:
    """Returns what one row weighs in a round of this cohort, or one client where all weigh the same."""
    by_rows = work.plan.weights == "rows"
    return unit_of(int(work.federation.train.counts[cohort].sum()) if by_rows else len(cohort))


def weights(plan: Plan, rows: torch.Tensor, fine: torch.Tensor, unit: float) -> torch.Tensor:
    """Returns float32 (C,): what each client weighs, 0 where its numbers went wrong.

    Args:
        rows: int64 (C,), train rows.
        fine: bool (C,).
        unit: `unit_of` the round.
    """
    each = rows if plan.weights == "rows" else torch.ones_like(rows)
    return torch.where(fine, unit * each.to(fine.device).float(), 0.0)


def sent_by(
    work: Work, server: Server, chunk: Chunk, local: Local
) -> tuple[Answer, dict[str, torch.Tensor]]:
    """Returns what the server decodes of a chunk's answers, and figures of its clients (C,) by name."""
    answer = work.algorithm.answer(local, work.private)
    norm = norms(answer, local)
    fine = sound(local, answer, norm)
    answer, bytes_up = _on_its_way(work, server, chunk, local, answer)
    if not bool(fine.all()):
        answer = _without(answer, local, fine)
    steps = local.measured.clamp(min=1)
    return answer, {
        "client": torch.from_numpy(chunk.clients),
        "rows": torch.from_numpy(chunk.n_rows),
        "sound": fine,
        "loss": local.loss / local.used.clamp(min=1),
        "update_norm": norm,
        "grad_norm": local.grad_norm / steps,
        "clipped": local.clipped / steps,
        "bytes_up": bytes_up,
    }


def joined(work: Work, server: Server, sums: Sums, unit: float) -> Server:
    """Returns the server after it joined the sums, with the Gaussian noise of the plan if it asks for any.

    Args:
        work: what stays the same.
        server: what the server holds; its round number is the round's.
        sums: of the answers.
        unit: `unit_of_round`, what the weights in the sums count by.

    Raises:
        TrainingError: noise on what it is no bound for.
    """
    privacy, plan = work.plan.privacy, work.plan
    of_all = work.weight_of_all
    if not work.algorithm.joins:
        return server
    if not privacy.noise_multiplier:
        if not sums.n_answers:
            return server
        if isinstance(sums, RowWeightedSums):
            return work.algorithm.join(server, sums.joining(of_all, unit), plan)
        return work.algorithm.join(server, sums.means(plan.item_mean, of_all, unit=unit), plan)
    if sums.numbers:
        raise TrainingError(
            f"{work.algorithm.name} sends numbers that are not clipped: noise does not hide them",
            where="[train.privacy] noise_multiplier",
            hint="algorithm = 'fedavg'",
        )
    if plan.weights != "uniform" or plan.item_mean == "touched":
        raise TrainingError(
            "with noise every client weighs the same, and what its sums are divided by is fixed",
            where="[train.privacy] noise_multiplier",
            expected="weights = 'uniform' and item_mean = 'cohort' or 'sum'",
        )
    for prefix in ("", *work.algorithm.beside):
        for name, value in server.values.items():  # a round without an answer is noise alone
            if name not in work.private:
                sums.values.setdefault(prefix + name, torch.zeros_like(value, dtype=torch.int64))
                if work.parameters[name].scope == "item":
                    sums.tables.add(prefix + name)

    def noised(name: str, total: torch.Tensor) -> torch.Tensor:
        deviation = privacy.noise_multiplier * privacy.clip
        drawn = noise(tuple(total.shape), work.seed, server.round_number, name, deviation)
        return total + drawn.to(total.device)

    means = sums.means(
        plan.item_mean, of_all, unit=unit, expected=expected_clients(work), noised=noised
    )
    return work.algorithm.join(server, means, plan)


def expected_clients(work: Work) -> int:
    """Returns how many clients a round has in the mean: what sums with noise are divided by."""
    return work.plan.clients_per_round or int(work.may_train.sum())


def _sums(work: Work, server: Server, cohort: Ints) -> Sums:
    n_items = work.federation.n_items
    if work.algorithm.row_weights is not None:
        return RowWeightedSums(n_items, work.algorithm.row_weights)
    if not work.plan.secure.enabled or not work.algorithm.joins or not len(cohort):
        return Sums(n_items)  # nothing is sent: there is nothing to hide
    return MaskedSums(n_items, ring(cohort, server.round_number, work.seed))


def most_clients(work: Work, server: Server) -> int:
    """Returns how many clients' copies of the shared tensors are in memory at once."""
    each = sum(
        4 * server.values[name].numel()
        for name, parameter in work.parameters.items()
        if parameter.scope == "shared"
    )
    most = CACHED_BYTES if work.device.type == "cpu" else COPIES_BYTES
    return max(1, most // each) if each else len(work.federation.train.counts)


def _on_its_way(
    work: Work, server: Server, chunk: Chunk, local: Local, answer: Answer
) -> tuple[Answer, torch.Tensor]:
    """Returns the answer as the server decodes it, and int64 (C,): its bytes.

    First compressed, then clipped: rounding may push a norm above its bound.
    """
    plan = work.plan
    draws = Draws(work.seed, server.round_number, chunk.clients)
    shared, rows, size = COMPRESSIONS[plan.compression.method](
        answer.shared, answer.rows, local.row_client, local.n_clients, plan.compression, draws
    )
    if plan.privacy.clip:
        shared, rows, _, _ = clip_updates(
            shared, rows, local.row_client, local.n_clients, plan.privacy.clip
        )
    if answer.new is not None:  # a bit a row
        size = size + -(-torch.bincount(local.row_client, minlength=local.n_clients) // 8)
    return replace(answer, shared=shared, rows=rows), size


def _without(answer: Answer, local: Local, fine: torch.Tensor) -> Answer:
    """Returns the answer with zeros in place of clients whose numbers went wrong: 0 · NaN is no 0."""
    by_row = fine[local.row_client]
    return replace(
        answer,
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


def bytes_down_of(work: Work, local: Local) -> int:
    """Returns the bytes that the server sends a chunk: shared tensors to each, the rows that each touches."""
    names = local.sent.keys() - work.private
    shared = sum(local.sent[name].numel() for name in names & local.shared.keys())
    in_row = sum(local.sent[name].shape[1:].numel() for name in names & local.rows.keys())
    ids = local.downloaded if names & local.rows.keys() else 0
    of_each = 1 + len(work.algorithm.beside)
    return 4 * (of_each * (shared + in_row * local.downloaded) + ids)


def drift_of(sums: Sums, weight: Floats, norm: Floats) -> float:
    """Returns the root of the mean square distance of the clients' changes from the mean change.

    The mean of squares less the square of the mean, where a row's mean is over the clients that have it.
    """
    total = float(weight.sum())
    if not total:
        return float("nan")
    square = float((weight * np.where(weight > 0, norm, 0.0) ** 2).sum()) / total
    for name, value in sums.means("touched").values.items():
        if name in sums.tables and sums.touched is not None:
            square -= float((squares(value) * sums.touched).sum()) / max(sums.weight, 1)
        else:
            square -= float(value.square().sum())
    return float(np.sqrt(max(square, 0.0)))
