"""Flower's server side of a round: an order to each client's node, and the sum of what comes back."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedprep.errors import TrainingError
from fedtrain.flower.judging import pooled
from fedtrain.flower.memory import gather, remember
from fedtrain.flower.messages import (
    Order,
    order_of_work,
    order_to_message,
    part_of_message,
    server_to_records,
)
from fedtrain.flower.parts import join_parts

if TYPE_CHECKING:
    from fedtrain.algorithms import Server
    from fedtrain.clients import Clients
    from fedtrain.engine import Work
    from fedtrain.rounds import Outcome

__all__ = ["Fleet", "do_round_with", "measured_with", "own_words"]

GONE = "the node is gone"
LOOK = 1.0
"""Seconds between two looks at which nodes are there, while some do not answer."""

PAUSE = 0.05
"""Seconds between two looks for replies."""


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """The nodes behind a grid.

    nodes: node ids · clients: which client each of them is, in their order; None: any, as the order says
    (simulation) · dataset, state: what a simulation's orders say, see `Order` · patience: seconds that a
    round waits for replies; those that come later are lost · stopped: set where none will come any more ·
    lost: why a node did not answer the last messages, by its client: real nodes die, and the rest goes on.
    """

    grid: Grid
    nodes: tuple[int, ...]
    clients: tuple[int, ...] | None = None
    dataset: str = ""
    state: str = ""
    patience: float = math.inf
    stopped: threading.Event = field(default_factory=threading.Event)
    lost: dict[int, str] = field(default_factory=dict)

    def node_of(self, place: int, client: int) -> int:
        """Returns the node of a client, the `place`-th of its cohort."""
        if self.clients is None:
            return self.nodes[place % len(self.nodes)]
        return self.nodes[self.clients.index(client)]

    def gone(self) -> set[int]:
        """Returns the nodes of real clients that are not there any more."""
        if self.clients is None:
            return set()
        return set(self.nodes) - set(self.grid.get_node_ids())


def do_round_with(
    fleet: Fleet,
    work: Work,
    server: Server,
    clients: Clients,
    cohort: npt.NDArray[np.int64],
    *,
    lr_factor: float = 1.0,
    progress: float = 0.0,
    share: npt.NDArray[np.float64] | None = None,
) -> Outcome:
    """Returns the outcome of a round that a fleet's nodes trained in; arguments as for `rounds.do_round`.

    In a simulation the clients of the cohort begin with what `clients` holds of them, and it then holds what
    they kept, by way of their files; from real nodes it learns nothing.

    Raises:
        TrainingError: clients failed, or none answered.
    """
    if fleet.state:
        remember(Path(fleet.state), work, clients, cohort.tolist())
    messages = _messages(
        fleet, work, server, cohort, "train", share, lr_factor=lr_factor, progress=progress
    )
    parts = (part_of_message(content) for content in _contents(fleet, messages))
    outcome = join_parts(work, server, cohort, parts)
    if fleet.state:
        gather(Path(fleet.state), work, clients, cohort.tolist(), dict(server.values))
    return outcome


def measured_with(
    fleet: Fleet, work: Work, server: Server, cohort: npt.NDArray[np.int64]
) -> dict[str, float]:
    """Returns loss and accuracy on the valid rows of these clients, which their nodes alone see.

    Raises:
        TrainingError: clients failed, or none answered.
    """
    messages = _messages(fleet, work, server, cohort, "evaluate", None)
    return pooled((dict(content["sums"]) for content in _contents(fleet, messages)), "valid")


def _messages(
    fleet: Fleet,
    work: Work,
    server: Server,
    cohort: npt.NDArray[np.int64],
    kind: str,
    share: npt.NDArray[np.float64] | None,
    **rest: float,
) -> list[Message]:
    """Returns a message to each client of the cohort; they share the records of what the server holds."""
    order = order_of_work(
        work, server.round_number, dataset=fleet.dataset, state=fleet.state, **rest
    )
    first = work.federation.slot_offsets
    values, extra = server_to_records(server, work.private)
    messages = []
    for place, client in enumerate(cohort.tolist()):
        own: Order = replace(
            order,
            client=client,
            first_slot=int(first[client]),
            share=1.0 if share is None else float(share[place]),
        )
        messages.append(
            Message(
                order_to_message(own, values, extra),
                fleet.node_of(place, client),
                kind,
                group_id=str(server.round_number),
            )
        )
    return messages


def _contents(fleet: Fleet, messages: list[Message]) -> Iterator[RecordDict]:
    """Sends the messages and yields what comes back, as it comes.

    A real node that is gone, or whose answer is an error, is one that dropped out: `fleet.lost` says why.

    Raises:
        TrainingError: in a simulation a node answered with an error, or they are gone; nobody answered.
    """
    n_sent = len(messages)
    ends = time.monotonic() + fleet.patience
    fleet.lost.clear()
    nobody = fleet.gone()
    failed = {m.metadata.dst_node_id: GONE for m in messages if m.metadata.dst_node_id in nobody}
    here = [message for message in messages if message.metadata.dst_node_id not in nobody]
    node_of = [message.metadata.dst_node_id for message in here]
    waiting = dict(zip(fleet.grid.push_messages(here), node_of, strict=True)) if here else {}
    messages.clear()
    here.clear()
    n_answers, looked = 0, time.monotonic()
    while waiting and time.monotonic() < ends and not fleet.stopped.is_set():
        replies = list(fleet.grid.pull_messages(list(waiting)))
        for reply in replies:
            node = waiting.pop(reply.metadata.reply_to_message_id, None)
            if reply.has_error():
                failed[reply.metadata.src_node_id if node is None else node] = reply.error.reason
                continue
            n_answers += 1
            yield reply.content
        if not replies:
            time.sleep(PAUSE)
            if time.monotonic() - looked > LOOK:
                looked, nobody = time.monotonic(), fleet.gone()
                failed |= dict.fromkeys(nobody & set(waiting.values()), GONE)
                waiting = {name: node for name, node in waiting.items() if node not in nobody}
    if waiting and fleet.stopped.is_set():
        raise TrainingError(
            f"{len(waiting)} of {n_sent} clients will not answer any more",
            where="the nodes of Flower",
        )
    if fleet.clients is not None:
        silent = dict.fromkeys(waiting.values(), "no answer in time")
        client = dict(zip(fleet.nodes, fleet.clients, strict=True))
        fleet.lost.update({client[n]: own_words(why) for n, why in (silent | failed).items()})
    if failed and (fleet.clients is None or len(failed) == n_sent):
        raise TrainingError(
            f"{len(failed)} of {n_sent} clients failed: {own_words(next(iter(failed.values())))}",
            where="a node of Flower",
        )
    if n_sent and not n_answers:
        raise TrainingError(f"none of {n_sent} clients answered", where="the nodes of Flower")


def own_words(reason: str) -> str:
    """Returns what the client's own error said, without Flower's words around it."""
    said = reason.partition("Message: ")[2] or reason
    return said.removesuffix("'>").strip()
