"""Biased matrix factorisation: a user's and an item's vector, their product, and a bias for each.

Reference: Koren, Bell, Volinsky, Matrix Factorization Techniques for Recommender Systems, IEEE Computer 2009;
federated, with the users' vectors kept at the clients: Chai et al., Secure Federated Matrix Factorization,
IEEE Intelligent Systems 2021.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from fedprep.keys import Finite, From0, Width
from fedtrain.parameters import Parameter

if TYPE_CHECKING:
    import torch

    from fedtrain.batch import Batch, Features, UserBlock
    from fedtrain.models.interface import Examples, Sizes

__all__ = ["MatrixFactorisation"]


@dataclass(frozen=True, kw_only=True)
class MatrixFactorisation:
    """score(u, i) = mean + b_u + b_i + p_u · q_i.

    dim: length of the vectors · bias: whether users and items have one · mean: the constant; None: of the
    task rating the mean of the train ratings, else 0 · start: deviation of the vectors at the start.
    """

    dim: Width = 32
    bias: bool = True
    mean: Finite | None = None
    start: From0 = 0.1

    examples: ClassVar[Examples] = "rows"

    def derived(self, sizes: Sizes) -> dict[str, Any]:
        """Returns the mean, where it is open and the task has one."""
        return {"mean": sizes.mean} if self.mean is None and sizes.mean else {}

    def parameters(self, sizes: Sizes) -> dict[str, Parameter]:
        found = {
            "user_factors": Parameter("user", (self.dim,), self.start),
            "item_factors": Parameter("item", (self.dim,), self.start),
        }
        if self.bias:
            found |= {"user_bias": Parameter("user", ()), "item_bias": Parameter("item", ())}
        return found

    def outputs(self, values: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        """Returns (C, B, m)."""
        user, item = values["user_factors"], values["item_factors"]  # (C, B, d), (C, B, m, d)
        scores = (item * user.unsqueeze(-2)).sum(-1) + (self.mean or 0.0)
        if self.bias:
            scores = scores + values["item_bias"] + values["user_bias"].unsqueeze(-1)
        return scores

    def encode_items(self, values: Mapping[str, torch.Tensor], features: Features) -> torch.Tensor:
        """Returns (C or 1, n_items, dim, and one more for the bias)."""
        import torch

        item = values["item_factors"]
        return torch.cat([item, values["item_bias"][..., None]], -1) if self.bias else item

    def scores(
        self, values: Mapping[str, torch.Tensor], items: torch.Tensor, block: UserBlock
    ) -> torch.Tensor:
        """Returns (C, U, n_items): p_u · q_i + b_i, what is the same for all of a user's items left out."""
        import torch

        user = values["user_factors"]  # (C, U, dim)
        if self.bias:
            user = torch.cat([user, torch.ones_like(user[..., :1])], -1)
        return user @ items.mT
