"""What server and clients hold, as the tensors of a checkpoint and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fedtrain.algorithms import Server

if TYPE_CHECKING:
    import torch

    from fedtrain.clients import Clients

__all__ = ["restored", "tensors_of"]

VALUE, EXTRA, CLIENT = "value/", "extra/", "client/"


def tensors_of(server: Server, clients: Clients) -> dict[str, torch.Tensor]:
    """Returns all tensors of a state by name: `value/…` and `extra/…` of the server, `client/…`."""
    tensors = {VALUE + name: value for name, value in server.values.items()}
    tensors |= {EXTRA + name: value for name, value in server.extra.items()}
    return tensors | {CLIENT + name: value for name, value in clients.state().items()}


def restored(
    round_number: int, tensors: Mapping[str, torch.Tensor], clients: Clients, device: torch.device
) -> Server:
    """Returns the server as these tensors have it, and gives the clients what they kept."""

    def under(prefix: str) -> dict[str, torch.Tensor]:
        return {
            name.removeprefix(prefix): value
            for name, value in tensors.items()
            if name.startswith(prefix)
        }

    clients.restore(under(CLIENT))
    return Server(
        values={name: value.to(device) for name, value in under(VALUE).items()},
        extra={name: value.to(device) for name, value in under(EXTRA).items()},
        round_number=round_number,
    )
