"""Flower's ClientApp: one client's half of a round, on its own shard alone.

A real SuperNode is started with `--node-config "data='…/client-00007' state='…'"`: the folder of its exported
shard, and one where it keeps what is private. In a simulation the message says which client of which Dataset
the node plays.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import polars as pl
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedprep.dataset import Dataset
from fedprep.errors import TrainingError
from fedtrain.algorithms import ALGORITHMS, Server
from fedtrain.batch import Features
from fedtrain.clients import Clients
from fedtrain.engine import Work
from fedtrain.federation import Federation, Positives, features_of, positives_of
from fedtrain.flower.judging import judged
from fedtrain.flower.memory import recall, remember
from fedtrain.flower.messages import MODALITY, Order, order_of_message, part_to_message
from fedtrain.flower.parts import part_of
from fedtrain.flower.shard import Shard, exported, federation_of_shard, shard_of_dataset
from fedtrain.models import MODELS
from fedtrain.parameters import initial
from fedtrain.settings import parse_plan
from fedtrain.tasks import TASKS

__all__ = ["app", "evaluate", "train", "who"]


def who(message: Message, context: Context) -> Message:
    """Returns who this node is: its client's id, and how large what it has is. No id of a user or an item."""
    shard = exported(_folder(context, "data"), {})
    items = shard.items()
    facts: dict[str, int | float] = {
        "client": shard.client_id,
        "users": shard.n_users,
        "rows": shard.rows.filter(split="train").height,
        "items": items.select(pl.len()).collect().item(),
        "behavior": _width(shard.users(), "behavior"),
    }
    for name in shard.modalities:
        facts[MODALITY + name] = _width(shard.embeddings(name), "embedding")
    return Message(RecordDict({"who": MetricRecord(facts)}), reply_to=message)


def _width(table: pl.LazyFrame, column: str) -> int:
    dtype = table.collect_schema().get(column)
    return int(dtype.shape[0]) if isinstance(dtype, pl.Array) else 0


def train(message: Message, context: Context) -> Message:
    """Returns what the client of this node sends after its local training."""
    order, work, server, clients, state = _begun(message, context)
    client = _client(work)
    part = part_of(
        work,
        server,
        clients,
        client,
        lr_factor=order.lr_factor,
        progress=order.progress,
        share=order.share,
    )
    remember(state, work, clients, [client])
    return Message(part_to_message(part), reply_to=message)


def evaluate(message: Message, context: Context) -> Message:
    """Returns sums over the client's own valid rows: see `fedtrain.flower.judging`."""
    _, work, server, clients, _ = _begun(message, context)
    sums = judged(work, server, clients, "valid")
    return Message(RecordDict({"sums": MetricRecord(sums)}), reply_to=message)


def _begun(message: Message, context: Context) -> tuple[Order, Work, Server, Clients, Path]:
    """Returns the order of a message, and what this node works on, with, and from; where it keeps things."""
    order, sent = order_of_message(message.content)
    shard, state = _place(order, context)
    federation = federation_of_shard(shard, order.first_slot)
    work = _work(order, shard, federation)
    begun = {name: p for name, p in work.parameters.items() if name not in sent.values}
    values = sent.values | initial(begun, federation.n_items, order.seed)
    server = Server(values=values, extra=sent.extra, round_number=order.round_number)
    return order, work, server, recall(state, work, shard.client_id), state


def _client(work: Work) -> int:
    """Returns the only client that has train rows here."""
    return int(np.flatnonzero(work.federation.train.counts)[0])


def _place(order: Order, context: Context) -> tuple[Shard, Path]:
    """Returns this node's shard, and the folder in which it keeps what is private."""
    if order.dataset:
        return shard_of_dataset(_opened(order.dataset), order.client), Path(order.state)
    return exported(_folder(context, "data"), order.facts), _folder(context, "state")


def _folder(context: Context, key: str) -> Path:
    if key not in context.node_config:
        raise TrainingError(
            f"this node was not told its folder '{key}'",
            hint="flower-supernode --node-config \"data='shards/client-00000' state='kept'\"",
        )
    return Path(str(context.node_config[key]))


@functools.cache
def _opened(path: str) -> Dataset:
    """A simulation's Dataset, once in each process."""
    return Dataset.open(path)


def _work(order: Order, shard: Shard, federation: Federation) -> Work:
    plan = parse_plan(order.plan)
    return Work(
        federation=federation,
        features=_features(order, shard),
        model=MODELS[plan.model](**order.model),
        parameters=order.parameters,
        task=TASKS[plan.loss],
        algorithm=ALGORITHMS[plan.algorithm](**plan.table(plan.algorithm)),
        plan=plan,
        excluded=_excluded(federation, plan.negative_pool),
        seed=order.seed,
    )


def _features(order: Order, shard: Shard) -> Features:
    """Returns the features that the model reads: the items', of all; the users', of this client alone."""
    items = (
        _item_features(str(shard.path), order.modalities, shard) if order.modalities else Features()
    )
    users = features_of(shard, [], order.behavior) if order.behavior else Features()
    return Features(items.items, items.has, users.behavior)


def _item_features(path: str, modalities: tuple[str, ...], shard: Shard) -> Features:
    """Returns the items' embeddings, read once in each process."""
    key = (path, modalities)
    if key not in _ITEMS:
        _ITEMS.clear()
        _ITEMS[key] = features_of(shard, list(modalities), behavior=False)
    return _ITEMS[key]


_ITEMS: dict[tuple[str, tuple[str, ...]], Features] = {}


def _excluded(federation: Federation, pool: str) -> Positives | None:
    """Returns the items that are no negatives of the client's users."""
    if pool == "all":
        return None
    if pool == "train":
        return federation.positives
    parts = [federation.splits[name] for name in sorted(federation.splits)]
    return positives_of(federation.n_slots, federation.n_items, parts)


app = ClientApp()
app.query("who")(who)
app.train()(train)
app.evaluate()(evaluate)
