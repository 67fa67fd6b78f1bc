"""Federated, multimodal recommender data: raw files in, a verified Dataset out.

Names are loaded when they are first asked for, so that `import fedprep` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedprep.build import Hands, build_dataset, repartition
    from fedprep.checks import validate
    from fedprep.dataset import ClientArrays, Dataset
    from fedprep.errors import FedprepError
    from fedprep.recipe import Recipe, load_recipe, parse_recipe

__all__ = [
    "ClientArrays",
    "Dataset",
    "FedprepError",
    "Hands",
    "Recipe",
    "build_dataset",
    "load_recipe",
    "parse_recipe",
    "repartition",
    "validate",
]

_HOMES = {
    "ClientArrays": "dataset",
    "Dataset": "dataset",
    "FedprepError": "errors",
    "Hands": "build",
    "build_dataset": "build",
    "Recipe": "recipe",
    "load_recipe": "recipe",
    "parse_recipe": "recipe",
    "repartition": "build",
    "validate": "checks",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"fedprep.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'fedprep' has no attribute '{name}'")
