"""Small federations made of arrays, a model of every kind of parameter, and a dense oracle of a round."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from fedtrain.algorithms import ALGORITHMS, Server
from fedtrain.batch import Batch, Features
from fedtrain.chunks import chunks_of
from fedtrain.clients import Clients
from fedtrain.engine import Work, train_chunk
from fedtrain.federation import Federation, Positives, Rows
from fedtrain.models import MODELS, Sizes
from fedtrain.parameters import Parameter, initial
from fedtrain.rounds import Outcome, do_round
from fedtrain.settings import parse_plan
from fedtrain.tasks import TASKS

Tensors = dict[str, torch.Tensor]
Row = tuple[int, int, int, float, str]
"""Client, user, item, rating, split; the label is whether the rating is above 3."""


def federation_of_rows(rows: Sequence[Row], n_items: int, n_clients: int) -> Federation:
    """Rows in any order; a row's time is its place in the list."""
    pairs = sorted({(client, user) for client, user, *_ in rows})
    slot_of = {pair: slot for slot, pair in enumerate(pairs)}
    splits = {}
    for split in ("train", "valid", "test"):
        mine = sorted(
            (client, slot_of[client, user], time, item, rating)
            for time, (client, user, item, rating, name) in enumerate(rows)
            if name == split
        )
        columns = np.array(mine, dtype=np.float64).reshape(-1, 5).T
        client = columns[0].astype(np.int64)
        splits[split] = Rows(
            offsets=np.searchsorted(client, np.arange(n_clients + 1)),
            slot=columns[1].astype(np.int32),
            item_id=columns[3].astype(np.int32),
            rating=columns[4].astype(np.float32),
            label=(columns[4] > 3).astype(np.int8),
            timestamp=columns[2].astype(np.int64),
        )
    slots = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return Federation(
        n_users=int(slots[:, 1].max()) + 1,
        n_items=n_items,
        n_clients=n_clients,
        slot_user=slots[:, 1].astype(np.int32),
        slot_offsets=np.searchsorted(slots[:, 0], np.arange(n_clients + 1)),
        splits=splits,
    )


def random_federation(
    seed: int, n_clients: int = 5, n_items: int = 9, most: int = 6, held: int = 1
) -> Federation:
    """Clients of one to three users with 1 to `most` train rows each; user 0 is at every other client too."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    user = 1
    for client in range(n_clients):
        users = [0] if client % 2 else []
        own = int(rng.integers(1, 3))
        users += range(user, user + own)
        user += own
        for each in users:
            n = int(rng.integers(1, most + 1))
            items = rng.permutation(n_items)[: n + held]
            for place, item in enumerate(items.tolist()):
                rating = float(rng.integers(1, 6))
                split = "train" if place < n else ("valid", "test")[place % 2]
                rows.append((client, each, item, rating, split))
    return federation_of_rows(rows, n_items, n_clients)


@dataclass(frozen=True, kw_only=True)
class Small:
    """score = Σ user · item · w + Σ item · h + c; w and c are shared, h is a head."""

    dim: int = 3
    examples = "rows"

    def parameters(self, sizes: Sizes) -> dict[str, Parameter]:
        return {
            "user": Parameter("user", (self.dim,), 0.5, 0.3),
            "item": Parameter("item", (self.dim,), 0.5),
            "w": Parameter("shared", (self.dim,), 0.5, 1.0),
            "c": Parameter("shared", ()),
            "h": Parameter("shared", (self.dim,), 0.5, head=True),
        }

    def outputs(self, values: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        w, h, c = (values[name] for name in ("w", "h", "c"))
        user = (values["user"] * w[:, None])[:, :, None]
        return (values["item"] * (user + h[:, None, None])).sum(-1) + c[:, None, None]


def work_of(
    federation: Federation,
    *,
    instance: Any = None,
    features: Features | None = None,
    excluded: Positives | None = None,
    seed: int = 3,
    sizes: Mapping[str, Any] | None = None,
    **plan: Any,
) -> Work:
    """The work of a plan's table; the model is `Small` unless the table or the argument names one."""
    table = {"task": "rating", "batch_size": 2, "clients_per_round": 0, **plan}
    parsed = parse_plan(table)
    made = instance or (
        MODELS[parsed.model](**parsed.table(parsed.model)) if "model" in plan else Small()
    )
    known = Sizes(
        **{
            "n_users": federation.n_users,
            "n_items": federation.n_items,
            "modalities": {},
            **(sizes or {}),
        }
    )
    return Work(
        federation=federation,
        features=features or Features(),
        model=made,
        parameters=made.parameters(known),
        task=TASKS[parsed.loss],
        algorithm=ALGORITHMS[parsed.algorithm](**parsed.table(parsed.algorithm)),
        plan=parsed,
        excluded=federation.positives if excluded is None else excluded,
        seed=seed,
    )


def begin(work: Work) -> tuple[Server, Clients]:
    """Server and clients before the first round."""
    federation = work.federation
    values = initial(work.parameters, federation.n_items, work.seed)
    clients = Clients.new(federation.n_clients, federation.n_slots, work.parameters, work.seed)
    return Server(values=values), clients


def everyone(work: Work) -> np.ndarray:
    return np.flatnonzero(work.federation.train.counts > 0)


def rounds(
    work: Work, n: int = 1, cohorts: Sequence[np.ndarray] | None = None, **options: Any
) -> tuple[list[Outcome], Server, Clients]:
    """Outcomes of n rounds, of all clients unless cohorts are given; and what is held after them."""
    server, clients = begin(work)
    outcomes = []
    for number in range(n):
        cohort = everyone(work) if cohorts is None else cohorts[number]
        outcomes.append(do_round(work, server.at(number + 1), clients, cohort, **options))
        server = outcomes[-1].server
    return outcomes, server, clients


def state_of(server: Server, clients: Clients) -> Tensors:
    """Everything that is held anywhere, by name."""
    return {
        **{f"values/{name}": value for name, value in server.values.items()},
        **{f"extra/{name}": value for name, value in server.extra.items()},
        **clients.state(),
    }


def assert_same_bits(first: Tensors, second: Tensors) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@dataclass(frozen=True)
class Step:
    """One local step of a client: its examples, padding left out."""

    slot: torch.Tensor  # (b,)
    item: torch.Tensor  # (b, m)
    target: torch.Tensor  # (b,)
    support: bool  # whether users' rows were trained


@dataclass
class Recorder:
    """A model that notes the batches it is given."""

    model: Any
    batches: list[tuple[Batch, bool]] = field(default_factory=list)

    @property
    def examples(self) -> str:
        return str(self.model.examples)

    def parameters(self, sizes: Sizes) -> dict[str, Parameter]:
        found: dict[str, Parameter] = self.model.parameters(sizes)
        return found

    def outputs(self, values: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        user = next(name for name in values if name.startswith("user"))
        self.batches.append((batch, values[user].requires_grad))
        found: torch.Tensor = self.model.outputs(values, batch)
        return found


def steps_of(
    work: Work, cohort: np.ndarray, round_number: int = 1, share: np.ndarray | None = None
) -> list[list[Step]]:
    """The local steps of each client of a cohort in a round, each client trained by itself."""
    recorder = Recorder(work.model)
    server, clients = begin(work)
    alone = replace(work, model=recorder)
    federation = work.federation
    found = []
    for place, client in enumerate(cohort.tolist()):
        recorder.batches.clear()
        (chunk,) = chunks_of(federation, np.array([client]), 1, 1)
        part = None if share is None else share[place : place + 1]
        train_chunk(alone, server.at(round_number), clients, chunk, share=part)
        slots = range(federation.slot_offsets[client], federation.slot_offsets[client + 1])
        slot_of = {int(federation.slot_user[slot]): slot for slot in slots}
        steps = []
        for batch, support in recorder.batches:
            mask = batch.mask[0]
            slot = torch.tensor([slot_of[user] for user in batch.user[0][mask].tolist()])
            steps.append(Step(slot, batch.item[0][mask], batch.target[0][mask], support))
        found.append(steps)
    return found


class Oracle:
    """All parameters as one dense vector in float64, users' included; gradients by autograd."""

    def __init__(self, work: Work, rates: Mapping[str, float] | None = None) -> None:
        self.work = work
        self.rates = rates or {}  # by scope: what a gradient is multiplied with
        federation = work.federation
        lines = {"shared": 1, "item": federation.n_items, "user": federation.n_slots}
        self.parts: dict[str, slice] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        start = 0
        for name, parameter in work.parameters.items():
            own = () if parameter.scope == "shared" else (lines[parameter.scope],)
            self.shapes[name] = (*own, *parameter.shape)
            size = int(np.prod(self.shapes[name], dtype=np.int64))
            self.parts[name] = slice(start, start + size)
            start += size
        self.size = start

    def vector(self, server: Server, clients: Clients) -> torch.Tensor:
        tables = {**server.values, **clients.users}
        return torch.cat([tables[name].double().reshape(-1) for name in self.parts])

    def tables(self, vector: torch.Tensor) -> Tensors:
        return {name: vector[part].reshape(self.shapes[name]) for name, part in self.parts.items()}

    def loss(self, vector: torch.Tensor, step: Step) -> torch.Tensor:
        """The mean loss of a step."""
        values, scopes = {}, self.work.parameters
        for name, table in self.tables(vector).items():
            scope = scopes[name].scope
            rows = (
                table if scope == "shared" else table[step.item if scope == "item" else step.slot]
            )
            values[name] = rows[None]
        mask = torch.ones(1, len(step.slot), dtype=torch.bool)
        users = torch.from_numpy(self.work.federation.slot_user.astype(np.int64))[step.slot]
        batch = Batch(
            users[None], step.item[None], step.target.double()[None], mask, self.work.features
        )
        return self.work.task.loss(self.work.model.outputs(values, batch), batch).mean()

    def gradient(self, vector: torch.Tensor, step: object) -> torch.Tensor:
        assert isinstance(step, Step)
        leaf = vector.detach().clone().requires_grad_()
        (found,) = torch.autograd.grad(self.loss(leaf, step), leaf)
        for name, part in self.parts.items():
            found[part] *= self.rates.get(self.work.parameters[name].scope, 1.0)
        return found

    def touched(self, steps: Sequence[Sequence[Step]]) -> torch.Tensor:
        """bool (n clients, size): the values that each client holds: shared, touched items, own users."""
        found = torch.zeros(len(steps), self.size, dtype=torch.bool)
        for place, mine in enumerate(steps):
            marks = {name: torch.zeros(self.shapes[name], dtype=torch.bool) for name in self.parts}
            for name, mark in marks.items():
                scope = self.work.parameters[name].scope
                if scope == "shared":
                    mark.fill_(True)
                for step in mine:
                    if scope != "shared":
                        mark[step.item if scope == "item" else step.slot] = True
            found[place] = torch.cat([marks[name].reshape(-1) for name in self.parts])
        return found

    def by_touch(
        self,
        steps: Sequence[Sequence[Step]],
        weights: Sequence[float],
        run: Callable[[list[float]], torch.Tensor],
        before: torch.Tensor,
    ) -> torch.Tensor:
        """Each value as `run` gives it with the weights of the clients that hold it; else as before."""
        touched = self.touched(steps)
        after = before.clone()
        for pattern in torch.unique(touched, dim=1).T:
            if pattern.any():
                mine = (touched == pattern[:, None]).all(0)
                own = [w * bool(has) for w, has in zip(weights, pattern, strict=True)]
                after[mine] = run(own)[mine]
        return after

    def compare(self, vector: torch.Tensor, server: Server, clients: Clients, **how: float) -> None:
        tables = {**server.values, **clients.users}
        for name, table in self.tables(vector).items():
            if name in tables:
                torch.testing.assert_close(
                    tables[name].double(), table, **{"rtol": 1e-5, "atol": 1e-6, **how}, msg=name
                )
