"""Flower's own simulation on the work of one round: FedAvg of a matrix factorisation, a client per user.

    python benchmarks/flower_peer.py DATASET [--cohorts 60 600] [--rounds 1] [--cpus 2]

The peer that `fedtrain` is measured against: Flower's current message API and its strategy FedAvg as they
come, Ray below them. The server sends the item table (d = 32 and a bias) as an ArrayRecord; a client reads
its rows of the Dataset, draws four negatives a positive among the items outside its train rows, takes one
local epoch of SGD over the rows of the table that it touches, and sends the table back; its user's vector
stays in `context.state`. Item rows are averaged over the cohort, as that strategy does.

Prints JSON lines: one a round (`clients`, `seconds`, `loss`), then one a cohort size (`seconds`: the
median; `seconds_for_all`: scaled by clients to all that the Dataset has). Starting Ray and its workers is
`startup_seconds`, in none of them: a small round before the others pays for it.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("FLWR_HOME", str(Path(tempfile.gettempdir()) / "flower-peer"))
os.environ.setdefault("FLWR_LOG_LEVEL", "ERROR")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else Ray warns about it

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from fedprep.dataset import Dataset

DIM = 32
NEGATIVES = 4
BATCH = 64
RATE = 1.0
WARM_UP = 8

client = ClientApp()


@functools.cache
def opened(path: str) -> Dataset:
    """The Dataset, once in each worker."""
    torch.set_num_threads(1)
    return Dataset.open(path)


@client.train()
def train(message: Message, context: Context) -> Message:
    """Returns the table that this client trained, and how many rows it trained on."""
    config = message.content["config"]
    number = int(context.node_config["partition-id"])
    frame = opened(str(config["dataset"])).client(number)
    positive = frame.filter(frame["split"] == "train")["item_id"].to_numpy().astype(np.int64)
    sent = message.content["arrays"].to_torch_state_dict()
    rng = np.random.default_rng([int(config["server-round"]), number])
    if "user" in context.state:
        user = context.state["user"].to_torch_state_dict()["vector"]
    else:
        user = torch.from_numpy(rng.normal(0, 0.1, DIM + 1).astype(np.float32))
    loss, user = local_epoch(sent["factors"], sent["bias"], user, positive, rng)
    context.state["user"] = ArrayRecord({"vector": user})
    content = RecordDict(
        {
            "arrays": ArrayRecord(sent),
            "metrics": MetricRecord({"num-examples": len(positive), "loss": loss}),
        }
    )
    return Message(content, reply_to=message)


def local_epoch(
    factors: torch.Tensor,
    bias: torch.Tensor,
    user: torch.Tensor,
    positive: np.ndarray,
    rng: np.random.Generator,
) -> tuple[float, torch.Tensor]:
    """Returns the mean loss and the user's new vector; `factors` and `bias` are trained in place."""
    allowed = np.setdiff1d(np.arange(len(factors)), positive)
    negative = rng.choice(allowed, (len(positive), NEGATIVES))
    items = np.concatenate([positive[:, None], negative], axis=1)[rng.permutation(len(positive))]
    touched, local = np.unique(items, return_inverse=True)
    rows, places = torch.from_numpy(touched), torch.from_numpy(local.reshape(items.shape))
    leaves = [factors[rows].requires_grad_(), bias[rows].requires_grad_()]
    leaves.append(user.clone().requires_grad_())
    target = torch.zeros(1, 1 + NEGATIVES)
    target[0, 0] = 1
    total = 0.0
    for start in range(0, len(places), BATCH):
        batch = places[start : start + BATCH]  # (B, 5)
        scores = leaves[0][batch] @ leaves[2][:DIM] + leaves[1][batch] + leaves[2][DIM]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            scores, target.expand_as(scores)
        )
        gradients = torch.autograd.grad(loss, leaves)
        with torch.no_grad():
            for leaf, gradient in zip(leaves, gradients, strict=True):
                leaf -= RATE * gradient
        total += float(loss.detach()) * len(batch)
    factors[rows], bias[rows] = leaves[0].detach(), leaves[1].detach()
    return total / len(places), leaves[2].detach()


class Cohorts(FedAvg):
    """FedAvg whose rounds have cohorts of the sizes given, one after the other."""

    def __init__(self, sizes: list[int], n_clients: int) -> None:
        super().__init__(fraction_evaluate=0.0, min_available_nodes=n_clients, min_train_nodes=1)
        self.sizes, self.n_clients = sizes, n_clients

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        # Half a client more, lest the strategy's own rounding down loses one.
        self.fraction_train = (self.sizes[server_round - 1] + 0.5) / self.n_clients
        return super().configure_train(server_round, arrays, config, grid)


def bench(path: Path, cohorts: list[int], rounds: int, cpus: int) -> list[dict[str, float]]:
    """Returns one line a round: clients, seconds, loss; the warm-up round, with the start, first."""
    dataset = Dataset.open(path)
    n_clients, n_items = len(dataset.client_ids()), int(dataset.manifest["facts"]["n_items"])
    sizes = [min(WARM_UP, n_clients), *(size for size in cohorts for _ in range(rounds))]
    lines: list[dict[str, float]] = []
    server = ServerApp()
    begin = time.perf_counter()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        strategy = Cohorts(sizes, n_clients)
        marks = [time.perf_counter()]

        def mark(server_round: int, arrays: ArrayRecord) -> None:
            marks.append(time.perf_counter())

        start = torch.Generator().manual_seed(0)
        table = {
            "factors": 0.1 * torch.randn(n_items, DIM, generator=start),
            "bias": torch.zeros(n_items),
        }
        result = strategy.start(
            grid,
            ArrayRecord(table),
            num_rounds=len(sizes),
            train_config=ConfigRecord({"dataset": str(path)}),
            evaluate_fn=mark,
        )
        for number, size in enumerate(sizes, start=1):
            metrics = result.train_metrics_clientapp[number]
            lines.append(
                {
                    "clients": size,
                    "seconds": marks[number + 1] - (marks[number] if number > 1 else begin),
                    "loss": float(metrics["loss"]),
                }
            )

    run_simulation(
        server,
        client,
        n_clients,
        backend_config={
            "init_args": {"num_cpus": cpus, "include_dashboard": False, "log_to_driver": False},
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--cohorts", type=int, nargs="+", default=[60, 600])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--cpus", type=int, default=2)
    given = parser.parse_args()
    # By its name, not as `__main__`: workers import it once and keep the Dataset open between messages.
    import flower_peer

    lines = flower_peer.bench(given.dataset.resolve(), given.cohorts, given.rounds, given.cpus)
    n_clients = len(Dataset.open(given.dataset).client_ids())
    print(json.dumps({"peer": "flower", "startup_seconds": round(lines[0]["seconds"], 2)}))
    for line in lines[1:]:
        print(json.dumps({"peer": "flower", **line}))
    for size in given.cohorts:
        middle = statistics.median(line["seconds"] for line in lines[1:] if line["clients"] == size)
        summary = {
            "peer": "flower",
            "cohort": size,
            "seconds": round(middle, 3),
            "seconds_for_all": round(middle / size * n_clients, 1),
            "n_clients": n_clients,
        }
        print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
