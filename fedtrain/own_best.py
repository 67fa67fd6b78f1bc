"""Each client's own best round: where nothing is exchanged, no client has to stop with the others.

What a client has trained is kept a second time, as it was after the round in which the loss on its own valid
rows was least; with that it is served at the end. It lies beside what `Clients` keep, under names that begin
with `own/`, and so in every checkpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from fedtrain.clients import Clients

if TYPE_CHECKING:
    from fedtrain.federation import Federation

__all__ = ["OWN", "judge", "served", "told"]

OWN = "own/"
LOSS, ROUND, USERS = OWN + "loss", OWN + "round", OWN + "users/"

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def judge(
    clients: Clients, federation: Federation, number: int, client: Ints, loss: Floats
) -> None:
    """Keeps, in `clients`, the state of those whose loss on their own valid rows is the least so far.

    Args:
        clients: after the round.
        federation: whose users are where.
        number: of the round.
        client: int64 (n,): whose each valid row is.
        loss: float64 (n,), of each row; a mean that is not finite is never the least.
    """
    n = clients.n_clients
    count = np.bincount(client, minlength=n)
    mean = np.bincount(client, weights=loss, minlength=n) / np.maximum(count, 1)
    least = clients.shared.setdefault(LOSS, torch.full((n,), np.inf, dtype=torch.float64))
    rounds = clients.shared.setdefault(ROUND, torch.zeros(n, dtype=torch.float64))
    better = np.flatnonzero((count > 0) & np.isfinite(mean) & (mean < least.numpy()))
    if not len(better):
        return
    least[better] = torch.from_numpy(mean[better])
    rounds[better] = float(number)
    slots = _slots(federation, better)
    for name, value in clients.users.items():
        _copied(clients.shared, USERS + name, value, slots)
    for name in [name for name in clients.shared if not name.startswith(OWN)]:
        _copied(clients.shared, OWN + name, clients.shared[name], better)
    for name in [name for name in clients.rows if not name.startswith(OWN)]:
        clients.row_store(OWN + name).take(clients.rows[name], better)


def served(clients: Clients, federation: Federation) -> Clients:
    """Returns the clients as they are served: each that was ever judged in its own best round."""
    if LOSS not in clients.shared:
        return clients
    judged = np.flatnonzero(np.isfinite(clients.shared[LOSS].numpy()))
    slots = _slots(federation, judged)
    found = Clients(clients.n_clients, {n: rows.clone() for n, rows in clients.users.items()})
    for name, rows in found.users.items():
        if USERS + name in clients.shared:
            rows[slots] = clients.shared[USERS + name][slots]
    for name, value in clients.shared.items():
        if not name.startswith(OWN):
            found.shared[name] = value.clone()
            if OWN + name in clients.shared:
                found.shared[name][judged] = clients.shared[OWN + name][judged]
    for name, store in clients.rows.items():
        if not name.startswith(OWN):
            found.row_store(name).take(store, np.arange(clients.n_clients))
            if OWN + name in clients.rows:
                found.row_store(name).take(clients.rows[OWN + name], judged)
    return found


def told(clients: Clients, federation: Federation) -> dict[str, Any]:
    """Returns what is said of it: first, median and last of the best rounds; how many clients have none."""
    trained = np.flatnonzero(federation.train.counts > 0)
    rounds = np.zeros(0) if LOSS not in clients.shared else clients.shared[ROUND].numpy()[trained]
    best = rounds[rounds > 0]
    points = np.quantile(best, [0.0, 0.5, 1.0]).tolist() if len(best) else [0.0, 0.0, 0.0]
    return {
        "clients": len(best),
        "first": int(points[0]),
        "median": points[1],
        "last": int(points[2]),
        "without_valid": len(trained) - len(best),
    }


def _slots(federation: Federation, clients: Ints) -> Ints:
    chosen = np.zeros(federation.n_clients, bool)
    chosen[clients] = True
    return np.flatnonzero(chosen[federation.slot_client])


def _copied(kept: dict[str, torch.Tensor], name: str, value: torch.Tensor, lines: Ints) -> None:
    if name not in kept:
        kept[name] = value.clone()
    at = torch.from_numpy(lines)
    kept[name][at] = value[at]
