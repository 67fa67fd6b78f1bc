"""The controls: training without any exchange, and training on the pooled rows.

A federated algorithm has to stand between them: better than each client by itself, and as near to the pooled
rows as federation lets it be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fedtrain.algorithms.algorithm import Algorithm, Answer, keep_private
from fedtrain.descent import keep_moments

if TYPE_CHECKING:
    import torch

    from fedtrain.clients import Clients
    from fedtrain.local import Local
    from fedtrain.parameters import Parameter

__all__ = ["centralised", "local"]


def local(*, own_best: bool = True) -> Algorithm:
    """Returns local training: every client keeps all it has, nothing is ever sent.

    Args:
        own_best: whether each client ends with its own best round, by the loss on its own valid rows; of
            those without any the last one. False: all end with the same round.
    """

    def private(parameters: Mapping[str, Parameter]) -> frozenset[str]:
        return frozenset(parameters)

    return Algorithm(
        name="local",
        reference="control: no exchange",
        private=private,
        joins=False,
        own_best=own_best,
    )


def centralised() -> Algorithm:
    """Returns centralised training: all rows lie at one client, a round is an epoch.

    Its optimiser is one from the first round to the last, as if there were no rounds: momentum and moments
    of Adam go on, and are in the checkpoint.
    """

    def keep(
        local: Local,
        clients: Clients,
        private: frozenset[str],
        fine: torch.Tensor,
        answer: Answer,
    ) -> None:
        keep_private(local, clients, private, fine, answer)
        if bool(fine.all()):
            keep_moments(local, clients)

    return Algorithm(
        name="centralised",
        reference="control: pooled rows",
        keep=keep,
        pooled=True,
        remembers=True,
    )
