"""Before the first round: whether a plan fits together, and fits its Dataset.

Each of `CHECKS` returns the error it finds, or None; `check_plan` raises the first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec

from fedprep.errors import FedprepError, RecipeError, TrainingError
from fedtrain.algorithms import ALGORITHMS
from fedtrain.defaults import settled
from fedtrain.facts import Facts, sizes_of
from fedtrain.plan import Plan

__all__ = ["CHECKS", "check_plan", "filled"]

PAIRWISE = frozenset({"implicit", "bce", "bpr", "softmax"})
"""Tasks that tell a positive from drawn items."""

TASKS_OF_EXAMPLES = {
    "rows": PAIRWISE | {"binary", "classes", "rating", "contrastive"},
    "sequences": PAIRWISE,
    "graphs": PAIRWISE | {"binary", "rating"},
    "bags": frozenset({"implicit", "bce", "rating"}),
}
"""The tasks that a model's examples have a target for."""

TASKS_OF_MODELS = {"mult_vae": frozenset({"implicit", "bce"}), "rating_vae": frozenset({"rating"})}
"""The same for models with a loss of their own."""


def check_plan(plan: Plan, facts: Facts) -> None:
    """Refuses a plan that contradicts itself or asks for what the Dataset lacks.

    Raises:
        RecipeError: two keys contradict each other.
        TrainingError: the Dataset, or the model, cannot give what the plan asks for.
    """
    for check in CHECKS:
        error = check(plan, facts)
        if error is not None:
            raise error


def check_steps(plan: Plan, facts: Facts) -> FedprepError | None:
    """Steps and epochs are two ways to say how long a client trains."""
    if plan.local_steps and plan.local_epochs != 1:
        return RecipeError(
            f"local_steps = {plan.local_steps} and local_epochs = {plan.local_epochs} "
            "both say how long a client trains",
            where="train.local_steps",
            hint="leave one of them out",
        )
    return None


def check_schedule(plan: Plan, facts: Facts) -> FedprepError | None:
    """A warm-up is shorter than the run, and there is one where it is asked for."""
    if plan.schedule == "warmup" and not plan.warmup_rounds:
        return RecipeError(
            "schedule = warmup without a length",
            where="train.schedule",
            hint="--set warmup_rounds=5",
        )
    if plan.warmup_rounds >= plan.rounds and plan.warmup_rounds:
        return RecipeError(
            f"the warm-up of {plan.warmup_rounds} rounds does not end within {plan.rounds} rounds",
            where="train.warmup_rounds",
            expected=f"at most {plan.rounds - 1}",
        )
    return None


def check_metrics(plan: Plan, facts: Facts) -> FedprepError | None:
    """What steers a run is measured on train or valid, never on test, and steers it to its better end."""
    from fedtrain.compare import better

    if plan.stop.patience and not plan.stop.metric:
        return RecipeError(
            f"stop.patience = {plan.stop.patience} without a metric to wait for",
            where="train.stop.patience",
            hint="--set stop.metric=ndcg@10/valid",
        )
    steering = {"stop.metric": (plan.stop.metric, "stop.mode", plan.stop.mode)}
    if plan.schedule == "plateau":
        steering["schedule_metric"] = plan.schedule_metric, "schedule_mode", plan.schedule_mode
    for key, (metric, key_of_mode, mode) in steering.items():
        if metric.endswith("/test"):
            return RecipeError(
                f"'{metric}' would steer the run by the rows that judge it",
                where=f"train.{key}",
                hint=f"{metric.removesuffix('/test')}/valid",
            )
        if metric.endswith("/valid") and not facts.n_valid:
            return TrainingError(
                f"'{metric}' cannot be measured: the Dataset has no valid row",
                where=f"train.{key}",
                hint="build it with another [split], or use loss/train",
            )
        less, right = {"lower": ("less", "min"), "higher": ("more", "max")}.get(
            better(metric), ("", mode)
        )
        if mode != right:
            return RecipeError(
                f"{less} of '{metric}' is better, and {key_of_mode} = '{mode}' takes the worst for the best",
                where=f"train.{key_of_mode}",
                hint=f"--set {key_of_mode}={right}",
            )
    return None


def check_clients(plan: Plan, facts: Facts) -> FedprepError | None:
    """There are as many clients to train as a round asks for."""
    if plan.valid_clients + plan.test_clients >= 1:
        return RecipeError(
            f"valid_clients = {plan.valid_clients} and test_clients = {plan.test_clients} "
            "leave no client to train",
            where="train.valid_clients",
            expected="a sum below 1",
        )
    pooled = ALGORITHMS[plan.algorithm](**plan.table(plan.algorithm)).pooled
    left = n_to_train(plan, facts)
    if left < 1:
        return TrainingError(
            f"no client is left to train: of {facts.n_clients:,} {facts.n_able:,} have train rows, "
            f"{facts.n_able - left:,} are held out",
            hint="another [split] or [partition], or fewer clients held out",
        )
    if plan.clients_per_round > left and not pooled:
        return TrainingError(
            f"{plan.clients_per_round:,} clients a round, but there are {left:,} to train",
            where="train.clients_per_round",
            expected=f"at most {left:,}; 0 takes all of them",
            hint="--clients-per-round 0",
        )
    if plan.secure.enabled and ALGORITHMS[plan.algorithm](**plan.table(plan.algorithm)).joins:
        each = (
            plan.clients_per_round if plan.sampler != "poisson" else 0
        )  # that may be more by chance
        most = 1 if pooled else min(each or left, left)
        if most < 2:
            return TrainingError(
                f"a secure sum of {most} client shows its update: no round has more",
                where="train.clients_per_round"
                if each == 1 and left > 1
                else "train.secure.enabled",
                expected="at least two clients a round, to hide one another",
                hint="more clients a round, or --set secure.enabled=false",
            )
    if (plan.sampler == "trace") != bool(plan.trace):
        return RecipeError(
            f"sampler = {plan.sampler} and trace = '{plan.trace}' do not belong together",
            where="train.trace",
            expected="sampler = trace with a CSV or Parquet file, or neither",
        )
    return None


def n_to_train(plan: Plan, facts: Facts) -> int:
    """Returns how many clients have train rows and are not held out."""
    kept = [round(share * facts.n_able) for share in (plan.valid_clients, plan.test_clients)]
    return facts.n_able - sum(kept)


def filled(plan: Plan, facts: Facts) -> Plan:
    """Returns the plan with what it leaves open: rates, the model's inputs, all clients where they are few.

    What somebody chose is not changed: `check_plan` refuses what does not fit.
    """
    usual = Plan().clients_per_round
    if plan.clients_per_round == usual > n_to_train(plan, facts):
        plan = msgspec.structs.replace(plan, clients_per_round=0)
    pooled = ALGORITHMS[plan.algorithm](**plan.table(plan.algorithm)).pooled
    rows = facts.n_train / max(1, 1 if pooled else facts.n_able)
    return settled(plan, sizes_of(plan, facts), rows)


def check_task(plan: Plan, facts: Facts) -> FedprepError | None:
    """The Dataset's labels and ratings are what the task learns."""
    if plan.task in ("binary", "classes"):
        if facts.label != "binary" and (plan.task == "binary" or facts.label == "implicit"):
            return TrainingError(
                f"the task {plan.task} needs labels; those of the Dataset are {facts.label}",
                where="train.task",
                hint=f"build it with --set clean.label={plan.task}",
            )
        if facts.n_labels < 2:
            return TrainingError(
                f"the task {plan.task} has nothing to tell apart: every row has the same label",
                where="train.task",
                hint="--task implicit, or build with another clean.threshold",
            )
    if plan.task == "rating" and facts.n_ratings < 2:
        return TrainingError(
            "the task rating has nothing to learn: every row has the same rating",
            where="train.task",
            hint="--task implicit",
        )
    if plan.task == "contrastive" and plan.batch_size == 1:
        return RecipeError(
            "the task contrastive tells the rows of a batch from each other: one is too few",
            where="train.batch_size",
            expected="at least 2, or 0 for all rows of the client",
        )
    if plan.task == "contrastive" and facts.most_users < 2:
        return TrainingError(
            "the task contrastive takes other users' items as negatives: every client has one user alone",
            where="train.task",
            hint="--task softmax, or clients of several users (fedprep partition)",
        )
    return None


def check_model(plan: Plan, facts: Facts) -> FedprepError | None:
    """The model can do the task, and has the parts that the algorithm needs."""
    from fedtrain.models import MODELS

    model = MODELS[plan.model](**plan.table(plan.model))
    sizes = sizes_of(plan, facts)
    parameters = model.parameters(sizes)
    more = replace(sizes, n_outputs=sizes.n_outputs + 1)
    if plan.task == "classes" and model.parameters(more) == parameters:
        return TrainingError(
            f"the model {plan.model} gives one number an item, not one a class",
            where="train.task",
            hint="--model two_tower, or --task binary, rating or implicit",
        )
    fits = TASKS_OF_MODELS.get(plan.model, TASKS_OF_EXAMPLES[model.examples])
    if plan.task not in fits:
        return TrainingError(
            f"the model {plan.model} learns from {model.examples} and not by the task {plan.task}",
            where="train.task",
            expected=" | ".join(sorted(fits)),
        )
    if model.examples != "bags" and plan.task in PAIRWISE and not plan.negatives:
        return RecipeError(
            f"the task {plan.task} needs items to tell a positive from",
            where="train.negatives",
            expected="at least 1",
        )
    if plan.algorithm == "fedper" and not any(p.head for p in parameters.values()):
        return TrainingError(
            f"fedper keeps heads at the clients, and the model {plan.model} has none",
            where="train.model",
            hint="--model two_tower",
        )
    if plan.algorithm == "fedrecon" and not any(p.scope == "user" for p in parameters.values()):
        return TrainingError(
            f"fedrecon rebuilds the users' own rows, and the model {plan.model} has none",
            where="train.model",
            hint="--model mf",
        )
    return None


def check_unseen(plan: Plan, facts: Facts) -> FedprepError | None:
    """Clients that never train are judged by users that are rebuilt there: the model has rows of users."""
    from fedtrain.models import MODELS

    if not (plan.valid_clients or plan.test_clients):
        return None
    model = MODELS[plan.model](**plan.table(plan.model))
    users = any(p.scope == "user" for p in model.parameters(sizes_of(plan, facts)).values())
    if model.examples == "rows" and users:
        return None
    return TrainingError(
        f"the model '{plan.model}' has no vectors of users to rebuild at unseen clients",
        where="[train] valid_clients, test_clients",
        hint="model = 'mf'",
    )


def check_optimisers(plan: Plan, facts: Facts) -> FedprepError | None:
    """An algorithm that corrects the client's steps knows how those steps were made."""
    known = {"scaffold": ("sgd",), "fednova": ("sgd", "momentum")}
    fits = known.get(plan.algorithm, (plan.optimizer,))
    if plan.optimizer not in fits:
        return RecipeError(
            f"{plan.algorithm} corrects the steps of {' or '.join(fits)}, not of {plan.optimizer}",
            where="train.optimizer",
            hint=f"--set optimizer={fits[0]}",
        )
    algorithm = ALGORITHMS[plan.algorithm](**plan.table(plan.algorithm))
    server = algorithm.defaults.get("server_optimizer", plan.server_optimizer)
    if plan.server_optimizer != server:
        return RecipeError(
            f"{plan.algorithm} is fedavg with server_optimizer = {server}, "
            f"not {plan.server_optimizer}",
            where="train.server_optimizer",
            hint="--algorithm fedavg takes any",
        )
    return None


def check_privacy(plan: Plan, facts: Facts) -> FedprepError | None:
    """What noise on a sum promises holds: a bound for each client, a fixed denominator, a known sampling."""
    if plan.privacy.noise_multiplier:
        unmet = {
            "privacy.clip": (plan.privacy.clip > 0, "above 0", "1.0"),
            "weights": (plan.weights == "uniform", "uniform", "uniform"),
            "item_mean": (plan.item_mean != "touched", "cohort or sum", "cohort"),
            "sampler": (plan.sampler in ("uniform", "poisson"), "uniform or poisson", "poisson"),
            "algorithm": (
                plan.algorithm not in ("fednova", "local", "centralised"),
                "one that sends sums alone: fednova tells steps too, a control sends nothing",
                "fedavg",
            ),
        }
        for key, (met, expected, value) in unmet.items():
            if not met:
                return RecipeError(
                    f"with noise the privacy holds only where {key} is {expected}",
                    where=f"train.{key}",
                    hint=f"--set {key}={value}",
                )
    hidden = "privacy.noise_multiplier" if plan.privacy.noise_multiplier else "secure.enabled"
    if plan.algorithm == "fedfnn" and (plan.privacy.noise_multiplier or plan.secure.enabled):
        return RecipeError(
            "fedfnn learns from the update of each client, which this hides",
            where=f"train.{hidden}",
        )
    return None


def check_device(plan: Plan, facts: Facts) -> FedprepError | None:
    """Mixed precision is for CUDA."""
    if plan.mixed_precision and plan.device == "cpu":
        return RecipeError(
            "mixed precision is for CUDA, and the device is the CPU",
            where="train.mixed_precision",
            hint="--set mixed_precision=false",
        )
    return None


CHECKS: tuple[Callable[[Plan, Facts], FedprepError | None], ...] = (
    check_steps,
    check_schedule,
    check_metrics,
    check_clients,
    check_task,
    check_model,
    check_unseen,
    check_optimisers,
    check_privacy,
    check_device,
)
"""Each check, in the order in which they are asked."""
