"""Finished Datasets with one known fault each, to see (and to test) that a check finds it.

What is planted is told exactly: how many, which, and the check that looks for it. Hashes and counts in
the manifest and in the index follow the damage, so that it alone is found; a fault of hashes, of the
manifest or of the index leaves the rest alone. A few faults cannot but trip a second check as well: it is
named under `also`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fedprep.dataset import Dataset
from fedprep.errors import RecipeError, nearest
from fedprep.faults import embeddings, interactions, items, manifests
from fedprep.faults.copy import Copy, Planted, copied

__all__ = ["FAULTS", "Planted", "plant"]

FAULTS: dict[str, Callable[[Copy], Planted]] = {
    **interactions.FAULTS,
    **items.FAULTS,
    **embeddings.FAULTS,
    **manifests.FAULTS,
}
"""Name → the function that damages a copied Dataset; its first line of documentation says how."""


def plant(
    dataset_path: str | Path, out: str | Path, fault: str, *, seed: int = 0
) -> dict[str, Any]:
    """Returns what was planted into a copy of a Dataset: fault, check, also, unit, count, first.

    Args:
        dataset_path: a Dataset that is whole; nothing is compared here.
        out: where the damaged copy is to lie; it must not be there yet.
        fault: a name of `FAULTS`.

    Raises:
        RecipeError: no fault is called so.
        DatasetError: the Dataset cannot carry it (it has no pictures, no two clients …).
        OutputError: `out` exists.
    """
    if fault not in FAULTS:
        raise RecipeError(f"no fault of Datasets is called '{fault}'", hint=nearest(fault, FAULTS))
    dataset = Dataset.unchecked(dataset_path)
    with copied(dataset, Path(out), np.random.default_rng(seed)) as copy:
        planted = FAULTS[fault](copy)
    return {"fault": fault, **planted.to_dict()}
