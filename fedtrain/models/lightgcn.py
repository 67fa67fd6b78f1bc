"""LightGCN: vectors of users and items, averaged along the edges of a graph of who has what.

    e_u^(k+1) = Σ_{i of u} e_i^(k) / √(|N_u| |N_i|)      e_i^(k+1) = Σ_{u of i} e_u^(k) / √(|N_u| |N_i|)
    e = mean of e^(0) … e^(K)                             score(u, i) = e_u · e_i

**The graph stays inside the client**: its edges are the client's own train rows, its degrees are counted
there, and nobody sees it. A client of one user has a star: its items hear of that user alone, and the user
of them. A client of several users joins them through the items that they share. The graph of a local
step is that of the users of the step, so set batch_size = 0 for a client's whole graph. Under the
control `centralised`, one client holds all rows: there it is the graph of the paper.

**Not as in the paper**: in training a part of the edges is hidden from the graph, drawn anew in each step,
and the loss is of these alone. In a star the edge of a positive is what tells it from a negative: with it in
the graph a user's vector need only grow, the loss falls to nothing, and little is learned of items.
`hidden = 0` is the paper's loss, of all edges, each in the graph too.

Reference: He et al., LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation,
SIGIR 2020, equations 3 to 8; graphs inside clients: Wu et al., FedGNN: Federated Graph Neural Network for
Privacy-Preserving Recommendation, 2021 (without its expansion of the graph by a third party).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from fedprep.keys import Depth, Finite, From0, PartShare, Width
from fedtrain.models.layers import distinct, mean_over_places
from fedtrain.parameters import Parameter

if TYPE_CHECKING:
    import torch

    from fedtrain.batch import Batch, Features, UserBlock
    from fedtrain.models.interface import Examples, Sizes

__all__ = ["LightGCN"]


@dataclass(frozen=True, kw_only=True)
class LightGCN:
    """Graph convolution on the client's own graph.

    dim: of the vectors · layers: K, how far a vector travels; 0 is matrix factorisation · hidden: share of
    the edges that a training step hides from its graph and learns; 0: it learns all, and hides none ·
    mean: what is added to each score; None: of the task rating the mean of the train ratings, else 0 ·
    start: deviation of the vectors at the start.
    """

    dim: Width = 32
    layers: Depth = 2
    hidden: PartShare = 0.5
    mean: Finite | None = None
    start: From0 = 0.1

    examples: ClassVar[Examples] = "graphs"

    def derived(self, sizes: Sizes) -> dict[str, Any]:
        """Returns the mean, where it is open and the task has one."""
        return {"mean": sizes.mean} if self.mean is None and sizes.mean else {}

    def parameters(self, sizes: Sizes) -> dict[str, Parameter]:
        return {
            "user.embedding": Parameter("user", (self.dim,), self.start),
            "item.embedding": Parameter("item", (self.dim,), self.start),
        }

    def outputs(self, values: Mapping[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        """Returns (C, B, L, 1 + n): the scores of each of a user's items and of its negatives."""
        import torch

        assert batch.given is not None
        given = batch.given
        shape = (*given.shape, self.dim)
        length = given.shape[-1]
        n = batch.item.shape[-1] // length - 1
        used = torch.cat([given, given.repeat_interleave(n, -1)], -1)
        n_items = int(batch.item.max()) + 2
        # What is padded is an item of its own, so that it lends no item its row.
        nodes = distinct(batch.item.where(used, n_items - 1).flatten(1), n_items)
        item = nodes.first(values["item.embedding"].flatten(1, 2))  # (C, K, dim)
        slot = nodes.slot.reshape(batch.item.shape)[..., :length].flatten(1)  # (C, B · L)
        hidden = self._hidden(batch)
        shown = given if hidden is None else given & ~hidden
        weight = _weights(shown, slot, item.shape[1])
        user = values["user.embedding"]
        users, items = user, item
        for _ in range(self.layers):
            at = slot.unsqueeze(-1).expand(-1, -1, self.dim)
            to_user = item.gather(1, at).reshape(*shape) * weight.unsqueeze(-1)
            to_item = (user.unsqueeze(2) * weight.unsqueeze(-1)).flatten(1, 2)
            user, item = to_user.sum(2), torch.zeros_like(item).scatter_add(1, at, to_item)
            users, items = users + user, items + item
        user, item = users / (self.layers + 1), nodes.take(items / (self.layers + 1))
        scores = (item.reshape(*batch.item.shape, self.dim) @ user.unsqueeze(-1)).squeeze(-1)
        scores = scores + self.mean if self.mean else scores
        own, others = scores[..., :length], scores[..., length:]
        return torch.cat([own.unsqueeze(-1), others.reshape(*given.shape, n)], -1)

    def loss(
        self,
        outputs: torch.Tensor,
        batch: Batch,
        task: Callable[[torch.Tensor, Batch], torch.Tensor],
    ) -> torch.Tensor:
        """Returns (C, B): the mean of the task's loss over the user's rows, in training the hidden ones."""
        hidden = self._hidden(batch)
        learned = batch.given if hidden is None else hidden
        return mean_over_places(outputs, replace(batch, given=learned), task)

    def _hidden(self, batch: Batch) -> torch.Tensor | None:
        """bool (C, B, L): the rows whose edges are not in the graph; None: all are."""
        assert batch.given is not None
        if not (self.layers and self.hidden and batch.training and batch.noise):
            return None
        return batch.given & (batch.noise("hidden", batch.given.shape[-1]) < self.hidden)

    def encode_items(self, values: Mapping[str, torch.Tensor], features: Features) -> torch.Tensor:
        """Returns (C or 1, n_items, dim): the items' vectors before any travels."""
        return values["item.embedding"]

    def scores(
        self, values: Mapping[str, torch.Tensor], items: torch.Tensor, block: UserBlock
    ) -> torch.Tensor:
        """Returns (C, U, n_items) on the graph of the block: ask for all users of a client at once."""
        import torch

        assert block.history is not None and block.given is not None
        n_items = items.shape[1]
        slot = block.history.flatten(1)
        weight = _weights(block.given, slot, n_items).to(items.dtype)
        edges = torch.zeros((*block.user.shape, n_items), dtype=items.dtype, device=items.device)
        edges = edges.scatter_add(2, block.history, weight)  # (C, U, n_items)
        # The items' Σ_k e^(k) is e^(0) and what Σ_(k<K) e_u^(k) sends along the edges. Where a client has
        # fewer users than vectors have numbers, products of users by users spare it a table of items.
        few = edges.shape[1] <= self.dim
        layer = [values["user.embedding"], _product(edges, items)]
        for k in range(2, self.layers + 1):
            back = edges @ edges.mT @ layer[k - 2] if few else edges @ (edges.mT @ layer[k - 2])
            layer.append(back)
        users = torch.stack(layer[: self.layers + 1]).sum(0)
        found = _product(users, items.mT)
        if self.layers:
            senders = torch.stack(layer[: self.layers]).sum(0)
            sent = users @ senders.mT @ edges if few else users @ (edges.mT @ senders).mT
            found = found + sent
        found = found / (self.layers + 1) ** 2
        return found + self.mean if self.mean else found


def _product(users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """(C, U, b) of users (C, U, a) and items (C or 1, a, b), which are not copied for each client."""
    if len(items) == 1:
        return (users.flatten(0, 1) @ items[0]).reshape(*users.shape[:2], -1)
    return users @ items


def _weights(given: torch.Tensor, slot: torch.Tensor, n_nodes: int) -> torch.Tensor:
    """1 / √(|N_u| |N_i|) of each edge (C, B, L), 0 where padded; slot (C, B · L): the edges' items."""
    import torch

    ones = given.flatten(1).to(torch.float32)
    degree = torch.zeros((len(given), n_nodes), device=given.device).scatter_add(1, slot, ones)
    of_item = degree.gather(1, slot).reshape(given.shape)
    of_user = given.sum(-1, keepdim=True)
    return given / (of_user * of_item).clamp(min=1).sqrt()
