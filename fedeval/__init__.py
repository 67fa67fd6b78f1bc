"""How good a system's recommendations are: metrics, protocols, intervals, baselines.

Names are loaded when they are first asked for, so that `import fedeval` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedeval.evaluation import Evaluation, evaluate
    from fedeval.metrics import METRICS
    from fedeval.policy import PRESETS, Policy
    from fedeval.protocol import Protocol

__all__ = ["METRICS", "PRESETS", "Evaluation", "Policy", "Protocol", "evaluate"]

_HOMES = {
    "METRICS": "metrics",
    "PRESETS": "policy",
    "Evaluation": "evaluation",
    "Policy": "policy",
    "Protocol": "protocol",
    "evaluate": "evaluation",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"fedeval.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'fedeval' has no attribute '{name}'")
