"""Defaults that depend on others: what a plan leaves open, by optimiser, task and model, and by the Dataset.

A client's rates, where the plan gives no `lr` (one that does has it for what it gives no rate of its own):

| optimiser | shared, head | rows of users | rows of items       | task `rating`                |
| --------- | ------------ | ------------- | ------------------- | ---------------------------- |
| sgd       | 0.1          | 6 / √s        | m · min(n, 20) / √s | shared a third, rows a tenth |
| momentum  | a tenth of those of sgd: it adds up about ten steps                               |
| adam      | 0.01 / √s    | 0.1 / √s      | 0.1 / √s            | the same                     |

n is how many examples a step has, s how many steps a round, both of the mean client; m is the number of items
that an example's loss is a mean over: 1 + `negatives` in the task `implicit`, else 1. SGD follows the mean of
n examples, of which a row of an item is in few: its gradient is small, and its rate large. Adam moves every
value by about its rate, whatever the gradient, and in s steps of a round up to s times as far. An error of a
rating is four times as curved as that of a like, and not bounded. Measured on MovieLens and on made-up files
of Amazon and Yelp. Models that do not learn row by row (sequences, bags) have one rate for all.

Models have open keys as well (`mf.mean`, `two_tower.image`): their method `derived` fills them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from fedtrain.plan import LR, Plan

if TYPE_CHECKING:
    from fedtrain.models import Sizes

__all__ = ["settled"]

OF_USERS, OF_ITEMS, MOST_EXAMPLES = 6.0, 1.0, 20
ROWS = ("user", "item")
ROWS_OF_ADAM = 10.0  # over the rate of what all share
OF_RATINGS, ROWS_OF_RATINGS = 0.3, 0.1


def settled(plan: Plan, sizes: Sizes, rows_of_client: float) -> Plan:
    """Returns the plan without open rates, and its model's table with what the model derives of the data.

    Args:
        plan: what it gives stays as it is.
        sizes: of the data.
        rows_of_client: mean train rows of a client that trains; of pooled rows all of them.
    """
    from fedtrain.models import MODELS

    model = MODELS[plan.model](**plan.table(plan.model))
    derived = model.derived(sizes) if hasattr(model, "derived") else {}
    if derived:
        table = {**plan.table(plan.model), **derived}
        plan = msgspec.structs.replace(plan, tables={**plan.tables, plan.model: table})
        model = MODELS[plan.model](**table)
    if plan.server_lr is None:
        plan = msgspec.structs.replace(plan, server_lr=plan.rates["server"])
    if plan.lr is not None:
        return plan
    scopes = {p.scope for p in model.parameters(sizes).values()}
    found = _rates(plan, model.examples in ("rows", "graphs"), max(1.0, rows_of_client))
    rates = {"lr": found["shared"]} | {
        f"lr_{scope}": rate
        for scope, rate in found.items()
        if scope in scopes and getattr(plan, f"lr_{scope}", 0.0) is None
    }
    return msgspec.structs.replace(plan, **{k: float(f"{rate:.3g}") for k, rate in rates.items()})


def _rates(plan: Plan, by_rows: bool, rows: float) -> dict[str, float]:
    """Returns the rates of the table above: shared, user, item."""
    size = min(rows, plan.batch_size or rows)
    root = math.sqrt(plan.local_steps or plan.local_epochs * math.ceil(rows / size))
    shared, errors = LR[plan.optimizer], plan.task == "rating"
    if plan.optimizer == "adam":
        shared /= root
        user = item = ROWS_OF_ADAM * shared
    else:
        much = shared / LR["sgd"] / root * (ROWS_OF_RATINGS if errors else 1.0)
        n_items = 1 + plan.negatives if plan.loss == "bce" else 1
        user, item = much * OF_USERS, much * OF_ITEMS * n_items * min(size, MOST_EXAMPLES)
        shared *= OF_RATINGS if errors else 1.0
    return {"shared": shared} | (
        {"user": user, "item": item} if by_rows else dict.fromkeys(ROWS, shared)
    )
