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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from fedtrain.models.mf import MatrixFactorisation

if TYPE_CHECKING:
    import torch

    from fedtrain.batch import Batch, Features, UserBlock
    from fedtrain.parameters import Parameter

__all__ = ["MODELS", "Examples", "Model", "Sizes"]

Examples = Literal["rows", "sequences", "bags"]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What a model must know of the data and the task.

    modalities: dimension of each modality's item embeddings · behavior: dimension of the users' behaviour
    vectors, 0 without · n_outputs: 1, or the number of classes.
    """

    n_users: int
    n_items: int
    modalities: Mapping[str, int]
    behavior: int = 0
    n_outputs: int = 1


class Model(Protocol):
    """The interface of a model."""

    examples: ClassVar[Examples]

    def parameters(self, sizes: Sizes) -> dict[str, Parameter]:
        """Returns its parameters by name."""

    def outputs(self, values: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        """Returns (C, B, m), or (C, B, n_classes) for the task `classes`."""

    def encode_items(self, values: Mapping[str, torch.Tensor], features: Features) -> torch.Tensor:
        """Returns (C or 1, n_items, e): what `scores` needs of the items, computed once."""

    def scores(
        self, values: Mapping[str, torch.Tensor], items: torch.Tensor, block: UserBlock
    ) -> torch.Tensor:
        """Returns (C, U, n_items): a score of each item for each user, for ranking."""


MODELS: Mapping[str, Callable[..., Any]] = {
    "mf": MatrixFactorisation,
}
"""Each model's constructor by its name in a recipe."""
