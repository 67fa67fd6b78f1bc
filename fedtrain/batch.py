"""One local step of many clients side by side: what a model is given.

C clients, B examples each (padded, see `mask`), m items an example. What an example is says the model:

| examples    | an example is                  | item (C, B, m)                          | target       |
| ----------- | ------------------------------ | --------------------------------------- | ------------ |
| `rows`      | a row of the client            | m = 1; implicit tasks: and n negatives  | (C, B)       |
| `sequences` | a user's rows in order of time | L inputs, L next items, L·n negatives   | (C, B, L)    |
| `bags`      | all rows of a user             | L, the most rows of a user of the step  | (C, B, L)    |
| `graphs`    | all rows of a user             | L rows, L·n negatives                   | (C, B, L)    |

The target is a row's label or rating, or 1 for implicit tasks; of a sequence 1 where there is a next item;
0 where padded. The n negatives of a place stand together, in order of places. For the task `contrastive` the
rows' items are (C, 1, B), and item rows likewise: each example is scored with all of them, (C, B, B).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["Batch", "Features", "UserBlock"]


@dataclass(frozen=True)
class Features:
    """What is known of items and users and does not train; on the device of the run.

    items: by modality (`text`, `image`): float32 (n_items, dim), 0 where an item has none ·
    has: by modality: bool (n_items,) · behavior: float32 (n_users, dim), None where the Dataset has none.
    """

    items: Mapping[str, torch.Tensor] = field(default_factory=dict)
    has: Mapping[str, torch.Tensor] = field(default_factory=dict)
    behavior: torch.Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """C clients' examples of one step.

    user: int64 (C, B): user ids, for features · item: int64 (C, B, m): item ids, 0 where padded ·
    target: float32, shapes above · mask: bool (C, B): False where a place is padded ·
    given: bool (C, B, L), for sequences, bags and graphs: False where an example is padded (of a sequence:
    its inputs) ·
    features: frozen inputs · training: whether dropout and the like apply ·
    noise: `noise("dropout", 7)` → float32 (C, B, 7), uniform in [0, 1), by client, round and step alone.
    """

    user: torch.Tensor
    item: torch.Tensor
    target: torch.Tensor
    mask: torch.Tensor
    features: Features
    given: torch.Tensor | None = None
    training: bool = True
    noise: Callable[..., torch.Tensor] | None = None
    progress: float = 1.0  # share of the run's rounds that have passed, for KL annealing


@dataclass(frozen=True)
class UserBlock:
    """U users of each of C clients, padded, whose scores of all items are asked for.

    user: int64 (C, U): user ids · history: int64 (C, U, H): the items of the user's seen rows in order of
    time, the latest last · given: bool (C, U, H): False where padded · rating: float32 (C, U, H), of
    those rows · features: frozen inputs. The history is there for sequences, bags and graphs alone.
    """

    user: torch.Tensor
    features: Features
    history: torch.Tensor | None = None
    given: torch.Tensor | None = None
    rating: torch.Tensor | None = None
