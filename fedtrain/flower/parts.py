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
from fedtrain.rounds import Outcome
from fedtrain.sums import Sums

if TYPE_CHECKING:
    from fedtrain.algorithms import Answer, Server
    from fedtrain.clients import Clients
    from fedtrain.engine import Work

__all__ = ["FIGURES", "Part", "join_parts", "part_of"]

FIGURES: Mapping[str, type[np.generic]] = {
    name: kind for name, kind in rounds.FIGURES.items() if name != "weight"
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
    answer, figures = rounds.sent_by(work, server, chunk, local)
    work.algorithm.keep(local, clients, work.private, figures["sound"], answer)
    return Part(
        answer=answer,
        row_item=local.row_item,
        figures={name: value.item() for name, value in figures.items()},
        bytes_down=rounds.bytes_down_of(work, local),
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
    unit = rounds.unit_of_round(work, cohort)
    sums = Sums(work.federation.n_items)
    found: list[list[float]] = []
    weights: list[float] = []
    bytes_down = 0
    for part in parts:
        told = {name: torch.tensor([part.figures[name]]) for name in ("rows", "sound")}
        weight = rounds.weights(plan, told["rows"], told["sound"].bool(), unit)
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
    drift = rounds.drift_of(sums, np.array(weights)[order], figures["update_norm"])
    return Outcome(
        server=rounds.joined(work, server, sums, unit),
        bytes_up=int(figures.pop("bytes_up").sum()),
        bytes_down=bytes_down,
        drift=drift,
        **cast(Any, figures),
    )
