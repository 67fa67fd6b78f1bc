"""Differential privacy of clients: updates of bounded norm, noise on their sum, and what it costs.

**What is protected**: whether any one client, with all its rows, took part at all (add or remove one
client). Not a single row, and not what a client learns of others: its user rows and head stay with it.

A round is one sampled Gaussian mechanism if all of this holds, and `epsilon` counts it as that:

1. each client takes part by a coin of its own with chance `rate` (the Poisson sampler);
2. its whole answer, shared tensors and item rows together, is clipped to one L2 norm (`clip_updates`),
   after compression: what is clipped is what the server decodes;
3. the sum has uniform weights, and noise of deviation noise_multiplier · norm is added to every value,
   item rows that nobody touched included (`noise`);
4. it is divided by a fixed number, rate · n_clients: neither the size of the cohort nor how many
   clients touched a row is known to anyone.

Under a sampler of cohorts of a fixed size, 1 does not hold and the number is an estimate (`uncounted` says
so). Rounds that choose the best model on validation data, and metrics shown in each round, are not counted.

Stated limits: a trusted server adds the noise; it is a function of the seed of the run, so that runs can
be repeated, and whoever knows the seed can take it off again: a release needs a seed that is secret. It
is a float64 normal deviate, whose last bits are known to leak (Mironov, CCS 2012).

Reference: McMahan, Ramage, Talwar, Zhang, Learning Differentially Private Recurrent Language Models,
ICLR 2018, algorithm 1, with the fixed-denominator estimator of section 3.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fedeval.draws import uniform
from fedprep.errors import MissingExtraError, TrainingError, install, nearest
from fedtrain.parameters import stream

if TYPE_CHECKING:
    import torch

    from fedtrain.plan import Plan

__all__ = ["ACCOUNTANTS", "clip_updates", "epsilon", "noise", "uncounted"]

log = logging.getLogger(__name__)

Tensors = Mapping[str, "torch.Tensor"]
Accountant = Callable[[int, float, float, float], float]

BELOW = 1.0 - 2.0**-22
"""Rounding to float32 moves a norm by a part of 2^-23 at most: so far below the bound it cannot pass it."""

BLOCK = 1 << 20
"""Pairs of normal numbers made at once."""


def clip_updates(
    shared: Tensors, rows: Tensors, row_client: torch.Tensor, n_clients: int, norm: float
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """Returns the updates scaled to an L2 norm of at most `norm`, their norms before, and which were cut.

    A client has one norm over everything it sends. Updates within the bound are returned as they are. A
    value that is not finite stays that way: it is for the guard to find.

    Args:
        shared: by name float32 (C, *shape).
        rows: by name float32 (T, *shape): rows of item tables.
        row_client: int64 (T,), ascending: which of the C clients a row is of.
        n_clients: C.
        norm: the bound, above 0.

    Returns:
        shared and rows as given · norms float64 (C,) · clipped bool (C,).

    Raises:
        TrainingError: a bound that is not above 0.

    Reference: McMahan et al. 2018, algorithm 1, "flat clipping".
    """
    import torch

    if not 0.0 < norm < math.inf:
        raise TrainingError(f"the bound of an update's norm is {norm:g}", expected="above 0")
    norms = update_norms(shared, rows, row_client, n_clients)
    clipped = norms > norm
    # A norm that is NaN or infinite gives factors that keep the answer visibly broken.
    factor = torch.where(norms <= norm, 1.0, norm * BELOW / norms).float()
    cut_shared = {
        name: value * factor.reshape(-1, *[1] * (value.dim() - 1)) for name, value in shared.items()
    }
    of_row = factor[row_client]
    cut_rows = {
        name: value * of_row.reshape(-1, *[1] * (value.dim() - 1)) for name, value in rows.items()
    }
    return cut_shared, cut_rows, norms, clipped


def update_norms(
    shared: Tensors, rows: Tensors, row_client: torch.Tensor, n_clients: int
) -> torch.Tensor:
    """Returns float64 (C,): each client's L2 norm; summed in an order of its own, not of chunk or threads."""
    import torch

    counts = torch.bincount(row_client, minlength=n_clients)
    squares = torch.zeros(n_clients, dtype=torch.float64, device=row_client.device)
    for tensors, lengths in ((shared, torch.ones_like(counts)), (rows, counts)):
        for name in sorted(tensors):
            value = tensors[name].double()
            # (n, *shape) → (n · size,), a client's values side by side
            size = math.prod(value.shape[1:])
            squares += torch.segment_reduce(
                value.square().reshape(-1), "sum", lengths=lengths * size, initial=0.0
            )
    return squares.sqrt()


def noise(
    shape: tuple[int, ...], seed: int, round: int, name: str, deviation: float
) -> torch.Tensor:
    """Returns float64 `shape`, on the CPU: normal numbers of this deviation, for the server's sum.

    Args:
        shape: of the whole tensor or item table, rows that nobody touched included.
        seed, round, name: their address: equal addresses give equal numbers, other names others.
        deviation: noise_multiplier times the bound of an update's norm, at least 0.

    Raises:
        TrainingError: a deviation below 0.

    Reference: Box and Muller, A Note on the Generation of Random Normal Deviates, Ann. Math. Stat. 1958.
    """
    import torch

    if not 0.0 <= deviation < math.inf:
        raise TrainingError(f"the noise has a deviation of {deviation:g}", expected="at least 0")
    n = math.prod(shape)
    found = np.empty(n + n % 2)
    address = stream(seed, "noise", name, round)
    for start in range(0, len(found) // 2, BLOCK):
        pair = np.arange(start, min(start + BLOCK, len(found) // 2))
        radius = deviation * np.sqrt(-2.0 * np.log1p(-uniform(address, 0, 2 * pair)))
        angle = 2.0 * np.pi * uniform(address, 0, 2 * pair + 1)
        found[2 * start : 2 * start + 2 * len(pair) : 2] = radius * np.cos(angle)
        found[2 * start + 1 : 2 * start + 2 * len(pair) : 2] = radius * np.sin(angle)
    return torch.from_numpy(found[:n].reshape(shape))


def epsilon(
    rounds: int, rate: float, noise_multiplier: float, delta: float, accountant: str = "rdp"
) -> float:
    """Returns an upper bound of epsilon after so many rounds, for adding or removing one client.

    Infinite without noise, 0 before the first round.

    Args:
        rounds: at least 0.
        rate: chance that a client takes part in a round, above 0, at most 1.
        noise_multiplier: deviation of the noise on the sum over the bound of an update's norm.
        delta: between 0 and 1; well below 1 / n_clients.
        accountant: a name in `ACCOUNTANTS`.

    Raises:
        TrainingError: a number outside its range, or an accountant that does not exist.
        MissingExtraError: Opacus is not installed.
    """
    if rounds < 0 or not 0.0 < rate <= 1.0 or not noise_multiplier >= 0.0 or not 0.0 < delta < 1.0:
        raise TrainingError(
            f"epsilon is asked for {rounds} rounds at rate {rate:g}, noise multiplier "
            f"{noise_multiplier:g} and delta {delta:g}",
            expected="rounds and noise of at least 0, 0 < rate ≤ 1, 0 < delta < 1",
        )
    if accountant not in ACCOUNTANTS:
        raise TrainingError(
            f"there is no accountant '{accountant}'", hint=nearest(accountant, ACCOUNTANTS)
        )
    if rounds == 0:
        return 0.0
    if noise_multiplier == 0.0:
        return math.inf
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = ACCOUNTANTS[accountant](rounds, rate, noise_multiplier, delta)
    for each in told:  # that a bound could be tighter: it holds all the same
        log.info("accountant %s: %s", accountant, each.message)
    return found


def uncounted(plan: Plan) -> list[str]:
    """Returns what a plan with noise does that `epsilon` does not count, in words; nothing without noise."""
    if not plan.privacy.noise_multiplier:
        return []
    plateau = plan.schedule_metric if plan.schedule == "plateau" else ""
    looks = {name for name in (plan.stop.metric, plateau) if name}
    found = []
    if plan.sampler != "poisson":
        found.append(
            f"cohorts of a fixed size (sampler = '{plan.sampler}'): epsilon is an estimate, a bound with "
            "sampler = 'poisson'"
        )
    if plan.secure.enabled:
        found.append("that a round was skipped, as one client alone was left to sum securely")
    if looks:
        found.append(f"{' and '.join(sorted(looks))} steers the run, and carries no noise")
    return found


def rdp(rounds: int, rate: float, noise_multiplier: float, delta: float) -> float:
    """Returns epsilon by Rényi differential privacy: fast, some percent above the truth.

    Reference: Mironov, Talwar, Zhang, Rényi Differential Privacy of the Sampled Gaussian Mechanism, 2019,
    by Opacus's RDPAccountant.
    """
    from_library = _library().RDPAccountant()
    from_library.history = [(noise_multiplier, rate, rounds)]
    # Little noise wants orders near 1, much noise large ones: beyond the library's 63, powers of two.
    orders = [*from_library.DEFAULT_ALPHAS, *(2**power for power in range(6, 13))]
    return float(from_library.get_epsilon(delta=delta, alphas=orders))


def pld(rounds: int, rate: float, noise_multiplier: float, delta: float) -> float:
    """Returns epsilon by the distribution of the privacy loss, composed numerically: about 0.01 too large.

    Raises:
        TrainingError: every client takes part in every round: Opacus has no answer there.

    Reference: Gopi, Lee, Wutschitz, Numerical Composition of Differential Privacy, NeurIPS 2021, by
    Opacus's PRVAccountant.
    """
    if rate == 1.0:
        raise TrainingError(
            "the accountant 'pld' has no answer where all clients take part in every round",
            hint="accountant = 'rdp'",
        )
    from_library = _library().PRVAccountant()
    from_library.history = [(noise_multiplier, rate, rounds)]
    return float(from_library.get_epsilon(delta=delta))


def _library() -> Any:
    try:
        from opacus import accountants
    except ImportError:
        raise MissingExtraError(
            "the privacy accountant needs the library Opacus",
            hint=f"{install('privacy')}; privacy.noise_multiplier = 0 needs none",
        ) from None
    return accountants


ACCOUNTANTS: Mapping[str, Accountant] = {"rdp": rdp, "pld": pld}
"""Each accountant by its name: (rounds, rate, noise_multiplier, delta) → epsilon."""
