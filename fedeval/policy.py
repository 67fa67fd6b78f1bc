"""Where libraries disagree, stated in one place: a `Policy`, and the policies of others (`PRESETS`).

Nineteen libraries compute "NDCG@10" in at least seven ways. Each way is a choice below; the first value
named is ours. `docs/metrics.md` says which library equals which metric under which choice.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args, get_type_hints

from fedprep.errors import EvaluationError, nearest

__all__ = ["PRESETS", "Policy", "Preset"]

TIES = {
    "item_id": "Equal scores stand in ascending order of item id",
    "text_descending": "Equal scores stand in descending order of item id, read as text",
    "average": "Equal scores stand in every order at once: values are the mean over these",
}
DUPLICATES = {
    "first": "an item that a list repeats counts once, where it stands first, and the list closes up",
    "last": "an item that a list repeats counts once, by its last row",
    "keep": "an item that a list repeats counts each time",
    "join": "an item that a list repeats counts each time, and as a further relevant item",
}
USERS = {
    "relevant": "Means are over the users with a relevant item; one of them without a list scores 0.",
    "relevant_with_list": "Means are over the users with a relevant item and a list.",
    "truth": "Means are over the users with any row of truth; one without a list, or without a "
    "relevant item, scores 0.",
    "truth_with_list": "Means are over the users with any row of truth and a list; one without a "
    "relevant item scores 0.",
    "list": "Means are over the users with a list, whether or not they have a row of truth.",
}
"""Choices of a `Policy` in words."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How lists, users and undefined cases are read.

    order: `auto`: a run of TREC by score, as trec_eval has it, any other table by its rank column where it
        has one, else by score; `rank` or `score`: by that column, which must be there. Where both columns
        are there and contradict each other, the places are counted and told.
    ties: equal scores (or ranks) stand in ascending order of item id (`item_id`), in descending order of
        the id as text as trec_eval has it (`text_descending`; so in runs of TREC under `auto`), or in
        every order at once: the expected value (`average`; McSherry & Najork, ECIR 2008).
    duplicates: an item that stands in a list twice counts where it stands `first` and the list closes
        up; `last`: the last row of the table is the one that counts, as where a score is written over;
        `keep`: each counts; `join`: each counts and adds a relevant item, as a join of tables does, and a
        row of truth that is repeated counts each time.
    relevant: a truth row counts if its relevance is above 0 (`positive`), or always (`row`).
    min_relevance: a truth row counts from this relevance on (its rating, where the truth has no column
        of relevance; gains are then 1), above 0; None: as `relevant` says.
    users: averaged over the users with a `relevant` item, those without a list scoring 0; with any
        `truth` row, those without a relevant item scoring 0; of either those alone who have a list
        (`relevant_with_list`, `truth_with_list`); with a `list`, whether or not they have a truth.
    unlisted: candidates that a list leaves out are `missing`, or `tied` behind its last place (needs
        the items and `ties="average"`), as a dense score matrix has them.
    discount: of rank r: `log2(r+1)`, or `log2(r)` with ranks 1 and 2 alike.
    ideal: an ideal list has `min(k, relevant)` relevant items, or `k`.
    map_over: average precision is divided by `min(k, relevant)`, `relevant`, `k`, or
        `min(list, relevant)`.
    precision_over: `k`, or the length of the `list` where it is shorter.
    rbp_gain: rank-biased precision sums hits (`binary`) or relevances (`graded`).
    no_common_user: an `error`, or 0 for each user (`zero`).
    """

    order: Literal["auto", "rank", "score"] = "auto"
    ties: Literal["item_id", "text_descending", "average"] = "item_id"
    duplicates: Literal["first", "last", "keep", "join"] = "first"
    relevant: Literal["positive", "row"] = "positive"
    min_relevance: float | None = None
    users: Literal["relevant", "relevant_with_list", "truth", "truth_with_list", "list"] = (
        "relevant"
    )
    unlisted: Literal["missing", "tied"] = "missing"
    discount: Literal["log2(r+1)", "log2(r)"] = "log2(r+1)"
    ideal: Literal["min(k, relevant)", "k"] = "min(k, relevant)"
    map_over: Literal["min(k, relevant)", "relevant", "k", "min(list, relevant)"] = (
        "min(k, relevant)"
    )
    precision_over: Literal["k", "list"] = "k"
    rbp_gain: Literal["binary", "graded"] = "binary"
    no_common_user: Literal["error", "zero"] = "error"

    def __post_init__(self) -> None:
        for name, allowed in _choices().items():
            value = getattr(self, name)
            if value not in allowed:
                raise EvaluationError(
                    f"no policy for {name} is called '{value}'", hint=nearest(str(value), allowed)
                )
        least = self.min_relevance
        if least is not None and not 0 < least < float("inf"):
            raise EvaluationError(f"min_relevance is {least}", expected="a number above 0")
        if self.unlisted == "tied" and self.ties != "average":
            raise EvaluationError("unlisted='tied' needs ties='average'")
        if self.ties == "average" and self.duplicates in ("keep", "join"):
            raise EvaluationError("ties='average' needs duplicates='first' or 'last'")

    def with_choices(self, order: str | None = None, min_relevance: float | None = None) -> Policy:
        """Returns the policy with these in place of its own, where they are said."""
        said = {"order": order, "min_relevance": min_relevance}
        return replace(self, **{name: value for name, value in said.items() if value is not None})  # type: ignore[arg-type]

    def changes(self) -> dict[str, Any]:
        """Returns the choices that are not the default, by name."""
        return {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if getattr(self, f.name) != f.default
        }

    def describe(self) -> str:
        """Returns the policy in plain sentences: ties, repeats, users, and what else is not the default."""
        told = ("ties", "duplicates", "users", "min_relevance")
        rest = [f"{k} is {v}" for k, v in self.changes().items() if k not in told]
        text = f"{TIES[self.ties]}; {DUPLICATES[self.duplicates]}. {USERS[self.users]}"
        if self.min_relevance is not None:
            text += f" Rows of truth are relevant from {self.min_relevance:g} on."
        return text + (f" Not as usual: {', '.join(rest)}." if rest else "")

    def to_dict(self) -> dict[str, Any]:
        """Returns every choice, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@functools.cache
def _choices() -> dict[str, tuple[Any, ...]]:
    hints = get_type_hints(Policy)
    del hints["min_relevance"]
    return {name: get_args(hint) for name, hint in hints.items()}


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Another library's way: its policy, and what it calls our metrics.

    version: the one that was run. policy: under which we equal it to 1e-9.
    names: the library's name of a metric, with its options, to ours (`recall` of LensKit is our
        `recall_capped`). Options that need a policy of their own are presets of their own.
    """

    version: str
    policy: Policy
    names: dict[str, str] = field(default_factory=dict)


_SAME = {name: name for name in ("ndcg", "hr", "recall", "precision", "mrr", "map")}

# A score written over (a dict, a matrix) keeps the last one of an item.
PRESETS: dict[str, Preset] = {
    "ranx": Preset(
        version="0.3.21",
        policy=Policy(
            order="score", duplicates="last", users="truth", map_over="relevant",
            rbp_gain="graded", no_common_user="zero",
        ),
        names={
            **_SAME, "ndcg": "ndcg_graded", "ndcg_exp": "ndcg_exp", "r_precision": "r_precision",
            "rbp.80": "rbp.80",
        },
    ),
    "trec_eval": Preset(
        version="pytrec_eval 0.5.11",
        policy=Policy(
            order="score", ties="text_descending", duplicates="last", users="truth_with_list",
            map_over="relevant", no_common_user="zero",
        ),
        names={
            "ndcg": "ndcg_graded", "hr": "hr", "recall": "recall", "precision": "precision",
            "map": "map", "mrr(no cut)": "mrr", "r_precision": "r_precision",
        },
    ),
    "recbole": Preset(
        version="1.2.1",
        policy=Policy(order="score", duplicates="last", no_common_user="zero"),
        names=_SAME,
    ),
    "rectools": Preset(
        version="0.19.0",
        policy=Policy(
            duplicates="join", relevant="row", users="truth", ideal="k", map_over="relevant",
            no_common_user="zero",
        ),
        names={
            **_SAME, "precision|r_precision": "recall_capped", "coverage_normalized": "coverage_all",
            "covered_users": "user_coverage",
        },
    ),
    "rectools, divide_by_achievable": Preset(
        version="0.19.0",
        policy=Policy(
            duplicates="join", relevant="row", users="truth", no_common_user="zero"
        ),
        names={"ndcg|divide_by_achievable": "ndcg"},
    ),
    "rectools, divide_by_k": Preset(
        version="0.19.0",
        policy=Policy(
            duplicates="join", relevant="row", users="truth", map_over="k", no_common_user="zero"
        ),
        names={"map|divide_by_k": "map"},
    ),
    "lenskit": Preset(
        version="2025.8.1",
        policy=Policy(
            duplicates="keep", relevant="row", users="list", discount="log2(r)",
            map_over="min(list, relevant)", precision_over="list", no_common_user="zero",
        ),
        names={
            **_SAME, "ndcg_graded": "ndcg_graded", "recall": "recall_capped", "rbp": "rbp.85",
        },
    ),
    "sklearn": Preset(
        version="1.9.1",
        policy=Policy(
            order="score", ties="average", duplicates="last", users="truth", unlisted="tied",
            no_common_user="zero",
        ),
        names={"ndcg_graded(dense)": "ndcg_graded"},
    ),
    "sklearn, ignore_ties": Preset(
        version="1.9.1",
        policy=Policy(order="score", duplicates="last", users="truth", no_common_user="zero"),
        names={"ndcg_graded(dense,ignore_ties)": "ndcg_graded"},
    ),
}  # fmt: skip
"""The ways of six libraries, under which our values are theirs (tests/test_golden_metrics.py)."""
