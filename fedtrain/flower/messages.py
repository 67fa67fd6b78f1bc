"""What goes over the wire, and nothing else: an order down, a part up, as Flower's records.

| message     | down                                   | up                                              |
| ----------- | -------------------------------------- | ----------------------------------------------- |
| `query.who` | nothing                                | `who`: client; how many users, train rows, items |
| `evaluate`  | as `train`                             | `sums` over the client's valid rows             |
| `train`     | `values`, `extra`: tensors; `order`    | `shared`, `rows`, `places`, `numbers`; `figures` |

Nothing private is in any of them: `values` leaves out what the algorithm keeps at the clients, and an answer
never has it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from fedtrain.algorithms import Answer, Server
from fedtrain.flower.parts import FIGURES, Part
from fedtrain.parameters import Parameter

if TYPE_CHECKING:
    from fedtrain.engine import Work

__all__ = [
    "MODALITY",
    "Order",
    "order_of_message",
    "order_of_work",
    "order_to_message",
    "part_of_message",
    "part_to_message",
    "server_to_records",
]

Tensors = dict[str, torch.Tensor]
ITEM, NEW = "item", "new"
"""The items that the rows of an answer are of, in the record `places`."""

MODALITY = "modality/"
"""Before a modality's name, in what a node says of itself: the length of its vectors."""

MOMENTS = ("first/", "second/")
"""What the server's optimiser holds: no client needs it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
    """What a client is asked to do in a round, and what it must know for it.

    plan: as `Plan.to_dict` gives it · model: the keywords of its constructor · parameters: the model's, by
    name · facts: how many users, items and clients there are in all · modalities, behavior: the features that
    the model reads · first_slot: how many users the clients before it have · lr_factor, progress, share: as
    for `fedtrain.flower.parts.part_of` · client, dataset, state: in a simulation alone: which client to be,
    and the folders of the Dataset and of what clients keep; a real node knows its own.
    """

    plan: Mapping[str, Any]
    model: Mapping[str, Any]
    parameters: Mapping[str, Parameter]
    facts: Mapping[str, int]
    modalities: tuple[str, ...]
    behavior: bool
    seed: int
    round_number: int
    first_slot: int = 0
    lr_factor: float = 1.0
    progress: float = 0.0
    share: float = 1.0
    client: int = -1
    dataset: str = ""
    state: str = ""


def order_of_work(work: Work, round_number: int, **rest: Any) -> Order:
    """Returns the order that a run's clients are given in a round; `rest` are fields of `Order`."""
    federation = work.federation
    return Order(
        plan=work.plan.to_dict(),
        model=dataclasses.asdict(work.model),  # type: ignore[call-overload]
        parameters=work.parameters,
        facts={key: getattr(federation, key) for key in ("n_users", "n_items", "n_clients")},
        modalities=tuple(work.features.items),
        behavior=work.features.behavior is not None,
        seed=work.seed,
        round_number=round_number,
        **rest,
    )


def order_to_message(order: Order, values: ArrayRecord, extra: ArrayRecord) -> RecordDict:
    """Returns the content of a message: the order, and the records of `server_to_records`."""
    text = msgspec.json.encode(order).decode()
    return RecordDict({"values": values, "extra": extra, "order": ConfigRecord({"json": text})})


def server_to_records(server: Server, private: frozenset[str]) -> tuple[ArrayRecord, ArrayRecord]:
    """Returns what the server sends: its values that are not private, and what the algorithm has beside."""
    values = {name: value for name, value in server.values.items() if name not in private}
    extra = {name: value for name, value in server.extra.items() if not name.startswith(MOMENTS)}
    return _record(values), _record(extra)


def order_of_message(content: RecordDict) -> tuple[Order, Server]:
    """Returns the order in a message, and what it says of the server."""
    order = msgspec.json.decode(str(content["order"]["json"]), type=Order)
    server = Server(
        values=_tensors(content["values"]),
        extra=_tensors(content["extra"]),
        round_number=order.round_number,
    )
    return order, server


def part_to_message(part: Part) -> RecordDict:
    """Returns the content of a reply: an answer and its figures."""
    answer = part.answer
    return RecordDict(
        {
            "shared": _record(answer.shared),
            "rows": _record(answer.rows),
            "numbers": _record(answer.numbers),
            "places": _record(
                {ITEM: part.row_item} | ({} if answer.new is None else {NEW: answer.new})
            ),
            "figures": MetricRecord(
                {
                    **{name: float(part.figures[name]) for name in FIGURES},
                    "bytes_down": part.bytes_down,
                }
            ),
        }
    )


def part_of_message(content: RecordDict) -> Part:
    """Returns the answer and the figures in a reply."""
    figures = dict(content["figures"])
    places = _tensors(content["places"])
    return Part(
        answer=Answer(
            shared=_tensors(content["shared"]),
            rows=_tensors(content["rows"]),
            numbers=_tensors(content["numbers"]),
            new=places.get(NEW),
        ),
        row_item=places[ITEM],
        bytes_down=int(figures.pop("bytes_down")),
        figures=figures,
    )


def _record(tensors: Mapping[str, torch.Tensor]) -> ArrayRecord:
    arrays = {name: value.detach().cpu() for name, value in tensors.items()}
    return ArrayRecord(arrays) if arrays else ArrayRecord()


def _tensors(record: ArrayRecord) -> Tensors:
    found = {}
    for name, array in record.items():
        values = array.numpy()
        # NumPy reads a tensor without axes back as a scalar.
        found[name] = torch.from_numpy(np.array(values))
    return found
