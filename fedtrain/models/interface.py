"""The interface of a model: what it is told of the data, what it gives, how its loss follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    import torch

    from fedtrain.batch import Batch, Features, UserBlock
    from fedtrain.parameters import Parameter

__all__ = ["Examples", "Loss", "Model", "Sizes", "example_losses"]

Examples = Literal["rows", "sequences", "bags", "graphs"]
Loss = Callable[["torch.Tensor", "Batch"], "torch.Tensor"]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What a model must know of the data and the task.

    modalities: dimension of each modality's item embeddings · behavior: dimension of the users' behaviour
    vectors, 0 without · n_outputs: 1, or the number of classes · max_history: the longest sequence · mean: of
    the train ratings, where outputs begin; 0 for other tasks.
    """

    n_users: int
    n_items: int
    modalities: Mapping[str, int]
    behavior: int = 0
    n_outputs: int = 1
    max_history: int = 200
    mean: float = 0.0


class Model(Protocol):
    """The interface of a model.

    One with keys that may be left open has a method `derived(sizes) -> dict[str, Any]` as well: the values of
    those that are None and that the data decide.
    """

    examples: ClassVar[Examples]

    def parameters(self, sizes: Sizes) -> dict[str, Parameter]:
        """Returns its parameters by name."""

    def outputs(
        self, values: Mapping[str, torch.Tensor], batch: Batch
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Returns (C, B, m), or (C, B, n_classes) for the task `classes`; or a pair of it and (C, B).

        The second of a pair is added to the examples' losses. A model whose outputs are not what the
        tasks' losses take has a method `loss(outputs, batch, task_loss) -> (C, B)`; `example_losses`
        asks it.
        """

    def encode_items(self, values: Mapping[str, torch.Tensor], features: Features) -> torch.Tensor:
        """Returns (C or 1, n_items, e): what `scores` needs of the items, computed once."""

    def scores(
        self, values: Mapping[str, torch.Tensor], items: torch.Tensor, block: UserBlock
    ) -> torch.Tensor:
        """Returns (C, U, n_items): a score of each item for each user, for ranking."""


def example_losses(
    model: Model, values: Mapping[str, torch.Tensor], batch: Batch, loss: Loss
) -> torch.Tensor:
    """Returns float32 (C, B): each example's loss, by the task's `loss` or the model's own, and what it adds.

    Where `batch.mask` is False the number means nothing.
    """
    found = model.outputs(values, batch)
    outputs, extra = found if isinstance(found, tuple) else (found, None)
    own: Callable[..., torch.Tensor] | None = getattr(model, "loss", None)
    losses = own(outputs, batch, loss) if own else loss(outputs, batch)
    return losses if extra is None else losses + extra
