"""Federated algorithms, each a constructor by its name in a recipe.

A constructor's keywords are the keys of the algorithm's table (`[train.fedprox] mu = 0.1`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fedtrain.algorithms.algorithm import Algorithm, Answer, Means, Moved, Phase, Server
from fedtrain.algorithms.controls import centralised, local
from fedtrain.algorithms.fedavg import fedavg
from fedtrain.algorithms.fedfnn import fedfnn
from fedtrain.algorithms.fednova import fednova
from fedtrain.algorithms.fedopt import fedadagrad, fedadam, fedyogi
from fedtrain.algorithms.fedper import fedper
from fedtrain.algorithms.fedprox import fedprox
from fedtrain.algorithms.fedrecon import fedrecon
from fedtrain.algorithms.scaffold import scaffold

__all__ = ["ALGORITHMS", "Algorithm", "Answer", "Means", "Moved", "Phase", "Server"]

ALGORITHMS: Mapping[str, Callable[..., Algorithm]] = {
    "fedavg": fedavg,
    "fedprox": fedprox,
    "scaffold": scaffold,
    "fednova": fednova,
    "fedadam": fedadam,
    "fedyogi": fedyogi,
    "fedadagrad": fedadagrad,
    "fedper": fedper,
    "fedrecon": fedrecon,
    "fedfnn": fedfnn,
    "local": local,
    "centralised": centralised,
}
"""Each algorithm's constructor by its name in a recipe."""
