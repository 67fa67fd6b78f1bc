"""SASRec: a transformer over a user's items in order of time, each place predicting the next item.

    x_l = √d E[item_l] + P[l]
    x ← x + attention(LayerNorm(x)), each place to itself and those before;  x ← x + ffn(LayerNorm(x))
    score(next item i at place l) = LayerNorm(x_l) · E[i]

Items' embeddings are rows at the server, of which a client trains those that it touches; positions and
blocks are shared. A user needs no row: an unseen one is scored from its history alone.

Reference: Kang, McAuley, Self-Attentive Sequential Recommendation, ICDM 2018, equations 1 to 6; the norm
before each part as in Xiong et al., On Layer Normalization in the Transformer Architecture, ICML 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedprep.errors import TrainingError
from fedprep.keys import Depth, From0, PartShare, Positive, Width
from fedtrain.models.layers import (
    dropout,
    layer_norm,
    linear,
    linear_parameters,
    mean_over_places,
    norm_parameters,
    rows_at,
)
from fedtrain.parameters import Parameter

if TYPE_CHECKING:
    import torch

    from fedtrain.batch import Batch, Features, UserBlock
    from fedtrain.models.interface import Examples, Sizes

__all__ = ["SASRec"]


@dataclass(frozen=True, kw_only=True)
class SASRec:
    """A transformer over sequences of items.

    dim: of the embeddings · blocks: attention and ffn, so often · heads: of the attention, a divisor of dim ·
    dropout: share of values dropped after the embedding, the attention and the ffn · start: deviation of the
    items' rows and positions at the start. There are as many positions as the plan's `max_history`.
    """

    dim: Width = 64
    blocks: Depth = 2
    heads: Positive = 1
    dropout: PartShare = 0.2
    start: From0 = 0.02

    examples: ClassVar[Examples] = "sequences"

    def parameters(self, sizes: Sizes) -> dict[str, Parameter]:
        """Returns its parameters.

        Raises:
            TrainingError: the heads do not divide the dimension.
        """
        if self.heads < 1 or self.dim % self.heads:
            raise TrainingError(
                f"{self.heads} heads cannot share {self.dim} dimensions evenly",
                where="[train.sasrec] heads, dim",
                expected="heads that divide dim, such as 1, 2 or 4",
            )
        found = {
            "item.embedding": Parameter("item", (self.dim,), self.start),
            "position": Parameter("shared", (sizes.max_history, self.dim), self.start),
        }
        for block in range(self.blocks):
            found |= norm_parameters(f"block{block}.attention.norm", self.dim)
            for part in ("query", "key", "value", "out"):
                found |= linear_parameters(f"block{block}.attention.{part}", self.dim, self.dim)
            found |= norm_parameters(f"block{block}.ffn.norm", self.dim)
            for part in ("in", "out"):
                found |= linear_parameters(f"block{block}.ffn.{part}", self.dim, self.dim)
        return found | norm_parameters("norm", self.dim)

    def outputs(self, values: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        """Returns (C, B, L, 1 + n): at each place the scores of the next item and of its negatives."""
        import torch

        assert batch.given is not None
        length = batch.given.shape[-1]
        item = values["item.embedding"]  # (C, B, L inputs + L next + L·n negatives, dim)
        state = self._states(values, item[:, :, :length], batch.given, batch)
        following = item[:, :, length : 2 * length].unsqueeze(3)
        n = item.shape[2] // length - 2
        negatives = item[:, :, 2 * length :].reshape(*batch.given.shape, n, self.dim)
        candidates = torch.cat([following, negatives], 3)  # (C, B, L, 1 + n, dim)
        return (candidates @ state.unsqueeze(-1)).squeeze(-1)

    def loss(
        self,
        outputs: torch.Tensor,
        batch: Batch,
        task: Callable[[torch.Tensor, Batch], torch.Tensor],
    ) -> torch.Tensor:
        """Returns (C, B): the mean of the task's loss over the places that have a next item."""
        return mean_over_places(outputs, batch, task)

    def encode_items(self, values: Mapping[str, torch.Tensor], features: Features) -> torch.Tensor:
        """Returns (C or 1, n_items, dim): the items' rows."""
        return values["item.embedding"]

    def scores(
        self, values: Mapping[str, torch.Tensor], items: torch.Tensor, block: UserBlock
    ) -> torch.Tensor:
        """Returns (C, U, n_items): the scores of the item after each user's latest; 0 without a history."""
        import torch

        assert block.history is not None and block.given is not None
        given = block.given
        states = self._states(values, rows_at(items, block.history), given, None)
        place = torch.arange(given.shape[-1], device=given.device)
        last = (place * given).amax(-1)  # (C, U)
        state = states.gather(2, last[..., None, None].expand(-1, -1, 1, states.shape[-1]))[:, :, 0]
        return (state * given.any(-1, keepdim=True)) @ items.mT

    def _states(
        self,
        values: Mapping[str, torch.Tensor],
        item: torch.Tensor,
        given: torch.Tensor,
        batch: Batch | None,
    ) -> torch.Tensor:
        """(C, B, L, dim) of items' rows (C, B, L, dim), of which those not given stand before or behind."""
        import torch

        n_positions = values["position"].shape[-2]
        number = given.cumsum(-1) - 1
        number = number - (given.sum(-1, keepdim=True) - n_positions).clamp(min=0)
        read = given & (number >= 0)  # of a longer history the latest items
        position = rows_at(values["position"], number.clamp(0, n_positions - 1))
        x = (item * self.dim**0.5 + position) * read.unsqueeze(-1)
        place = torch.arange(given.shape[-1], device=given.device)
        before = place[:, None] >= place
        # A padded place sees itself, so that no row of the attention is empty.
        seen = (before & read.unsqueeze(-2)) | (place[:, None] == place)  # (C, B, L, L)

        def dropped(values: torch.Tensor, purpose: str) -> torch.Tensor:
            return values if batch is None else dropout(values, self.dropout, batch, purpose)

        x = dropped(x, "embedding")
        for block in range(self.blocks):
            name = f"block{block}.attention"
            x = x + dropped(self._attention(values, name, _normed(values, name, x), seen), name)
            name = f"block{block}.ffn"
            inner = _layer(values, f"{name}.in", _normed(values, name, x)).relu()
            x = x + dropped(_layer(values, f"{name}.out", inner), name)
        return layer_norm(x, values["norm.gain"], values["norm.shift"])

    def _attention(
        self, values: Mapping[str, torch.Tensor], name: str, x: torch.Tensor, seen: torch.Tensor
    ) -> torch.Tensor:
        from torch.nn.functional import scaled_dot_product_attention

        shape = x.shape  # (C, B, L, dim)
        query, key, value = (
            _layer(values, f"{name}.{part}", x)
            .reshape(-1, shape[2], self.heads, self.dim // self.heads)
            .transpose(1, 2)
            for part in ("query", "key", "value")
        )  # (C·B, heads, L, dim / heads)
        mixed = scaled_dot_product_attention(query, key, value, seen.flatten(0, 1).unsqueeze(1))
        return _layer(values, f"{name}.out", mixed.transpose(1, 2).reshape(shape))


def _layer(values: Mapping[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    return linear(x, values[f"{name}.weight"], values[f"{name}.bias"])


def _normed(values: Mapping[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    return layer_norm(x, values[f"{name}.norm.gain"], values[f"{name}.norm.shift"])
