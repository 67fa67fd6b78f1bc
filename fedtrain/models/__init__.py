"""Models: which parameters they have, their outputs on a batch, their scores of all items.

A model is a frozen value; its constructor's keywords are the keys of its table in a recipe
(`[train.mf] dim = 64`). It trains no one: it only says how outputs follow from parameters. All values
that it is given have the clients first:

| scope  | in `outputs`          | in `encode_items`, `scores` (leading axis 1: the same for all clients) |
| ------ | --------------------- | ---------------------------------------------------------------------- |
| shared | (C, *shape)           | (C or 1, *shape)                                                       |
| item   | (C, B, m, *shape)     | (C or 1, n_items, *shape)                                              |
| user   | (C, B, *shape)        | (C, U, *shape)                                                         |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fedtrain.models.interface import Examples, Loss, Model, Sizes, example_losses
from fedtrain.models.lightgcn import LightGCN
from fedtrain.models.mf import MatrixFactorisation
from fedtrain.models.ncf import NeuMF
from fedtrain.models.sasrec import SASRec
from fedtrain.models.two_tower import TwoTower
from fedtrain.models.vae import MultVAE, RatingVAE

__all__ = ["MODELS", "Examples", "Loss", "Model", "Sizes", "example_losses"]

MODELS: Mapping[str, Callable[..., Any]] = {
    "mf": MatrixFactorisation,
    "ncf": NeuMF,
    "two_tower": TwoTower,
    "mult_vae": MultVAE,
    "rating_vae": RatingVAE,
    "sasrec": SASRec,
    "lightgcn": LightGCN,
}
"""Each model's constructor by its name in a recipe."""
