"""The way down: gradients to local values, for SGD, momentum and Adam, all clients of a chunk at once.

SGD touches the rows of a step alone. Whatever moves other rows too (momentum, Adam, a proximal term, a
control variate) or needs a whole gradient (clipping, its norm) works on the whole local table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from fedtrain.axes import squares, wide

if TYPE_CHECKING:
    from fedtrain.algorithms.algorithm import Algorithm, Phase
    from fedtrain.clients import Clients
    from fedtrain.local import Local
    from fedtrain.parameters import Parameter
    from fedtrain.plan import Plan

__all__ = ["Descent", "keep_moments", "learning_rate", "moments_of"]

Tensors = dict[str, torch.Tensor]
EPSILON = 1e-8
BETA2 = 0.999

KINDS = ("first", "second")
STEPS = "steps"
KEPT = "moments/"
"""What the moments of the one client of pooled rows are kept under, beside what clients keep."""


def moments_of(clients: Clients) -> Tensors:
    """Returns the moments that the only client keeps: `first/NAME`, `second/NAME`, `steps` (1,).

    They are in the shapes of the server's values, and of all users' rows; {} before the first round.
    """
    return {
        name.removeprefix(KEPT): value[0]
        for name, value in clients.shared.items()
        if name.startswith(KEPT)
    }


def keep_moments(local: Local, clients: Clients) -> None:
    """Keeps the moments of the only client."""
    for name, value in (local.moments or {}).items():
        clients.shared[KEPT + name] = value.detach().cpu().clone()[None]


def learning_rate(plan: Plan, scope: str, head: bool) -> float:
    """Returns the learning rate of a parameter."""
    return plan.rates["head" if head and scope == "shared" else scope]


class Descent:
    """The steps of one phase: which parameters they train, how fast, and the optimiser's moments.

    Moments start anew with each phase: a client keeps none between rounds. Those of `Local.moments` go on,
    and are written there.
    """

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        algorithm: Algorithm,
        plan: Plan,
        local: Local,
        phase: Phase,
        lr_factor: float,
    ) -> None:
        self.parameters, self.local, self.plan = parameters, local, plan
        factor = 1.0 if phase.steady else lr_factor
        self.lr = {
            name: factor * phase.lr.get(name, learning_rate(plan, p.scope, p.head))
            for name, p in parameters.items()
            if name in phase.trains
        }
        self.correction = algorithm.correction
        self.moments: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        self.count = 0
        self.moved = torch.zeros(local.n_clients, device=local.loss.device)  # steps of each client
        if local.moments is not None and STEPS in local.moments:
            self.moved += local.moments[STEPS].to(self.moved.device)

    def end(self) -> None:
        """Writes the moments to `Local.moments`, where they go on from round to round."""
        if self.local.moments is None:
            return
        found = {STEPS: self.moved}
        for name, moments in self.moments.items():
            for kind, value in zip(KINDS, moments, strict=True):
                whole = value[:-1] if name not in self.local.shared else value[0]
                found[f"{kind}/{name}"] = whole
        self.local.moments = found

    def _begun(self, name: str, full: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the moments of a tensor as they begin: zeros, or as the round before left them."""
        before, found = self.local.moments or {}, []
        for kind in KINDS:
            value = torch.zeros_like(full)
            if f"{kind}/{name}" in before:
                body = value[:-1] if name not in self.local.shared else value[0]
                body.copy_(before[f"{kind}/{name}"])
            found.append(value)
        return found[0], found[1]

    def leaves(self, n_clients: int, slot: torch.Tensor, place: torch.Tensor) -> Tensors:
        """Returns the values of a step: shared (c, *shape), items (c, B, m, *shape), users (c, B, *shape)."""
        local = self.local
        values = {}
        for name, parameter in self.parameters.items():
            if parameter.scope == "shared":
                value = local.shared[name][:n_clients].detach()
            else:
                at = place if parameter.scope == "item" else slot
                table, _ = local.table(name)
                value = table.index_select(0, at.reshape(-1)).view(*at.shape, *parameter.shape)
            values[name] = value.requires_grad_(name in self.lr)
        return values

    @torch.no_grad()
    def step(
        self, values: Tensors, slot: torch.Tensor, place: torch.Tensor, count: torch.Tensor
    ) -> None:
        """Takes one step down the gradients that `values` hold.

        Args:
            values: of `leaves`.
            slot, place: int64 (c, B), (c, B, m): where those of rows came from.
            count: int64 (c,): examples of each client; a client without any stays as it is.
        """
        plan, active = self.plan, count > 0
        whole = bool(plan.clip_norm) or plan.optimizer != "sgd" or self.correction is not None
        measure = self.count == 0
        self.count += 1
        self.moved[: len(active)] += active.to(self.moved.dtype)
        gradients: Tensors = {}
        for name in self.lr:
            parameter = self.parameters[name]
            # Never changed in place: gradients of two leaves may share their memory.
            gradient = values[name].grad
            if gradient is None:
                gradient = torch.zeros_like(values[name])
            if plan.weight_decay:
                gradient = gradient + self._decay(name, values[name].detach(), count)
            if parameter.scope == "shared":
                as_it_is = not whole and bool(active.all())
                still = wide(~active, gradient)
                gradients[name] = gradient if as_it_is else gradient.masked_fill(still, 0.0)
                continue
            at = (place if parameter.scope == "item" else slot).reshape(-1)
            rows = gradient.reshape(len(at), *parameter.shape)
            table, _ = self.local.table(name)
            if whole or measure:
                dense = torch.zeros_like(table).index_add_(0, at, rows)
                dense[-1] = 0
                gradients[name] = dense
            if not whole:
                # With `alpha` in place of the product it is seven times slower.
                table.index_add_(0, at, rows * -self.lr[name])
                table[-1] = 0
        if whole or measure:
            scale = self._measured(gradients, active)
            if scale is not None:
                for name, gradient in gradients.items():
                    gradient.mul_(self._spread(name, scale)[: len(gradient)])
        for name, gradient in gradients.items():
            if whole or name in self.local.shared:
                self._descend(name, gradient, active)

    def _decay(self, name: str, value: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
        """Returns the gradient of λ/2 times the squares of what an example reads, the mean over examples.

        So a row is held back as often as it is used (Koren, Bell, Volinsky 2009, equation 2).
        """
        if self.parameters[name].scope == "shared":
            return value * self.plan.weight_decay
        return value * wide(self.plan.weight_decay / count.clamp(min=1), value)

    def _measured(self, gradients: Tensors, active: torch.Tensor) -> torch.Tensor | None:
        """Notes each client's gradient norm; returns what clips it, float32 (C,), if it is to be clipped."""
        local = self.local
        square = torch.zeros(local.n_clients, dtype=torch.float64, device=local.loss.device)
        for name, gradient in gradients.items():
            if name in local.shared:
                square[: len(gradient)] += squares(gradient).double()
            else:
                _, client = local.table(name)
                square.index_add_(0, client, squares(gradient[:-1]).double())
        norm = square.sqrt()
        n = len(active)
        local.measured[:n] += active.double()
        local.grad_norm[:n] += torch.where(active, norm[:n], 0.0)
        if not self.plan.clip_norm:
            return None
        local.clipped[:n] += (active & (norm[:n] > self.plan.clip_norm)).double()
        return (self.plan.clip_norm / norm.clamp(min=self.plan.clip_norm)).float()

    def _spread(self, name: str, by_client: torch.Tensor) -> torch.Tensor:
        """Returns a number of each client in the shape of a parameter's gradient."""
        value = self.parameters[name]
        if name in self.local.shared:
            return by_client.reshape(-1, *[1] * len(value.shape))
        _, client = self.local.table(name)
        rows = torch.cat([by_client[client], by_client.new_ones(1)])
        return rows.reshape(-1, *[1] * len(value.shape))

    def _descend(self, name: str, gradient: torch.Tensor, active: torch.Tensor) -> None:
        local, plan = self.local, self.plan
        in_table = name not in local.shared
        value = local.table(name)[0] if in_table else local.shared[name][: len(gradient)]
        if self.correction is not None:
            extra = self.correction(local, name)
            if extra is not None:
                body = gradient[:-1] if in_table else gradient
                body.add_(extra[: len(body)])
        if plan.optimizer == "sgd" and self.correction is None:
            value.sub_(gradient, alpha=self.lr[name])
            return
        moving = torch.zeros(local.n_clients, device=value.device)
        moving[: len(active)] = active.to(moving.dtype)
        moving = self._spread(name, moving)[: len(gradient)]
        value.sub_(self._direction(name, gradient, moving) * moving, alpha=self.lr[name])

    def _direction(self, name: str, gradient: torch.Tensor, moving: torch.Tensor) -> torch.Tensor:
        """Returns the direction of a step, and keeps the moments of the clients that move."""
        plan = self.plan
        if plan.optimizer == "sgd":
            return gradient
        local = self.local
        full = local.table(name)[0] if name not in local.shared else local.shared[name]
        if name not in self.moments:
            self.moments[name] = self._begun(name, full)
        first, second = (moment[: len(gradient)] for moment in self.moments[name])
        if plan.optimizer == "momentum":
            first.mul_(1 - moving * (1 - plan.momentum)).add_(gradient * moving)
            return first
        first.add_(moving * (1 - plan.momentum) * (gradient - first))
        second.add_(moving * (1 - BETA2) * (gradient.square() - second))
        count = self._spread(name, self.moved.clamp(min=1))[: len(gradient)]
        corrected = second / (1 - BETA2**count)
        return first / (1 - plan.momentum**count) / (corrected.sqrt() + EPSILON)
