"""What server and clients hold, as the tensors of a checkpoint and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fedprep.errors import TrainingError
from fedtrain.algorithms import Server
from fedtrain.run import MODEL, write_tensors

if TYPE_CHECKING:
    import torch

    from fedtrain.clients import Clients
    from fedtrain.run import Run

__all__ = ["refuse_unfit", "restored", "tensors_of", "write_model"]

VALUE, EXTRA, CLIENT = "value/", "extra/", "client/"


def tensors_of(server: Server, clients: Clients) -> dict[str, torch.Tensor]:
    """Returns all tensors of a state by name: `value/…` and `extra/…` of the server, `client/…`."""
    tensors = {VALUE + name: value for name, value in server.values.items()}
    tensors |= {EXTRA + name: value for name, value in server.extra.items()}
    return tensors | {CLIENT + name: value for name, value in clients.state().items()}


def write_model(run: Run, server: Server, private: frozenset[str], **header: Any) -> None:
    """Writes what the server holds to the Run's model file.

    What is personal is none of it: at the server it is untrained. The file's header and the manifest say
    which tensors that are (`personal`); the clients' own are in the checkpoint, as `client/…`.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """
    personal = sorted(private & server.values.keys())
    if personal:
        header["personal"] = personal
        run.update(personal=personal)
    values = {name: value for name, value in server.values.items() if name not in private}
    write_tensors(run.path / MODEL, values, header)


def refuse_unfit(
    tensors: Mapping[str, torch.Tensor], server: Server, clients: Clients, where: str
) -> None:
    """Refuses tensors of a checkpoint that are not the state of this model, on these users and clients.

    What every state holds must be there, in its shape and dtype. What the algorithm or its optimiser has
    beside it is compared by the parameter that its name ends with.

    Args:
        server, clients: as they are before the first round, or later.
        where: the file, for the message.

    Raises:
        TrainingError: it names the first tensor that is missing or of another shape or dtype.
    """
    wanted = {VALUE + name: value for name, value in server.values.items()}
    of_users = {f"{CLIENT}users/{name}": value for name, value in clients.users.items()}
    wanted |= {} if clients.forgets else of_users
    problems = [f"{name} is missing" for name in wanted if name not in tensors]
    wanted |= of_users  # an older version wrote them where they are forgotten: nobody reads them
    for name, tensor in tensors.items():
        like = wanted.get(name)
        if like is None:
            problems += _unlike_parameter(name, tensor, tensors, server, clients)
        elif (tensor.shape, tensor.dtype) != (like.shape, like.dtype):
            problems.append(
                f"{name} is {tensor.dtype} {tuple(tensor.shape)} in place of"
                f" {like.dtype} {tuple(like.shape)}"
            )
    moments = [{n.partition("/")[2] for n in _under(tensors, EXTRA) if n.startswith(kind)}
               for kind in ("first/", "second/")]  # fmt: skip
    if moments[1] and moments[0] != moments[1]:
        problems.append("moments of the server's optimiser are missing")
    if problems:
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise TrainingError(
            f"the checkpoint is not the state of this Run: {'; '.join(problems[:3])}{more}",
            where=where,
            hint="put the checkpoint back as the Run left it, or start the Run again with --force",
        )


def _unlike_parameter(
    name: str,
    tensor: torch.Tensor,
    tensors: Mapping[str, torch.Tensor],
    server: Server,
    clients: Clients,
) -> list[str]:
    """Returns what is wrong with a tensor that not every state holds."""
    known = any(name.startswith(prefix) for prefix in (VALUE, EXTRA, CLIENT))
    of = name.partition(":")[0]
    ends = [key for key in server.values if of.endswith(f"/{key}")]
    shape: tuple[int, ...] | None = tuple(server.values[max(ends, key=len)].shape) if ends else None
    if not known or name.startswith((VALUE, f"{CLIENT}users/")):
        return [f"{name} is no tensor of this model"]
    if name.startswith(f"{CLIENT}rows/"):
        return _unlike_rows(of, name, tensors, clients, shape)
    if name.startswith(f"{CLIENT}shared/") and shape is not None:
        shape = (clients.n_clients, *shape)
    if shape is not None and (tuple(tensor.shape) != shape or not tensor.dtype.is_floating_point):
        return [f"{name} is {tensor.dtype} {tuple(tensor.shape)} in place of floats {shape}"]
    return []


def _unlike_rows(
    of: str,
    name: str,
    tensors: Mapping[str, torch.Tensor],
    clients: Clients,
    shape: tuple[int, ...] | None,
) -> list[str]:
    """Returns what is wrong with the rows of items that clients keep; asked once, of their `:client`."""
    parts = [f"{of}:{part}" for part in ("client", "count", "item", "value")]
    missing = [f"{part} is missing" for part in parts if part not in tensors]
    if missing or name != parts[0]:
        return missing if missing and name == next(p for p in parts if p in tensors) else []
    client, count, item, value = (tensors[part] for part in parts)
    whole = all(str(t.dtype) == "torch.int64" and t.dim() == 1 for t in (client, count, item))
    fits = whole and len(client) == len(count) and len(item) == len(value) == int(count.sum())
    fits = fits and value.dtype.is_floating_point and bool((count >= 0).all())
    fits = fits and bool(((client >= 0) & (client < clients.n_clients)).all())
    if fits and shape is not None:
        fits = tuple(value.shape[1:]) == shape[1:]
        fits = fits and bool(((item >= 0) & (item < shape[0])).all())
    return [] if fits else [f"{of} are no rows of items that clients keep"]


def _under(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def restored(
    round_number: int, tensors: Mapping[str, torch.Tensor], clients: Clients, device: torch.device
) -> Server:
    """Returns the server as these tensors have it, and gives the clients what they kept."""

    clients.restore(_under(tensors, CLIENT))
    return Server(
        values={name: value.to(device) for name, value in _under(tensors, VALUE).items()},
        extra={name: value.to(device) for name, value in _under(tensors, EXTRA).items()},
        round_number=round_number,
    )
