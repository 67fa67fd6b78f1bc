"""A plan: the table `[train]` of a recipe, every key with its value.

The fields below are the only keys, their types the only values. A table of an algorithm or a model
(`[train.fedprox]`, `[train.mf]`) holds the keywords of its constructor; `fedtrain.settings` reads and
checks it. Metrics have the names of `rounds.jsonl`, such as `loss/valid` or `ndcg@10/valid`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fedprep.keys import Above0, Count, Finite, From0, PartShare, Positive, Rate, Share

__all__ = [
    "LR",
    "SERVER_LR",
    "Compression",
    "Expected",
    "Faults",
    "Loggers",
    "Plan",
    "Privacy",
    "Secure",
    "Stop",
]


LR = {"sgd": 0.1, "momentum": 0.01, "adam": 0.01}
"""A client's rate of what all share, by its optimiser."""

SERVER_LR = {"sgd": 1.0, "momentum": 1.0, "adam": 0.01, "yogi": 0.01, "adagrad": 0.01}
"""The server's rate by its optimiser: with 1 an adaptive one would move every value by 1 in round 1."""


class Faults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What goes wrong on purpose: clients that never answer, clients that do less."""

    dropout: Annotated[
        PartShare, Meta(description="share of a cohort's clients whose answer is lost")
    ] = 0.0
    stragglers: Annotated[
        Share, Meta(description="share of a cohort's clients that do only a part of their steps")
    ] = 0.0
    straggler_work: Annotated[
        Annotated[float, Meta(gt=0.0, le=1.0)], Meta(description="the least part that they do")
    ] = 0.5


class Privacy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Client-level differential privacy: clipped updates, Gaussian noise on their sum."""

    clip: Annotated[From0, Meta(description="L2 norm that an update is clipped to; 0: none")] = 0.0
    noise_multiplier: Annotated[
        From0, Meta(description="deviation of the noise over `clip`; 0: none")
    ] = 0.0
    delta: Annotated[float, Meta(gt=0.0, lt=1.0)] = 1e-5
    accountant: Literal["rdp", "pld"] = "rdp"


class Compression(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an update is made smaller on its way up."""

    method: Literal["none", "topk", "int8"] = "none"
    share: Annotated[
        Annotated[float, Meta(gt=0.0, le=1.0)],
        Meta(description="topk: part of the values that is sent"),
    ] = 0.1


class Secure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Secure sum, simulated: the server sees masked updates, and their sum."""

    enabled: bool = False


class Stop(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which round is the best one, and when there is no better one to come."""

    metric: Annotated[str, Meta(description="empty: the last round is the best")] = ""
    patience: Annotated[
        Count,
        Meta(description="values without an improvement before the run stops; 0: it never does"),
    ] = 0
    min_delta: Annotated[From0, Meta(description="what counts as an improvement")] = 0.0
    mode: Literal["max", "min"] = "max"


class Expected(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a recipe should give for a measure, and how far from it is still right."""

    value: Finite
    tolerance: From0


class Loggers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where metrics go beside the Run directory."""

    names: list[Literal["tensorboard", "mlflow", "wandb"]] = []


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a run trains."""

    algorithm: str = "fedavg"
    model: str = "mf"
    task: Literal[
        "implicit", "binary", "classes", "rating", "bce", "bpr", "softmax", "contrastive"
    ] = "implicit"
    rounds: Positive = 50
    clients_per_round: Annotated[Count, Meta(description="0: all")] = 100

    local_epochs: Positive = 1
    local_steps: Annotated[
        Count, Meta(description="steps of a client a round; 0: whole epochs")
    ] = 0
    batch_size: Annotated[Count, Meta(description="0: all rows of the client")] = 64
    optimizer: Annotated[
        Literal["sgd", "momentum", "adam"],
        Meta(description="of the client; starts anew each round"),
    ] = "sgd"
    lr: Annotated[
        Rate | None,
        Meta(description="None: each rate that is not given is derived, by `defaults.settled`"),
    ] = None
    lr_user: Annotated[
        Rate | None, Meta(description="of rows of users; None: lr, or derived with it")
    ] = None
    lr_item: Annotated[
        Rate | None, Meta(description="of rows of items; None: lr, or derived with it")
    ] = None
    lr_head: Annotated[Rate | None, Meta(description="of a personal head; None: lr")] = None
    momentum: PartShare = 0.9
    weight_decay: From0 = 0.0
    clip_norm: Annotated[
        From0, Meta(description="L2 norm that a client's gradient is clipped to; 0: none")
    ] = 0.0

    server_optimizer: Literal["sgd", "momentum", "adam", "yogi", "adagrad"] = "sgd"
    server_lr: Annotated[
        Rate | None, Meta(description="None: by `server_optimizer`, see SERVER_LR")
    ] = None
    server_momentum: PartShare = 0.9
    server_beta2: PartShare = 0.99
    server_tau: Above0 = 1e-3
    item_mean: Literal["touched", "cohort", "sum"] = "touched"
    weights: Literal["rows", "uniform"] = "rows"

    negatives: Annotated[Count, Meta(description="a positive row, in implicit tasks")] = 4
    negative_pool: Literal["train", "all", "leaky"] = "train"
    max_history: Annotated[
        Positive,
        Meta(description="longest sequence: a user's latest rows; training cuts longer ones"),
    ] = 200

    sampler: Literal["uniform", "by_size", "cyclic", "trace", "poisson"] = "uniform"
    trace: str = ""
    valid_clients: Annotated[
        PartShare, Meta(description="share of clients that never train, for valid")
    ] = 0.0
    test_clients: Annotated[
        PartShare, Meta(description="share of clients that never train, for test")
    ] = 0.0

    schedule: Literal["constant", "cosine", "warmup", "plateau"] = "constant"
    warmup_rounds: Count = 0
    schedule_floor: Share = 0.0
    schedule_metric: Annotated[str, Meta(description="plateau")] = "loss/valid"
    schedule_mode: Annotated[Literal["max", "min"], Meta(description="plateau")] = "min"
    schedule_patience: Annotated[Positive, Meta(description="plateau")] = 5
    schedule_factor: Annotated[
        Annotated[float, Meta(gt=0.0, lt=1.0)], Meta(description="plateau")
    ] = 0.5

    eval_every: Positive = 5
    eval_clients: Annotated[Count, Meta(description="0: all")] = 0
    test_users: Annotated[Count, Meta(description="of test that are ranked for; 0: all")] = 0
    checkpoint_every: Positive = 1
    on_nonfinite: Literal["stop", "skip", "rollback"] = "stop"
    rollback_factor: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.5

    chunk_rows: Positive = 10_000
    threads: Annotated[Count, Meta(description="0: as many as there are cores")] = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    mixed_precision: bool = False
    compile: bool = False

    faults: Faults = Faults()
    privacy: Privacy = Privacy()
    compression: Compression = Compression()
    secure: Secure = Secure()
    stop: Stop = Stop()
    loggers: Loggers = Loggers()
    expected: Annotated[
        dict[str, Expected], Meta(description='by measure, such as "ndcg@10/test"')
    ] = {}

    tables: Annotated[
        dict[str, dict[str, Any]], Meta(description="of algorithms and models, by name")
    ] = {}

    @property
    def loss(self) -> str:
        """Returns the task's name in `TASKS`: `implicit` is `bce`."""
        return "bce" if self.task == "implicit" else self.task

    @property
    def rates(self) -> dict[str, float]:
        """Returns the learning rate of each kind of parameter: shared, user, item, head, and the server's.

        Of a plan that `defaults.settled` has not seen, one that is not given is the optimiser's `LR`.
        """
        usual = LR[self.optimizer] if self.lr is None else self.lr
        own = {"user": self.lr_user, "item": self.lr_item, "head": self.lr_head}
        filled = {kind: usual if rate is None else rate for kind, rate in own.items()}
        server = SERVER_LR[self.server_optimizer] if self.server_lr is None else self.server_lr
        return {"shared": usual, **filled, "server": server}

    def table(self, name: str) -> Mapping[str, Any]:
        """Returns the keywords that the plan gives an algorithm or a model."""
        return self.tables.get(name, {})

    def to_dict(self) -> dict[str, Any]:
        """Returns the plan as the table it was read from, with every key: plain values, ready for JSON."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        free: dict[str, Any] = plain.pop("tables")
        return {**plain, **free}
