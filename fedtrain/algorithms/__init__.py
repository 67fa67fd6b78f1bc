"""Federated algorithms, each a constructor by its name in a recipe.

A constructor's keywords are the keys of the algorithm's table (`[train.fedprox] mu = 0.1`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fedtrain.algorithms.algorithm import Algorithm, Answer, Means, Phase, Server
from fedtrain.algorithms.fedavg import fedavg
from fedtrain.algorithms.fedprox import fedprox

__all__ = ["ALGORITHMS", "Algorithm", "Answer", "Means", "Phase", "Server"]

ALGORITHMS: Mapping[str, Callable[..., Algorithm]] = {
    "fedavg": fedavg,
    "fedprox": fedprox,
}
"""Each algorithm's constructor by its name in a recipe."""
