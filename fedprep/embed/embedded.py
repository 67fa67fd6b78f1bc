"""What an encoder hands on: one vector a row, which rows have one, and what made them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedprep.schema import Step

__all__ = ["Embedded"]


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """Embeddings as the encoder gave them, before `normalise`.

    Args:
        values: float32 (n, dim), finite; zero where absent.
        present: bool (n,), False where the row has nothing to embed.
        encoder: all that fixes the output (name, revision = content hash of the weights, dim,
            precision …) and nothing that differs between machines, such as a path.
        steps: what was read and what got no embedding, and why.
    """

    values: NDArray[np.float32]
    present: NDArray[np.bool_]
    encoder: dict[str, Any]
    steps: list[Step] = field(default_factory=list)
