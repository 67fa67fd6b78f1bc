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

from fedprep.errors import RecipeError, TrainingError
from fedprep.keys import Depth, From0, PartShare, Width
from fedtrain.models.layers import (
    dropout,
    linear,
    linear_parameters,
    mean_class,
    of_clients,
    per_item_or_class,
    shares_of,
    user_blocks,
    widths_of,
)
from fedtrain.parameters import Parameter

if TYPE_CHECKING:
    import torch

    from fedtrain.batch import Batch, Features, UserBlock
    from fedtrain.models.interface import Examples, Sizes

__all__ = ["NeuMF"]


@dataclass(frozen=True, kw_only=True)
class NeuMF:
    """Neural matrix factorisation.

    dim: of each vector · layers: how many the perceptron has, the first 2 · dim → dim wide, each other one
    half as wide as the one before; 0: the product alone (GMF); or a list of their widths · hidden: their
    widths by the name that other models have, in place of `layers` · product: whether the product is there;
    without, it is the perceptron alone (MLP) · dropout: share of the perceptron's hidden values, in
    training, of all layers or of each · start: deviation of the vectors at the start.
    """

    dim: Width = 32
    layers: Depth | list[Width] = 2
    hidden: Width | list[Width] | None = None
    product: bool = True
    dropout: PartShare | list[PartShare] = 0.0
    start: From0 = 0.1

    examples: ClassVar[Examples] = "rows"

    @property
    def widths(self) -> list[int]:
        """Inputs of the first layer, then the outputs of each."""
        if self.hidden is not None:
            return [2 * self.dim, *widths_of(self.hidden, "ncf.hidden")]
        if not isinstance(self.layers, int):
            return [2 * self.dim, *widths_of(self.layers, "ncf.layers")]
        return [2 * self.dim, *(self.dim >> layer for layer in range(self.layers))]

    @property
    def n_layers(self) -> int:
        """Of the perceptron."""
        return len(self.widths) - 1

    def __post_init__(self) -> None:
        """Refuses widths and shares that are none.

        Raises:
            RecipeError: see `widths_of` and `shares_of`, or layers are told twice.
        """
        shares_of(self.dropout, self.n_layers, "ncf.dropout")
        if self.hidden is not None and self.layers != NeuMF.layers:
            raise RecipeError(
                f"layers = {self.layers} and hidden = {self.hidden} both say what the perceptron is",
                where="[train.ncf] layers, hidden",
                hint="leave one of them out",
            )

    def parameters(self, sizes: Sizes) -> dict[str, Parameter]:
        """Returns its parameters.

        Raises:
            TrainingError: neither a product nor a layer, or a layer of no width.
        """
        if not (self.product or self.n_layers) or min(self.widths) < 1:
            raise TrainingError(
                f"{self.layers} layers of {self.dim} dimensions, product {str(self.product).lower()}: "
                "nothing is left of one of them",
                where="[train.ncf] layers, dim, product",
                expected="a product or one layer at least, and dim ≥ 2^(layers - 1)",
            )
        found: dict[str, Parameter] = {}
        for part in ["product"] * self.product + ["mlp"] * bool(self.n_layers):
            found[f"user.{part}"] = Parameter("user", (self.dim,), self.start)
            found[f"item.{part}"] = Parameter("item", (self.dim,), self.start)
        for layer, (inputs, outputs) in enumerate(zip(self.widths, self.widths[1:], strict=False)):
            found |= linear_parameters(f"mlp.{layer}", inputs, outputs, gain=2.0)
        last = self.dim * self.product + (self.widths[-1] if self.n_layers else 0)
        return found | linear_parameters("head", last, sizes.n_outputs, head=True, fill=sizes.mean)

    def outputs(self, values: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        """Returns (C, B, m), or (C, B, n_classes) of each example's first item."""
        import torch

        parts = []
        if self.product:
            parts.append(values["user.product"].unsqueeze(2) * values["item.product"])
        if self.n_layers:
            weight = values["mlp.0.weight"]
            by_user = linear(values["user.mlp"], weight[:, : self.dim], values["mlp.0.bias"])
            first = by_user.unsqueeze(2) + linear(values["item.mlp"], weight[:, self.dim :])
            parts.append(self._perceptron(values, first, batch))
        found = linear(torch.cat(parts, -1), values["head.weight"], values["head.bias"])
        return per_item_or_class(found)

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

        shape = block.user.shape
        head, head_bias = values["head.weight"], values["head.bias"]
        product = self.dim * self.product  # columns of items, rows of the head
        if self.n_layers:
            weight = values["mlp.0.weight"]
            by_item = linear(items[..., product:], weight[:, self.dim :])
            by_user = linear(values["user.mlp"], weight[:, : self.dim], values["mlp.0.bias"])
        found = []
        width = max(self.dim, *self.widths[1:], 1)  # numbers of an item that are in memory
        for client, place in user_blocks(block.user, items.shape[1] * width):
            output = of_clients(head_bias, client).unsqueeze(1)
            if self.product:
                # w · (p ∘ q) is (p ∘ w) · q.
                own = values["user.product"][client, place].unsqueeze(-1)
                own = own * of_clients(head[:, :product], client)
                output = output + of_clients(items[..., :product], client) @ own
            if self.n_layers:
                first = of_clients(by_item, client) + by_user[client, place].unsqueeze(1)
                mine = {n: of_clients(v, client) for n, v in values.items() if n[:4] == "mlp."}
                hidden = self._perceptron(mine, first, None)
                output = output + hidden @ of_clients(head[:, product:], client)
            found.append(mean_class(output))
        return torch.cat(found).reshape(*shape, -1)

    def _perceptron(
        self, values: Mapping[str, torch.Tensor], first: torch.Tensor, batch: Batch | None
    ) -> torch.Tensor:
        # (C, ..., width of the last layer) of the first layer before its rectifier.
        hidden = first.relu()
        for layer in range(1, self.n_layers):
            hidden = hidden if batch is None else self._dropped(hidden, batch, layer)
            weight, bias = values[f"mlp.{layer}.weight"], values[f"mlp.{layer}.bias"]
            hidden = linear(hidden, weight, bias).relu()
        return hidden if batch is None else self._dropped(hidden, batch, self.n_layers)

    def _dropped(self, hidden: torch.Tensor, batch: Batch, layer: int) -> torch.Tensor:
        share = shares_of(self.dropout, self.n_layers, "ncf.dropout")[layer - 1]
        return dropout(hidden, share, batch, f"dropout {layer}")
