"""Where libraries disagree, stated in one place: a `Policy`, and the policies of others (`PRESETS`).

Nineteen libraries compute "NDCG@10" in at least seven ways. Each way is a choice below; the first value
named is ours. `docs/metrics.md` says which library equals which metric under which choice.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args, get_type_hints

from fedprep.errors import EvaluationError, nearest

__all__ = ["PRESETS", "Policy", "Preset"]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How lists, users and undefined cases are read.

    order: `rank`: by the rank column where there is one, else by score; `score`: by score even so.
    ties: equal scores (or ranks) stand in ascending order of item id (`item_id`), in descending order of
        the id as text as trec_eval has it (`text_descending`), or in every order at once: the
        expected value (`average`; McSherry & Najork, ECIR 2008).
    duplicates: an item that stands in a list twice counts where it stands `first` and the list closes
        up; `last`: the last row of the table is the one that counts, as where a score is written over;
        `keep`: each counts; `join`: each counts and adds a relevant item, as a join of tables does.
    relevant: a truth row counts if its relevance is above 0 (`positive`), or always (`row`).
    users: averaged over the users with a `relevant` item; with any `truth` row; with truth and a list
        (`both`); with a list (`lists`).
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

    order: Literal["rank", "score"] = "rank"
    ties: Literal["item_id", "text_descending", "average"] = "item_id"
    duplicates: Literal["first", "last", "keep", "join"] = "first"
    relevant: Literal["positive", "row"] = "positive"
    users: Literal["relevant", "truth", "both", "lists"] = "relevant"
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
        if self.unlisted == "tied" and self.ties != "average":
            raise EvaluationError("unlisted='tied' needs ties='average'")
        if self.ties == "average" and self.duplicates in ("keep", "join"):
            raise EvaluationError("ties='average' needs duplicates='first' or 'last'")

    def changes(self) -> dict[str, str]:
        """Returns the choices that are not the default, by name."""
        return {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if getattr(self, f.name) != f.default
        }

    def to_dict(self) -> dict[str, str]:
        """Returns every choice, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def _choices() -> dict[str, tuple[Any, ...]]:
    return {name: get_args(hint) for name, hint in get_type_hints(Policy).items()}


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Another library's way: its policy, and what it calls our metrics.

    names: the library's name of a metric, with its options, to ours (`"recall"` of LensKit is our
        `recall_capped`).
    """

    policy: Policy
    names: dict[str, str] = field(default_factory=dict)


PRESETS: dict[str, Preset] = {}
