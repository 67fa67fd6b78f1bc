"""Variational auto-encoders of a user's rows: which items (Mult-VAE), or which ratings (rating VAE).

    h = tanh(Σ_i x_i E_i + e)       μ, log σ² = W h + b       z = μ + σ ε       (training; else z = μ)
    d = tanh(V z + v)               output of item i: D_i · d + b_i       (more layers on request)
    loss = −log p(x | z) + β KL(N(μ, σ²) ‖ N(0, 1)), both divided by the user's number of rows

β rises to `kl_weight` over the first `annealing` share of the rounds. A part of the rows is hidden from the
encoder in training. All of a user's rows are one example; its encoder and decoder rows of an item are
touched by the clients that hold it.

Reference: Liang et al., Variational Autoencoders for Collaborative Filtering, WWW 2018, equations 2, 5, 7;
ratings: Sedhain et al., AutoRec: Autoencoders Meet Collaborative Filtering, WWW 2015, equation 1 (squared
error of the given ratings alone); federated: Polato, Federated Variational Autoencoder for Collaborative
Filtering, IJCNN 2021.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from fedprep.keys import Finite, From0, PartShare, Share, Width
from fedtrain.models.layers import (
    linear,
    linear_parameters,
    normal,
    rows_at,
    rows_of,
    widths_of,
)
from fedtrain.parameters import Parameter

if TYPE_CHECKING:
    import torch

    from fedtrain.batch import Batch, Features, UserBlock
    from fedtrain.models.interface import Examples, Sizes

__all__ = ["MultVAE", "RatingVAE"]

Task = Callable[["torch.Tensor", "Batch"], "torch.Tensor"]


@dataclass(frozen=True, kw_only=True)
class MultVAE:
    """Mult-VAE: which items a user has, as a multinomial over all items.

    dim: of z · hidden: width of h and d, or of each layer from the items to z, and back ·
    dropout: share of a user's rows hidden from the encoder in training ·
    kl_weight: β at its highest · annealing: share of the rounds until it is reached, 0 for at once ·
    start: deviation of the items' rows at the start. The decoder's rows of all items are one shared
    tensor (n_items, hidden): the likelihood is over all of them, so that each client trains them all.

    Reference: Liang et al., Variational Autoencoders for Collaborative Filtering, WWW 2018.
    """

    dim: Width = 64
    hidden: Width | list[Width] = 128
    dropout: PartShare = 0.5
    kl_weight: From0 = 0.2
    annealing: Share = 0.5
    start: From0 = 0.1

    examples: ClassVar[Examples] = "bags"

    def __post_init__(self) -> None:
        """Refuses widths that are none.

        Raises:
            RecipeError: see `widths_of`.
        """
        widths_of(self.hidden, "mult_vae.hidden")

    @property
    def widths(self) -> list[int]:
        """Of the layers from the items to z."""
        return widths_of(self.hidden, "mult_vae.hidden")

    def parameters(self, sizes: Sizes) -> dict[str, Parameter]:
        return {
            "encoder.item": Parameter("item", (self.widths[0],), self.start),
            **_layers(self.dim, self.widths),
            "decoder.item": Parameter("shared", (sizes.n_items, self.widths[0]), self.start),
            "decoder.item_bias": Parameter("shared", (sizes.n_items,)),
        }

    def outputs(
        self, values: Mapping[str, torch.Tensor], batch: Batch
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns each item's logit (C, B, n_items), and β KL / rows (C, B)."""
        assert batch.given is not None
        kept = _shown(batch, self.dropout) / (1 - self.dropout * _drawn(batch))
        pooled = self._pooled(values["encoder.item"], kept * batch.target, batch.target)
        code, kl = _through(values, pooled, batch)
        beta = _beta(self.kl_weight, self.annealing, batch)
        return self._decoded(values, code), beta * kl / _counts(batch.given)

    def loss(self, outputs: torch.Tensor, batch: Batch, task: Task) -> torch.Tensor:
        """Returns (C, B): −Σ x_i log softmax(outputs)_i / Σ x_i; the task's own loss is not used."""
        own = outputs.log_softmax(-1).gather(-1, batch.item)
        return -(own * batch.target).sum(-1) / batch.target.sum(-1).clamp(min=1)

    def encode_items(self, values: Mapping[str, torch.Tensor], features: Features) -> torch.Tensor:
        """Returns (C or 1, n_items, hidden): the encoder's rows."""
        return values["encoder.item"]

    def scores(
        self, values: Mapping[str, torch.Tensor], items: torch.Tensor, block: UserBlock
    ) -> torch.Tensor:
        """Returns (C, U, n_items): the logits, z at its mean."""
        assert block.history is not None and block.given is not None
        given = block.given.to(items.dtype)
        code, _ = _through(values, self._pooled(rows_at(items, block.history), given, given), None)
        return self._decoded(values, code)

    def _pooled(
        self, rows: torch.Tensor, weight: torch.Tensor, target: torch.Tensor
    ) -> torch.Tensor:
        # The paper scales a user's vector to length 1, before dropout.
        norm = (target * target).sum(-1, keepdim=True).clamp(min=1e-12).sqrt()
        return ((weight / norm).unsqueeze(-2) @ rows).squeeze(-2)

    def _decoded(self, values: Mapping[str, torch.Tensor], code: torch.Tensor) -> torch.Tensor:
        # The rows come first in the product, so that their gradient comes out in their own layout.
        return (values["decoder.item"] @ code.mT).mT + rows_of(values["decoder.item_bias"], 3)


@dataclass(frozen=True, kw_only=True)
class RatingVAE:
    """Rating VAE: which rating a user gives, mean + b_i + b_u + D_i · d.

    b_u is the mean of the shown ratings' residuals r − mean − b_i, shrunk: Σ / (number + `shrinkage`); the
    encoder is shown those residuals and which items they are of.

    dim: of z · hidden: width of h and d, or of each layer from the items to z, and back ·
    mean: the constant; None: that of the train ratings ·
    dropout: share of a user's ratings hidden from the encoder in training ·
    hidden_only: whether the loss is of the hidden ratings alone, and not of the shown ones too ·
    kl_weight: β at its highest · annealing: share of the rounds until it is reached, 0 for at once ·
    shrinkage: above · start: deviation of the items' rows at the start.

    Reference: Sedhain et al., AutoRec: Autoencoders Meet Collaborative Filtering, WWW 2015.
    """

    dim: Width = 32
    hidden: Width | list[Width] = 64
    mean: Finite | None = None
    dropout: PartShare = 0.5
    hidden_only: bool = False
    kl_weight: From0 = 0.1
    annealing: Share = 0.5
    shrinkage: From0 = 5.0
    start: From0 = 0.1

    examples: ClassVar[Examples] = "bags"

    def __post_init__(self) -> None:
        """Refuses widths that are none.

        Raises:
            RecipeError: see `widths_of`.
        """
        widths_of(self.hidden, "rating_vae.hidden")

    @property
    def widths(self) -> list[int]:
        """Of the layers from the items to z."""
        return widths_of(self.hidden, "rating_vae.hidden")

    def derived(self, sizes: Sizes) -> dict[str, Any]:
        """Returns the mean, where it is open and the task has one."""
        return {"mean": sizes.mean} if self.mean is None and sizes.mean else {}

    def parameters(self, sizes: Sizes) -> dict[str, Parameter]:
        return {
            "encoder.rating": Parameter("item", (self.widths[0],), self.start),
            "encoder.seen": Parameter("item", (self.widths[0],), self.start),
            **_layers(self.dim, self.widths),
            "decoder.item": Parameter("item", (self.widths[0],), self.start),
            "item_bias": Parameter("item", ()),
        }

    def outputs(
        self, values: Mapping[str, torch.Tensor], batch: Batch
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the rating of each place (C, B, L), and β KL / rows (C, B)."""
        assert batch.given is not None
        bias = values["item_bias"]
        pooled, offset = self._pooled(
            values["encoder.rating"],
            values["encoder.seen"],
            batch.target - (self.mean or 0.0) - bias,
            _shown(batch, self.dropout),
        )
        code, kl = _through(values, pooled, batch)
        rating = (values["decoder.item"] @ code.unsqueeze(-1)).squeeze(-1) + bias
        beta = _beta(self.kl_weight, self.annealing, batch)
        return rating + offset + (self.mean or 0.0), beta * kl / _counts(batch.given)

    def loss(self, outputs: torch.Tensor, batch: Batch, task: Task) -> torch.Tensor:
        """Returns (C, B): half the mean squared error of the ratings; the task's own loss is not used."""
        assert batch.given is not None
        counted = batch.given
        if self.hidden_only and _drawn(batch):
            counted = counted & ~_shown(batch, self.dropout)
        error = 0.5 * (outputs - batch.target) ** 2
        return (error * counted).sum(-1) / _counts(counted)

    def encode_items(self, values: Mapping[str, torch.Tensor], features: Features) -> torch.Tensor:
        """Returns (C or 1, n_items, 3 · hidden + 1): the encoder's two rows, the decoder's, the bias."""
        import torch

        rows = [values[name] for name in ("encoder.rating", "encoder.seen", "decoder.item")]
        return torch.cat([*rows, values["item_bias"].unsqueeze(-1)], -1)

    def scores(
        self, values: Mapping[str, torch.Tensor], items: torch.Tensor, block: UserBlock
    ) -> torch.Tensor:
        """Returns (C, U, n_items): the ratings, z at its mean."""
        assert block.history is not None and block.given is not None and block.rating is not None
        by_rating, by_seen, by_decoder, bias = self._columns(items)
        residual = block.rating - (self.mean or 0.0) - rows_at(bias, block.history)[..., 0]
        pooled, offset = self._pooled(
            rows_at(by_rating, block.history),
            rows_at(by_seen, block.history),
            residual,
            block.given,
        )
        code, _ = _through(values, pooled, None)
        return code @ by_decoder.mT + bias.mT + offset + (self.mean or 0.0)

    def _columns(self, items: torch.Tensor) -> list[torch.Tensor]:
        width = self.widths[0]
        rows = [items[..., part * width : (part + 1) * width] for part in range(3)]
        return [*rows, items[..., 3 * width :]]

    def _pooled(
        self,
        by_rating: torch.Tensor,
        by_seen: torch.Tensor,
        residual: torch.Tensor,
        shown: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        # (C, B, hidden) and the user's offset (C, B, 1); rows (C, B, L, hidden), the others (C, B, L).
        residual = residual * shown
        n = shown.sum(-1, keepdim=True)
        offset = residual.sum(-1, keepdim=True) / (n + self.shrinkage)
        seen = shown.to(residual.dtype).unsqueeze(-2) @ by_seen
        pooled = (residual.unsqueeze(-2) @ by_rating + seen).squeeze(-2)
        return pooled / n.clamp(min=1).sqrt(), offset


def _layers(dim: int, widths: list[int]) -> dict[str, Parameter]:
    found = {"encoder.bias": Parameter("shared", (widths[0],))}
    for layer, (outer, inner) in enumerate(pairwise(widths), 1):
        found |= linear_parameters(f"encoder.{layer}", outer, inner)
    found |= linear_parameters("latent.mean", widths[-1], dim)
    found |= linear_parameters("latent.log_variance", widths[-1], dim)
    found |= linear_parameters("decoder", dim, widths[-1])
    for layer, (outer, inner) in enumerate(pairwise(widths), 1):
        found |= linear_parameters(f"decoder.{layer}", inner, outer)
    return found


def _through(
    values: Mapping[str, torch.Tensor], pooled: torch.Tensor, batch: Batch | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """d (C, B, hidden), and the divergence of z from N(0, 1), (C, B), of pooled rows (C, B, hidden)."""
    hidden = (pooled + values["encoder.bias"].unsqueeze(1)).tanh()
    further = sum(name.startswith("encoder.") and name.endswith(".weight") for name in values)
    for layer in range(1, further + 1):
        weight, bias = values[f"encoder.{layer}.weight"], values[f"encoder.{layer}.bias"]
        hidden = linear(hidden, weight, bias).tanh()
    mean = linear(hidden, values["latent.mean.weight"], values["latent.mean.bias"])
    log_variance = linear(
        hidden, values["latent.log_variance.weight"], values["latent.log_variance.bias"]
    )
    z = mean
    if batch is not None and _drawn(batch):
        z = mean + (0.5 * log_variance).exp() * normal(batch, "latent", mean.shape[-1])
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(-1)
    decoded = linear(z, values["decoder.weight"], values["decoder.bias"]).tanh()
    for layer in range(further, 0, -1):
        weight, bias = values[f"decoder.{layer}.weight"], values[f"decoder.{layer}.bias"]
        decoded = linear(decoded, weight, bias).tanh()
    return decoded, kl


def _drawn(batch: Batch) -> bool:
    return batch.training and batch.noise is not None


def _shown(batch: Batch, share: float) -> torch.Tensor:
    """bool (C, B, L): the rows that the encoder is shown."""
    assert batch.given is not None
    if not (share and batch.training and batch.noise):
        return batch.given
    return batch.given & (batch.noise("input", batch.given.shape[-1]) >= share)


def _beta(most: float, annealing: float, batch: Batch) -> float:
    return most * min(1.0, batch.progress / annealing) if annealing else most


def _counts(given: torch.Tensor) -> torch.Tensor:
    return given.sum(-1).clamp(min=1)
