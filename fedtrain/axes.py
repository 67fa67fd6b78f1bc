"""Tensors whose first axis counts clients, or rows: what is done along it."""

from __future__ import annotations

import torch

__all__ = ["padded", "squares", "wide"]


def wide(by_first: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Returns a vector (n,) as (n, 1, …) with as many axes as `like`, to multiply it along its first."""
    return by_first.reshape(-1, *[1] * (like.dim() - 1))


def squares(values: torch.Tensor) -> torch.Tensor:
    """Returns (n,): the sum of squares of each of (n, *shape)."""
    flat = values.reshape(len(values), -1)
    found: torch.Tensor = torch.linalg.vecdot(flat, flat)
    return found


def padded(rows: torch.Tensor) -> torch.Tensor:
    """Returns (n + 1, *shape): the rows, and one of zeros after them."""
    return torch.cat([rows, rows.new_zeros((1, *rows.shape[1:]))])
