"""Meta-models: from what is known of a user before a round to how training moves its vector.

All take n delegates' inputs and changes, split into folds, and return what predicts further ones. The folds
choose how far to fit (epochs of the network, the penalty of the ridge) and tell how good the predictions are:
a fold is only ever judged by a model that was not fitted on it, its means and deviations included. The folds'
models and the one on all delegates are fitted side by side, as one stack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from fedeval.draws import uniform
from fedtrain.parameters import stream

__all__ = ["META_MODELS", "PENALTIES", "Fitted", "Fitting", "Samples", "folds_of", "linear", "mlp"]

Ints = npt.NDArray[np.int64]

PENALTIES = (float("inf"), 1e2, 1e1, 1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-6)
"""Of the ridge, a sample; the first predicts the mean change for everybody."""


@dataclass(frozen=True)
class Samples:
    """Delegates: inputs float64 (n, p), changes float64 (n, q), fold int64 (n,) below `n_folds`."""

    inputs: torch.Tensor
    changes: torch.Tensor
    fold: torch.Tensor
    n_folds: int


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """How a network is fitted.

    hidden: its width · epochs: at most · patience: epochs without an improvement on the folds before it
    stops · batch: delegates a step · lr: of Adam · seed: of the stream of its start and its batches.
    """

    hidden: int
    epochs: int
    patience: int
    batch: int
    lr: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A fitted meta-model.

    predict: inputs float64 (m, p) → changes float64 (m, q) · r2: of the changes of folds that were left out,
    all columns together, against their mean in the other folds · explained: the same against no change at
    all: 0 is no better than to move nobody · chosen: epochs, or the penalty's number in `PENALTIES`.
    """

    predict: Callable[[torch.Tensor], torch.Tensor]
    r2: float
    explained: float
    chosen: int


@dataclass(frozen=True)
class _Stack:
    """The samples as each of K folds' models and the last, on all, see them: standardised by their own part.

    use: bool (K + 1, n): which samples it is fitted on · inputs: their mean and deviation, float64
    (K + 1, 1, p) · changes: their mean, float64 (K + 1, 1, q), and one deviation for all columns,
    (K + 1, 1, 1) · held: int64 (K, m): the samples of each fold, n where padded.
    """

    samples: Samples
    use: torch.Tensor
    inputs: tuple[torch.Tensor, torch.Tensor]
    changes: tuple[torch.Tensor, torch.Tensor]
    held: torch.Tensor

    def standard(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns inputs (k, b, p) and changes (k, b, q) of samples (b,) or (k, b) for the first k models."""
        found = []
        for values, (center, scale) in (
            (self.samples.inputs, self.inputs),
            (self.samples.changes, self.changes),
        ):
            k = len(center) if rows.dim() == 1 else len(rows)
            found.append((values[rows] - center[:k]) / scale[:k])
        return found[0], found[1]

    def judged(self, predicted: torch.Tensor) -> tuple[float, float]:
        """Returns r2 and explained of standardised predictions (K, m, q) for the held-out samples."""
        n = len(self.samples.fold)
        real = (self.held < n).unsqueeze(-1)
        rows = self.held.clamp(max=n - 1)
        wanted = self.samples.changes[rows] * real
        center, scale = (part[: len(rows)] for part in self.changes)
        missed = (wanted - (predicted * scale + center) * real).square().sum()
        spread = (wanted - center * real).square().sum()
        length = wanted.square().sum()
        return (
            float(1 - missed / spread) if spread > 0 else 0.0,
            float(1 - missed / length) if length > 0 else 0.0,
        )

    def predictor(
        self, last: Callable[[torch.Tensor], torch.Tensor]
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        """Returns inputs → changes, of the last model's standardised inputs → standardised changes."""

        def predict(inputs: torch.Tensor) -> torch.Tensor:
            with one_thread():
                center, scale = (part[-1] for part in self.inputs)
                found = last((inputs - center) / scale)
                center, scale = (part[-1] for part in self.changes)
                return found * scale + center

        return predict


def folds_of(groups: Ints, n_folds: int, seed: int) -> tuple[Ints, int]:
    """Returns int64 (n,): the fold of each sample, samples of a group together; and how many folds there are.

    Args:
        groups: int64 (n,): ids, such as the clients of the users; what fold one is in says the seed alone.
        n_folds: fewer, where there are fewer groups.
        seed: of the stream.
    """
    ids, number = np.unique(groups, return_inverse=True)
    rank = np.empty(len(ids), np.int64)
    rank[np.lexsort((ids, uniform(seed, ids, 0)))] = np.arange(len(ids))
    n_folds = min(n_folds, len(ids))
    return (rank % n_folds)[number], n_folds


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums of small products in one order, whatever the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _stack(samples: Samples) -> _Stack:
    fold, n_folds = samples.fold, samples.n_folds
    use = fold[None, :] != torch.arange(n_folds + 1)[:, None]
    part = use.double() / use.sum(1, keepdim=True)

    def moments(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        center = part @ values
        square = [p @ (values - c).square() for p, c in zip(part, center, strict=True)]
        return center.unsqueeze(1), torch.stack(square).unsqueeze(1)

    center, square = moments(samples.inputs)
    # What hardly differs from sample to sample is left at 0, not blown up.
    inputs = (center, torch.where(square <= 1e-24 * (1 + center.square()), 1.0, square.sqrt()))
    center, square = moments(samples.changes)
    square = square.mean(-1, keepdim=True)
    changes = (center, torch.where(square > 0, square.sqrt(), 1.0))
    counts = torch.bincount(fold, minlength=n_folds)
    order = torch.argsort(fold, stable=True)
    held = torch.full((n_folds, int(counts.max())), len(fold))
    column = torch.arange(len(fold)) - (counts.cumsum(0) - counts)[fold[order]]
    held[fold[order], column] = order
    return _Stack(samples, use, inputs, changes, held)


def linear(samples: Samples, fitting: Fitting) -> Fitted:
    """Returns a ridge regression in closed form, its penalty the best of `PENALTIES` on the folds.

    Reference: Hoerl, Kennard, Ridge Regression: Biased Estimation for Nonorthogonal Problems,
    Technometrics 1970.
    """
    with one_thread():
        stack = _stack(samples)
        x, y = stack.standard(torch.arange(len(samples.fold)))
        used = x * stack.use.unsqueeze(-1)
        values, vectors = torch.linalg.eigh(used.mT @ x)
        right = vectors.mT @ (used.mT @ y)
        count = stack.use.sum(1).double()
        held_x, _ = stack.standard(stack.held.clamp(max=len(samples.fold) - 1))
        best: tuple[float, float, int, torch.Tensor] | None = None
        for number, penalty in enumerate(PENALTIES):
            shrunk = 1 / (values.clamp(min=0) + penalty * count[:, None])
            weights = vectors @ (shrunk.unsqueeze(-1) * right)  # (K + 1, p, q)
            r2, explained = stack.judged(held_x @ weights[:-1])
            if best is None or r2 > best[0]:
                best = (r2, explained, number, weights[-1])
        assert best is not None
        r2, explained, number, last = best
        predict = stack.predictor(lambda inputs: inputs @ last)
        return Fitted(predict=predict, r2=r2, explained=explained, chosen=number)


def mlp(samples: Samples, fitting: Fitting) -> Fitted:
    """Returns a network with one hidden layer, after as many epochs of Adam as are best on the folds.

    It starts at the mean change for everybody, its output layer at 0.

    Reference: Kingma, Ba, Adam: A Method for Stochastic Optimization, ICLR 2015.
    """
    with one_thread():
        stack = _stack(samples)
        n, k = len(samples.fold), samples.n_folds + 1
        p, q = samples.inputs.shape[1], samples.changes.shape[1]
        weights = [start.repeat(k, 1, 1) for start in starts(p, fitting.hidden, q, fitting.seed)]
        optimizer = torch.optim.Adam(weights, lr=fitting.lr, fused=True)
        held_x, _ = stack.standard(stack.held.clamp(max=n - 1))
        held_x = held_x.float()
        size = min(fitting.batch, n)

        def found(epoch: int) -> tuple[float, float, int, list[torch.Tensor]]:
            folds = [weight[:-1] for weight in weights]
            r2, explained = stack.judged(outputs(folds, held_x).double())
            return r2, explained, epoch, [weight[-1].clone() for weight in weights]

        best = found(0)
        for epoch in range(1, fitting.epochs + 1):
            for rows in batches(n, size, fitting.seed, epoch):
                x, y = (part.float() for part in stack.standard(rows))
                set_gradients(weights, x, y, stack.use[:, rows])
                optimizer.step()
            now = found(epoch)
            if now[0] > best[0]:
                best = now
            elif epoch - best[2] >= fitting.patience:
                break
        r2, explained, epoch, last = best
        predict = stack.predictor(lambda inputs: outputs(last, inputs.float()).double())
        return Fitted(predict=predict, r2=r2, explained=explained, chosen=epoch)


def starts(p: int, hidden: int, q: int, seed: int) -> tuple[torch.Tensor, ...]:
    """Returns the network's start: weights and bias (p, hidden), (1, hidden), (hidden, q), (1, q)."""
    chance = uniform(stream(seed, "hidden"), np.arange(p)[:, None], np.arange(hidden)[None, :])
    first = torch.from_numpy((2 * chance - 1) * np.sqrt(6 / p)).float()
    return (first, torch.zeros(1, hidden), torch.zeros(hidden, q), torch.zeros(1, q))


def batches(n: int, size: int, seed: int, epoch: int) -> tuple[torch.Tensor, ...]:
    """Returns the numbers 0 to n - 1 in random order, in batches."""
    order = np.argsort(uniform(stream(seed, "batches", epoch), 0, np.arange(n)), kind="stable")
    return torch.split(torch.from_numpy(order), size)


def outputs(weights: list[torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
    """Returns (…, b, q) of inputs (…, b, p)."""
    first, bias, second, shift = weights
    return (inputs @ first + bias).relu() @ second + shift


def set_gradients(
    weights: list[torch.Tensor], x: torch.Tensor, y: torch.Tensor, use: torch.Tensor
) -> None:
    """Sets each network's gradient of its mean squared error over the samples (k, b) that it uses."""
    first, bias, second, shift = weights
    hidden = (x @ first + bias).relu()
    count = use.sum(1).clamp(min=1) * y.shape[-1]
    error = (hidden @ second + shift - y) * (2 * use / count.unsqueeze(1)).unsqueeze(-1)
    below = (error @ second.mT) * (hidden > 0)
    for weight, gradient in (
        (first, x.mT @ below),
        (bias, below.sum(-2, keepdim=True)),
        (second, hidden.mT @ error),
        (shift, error.sum(-2, keepdim=True)),
    ):
        weight.grad = gradient


META_MODELS: Mapping[str, Callable[[Samples, Fitting], Fitted]] = {"mlp": mlp, "linear": linear}
"""How a meta-model is fitted, by its name in a recipe."""
