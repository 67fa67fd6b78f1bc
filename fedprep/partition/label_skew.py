"""Clients whose labels or categories differ: dirichlet, pathological.

Both deal out *classes*: labels, or categories of items. A unit stands in the class that `anchors` gives
it. For single rows that is their own label, and the methods are those of the literature. A user is moved
whole, with rows of every label; the users of a class then share that class as what sets them apart, and
a client's labels are as skewed as whole users allow. `pool_divergence` in the facts is what the draw
itself asked for; what came of it stands in the Dataset's heterogeneity. (ml-1m, 100 clients, alpha 0.1:
median divergence of labels 0.012 bits; if a user goes to client j with probability sum_c m_c p_cj, m the
user's own mix of labels, 0.003, as sampling from a mix of draws evens them out.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from fedprep.errors import PartitionError, RecipeError
from fedprep.partition.classes import Anchors, anchors
from fedprep.partition.cut import cut, pour
from fedprep.partition.divergence import jensen_shannon
from fedprep.partition.grouping import count_pairs
from fedprep.partition.task import Assigned, Ints, Task
from fedprep.recipe import Partition
from fedprep.schema import ITEM_ID

__all__ = ["classes_held", "dirichlet", "pathological"]

EMPTY = -1


def dirichlet(task: Task, rng: np.random.Generator) -> Assigned:
    """Each label (or category) is shared out among the clients by a Dirichlet draw: label skew.

    For every class c the shares of the clients are p_c ~ Dirichlet(alpha, …, alpha), and client j gets
    the part p_cj of the rows of the units that stand in c, in random order. Small alpha: a client has
    few classes; large alpha: all are alike.

    Reference: Yurochkin et al., "Bayesian Nonparametric Federated Learning of Neural Networks", ICML
    2019; Hsu, Qi, Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
    Classification", 2019, draw the other way round, a distribution of labels for every client.
    """
    classes = anchors(task, rng)
    size = task.units.size
    client = np.empty(len(size), dtype=np.int64)
    for members in classes.members(rng):
        shares = rng.dirichlet(np.full(task.n_clients, task.options.alpha))
        client[members] = pour(size[members], shares, rng.random())
    facts = {"alpha": task.options.alpha, **_facts(task, classes, client)}
    return Assigned(client=client, facts=facts)


def pathological(task: Task, rng: np.random.Generator) -> Assigned:
    """Each client holds k labels (or categories) and no other, in about equal numbers of rows.

    There are k slots a client. A class gets slots in proportion to its rows, at least one, at most one a
    client; which client has which classes is drawn at random. The units of a class are shared out
    equally among its slots. A client has fewer than k classes only where there are fewer units than
    slots, and others than its k only where `min_rows` made it take more.

    Reference: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized
    Data", AISTATS 2017, section 3 (there: sorted rows in equal shards, so that a shard may hold the end
    of one class and the beginning of the next).
    """
    classes = anchors(task, rng)
    _refuse_k(task, classes)
    size, n_classes = task.units.size, len(classes.names)
    rows = np.bincount(classes.of_unit, weights=size, minlength=n_classes)
    members = np.bincount(classes.of_unit, minlength=n_classes)
    n_slots = _slots(rows, np.minimum(members, task.n_clients), task.n_clients * task.options.k)
    holders = _holders(n_slots, task.n_clients, task.options.k, rng)
    client = np.empty(len(size), dtype=np.int64)
    parts = zip(classes.members(rng), holders, strict=True)
    for units, clients in parts:
        client[units] = clients[cut(size[units], np.ones(len(clients)))]
    return Assigned(client=client, facts={"k": task.options.k, **_facts(task, classes, client)})


def _facts(task: Task, classes: Anchors, client: Ints) -> dict[str, Any]:
    facts: dict[str, Any] = {"on": task.options.on, "n_classes": len(classes.names)}
    if task.units.name == "users":
        whole = np.bincount(classes.of_unit, weights=task.units.size).astype(np.int64)
        owner, klass, _ = count_pairs(client, classes.of_unit, len(whole))
        _, pair = np.unique(client * len(whole) + classes.of_unit, return_inverse=True)
        rows = np.bincount(pair, weights=task.units.size).astype(np.int64)
        asked = jensen_shannon(owner, klass, rows, whole, task.n_clients)
        facts["pool_divergence"] = round(float(np.nanmedian(asked)), 6)
    return facts


def classes_held(
    rows: pl.DataFrame, items: pl.DataFrame, client: Ints, options: Partition
) -> dict[str, Any]:
    """Returns how many labels (or categories) the rows of clients have: `most_held`, `clients_above_k`.

    A row has its label, and each category of its item.
    """
    held = rows.select(pl.Series("client", client), ITEM_ID, "label")
    name = "label"
    if options.on == "category":
        named = items.select(ITEM_ID, name="categories").explode("name")
        held = held.select("client", ITEM_ID).unique().join(named, on=ITEM_ID, how="left")
        name = "name"
    counts = held.group_by("client").agg(n=pl.col(name).n_unique())["n"]
    return {
        "most_held": int(counts.max() or 0),  # type: ignore[arg-type]
        "clients_above_k": int((counts > options.k).sum()),
    }


def _refuse_k(task: Task, classes: Anchors) -> None:
    k, n_classes, what = task.options.k, len(classes.names), task.options.on
    plural = "labels" if what == "label" else "categories"
    if k > n_classes:
        raise RecipeError(
            f"{k} {plural} a client are asked for, but the {task.units.name} have only {n_classes}",
            where="partition.k",
            expected=f"1 to {n_classes}",
        )
    if task.n_clients * k < n_classes:
        raise PartitionError(
            f"{task.n_clients} clients of {k} {plural} hold at most {task.n_clients * k} of {n_classes}: "
            "rows would be lost",
            where="partition.n_clients, partition.k",
            expected=f"n_clients times k at least {n_classes}",
        )


def _slots(rows: np.ndarray, most: Ints, total: int) -> Ints:
    """Returns how many clients hold each class: in proportion to its rows, 1 to `most`, `total` in all.

    The proportion is found by halving; what is left of whole slots goes to the largest remainders.
    """
    total = min(total, int(most.sum()))
    low, high = (
        0.0,
        float(total),
    )  # slots per row: at `total`, a class of one row already has them all
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if np.clip(middle * rows, 1, most).sum() < total else (low, middle)
        )
    wanted = np.clip(low * rows, 1, most)
    slots = np.floor(wanted).astype(np.int64)
    room = np.flatnonzero(slots < most)
    by_remainder = room[np.argsort(slots[room] - wanted[room], kind="stable")]
    slots[by_remainder[: total - int(slots.sum())]] += 1
    return slots


def _holders(n_slots: Ints, n_clients: int, k: int, rng: np.random.Generator) -> list[Ints]:
    """Returns the clients that hold each class, each class `n_slots` different ones, each client 1 to k.

    Slots in order of class are dealt to the clients in turn: as a class has at most one slot a client,
    no client gets it twice. Then pairs of clients swap a class each at random wherever neither would
    have one twice, which leaves both counts as they are.

    Reference: Strona et al., "A fast and unbiased procedure to randomize ecological binary matrices with
    fixed row and column totals", Nature Communications 2014 (trades between pairs of rows).
    """
    n_classes = len(n_slots)
    shuffled = rng.permutation(n_classes)
    sequence = np.repeat(shuffled, n_slots[shuffled])
    table = np.full(n_clients * k, EMPTY)
    table[: len(sequence)] = sequence
    table = np.ascontiguousarray(table.reshape(k, n_clients).T)  # (n_clients, k)
    for _ in range(10 * k):
        pairs = rng.permutation(n_clients)
        one, two = pairs[: n_clients // 2], pairs[n_clients // 2 : n_clients // 2 * 2]
        at, to = rng.integers(0, k, len(one)), rng.integers(0, k, len(two))
        mine, yours = table[one, at], table[two, to]
        free = (table[one] != yours[:, None]).all(axis=1) & (table[two] != mine[:, None]).all(
            axis=1
        )
        table[one[free], at[free]] = yours[free]
        table[two[free], to[free]] = mine[free]
    held = table.ravel()
    order = np.argsort(np.where(held == EMPTY, n_classes, held), kind="stable")
    clients = (np.arange(len(held)) // k)[order]
    return np.split(clients, np.cumsum(n_slots))[:n_classes]
