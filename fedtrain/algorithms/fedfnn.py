"""FedFNN: a part of the clients trains, and what training would have done to all other users is predicted.

In each round the sampled clients, the delegates, train as in federated averaging. A meta-model is then
fitted on (what a delegate's user was before the round → how its vector moved), the folds of a
cross-validation choose how far, and it moves the vectors of the users that were not sampled, times a
discount. Rows of items are averaged with the magnitudes of the delegates' changes as weights (W1), or with
their numbers of interactions (W2).

**The server sees users' vectors here**: those of the delegates as they come back, and everybody else's, which
it moves itself; and each user's number of rows and behaviour vector, where the meta-model is given them. All
other algorithms leave them at the clients. Nothing hides them: a secure sum and noise are refused.

Reference: Fabbri, Liu, McKenzie, Twardowski, Wijaya, FedFNN: Faster Training Convergence Through Update
Predictions in Federated Recommender Systems, 2023, arXiv 2309.08635. No code of it is public, and its
abstract tells none of these, which are our reading:

- a meta-model is fitted anew each round, on that round's delegates alone, and starts at their mean change;
- W1 is the L2 norm of a client's change of that row, at most 1; W2 is its number of train rows, so that the
  rows of items are those of federated averaging weighted by rows;
- clients that were never to be sampled (held out for valid and test) are not moved;
- where the folds say that the predictions are no better than to move nobody, nobody is moved in that round;
- no predicted change is longer than the longest of the delegates';
- the loss that has to be stable for `patience` rounds is the delegates' train loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from msgspec import Meta

from fedprep.errors import TrainingError
from fedprep.keys import Count, Positive, Rate, Share, Width
from fedtrain.algorithms.algorithm import Algorithm, Answer, Phase, everything, keeps_users
from fedtrain.axes import squares
from fedtrain.metamodels import META_MODELS, Fitted, Fitting, Samples, folds_of
from fedtrain.parameters import stream

if TYPE_CHECKING:
    from fedtrain.algorithms.algorithm import Moved
    from fedtrain.clients import Clients
    from fedtrain.engine import Work
    from fedtrain.local import Local
    from fedtrain.parameters import Parameter
    from fedtrain.plan import Plan

__all__ = ["BLOCK", "extrapolate", "fedfnn", "magnitudes", "reference"]

CALM = "fedfnn/calm"
"""What the server keeps: the best loss, and for how many rounds there was no better one."""

BLOCK = 1 << 16
"""Users whose changes are predicted at a time."""


Folds = Annotated[int, Meta(ge=2, le=1000)]


def fedfnn(
    *,
    meta: Literal["mlp", "linear"] = "mlp",
    hidden: Width = 64,
    epochs: Positive = 200,
    meta_patience: Positive = 10,
    folds: Folds = 5,
    meta_batch: Positive = 64,
    meta_lr: Rate = 0.01,
    side: bool = True,
    discount: Share = 1.0,
    decay: Share = 1.0,
    item_weights: Literal["magnitude", "interactions"] = "interactions",
    patience: Count = 0,
    tolerance: Share = 0.001,
) -> Algorithm:
    """Returns FedFNN.

    Args:
        meta: the meta-model: a network, or a ridge regression (the ablation).
        hidden, epochs, meta_patience, meta_batch, meta_lr: of the network, see `metamodels.Fitting`.
        folds: of the cross-validation, by client.
        side: whether the meta-model is given a user's number of rows and behaviour vector too.
        discount: what predicted changes are multiplied by, from 0 (nobody is moved) to 1.
        decay: what the discount is multiplied by from each round to the next.
        item_weights: of a client's change of a row of items: W1 or W2.
        patience: rounds in a row whose train loss is no better, before nobody is predicted any more and the
            rest is plain averaging; 0: predicting never ends.
        tolerance: a loss is better that is less than the best before by more than this share of it.
    """

    def fit(samples: Samples, seed: int) -> Fitted:
        fitting = Fitting(
            hidden=hidden,
            epochs=epochs,
            patience=meta_patience,
            batch=meta_batch,
            lr=meta_lr,
            seed=seed,
        )
        return META_MODELS[meta](samples, fitting)

    def move(work: Work, clients: Clients, moved: Moved) -> dict[str, float]:
        if patience and stable(moved, patience, tolerance):
            return {"fedfnn/delegates": float(len(moved.slots)), "fedfnn/predicted": 0.0}
        factor = discount * decay ** (moved.round_number - 1)
        return extrapolate(work, clients, moved, fit, folds=folds, side=side, factor=factor)

    return Algorithm(
        name="fedfnn",
        reference=(
            "Fabbri et al., FedFNN: Faster Training Convergence Through Update Predictions in Federated "
            "Recommender Systems, 2023, arXiv 2309.08635"
        ),
        phases=phases,
        reveals=keeps_users,
        row_weights=magnitudes if item_weights == "magnitude" else None,
        extrapolate=move,
        behavior=side,
    )


def stable(moved: Moved, patience: int, tolerance: float) -> bool:
    """Returns whether the loss has been stable for `patience` rounds, this one included; once so, always.

    The server keeps the best loss so far and the rounds since then, float64 (2,), and with them a checkpoint.
    """
    best, idle = moved.extra.get(CALM, torch.tensor([np.inf, 0.0], dtype=torch.float64)).tolist()
    if idle >= patience:
        return True
    if np.isnan(moved.loss):  # nobody trained: nothing is known
        return False
    better = not np.isfinite(best) or moved.loss < best - tolerance * abs(best)
    best, idle = (moved.loss, 0.0) if better else (best, idle + 1)
    moved.extra[CALM] = torch.tensor([best, idle], dtype=torch.float64)
    if idle >= patience:
        moved.told["no more predictions"] = (
            f"the train loss is no better than {best:.6g} for {patience} rounds"
        )
    return bool(idle >= patience)


def magnitudes(answer: Answer, local: Local) -> torch.Tensor:
    """Returns float32 (T,): the L2 norm of each client's change of an item, over all tables; at most 1."""
    found = torch.zeros(len(local.row_item), device=local.row_item.device)
    for value in answer.rows.values():
        found += squares(value)
    return found.sqrt().clamp(max=1.0)


def phases(plan: Plan, parameters: Mapping[str, Parameter]) -> tuple[Phase, ...]:
    """Returns one phase of everything.

    Raises:
        TrainingError: there are no users' vectors, or rows of items are averaged otherwise.
    """
    if not keeps_users(parameters):
        raise TrainingError(
            f"the model '{plan.model}' keeps no vectors of users: there is nothing to predict",
            where="[train] model",
            hint="model = 'mf'",
        )
    if plan.item_mean != "touched" or plan.weights != "rows":
        raise TrainingError(
            "FedFNN's W1 and W2 are weights of rows of items in a mean over the clients that touched them",
            where="[train] item_mean and weights",
            expected="item_mean = 'touched' and weights = 'rows'",
        )
    return everything(plan, parameters)


def extrapolate(
    work: Work,
    clients: Clients,
    moved: Moved,
    fit: Callable[[Samples, int], Fitted],
    *,
    folds: int,
    side: bool,
    factor: float,
) -> dict[str, float]:
    """Moves the users that were not sampled, in `clients`; returns the figures of the round.

    Users of clients that train and have rows are moved, no others. It costs a prediction for each of them:
    a round costs what there are users, not only what the cohort costs.
    """
    seed = stream(work.seed, "fedfnn", moved.round_number)
    figures = {"fedfnn/delegates": float(len(moved.slots)), "fedfnn/predicted": 0.0}
    fold, n_folds = folds_of(moved.slot_client, folds, stream(seed, "folds"))
    others = moved.unsampled
    if n_folds < 2 or not clients.users:
        return figures
    before = _inputs(work, moved.before, moved.slots, side)
    changes = _flat(clients.users_at(moved.slots)) - _flat(moved.before)
    fitted = fit(Samples(before, changes, torch.from_numpy(fold), n_folds), seed)
    figures |= {
        "fedfnn/r2": fitted.r2,
        "fedfnn/explained": fitted.explained,
        "fedfnn/chosen": float(fitted.chosen),
    }
    if fitted.explained <= 0 or not factor:
        return figures
    longest = squares(changes).max().sqrt()
    for begin in range(0, len(others), BLOCK):
        slots = others[begin : begin + BLOCK]
        now = clients.users_at(slots)
        change = fitted.predict(_inputs(work, now, slots, side))
        change *= factor * (longest / squares(change).sqrt().clamp(min=longest)).unsqueeze(1)
        clients.write_users(slots, _unflat(_flat(now) + change, now))
    figures["fedfnn/predicted"] = float(len(others))
    return figures


def _inputs(
    work: Work,
    vectors: Mapping[str, torch.Tensor],
    slots: np.ndarray[Any, np.dtype[np.int64]],
    side: bool,
) -> torch.Tensor:
    """Returns float64 (m, p): the vectors, and with `side` the logarithm of the rows and the behaviour."""
    parts = [_flat(vectors)]
    if side:
        parts.append(torch.from_numpy(np.log1p(work.federation.slot_rows[slots]))[:, None])
        if work.features.behavior is not None:
            user = torch.from_numpy(work.federation.slot_user[slots].astype(np.int64))
            parts.append(work.features.behavior.cpu()[user].double())
    return torch.cat(parts, 1)


def _flat(vectors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Returns float64 (m, q): all that is known by user, side by side."""
    return torch.cat([value.reshape(len(value), -1).double() for value in vectors.values()], 1)


def _unflat(flat: torch.Tensor, like: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    sizes = [value[0].numel() for value in like.values()]
    parts = torch.split(flat.float(), sizes, 1)
    return {
        name: part.reshape(value.shape)
        for (name, value), part in zip(like.items(), parts, strict=True)
    }


def reference(
    items: torch.Tensor,
    changes: Sequence[Mapping[int, torch.Tensor]],
    rows: Sequence[int],
    vectors: Mapping[int, torch.Tensor],
    trained: Mapping[int, torch.Tensor],
    predict: Callable[[torch.Tensor], torch.Tensor],
    *,
    discount: float = 1.0,
    magnitude: bool = True,
) -> tuple[torch.Tensor, dict[int, torch.Tensor]]:
    """Returns the table of items and each user's vector after a round, one after the other.

    Args:
        items: the server's table (n_items, d).
        changes: of each delegate, by the items that it touched.
        rows: of each delegate, its number of train rows.
        vectors: every user's vector before the round.
        trained: the delegates' vectors after their training.
        predict: the meta-model that was fitted on the delegates: vector → change.
        discount: of predicted changes.
        magnitude: W1; False: W2.
    """
    after = items.clone()
    for item in range(len(items)):
        total, weight = torch.zeros_like(items[item]), 0.0
        for change, count in zip(changes, rows, strict=True):
            if item in change:
                w = min(1.0, float(change[item].norm())) if magnitude else float(count)
                total, weight = total + w * change[item], weight + w
        if weight:
            after[item] += total / weight
    longest = max(float((trained[user] - vectors[user]).norm()) for user in trained)
    moved = dict(trained)
    for user, vector in vectors.items():
        if user not in trained:
            step = predict(vector)
            shorter = min(1.0, longest / max(float(step.norm()), 1e-30))
            moved[user] = vector + discount * shorter * step
    return after, moved
