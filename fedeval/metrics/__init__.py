"""The metrics by name, and how a name such as `"ndcg@10"` is read.

A metric is a function over the hits of all users that gives a value for each. Adding one is a function,
its line in `METRICS`, its test, and its line in docs/metrics.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from fedeval.metrics import accuracy
from fedprep.errors import EvaluationError, nearest

__all__ = ["METRICS", "Ask", "Metric", "asked"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric.

    function: over hits.
    title: what a reader should see.
    cut: whether it takes a cut-off k.
    parameter: the name of its parameter, such as `p` of rbp, written `"rbp.95@10"`.
    better: which way is good; `neither` where it depends.
    """

    function: Callable[..., Any]
    title: str
    cut: bool = True
    parameter: str = ""
    better: Literal["higher", "lower", "neither"] = "higher"

    @property
    def definition(self) -> str:
        """The first line of the function's docstring."""
        return (self.function.__doc__ or "").strip().splitlines()[0]


METRICS: dict[str, Metric] = {
    "ndcg": Metric(function=accuracy.ndcg, title="NDCG"),
    "ndcg_graded": Metric(function=accuracy.ndcg_graded, title="NDCG, linear gain"),
    "ndcg_exp": Metric(function=accuracy.ndcg_exp, title="NDCG, gain 2^rel − 1"),
    "hr": Metric(function=accuracy.hit_rate, title="Hit rate"),
    "recall": Metric(function=accuracy.recall, title="Recall"),
    "recall_capped": Metric(function=accuracy.recall_capped, title="Recall over min(k, relevant)"),
    "precision": Metric(function=accuracy.precision, title="Precision"),
    "mrr": Metric(function=accuracy.reciprocal_rank, title="MRR"),
    "map": Metric(function=accuracy.average_precision, title="MAP"),
    "r_precision": Metric(function=accuracy.r_precision, title="R-precision", cut=False),
    "rbp": Metric(function=accuracy.rank_biased_precision, title="RBP", parameter="p"),
}


@dataclass(frozen=True)
class Ask:
    """One metric that was asked for: `Ask("rbp.95@10", "rbp", 10, 0.95)`."""

    text: str
    name: str
    k: int | None = None
    parameter: float | None = None

    @property
    def metric(self) -> Metric:
        return METRICS[self.name]


NAME = re.compile(r"(?P<name>[a-z_]+)(?P<parameter>\.\d+)?(@(?P<k>\d+))?")


def asked(metrics: str | Iterable[str], k: int | Iterable[int] | None = None) -> list[Ask]:
    """Returns the metrics asked for, each once, in order.

    Args:
        metrics: `"ndcg@10"`, or several; `"ndcg"` stands for one at each k.
        k: cut-offs for the names that have none; None: the whole list.

    Raises:
        EvaluationError: no such metric, or a cut-off where there is none to take.
    """
    cuts = [None] if k is None else [k] if isinstance(k, int) else list(k)
    texts = [metrics] if isinstance(metrics, str) else list(metrics)
    found = [ask for text in texts for ask in _read(text, cuts)]
    if not found:
        raise EvaluationError("no metric was asked for", hint=nearest("", METRICS))
    for ask in found:
        if ask.k is not None and ask.k < 1:
            raise EvaluationError(f"a cut-off must be at least 1, not {ask.k}", where=ask.text)
    return list(dict.fromkeys(found))


def _read(text: str, cuts: list[int | None]) -> list[Ask]:
    match = NAME.fullmatch(text.strip().lower())
    name = match["name"] if match else text.partition("@")[0]
    if not match or name not in METRICS:
        raise EvaluationError(f"no metric is called '{text}'", hint=nearest(name, METRICS))
    metric = METRICS[name]
    if match["parameter"] and not metric.parameter:
        raise EvaluationError(f"'{name}' takes no parameter", where=text)
    if match["k"] and not metric.cut:
        raise EvaluationError(f"'{name}' takes no cut-off", where=text, hint=f"ask for '{name}'")
    parameter = float(f"0{match['parameter']}") if match["parameter"] else None
    stem = name + (match["parameter"] or "")
    if match["k"]:
        return [Ask(f"{stem}@{int(match['k'])}", name, int(match["k"]), parameter)]
    if not metric.cut:
        return [Ask(stem, name, None, parameter)]
    return [Ask(stem if k is None else f"{stem}@{k}", name, k, parameter) for k in cuts]
