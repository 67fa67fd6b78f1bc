"""A round in two halves, as nodes and a server do it: what a client sends, and what the server makes of it.

The own engine does both in one place (`fedtrain.rounds.do_round`), for many clients at once. Here a client
does its half alone, by the same functions, and the server adds up what arrives, in any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import torch

from fedtrain import rounds
from fedtrain.chunks import chunks_of
from fedtrain.engine import train_chunk
from fedtrain.guard import norms, sound
from fedtrain.rounds import Outcome
from fedtrain.sums import Sums

if TYPE_CHECKING:
    from fedtrain.algorithms import Answer, Server
    from fedtrain.clients import Clients
    from fedtrain.engine import Work

__all__ = ["FIGURES", "Part", "join_parts", "part_of"]

FIGURES: Mapping[str, type[np.generic]] = {
    "client": np.int64,
    "rows": np.int64,
    "sound": np.bool_,
    "loss": np.float64,
    "update_norm": np.float64,
    "grad_norm": np.float64,
    "clipped": np.float64,
    "bytes_up": np.int64,
}
"""What a client tells of its round beside its answer: see `Outcome`."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one client sends, as the server decodes it.

    answer: shared (1, *shape), rows (T, *shape) · row_item: int64 (T,), their items · figures: numbers by
    name (`FIGURES`) · bytes_down: what it was sent.
    """

    answer: Answer
    row_item: torch.Tensor
    figures: Mapping[str, float]
    bytes_down: int

    @property
    def row_client(self) -> torch.Tensor:
        """int64 (T,): all rows are of the only client."""
        return torch.zeros_like(self.row_item)


def part_of(
    work: Work,
    server: Server,
    clients: Clients,
    client: int,
    *,
    lr_factor: float = 1.0,
    progress: float = 0.0,
    share: float = 1.0,
) -> Part:
    """Returns what a client sends after its local training; what it keeps is written to `clients`.

    Args:
        work: what stays the same; its federation has this client's rows.
        server: what the server sent; its round number is the round's.
        clients: what this client holds.
        client: its id.
        lr_factor, progress: as for `do_round`.
        share: the part of its steps that it does.
    """
    (chunk,) = chunks_of(work.federation, np.array([client]), work.plan.chunk_rows, 1)
    local = train_chunk(
        work,
        server,
        clients,
        chunk,
        lr_factor=lr_factor,
        progress=progress,
        share=None if share == 1.0 else np.array([share]),
    )
    answer = work.algorithm.answer(local, work.private)
    norm = norms(answer, local)
    fine = sound(local, norm)
    answer, bytes_up = rounds._on_its_way(work, server, chunk, local, answer)
    if not bool(fine.all()):
        answer = rounds._without(answer, local, fine)
    work.algorithm.keep(local, clients, work.private, fine)
    steps = local.measured.clamp(min=1)
    figures = {
        "client": client,
        "rows": chunk.n_rows[0],
        "sound": fine[0],
        "loss": (local.loss / local.used.clamp(min=1))[0],
        "update_norm": norm[0],
        "grad_norm": (local.grad_norm / steps)[0],
        "clipped": (local.clipped / steps)[0],
        "bytes_up": bytes_up[0],
    }
    return Part(
        answer=answer,
        row_item=local.row_item,
        figures={
            name: value if name == "client" else value.item() for name, value in figures.items()
        },
        bytes_down=rounds._bytes_down(work, local),
    )


def join_parts(
    work: Work, server: Server, cohort: npt.NDArray[np.int64], parts: Iterable[Part]
) -> Outcome:
    """Returns the outcome of a round from what its clients sent; parts in any order give the same bits.

    Args:
        work: what stays the same; its federation needs no rows, only how many each client has.
        server: what the server holds; its round number is the round's.
        cohort: int64 (n,), the clients that were asked.
        parts: of those that answered.
    """
    plan = work.plan
    largest = work.federation.train.counts[cohort].max(initial=1)
    sums = Sums(work.federation.n_items)
    found: list[list[float]] = []
    weights: list[float] = []
    bytes_down = 0
    for part in parts:
        rows = torch.tensor([part.figures["rows"]])
        weight = (rows / largest).float() if plan.weights == "rows" else torch.ones(1)
        weight = weight * float(part.figures["sound"])
        # `add` reads of a chunk whose its rows are: that a part knows too.
        sums.add(part.answer, cast(Any, part), weight)
        weights.append(float(weight))
        found.append([part.figures[name] for name in FIGURES])
        bytes_down += part.bytes_down
    columns = np.array(found, dtype=np.float64).reshape(-1, len(FIGURES)).T
    order = np.argsort(columns[0])
    figures = {
        name: column[order].astype(dtype)
        for (name, dtype), column in zip(FIGURES.items(), columns, strict=True)
    }
    means = sums.means(plan.item_mean, work.federation.n_clients)
    after = server
    if work.algorithm.joins and sums.n_answers:
        noised = rounds._noised(work, server, means, len(cohort))
        after = work.algorithm.join(server, noised, plan)
    return Outcome(
        server=after,
        bytes_up=int(figures.pop("bytes_up").sum()),
        bytes_down=bytes_down,
        drift=rounds._drift(sums, means, np.array(weights)[order], figures["update_norm"]),
        **cast(Any, figures),
    )
