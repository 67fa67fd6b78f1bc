"""The metrics by name, and how a name such as `"ndcg@10"` is read.

Adding a metric is a function, its line in `METRICS`, its test, and its line in docs/metrics.md.
"""

from __future__ import annotations

import inspect
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from fedeval.metrics import accuracy, beyond, ratings
from fedeval.ties import auc_of
from fedprep.errors import EvaluationError, nearest
from fedprep.keys import MOST

__all__ = ["METRICS", "Ask", "Metric", "asked"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric.

    function: what computes it. kind: what it is computed of, and so its arguments.
        `accuracy`: (found, k) · `auc`: (groups) · `list`: (shelf, k) · `exposure`: (exposure, catalogue)
        · `rows`: (predictions), the sums of which `finish` makes the value.
    title: for readers. cut: takes a cut-off k. parameter: the name of its parameter (`rbp.95@10`).
    needs: of `train`, `items`, `embedding`, `categories`, `score`. target: columns of truth, first first.
    better: which way is good. undefined: when a user has no value.
    """

    function: Callable[..., Any]
    title: str
    kind: Literal["accuracy", "auc", "list", "exposure", "rows"] = "accuracy"
    cut: bool = True
    parameter: str = ""
    needs: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    finish: Callable[[Any], Any] | None = None
    better: Literal["higher", "lower", "neither"] = "higher"
    undefined: str = ""

    @property
    def definition(self) -> str:
        """The first sentence or two of the function's docstring: name and formula."""
        return " ".join((inspect.getdoc(self.function) or "").partition("\n\n")[0].split())


METRICS: dict[str, Metric] = {
    "ndcg": Metric(function=accuracy.ndcg, title="NDCG"),
    "ndcg_graded": Metric(function=accuracy.ndcg_graded, title="NDCG, linear gain"),
    "ndcg_exp": Metric(function=accuracy.ndcg_exp, title="NDCG, gain 2^rel − 1"),
    "hr": Metric(function=accuracy.hit_rate, title="Hit rate"),
    "recall": Metric(function=accuracy.recall, title="Recall"),
    "recall_capped": Metric(function=accuracy.recall_capped, title="Recall over min(k, relevant)"),
    "precision": Metric(function=accuracy.precision, title="Precision"),
    "f1": Metric(function=accuracy.f1, title="F1"),
    "err": Metric(function=accuracy.expected_reciprocal_rank, title="ERR"),
    "mrr": Metric(function=accuracy.reciprocal_rank, title="MRR"),
    "map": Metric(function=accuracy.average_precision, title="MAP"),
    "r_precision": Metric(function=accuracy.r_precision, title="R-precision", cut=False),
    "rbp": Metric(function=accuracy.rank_biased_precision, title="RBP", parameter="p"),
    "auc": Metric(
        function=auc_of, title="AUC", kind="auc", cut=False, needs=("score",),
        undefined="the list has no relevant item, or no other",
    ),
    "rmse": Metric(
        function=ratings.rmse_sums, finish=ratings.rmse_of, title="RMSE", kind="rows", cut=False,
        needs=("score",), target=("rating", "relevance"), better="lower",
    ),
    "mae": Metric(
        function=ratings.mae_sums, finish=ratings.mean_of, title="MAE", kind="rows", cut=False,
        needs=("score",), target=("rating", "relevance"), better="lower",
    ),
    "accuracy": Metric(
        function=ratings.accuracy_sums, finish=ratings.mean_of, title="Accuracy", kind="rows",
        cut=False, needs=("score",), target=("label", "relevance"),
    ),
    "balanced_accuracy": Metric(
        function=ratings.balanced_accuracy_sums, finish=ratings.balanced_accuracy_of,
        title="Balanced accuracy", kind="rows", cut=False, needs=("score",),
        target=("label", "relevance"), undefined="one of the two classes has no row",
    ),
    "logloss": Metric(
        function=ratings.log_loss_sums, finish=ratings.mean_of, title="Log loss", kind="rows",
        cut=False, needs=("score",), target=("label", "relevance"), better="lower",
    ),
    "ece": Metric(
        function=ratings.calibration_error_sums, finish=ratings.calibration_error_of,
        title="Calibration error", kind="rows", cut=False, needs=("score",),
        target=("label", "relevance"), better="lower",
    ),
    "coverage": Metric(
        function=beyond.coverage, title="Coverage of train items", kind="exposure", needs=("train",),
    ),
    "coverage_all": Metric(
        function=beyond.coverage_all, title="Coverage of all items", kind="exposure",
        needs=("items",),
    ),
    "gini": Metric(
        function=beyond.gini, title="Gini of exposure", kind="exposure", needs=("train",),
        better="lower", undefined="no training item is recommended",
    ),
    "entropy": Metric(
        function=beyond.entropy, title="Entropy of exposure, bits", kind="exposure",
        undefined="nothing is recommended",
    ),
    "user_coverage": Metric(
        function=beyond.user_coverage, title="User coverage", kind="list", cut=False
    ),
    "arp": Metric(
        function=beyond.arp, title="ARP", kind="list", needs=("train",), better="neither",
        undefined="the user has no list",
    ),
    "popularity_lift": Metric(
        function=beyond.popularity_lift, title="Popularity lift", kind="list", needs=("train",),
        better="neither", undefined="the user has no list, or no training row",
    ),
    "aplt": Metric(
        function=beyond.aplt, title="APLT", kind="list", needs=("train",), parameter="head",
        undefined="the user has no list",
    ),
    "novelty": Metric(
        function=beyond.novelty, title="Novelty (MIUF)", kind="list", needs=("train",),
        undefined="the user has no list",
    ),
    "ild": Metric(
        function=beyond.intra_list_embeddings, title="Intra-list diversity, embeddings", kind="list",
        needs=("embedding",), undefined="fewer than two items of the list have an embedding",
    ),
    "ild_categories": Metric(
        function=beyond.intra_list_categories, title="Intra-list diversity, categories", kind="list",
        needs=("categories",), undefined="fewer than two items of the list have a category",
    ),
    "serendipity": Metric(
        function=beyond.serendipity_embeddings, title="Serendipity, embeddings", kind="list",
        needs=("train", "embedding"), undefined="no training row, or a hit, has an embedding",
    ),
    "serendipity_categories": Metric(
        function=beyond.serendipity_categories, title="Serendipity, categories", kind="list",
        needs=("train", "categories"), undefined="no training row, or a hit, has a category",
    ),
    "calibration": Metric(
        function=beyond.calibration, title="Miscalibration of categories", kind="list",
        needs=("train", "categories"), better="lower",
        undefined="no training row, or no item of the list, has a category",
    ),
}  # fmt: skip


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

    @property
    def options(self) -> dict[str, float]:
        """The parameter, by its name, where one was given."""
        return {} if self.parameter is None else {self.metric.parameter: self.parameter}


NAME = re.compile(r"(?P<name>[a-z][a-z_]*1?)(?P<parameter>\.\d+)?(@(?P<k>\d+))?")


def asked(metrics: str | Iterable[str], k: int | Iterable[int] | None = None) -> list[Ask]:
    """Returns the metrics asked for, each once, in order.

    Args:
        metrics: `"ndcg@10"`, or several; `"ndcg"` stands for one at each k.
        k: cut-offs for the names that have none; None: the whole list.

    Raises:
        EvaluationError: no such metric, or a cut-off where there is none to take.
    """
    cuts: list[int | None] = [None]
    if k is not None:
        cuts = [_whole(cut) for cut in (k if isinstance(k, Iterable) else [k])]
    texts = [metrics] if isinstance(metrics, str) else [str(text) for text in metrics]
    found = [ask for text in texts for ask in _read(text, cuts)]
    if not found:
        raise EvaluationError("no metric was asked for", hint=nearest("", METRICS))
    for ask in found:
        if ask.k is not None and not 1 <= ask.k <= MOST:
            raise EvaluationError(
                f"a cut-off must be at least 1 and at most {MOST:,}, not {ask.k}", where=ask.text
            )
    return list(dict.fromkeys(found))


def _whole(cut: Any) -> int:
    try:
        return operator.index(cut)
    except TypeError:
        raise EvaluationError(f"a cut-off must be a whole number, not {cut!r}") from None


def _read(text: str, cuts: list[int | None]) -> list[Ask]:
    match = NAME.fullmatch(text.strip().lower())
    name = match["name"] if match else re.split(r"[@.]", text)[0]
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
