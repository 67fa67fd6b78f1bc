"""Two towers: an item from its text, image and identity, a user from its behaviour; a head joins them.

Each modality is projected to `dim` numbers and normalised by itself, so that none drowns another
whatever its scale. An item without a modality has that modality's learned token in its place.

    e_m  = LayerNorm(W_m x_m + b_m), or the token t_m where there is none
    item = Σ_m α_m e_m, α = softmax_m(g_m · e_m + c_m)   (`gated`), or W [e_text; e_image] + b  (`concat`)
    user = LayerNorm(W_b behaviour + b_b)
    out  = w · relu(W_u user + W_i item + W_x (user ∘ item) + b) + c       the head; more layers on request

The head is personal under FedPer: it never leaves the client.

Reference: Arivazhagan et al., Federated Learning with Personalization Layers, 2019 (base and head);
Arevalo et al., Gated Multimodal Units for Information Fusion, ICLR workshop 2017 (the gate);
Covington et al., Deep Neural Networks for YouTube Recommendations, RecSys 2016 (the towers);
Verma et al., Manifold Mixup, ICML 2019 (mixing of embeddings).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fedprep.errors import TrainingError
from fedprep.keys import Above0, From0, PartShare, Share, Width
from fedtrain.models.layers import (
    distinct,
    dropout,
    layer_norm,
    linear,
    linear_parameters,
    mean_class,
    norm_parameters,
    of_clients,
    per_item_or_class,
    rows_of,
    shares_of,
    user_blocks,
    widths_of,
)
from fedtrain.parameters import Parameter

if TYPE_CHECKING:
    import torch

    from fedtrain.batch import Batch, Features, UserBlock
    from fedtrain.models.interface import Examples, Sizes

__all__ = ["TwoTower"]

WORTH_SORTING = 256  # places of a client in a step from which its items are projected once each


@dataclass(frozen=True, kw_only=True)
class TwoTower:
    """Text, image and behaviour in two towers with a head.

    dim: of the embeddings · hidden: width of the head's hidden layer, or of each of several · text, image,
    behavior: which inputs are used; None: those that the Dataset has · item_id, user_id: whether items (at
    the server) and users (at their client) also have a row of their own, added to what their inputs give;
    None: where there are no inputs · fusion: `gated` or `concat` · head: `mlp`, or `cosine`: cos(W user,
    item) / temperature + c, which suits softmax and contrastive · modality_dropout: share of an item's
    modalities replaced by their token in training · dropout: share of the head's hidden values, of all
    layers or of each · mixup: in training each example is mixed with the client's next one in the step, by
    a weight uniform in [0, mixup); 1 is α = 1 of the paper · start: deviation of the rows at the start.
    """

    dim: Width = 64
    hidden: Width | list[Width] = 64
    text: bool | None = None
    image: bool | None = None
    behavior: bool | None = None
    item_id: bool | None = None
    user_id: bool | None = None
    fusion: Literal["gated", "concat"] = "gated"
    head: Literal["mlp", "cosine"] = "mlp"
    temperature: Above0 = 0.1
    modality_dropout: Share = 0.0
    dropout: PartShare | list[PartShare] = 0.0
    mixup: Share = 0.0
    start: From0 = 0.1

    examples: ClassVar[Examples] = "rows"

    def __post_init__(self) -> None:
        """Refuses widths and shares that are none.

        Raises:
            RecipeError: see `widths_of` and `shares_of`.
        """
        shares_of(self.dropout, len(self.widths), "two_tower.dropout")

    @property
    def widths(self) -> list[int]:
        """Of the head's hidden layers."""
        return widths_of(self.hidden, "two_tower.hidden")

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(name for name in ("text", "image") if getattr(self, name) is not False)

    @property
    def behaves(self) -> bool:
        """Whether users have their behaviour as an input."""
        return self.behavior is not False

    def derived(self, sizes: Sizes) -> dict[str, Any]:
        """Returns False for open inputs that the Dataset lacks, True for rows of what has no inputs."""
        lacking = {name for name in ("text", "image") if name not in sizes.modalities}
        lacking |= set() if sizes.behavior else {"behavior"}
        found: dict[str, Any] = {
            name: False for name in sorted(lacking) if getattr(self, name) is None
        }
        known = replace(self, **found)
        if self.item_id is None and not known.modalities:
            found["item_id"] = True
        if self.user_id is None and not known.behaves:
            found["user_id"] = True
        return found

    def parameters(self, sizes: Sizes) -> dict[str, Parameter]:
        """Returns its parameters; those of the head have `head` set.

        Raises:
            TrainingError: an input is asked for that the Dataset lacks, or none is, or an option is unknown.
        """
        self._refuse(sizes)
        found: dict[str, Parameter] = {}
        for name in self.modalities:
            found |= linear_parameters(name, sizes.modalities[name], self.dim)
            found |= norm_parameters(name, self.dim)
            found[f"{name}.token"] = Parameter("shared", (self.dim,), 1.0)
            if self.fusion == "gated" and len(self.modalities) > 1:
                found |= linear_parameters(f"gate.{name}", self.dim, 1)
        if self.fusion == "concat" and self.modalities:
            found |= linear_parameters("concat", len(self.modalities) * self.dim, self.dim)
        if self.item_id:
            found["item.embedding"] = Parameter("item", (self.dim,), self.start)
        if self.behaves:
            found |= linear_parameters("behavior", sizes.behavior, self.dim)
            found |= norm_parameters("behavior", self.dim)
        if self.user_id:
            found["user.embedding"] = Parameter("user", (self.dim,), self.start)
        if not (self.behaves or self.user_id):
            found["user.token"] = Parameter("shared", (self.dim,), 1.0)
        if self.head == "cosine":
            head = linear_parameters("head.user", self.dim, self.dim, bias=False, head=True)
            return (
                found | head | {"head.bias": Parameter("shared", (1,), fill=sizes.mean, head=True)}
            )
        for name in ("head.user", "head.item", "head.cross"):
            bias = name == "head.user"
            found |= linear_parameters(name, self.dim, self.widths[0], bias=bias, head=True)
        for layer, (inputs, outputs) in enumerate(pairwise(self.widths), 1):
            found |= linear_parameters(f"head.{layer}", inputs, outputs, head=True, gain=2.0)
        # A small last layer: the first outputs are near 0, or the mean rating: as if nothing were known.
        return found | linear_parameters(
            "head.out", self.widths[-1], sizes.n_outputs, head=True, gain=0.1, fill=sizes.mean
        )

    def _refuse(self, sizes: Sizes) -> None:
        has = {**sizes.modalities, **({"behavior": sizes.behavior} if sizes.behavior else {})}
        wanted = [*self.modalities, *["behavior"] * self.behaves]
        lacking = [name for name in wanted if name not in has]
        if lacking:
            raise TrainingError(
                f"the Dataset has no {' and no '.join(lacking)}, which two_tower is told to use",
                where="[train.two_tower]",
                expected=f"inputs among: {', '.join(sorted(has)) or 'none'}",
                hint=f"set two_tower.{lacking[0]} = false, or build the Dataset with it",
            )
        if not (self.modalities or self.item_id):
            raise TrainingError(
                "two_tower has nothing to tell items apart: no text, no image, no item_id",
                where="[train.two_tower]",
                hint="set one of text, image, item_id to true",
            )
        if self.fusion not in ("gated", "concat") or self.head not in ("mlp", "cosine"):
            raise TrainingError(
                f"fusion '{self.fusion}' with head '{self.head}' is unknown",
                where="[train.two_tower]",
                expected="fusion 'gated' or 'concat', head 'mlp' or 'cosine'",
            )
        if self.head == "cosine" and sizes.n_outputs > 1:
            raise TrainingError(
                f"head 'cosine' gives one output, the task has {sizes.n_outputs} classes",
                where="[train.two_tower] head",
                hint="set two_tower.head = 'mlp'",
            )

    def outputs(self, values: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        """Returns (C, B, m), or (C, B, n_classes) of each example's first item."""
        item = self._items(values, batch)  # (C, B, m, dim)
        user = self._users(values, batch.features, batch.user)  # (C, B, dim)
        if self.mixup and batch.training and batch.noise:
            other, weight = self._partner(batch)
            user = user + weight[..., None] * (_at(user, other) - user)
            item = item + weight[..., None, None] * (_at(item, other) - item)
        if self.head == "cosine":
            user, item = self._directions(values, user, item)
            found = (user.unsqueeze(2) * item).sum(-1) / self.temperature
            return found + rows_of(values["head.bias"], 3)
        hidden = self._further(values, self._hidden(values, user, item), batch)
        return per_item_or_class(linear(hidden, values["head.out.weight"], values["head.out.bias"]))

    def loss(
        self,
        outputs: torch.Tensor,
        batch: Batch,
        task: Callable[[torch.Tensor, Batch], torch.Tensor],
    ) -> torch.Tensor:
        """Returns float32 (C, B): the task's loss, under mixup against both targets by their weights."""
        loss = task(outputs, batch)
        if not (self.mixup and batch.training and batch.noise):
            return loss
        other, weight = self._partner(batch)
        others = task(outputs, replace(batch, target=_at(batch.target, other)))
        return loss + weight * (others - loss)

    def encode_items(self, values: Mapping[str, torch.Tensor], features: Features) -> torch.Tensor:
        """Returns (C or 1, n_items, dim): each item's embedding."""
        import torch

        found = None
        if self.modalities:
            n_items = len(features.items[self.modalities[0]])
            ids = torch.arange(n_items, device=features.items[self.modalities[0]].device)[None]
            found = self._fused(values, self._encoded(values, features, ids))
        if self.item_id:
            found = values["item.embedding"] + (0 if found is None else found)
        assert found is not None
        return found

    def scores(
        self, values: Mapping[str, torch.Tensor], items: torch.Tensor, block: UserBlock
    ) -> torch.Tensor:
        """Returns (C, U, n_items): the output; for classes the mean of the class under their shares."""
        import torch

        user = self._users(values, block.features, block.user)  # (C, U, dim)
        if self.head == "cosine":
            user, items = self._directions(values, user, items)
            return user @ items.mT / self.temperature + rows_of(values["head.bias"], 3)
        # W_i item + W_x (user ∘ item) is (W_i + W_x diag(user)) item: one product for each user.
        by_item, cross = values["head.item.weight"], values["head.cross.weight"]
        bias = linear(user, values["head.user.weight"], values["head.user.bias"])
        out, out_bias = values["head.out.weight"], values["head.out.bias"]
        found = []
        for client, place in user_blocks(user, items.shape[1] * max(self.widths)):
            own = user[client, place]
            weight = of_clients(by_item, client) + own.unsqueeze(-1) * of_clients(cross, client)
            hidden = torch.baddbmm(
                bias[client, place].unsqueeze(1), of_clients(items, client), weight
            )  # (k, n_items, width of the first layer)
            mine = {n: of_clients(v, client) for n, v in values.items() if n[:5] == "head."}
            hidden = self._further(mine, hidden, None)
            found.append(
                mean_class(linear(hidden, of_clients(out, client), of_clients(out_bias, client)))
            )
        return torch.cat(found).reshape(*user.shape[:2], -1)

    def _hidden(
        self, values: Mapping[str, torch.Tensor], user: torch.Tensor, item: torch.Tensor
    ) -> torch.Tensor:
        # (C, B, m, hidden) of user (C, B, dim) and item (C, B, m, dim).
        by_user = linear(user, values["head.user.weight"], values["head.user.bias"]).unsqueeze(2)
        by_item = linear(item, values["head.item.weight"])
        cross = linear(item * user.unsqueeze(2), values["head.cross.weight"])
        return cross + by_item + by_user

    def _further(
        self, values: Mapping[str, torch.Tensor], hidden: torch.Tensor, batch: Batch | None
    ) -> torch.Tensor:
        # (C, ..., width of the last layer) of the first layer before its rectifier.
        shares = shares_of(self.dropout, len(self.widths), "two_tower.dropout")
        for layer, share in enumerate(shares):
            if layer:
                weight, bias = values[f"head.{layer}.weight"], values[f"head.{layer}.bias"]
                hidden = linear(hidden, weight, bias)
            hidden = hidden.relu_() if batch is None else hidden.relu()
            if batch is not None:
                hidden = dropout(hidden, share, batch, f"dropout {layer}" if layer else "dropout")
        return hidden

    def _directions(
        self, values: Mapping[str, torch.Tensor], user: torch.Tensor, item: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        from torch.nn.functional import normalize

        user = linear(user, values["head.user.weight"])
        return normalize(user, dim=-1), normalize(item, dim=-1)

    def _users(
        self, values: Mapping[str, torch.Tensor], features: Features, user: torch.Tensor
    ) -> torch.Tensor:
        if not (self.behaves or self.user_id):
            token = rows_of(values["user.token"], 3)
            return token.expand(user.shape[0], user.shape[1], -1)
        found = None
        if self.behaves:
            assert features.behavior is not None
            found = linear(
                features.behavior[user], values["behavior.weight"], values["behavior.bias"]
            )
            found = layer_norm(found, values["behavior.gain"], values["behavior.shift"])
        if self.user_id:
            found = values["user.embedding"] + (0 if found is None else found)
        assert found is not None
        return found

    def _items(self, values: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        """(C, B, m, dim): a batch's items; of a large one each client's distinct items are encoded once."""
        import torch

        shape = batch.item.shape
        found = None
        if self.modalities:
            ids = batch.item.flatten(1)
            n_items = len(batch.features.items[self.modalities[0]])
            once = distinct(ids, n_items) if ids.shape[1] >= WORTH_SORTING else None
            parts = self._encoded(values, batch.features, once.ids if once else ids)
            if self.modality_dropout and batch.training and batch.noise:
                parts = once.take(parts) if once else parts
                once = None
                tokens = torch.stack([values[f"{name}.token"] for name in self.modalities], 1)
                noise = batch.noise("modality", shape[2] * len(self.modalities))
                gone = noise.reshape(*parts.shape[:-1], 1) < self.modality_dropout
                parts = torch.where(gone, tokens[:, None], parts)
            fused = self._fused(values, parts)
            found = (once.take(fused) if once else fused).reshape(*shape, self.dim)
        if self.item_id:
            found = values["item.embedding"] + (0 if found is None else found)
        assert found is not None
        return found

    def _encoded(
        self, values: Mapping[str, torch.Tensor], features: Features, ids: torch.Tensor
    ) -> torch.Tensor:
        # (C, P, modalities, dim) of ids (C or 1, P).
        import torch

        return torch.stack(
            [self._encoded_as(name, values, features, ids) for name in self.modalities], 2
        )

    def _encoded_as(
        self, name: str, values: Mapping[str, torch.Tensor], features: Features, ids: torch.Tensor
    ) -> torch.Tensor:
        """(C, P, dim): a modality of ids (C or 1, P); where few items have it, only those are projected."""

        def projected(some: torch.Tensor) -> torch.Tensor:
            x = features.items[name].index_select(0, some.flatten())
            x = linear(
                x.reshape(*some.shape, x.shape[-1]),
                values[f"{name}.weight"],
                values[f"{name}.bias"],
            )
            return layer_norm(x, values[f"{name}.gain"], values[f"{name}.shift"])

        has, token = features.has[name][ids], rows_of(values[f"{name}.token"], 3)
        most = int(has.sum(1).max())
        if 2 * most > ids.shape[1]:
            return projected(ids).where(has.unsqueeze(-1), token)
        first = (~has).byte().argsort(dim=1, stable=True)[:, :most]  # those that have it
        x = projected(ids.gather(1, first)).where(has.gather(1, first).unsqueeze(-1), token)
        tokens = token.expand(-1, ids.shape[1], -1)
        return tokens.scatter(1, first.unsqueeze(-1).expand(len(x), -1, self.dim), x)

    def _fused(self, values: Mapping[str, torch.Tensor], parts: torch.Tensor) -> torch.Tensor:
        # (C, P, dim) of parts (C, P, modalities, dim).
        import torch

        if self.fusion == "concat":
            return linear(parts.flatten(2), values["concat.weight"], values["concat.bias"])
        if len(self.modalities) == 1:
            return parts[:, :, 0]
        weight = torch.stack([values[f"gate.{name}.weight"] for name in self.modalities], 1)
        bias = torch.cat([values[f"gate.{name}.bias"] for name in self.modalities], -1)
        gate = (parts * weight[:, None, :, :, 0]).sum(-1) + bias[:, None]  # (C, P, modalities)
        return (gate.softmax(-1).unsqueeze(-1) * parts).sum(2)

    def _partner(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Each example's next one of its client (after the last the first) and its weight, (C, B)."""
        import torch

        assert batch.noise is not None
        order = (~batch.mask).to(torch.uint8).argsort(dim=1, stable=True)  # those in use first
        n_used = batch.mask.sum(1, keepdim=True).clamp(min=1)
        place = torch.arange(order.shape[1], device=order.device)
        following = order.gather(1, (place + 1) % n_used)
        other = torch.empty_like(order).scatter(1, order, following)
        return other, batch.noise("mixup", 1)[..., 0] * self.mixup


def _at(values: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    # values (C, B, ...) at places (C, B).
    import torch

    return values[torch.arange(len(values), device=values.device)[:, None], place]
