"""NeuMF: a generalised product of two vectors beside a multi-layer perceptron of two others.

    g = p_u ∘ q_i        m = relu(W_n … relu(W_1 [p'_u; q'_i] + b_1) …)        out = w · [g; m] + c

The users' vectors stay at their client; the last layer is the head.

Reference: He et al., Neural Collaborative Filtering, WWW 2017, equations 8 to 12; federated: Perifanis,
Efraimidis, Federated Neural Collaborative Filtering, Knowledge-Based Systems 2022.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedprep.errors import TrainingError
from fedtrain.models.layers import (
    dropout,
    linear,
    linear_parameters,
    mean_class,
    per_item_or_class,
)
from fedtrain.parameters import Parameter

if TYPE_CHECKING:
    import torch

    from fedtrain.batch import Batch, Features, UserBlock
    from fedtrain.models.interface import Examples, Sizes

__all__ = ["NeuMF"]

SCORED_AT_ONCE = 2**23  # numbers of the first hidden layer


@dataclass(frozen=True, kw_only=True)
class NeuMF:
    """Neural matrix factorisation.

    dim: of each vector · layers: of the perceptron, the first 2 · dim → dim wide, each other one half as wide
    as the one before; 0: the product alone (GMF) · product: whether the product is there; without, it is
    the perceptron alone (MLP) · dropout: share of the perceptron's hidden values, in training ·
    start: deviation of the vectors at the start.
    """

    dim: int = 32
    layers: int = 2
    product: bool = True
    dropout: float = 0.0
    start: float = 0.1

    examples: ClassVar[Examples] = "rows"

    @property
    def widths(self) -> list[int]:
        """Inputs of the first layer, then the outputs of each."""
        return [2 * self.dim, *(self.dim >> layer for layer in range(self.layers))]

    def parameters(self, sizes: Sizes) -> dict[str, Parameter]:
        """Returns its parameters.

        Raises:
            TrainingError: neither a product nor a layer, or a layer of no width.
        """
        if not (self.product or self.layers) or min(self.widths) < 1:
            raise TrainingError(
                f"{self.layers} layers of {self.dim} dimensions, product {str(self.product).lower()}: "
                "nothing is left of one of them",
                where="[train.ncf] layers, dim, product",
                expected="a product or one layer at least, and dim ≥ 2^(layers - 1)",
            )
        found: dict[str, Parameter] = {}
        for part in ["product"] * self.product + ["mlp"] * bool(self.layers):
            found[f"user.{part}"] = Parameter("user", (self.dim,), self.start)
            found[f"item.{part}"] = Parameter("item", (self.dim,), self.start)
        for layer, (inputs, outputs) in enumerate(zip(self.widths, self.widths[1:], strict=False)):
            found |= linear_parameters(f"mlp.{layer}", inputs, outputs, gain=2.0)
        last = self.dim * self.product + (self.widths[-1] if self.layers else 0)
        return found | linear_parameters("head", last, sizes.n_outputs, head=True)

    def outputs(self, values: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        """Returns (C, B, m), or (C, B, n_classes) of each example's first item."""
        product, first = {}, None
        if self.product:
            product = {"user": values["user.product"], "item": values["item.product"]}
        if self.layers:
            weight = values["mlp.0.weight"]
            by_user = linear(values["user.mlp"], weight[:, : self.dim], values["mlp.0.bias"])
            first = by_user.unsqueeze(2) + linear(values["item.mlp"], weight[:, self.dim :])
        return per_item_or_class(self._joined(values, product, first, batch))

    def encode_items(self, values: Mapping[str, torch.Tensor], features: Features) -> torch.Tensor:
        """Returns (C or 1, n_items, dim or 2 · dim): the items' vectors."""
        import torch

        names = [name for name in ("item.product", "item.mlp") if name in values]
        return torch.cat([values[name] for name in names], -1)

    def scores(
        self, values: Mapping[str, torch.Tensor], items: torch.Tensor, block: UserBlock
    ) -> torch.Tensor:
        """Returns (C, U, n_items): the output; for classes the mean of the class under their shares."""
        import torch

        n_clients, n_users = block.user.shape
        at_once = max(1, SCORED_AT_ONCE // (n_clients * items.shape[1] * self.dim))
        by_item = None
        if self.layers:
            weight = values["mlp.0.weight"]
            by_item = linear(items[..., -self.dim :], weight[:, self.dim :]).unsqueeze(1)
        found = []
        for begin in range(0, n_users, at_once):
            some = slice(begin, begin + at_once)
            product, first = {}, None
            if self.product:
                product = {
                    "user": values["user.product"][:, some],
                    "item": items[..., : self.dim].unsqueeze(1),
                }
            if by_item is not None:
                user = values["user.mlp"][:, some]
                first = linear(user, weight[:, : self.dim], values["mlp.0.bias"]).unsqueeze(2)
                first = first + by_item
            found.append(mean_class(self._joined(values, product, first, None)))
        return torch.cat(found, 1)

    def _joined(
        self,
        values: Mapping[str, torch.Tensor],
        product: Mapping[str, torch.Tensor],
        first: torch.Tensor | None,
        batch: Batch | None,
    ) -> torch.Tensor:
        # (C, B, m, n_outputs) of vectors (C, B, dim), (C, B or 1, m, dim), and the first layer's sums.
        import torch

        parts = []
        if product:
            parts.append(product["user"].unsqueeze(2) * product["item"])
        if first is not None:
            hidden = first.relu()
            for layer in range(1, self.layers):
                hidden = hidden if batch is None else self._dropped(hidden, batch, layer)
                weight, bias = values[f"mlp.{layer}.weight"], values[f"mlp.{layer}.bias"]
                hidden = linear(hidden, weight, bias).relu()
            parts.append(hidden if batch is None else self._dropped(hidden, batch, self.layers))
        return linear(torch.cat(parts, -1), values["head.weight"], values["head.bias"])

    def _dropped(self, hidden: torch.Tensor, batch: Batch, layer: int) -> torch.Tensor:
        return dropout(hidden, self.dropout, batch, f"dropout {layer}")
