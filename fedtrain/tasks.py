"""What is learned: a loss per example from a model's outputs.

`LOSSES[task](outputs, batch)` returns float32 (C, B); the engine takes the mean over each client's
examples of a step. Outputs are float32 (C, B, m), or (C, B, n_classes) for `classes`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from fedtrain.batch import Batch

__all__ = ["TASKS", "Task"]

Loss = Callable[["torch.Tensor", "Batch"], "torch.Tensor"]


@dataclass(frozen=True)
class Task:
    """A task: its loss, and what its target is (`label`, `rating`, `one`).

    implicit: it draws negatives · in_batch: each example is scored with the items of all examples of its
    client's step, (C, B, B): those of others are its negatives.
    """

    loss: Loss
    target: str
    implicit: bool = False
    in_batch: bool = False


def binary(outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Returns the logistic loss of outputs (C, B, 1) against labels 0 and 1."""
    from torch.nn.functional import binary_cross_entropy_with_logits

    return binary_cross_entropy_with_logits(outputs[..., 0], batch.target, reduction="none")


def classes(outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Returns the cross entropy of outputs (C, B, n_classes) against classes 0, 1, 2 …"""
    from torch.nn.functional import cross_entropy

    return cross_entropy(outputs.movedim(-1, 1), batch.target.long(), reduction="none")


def rating(outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Returns half the squared error of outputs (C, B, 1): its gradient is the error itself."""
    return 0.5 * (outputs[..., 0] - batch.target) ** 2


def bce(outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Returns the logistic loss of a positive and its n negatives: the mean over the 1 + n items.

    Reference: He et al., Neural Collaborative Filtering, WWW 2017, equation 7.
    """
    from torch.nn.functional import softplus

    loss = softplus(-outputs[..., 0]) + softplus(outputs[..., 1:]).sum(-1)
    return loss / outputs.shape[-1]


def bpr(outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Returns −log σ(positive − negative), the mean over the negatives.

    Reference: Rendle et al., BPR: Bayesian Personalized Ranking from Implicit Feedback, UAI 2009.
    """
    from torch.nn.functional import softplus

    return softplus(outputs[..., 1:] - outputs[..., :1]).mean(-1)


def softmax(outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Returns the cross entropy of the positive among itself and its n negatives (sampled softmax).

    Negatives are uniform, so the correction for how they were drawn is the same for all of them.

    Reference: Jean et al., On Using Very Large Target Vocabulary for Neural Machine Translation, ACL 2015.
    """
    return outputs.logsumexp(-1) - outputs[..., 0]


def contrastive(outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Returns the cross entropy of an example's own item among the items of its client's step.

    Outputs are (C, B, B): example by item. Left out are padded items, the example's own item where it comes
    again, and the other items of its user: those are positives. A client of one user has no negatives here.

    Reference: Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations,
    RecSys 2019, equation 4; the items' popularity is not corrected for.
    """
    import torch

    item = batch.item[:, :1, :]  # (C, 1, B)
    same = (batch.user.unsqueeze(-1) == batch.user.unsqueeze(-2)) | (item == item.mT)
    own = torch.eye(item.shape[-1], dtype=torch.bool, device=item.device)
    shown = (batch.mask.unsqueeze(-2) & ~same) | own
    scores = outputs.masked_fill(~shown, -torch.inf)
    return scores.logsumexp(-1) - outputs.diagonal(dim1=-2, dim2=-1)


TASKS: Mapping[str, Task] = {
    "binary": Task(binary, "label"),
    "classes": Task(classes, "label"),
    "rating": Task(rating, "rating"),
    "bce": Task(bce, "one", implicit=True),
    "bpr": Task(bpr, "one", implicit=True),
    "softmax": Task(softmax, "one", implicit=True),
    "contrastive": Task(contrastive, "one", in_batch=True),
}
"""Each task by its name; `implicit` in a recipe means `bce`."""
